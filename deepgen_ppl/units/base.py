r"""What a unit is: an exponential-family layer, the building block of machines and the likelihood of programs.

A layer of n units with natural parameter eta has the law

    q(x; eta) = m(x) exp( <eta, s(x)> - A(eta) ),      A(eta) = log sum_x m(x) exp( <eta, s(x)> )

with statistic s, base measure m and log-partition A; sums become integrals for densities. The layer is one factor of
the conditionals of a Boltzmann machine, and the likelihood of a decoder whose output is mapped to eta.

Shapes: x is (..., n); s(x) and eta are (..., width); A is (..., n), one term a unit.

Reference: Exponential Family Harmoniums with an Application to Information Retrieval (Welling et al., 2004), eq. 1-5.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from deepgen_ppl.data import plain
from deepgen_ppl.engine import Engine
from deepgen_ppl.options import check_options, integer
from deepgen_ppl.registry import Registered
from deepgen_ppl.typing import Array, Distribution, Params, Rng

__all__ = ["Unit", "checked_rows", "mean_statistic", "shown"]


@dataclass(frozen=True)
class Unit(Registered, ABC):
    """A layer of `size` independent units of one kind, given their natural parameters.

        q(x; eta) = m(x) exp( <eta, s(x)> - A(eta) ),      A(eta) = log sum_x m(x) exp( <eta, s(x)> )

    Every method takes the engine first and the layer's own arrays (`params`, empty for most kinds) last.

    Args:
        size: number of units n.

    Attributes:
        free: whether it has a law; values of a layer without one are always given.
        factorizes: whether the units are independent given their natural parameters.

    Raises:
        ValueError: for a size that is no positive integer.
    """

    size: int

    free: ClassVar[bool] = True
    factorizes: ClassVar[bool] = True

    @property
    def statistic_arrays(self) -> tuple[str, ...]:
        """Names of the layer's arrays that s(x) reads: the machines of a path have these in common."""
        return ()

    def __post_init__(self) -> None:
        check_options(self, size=integer(self.size, f"the number of {type(self).__name__} units"))

    @property
    def width(self) -> int:
        """Number of components of the statistic s(x)."""
        return self.size

    @property
    def output_width(self) -> int:
        """Number of outputs of a network whose `likelihood` this is."""
        return self.width

    @property
    def states(self) -> np.ndarray | None:
        """The values of one unit where they are finitely many, else None."""
        return None

    @property
    def measure(self) -> str:
        """The space of a layer and what its probabilities are relative to: those of one measure can be compared."""
        space = "R" if self.states is None else "{" + ", ".join(f"{v:g}" for v in self.states) + "}"
        return f"{space}^{self.size}"

    @property
    def integer(self) -> bool:
        """Whether values are integers."""
        return self.states is not None

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest value of a component of s(x), infinite where it has none."""
        return (-np.inf, np.inf) if self.states is None else (float(self.states.min()), float(self.states.max()))

    @property
    def bounded(self) -> bool:
        """Whether s(x) is bounded, so that every coupling is normalizable."""
        return bool(np.isfinite(self.range).all())

    def curvature(self, params: Mapping[str, np.ndarray]) -> np.ndarray | None:
        """lambda where m(x) falls off as exp(-lambda s^2 / 2), shape (width,); None where it falls off more slowly."""
        del params
        return None

    def init_arrays(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Arrays of the base measure as (trained, fixed)."""
        return {}, {}

    def arrays_from_data(self, x: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """`init_arrays` as checked data (N, n) suggest them."""
        del x
        return self.init_arrays()

    def likelihood_arrays(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Arrays of `likelihood` beside the network's output, as (trained, fixed)."""
        return self.init_arrays()

    def statistic(self, engine: Engine, x: Array, like: Array, params: Params) -> Array:
        """s(x), shape (..., width), in the dtype of `like`."""
        del params
        return engine.arrays.cast(x, like)

    def log_base(self, engine: Engine, x: Array, params: Params) -> Array | float:
        """sum_i log m(x_i), shape (...) in nats."""
        del engine, x, params
        return 0.0

    @abstractmethod
    def log_partition(self, engine: Engine, eta: Array, params: Params) -> Array:
        """A(eta), shape (..., n) in nats."""

    @abstractmethod
    def mean(self, engine: Engine, eta: Array, params: Params) -> Array:
        """E[s(x)] = dA/d eta, shape (..., width)."""

    @abstractmethod
    def draw(self, engine: Engine, rng: Rng, eta: Array, params: Params) -> Array:
        """x drawn from q(x; eta), shape (..., n), in the dtype of eta."""

    @abstractmethod
    def distribution(self, engine: Engine, eta: Array, params: Params) -> Distribution:
        """q(x; eta) as a distribution of the host with event shape (n,)."""

    @abstractmethod
    def support(self, engine: Engine) -> Any:
        """The host's constraint for one layer, with one event axis."""

    @abstractmethod
    def problem(self, x: np.ndarray) -> str | None:
        """What is wrong with the values of `x`, or None."""

    @abstractmethod
    def eta_from_mean(self, mean: np.ndarray, params: Mapping[str, np.ndarray]) -> np.ndarray:
        """Natural parameter of the mean statistic of data: the inverse of `mean`, with smoothing at the edges."""

    def likelihood(self, engine: Engine, output: Array, params: Params) -> Distribution:
        """The layer as the likelihood of a network whose output is `output`, shape (..., output_width)."""
        return self.distribution(engine, output, params)

    def expectation(self, engine: Engine, output: Array, params: Params) -> Array:
        """Mean statistic of `likelihood`, shape (..., width)."""
        return self.mean(engine, output, params)

    def output_from_mean(self, mean: np.ndarray, params: Mapping[str, np.ndarray]) -> np.ndarray:
        """Network output, shape (output_width,), whose `expectation` is the mean statistic of data."""
        return self.eta_from_mean(mean, params)

    def observed(self, engine: Engine, x: Array, like: Array) -> Array:
        """Data as the host's distribution takes them."""
        return engine.arrays.cast(x, like)

    def mix(self, engine: Engine, beta: Array, a: Params, b: Params) -> dict[str, Array]:
        """Arrays of the base measure m_a^(1 - beta) m_b^beta."""
        del engine, beta, b
        return dict(a)

    def check(self, x: np.ndarray, name: str) -> None:
        """Check the shape and the values of data, eagerly.

        Raises:
            ValueError: with what was expected and what came.
        """
        if x.dtype.kind not in "buif":
            raise ValueError(f"expected numbers in {name}, got dtype {x.dtype}")
        if x.ndim < 1 or x.shape[-1] != self.size:
            raise ValueError(f"expected {name} of shape (..., {self.size}) for {self!r}, got shape {x.shape}")
        if x.size == 0:
            raise ValueError(f"expected {name} with at least one row, got shape {x.shape}")
        if x.dtype.kind == "f" and not np.isfinite(x).all():
            bad = int((~np.isfinite(x)).sum())
            raise ValueError(f"expected finite values in {name}, got {bad} NaN or infinite of {x.size}")
        if problem := self.problem(x):
            raise ValueError(f"{name}: expected {problem}")


def checked_rows(engine: Engine, unit: Unit, x: Any, name: str = "data") -> np.ndarray:
    """Data as NumPy's, (N, n), after a look at shape and values.

    Raises:
        ValueError: with what was expected and what came.
    """
    x = plain(engine, x, name)
    unit.check(x, name)
    if x.ndim != 2:
        raise ValueError(f"expected {name} of shape (N, {unit.size}), got shape {x.shape}")
    return x


def mean_statistic(engine: Engine, unit: Unit, x: Any, params: Mapping[str, Any]) -> np.ndarray:
    """Mean over the data of s(x), shape (width,), after checking the data."""
    x = checked_rows(engine, unit, x)
    like = engine.arrays.asarray(np.zeros(1, np.float32))
    params = {k: engine.arrays.asarray(v, like=like) for k, v in params.items()}
    s = engine.arrays.to_numpy(unit.statistic(engine, engine.arrays.asarray(x.astype(np.float32)), like, params))
    return s.reshape(-1, unit.width).mean(0, dtype=float)


def shown(x: np.ndarray) -> str:
    """Some values of x and their range, for a sentence."""
    distinct = np.unique(x)
    shown = ", ".join(f"{v:g}" for v in distinct[:4])
    return f"values such as {shown} (range {x.min():g} to {x.max():g})"
