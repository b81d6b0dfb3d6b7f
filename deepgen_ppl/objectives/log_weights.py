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

import numpy as np

from deepgen_ppl.engine import Engine
from deepgen_ppl.sites import Site, Sites
from deepgen_ppl.typing import Array, Params, Rng

__all__ = ["LogWeights", "log_mean_over_particles", "log_weights", "others_mean", "weigh"]


@dataclass(frozen=True)
class LogWeights:
    """Log-weights of a model-guide pair.

    Attributes:
        local: shape (S, K, N), in nats, unscaled.
        global_: shape (S,), in nats.
        scale: factor of each row: shape () or (N,).
        mask: shape (N,), 0 for rows that pad a batch, or None.
        terms: what each local site adds to `local`, by its name, each (S, K, N).
        score: log q of the local draws that have no pathwise gradient, shape (S, K, N), or None where all have one.
        outside: names of the observed sites outside the data plate; they do not grow with the number of rows.
        state: the host's mutable sites after the run.
    """

    local: Array
    global_: Array
    scale: Any
    mask: Array | None = None
    terms: Mapping[str, Array] = field(default_factory=dict)
    score: Array | None = None
    outside: tuple[str, ...] = ()
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

    def one(key: Rng) -> dict[str, Any]:
        first, second = (None, None) if key is None else engine.random.split(key, 2)
        q = engine.host.run(guide, batch, rng=second, params=params, **draw, **place)
        latent = {name: site for name, site in q.items() if not site.observed}
        own = {**(params or {}), **q.state}
        p = engine.host.run(model, batch, rng=first, params=own, values=latent | q.rows, **place)
        both = (*p.values(), *q.values())
        outside.update({site.name: None for site in both if site.observed and not site.inside(objective.plate)})
        return weigh(engine, objective, p, q)

    if objective.num_global == 1:
        found = one(rng)
        state = found.pop("state")
        found = {k: {n: t[None] for n, t in v.items()} if k == "terms" else v[None] for k, v in found.items()}
    else:
        keys = [None] * objective.num_global if rng is None else engine.random.split(rng, objective.num_global)
        found = engine.control.map(one, keys)
        if state := found.pop("state"):
            raise ValueError(f"expected num_global=1 for the mutable {sorted(state)}, got {objective.num_global}")
    return LogWeights(
        local=_sum(list(found["terms"].values())),
        global_=found["global"],
        scale=found["scale"][0],
        terms=found["terms"],
        score=found.get("score"),
        outside=tuple(outside),
        state=state,
    )


def weigh(engine: Engine, objective: Any, p: Sites, q: Sites) -> dict[str, Any]:
    """terms of (K, N), global (), scale () or (N,), score (K, N), state: the weights of one global draw."""
    xp, plate = engine.xp, objective.plate
    check_sites(p, q, objective)
    closed = _closed_form(engine, p, q) if objective.analytic_kl else {}
    terms: dict[str, Any] = {}
    total: Any = 0.0
    for name in dict.fromkeys((*p, *q)):
        signed = [(sites[name], sign * sites[name].log_prob) for sites, sign in ((p, 1), (q, -1)) if name in sites]
        for site, term in [(p[name], closed[name])] if name in closed else signed:
            if site.inside(plate):
                terms[name] = terms.get(name, 0.0) + _per_datum(xp, term, site, plate)
            else:
                total = total + xp.sum(site.scale * term)
    shape = (objective.num_particles, next(t.shape[-1] for t in terms.values()))
    terms = {name: xp.broadcast_to(t, shape) for name, t in terms.items()}
    zero = xp.zeros_like(next(iter(terms.values()))[0, 0])
    scale = _one_scale(engine, [s for s in (*p.values(), *q.values()) if s.inside(plate)], plate)
    found = {"terms": terms, "global": zero + total, "scale": zero + scale, "state": {**q.state, **p.state}}
    if stuck := without_path(objective, q):
        log_q = _sum([_per_datum(xp, q[name].log_prob, q[name], plate) for name in stuck])
        found["score"] = xp.broadcast_to(log_q, shape)
    return found


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
        if all(order[other] < order[name] for other in earlier) and _equal(engine, p[name].scale, q[name].scale):
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


# -- what can be weighed -----------------------------------------------------------------------------------------------


