r"""Blocks of binary units of which at most one is on: the hidden units of probabilistic max pooling.

    q(x; eta) = e^(eta_x - A),   eta_0 = 0,   A = log( 1 + sum_j e^eta_j ),   x in {0..k}

x = 0 where all units of a block are off, else the number of the one that is on; unit j is on with probability
e^(eta_j - A), and none is with probability e^-A.

Reference: Convolutional Deep Belief Networks for Scalable Unsupervised Learning of Hierarchical Representations (Lee et
al., 2009), section 3.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from deepgen_ppl.engine import Engine
from deepgen_ppl.options import check_options, integer
from deepgen_ppl.typing import Array, Distribution, Params, Rng
from deepgen_ppl.units.base import Unit, shown
from deepgen_ppl.units.categorical import Categorical

__all__ = ["AtMostOne"]


@dataclass(frozen=True)
class AtMostOne(Unit):
    """Blocks of k binary units, at most one of them on, x in {0..k}: s_j(x) = [x = j], m = 1, E[s_j] = e^(eta_j - A).

    A block has the value 0 where all are off, else the number of the unit that is on: A = log(1 + sum_j e^eta_j).
    Statistic and natural parameters of a layer are flat, block by block: component i k + j - 1 belongs to unit j of
    block i.

    Args:
        size: number of blocks n.
        block: number of units k of each.

    Raises:
        ValueError: for a size or a block that is no positive integer.

    Example:
        >>> import numpy as np
        >>> import deepgen_ppl.numpyro as dg
        >>> unit = dg.AtMostOne(2, block=3)  # the first block is off, the second has its third unit on
        >>> unit.statistic(dg.engine, np.float32([0, 3]), np.float32([0]), {}).tolist()
        [0.0, 0.0, 0.0, 0.0, 0.0, 1.0]

    Reference: Convolutional Deep Belief Networks for Scalable Unsupervised Learning of Hierarchical Representations
    (Lee et al., 2009), section 3.3.
    """

    block: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self, block=integer(self.block, "block"))

    @property
    def width(self) -> int:
        """n k."""
        return self.size * self.block

    @property
    def states(self) -> np.ndarray:
        """0..k."""
        return self._law.states

    @property
    def range(self) -> tuple[float, float]:
        """Units are off or on."""
        return 0.0, 1.0

    @cached_property
    def _law(self) -> Categorical:
        """The same blocks with an eta for the state in which all are off."""
        return Categorical(self.size, self.block + 1)

    def _with_off(self, engine: Engine, eta: Array) -> Array:
        """(..., n k) to (..., n (k + 1)), with eta_0 = 0."""
        xp = engine.xp
        eta = xp.reshape(eta, (*eta.shape[:-1], self.size, self.block))
        eta = xp.concat([xp.zeros_like(eta[..., :1]), eta], axis=-1)
        return xp.reshape(eta, (*eta.shape[:-2], -1))

    def _without_off(self, engine: Engine, s: Array) -> Array:
        """(..., n (k + 1)) to (..., n k)."""
        s = engine.xp.reshape(s, (*s.shape[:-1], self.size, self.block + 1))[..., 1:]
        return engine.xp.reshape(s, (*s.shape[:-2], self.width))

    def statistic(self, engine: Engine, x: Array, like: Array, params: Params) -> Array:
        """The units, 1 where on, flat."""
        return self._without_off(engine, self._law.statistic(engine, x, like, params))

    def log_partition(self, engine: Engine, eta: Array, params: Params) -> Array:
        """log(1 + sum_j e^eta_j)."""
        return self._law.log_partition(engine, self._with_off(engine, eta), params)

    def mean(self, engine: Engine, eta: Array, params: Params) -> Array:
        """e^eta_j / (1 + sum_j' e^eta_j'), flat."""
        return self._without_off(engine, self._law.mean(engine, self._with_off(engine, eta), params))

    def draw(self, engine: Engine, rng: Rng, eta: Array, params: Params) -> Array:
        """j with probability e^(eta_j - A), 0 with e^-A."""
        return self._law.draw(engine, rng, self._with_off(engine, eta), params)

    def distribution(self, engine: Engine, eta: Array, params: Params) -> Distribution:
        """The host's Categorical with logits (0, eta)."""
        return self._law.distribution(engine, self._with_off(engine, eta), params)

    def support(self, engine: Engine) -> Any:
        """Integers 0..k."""
        return self._law.support(engine)

    def observed(self, engine: Engine, x: Array, like: Array) -> Array:
        """Integers."""
        return self._law.observed(engine, x, like)

    def problem(self, x: np.ndarray) -> str | None:
        """Values that are no unit of a block."""
        if self._law.problem(x) is None:
            return None
        return f"0 (all off) or the unit that is on, 1 to {self.block}, for AtMostOne units, got {shown(x)}"

    def eta_from_mean(self, mean: np.ndarray, params: Mapping[str, np.ndarray]) -> np.ndarray:
        """log of the frequencies over that of all off, mixed with 1 % of the uniform law."""
        on = mean.reshape(*mean.shape[:-1], self.size, self.block)
        q = 0.99 * np.concatenate([1 - on.sum(-1, keepdims=True), on], axis=-1) + 0.01 / (self.block + 1)
        return np.log(q[..., 1:] / q[..., :1]).reshape(mean.shape)
