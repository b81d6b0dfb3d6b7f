"""Named models with the settings that the command line trains them with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from deepgen_ppl.datasets import Dataset, binarize, fixed_permutation

__all__ = ["RECIPES", "Job", "Recipe", "prepare"]

RATE = 0.2
"""First learning rate of machines; it falls to zero."""


@dataclass(frozen=True)
class Job:
    """What a recipe is to be trained on.

    Args:
        train: (N, V), binary.
        epochs: passes over them.
        seed: seed of the first parameters.
    """

    train: np.ndarray
    epochs: int
    seed: int

    @property
    def small(self) -> bool:
        """Whether the data have less than 200 pixels."""
        return self.train.shape[1] < 200

    @property
    def batch_size(self) -> int:
        """Rows an update."""
        return 20 if self.small else 100

    def falling(self, rate: float) -> Callable[[Any], Any]:
        """Learning rate by the number of the update: linear from `rate` to zero."""
        updates = self.epochs * -(-len(self.train) // self.batch_size)
        return lambda i: rate * (1 - i / updates)


@dataclass(frozen=True)
class Recipe:
    """One named model.

    Args:
        about: a line for the help text.
        build: `(face, job)` -> (model, objective, optimizer).
    """

    about: str
    build: Callable[[ModuleType, Job], tuple[Any, Any, Any]]


def prepare(data: Dataset, max_test: int, max_valid: int = 250) -> tuple[dict[str, np.ndarray], str]:
    """Binary train, valid and test arrays, and a line that says how they were made.

    Test and validation data are cut after a fixed permutation: published files may be sorted by class.
    """
    parts = {"train": data.train, "valid": data.valid, "test": data.test}
    for name, most in (("valid", max_valid), ("test", max_test)):
        if len(parts[name]) > most:
            parts[name] = parts[name][fixed_permutation(len(parts[name]))[:most]]
    if all(np.isin(x, (0, 1)).all() for x in parts.values()):
        return parts, data.note
    return {k: binarize(x) for k, x in parts.items()}, f"{data.note}; binarized: 1 where the pixel is >= 0.5"


def _rbm(hidden: tuple[int, int]) -> Callable:
    def build(dg: ModuleType, job: Job) -> tuple[Any, Any, Any]:
        units = hidden[0 if job.small else 1]
        model = dg.RBM.init(rng=job.seed, visible=job.train.shape[1], hidden=units, data=job.train)
        return model, dg.StochasticML(dg.BlockGibbs(), num_chains=100), dg.sgd(job.falling(RATE))

    return build


def _dbm(dg: ModuleType, job: Job) -> tuple[Any, Any, Any]:
    hidden = (64, 12) if job.small else (500, 200)
    model = dg.DBM.init(rng=job.seed, visible=job.train.shape[1], hidden=hidden, data=job.train)
    objective = dg.StochasticML(dg.BlockGibbs(), num_chains=100, hidden_bound=dg.MeanField(10))
    return model, objective, dg.sgd(job.falling(RATE))


def _vae(particles: int) -> Callable:
    def build(dg: ModuleType, job: Job) -> tuple[Any, Any, Any]:
        sizes = {"latent": 8, "hidden": (100,)} if job.small else {"latent": 50, "hidden": (200, 200)}
        model = dg.VAE.init(rng=job.seed, likelihood=dg.Bernoulli(job.train.shape[1]), data=job.train, **sizes)
        objective = dg.ELBO(analytic_kl=True) if particles == 1 else dg.IWAE(num_particles=particles)
        return model, objective, dg.adam(2e-3 if job.small else 1e-3)

    return build


RECIPES: dict[str, Recipe] = {
    "rbm16": Recipe("restricted Boltzmann machine, 16 hidden units: log p(x) is exact", _rbm((16, 16))),
    "rbm": Recipe("restricted Boltzmann machine, 64 hidden units (500 on larger images)", _rbm((64, 500))),
    "dbm": Recipe("deep Boltzmann machine, 64-12 hidden units (500-200)", _dbm),
    "vae": Recipe("variational autoencoder, trained by the ELBO", _vae(1)),
    "iwae": Recipe("the same, trained by the importance-weighted bound with 5 particles", _vae(5)),
}
