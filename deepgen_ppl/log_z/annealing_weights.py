r"""From the weights of annealing runs to an estimate of log Z, with the side on which it lies.

    log Z_a + log mean w            forward:  E[w] = Z / Z_a, a lower side
    log Z_a - log mean w_reverse    from exact draws:  E[w_reverse] = Z_a / Z, an upper side

Reference: Annealed Importance Sampling (Neal, 2001), eq. 11; Measuring the Reliability of MCMC Inference with
Bidirectional Monte Carlo (Grosse et al., 2016), section 3.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from deepgen_ppl.energies.energy import Energy
from deepgen_ppl.log_z.estimates import RUNS_FOR_ERROR, LogNormalizer, log_mean_exp, snapshot
from deepgen_ppl.typing import Array

__all__ = ["forward_estimate", "reverse_estimate", "warn_of_few_runs"]


def warn_of_few_runs(num_runs: int) -> None:
    """Say that the standard error will be withheld, where it will be."""
    if num_runs < RUNS_FOR_ERROR:
        warnings.warn(
            f"expected num_runs of at least {RUNS_FOR_ERROR} for a standard error of log Z, got {num_runs}: "
            "it will be withheld",
            stacklevel=3,
        )


def _flags(se: Any) -> tuple[str, ...]:
    return () if np.isfinite(se).all() else ("weights_degenerate",)


def forward_estimate(
    energy: Energy, log_z_start: Any, log_w: np.ndarray, method: str, position: dict[str, Array]
) -> LogNormalizer:
    """log Z_a + log mean w, with the weighted particles.

    Args:
        energy: what was annealed to.
        log_z_start: log Z_a.
        log_w: log-weights of the runs, shape (R, ...).
        method: how they were made.
        position: where the runs ended.
    """
    value, se, _ = log_mean_exp(log_w)
    w = np.exp(log_w - log_w.max(axis=0))
    return LogNormalizer(
        log_z_start + value,
        se,
        "bound",
        "lower",
        method,
        belongs_to=snapshot(energy),
        particles=position,
        weights=energy.engine.arrays.asarray(w / w.sum(axis=0), like=energy.like),
        log_weights=log_z_start + log_w,
        flags=_flags(se),
    )


def reverse_estimate(energy: Energy, log_z_start: Any, log_w: np.ndarray, method: str, *, exact: bool) -> LogNormalizer:
    """log Z_a - log mean w_reverse; without a side where the runs did not start at exact draws."""
    value, se, _ = log_mean_exp(log_w)
    return LogNormalizer(
        log_z_start - value,
        se,
        "bound" if exact else "estimate",
        "upper" if exact else "none",
        method,
        belongs_to=snapshot(energy),
        log_weights=log_z_start - log_w,
        flags=(() if exact else ("inexact_start",)) + _flags(se),
    )
