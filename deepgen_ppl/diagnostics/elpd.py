"""Held-out log scores as ArviZ `ELPDData`, so that `az.compare` gives differences, their errors and stacking weights.

ArviZ makes these objects from draws over parameters; a model fitted to a point has none. Here they are built by hand
from log p(x) of held-out data, and labeled so. Only models whose log p(x) is exact, or bounded below, are taken: upper
sides and estimates would win by being wrong.
"""

from __future__ import annotations

import importlib
import math
import warnings
from typing import Any

import numpy as np

from deepgen_ppl.log_p.compare import Comparison
from deepgen_ppl.options import instance

__all__ = ["to_elpd"]


def to_elpd(comparison: Comparison) -> dict[str, Any]:
    """Model name -> `ELPDData` for `az.compare(..., method="stacking")`.

    Fit stacking weights on validation data and report on test data. ArviZ 0.x heads these scores `elpd_loo` and
    `p_loo` whatever they are: they are held-out scores, nothing was left out of a fit, and p is zero.

    Args:
        comparison: what `compare` returned.

    Warns:
        UserWarning: with the models that are left out, since they have no lower side, and why.

    Raises:
        ImportError: without ArviZ.
        TypeError: for something else than a comparison.
        ValueError: if no model has a lower side.

    Example:
        >>> import numpy as np
        >>> import deepgen_ppl.pyro as dg  # on NumPyro the same
        >>> x = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
        >>> models = {f"ppca{d}": dg.PPCA.maximum_likelihood(x, latent=d) for d in (1, 2)}
        >>> table = dg.compare(models, x, rng=0)
        >>> sorted(dg.to_elpd(table))
        ['ppca1', 'ppca2']
    """
    instance(comparison, "the scores", Comparison, "a Comparison, which compare(...) returns,")
    scores = {name: e.lower_pointwise for name, e in comparison.bounds.items() if e.lower_pointwise is not None}
    if not scores:
        raise ValueError(f"expected a model with a lower side of log p(x), got none among {list(comparison.bounds)}")
    left = [f"{name} ({e.lower.reason})" for name, e in comparison.bounds.items() if name not in scores]
    if left:
        warnings.warn(f"models without a lower side of log p(x) are left out: {', '.join(left)}", stacklevel=2)
    try:
        az = importlib.import_module("arviz")
    except ImportError as error:
        raise ImportError("expected ArviZ for elpd objects: pip install 'deepgen-ppl[arviz]'") from error
    make = _datatree_line if int(az.__version__.split(".")[0]) >= 1 else _inference_data_line
    return {name: make(np.asarray(score, float)) for name, score in scores.items()}


def _pointwise(score: np.ndarray) -> Any:
    return importlib.import_module("xarray").DataArray(score, dims=["datum"], name="held_out_log_score")


def _summary(score: np.ndarray) -> tuple[float, float]:
    """Sum and its standard error."""
    return float(score.sum()), float(math.sqrt(len(score) * score.var()))


def _inference_data_line(score: np.ndarray) -> Any:
    """ArviZ 0.x."""
    cls = importlib.import_module("arviz.stats.stats_utils").ELPDData
    total, se = _summary(score)
    values = {
        "elpd_loo": total, "se": se, "p_loo": 0.0, "n_samples": 1, "n_data_points": len(score), "warning": False,
        "loo_i": _pointwise(score), "scale": "log", "method": "held-out",
    }  # fmt: skip
    return cls(data=list(values.values()), index=list(values))


def _datatree_line(score: np.ndarray) -> Any:
    """ArviZ 1.x."""
    cls = importlib.import_module("arviz_stats.utils").ELPDDataLOO
    total, se = _summary(score)
    counts = {"n_samples": 1, "n_data_points": len(score)}
    return cls(elpd=total, se=se, p=0.0, scale="log", warning=False, good_k=0.7, elpd_i=_pointwise(score), **counts)
