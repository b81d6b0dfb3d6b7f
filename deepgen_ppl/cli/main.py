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
from deepgen_ppl.diagnostics.arviz import to_arviz
from deepgen_ppl.diagnostics.plots import plot_bounds, plot_curves, plot_images
from deepgen_ppl.energies.machine import BoltzmannMachine
from deepgen_ppl.log_p.bounds import BoundsOptions
from deepgen_ppl.log_p.compare import Comparison
from deepgen_ppl.log_z.exact import enumerable

try:
    import typer
    from rich.console import Console
    from rich.table import Table
except ImportError:
    sys.exit("deepgen-ppl: expected typer and rich for the command line: pip install 'deepgen-ppl[cli]'")

__all__ = ["app", "main"]

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Deep generative models as probabilistic programs.")
console = Console(width=None if sys.stdout.isatty() else 140)

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
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training data.")] = 30,
    out: Annotated[Path, typer.Option(help="Folder for the results; made if needed.")] = Path("deepgen_results"),
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    max_test: Annotated[int, typer.Option(min=2, help="Number of test data, drawn by a fixed permutation.")] = 1000,
    resume: Annotated[bool, typer.Option(help="Go on from the checkpoints in the folder.")] = False,
) -> None:
    """Train models on images and compare them by bounds on log p(x).

    Writes table.csv, NAME.safetensors, comparison.nc (ArviZ) and samples.png, curves.png, bounds.png.
    """
    try:
        _compare(data, models, engine, epochs, out, seed, max_test, resume=resume)
    except (TypeError, ValueError, ImportError, OSError, RuntimeError) as error:
        typer.echo(f"deepgen-ppl: {error}", err=True)
        raise typer.Exit(2) from None


def _say(text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _compare(
    data: str, models: str, engine: str, epochs: int, out: Path, seed: int, max_test: int, *, resume: bool
) -> None:
    names = _names(models)
    dg, loaded = face(engine), datasets.load(data)
    parts, note = prepare(loaded, max_test)
    out.mkdir(parents=True, exist_ok=True)
    test = parts["test"]
    _say(f"{loaded.name}: {len(parts['train'])} training, {len(test)} test data (fixed at random); {note}")
    fits = {name: _train(dg, name, parts, epochs, seed, out, resume=resume) for name in names}
    trained = {name: fit.model for name, fit in fits.items()}
    began = time.perf_counter()
    comparison = dg.compare(trained, test, rng=seed, options=_options(loaded.shape))
    _print(comparison)
    _check_sandwich(dg, trained, test, seed)
    _say(f"evaluation took {time.perf_counter() - began:.0f} s")
    _write(dg, fits, comparison, parts, loaded.shape, out, seed)


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


def _train(
    dg: ModuleType, name: str, parts: dict[str, np.ndarray], epochs: int, seed: int, out: Path, *, resume: bool
) -> Any:
    job = Job(parts["train"], epochs, seed)
    model, objective, optimizer = RECIPES[name].build(dg, job)
    quick = BoundsOptions(num_particles=50, betas=200 if job.small else 2000, num_runs=50, exact_bits=16)
    watch = dg.Validation(
        parts["valid"],
        metric=lambda m, x: dg.bounds(m, x, rng=0, options=quick).estimate.value,
        every=max(1, epochs // 10),
    )
    began = time.perf_counter()
    fit = dg.fit(
        model,
        job.train,
        objective=objective,
        optimizer=optimizer,
        epochs=epochs,
        batch_size=job.batch_size,
        rng=seed,
        validation=watch,
        checkpoint=out / f"{name}.checkpoint",
        resume=resume,
    )
    seconds = time.perf_counter() - began
    _say(f"  {name}: {fit.model!r}, {epochs} epochs in {seconds:.0f} s")
    return fit


def _print(comparison: Comparison) -> None:
    table = Table(title=f"log p(x), nats per datum over {comparison.num_data} test data ({comparison.measure})")
    for column in ("model", "lower", "kind", "upper", "kind", "estimate", "kind", "se data", "se log Z", "better than"):
        number = column in ("lower", "upper", "estimate", "se data", "se log Z")
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in comparison.cells():
        table.add_row(*row[:-1])
    console.print(table)
    for remark in comparison.remarks():
        _say(remark)
    _say(
        "kind: exact, bound (a side in expectation), estimate (no side). A model is better than another where its "
        "lower side lies above the other's upper side, over the same rows and beyond all errors."
    )


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


def _draw(dg: ModuleType, fit: Any, seed: int, num: int) -> np.ndarray:
    """Means of the pixels given drawn hidden values."""
    model = fit.model
    to_numpy, random = model.engine.arrays.to_numpy, model.engine.random
    if isinstance(model, BoltzmannMachine):
        kernel = dg.BlockGibbs(sweeps=1000)
        step = model.engine.control.compile(lambda m, key, state: kernel.step(key, m, state)[0])
        state = step(model, random.rng(seed, model.like), fit.state.objective.chains)
        return to_numpy(model.mean("v", state.position))[:num]
    z = random.normal(random.rng(seed, model.like), (num, model.latent), model.like)
    return to_numpy(model.decode(z).mean)


def _write(
    dg: ModuleType,
    fits: dict[str, Any],
    comparison: Comparison,
    parts: dict[str, np.ndarray],
    shape: tuple[int, ...],
    out: Path,
    seed: int,
) -> None:
    comparison.to_csv(out / "table.csv")
    for name, fit in fits.items():
        dg.save(fit.model, out / f"{name}.safetensors")
    to_arviz(comparison).to_netcdf(str(out / "comparison.nc"))
    curves = {name: (fit.history["validation_epoch"], fit.history["validation"]) for name, fit in fits.items()}
    figures = {
        "bounds": plot_bounds(comparison),
        "curves": plot_curves(curves, label="validation log p(x), best guess (nats)"),
    }
    if len(shape) == 2:
        images = {"data": parts["test"][:16]} | {n: _draw(dg, fit, seed, 16) for n, fit in fits.items()}
        figures["samples"] = plot_images(images, (shape[0], shape[1]))
    for name, figure in figures.items():
        figure.savefig(out / f"{name}.png", dpi=130)
    _say(f"written to {out}: {', '.join(sorted(p.name for p in out.iterdir()))}")


def main() -> None:
    """Entry point of `deepgen-ppl`."""
    app()
