"""What an estimate of log Z or log p(x) is worth: its value, its error and the side it is on.

Kinds: `exact`; `bound` (a bound in expectation: its mean lies on the stated side, whatever the mixing); `estimate` (no
side can be claimed); `none`. All values in nats.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from deepgen_ppl.options import mapping, one_of, real
from deepgen_ppl.typing import Array

__all__ = [
    "CERTIFIED",
    "FLAGS",
    "RUNS_FOR_ERROR",
    "Contrastive",
    "Estimate",
    "Kind",
    "LogNormalizer",
    "log_mean_exp",
    "snapshot",
]

Kind = Literal["exact", "bound", "estimate", "none"]
Side = Literal["both", "lower", "upper", "none"]

CERTIFIED = math.log(1 / 0.025)
"""What Markov's inequality costs on the logarithm of a mean of weights, at probability 0.975."""

FLAGS: Mapping[str, str] = {
    "weights_degenerate": "the weights of AIS are too uneven, or under 100, for a standard error: more temperatures "
    "(betas), at least 100 runs (num_runs)",
    "inexact_start": "the draws that reverse AIS started from came from a Markov chain, so that it bounds nothing",
    "mean_field": "log f(x) is bounded from below by mean field: no upper side",
    "low_ess": "importance weights of many rows have few effective particles: a better guide, or more num_particles",
    "predictive": "log p(x) is averaged over draws of the global sites from the guide: it is no evidence of the data",
    "plug_in": "the guide draws the global sites at one point, which stands for the whole posterior",
    "no_density": "the model is a sampler that observes nothing: no side of log p(x)",
    "not_finite": "log p(x) is infinite or NaN at some rows: nothing can be claimed of its mean",
}
"""What should make one careful: code -> what it means, and what to turn; docs/guide/flags.md has a section for each."""


RUNS_FOR_ERROR = 100
"""Number of weights below which the standard error of the logarithm of their mean is withheld."""


@dataclass(frozen=True)
class Estimate:
    """One side of a quantity.

    Args:
        value: in nats; NaN where nothing is claimed.
        mc_se: Monte Carlo standard error of the value; NaN where it cannot be trusted.
        kind: what may be claimed.
        method: how it was made; empty where nothing is claimed.
        margin: distance by which the side must be moved out to hold with probability 0.975 whatever the weights are
            (Markov's inequality); NaN where there is no such distance.
        reason: why nothing is claimed; empty where something is.
    """

    value: float
    mc_se: float
    kind: Kind
    method: str
    margin: float = math.nan
    reason: str = ""

    @property
    def withheld(self) -> bool:
        """Whether there is a value whose standard error cannot be trusted."""
        return self.kind != "none" and not math.isfinite(self.mc_se)

    def reach(self, z: float = 3.0) -> float:
        """z standard errors, or the margin where the standard error is withheld."""
        return z * self.mc_se if math.isfinite(self.mc_se) else self.margin

    @classmethod
    def missing(cls, reason: str) -> Estimate:
        """Nothing is claimed."""
        return cls(math.nan, math.nan, "none", "", reason=reason)

    def __repr__(self) -> str:
        if self.kind == "none":
            return f"none ({self.reason})"
        error = "s.e. withheld" if self.withheld else f"s.e. {self.mc_se:.2g}"
        return f"{self.value:.6g} ({error}; {self.kind} by {self.method})"


def log_mean_exp(log_w: np.ndarray) -> tuple[Any, Any, Any]:
    """log mean w over the first axis, its delta-method standard error, and the effective sample size of the weights.

    The error is NaN, as not to be trusted, below 100 weights, where sd(log w) > 1, where the effective sample size is
    below 100 (to 1 %), or where no weight is positive and finite.

    Args:
        log_w: log weights, shape (R,) or (R, ...).

    Returns:
        Three numbers, or arrays (...) in nats.
    """
    log_w = np.asarray(log_w, float)
    runs, top = len(log_w), log_w.max(axis=0)
    finite = np.isfinite(top)
    with np.errstate(all="ignore"):  # infinite weights and none at all are looked for at the end
        w = np.exp(log_w - np.where(finite, top, 0.0))
        mean, spread = w.mean(axis=0), log_w.std(axis=0)
        value = np.where(finite, top + np.log(mean), top)
        ess = np.where(finite, w.sum(axis=0) ** 2 / (w**2).sum(axis=0), 0.0)
        se = np.sqrt(((w - mean) ** 2).sum(axis=0) / max(runs - 1, 1) / runs) / mean
    least = min(RUNS_FOR_ERROR, 0.99 * runs)  # even weights have an effective size of their number, to rounding
    trusted = (runs >= RUNS_FOR_ERROR) & np.isfinite(log_w).all(axis=0) & (spread <= 1.0) & (ess >= least)
    return value[()], np.where(trusted, se, math.nan)[()], ess[()]