def check_sites(p: Sites, q: Sites, objective: Any) -> None:
    """Check that the pair can be weighed.

    Raises:
        ValueError: for latent sites without a partner, no data plate, or sites that stand at different places.
    """
    plate, nesting = objective.plate, objective.max_plate_nesting
    latent = {name for name, site in p.items() if not site.observed}
    proposed = {name for name, site in q.items() if not site.observed and not site.auxiliary}
    if latent != proposed:
        raise ValueError(
            f"expected the same latent sites in model and guide, got {sorted(latent)} in the model "
            f"and {sorted(proposed)} in the guide"
        )
    sites = (*p.values(), *q.values())
    if not any(site.inside(plate) for site in p.values()):
        found = sorted({place.name for site in sites for place in site.plates})
        raise ValueError(
            f"expected the sites of each datum inside a plate named {plate!r}, got the plates {found}: "
            "name yours in the objective with plate=..."
        )
    local = [site for site in sites if site.inside(plate)]
    if wrong := sorted({at.dim for site in local for at in site.plates if at.name == plate and at.dim != -1}):
        raise ValueError(f"expected the plate {plate!r} at dim=-1, got dim={wrong[0]}")
    if (deepest := max(-at.dim for site in local for at in site.plates)) > nesting:
        raise ValueError(f"expected at most max_plate_nesting={nesting} nested plates, got {deepest}")
    _check_places(p, q, plate)
    if stuck := {name: q[name].law for name in sorted(without_path(objective, q))}:
        _check_scored(objective, q, stuck)


def _check_places(p: Sites, q: Sites, plate: str) -> None:
    """Each latent site of a datum stands in the same plates on both sides, and has one log-probability a row."""
    for name in p.keys() & q.keys():
        model, guide = p[name], q[name]
        if model.inside(plate) or guide.inside(plate):
            places = [sorted((at.name, at.dim, at.size) for at in site.plates) for site in (model, guide)]
            if places[0] != places[1]:
                where = [[f"{at.name} (dim={at.dim}, size={at.size})" for at in s.plates] for s in (model, guide)]
                raise ValueError(
                    f"expected the site {name!r} inside the same plates in model and guide, got {where[0]} in the "
                    f"model and {where[1]} in the guide: a guide that draws the sites of all data together has no "
                    "weight for each datum"
                )
    latent = {name: site for name, site in q.items() if not site.observed}
    joint = sorted(name for name, site in latent.items() if site.auxiliary and not site.inside(plate))
    masses = sorted(name for name, site in latent.items() if site.inside(plate) and site.law == "Delta")
    own = any(site.auxiliary and site.inside(plate) for site in latent.values())
    if joint and masses and not own:
        raise ValueError(
            f"expected a guide that draws {masses} for each datum, got one joint draw {joint} for all data: it has no "
            "weight for each datum; guide the sites inside the plate one by one (AutoNormal), or by a network"
        )


def without_path(objective: Any, q: Sites) -> list[str]:
    """Latent sites of the guide through whose draws no gradient flows."""
    return [name for name, site in q.items() if not site.observed and not (objective.pathwise and site.pathwise)]


def _check_scored(objective: Any, q: Sites, stuck: Mapping[str, str]) -> None:
    """Check that the objective can train these sites, which have no pathwise gradient."""
    if not objective.scores:
        raise ValueError(
            f"expected guide sites with a pathwise gradient, got {dict(stuck)}: "
            "this objective cannot train discrete or otherwise non-reparameterized sites"
        )
    if outside := {name: law for name, law in stuck.items() if not q[name].inside(objective.plate)}:
        raise ValueError(
            f"expected latent sites inside the plate {objective.plate!r}, got {outside} outside it: "
            f"{type(objective).__name__} scores the draws of each datum alone"
        )


def _one_scale(engine: Engine, sites: list[Site], plate: str) -> Any:
    """The scale of all local sites, () or (N,); NaN where scales whose values cannot be read now turn out to differ.

    Raises:
        ValueError: for scales that differ, or that are not one for each row.
    """
    scales = {id(site.scale): site.scale for site in sites}
    for scale in scales.values():
        shape = tuple(getattr(scale, "shape", ()))
        if any(n != 1 for n in shape[:-1]):
            raise ValueError(f"expected one scale for each row of the plate {plate!r}, got shape {shape}")
    first, *others = (x.reshape(-1) if len(getattr(x, "shape", ())) > 1 else x for x in scales.values())
    scale = first
    for other in others:
        if _readable(engine, first) and _readable(engine, other):
            if not _equal(engine, first, other):
                got = {site.name: _plain(engine, site.scale) for site in sites}
                raise ValueError(f"expected one scale for all sites inside the plate {plate!r}, got {got}")
        else:
            scale = engine.xp.where(first == other, scale, float("nan"))
    return scale


def _readable(engine: Engine, scale: Any) -> bool:
    return not hasattr(scale, "shape") or engine.arrays.is_concrete(scale)


def _plain(engine: Engine, scale: Any) -> Any:
    return engine.arrays.to_numpy(scale).tolist() if hasattr(scale, "shape") else scale


def _equal(engine: Engine, a: Any, b: Any) -> bool:
    """Whether two scales are known to be equal."""
    if a is b:
        return True
    return (
        _readable(engine, a) and _readable(engine, b) and bool(np.all(np.equal(_plain(engine, a), _plain(engine, b))))
    )
