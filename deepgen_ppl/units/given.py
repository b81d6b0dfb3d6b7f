"""Values that are always given and have no law of their own: what a conditional machine is conditioned on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn

import numpy as np

from deepgen_ppl.engine import Engine
from deepgen_ppl.typing import Array, Params, Rng
from deepgen_ppl.units.base import Unit

__all__ = ["Given"]


@dataclass(frozen=True)
class Given(Unit):
    """Real values x that are always given: s(x) = x, and no law, so that neither m nor A exists.

    A machine with such a layer is one machine for each value of it: p(rest | x). Its data name the layer,
    `machine.given` clamps it, and what would need a law over x (its log Z, a draw, a marginal) is refused. No offset is
    taken from the other layers where they meet x, since that would only add a function of x, which cancels.

    Args:
        size: number of values.

    Raises:
        ValueError: for a size that is no positive integer.

    Example:
        >>> import deepgen_ppl.numpyro as dg
        >>> terms = [dg.Dense(("v", "h")), dg.Dense(("h", "x"))]
        >>> dg.Given(3).free, [t.shapes({"v": 4, "h": 2, "x": 3}) for t in terms]
        (False, [{'weight': (4, 2)}, {'weight': (2, 3)}])
    """

    free: ClassVar[bool] = False

    @property
    def integer(self) -> bool:
        """Any real numbers."""
        return False

    def _refuse(self, what: str) -> NoReturn:
        raise ValueError(
            f"expected the values of a layer of {self!r} to be given, got a machine in which they are not: it has no "
            f"{what}; use machine.given(...) with the layer's name"
        )

    def log_partition(self, engine: Engine, eta: Array, params: Params) -> Array:
        """None: values that are given are never summed out.

        Raises:
            ValueError: always.
        """
        self._refuse("sum over its values")

    def mean(self, engine: Engine, eta: Array, params: Params) -> Array:
        """None.

        Raises:
            ValueError: always.
        """
        self._refuse("mean")

    def draw(self, engine: Engine, rng: Rng, eta: Array, params: Params) -> Array:
        """None.

        Raises:
            ValueError: always.
        """
        self._refuse("draws")

    def distribution(self, engine: Engine, eta: Array, params: Params) -> NoReturn:
        """None.

        Raises:
            ValueError: always.
        """
        self._refuse("distribution")

    def support(self, engine: Engine) -> Any:
        """Real vectors."""
        return engine.host.constraints.independent(engine.host.constraints.real, 1)

    def problem(self, x: np.ndarray) -> str | None:
        """Any finite values do."""
        return None

    def eta_from_mean(self, mean: np.ndarray, params: Mapping[str, np.ndarray]) -> np.ndarray:
        """Zero: there is no law whose mean it could match."""
        return np.zeros(self.width)
