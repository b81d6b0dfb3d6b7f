r"""Both sides of log p(x) of a program: what its latent sites allow.

    none                 log p(x)                                            exact
    finitely many        log sum_z p(x, z)                                   exact
    of each datum        log 1/K sum_k p(x, z_k) / q(z_k | x)                lower side
    shared by all data   log 1/S sum_s p(x | theta_s),  theta_s ~ q(theta)   lower side of the predictive density

The draws theta_s are common to all data, and so is their error: with p_sn the terms above, the mean over the data of
the last line has the standard error of the mean over s of 1/N sum_n p_sn / mean_s p_sn.

References: Importance Weighted Autoencoders (Burda et al., 2016), eq. 8; Bayesian Data Analysis (Gelman et al., 2013),
eq. 7.5 (the predictive density).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from deepgen_ppl.data import Batch, num_rows, take
from deepgen_ppl.directed.program import Program
from deepgen_ppl.log_p.claims import Bounds, BoundsOptions, claim, found
from deepgen_ppl.log_p.importance import (
    ROWS,
    enumerated_log_likelihood,
    importance_log_likelihood,
    log_sum_exp,
    log_weights,
)
from deepgen_ppl.log_p.latents import Latents, States, drawn, latents_of
from deepgen_ppl.log_z.estimates import CERTIFIED, Estimate
from deepgen_ppl.progress import progress_bar
from deepgen_ppl.typing import Rng

__all__ = ["program_bounds"]

ESS_FLOOR = 10.0
"""Importance weights of a datum with fewer effective particles are low."""

LOW_SHARE = 0.05
"""Share of rows with low weights above which the standard error is withheld."""


def program_bounds(model: Program, batch: Batch, rng: Rng, options: BoundsOptions, *, show: bool) -> Bounds:
    """Both sides of mean log p(x) of a program over named arrays.

    Raises:
        ValueError: naming the site that cannot be weighed, and why.
    """
    first, second = model.engine.random.split(rng, 2)
    latents = latents_of(model, batch, first)
    if not latents.observed:
        none = Estimate.missing("the program draws and observes nothing: it has no density")
        return replace(found(none, none, none, np.full(num_rows(batch), math.nan)), flags=("no_density",))
    states = latents.states(model.engine, options.latent_bits)
    weighed = bool(latents.local) and states is None
    if weighed and latents.missing:
        raise ValueError(
            f"expected a guide that draws {list(latents.missing)}, which cannot be summed (at most "
            f"2^latent_bits = 2^{options.latent_bits:g} joint states of Bernoulli and Categorical sites can)"
        )
    if latents.shared:
        return _predictive(model, batch, second, options, latents, states, weighed=weighed, show=show)
    if weighed:
        values, variances, ess, total = importance_log_likelihood(
            model, batch, second, options.num_particles, show=show
        )
        mc_se = float(math.sqrt(variances.sum()) / len(values))
        low = bool((ess < ESS_FLOOR).mean() > LOW_SHARE) or not math.isfinite(mc_se)
        method = f"importance weighting, {total} particles"
        return _sided(values, latents, method, {"lower"}, mc_se=mc_se, margin=CERTIFIED / len(values), low=low)
    values = enumerated_log_likelihood(model, batch, second, states)
    method = "closed form" if states is None else f"sum over {states.count} latent states"
    return _sided(values, latents, method, {"lower", "upper"})


def _predictive(
    model: Program,
    batch: Batch,
    rng: Rng,
    options: BoundsOptions,
    latents: Latents,
    states: States | None,
    *,
    weighed: bool,
    show: bool,
) -> Bounds:
    """Predictive density over draws of the shared sites from the guide."""
    engine, num = model.engine, options.num_particles
    rows = take(batch, slice(0, 1))
    draw = engine.control.compile(_shared_draw)
    terms, thetas = [], []
    for key in progress_bar(engine.random.split(rng, num), "predictive", show=show):
        first, second = engine.random.split(key, 2)
        theta = {name: v for name, v in draw(model, first, rows).items() if name in latents.shared}
        thetas.append({name: engine.arrays.to_numpy(v) for name, v in theta.items()})
        if weighed:
            terms.append(log_weights(model, batch, second, 1, rows=ROWS, shared=theta)[0])
        else:
            terms.append(enumerated_log_likelihood(model, batch, second, states, theta))
    log_p = np.stack(terms)  # (S, N)
    values = log_sum_exp(log_p) - math.log(num)
    point = all(np.array_equal(theta[name], thetas[0][name]) for theta in thetas for name in latents.shared)
    mc_se, low = (0.0, False) if point and not weighed else _shared_error(log_p - values)
    method = f"predictive over {num} draws of {', '.join(latents.shared)} from the guide"
    flags = ("predictive", *(("plug_in",) if point else ()))
    return _sided(values, latents, method, {"lower"}, mc_se=mc_se, margin=CERTIFIED, low=low, flags=flags)


def _shared_draw(model: Program, rng: Rng, rows: Batch) -> dict[str, Any]:
    with model.engine.host.bound():
        return drawn(model.engine.host.run(model.guide, rows, rng=rng))


def _shared_error(log_ratio: np.ndarray) -> tuple[float, bool]:
    """Standard error of the mean over the data from log p_sn / mean_s p_sn, (S, N); and whether it is too uneven."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        ratio = np.exp(log_ratio)
        ess = ratio.sum(0) ** 2 / (ratio**2).sum(0)
        shares = ratio.mean(1)
        mc_se = float(shares.std(ddof=1) / math.sqrt(len(shares)))
    low = not math.isfinite(mc_se) or bool((ess < ESS_FLOOR).mean() > LOW_SHARE)
    return mc_se, low


def _sided(
    values: np.ndarray,
    latents: Latents,
    method: str,
    sides: set[str],
    *,
    mc_se: float = 0.0,
    margin: float = 0.0,
    low: bool = False,
    flags: tuple[str, ...] = (),
) -> Bounds:
    """Bounds from the rows, on the sides that the method and the machines inside the program both leave."""
    inside = latents.normalizers
    se = math.hypot(math.nan if low else mc_se, inside.se)
    margin = margin + inside.margin
    exact = sides == {"lower", "upper"} and inside.sides >= sides and not inside.margin
    made = {}
    for side in ("lower", "upper"):
        if side not in sides:
            made[side] = Estimate.missing("no exact posterior draws")
        elif side not in inside.sides:
            made[side] = Estimate.missing(f"log Z of a machine inside the program leaves no {side} side")
        else:
            made[side] = claim(values, "exact" if exact else "bound", method, mc_se=se, margin=margin)
    lower, upper = made["lower"], made["upper"]
    guess = next((side for side in (lower, upper) if side.kind != "none"), None)
    guess = guess or claim(values, "estimate", method, mc_se=se, margin=math.nan)
    flags = (*flags, *(("low_ess",) if low else ()), *inside.flags)
    return found(lower, upper, guess, values, lower_rows=values, upper_rows=values, flags=flags, se_log_z=inside.se)
