"""What cannot be weighed datum by datum is refused, by the name of the site and before any work starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from deepgen_ppl.engine import Engine
from deepgen_ppl.sites import Site

__all__ = ["PLATE", "Sites", "check_guide", "check_model", "check_outside", "check_rows", "check_shared"]

PLATE = "data"
"""The plate of the data: what is inside belongs to a datum, what is outside is shared by all."""

Sites = Mapping[str, Site]


def check_model(sites: Sites) -> None:
    """Sites that are observed lie in the data plate, have a density, and are counted once."""
    for name, site in sites.items():
        if site.observed and site.law == "Unit":
            raise ValueError(f"expected observed sites with a density, got the factor {name!r}: nothing normalizes it")
        if site.observed and not site.inside(PLATE):
            raise ValueError(
                f"expected the observed site {name!r} inside a plate named {PLATE!r} at dim=-1, got the plates "
                f"{_plates(site)}: log p(x) is wanted of each datum"
            )
        if any(plate.name == PLATE and plate.dim != -1 for plate in site.plates):
            raise ValueError(f"expected the plate {PLATE!r} at dim=-1, got another around the site {name!r}")
        _check_scale(site)
        if site.inside(PLATE) and (site.log_prob.ndim < 1 or site.log_prob.shape[-1] != 2):
            raise ValueError(
                f"expected a log-probability of each datum at the site {name!r}, got the shape "
                f"{tuple(site.log_prob.shape)} for 2 rows: declare other axes with .to_event"
            )


def _check_scale(site: Site) -> None:
    if site.inside(PLATE) and (hasattr(site.scale, "shape") or site.scale != 1):
        raise ValueError(f"expected sites counted once, got the scale {site.scale} at the site {site.name!r}")


def _plates(site: Site) -> list[str]:
    return [plate.name for plate in site.plates]


def check_guide(latent: Sites, guide: Sites) -> None:
    """What the guide draws are the model's latent sites, each in the same place, with a density where it is weighed."""
    proposed = {name for name, s in guide.items() if not s.observed and not s.auxiliary}
    shared = {name for name, s in latent.items() if not s.inside(PLATE)}
    if proposed - latent.keys() or shared - proposed:
        raise ValueError(
            f"expected the same latent sites in model and guide, got {sorted(latent)} in the model and "
            f"{sorted(proposed)} in the guide"
        )
    for name in sorted(proposed):
        site = guide[name]
        if latent[name].inside(PLATE) != site.inside(PLATE):
            raise ValueError(
                f"expected the site {name!r} of the guide inside the plates {_plates(latent[name])}, as in the model, "
                f"got the plates {_plates(site)}"
            )
        if site.inside(PLATE) and site.law == "Delta":
            raise ValueError(
                f"expected a guide with a density at the site {name!r} of each datum, got a point mass (Delta): "
                "its weights bound nothing"
            )
        _check_scale(site)


def check_outside(looking: Sequence[str]) -> None:
    """What all data share does not look at the draws of each."""
    if looking:
        raise ValueError(
            f"expected sites outside the plate {PLATE!r} that look at no draw of a datum, got {list(looking)}: given "
            "them, one datum says something of another, and log p(x) of each means nothing"
        )


def check_rows(engine: Engine, two: Sites, alone: Sites) -> None:
    """The first datum has one log-probability, whichever other rows there are."""
    to_numpy = engine.arrays.to_numpy
    for name, site in two.items():
        if site.inside(PLATE):
            a, b = (to_numpy(s.log_prob)[..., 0] for s in (site, alone[name]))
            if not np.allclose(a, b, rtol=1e-4, atol=1e-4, equal_nan=True):
                raise ValueError(
                    f"expected rows that do not look at each other, got another log-probability at the site {name!r} "
                    f"of the same datum beside another row: {a.sum():.6g} and {b.sum():.6g}"
                )


def check_shared(engine: Engine, latent: Sites, guide: Sites, again: Sites) -> None:
    """Draws of shared sites are those of the training data, not of the rows at hand."""
    to_numpy = engine.arrays.to_numpy
    for name, site in latent.items():
        if not site.inside(PLATE):
            a, b = to_numpy(guide[name].value), to_numpy(again[name].value)
            if not np.array_equal(a, b):
                raise ValueError(
                    f"expected a guide whose site {name!r}, shared by all data, does not read the rows at hand, got "
                    "other draws for other rows: it would be fitted to the test data"
                )
