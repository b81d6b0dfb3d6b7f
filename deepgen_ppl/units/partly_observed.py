"""A layer of which some units are known: what clamping with missing values leaves in a machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepgen_ppl.engine import Engine
from deepgen_ppl.registry import name_in_files
from deepgen_ppl.typing import Array, Distribution, Params, Rng
from deepgen_ppl.units.base import Unit

__all__ = ["PartlyObserved"]


@dataclass(frozen=True)
class PartlyObserved(Unit):
    """Units of another kind, some of which have a known value o: m(x_i) = 0 unless x_i = o_i where i is known.

    A known unit has A(eta_i) = <eta_i, s(o_i)> + log m(o_i) and E[s] = s(o_i); the others are as they were. Which are
    known is told by two arrays of the layer, `value` and `missing` (1 where the value is not known).

    Args:
        size: number of units n.
        unit: the layer as it was.
    """

    unit: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.unit, dict):  # from a file
            object.__setattr__(self, "unit", Unit.from_json(self.unit))
        if not isinstance(self.unit, Unit) or self.unit.size != self.size:
            raise ValueError(f"expected a unit of size {self.size}, got {self.unit!r}")

    def to_json(self) -> dict[str, Any]:
        """The name of the class, and the unit's own."""
        return {"kind": name_in_files(type(self)), "size": self.size, "unit": self.unit.to_json()}

    @property
    def width(self) -> int:
        """That of the unit."""
        return self.unit.width

    @property
    def states(self) -> np.ndarray | None:
        """Those of the unit."""
        return self.unit.states

    @property
    def range(self) -> tuple[float, float]:
        """That of the unit."""
        return self.unit.range

    def curvature(self, params: Mapping[str, np.ndarray]) -> np.ndarray | None:
        """That of the unit."""
        return self.unit.curvature(params)

    def init_arrays(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """The unit's, and nothing known."""
        trained, fixed = self.unit.init_arrays()
        return trained, fixed | {"value": np.zeros(self.size), "missing": np.ones(self.size)}

    @property
    def statistic_arrays(self) -> tuple[str, ...]:
        """Those of the unit."""
        return self.unit.statistic_arrays

    def _by_unit(self, engine: Engine, x: Array) -> Array:
        return engine.xp.reshape(x, (*x.shape[:-1], self.size, -1))

    def _log_base_by_unit(self, engine: Engine, x: Array, params: Params) -> Array | float:
        own = {k: v[..., None] for k, v in params.items() if k not in ("value", "missing")}
        return self.unit.log_base(engine, x[..., None], own)

    def statistic(self, engine: Engine, x: Array, like: Array, params: Params) -> Array:
        """That of the unit."""
        return self.unit.statistic(engine, x, like, params)

    def log_base(self, engine: Engine, x: Array, params: Params) -> Array:
        """sum_i log m(x_i), minus infinity where x contradicts what is known."""
        x = engine.arrays.cast(x, params["value"])
        known = (params["missing"] == 0) & (x != params["value"])
        log_m = self._log_base_by_unit(engine, x, params) + engine.xp.zeros_like(x)
        return engine.xp.sum(engine.xp.where(known, -float("inf"), log_m), axis=-1)

    def log_partition(self, engine: Engine, eta: Array, params: Params) -> Array:
        """<eta_i, s(o_i)> + log m(o_i) where known."""
        s = self.statistic(engine, params["value"], eta, params)
        known = engine.xp.sum(self._by_unit(engine, eta * s), axis=-1)
        known = known + self._log_base_by_unit(engine, params["value"], params)
        return engine.xp.where(params["missing"] == 0, known, self.unit.log_partition(engine, eta, params))

    def mean(self, engine: Engine, eta: Array, params: Params) -> Array:
        """s(o_i) where known."""
        mean = self._by_unit(engine, self.unit.mean(engine, eta, params))
        s = self._by_unit(engine, self.statistic(engine, params["value"], eta, params))
        missing = params["missing"][..., None]
        mixed = engine.xp.where(missing == 0, s + 0.0 * mean, mean)
        return engine.xp.reshape(mixed, (*mixed.shape[:-2], self.width))

    def draw(self, engine: Engine, rng: Rng, eta: Array, params: Params) -> Array:
        """o_i where known."""
        x = self.unit.draw(engine, rng, eta, params)
        return engine.xp.where(params["missing"] == 0, params["value"] + 0.0 * x, x)

    def distribution(self, engine: Engine, eta: Array, params: Params) -> Distribution:
        """The hosts have none.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            f"expected a layer that is free or given as a whole for a distribution of the host, got {self!r}: "
            "draw from it with machine.draw(rng, block, state), or ask for machine.mean(block, state)"
        )

    def support(self, engine: Engine) -> Any:
        """That of the unit."""
        return self.unit.support(engine)

    def problem(self, x: np.ndarray) -> str | None:
        """That of the unit."""
        return self.unit.problem(x)

    def eta_from_mean(self, mean: np.ndarray, params: Mapping[str, np.ndarray]) -> np.ndarray:
        """That of the unit."""
        return self.unit.eta_from_mean(mean, params)
