"""What a run of the command line leaves in its folder: each file says what run it is of, and is whole or not there."""

from __future__ import annotations

import csv
import datetime
import functools
import importlib.metadata
import json
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from deepgen_ppl import __version__
from deepgen_ppl.array_files import digest
from deepgen_ppl.diagnostics.arviz import to_arviz
from deepgen_ppl.diagnostics.plots import plot_bounds, plot_curves, plot_images
from deepgen_ppl.energies.machine import BoltzmannMachine
from deepgen_ppl.log_p.bounds import BoundsOptions
from deepgen_ppl.log_p.compare import Comparison

__all__ = ["Asked", "write"]

PACKAGES = {"numpyro": ("numpy", "jax", "numpyro", "flax", "optax"), "pyro": ("numpy", "torch", "pyro-ppl")}


@dataclass(frozen=True)
class Asked:
    """What `compare` was asked for; the fields are its options."""

    data: str
    models: str
    engine: str
    epochs: int
    out: Path
    seed: int
    max_test: int
    resume: bool

    @property
    def command(self) -> str:
        """The command that asks for the same, defaults written out."""
        options = {k.replace("_", "-"): str(v) for k, v in vars(self).items() if k != "resume"}
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        return shlex.join(["deepgen-ppl", "compare", *words, *(["--resume"] if self.resume else [])])

    def about(self) -> dict[str, str | int]:
        """What every file of numbers says of the run."""
        return {
            "data": self.data,
            "engine": self.engine,
            "epochs": self.epochs,
            "seed": self.seed,
            "version": __version__,
            "command": self.command,
        }


def write(
    dg: ModuleType,
    asked: Asked,
    fits: dict[str, Any],
    comparison: Comparison,
    options: BoundsOptions,
    parts: dict[str, np.ndarray],
    shape: tuple[int, ...],
) -> list[str]:
    """Write everything; returns the names of the files in the folder."""
    about, out = asked.about(), asked.out
    for name, fit in fits.items():
        dg.save(fit.model, out / f"{name}.safetensors")
    curves = {name: (fit.history["validation_epoch"], fit.history["validation"]) for name, fit in fits.items()}
    figures = {
        "bounds": plot_bounds(comparison),
        "curves": plot_curves(curves, label="validation log p(x), best guess (nats)"),
    }
    if len(shape) == 2:
        images = {"data": parts["test"][:16]} | {n: _draw(dg, fit, asked.seed, 16) for n, fit in fits.items()}
        figures["samples"] = plot_images(images, (shape[0], shape[1]))
    _whole(out / "table.csv", lambda path: comparison.to_csv(path, about=about))
    _whole(out / "comparison.nc", lambda path: to_arviz(comparison, attrs=about).to_netcdf(str(path)))
    _whole(out / "curves.csv", lambda path: _write_curves(path, fits, about))
    for name, figure in figures.items():
        _whole(out / f"{name}.png", functools.partial(figure.savefig, dpi=130))
    record = _record(asked, fits, comparison, options, parts)
    _whole(out / "run.json", lambda path: path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8"))
    return sorted(path.name for path in out.iterdir())


def _whole(path: Path, make: Callable[[Path], Any]) -> None:
    """Make a file beside and rename it: readers see the old one or the new one."""
    beside = path.with_name(f".part.{path.name}")
    try:
        make(beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _record(
    asked: Asked, fits: dict[str, Any], comparison: Comparison, options: BoundsOptions, parts: dict[str, np.ndarray]
) -> dict[str, Any]:
    """`run.json`: what was asked for, of which data, by which code, and when."""
    return {
        **asked.about(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES[asked.engine]},
        "options": {k: v if isinstance(v, bool | int | str) else str(v) for k, v in vars(asked).items()},
        "bounds": {k: v if isinstance(v, int | float | str) else repr(v) for k, v in vars(options).items()},
        "rows": {name: {"shape": list(x.shape), "digest": digest({"": x})} for name, x in parts.items()},
        "models": {
            name: {
                "model": repr(fit.model),
                "epochs": len(fit.history["epoch"]),
                "stopped": fit.stopped,
                "seconds": round(sum(fit.history["seconds"]), 3),
                "seconds_of_bounds": round(comparison.bounds[name].seconds, 3),
            }
            for name, fit in fits.items()
        },
    }


def _write_curves(path: Path, fits: dict[str, Any], about: dict[str, str | int]) -> None:
    """One number a line: model, epoch, what it is (`loss` or its like, `validation`), value."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ("model", "epoch", "quantity", "value", *about))
        writer.writeheader()
        for name, fit in fits.items():
            for epoch, quantity, value in _curves(fit.history):
                writer.writerow({"model": name, "epoch": epoch, "quantity": quantity, "value": value, **about})


def _curves(history: dict[str, list[float]]) -> Iterator[tuple[int, str, float]]:
    for quantity, values in history.items():
        if quantity not in ("epoch", "validation_epoch"):
            epochs = history["validation_epoch" if quantity == "validation" else "epoch"]
            yield from ((int(epoch), quantity, value) for epoch, value in zip(epochs, values, strict=True))


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
