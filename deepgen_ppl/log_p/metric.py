"""A metric for `Validation`: mean log p(x) of the model in training, cheap and with the same draws at every call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from deepgen_ppl.log_p.bounds import bounds
from deepgen_ppl.log_p.claims import BoundsOptions
from deepgen_ppl.options import check_options, instance, integer, one_of

__all__ = ["BoundsMetric", "bounds_metric"]

CHEAP = BoundsOptions(num_particles=100, betas=500, num_runs=100, exact_bits=16.0)
"""How hard a metric works by default: some tenths of a second for some hundred rows of small models."""


@dataclass(frozen=True)
class BoundsMetric:
    """One side of the bounds on log p(x), as a function of (model, data); see `bounds_metric`."""

    side: Literal["lower", "upper", "estimate"]
    seed: int
    options: BoundsOptions

    def __post_init__(self) -> None:
        instance(self.options, "options", BoundsOptions, "BoundsOptions(...)")
        check_options(
            self,
            side=one_of(self.side, "side", ("lower", "upper", "estimate")),
            seed=integer(self.seed, "rng, a seed that gives the same draws at every call", least=0),
        )

    def __call__(self, model: Any, data: Any) -> float:
        """The side in nats per datum.

        Raises:
            ValueError: where the model has no such side, with the reason.
        """
        found = getattr(bounds(model, data, rng=self.seed, options=self.options, progress=False), self.side)
        if found.kind == "none":
            raise ValueError(f"expected a model with a side {self.side!r} for the metric, got none: {found.reason}")
        return float(found.value)


def bounds_metric(
    side: Literal["lower", "upper", "estimate"] = "estimate", *, rng: int = 0, options: BoundsOptions | None = None
) -> BoundsMetric:
    """A metric for `Validation`: mean log p(x) over its data, in nats per datum.

    The side `estimate` is the best guess of `bounds`: exact where log Z or the latent states are enumerated, the lower
    side of other programs, and the upper side of other machines, by forward annealing. The upper side is too good where
    annealing is too short for the machine, more so the longer it is trained: raise `betas` until the values stay.
    Draws are the same at every call, so that values of one run differ by the model alone.

    >>> import numpy as np
    >>> import deepgen_ppl.numpyro as dg
    >>> x = np.eye(6, dtype="float32")
    >>> watch = dg.Validation(x, dg.bounds_metric(), patience=3)
    >>> fit = dg.fit(dg.RBM.init(6, 2, rng=0, data=x), x, epochs=2, validation=watch)
    >>> len(fit.history["validation"])  # mean log p(x), exact
    2

    Args:
        side: `lower`, `upper` or `estimate`.
        rng: seed of the draws.
        options: how hard to work; by default 100 importance samples, or 500 temperatures and 100 runs of annealing, and
            enumeration up to 2^16 joint states.

    Raises:
        ValueError: for another side, or a seed that is no integer.
        TypeError: for other options.
    """
    return BoundsMetric(side, rng, CHEAP if options is None else options)
