"""The command line: `deepgen-ppl compare` trains named models on images and compares them.

deepgen-ppl compare --data digits --models rbm16,rbm,dbm,vae,iwae --engine numpyro --epochs 30 --out demo --seed 0
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import numpy as np

from deepgen_ppl import __version__, datasets, face
from deepgen_ppl.cli.recipes import RECIPES, Job, prepare
from deepgen_ppl.cli.report import Asked, write
from deepgen_ppl.energies.machine import BoltzmannMachine
from deepgen_ppl.log_p.bounds import BoundsOptions
from deepgen_ppl.log_p.cells import folded, words
from deepgen_ppl.log_p.compare import Comparison
from deepgen_ppl.log_p.table import LEAST, WIDTH, Table
from deepgen_ppl.log_z.exact import enumerable

try:
    import typer
    from rich.console import Console
    from rich.table import Table as Frame
    from rich.text import Text
except ImportError:
    sys.exit("deepgen-ppl: expected typer and rich for the command line: pip install 'deepgen-ppl[cli]'")

__all__ = ["app", "main"]

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Deep generative models as probabilistic programs.")
console = Console(width=None if sys.stdout.isatty() else WIDTH)

ROUNDING = 1e-3
"""What float32 may add to log-weights summed over thousands of temperatures, in nats."""

MODELS_HELP = "Models, separated by commas: " + "; ".join(f"{k} ({r.about})" for k, r in RECIPES.items())


@app.callback()
def _app() -> None:
    """Deep generative models as probabilistic programs."""


@app.command()
def version() -> None:
    """Print the version."""
    console.print(__version__)


@app.command()
def compare(
    data: Annotated[str, typer.Option(help="digits, mnist, binarized_mnist, FILE.npy or FILE.npz.")] = "digits",
    models: Annotated[str, typer.Option(help=MODELS_HELP)] = "rbm16,rbm,dbm,vae,iwae",
    engine: Annotated[str, typer.Option(help="numpyro or pyro.")] = "numpyro",
    epochs: Annotated[int, typer.Option(min=1, max=1_000_000, help="Passes over the training data.")] = 30,
    out: Annotated[str, typer.Option(help="Folder for the results; made if needed.")] = "deepgen_results",
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    max_test: Annotated[int, typer.Option(min=2, help="Number of test data, drawn by a fixed permutation.")] = 1000,
    resume: Annotated[bool, typer.Option(help="Go on from the checkpoints in the folder.")] = False,
) -> None:
    """Train models on images and compare them by bounds on log p(x).

    Writes table.csv, curves.csv, NAME.safetensors, comparison.nc (ArviZ), samples.png, curves.png, bounds.png, and
    run.json, which says what was run.
    """
    try:
        if not out:
            raise ValueError("expected the path of a folder for --out, got ''")
        _compare(Asked(data, models, engine, epochs, Path(out), seed, max_test, resume))
    except (TypeError, ValueError, ImportError, OSError, RuntimeError) as error:
        typer.echo(f"deepgen-ppl: {error}", err=True)
        raise typer.Exit(2) from None


def _say(text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _compare(asked: Asked) -> None:
    names = _names(asked.models)
    dg, loaded = face(asked.engine), datasets.load(asked.data)
    dg.engine.random.rng(asked.seed)  # a seed that is none is told before work starts
    parts, note = prepare(loaded, asked.max_test)
    asked.out.mkdir(parents=True, exist_ok=True)
    test = parts["test"]
    _say(f"{loaded.name}: {len(parts['train'])} training, {len(test)} test data (fixed at random); {note}")
    fits = {name: _train(dg, name, parts, asked) for name in names}
    trained = {name: fit.model for name, fit in fits.items()}
    began, options = time.perf_counter(), _options(loaded.shape)
    comparison = dg.compare(trained, test, rng=asked.seed, options=options)
    _print(comparison)
    _check_sandwich(dg, trained, test, asked.seed)
    _say(f"evaluation took {time.perf_counter() - began:.0f} s")
    files = write(dg, asked, fits, comparison, options, parts, loaded.shape)
    _say(f"written to {asked.out}: {', '.join(files)}")


def _names(models: str) -> list[str]:
    names = [name.strip() for name in models.split(",") if name.strip()]
    unknown = [name for name in names if name not in RECIPES]
    if unknown or not names:
        raise ValueError(f"expected models among {', '.join(RECIPES)}, got {', '.join(unknown) or repr(models)}")
    if len(set(names)) < len(names):
        raise ValueError(f"expected each model once, got {models}")
    return names


def _options(shape: tuple[int, ...]) -> BoundsOptions:
    large = int(np.prod(shape)) >= 200
    return BoundsOptions(num_particles=500 if large else 1000, betas=5000, num_runs=200)


def _train(dg: ModuleType, name: str, parts: dict[str, np.ndarray], asked: Asked) -> Any:
    job = Job(parts["train"], asked.epochs, asked.seed)
    model, objective, optimizer = RECIPES[name].build(dg, job)
    quick = BoundsOptions(num_particles=50, betas=200 if job.small else 2000, num_runs=100, exact_bits=16)
    watch = dg.Validation(
        parts["valid"],
        metric=lambda m, x: dg.bounds(m, x, rng=0, options=quick).estimate.value,
        every=max(1, asked.epochs // 10),
    )
    began = time.perf_counter()
    fit = dg.fit(
        model,
        job.train,
        objective=objective,
        optimizer=optimizer,
        epochs=asked.epochs,
        batch_size=job.batch_size,
        rng=asked.seed,
        validation=watch,
        checkpoint=asked.out / f"{name}.checkpoint",
        resume=asked.resume,
    )
    seconds = time.perf_counter() - began
    _say(f"  {name}: {fit.model!r}, {asked.epochs} epochs in {seconds:.0f} s")
    dg.engine.control.forget()  # no other model takes these shapes
    return fit


def _print(comparison: Comparison) -> None:
    """The table and the paired differences; what does not fit stands in table.csv."""
    _print_table(comparison.table())
    if len(comparison.bounds) > 1:
        _print_table(comparison.differences().table())
    _say(
        "A model is better than another where its lower side lies above the other's upper side, over the same rows and "
        "beyond all errors."
    )


def _print_table(table: Table) -> None:
    """A framed table as wide as the terminal at most, with the remarks below."""
    if console.options.ascii_only:
        table = table.ascii()
    fitted = table.fitted(max(console.width, LEAST), gap=3, edge=4)
    framed = Frame(title=Text(table.title))
    for column, width in fitted:
        head = Text("\n".join(folded(column.head, width)))
        framed.add_column(head, justify="right" if column.number else "left", no_wrap=True, min_width=width)
    for row in zip(*([folded(cell, width) for cell in column.cells] for column, width in fitted), strict=True):
        framed.add_row(*(Text("\n".join(lines)) for lines in row))
    console.print(framed)
    for note in (*table.notes, *table.left_out(fitted)):
        console.print(Text(" ".join(words(note))))


def _check_sandwich(dg: ModuleType, models: dict[str, Any], test: np.ndarray, seed: int) -> None:
    """Where a machine is small enough for an exact value, hold the interval of AIS both ways against it."""
    for name, model in models.items():
        if not isinstance(model, BoltzmannMachine) or not enumerable(model, 16.0):
            continue
        exact = dg.bounds(model, test, rng=seed).lower.value
        options = BoundsOptions(betas=2000, num_runs=200, log_z="ais")
        low, high = dg.bounds(model, test, rng=seed + 1, options=options).interval()
        inside = "contains" if low - ROUNDING <= exact <= high + ROUNDING else "MISSES"
        _say(
            f"check: AIS both ways puts {name} in [{low:.4f}, {high:.4f}], {high - low:.4f} nats wide; "
            f"this {inside} the exact {exact:.4f} (float32 rounding: {ROUNDING:g})"
        )


def main() -> None:
    """Entry point of `deepgen-ppl`."""
    app()
