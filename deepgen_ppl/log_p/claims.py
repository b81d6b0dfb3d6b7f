"""What is claimed of mean log p(x): both sides with their rows, and how hard to work for them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from deepgen_ppl.log_z.estimates import Estimate, Kind, LogNormalizer
from deepgen_ppl.log_z.schedules import check_betas
from deepgen_ppl.options import check_options, integer, one_of, real

__all__ = ["Bounds", "BoundsOptions", "claim", "found"]


@dataclass(frozen=True)
class BoundsOptions:
    """How hard to work.

    Args:
        num_particles: importance samples for each datum of a directed model, or draws of its global sites.
        betas: AIS temperatures: a number, or an array from 0 to 1.
        num_runs: AIS runs.
        log_z: `auto` enumerates where the smaller side has at most `exact_bits` bits; `ais` never enumerates log Z.
        exact_bits: see `log_z`.
        latent_bits: the latent states of a datum are summed where they are at most 2^`latent_bits` (14 at most).

    Raises:
        ValueError: for options out of range, or temperatures that do not go from 0 to 1.
    """

    num_particles: int = 1000
    betas: int | Any = 2000
    num_runs: int = 200
    log_z: Literal["auto", "ais"] = "auto"
    exact_bits: float = 20.0
    latent_bits: float = 10.0

    def __post_init__(self) -> None:
        betas = self.betas
        check_options(
            self,
            num_particles=integer(self.num_particles, "num_particles", least=2),
            betas=integer(betas, "betas", least=2) if np.isscalar(betas) or betas is None else check_betas(betas),
            num_runs=integer(self.num_runs, "num_runs", least=2),
            log_z=one_of(self.log_z, "log_z", ("auto", "ais")),
            exact_bits=real(self.exact_bits, "exact_bits", low=0),
            latent_bits=real(self.latent_bits, "latent_bits", low=0, high=14),
        )


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
        flags: what should make one careful: codes, explained in `deepgen_ppl.log_z.estimates.FLAGS`.
        log_normalizer: log Z behind the upper side, or None.
        lower_pointwise: the lower side for each datum, shape (N,); None where there is none.
        upper_pointwise: the upper side for each datum, shape (N,); None where there is none.
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
    lower_pointwise: np.ndarray | None = None
    upper_pointwise: np.ndarray | None = None

    def __repr__(self) -> str:
        error = "" if math.isnan(self.se_data) else f", s.e. over data {self.se_data:.2g}"
        rows = f"mean over {len(self.pointwise)} rows in nats{error}, {self.seconds:.1f} s"
        flags = f", flags {list(self.flags)}" if self.flags else ""
        sides = {"lower": self.lower, "upper": self.upper}
        if self.lower.kind == self.upper.kind == "none":
            sides["estimate"] = self.estimate
        return f"Bounds({rows}{flags};" + "".join(f"\n  {name} {side}" for name, side in sides.items()) + ")"

    def interval(self, z: float = 3.0) -> tuple[float, float]:
        """Lower and upper side, each moved out by z of its Monte Carlo standard errors; NaN where none is claimed.

        Where a standard error is withheld, the side is moved out as far as Markov's inequality asks.
        """
        z = real(z, "z", low=0)
        return self.lower.value - self.lower.reach(z), self.upper.value + self.upper.reach(z)

    def shifted(self, nats: float) -> Bounds:
        """The bounds with every log p(x) moved by a number that is known exactly: a change of the units of x.

        log p(x) = log p(z) + log |dz / dx|: bounds of a model of standardized rows z, moved by the `log_jacobian` of
        `datasets.standardize`, are in the units of x. Kinds, errors and flags stay; so does `log_normalizer`, which is
        that of the model.

        Args:
            nats: what to add, in nats per datum.

        Raises:
            ValueError: for something else than a finite number.
        """
        nats = real(nats, "nats")
        lower, upper, estimate = (replace(e, value=e.value + nats) for e in (self.lower, self.upper, self.estimate))
        rows = (self.pointwise, self.lower_pointwise, self.upper_pointwise)
        pointwise, lower_rows, upper_rows = (None if x is None else x + nats for x in rows)
        assert pointwise is not None
        return replace(
            self,
            lower=lower,
            upper=upper,
            estimate=estimate,
            pointwise=pointwise,
            lower_pointwise=lower_rows,
            upper_pointwise=upper_rows,
        )


def claim(rows: np.ndarray, kind: Kind, method: str, *, mc_se: float = 0.0, margin: float = 0.0) -> Estimate:
    """The mean of rows, shape (N,), as a side; nothing where it is not finite."""
    if bad := int((~np.isfinite(rows)).sum()):
        return Estimate.missing(f"log p(x) is infinite or NaN at {bad} of {len(rows)} rows")
    return Estimate(float(rows.mean(dtype=float)), mc_se, kind, method, margin)


def found(
    lower: Estimate,
    upper: Estimate,
    guess: Estimate,
    rows: np.ndarray,
    *,
    lower_rows: np.ndarray | None = None,
    upper_rows: np.ndarray | None = None,
    flags: Sequence[str] = (),
    se_log_z: float = 0.0,
    log_normalizer: LogNormalizer | None = None,
) -> Bounds:
    """`Bounds` from its sides and the rows behind them, which are kept where the side is claimed."""
    finite = bool(np.isfinite(rows).all())
    se_data = float(rows.std(ddof=1) / math.sqrt(len(rows))) if finite and len(rows) > 1 else math.nan
    flags = (*flags, *(() if finite else ("not_finite",)))
    return Bounds(
        lower,
        upper,
        guess,
        se_data,
        se_log_z,
        rows,
        0.0,
        tuple(dict.fromkeys(flags)),
        log_normalizer,
        None if lower.kind == "none" else lower_rows,
        None if upper.kind == "none" else upper_rows,
    )
