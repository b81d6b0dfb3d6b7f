"""Counts of successes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepgen_ppl.engine import Engine
from deepgen_ppl.options import check_options, integer
from deepgen_ppl.typing import Array, Distribution, Params, Rng
from deepgen_ppl.units.base import Unit, shown

__all__ = ["Binomial"]


@dataclass(frozen=True)
class Binomial(Unit):
    """Successes x in {0..m} of m trials: s(x) = x, m(x) = m choose x, A(eta) = m log(1 + e^eta), E[x] = m sigmoid(eta).

    A layer of them is one of m copies of Bernoulli units with tied weights: rate-coded units.

    Args:
        size: number of units n.
        trials: number of trials m of each.

    Raises:
        ValueError: for a size or a number of trials that is no positive integer.

    Example:
        >>> import numpy as np
        >>> import deepgen_ppl.numpyro as dg
        >>> unit = dg.Binomial(2, trials=10)
        >>> unit.mean(dg.engine, np.float32([0, 0]), {}).tolist()  # m sigmoid(eta)
        [5.0, 5.0]

    Reference: Rate-coded Restricted Boltzmann Machines for Face Recognition (Teh & Hinton, 2000), section 3.
    """

    trials: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self, trials=integer(self.trials, "trials"))

    @property
    def states(self) -> np.ndarray:
        """0..m."""
        return np.arange(self.trials + 1, dtype=float)

    def log_base(self, engine: Engine, x: Array, params: Params) -> Array:
        """sum log(m choose x)."""
        lgamma, m = engine.special.lgamma, self.trials
        return engine.xp.sum(math.lgamma(m + 1.0) - lgamma(x + 1.0) - lgamma(m - x + 1.0), axis=-1)

    def log_partition(self, engine: Engine, eta: Array, params: Params) -> Array:
        """m log(1 + e^eta)."""
        return self.trials * engine.special.softplus(eta)

    def mean(self, engine: Engine, eta: Array, params: Params) -> Array:
        """m sigmoid(eta)."""
        return self.trials * engine.special.sigmoid(eta)

    def draw(self, engine: Engine, rng: Rng, eta: Array, params: Params) -> Array:
        """How many of m Bernoulli draws are 1."""
        logits = engine.xp.broadcast_to(eta[..., None], (*eta.shape, self.trials))
        return engine.xp.sum(engine.random.bernoulli(rng, logits), axis=-1)

    def distribution(self, engine: Engine, eta: Array, params: Params) -> Distribution:
        """The host's Binomial with logits eta."""
        return engine.host.dist.Binomial(self.trials, logits=eta).to_event(1)

    def support(self, engine: Engine) -> Any:
        """Integers 0..m."""
        c = engine.host.constraints
        return c.independent(c.integer_interval(0, self.trials), 1)

    def problem(self, x: np.ndarray) -> str | None:
        """Values that are no number of successes."""
        if ((x == np.round(x)) & (x >= 0) & (x <= self.trials)).all():
            return None
        return f"integers from 0 to {self.trials} for Binomial units, got {shown(x)}"

    def eta_from_mean(self, mean: np.ndarray, params: Mapping[str, np.ndarray]) -> np.ndarray:
        """logit(mean / m), rates kept inside [0.01, 0.99]."""
        rate = np.clip(mean / self.trials, 0.01, 0.99)
        return np.log(rate) - np.log1p(-rate)
