"""Spins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepgen_ppl.engine import Engine
from deepgen_ppl.typing import Array, Distribution, Params, Rng
from deepgen_ppl.units.base import Unit, shown

__all__ = ["Spin"]


@dataclass(frozen=True)
class Spin(Unit):
    """Spins x in {-1, +1}: s(x) = x, m = 1, A(eta) = log(2 cosh eta), E[x] = tanh(eta).

    Args:
        size: number of units n.

    Raises:
        ValueError: for a size that is no positive integer.

    Example:
        >>> import deepgen_ppl.numpyro as dg
        >>> dg.RBM.init(visible=dg.Spin(4), hidden=2, rng=0)
        RBM(v: Spin(4), h: Bernoulli(2); v-h, centered; float32)
    """

    @property
    def states(self) -> np.ndarray:
        """-1 and +1."""
        return np.array([-1.0, 1.0])

    def log_partition(self, engine: Engine, eta: Array, params: Params) -> Array:
        """log(e^eta + e^-eta) = softplus(2 eta) - eta."""
        return engine.special.softplus(2.0 * eta) - eta

    def mean(self, engine: Engine, eta: Array, params: Params) -> Array:
        """tanh(eta)."""
        return engine.xp.tanh(eta)

    def draw(self, engine: Engine, rng: Rng, eta: Array, params: Params) -> Array:
        """+1 with probability sigmoid(2 eta)."""
        return 2.0 * engine.random.bernoulli(rng, 2.0 * eta) - 1.0

    def distribution(self, engine: Engine, eta: Array, params: Params) -> Distribution:
        """Our own host distribution (an affine transform of a Bernoulli would keep a Jacobian)."""
        return engine.host.spin(2.0 * eta).to_event(1)

    def support(self, engine: Engine) -> Any:
        """-1 and +1."""
        return engine.host.constraints.independent(engine.host.spin.unit_support, 1)

    def problem(self, x: np.ndarray) -> str | None:
        """Values other than -1 and +1."""
        return None if np.isin(x, (-1, 1)).all() else f"only -1 and +1 for Spin units, got {shown(x)}"

    def eta_from_mean(self, mean: np.ndarray, params: Mapping[str, np.ndarray]) -> np.ndarray:
        """artanh(mean), means kept inside [-0.98, 0.98]."""
        return np.arctanh(np.clip(mean, -0.98, 0.98))
