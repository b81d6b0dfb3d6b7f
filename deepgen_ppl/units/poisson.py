"""Counts without an upper limit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepgen_ppl.engine import Engine
from deepgen_ppl.typing import Array, Distribution, Params, Rng
from deepgen_ppl.units.base import Unit, shown

__all__ = ["Poisson"]


@dataclass(frozen=True)
class Poisson(Unit):
    """Counts x in {0, 1, ..}: s(x) = x, log m(x) = -log x!, A(eta) = e^eta, E[x] = e^eta.

    Counts have no joint law where the coupling of two is positive, or where one is coupled to a real unit.

    Args:
        size: number of units n.

    Raises:
        ValueError: for a size that is no positive integer.

    Example:
        >>> import numpy as np
        >>> import deepgen_ppl.numpyro as dg
        >>> unit = dg.Poisson(2)
        >>> unit.mean(dg.engine, np.float32([0, 0]), {}).tolist()  # e^eta
        [1.0, 1.0]
    """

    @property
    def measure(self) -> str:
        """Counting measure on {0, 1, ..}^n."""
        return f"N^{self.size}"

    @property
    def integer(self) -> bool:
        """Integers."""
        return True

    @property
    def range(self) -> tuple[float, float]:
        """From 0."""
        return 0.0, np.inf

    def log_base(self, engine: Engine, x: Array, params: Params) -> Array:
        """-sum log x!."""
        return -engine.xp.sum(engine.special.lgamma(x + 1.0), axis=-1)

    def log_partition(self, engine: Engine, eta: Array, params: Params) -> Array:
        """e^eta."""
        return engine.xp.exp(eta)

    def mean(self, engine: Engine, eta: Array, params: Params) -> Array:
        """e^eta."""
        return engine.xp.exp(eta)

    def draw(self, engine: Engine, rng: Rng, eta: Array, params: Params) -> Array:
        """Counts with rate e^eta."""
        return engine.random.poisson(rng, engine.xp.exp(eta))

    def distribution(self, engine: Engine, eta: Array, params: Params) -> Distribution:
        """The host's Poisson with rate e^eta."""
        return engine.host.dist.Poisson(engine.xp.exp(eta)).to_event(1)

    def support(self, engine: Engine) -> Any:
        """Integers from 0."""
        return engine.host.constraints.independent(engine.host.constraints.nonnegative_integer, 1)

    def problem(self, x: np.ndarray) -> str | None:
        """Values that are no count."""
        return None if ((x >= 0) & (x == np.round(x))).all() else f"counts 0, 1, .. for Poisson units, got {shown(x)}"

    def eta_from_mean(self, mean: np.ndarray, params: Mapping[str, np.ndarray]) -> np.ndarray:
        """log(mean), means kept above 0.01."""
        return np.log(np.maximum(mean, 0.01))
