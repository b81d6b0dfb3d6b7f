"""Binary units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepgen_ppl.engine import Engine
from deepgen_ppl.typing import Array, Distribution, Params, Rng
from deepgen_ppl.units.base import Unit, shown

__all__ = ["Bernoulli", "unit_of", "unit_or"]


@dataclass(frozen=True)
class Bernoulli(Unit):
    """Binary units x in {0, 1}: s(x) = x, m = 1, A(eta) = log(1 + e^eta), E[x] = sigmoid(eta).

    Args:
        size: number of units n.

    Raises:
        ValueError: for a size that is no positive integer.

    Example:
        >>> import deepgen_ppl.numpyro as dg
        >>> dg.RBM.init(visible=dg.Bernoulli(4), hidden=2, rng=0)
        RBM(v: Bernoulli(4), h: Bernoulli(2); v-h, centered; float32)
    """

    @property
    def states(self) -> np.ndarray:
        """0 and 1."""
        return np.array([0.0, 1.0])

    def log_partition(self, engine: Engine, eta: Array, params: Params) -> Array:
        """log(1 + e^eta)."""
        return engine.special.softplus(eta)

    def mean(self, engine: Engine, eta: Array, params: Params) -> Array:
        """sigmoid(eta)."""
        return engine.special.sigmoid(eta)

    def draw(self, engine: Engine, rng: Rng, eta: Array, params: Params) -> Array:
        """1 with probability sigmoid(eta)."""
        return engine.random.bernoulli(rng, eta)

    def distribution(self, engine: Engine, eta: Array, params: Params) -> Distribution:
        """The host's Bernoulli with logits eta."""
        return engine.host.dist.Bernoulli(logits=eta).to_event(1)

    def support(self, engine: Engine) -> Any:
        """Booleans."""
        return engine.host.constraints.independent(engine.host.constraints.boolean, 1)

    def problem(self, x: np.ndarray) -> str | None:
        """Values other than 0 and 1."""
        if np.isin(x, (0, 1)).all():
            return None
        return f"only 0 and 1 for Bernoulli units, got {shown(x)}; deepgen_ppl.datasets.binarize makes them binary"

    def eta_from_mean(self, mean: np.ndarray, params: Mapping[str, np.ndarray]) -> np.ndarray:
        """logit(mean), means kept inside [0.01, 0.99]."""
        mean = np.clip(mean, 0.01, 0.99)
        return np.log(mean) - np.log1p(-mean)


def unit_or(unit: Unit | None, size: int) -> Unit:
    """The unit given, or this number of Bernoulli units where there is none."""
    return Bernoulli(size) if unit is None else unit


def unit_of(layer: int | Unit) -> Unit:
    """A unit as it is, or this number of Bernoulli units."""
    return layer if isinstance(layer, Unit) else Bernoulli(layer)
