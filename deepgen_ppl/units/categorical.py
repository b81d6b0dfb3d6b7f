"""Units with finitely many states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepgen_ppl.engine import Engine
from deepgen_ppl.options import check_options, integer
from deepgen_ppl.typing import Array, Distribution, Params, Rng
from deepgen_ppl.units.base import Unit, shown

__all__ = ["Categorical"]


@dataclass(frozen=True)
class Categorical(Unit):
    """Units with k states x in {0..k-1}: s(x) = one-hot(x), m = 1, A(eta) = log sum_j e^eta_j, E[s] = softmax(eta).

    Statistic and natural parameters of a layer are flat: component i k + j belongs to state j of unit i.

    Args:
        size: number of units n.
        num_states: number of states k of each.

    Raises:
        ValueError: for a size or a number of states that is no integer, or fewer than two states.

    Example:
        >>> import numpy as np
        >>> import deepgen_ppl.numpyro as dg
        >>> unit = dg.Categorical(2, num_states=3)
        >>> unit.width, unit.statistic(dg.engine, np.float32([2, 0]), np.float32([0]), {}).tolist()
        (6, [0.0, 0.0, 1.0, 1.0, 0.0, 0.0])
    """

    num_states: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self, num_states=integer(self.num_states, "num_states", least=2))

    @property
    def width(self) -> int:
        """n k."""
        return self.size * self.num_states

    @property
    def states(self) -> np.ndarray:
        """0..k-1."""
        return np.arange(self.num_states, dtype=float)

    @property
    def range(self) -> tuple[float, float]:
        """Components of one-hot vectors are 0 or 1."""
        return 0.0, 1.0

    def _by_unit(self, engine: Engine, eta: Array) -> Array:
        return engine.xp.reshape(eta, (*eta.shape[:-1], self.size, self.num_states))

    def _flat(self, engine: Engine, eta: Array) -> Array:
        return engine.xp.reshape(eta, (*eta.shape[:-2], self.width))

    def statistic(self, engine: Engine, x: Array, like: Array, params: Params) -> Array:
        """one-hot(x), flat."""
        return self._flat(engine, engine.special.one_hot(x, self.num_states, like))

    def log_partition(self, engine: Engine, eta: Array, params: Params) -> Array:
        """Log sum over the states."""
        return engine.special.logsumexp(self._by_unit(engine, eta), -1)

    def mean(self, engine: Engine, eta: Array, params: Params) -> Array:
        """softmax over the states, flat."""
        return self._flat(engine, engine.special.softmax(self._by_unit(engine, eta), -1))

    def draw(self, engine: Engine, rng: Rng, eta: Array, params: Params) -> Array:
        """State j with probability softmax(eta)_j."""
        return engine.arrays.cast(engine.random.categorical(rng, self._by_unit(engine, eta)), eta)

    def distribution(self, engine: Engine, eta: Array, params: Params) -> Distribution:
        """The host's Categorical with logits eta."""
        return engine.host.dist.Categorical(logits=self._by_unit(engine, eta)).to_event(1)

    def support(self, engine: Engine) -> Any:
        """Integers 0..k-1."""
        c = engine.host.constraints
        return c.independent(c.integer_interval(0, self.num_states - 1), 1)

    def observed(self, engine: Engine, x: Array, like: Array) -> Array:
        """Integers."""
        return engine.xp.astype(x, engine.xp.int32)

    def problem(self, x: np.ndarray) -> str | None:
        """Values that are no state."""
        if ((x == np.round(x)) & (x >= 0) & (x < self.num_states)).all():
            return None
        return f"integers from 0 to {self.num_states - 1} for Categorical units, got {shown(x)}"

    def eta_from_mean(self, mean: np.ndarray, params: Mapping[str, np.ndarray]) -> np.ndarray:
        """log of the state frequencies, mixed with 1 % of the uniform law."""
        return np.log(0.99 * mean + 0.01 / self.num_states)
