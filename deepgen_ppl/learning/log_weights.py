r"""Log-weights: what every multi-sample objective of a model-guide pair is a function of.

    local[s, k, n] = sum over the sites of datum n of log p - log q, at global particle s and local particle k
    global_[s]     = sum over the global sites of log p - log q
    L = mean_s [ scale * sum_n log mean_k exp(local[s, k, n]) + global_[s] ]       (for IWAE)

One draw of the global sites is shared by all K; the scale of a subsampled plate stays outside the logarithm.

Reference: Importance Weighted Autoencoders (Burda et al., 2016), eq. 8.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from deepgen_ppl.typing import Array, Distribution

__all__ = ["LogWeights", "Site", "assemble"]


@dataclass(frozen=True)
class LogWeights:
    """Log-weights of a model-guide pair.

    Attributes:
        local: shape (S, K, N), in nats, unscaled.
        global_: shape (S,), in nats.
        scale: factor of the local sum (number of data over rows of the batch).
        mask: shape (N,), 0 for rows that pad a batch, or None.
    """

    local: Array
    global_: Array
    scale: float
    mask: Array | None = None


@dataclass(frozen=True)
class Site:
    """A sample site of a host's trace."""

    name: str
    fn: Distribution
    value: Array
    observed: bool
    scale: float
    plates: tuple[str, ...]


def check_sites(model: Mapping[str, Site], guide: Mapping[str, Site], plate: str, *, pathwise: bool) -> None:
    """Check that the pair can be weighed and trained.

    Raises:
        ValueError: for latent sites without a partner, no data plate, or discrete guide sites with pathwise=True.
    """
    latent = {name for name, site in model.items() if not site.observed}
    proposed = {name for name, site in guide.items() if not site.observed}
    if latent != proposed:
        raise ValueError(
            f"expected the same latent sites in model and guide, got {sorted(latent)} in the model "
            f"and {sorted(proposed)} in the guide"
        )
    if not any(plate in site.plates for site in model.values()):
        found = sorted({name for site in model.values() for name in site.plates})
        raise ValueError(
            f"expected the sites of each datum inside a plate named {plate!r}, got the plates {found}: "
            "name yours in the objective with plate=..."
        )
    if pathwise and (stuck := [name for name in proposed if not guide[name].fn.has_rsample]):
        kinds = {name: type(guide[name].fn).__name__ for name in sorted(stuck)}
        raise ValueError(
            f"expected guide sites with a pathwise gradient, got {kinds}: "
            "this objective cannot train discrete or otherwise non-reparametrised sites"
        )


def assemble(
    xp: Any,
    model: Mapping[str, Site],
    guide: Mapping[str, Site],
    *,
    num_local: int,
    plate: str,
    nesting: int,
    kl: Callable | None,
    pathwise: bool,
) -> tuple[Array, Array, Any]:
    """(local (K, N), global (), scale) from the sites of one run of guide and model.

    Args:
        xp: array namespace.
        model: the model's sites, latent ones replayed from the guide.
        guide: the guide's sites.
        num_local: K.
        plate: name of the data plate.
        nesting: number of plates' axes, the data plate's included; the K axis is left of them.
        kl: `kl_divergence(q, p)` to use in place of log q - log p where the host knows it, or None.
        pathwise: whether the weights are to be differentiated through the guide's draws.
    """
    check_sites(model, guide, plate, pathwise=pathwise)
    scales = [site.scale for site in (*model.values(), *guide.values()) if plate in site.plates]
    local: Any = 0.0
    global_: Any = 0.0
    for name, site in model.items():
        term = _log_ratio(site, guide.get(name), kl)
        if plate in site.plates:
            local = local + _per_datum(xp, term, nesting)
        else:
            global_ = global_ + site.scale * xp.sum(xp.asarray(term))
    return xp.broadcast_to(local, (num_local, local.shape[-1])), global_, scales[0]


def _log_ratio(p: Site, q: Site | None, kl: Callable | None) -> Array:
    if p.observed or q is None:
        return p.fn.log_prob(p.value)
    if kl is not None:
        try:
            return -kl(q.fn, p.fn)
        except NotImplementedError:
            pass
    return p.fn.log_prob(p.value) - q.fn.log_prob(q.value)


def _per_datum(xp: Any, term: Array, nesting: int) -> Array:
    """Sum over plates inside the data plate: (K, .., N) -> (K, N)."""
    term = xp.reshape(term, (1,) * (nesting + 1 - len(term.shape)) + tuple(term.shape))
    return xp.sum(term, axis=tuple(range(1, nesting))) if nesting > 1 else term


def log_mean_over_particles(engine: Any, local: Array) -> Array:
    """log mean_k exp(local), shape (S, N)."""
    return engine.special.logsumexp(local, 1) - math.log(local.shape[1])
