"""What can be weighed: the sites of a model and its guide stand at the same places, and have one scale.

What cannot is refused, by the name of the site.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from deepgen_ppl.engine import Engine
from deepgen_ppl.sites import Site, Sites

__all__ = ["check_looking", "check_sites", "equal", "one_scale", "without_path"]


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


def check_looking(engine: Engine, plate: str, p: Sites, q: Sites, names: Iterable[str]) -> None:
    """Check that sites outside the plate that look at the draws inside it count as often as these.

    Raises:
        ValueError: for one where the rows stand for more data, whose draws it cannot look at.
    """
    local = next(site.scale for site in (*p.values(), *q.values()) if site.inside(plate))
    for site in (sites[name] for name in names for sites in (p, q) if name in sites):
        known = _readable(engine, local) and _readable(engine, site.scale)
        if known and not equal(engine, site.scale, local):
            raise ValueError(
                f"expected sites outside the plate {plate!r} that look at no draw of a datum, where its rows stand for "
                f"others, got {site.name!r} of the scale {_plain(engine, site.scale)} and rows of the scale "
                f"{_plain(engine, local)}: put it inside the plate, or run on all rows at once"
            )


def without_path(objective: Any, q: Sites) -> list[str]:
    """Latent sites of the guide through whose draws no gradient flows."""
    return [name for name, site in q.items() if not site.observed and not (objective.pathwise and site.pathwise)]


def _check_scored(objective: Any, q: Sites, stuck: Mapping[str, str]) -> None:
    """Check that the objective can train these sites, which have no pathwise gradient."""
    if not objective.scores:
        raise ValueError(
            f"expected guide sites with a pathwise gradient, got {dict(stuck)}: "
            "this objective cannot train discrete or otherwise non-reparameterized sites; RLOO, VIMCO, "
            "ReweightedWakeSleep and WakeSleep train them by their score"
        )
    if outside := {name: law for name, law in stuck.items() if not q[name].inside(objective.plate)}:
        raise ValueError(
            f"expected latent sites inside the plate {objective.plate!r}, got {outside} outside it: "
            f"{type(objective).__name__} scores the draws of each datum alone"
        )


def one_scale(engine: Engine, sites: list[Site], plate: str) -> Any:
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
            if not equal(engine, first, other):
                got = {site.name: _plain(engine, site.scale) for site in sites}
                raise ValueError(f"expected one scale for all sites inside the plate {plate!r}, got {got}")
        else:
            scale = engine.xp.where(first == other, scale, float("nan"))
    return scale


def _readable(engine: Engine, scale: Any) -> bool:
    return not hasattr(scale, "shape") or engine.arrays.is_concrete(scale)


def _plain(engine: Engine, scale: Any) -> Any:
    return engine.arrays.to_numpy(scale).tolist() if hasattr(scale, "shape") else scale


def equal(engine: Engine, a: Any, b: Any) -> bool:
    """Whether two scales are known to be equal."""
    if a is b:
        return True
    if not hasattr(a, "shape") and not hasattr(b, "shape"):
        return bool(a == b)
    return (
        _readable(engine, a) and _readable(engine, b) and bool(np.all(np.equal(_plain(engine, a), _plain(engine, b))))
    )
