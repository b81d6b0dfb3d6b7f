"""What a program draws: asked of one run of its guide and its model on two rows, before any work starts.

A site inside the plate "data" belongs to a datum; a latent one outside is shared by all. What cannot be weighed datum
by datum is refused, by the name of the site.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepgen_ppl.data import Batch, num_rows, take
from deepgen_ppl.directed.program import Program
from deepgen_ppl.engine import Engine
from deepgen_ppl.log_p.inside import Normalizers, normalizers, unwrapped
from deepgen_ppl.log_p.refusals import (
    PLATE,
    Sites,
    check_guide,
    check_model,
    check_outside,
    check_rows,
    check_shared,
)
from deepgen_ppl.sites import Site
from deepgen_ppl.typing import Rng

__all__ = ["Latents", "States", "drawn", "latents_of", "per_row", "scored"]

FINITE = ("Bernoulli", "Categorical", "Spin")
"""Laws whose values are known from their shape alone."""


@dataclass(frozen=True)
class States:
    """All joint states of the latent sites of a datum.

    Attributes:
        count: their number C.
        values: values of each site, (*plates, C, *event).
        axes: the axis of the states in each.
    """

    count: int
    values: Mapping[str, Any]
    axes: Mapping[str, int]


@dataclass(frozen=True)
class Latents:
    """What a program draws.

    Attributes:
        observed: whether anything observed has a density.
        local: latent sites of each datum, as one run of two rows has them.
        shared: names of the latent sites that all data share.
        missing: local latent sites that the guide does not draw.
        normalizers: what machines inside leave to be claimed.
    """

    observed: bool
    local: Sites
    shared: tuple[str, ...]
    missing: tuple[str, ...]
    normalizers: Normalizers

    def states(self, engine: Engine, bits: float) -> States | None:
        """All joint states of the local sites; None where they are not finitely many, or more than 2^bits."""
        supports = {name: found for name, s in self.local.items() if (found := _support(s)) is not None}
        if not supports or len(supports) < len(self.local):
            return None
        axes = {name: _row_axis(site) for name, site in self.local.items()}
        shapes = {n: (*s.value.shape[: axes[n]], *s.value.shape[axes[n] + 1 :]) for n, s in self.local.items()}
        units = {name: math.prod(shape) for name, shape in shapes.items()}
        if sum(units[name] * math.log2(len(support)) for name, support in supports.items()) > bits:
            return None
        count = math.prod(len(support) ** units[name] for name, support in supports.items())
        index, values = np.arange(count), {}
        for name, support in supports.items():
            digits = []
            for _ in range(units[name]):
                digits.append(support[index % len(support)])
                index = index // len(support)
            columns = np.stack(digits, -1).reshape(count, *shapes[name])
            values[name] = engine.arrays.asarray(np.moveaxis(columns, 0, axes[name]), like=self.local[name].value)
        return States(count, values, axes)


def drawn(sites: Sites) -> dict[str, Any]:
    """Values of the latent sites of a guide that have a partner in the model."""
    return {name: s.value for name, s in sites.items() if not s.observed and not s.auxiliary}


def scored(sites: Sites) -> dict[str, Site]:
    """The sites that have a density: on Pyro a deterministic value is an observed point mass."""
    return {name: s for name, s in sites.items() if not (s.observed and s.law == "Delta")}


def per_row(xp: Any, sites: Iterable[Site]) -> Any:
    """Log-probability of the sites of each datum, (N,) in nats: summed over the plates inside the data plate."""
    total: Any = 0.0
    for site in sites:
        if site.inside(PLATE):
            log_prob = site.log_prob
            total = total + xp.sum(log_prob, axis=tuple(range(log_prob.ndim - 1)))
    return total


def latents_of(model: Program, batch: Batch, rng: Rng) -> Latents:
    """What a program draws, once it is known that it can be weighed.

    Raises:
        ValueError: naming the site that cannot be weighed, and why.
    """
    engine, last = model.engine, min(1, num_rows(batch) - 1)
    run = engine.host.run
    two, same = take(batch, np.array([0, last])), take(batch, np.array([0, 0]))
    first, second = engine.random.split(rng, 2)
    seed = engine.random.state(first)

    def guide(rows: Batch) -> dict[str, Site]:
        return run(model.guide, rows, rng=engine.random.restore(seed, like=model.like))

    with engine.host.bound():
        q, again = guide(two), guide(same)
        whole = run(model.model, two, rng=second, values=drawn(q))
        p = scored(whole)
        own = {name: s.value for name, s in p.items() if not s.observed}
        alike = {name: _first_row(engine, s) if s.inside(PLATE) else s.value for name, s in p.items() if name in own}
        alone = run(model.model, same, rng=second, values=alike)
        latent = {name: s for name, s in p.items() if not s.observed and not s.auxiliary}
        if not any(s.observed for s in p.values()):
            return Latents(False, {}, (), (), Normalizers(frozenset(), 0.0, 0.0, ()))
        check_model(p)
        check_guide(latent, q)
        if any(not s.inside(PLATE) for s in latent.values()):
            check_outside(engine.host.looking(model.model, two, whole, rng=second))
        check_rows(engine, p, alone)
        check_shared(engine, latent, q, again)
    missing = tuple(name for name, s in latent.items() if s.inside(PLATE) and name not in q)
    return Latents(
        observed=True,
        local={name: s for name, s in latent.items() if s.inside(PLATE)},
        shared=tuple(name for name, s in latent.items() if not s.inside(PLATE)),
        missing=missing,
        normalizers=normalizers(p, q),
    )


def _row_axis(site: Site) -> int:
    """The axis of the data in the value of a local site."""
    return site.value.ndim - len(site.fn.event_shape) - 1


def _first_row(engine: Engine, site: Site) -> Any:
    """The value of a local site with its first row in both places."""
    axis = _row_axis(site)
    first = site.value[(*(slice(None),) * axis, slice(0, 1))]
    return engine.xp.concat([first, first], axis=axis)


def _support(site: Site) -> np.ndarray | None:
    """The values of a site where they are finitely many."""
    fn = unwrapped(site.fn)
    if not type(fn).__name__.startswith(FINITE) or not fn.has_enumerate_support or fn.event_shape:
        return None
    return np.asarray(fn.enumerate_support(expand=False).tolist()).reshape(-1)
