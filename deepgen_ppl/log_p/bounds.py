r"""Both sides of log p(x), as far as they can be claimed.

    lower(log p) = lower(log f) - upper(log Z),      upper(log p) = upper(log f) - lower(log Z)

A side that is missing a part is NaN, never a guess. Directed models have a lower side by importance weighting; machines
have both where log Z can be enumerated, or drawn from exactly (AIS both ways), and an upper side otherwise. Where a
machine is conditioned on some of the data, it is log p(v | x), with a log Z for each row.

References: Importance Weighted Autoencoders (Burda et al., 2016), eq. 8; On the Quantitative Analysis of Deep Belief
Networks (Salakhutdinov & Murray, 2008), eq. 20; Measuring the Reliability of MCMC Inference with Bidirectional Monte
Carlo (Grosse et al., 2016), section 3.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from deepgen_ppl.data import WEIGHT, checked
from deepgen_ppl.directed.program import Program
from deepgen_ppl.energies.energy import Energy
from deepgen_ppl.log_p.claims import Bounds, BoundsOptions, claim, found
from deepgen_ppl.log_p.conditional import conditional_bounds
from deepgen_ppl.log_p.log_f import LogF, log_f
from deepgen_ppl.log_p.programs import program_bounds
from deepgen_ppl.log_z.ais import ais
from deepgen_ppl.log_z.estimates import CERTIFIED, Estimate, LogNormalizer
from deepgen_ppl.log_z.exact import DRAW_BITS, check_single, enumerable, exact_log_normalizer
from deepgen_ppl.options import flag, instance
from deepgen_ppl.typing import Array, Rng

__all__ = ["Bounds", "BoundsOptions", "bounds", "checked_data"]


def bounds(
    model: Any, data: Any, *, rng: Rng | int, options: BoundsOptions | None = None, progress: bool | None = None
) -> Bounds:
    """Both sides of the mean log p(x) of a model over data, given what it is conditioned on.

        lower(log p) = lower(log f) - upper(log Z),      upper(log p) = upper(log f) - lower(log Z)

    Args:
        model: a machine or a program.
        data: one array (N, V), or named arrays with one leading axis.
        rng: seed or generator.
        options: how hard to work.
        progress: whether to show a progress bar; by default where standard error is a terminal.

    Raises:
        TypeError: for another kind of model.
        ValueError: for data that do not fit the model, row weights, or parameters that are not finite.

    Example:
        >>> import numpy as np
        >>> import deepgen_ppl.pyro as dg  # on NumPyro the same
        >>> x = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
        >>> sides = dg.bounds(dg.PPCA.maximum_likelihood(x, latent=1), x, rng=0)
        >>> sides.lower.kind, bool(sides.lower.value == sides.upper.value)  # nothing is latent
        ('exact', True)
    """
    options = instance(BoundsOptions() if options is None else options, "options", BoundsOptions, "BoundsOptions(...)")
    if progress is not None:
        flag(progress, "progress")
    batch = checked_data(model, data)
    rng = model.engine.random.rng(rng, model.like)
    show = sys.stderr.isatty() if progress is None else progress
    began = time.perf_counter()
    if isinstance(model, Energy) and model.conditions:
        both = conditional_bounds(model, batch, options)
    elif isinstance(model, Energy):
        both = _machine(model, batch[model.data_name], rng, options, show=show)
    else:
        both = program_bounds(model, batch, rng, options, show=show)
    return replace(both, seconds=time.perf_counter() - began)


def checked_data(model: Any, data: Any) -> dict[str, Array]:
    """Named arrays, after a look at the model and its parameters.

    Raises:
        TypeError: for something else than a machine or a program.
        ValueError: for data that do not fit the model, row weights, or parameters that are not finite.
    """
    if not isinstance(model, (Energy, Program)):
        raise TypeError(f"expected a machine or a program, got {type(model).__name__}")
    if isinstance(model, Energy):
        check_single(model)
    if isinstance(data, Mapping) and WEIGHT in data:
        raise ValueError(
            f"expected test data without row weights, got {WEIGHT!r}: the errors of a weighted mean are not defined "
            "here; repeat rows, or weight the pointwise values yourself"
        )
    for name, array in {**model.params, **model.constants}.items():
        plain = model.engine.arrays.to_numpy(array)
        if bad := int((~np.isfinite(plain)).sum()):
            raise ValueError(
                f"expected finite parameters to judge, got {bad} NaN or infinite of {plain.size} in {name}"
            )
    return checked(model, data, "test data")


def _machine(model: Energy, x: Array, rng: Rng, options: BoundsOptions, *, show: bool) -> Bounds:
    first, second = model.engine.random.split(rng, 2)
    f = log_f(model, x)
    log_z = _sides_of_log_z(model, first, second, options, show=show)
    lower_z, upper_z = log_z["lower"], log_z.get("upper")
    lower, upper = _difference(f, upper_z, "lower"), _difference(f, lower_z, "upper")
    rows = f.value - float(lower_z.value)
    guess = upper
    if upper.kind == "none":
        guess = claim(rows, "estimate", f"{f.method} - {lower_z.method}", mc_se=float(lower_z.se), margin=math.nan)
    flags = [flag for z in log_z.values() for flag in z.flags]
    return found(
        lower,
        upper,
        guess,
        rows,
        lower_rows=None if upper_z is None else f.value - float(upper_z.value),
        upper_rows=rows,
        flags=(*flags, *(() if f.kind == "exact" else ("mean_field",))),
        se_log_z=float(lower_z.se),
        log_normalizer=lower_z,
    )


def _difference(f: LogF, log_z: LogNormalizer | None, side: Literal["lower", "upper"]) -> Estimate:
    """One side of mean log f less the opposite side of log Z, as far as both may be claimed."""
    opposite = {"lower": "upper", "upper": "lower"}[side]
    if side not in f.sides:
        return Estimate.missing(f"log f has no {side} side")
    if log_z is None or opposite not in log_z.sides:
        return Estimate.missing(f"log Z has no {opposite} side: exact starts or enumeration of log Z needed")
    kind: Literal["exact", "bound"] = "exact" if f.kind == log_z.kind == "exact" else "bound"
    margin = 0.0 if log_z.kind == "exact" else CERTIFIED
    method = f"{f.method} - {log_z.method}"
    return claim(f.value - float(log_z.value), kind, method, mc_se=float(log_z.se), margin=margin)


def _sides_of_log_z(
    model: Energy, first: Rng, second: Rng, options: BoundsOptions, *, show: bool
) -> Mapping[str, LogNormalizer]:
    if options.log_z == "auto" and enumerable(model, options.exact_bits):
        exact = exact_log_normalizer(model)
        return {"lower": exact, "upper": exact}
    common: dict[str, Any] = {"betas": options.betas, "num_runs": options.num_runs, "progress": show}
    sides = {"lower": ais(model, rng=first, **common)}  # where one way is degenerate, neither error is trusted
    if enumerable(model, DRAW_BITS):
        sides["upper"] = ais(model, rng=second, reverse=True, **common)
        if any(not math.isfinite(side.se) for side in sides.values()):
            flags = tuple(dict.fromkeys(flag for side in sides.values() for flag in side.flags))
            sides = {name: replace(side, se=math.nan, flags=flags) for name, side in sides.items()}
    return sides
