"""Sites outside the data plate that look at the draws of each datum, found by running a program on other draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from deepgen_ppl.hosts.on_pyro.distribution import seeded
from deepgen_ppl.hosts.on_pyro.run import Record, alike, remembered, site_of, traced
from deepgen_ppl.hosts.threads import one_at_a_time
from deepgen_ppl.sites import Sites

__all__ = ["looking"]

SEED = 7_182_818_284
"""Seed of the other draws."""


@one_at_a_time
def looking(
    program: Callable,
    batch: Mapping[str, Any],
    sites: Sites,
    *,
    rng: torch.Generator | None = None,
    params: Mapping[str, Any] | None = None,
    plate: str = "data",
    nesting: int = 1,
    args: tuple = (),
) -> tuple[str, ...]:
    """Sites outside the plate that look at a draw inside it; see `Host`."""
    del rng, nesting
    seen, case = remembered(program, batch, args, plate)
    if case not in seen:
        seen[case] = _looking(program, batch, args, params or {}, sites, plate)
    return seen[case]


def _looking(
    program: Callable, batch: Mapping[str, Any], args: tuple, params: Mapping[str, Any], sites: Sites, plate: str
) -> tuple[str, ...]:
    outside = {name: site for name, site in sites.items() if not site.inside(plate)}
    # Point masses are computed again from what they depend on: put in, they would have to agree to the last bit.
    values = {name: s.value for name, s in outside.items() if not s.observed and s.law != "Delta"} | sites.rows
    device = next(iter(sites.values())).value.device
    with torch.no_grad(), seeded(torch.Generator(device=device).manual_seed(SEED)):
        try:
            again, _ = traced(program, batch, args, Record(params, values))
        except (ValueError, RuntimeError):  # a program that other draws do not suit
            return ()
        others = {name: site_of(name, again[name], None) for name in outside if name in again}
        return tuple(
            name
            for name, site in outside.items()
            if name not in others
            or not alike(site.value.detach(), others[name].value)
            or not alike(site.log_prob.detach(), others[name].log_prob)
        )
