"""One run of a Pyro program: its sample sites."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger

from deepgen_ppl.engine import Plate, RunSite
from deepgen_ppl.hosts.on_pyro.distribution import seeded

__all__ = ["run"]


class Given(Messenger):
    """Puts in draws; sites stay latent."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.values and not msg["is_observed"]:
            msg["value"], msg["done"] = self.values[msg["name"]], True


def run(
    program: Callable,
    batch: Mapping[str, Any],
    *,
    rng: torch.Generator,
    values: Mapping[str, Any] | None = None,
) -> dict[str, RunSite]:
    """The sample sites of one run; see `Host`."""
    with seeded(rng), Given(values or {}):
        nodes = poutine.trace(program).get_trace(**batch).nodes
    return {
        name: _site(name, msg)
        for name, msg in nodes.items()
        if msg["type"] == "sample" and not poutine.util.site_is_subsample(msg)
    }


def _site(name: str, msg: Any) -> RunSite:
    fn = msg["fn"] if msg["mask"] is None else msg["fn"].mask(msg["mask"])
    return RunSite(
        name=name,
        fn=fn,
        value=msg["value"],
        observed=msg["is_observed"],
        scale=msg["scale"],
        plates=tuple(Plate(f.name, f.dim, f.size) for f in msg["cond_indep_stack"] if f.dim is not None),
        auxiliary=bool(msg["infer"].get("is_auxiliary")),
        score=lambda: fn.log_prob(msg["value"]),
    )
