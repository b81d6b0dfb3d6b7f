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

__all__ = ["LogWeights", "Site", "Weighing", "assemble"]


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
class Weighing:
    """How a model-guide pair is run and weighed.

    Args:
        num_local: number K of draws of the local sites for each draw of the global ones.
        num_global: number S of draws of the global sites.
        plate: name of the data plate.
        nesting: number of plates' axes, the data plate's included; the K axis is left of them.
        analytic_kl: whether -KL(q || p) replaces log p - log q at sites where the host knows it.
        pathwise: whether the weights are to be differentiated through the guide's draws.
    """

    num_local: int = 1
    num_global: int = 1
    plate: str = "data"
    nesting: int = 1
    analytic_kl: bool = False
    pathwise: bool = False


@dataclass(frozen=True)
class Site:
    """A sample site of a host's trace; `plates` are (name, dim)."""

    name: str
    fn: Distribution
    value: Array
    observed: bool
    scale: Any
    plates: tuple[tuple[str, int], ...]

    def inside(self, plate: str) -> bool:
        """Whether the site is inside the plate of this name."""
        return any(name == plate for name, _ in self.plates)

    @property
    def law(self) -> str:
        """Name of the distribution that the user wrote."""
        fn = self.fn
        while (base := getattr(fn, "base_dist", None)) is not None:
            fn = base
        return type(fn).__name__


def check_sites(model: Mapping[str, Site], guide: Mapping[str, Site], plate: str, nesting: int) -> None:
    """Check that the pair can be weighed.

    Raises:
        ValueError: for latent sites without a partner, no data plate, plates at other places, or scales that differ.
    """
    latent = {name for name, site in model.items() if not site.observed}
    proposed = {name for name, site in guide.items() if not site.observed}
    if latent != proposed:
        raise ValueError(
            f"expected the same latent sites in model and guide, got {sorted(latent)} in the model "
            f"and {sorted(proposed)} in the guide"
        )
    sites = (*model.values(), *guide.values())
    if not any(site.inside(plate) for site in model.values()):
        found = sorted({name for site in sites for name, _ in site.plates})
        raise ValueError(
            f"expected the sites of each datum inside a plate named {plate!r}, got the plates {found}: "
            "name yours in the objective with plate=..."
        )
    local = [site for site in sites if site.inside(plate)]
    if wrong := sorted({dim for site in local for name, dim in site.plates if name == plate and dim != -1}):
        raise ValueError(f"expected the plate {plate!r} at dim=-1, got dim={wrong[0]}")
    if (deepest := max(-dim for site in local for _, dim in site.plates)) > nesting:
        raise ValueError(f"expected at most max_plate_nesting={nesting} nested plates, got {deepest}")
    if len({id(s.scale) if hasattr(s.scale, "shape") else s.scale for s in local}) > 1:
        got = {s.name: s.scale for s in local}
        raise ValueError(f"expected one scale for all sites inside the plate {plate!r}, got {got}")


def check_pathwise(guide: Mapping[str, Site]) -> None:
    """Check that every latent site of the guide has a pathwise gradient.

    Raises:
        ValueError: naming the sites that have none.
    """
    stuck = {name: s.law for name, s in sorted(guide.items()) if not s.observed and not s.fn.has_rsample}
    if stuck:
        raise ValueError(
            f"expected guide sites with a pathwise gradient, got {stuck}: "
            "this objective cannot train discrete or otherwise non-reparameterized sites"
        )


def assemble(
    xp: Any,
    model: Mapping[str, Site],
    guide: Mapping[str, Site],
    how: Weighing,
    kl_divergence: Callable,
) -> tuple[Array, Array, Any]:
    """(local (K, N), global (), scale) from the sites of one run of guide and model.

    Args:
        xp: array namespace.
        model: the model's sites, latent ones replayed from the guide.
        guide: the guide's sites.
        how: options.
        kl_divergence: the host's `(q, p)` -> KL(q || p), which raises `NotImplementedError` where it knows none.
    """
    check_sites(model, guide, how.plate, how.nesting)
    if how.pathwise:
        check_pathwise(guide)
    scale = next(site.scale for site in model.values() if site.inside(how.plate))
    local: Any = 0.0
    global_: Any = 0.0
    for name, site in model.items():
        term = _log_ratio(site, guide.get(name), kl_divergence if how.analytic_kl else None)
        if site.inside(how.plate):
            local = local + _per_datum(xp, term, how.nesting)
        else:
            global_ = global_ + site.scale * xp.sum(term)
    return xp.broadcast_to(local, (how.num_local, local.shape[-1])), global_, scale


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