def snapshot(machine: Any) -> Any:
    """The machine with copies of its arrays, which no optimizer changes in place."""
    params, constants = (
        {k: machine.engine.arrays.to_numpy(v) for k, v in arrays.items()}
        for arrays in (machine.params, machine.constants)
    )
    return machine.with_params(params).with_constants(constants)


@dataclass(frozen=True, eq=False)
class LogNormalizer:
    """log Z of a machine at the parameters it was computed at, or of each machine of a batch.

    Args:
        value: log Z in nats; an array of the shape of a batch of machines, as `se` then is.
        se: standard error of the value; 0 where exact, NaN where it cannot be trusted.
        kind: what may be claimed.
        side: the side on which `value` lies in expectation.
        method: how it was made.
        belongs_to: a copy of the machine at these parameters; None where the user vouches for it.
        particles: state of weighted draws from the machine, by which the estimate is differentiated, or None.
        weights: weights of the particles, shape (R,) or (R, ...), summing to one over the first axis.
        log_weights: log weights of the runs behind the estimate, of the same shape, log Z of the start included, or
            None.
        flags: what should make one careful, in one machine of a batch or more: those whose `se` is NaN.

    Raises:
        ValueError: for another kind or side.
    """

    value: Any
    se: Any
    kind: Kind
    side: Side
    method: str
    belongs_to: Any = None
    particles: Mapping[str, Array] | None = None
    weights: Array | None = None
    log_weights: np.ndarray | None = None
    flags: tuple[str, ...] = field(default=())

    dynamic_fields: ClassVar[tuple[str, ...]] = ("value", "se", "belongs_to", "particles", "weights", "log_weights")
    static_fields: ClassVar[tuple[str, ...]] = ("kind", "side", "method", "flags")

    def __post_init__(self) -> None:
        one_of(self.kind, "kind", get_args(Kind))
        one_of(self.side, "side", get_args(Side))

    @property
    def sides(self) -> frozenset[str]:
        """The sides of log Z that may be claimed: `lower`, `upper`, both or none."""
        if self.kind == "exact":
            return frozenset({"lower", "upper"})
        return frozenset({self.side} & {"lower", "upper"} if self.kind == "bound" else ())

    def certified(self, alpha: float = 0.025) -> Any:
        """A bound on log Z that holds with probability 1 - alpha, whatever the mixing (Markov's inequality).

        Of a batch of machines it is an array, each of whose bounds holds with this probability.

        From forward runs, log Z >= log mean w - log(1 / alpha); from reverse runs that start at exact draws,
        log Z <= -log mean w_rev + log(1 / alpha).

        Raises:
            ValueError: if the estimate claims no side, or alpha is not between 0 and 1.
        """
        if not 0 < real(alpha, "alpha", low=0, high=1) < 1:
            raise ValueError(f"expected alpha between 0 and 1, got {alpha}")
        if self.kind == "exact":
            return self.value
        if self.side == "lower":
            return self.value + math.log(alpha)
        if self.side == "upper" and self.kind == "bound":
            return self.value - math.log(alpha)
        raise ValueError(f"expected an estimate that claims a side, got {self}")

    def __repr__(self) -> str:
        flags = f", flags {list(self.flags)}" if self.flags else ""
        shape = tuple(np.shape(self.value))
        value = f"{self.value} +- {self.se} nats" if not shape else f"{shape} machines"
        return f"LogNormalizer({value}, {self.kind}, side {self.side}, by {self.method}{flags})"


@dataclass(frozen=True, eq=False)
class Contrastive:
    """A normalizer of which only the gradient is known: d log Z = E_particles[-dE].

    Args:
        particles: values of the layers kept (see `Structure.smaller_side`) or of all layers, shapes (C, n).

    Raises:
        TypeError: for something else than arrays by the names of layers.
    """

    particles: Mapping[str, Array]

    dynamic_fields: ClassVar[tuple[str, ...]] = ("particles",)
    static_fields: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        particles = mapping(self.particles, "particles", "{'v': v}")
        if not particles or not all(hasattr(x, "shape") for x in particles.values()):
            raise TypeError(f"expected particles as arrays by the names of layers, got {self.particles!r}")

    def __repr__(self) -> str:
        shapes = {k: tuple(v.shape) for k, v in self.particles.items()}
        return f"Contrastive(particles {shapes})"
