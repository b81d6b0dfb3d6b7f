r"""Whether one model is better than another: a one-sided test of bounds that are paired over the rows.

    d_n = lower_A(x_n) - upper_B(x_n),      claimed where    mean d - reach_A - reach_B  >  t s(d) / sqrt(N)

with t Student's quantile on N - 1 degrees of freedom at the tail probability that z has under a normal, and the reach
of a side z of its Monte Carlo standard errors, or Markov's margin where that error is withheld. Under 20 rows nothing
is claimed. Rare large losses that the rows at hand may lack make such a test claim too much: differences with a long
lower tail are flagged `heavy_tails`.

Reference: Handbook of Mathematical Functions (Abramowitz & Stegun, 1964), eq. 26.7.5 (the quantile).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from deepgen_ppl.log_p.claims import Bounds
from deepgen_ppl.log_z.estimates import RUNS_FOR_ERROR, Estimate
from deepgen_ppl.options import real

__all__ = ["MIN_ROWS", "Difference", "difference", "student_quantile"]

MIN_ROWS = 20
"""No difference is claimed over fewer rows."""

LONG_TAIL = -1.0
"""Skewness of the differences below which they are flagged; normal ones fall below it once in 50 sets of 20 rows."""


@dataclass(frozen=True)
class Difference:
    """What speaks for one model against another, in nats per datum.

    Attributes:
        mean: mean over the rows of the one's lower side less the other's upper side; NaN where either is missing.
        needed: what the mean must exceed: both reaches and Student's quantile of the scatter over the rows.
        withheld: why nothing is claimed; empty where the one is better than the other.
        heavy_tails: whether rare large losses make the claim doubtful.
        se: standard error of the mean over the rows; NaN where the mean is, or of one row.
        advice: what would help most where the one is ahead and nothing is claimed.
    """

    mean: float
    needed: float
    withheld: str
    heavy_tails: bool = False
    se: float = math.nan
    advice: str = ""

    @property
    def claimed(self) -> bool:
        """Whether the one is better than the other."""
        return not self.withheld


def student_quantile(z: float, dof: int) -> float:
    """Student's t with the tail probability that z has under a standard normal; to 1e-3 from 19 degrees of freedom."""
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / dof**power for power, term in enumerate(terms, 1))


def difference(names: tuple[str, str], a: Bounds, b: Bounds, z: float = 3.0) -> Difference:
    """Lower side of model a less upper side of model b over the same rows; `names` are theirs."""
    first, second = names
    z = real(z, "z", low=0, open_low=True)
    lower, upper = a.lower_pointwise, b.upper_pointwise
    if lower is None:
        return Difference(math.nan, math.nan, f"{first} has no lower side ({a.lower.reason})")
    if upper is None:
        return Difference(math.nan, math.nan, f"{second} has no upper side ({b.upper.reason})")
    d = lower - upper
    rows, mean = len(d), float(d.mean())
    se = float(d.std(ddof=1)) / math.sqrt(rows) if rows > 1 else math.nan
    if rows < MIN_ROWS:
        return Difference(mean, math.nan, f"{rows} rows, at least {MIN_ROWS} needed", se=se)
    parts = {
        f"scatter over {rows} rows": student_quantile(z, rows - 1) * se,
        _named(a.lower, first, z): a.lower.reach(z),
        _named(b.upper, second, z): b.upper.reach(z),
        "rounding": float(np.finfo(np.float32).eps * max(np.abs(lower).max(), np.abs(upper).max())),
    }
    needed = sum(parts.values())
    if mean > needed:
        return Difference(mean, needed, "", bool(_skewness(d) < LONG_TAIL), se)
    if mean <= 0:
        return Difference(mean, needed, "its lower side lies below the other's upper side", se=se)
    said = ", ".join(f"{name} {value:.2f} nats" for name, value in parts.items() if not value < 0.005)
    advice = ("more rows", _advice(a, a.lower), _advice(b, b.upper), "")[int(np.argmax(list(parts.values())))]
    return Difference(mean, needed, f"ahead by {mean:.2f} nats, less {said or 'rounding'}", se=se, advice=advice)


def _advice(e: Bounds, side: Estimate) -> str:
    """What makes the reach of a side shorter: by which of its errors is the largest, or withheld."""
    if e.log_normalizer is not None:
        log_w = e.log_normalizer.log_weights
        if side.withheld and log_w is not None and len(log_w) < RUNS_FOR_ERROR:
            return f"at least {RUNS_FOR_ERROR} runs (num_runs)"
        return "more temperatures (betas)" if side.withheld else "more temperatures (betas) or runs (num_runs)"
    if math.isnan(e.se_log_z) or e.se_log_z > side.mc_se / math.sqrt(2):
        return "more temperatures and runs of the AIS behind its log Z"
    return "a better guide, or more particles (num_particles)" if side.withheld else "more particles (num_particles)"


def _named(side: Estimate, name: str, z: float) -> str:
    """What the reach of a side is."""
    return f"Markov's margin of {name}" if side.withheld else f"{z:g} s.e. of {name}"


def _skewness(d: np.ndarray) -> float:
    c = d - d.mean()
    variance = float((c**2).mean())
    return float((c**3).mean()) / variance**1.5 if variance > 0 else 0.0
