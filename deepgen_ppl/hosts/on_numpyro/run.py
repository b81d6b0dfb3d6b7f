"""One run of a NumPyro program: its sample sites."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
from numpyro import handlers

from deepgen_ppl.engine import Plate, RunSite

__all__ = ["run"]


def run(
    program: Callable,
    batch: Mapping[str, Any],
    *,
    rng: jax.Array,
    values: Mapping[str, Any] | None = None,
) -> dict[str, RunSite]:
    """The sample sites of one run; see `Host`."""
    fn = handlers.seed(handlers.substitute(program, data=dict(values or {})), rng)
    trace = handlers.trace(fn).get_trace(**batch)
    return {name: _site(name, msg) for name, msg in trace.items() if msg["type"] == "sample"}


def _site(name: str, msg: dict) -> RunSite:
    fn, value, intermediates = msg["fn"], msg["value"], msg["intermediates"]
    return RunSite(
        name=name,
        fn=fn,
        value=value,
        observed=msg["is_observed"],
        scale=1.0 if msg["scale"] is None else msg["scale"],
        plates=tuple(Plate(f.name, f.dim, f.size) for f in msg["cond_indep_stack"]),
        auxiliary=bool(msg["infer"].get("is_auxiliary")),
        score=lambda: fn.log_prob(value, intermediates) if intermediates else fn.log_prob(value),
    )
