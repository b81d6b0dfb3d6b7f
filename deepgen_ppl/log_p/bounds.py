r"""Both sides of log p(x), as far as they can be claimed.

    lower(log p) = lower(log f) - upper(log Z),      upper(log p) = upper(log f) - lower(log Z)

A side that is missing a part is NaN, never a guess. Directed models have a lower side by importance weighting; machines
have both where log Z can be enumerated, or drawn from exactly (AIS both ways), and an upper side otherwise.

References: Importance Weighted Autoencoders (Burda et al., 2016), eq. 8; On the Quantitative Analysis of Deep Belief
Networks (Salakhutdinov & Murray, 2008), eq. 20; Measuring the Reliability of MCMC Inference with Bidirectional Monte
Carlo (Grosse et al., 2016), section 3.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from deepgen_ppl.data import Batch, checked
from deepgen_ppl.directed.program import Program
from deepgen_ppl.energies.machine import BoltzmannMachine
from deepgen_ppl.log_p.importance import importance_log_likelihood
from deepgen_ppl.log_p.log_f import log_f
from deepgen_ppl.log_z.ais import ais
from deepgen_ppl.log_z.estimates import CERTIFIED, Estimate, Kind, LogNormalizer
from deepgen_ppl.log_z.exact import DRAW_BITS, enumerable, exact_log_normalizer
from deepgen_ppl.typing import Array, Rng

__all__ = ["Bounds", "BoundsOptions", "bounds"]

ESS_FLOOR = 10.0
"""Importance weights of a datum with fewer effective particles are flagged."""


@dataclass(frozen=True)
class BoundsOptions:
    """How hard to work.

    Args:
        num_particles: importance samples for each datum of a directed model.
        betas: AIS temperatures: a number, or an array from 0 to 1.
        num_runs: AIS runs.
        log_z: `auto` enumerates where the smaller side has at most `exact_bits` bits; `ais` never enumerates log Z.
        exact_bits: see `log_z`.
    """

    num_particles: int = 1000
    betas: int | Any = 2000
    num_runs: int = 200
    log_z: Literal["auto", "ais"] = "auto"
    exact_bits: float = 20.0

    def __post_init__(self) -> None:
        if self.num_particles < 2 or self.num_runs < 2:
            raise ValueError(
                f"expected at least 2 particles and 2 runs, got num_particles={self.num_particles}, "
                f"num_runs={self.num_runs}"
            )
        if self.log_z not in ("auto", "ais"):
            raise ValueError(f"expected log_z 'auto' or 'ais', got {self.log_z!r}")


@dataclass(frozen=True, eq=False)
class Bounds:
    """Mean log p(x) of a model over held-out data, in nats per datum.

    Attributes:
        lower: lower side.
        upper: upper side.
        estimate: best guess, with its kind.
        se_data: standard error of the mean over the data.
        se_log_z: standard error of log Z, shared by all data; 0 for directed models, NaN where not to be trusted.
        pointwise: the best guess for each datum, shape (N,).
        seconds: wall time.
        flags: what should make one careful.
        log_normalizer: log Z behind the upper side, or None.
    """

    lower: Estimate
    upper: Estimate
    estimate: Estimate
    se_data: float
    se_log_z: float
    pointwise: np.ndarray
    seconds: float
    flags: tuple[str, ...] = field(default=())
    log_normalizer: LogNormalizer | None = None

    def interval(self, z: float = 3.0) -> tuple[float, float]:
        """Lower and upper side, each moved out by z of its Monte Carlo standard errors; NaN where none is claimed.

        Where a standard error is withheld, the side is moved out as far as Markov's inequality asks.
        """
        return self.lower.value - self.lower.reach(z), self.upper.value + self.upper.reach(z)


def bounds(model: Any, data: Any, *, rng: Rng | int, options: BoundsOptions | None = None) -> Bounds:
    """Both sides of the mean log p(x) of a model over data.

    Args:
        model: a machine or a program.
        data: one array (N, V), or named arrays with one leading axis.
        rng: seed or generator.
        options: how hard to work.

    Raises:
        TypeError: for another kind of model.
        ValueError: for data that do not fit the model.
    """
    options = options or BoundsOptions()
    if not isinstance(model, (BoltzmannMachine, Program)):
        raise TypeError(f"expected a machine or a program, got {type(model).__name__}")
    batch = checked(model, data, "test data")
    rng = model.engine.random.rng(rng, model.like)
    began = time.perf_counter()
    parts = (
        _machine(model, batch[model.data_name], rng, options)
        if isinstance(model, BoltzmannMachine)
        else _program(model, batch, rng, options)
    )
    pointwise = parts["pointwise"]
    se_data = float(pointwise.std(ddof=1) / math.sqrt(len(pointwise))) if len(pointwise) > 1 else math.nan
    return Bounds(se_data=se_data, seconds=time.perf_counter() - began, **parts)


def _program(model: Program, batch: Batch, rng: Rng, options: BoundsOptions) -> dict[str, Any]:
    values, variances, ess, total = importance_log_likelihood(model, batch, rng, options.num_particles)
    low = float((ess < ESS_FLOOR).mean())
    flags = (f"low_ess_{100 * low:.0f}%",) if low > 0.05 else ()
    mc_se = math.nan if flags else float(math.sqrt(variances.sum()) / len(values))
    method = f"importance weighting, {total} particles"
    lower = Estimate(float(values.mean()), mc_se, "bound", method, margin=CERTIFIED / len(values))
    return {
        "lower": lower,
        "upper": Estimate.missing("no exact posterior draws"),
        "estimate": lower,
        "se_log_z": 0.0,
        "pointwise": values,
        "flags": flags,
    }


def _machine(model: BoltzmannMachine, x: Array, rng: Rng, options: BoundsOptions) -> dict[str, Any]:
    first, second = model.engine.random.split(rng, 2)
    f = log_f(model, x)
    log_z = _sides_of_log_z(model, first, second, options)
    mean = float(f.value.mean())
    upper_z, lower_z = log_z.get("upper"), log_z["lower"]
    lower = _difference(mean, f.method, upper_z, "exact starts or enumeration of log Z needed")
    if f.kind != "exact":
        upper = Estimate.missing("log f has no upper side")
    else:
        upper = _difference(mean, f.method, lower_z, "")
    flags = lower_z.flags + (() if f.kind == "exact" else ("mean_field",))
    if f.kind == "exact" and lower_z.kind == "exact":
        guess = upper
    else:
        kind: Kind = "bound" if f.kind == "exact" else "estimate"
        guess = Estimate(mean - float(lower_z.value), float(lower_z.se), kind, f"{f.method} - {lower_z.method}")
    return {
        "lower": lower,
        "upper": upper,
        "estimate": guess,
        "se_log_z": float(lower_z.se),
        "pointwise": f.value - float(lower_z.value),
        "flags": flags,
        "log_normalizer": lower_z,
    }


def _difference(mean: float, method: str, log_z: LogNormalizer | None, reason: str) -> Estimate:
    """Mean log f less one side of log Z."""
    if log_z is None:
        return Estimate.missing(reason)
    exact = log_z.kind == "exact" and "mean field" not in method
    kind: Kind = "exact" if exact else "bound"
    margin = 0.0 if log_z.kind == "exact" else CERTIFIED
    return Estimate(mean - float(log_z.value), float(log_z.se), kind, f"{method} - {log_z.method}", margin)


def _sides_of_log_z(
    model: BoltzmannMachine, first: Rng, second: Rng, options: BoundsOptions
) -> Mapping[str, LogNormalizer]:
    if options.log_z == "auto" and enumerable(model, options.exact_bits):
        exact = exact_log_normalizer(model)
        return {"lower": exact, "upper": exact}
    common: dict[str, Any] = {"betas": options.betas, "num_runs": options.num_runs}
    sides = {"lower": ais(model, rng=first, **common)}  # where one way is degenerate, neither error is trusted
    if enumerable(model, DRAW_BITS):
        sides["upper"] = ais(model, rng=second, reverse=True, **common)
        if any(not math.isfinite(side.se) for side in sides.values()):
            flags = tuple(dict.fromkeys(flag for side in sides.values() for flag in side.flags))
            sides = {name: replace(side, se=math.nan, flags=flags) for name, side in sides.items()}
    return sides
