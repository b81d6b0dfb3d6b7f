r"""Log-weights: what every multi-sample objective of a model-guide pair is a function of.

    local[s, k, n] = sum over the sites of datum n of log p - log q, at global particle s and local particle k
    global_[s]     = sum over the sites outside the data plate of log p - log q
    L = mean_s [ sum_n scale_n log mean_k exp(local[s, k, n]) + global_[s] ]       (for IWAE)

One draw of the global sites is shared by all K; the scale of a subsampled plate stays outside the logarithm. Factors
and auxiliary sites of the guide count in log q.

Reference: Importance Weighted Autoencoders (Burda et al., 2016), eq. 8.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from deepgen_ppl.engine import Engine
from deepgen_ppl.objectives.weighable import check_looking, check_sites, equal, one_scale, without_path
from deepgen_ppl.sites import Site, Sites
from deepgen_ppl.typing import Array, Params, Rng

__all__ = ["LogWeights", "log_mean_over_particles", "log_weights", "others_mean", "weigh"]


@dataclass(frozen=True)
class LogWeights:
    """Log-weights of a model-guide pair.

    Attributes:
        local: shape (S, K, N), in nats, unscaled.
        global_: shape (S,), in nats.
        scale: factor of each row: a number, or shape () or (N,).
        mask: shape (N,), 0 for rows that pad a batch, or None.
        terms: what each local site adds to `local`, by its name, each (S, K, N).
        score: log q of the local draws that have no pathwise gradient, shape (S, K, N), or None where all have one.
        outside: names of the observed sites outside the data plate; they do not grow with the number of rows.
        looking: names of the sites outside the data plate that look at the draws inside it; they do not either.
        state: the host's mutable sites after the run.
    """

    local: Array
    global_: Array
    scale: Any
    mask: Array | None = None
    terms: Mapping[str, Array] = field(default_factory=dict)
    score: Array | None = None
    outside: tuple[str, ...] = ()
    looking: tuple[str, ...] = ()
    state: Mapping[str, Any] = field(default_factory=dict)


def log_weights(
    engine: Engine,
    objective: Any,
    rng: Rng,
    model: Callable,
    guide: Callable,
    batch: Mapping[str, Any],
    params: Params | None = None,
    args: tuple = (),
) -> LogWeights:
    """Run guide and model, and weigh the draws.

    Args:
        engine: the engine.
        objective: the `ProgramObjective`, whose options say how the pair is run.
        rng: generator; on Pyro None stands for the host's own.
        model: the model, called with `*args, **batch`.
        guide: the guide, called alike.
        batch: named data.
        params: these stand in for the host parameters of their names.
        args: data by position.

    Raises:
        ValueError: for a pair that cannot be weighed, by the name of the site.
    """
    place = {"plate": objective.plate, "nesting": objective.max_plate_nesting, "args": args}
    draw = {"particles": objective.num_particles, "pathwise": objective.pathwise}
    outside: dict[str, None] = {}
    looking: dict[str, None] = {}

    def one(rng: Rng) -> dict[str, Any]:
        first, second = (None, None) if rng is None else engine.random.split(rng, 2)
        q = engine.host.run(guide, batch, rng=second, params=params, **draw, **place)
        latent = {name: site for name, site in q.items() if not site.observed}
        own = {**(params or {}), **q.state}
        p = engine.host.run(model, batch, rng=first, params=own, values=latent | q.rows, **place)
        both = (*p.values(), *q.values())
        outside.update({site.name: None for site in both if site.observed and not site.inside(objective.plate)})
        weights = weigh(engine, objective, p, q)
        if objective.num_particles == 1:  # several particles have told by themselves
            for half, sites, key in ((guide, q, second), (model, p, first)):
                looking.update(_looking(engine, half, batch, sites, rng=key, params=own, **place))
            check_looking(engine, objective.plate, p, q, looking)
        return weights

    if objective.num_global == 1:
        found = one(rng)
        state, scale = found.pop("state"), found.pop("scale")
        found = {k: {n: t[None] for n, t in v.items()} if k == "terms" else v[None] for k, v in found.items()}
    else:

        def each(rng: Rng) -> dict[str, Any]:
            found = one(rng)
            return {**found, "scale": engine.xp.zeros_like(found["global"]) + found["scale"]}

        keys = [None] * objective.num_global if rng is None else engine.random.split(rng, objective.num_global)
        found = engine.control.map(each, keys)
        scale = found["scale"][0]
        if state := found.pop("state"):
            raise ValueError(f"expected num_global=1 for the mutable {sorted(state)}, got {objective.num_global}")
    return LogWeights(
        local=_sum(list(found["terms"].values())),
        global_=found["global"],
        scale=scale,
        terms=found["terms"],
        score=found.get("score"),
        outside=tuple(outside),
        looking=tuple(looking),
        state=state,
    )


def _looking(
    engine: Engine, program: Callable, batch: Mapping[str, Any], sites: Sites, *, plate: str, **run: Any
) -> dict[str, None]:
    """Names of the sites outside the plate that look at draws inside it, asked only where there are both."""
    inside = [site for site in sites.values() if site.inside(plate)]
    if len(inside) == len(sites) or all(site.observed for site in inside):
        return {}
    return dict.fromkeys(engine.host.looking(program, batch, sites, plate=plate, **run))


def weigh(engine: Engine, objective: Any, p: Sites, q: Sites) -> dict[str, Any]:
    """terms of (K, N), global (), scale (a number, () or (N,)), score (K, N), state: the weights of one global draw."""
    xp, plate = engine.xp, objective.plate
    check_sites(p, q, objective)
    closed = _closed_form(engine, p, q) if objective.analytic_kl else {}
    terms: dict[str, Any] = {}
    total: Any = 0.0
    for name in dict.fromkeys((*p, *q)):
        both = [(sites[name], sites[name].log_prob, sites is p) for sites in (p, q) if name in sites]
        for site, term, ours in [(p[name], closed[name], True)] if name in closed else both:
            if site.inside(plate):
                terms[name] = _added(terms.get(name), _per_datum(xp, term, site, plate), plus=ours)
            else:
                total = _added(total, xp.sum(site.scale * term), plus=ours)
    shape = (objective.num_particles, next(t.shape[-1] for t in terms.values()))
    terms = {name: t if tuple(t.shape) == shape else xp.broadcast_to(t, shape) for name, t in terms.items()}
    zero = xp.zeros_like(next(iter(terms.values()))[0, 0])
    scale = one_scale(engine, [s for s in (*p.values(), *q.values()) if s.inside(plate)], plate)
    found = {"terms": terms, "global": zero + total, "scale": scale, "state": {**q.state, **p.state}}
    if stuck := without_path(objective, q):
        log_q = _sum([_per_datum(xp, q[name].log_prob, q[name], plate) for name in stuck])
        found["score"] = xp.broadcast_to(log_q, shape)
    return found


def _added(total: Any, term: Array, *, plus: bool) -> Array:
    """total + term or total - term, where no total counts as zero."""
    if total is None:
        return term if plus else -term
    return total + term if plus else total - term


def _sum(terms: list[Array]) -> Array:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _per_datum(xp: Any, x: Array, site: Site, plate: str) -> Array:
    """Sum over all axes but those of particles and rows: (K, .., N) -> (K, N), (.., N) -> (1, N)."""
    rows = next(at.size for at in site.plates if at.name == plate)
    if tuple(x.shape[-1:]) != (rows,):
        raise ValueError(f"expected {rows} log-probabilities, one a row, at {site.name!r}, got shape {tuple(x.shape)}")
    x = x if site.particles else x[None]
    return xp.sum(x, axis=tuple(range(1, len(x.shape) - 1))) if len(x.shape) > 2 else x


def _closed_form(engine: Engine, p: Sites, q: Sites) -> dict[str, Array]:
    """-KL(q || p) of the latent sites where the host knows it and it is the expected log p - log q.

    It is where the guide draws the parents of z in the model before z, not from it. The parents are among the latent
    sites that the model draws before z.
    """
    order = {name: i for i, name in enumerate(q)}
    found: dict[str, Array] = {}
    earlier: list[str] = []
    for name in (name for name, site in p.items() if not site.observed):
        if all(order[other] < order[name] for other in earlier) and equal(engine, p[name].scale, q[name].scale):
            with contextlib.suppress(NotImplementedError):
                found[name] = -engine.host.divergence(q[name], p[name])
        earlier.append(name)
    return found


def log_mean_over_particles(engine: Any, local: Array) -> Array:
    """log mean_k exp(local), shape (S, N)."""
    return engine.special.logsumexp(local, 1) - math.log(local.shape[1])


def others_mean(engine: Engine, local: Array) -> Array:
    """Mean of the other particles' log-weights, shape (S, K, N)."""
    return (engine.xp.sum(local, axis=1, keepdims=True) - local) / (local.shape[1] - 1)
