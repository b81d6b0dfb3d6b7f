"""Named models with the settings that the command line trains them with."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from deepgen_ppl.datasets import Dataset, binarize, fixed_permutation

__all__ = ["RECIPES", "Recipe", "face", "prepare"]


@dataclass(frozen=True)
class Recipe:
    """One named model.

    Args:
        about: a line for the help text.
        build: `(face, train, seed, small)` -> (model, objective, optimizer); `small` for data below 200 pixels.
    """

    about: str
    build: Callable[[ModuleType, np.ndarray, int, bool], tuple[Any, Any, Any]]


def face(engine: str) -> ModuleType:
    """The face of an engine, imported on demand.

    Raises:
        ValueError: for an unknown engine.
        ImportError: if it is not installed.
    """
    if engine not in ("numpyro", "pyro"):
        raise ValueError(f"expected the engine numpyro or pyro, got {engine!r}")
    try:
        return importlib.import_module(f"deepgen_ppl.{engine}")
    except ImportError as error:
        raise ImportError(f"expected the {engine} engine: pip install 'deepgen-ppl[{engine}]' ({error})") from error


def prepare(data: Dataset, max_test: int, max_valid: int = 250) -> tuple[dict[str, np.ndarray], str]:
    """Binary train, valid and test arrays, and a line that says how they were made.

    Test and validation data are cut after a fixed permutation: published files may be sorted by class.
    """
    parts = {"train": data.train, "valid": data.valid, "test": data.test}
    for name, most in (("valid", max_valid), ("test", max_test)):
        rows = fixed_permutation(len(parts[name]))[:most]
        parts[name] = parts[name][np.sort(rows)] if len(rows) < len(parts[name]) else parts[name]
    if all(np.isin(x, (0, 1)).all() for x in parts.values()):
        return parts, data.note
    return {k: binarize(x) for k, x in parts.items()}, f"{data.note}; binarised: 1 where the pixel is >= 0.5"


def _rbm(hidden: tuple[int, int]) -> Callable:
    def build(dg: ModuleType, train: np.ndarray, seed: int, small: bool) -> tuple[Any, Any, Any]:  # noqa: FBT001
        model = dg.RBM.init(rng=seed, visible=train.shape[1], hidden=hidden[0 if small else 1], data=train)
        return model, dg.StochasticML(dg.BlockGibbs(), num_chains=100), dg.sgd(0.1 if small else 0.05)

    return build


def _dbm(dg: ModuleType, train: np.ndarray, seed: int, small: bool) -> tuple[Any, Any, Any]:  # noqa: FBT001
    hidden = (64, 12) if small else (500, 200)
    model = dg.DBM.init(rng=seed, visible=train.shape[1], hidden=hidden, data=train)
    return (
        model,
        dg.StochasticML(dg.BlockGibbs(), num_chains=100, hidden=dg.MeanField(10)),
        dg.sgd(0.1 if small else 0.05),
    )


def _vae(particles: int) -> Callable:
    def build(dg: ModuleType, train: np.ndarray, seed: int, small: bool) -> tuple[Any, Any, Any]:  # noqa: FBT001
        sizes = {"latent": 8, "hidden": (100,)} if small else {"latent": 50, "hidden": (200, 200)}
        model = dg.VAE.init(rng=seed, likelihood=dg.Bernoulli(train.shape[1]), data=train, **sizes)
        objective = dg.ELBO(analytic_kl=True) if particles == 1 else dg.IWAE(num_particles=particles)
        return model, objective, dg.adam(2e-3 if small else 1e-3)

    return build


RECIPES: dict[str, Recipe] = {
    "rbm16": Recipe("restricted Boltzmann machine, 16 hidden units: log p(x) is exact", _rbm((16, 16))),
    "rbm": Recipe("restricted Boltzmann machine, 64 hidden units (500 on larger images)", _rbm((64, 500))),
    "dbm": Recipe("deep Boltzmann machine, 64-12 hidden units (500-200)", _dbm),
    "vae": Recipe("variational autoencoder, trained by the ELBO", _vae(1)),
    "iwae": Recipe("the same, trained by the importance-weighted bound with 5 particles", _vae(5)),
}
