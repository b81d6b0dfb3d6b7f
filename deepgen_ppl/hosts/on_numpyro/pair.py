"""A model and a guide that users wrote for NumPyro, as functions of one flat dict of unconstrained arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from numpyro import handlers
from numpyro.distributions import biject_to, constraints
from numpyro.infer.autoguide import AutoGuide
from numpyro.primitives import Messenger

from deepgen_ppl.hosts.common import unweighable
from deepgen_ppl.hosts.on_numpyro.nets import name_of_key

__all__ = ["HostPair", "adopted"]

REFUSED = {
    "AutoSemiDAIS": "its draws of each datum come from parameters tied to the order of the rows",
    "AutoSurrogateLikelihoodDAIS": "its draws come from a surrogate of the model, which is trained beside the pair",
}


class Answers(Messenger):
    """Answers param statements, which no handler outside sees, and gives observed sites the names of their arguments.

    Args:
        fn: the program.
        values: param site -> value.
        names: observed site -> argument.
    """

    def __init__(self, fn: Callable, values: Mapping[str, Any], names: Mapping[str, str]) -> None:
        super().__init__(fn)
        self.values, self.names = values, names

    def process_message(self, msg: dict) -> None:
        """Answer, or rename."""
        if msg["type"] == "param":
            if msg["name"] not in self.values:
                raise ValueError(
                    f"expected params among {sorted(self.values)}, found on the first run, got {msg['name']!r}"
                )
            msg["value"], msg["stop"] = self.values[msg["name"]], True
        elif msg["type"] == "sample":
            msg["name"] = self.names.get(msg["name"], msg["name"])


@dataclass(frozen=True)
class Param:
    """A param site: the tree of its value, the names of the leaves, and the map from unconstrained arrays."""

    tree: Any
    leaves: tuple[str, ...]
    transform: Any

    def value(self, arrays: Mapping[str, jax.Array]) -> Any:
        """What the program reads."""
        return jax.tree.unflatten(self.tree, [self.transform(arrays[name]) for name in self.leaves])


@dataclass(frozen=True, eq=False)
class HostPair:
    """Model and guide; see `Host`."""

    fns: Mapping[str, Callable]
    params: Mapping[str, Param]
    names: Mapping[str, tuple[str, ...]]

    def call(self, which: str, arrays: Mapping[str, Any], renamed: Mapping[str, str], args: tuple, batch: Any) -> Any:
        """Run the model or the guide with these arrays in place of its params."""
        own = set(self.names[which]).intersection
        values = {site: p.value(arrays) for site, p in self.params.items() if own(p.leaves)}
        return Answers(self.fns[which], values, renamed)(*args, **batch)

    def host_params(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Param site -> constrained value."""
        return {site: p.value(arrays) for site, p in self.params.items()}


def adopted(
    model: Callable, guide: Callable, batch: Mapping[str, Any], rng: jax.Array
) -> tuple[HostPair, dict[str, jax.Array], dict[str, jax.Array]]:
    """(pair, trained arrays, other arrays) of a model and a guide, found by one run of each; see `Host`.

    Raises:
        TypeError: for an autoguide that cannot be weighed, or a network that keeps a state.
    """
    if isinstance(guide, AutoGuide) and (why := REFUSED.get(type(guide).__name__)):
        raise unweighable(guide, why)
    first, second = jax.random.split(rng)
    with handlers.block():
        handlers.seed(guide, first)(**batch)  # sets an autoguide up
        q = handlers.trace(handlers.seed(guide, first)).get_trace(**batch)
        draws = {n: s["value"] for n, s in q.items() if s["type"] == "sample" and not s["is_observed"]}
        p = handlers.trace(handlers.seed(handlers.substitute(model, data=draws), second)).get_trace(**batch)
    params: dict[str, Param] = {}
    found: dict[str, jax.Array] = {}
    for name, site in {**p, **q}.items():
        if site["type"] == "mutable":
            raise TypeError(f"expected networks that keep no state, got the mutable site {name!r}: leave its state out")
        if site["type"] == "param":
            params[name], arrays = _param(name, site)
            found |= arrays
    names = {
        which: tuple(leaf for site, param in params.items() if site in trace for leaf in param.leaves)
        for which, trace in (("model", p), ("guide", q))
    }
    pair = HostPair({"model": model, "guide": guide}, params, names)
    trained = {k: x for k, x in found.items() if jnp.issubdtype(x.dtype, jnp.floating)}
    return pair, trained, {k: x for k, x in found.items() if k not in trained}


def _param(name: str, site: Mapping[str, Any]) -> tuple[Param, dict[str, jax.Array]]:
    transform = biject_to(site["kwargs"].get("constraint", constraints.real))
    leaves, tree = jax.tree_util.tree_flatten_with_path(site["value"])
    arrays = {
        ".".join((name, *(name_of_key(key) for key in path))): transform.inv(jnp.asarray(leaf)) for path, leaf in leaves
    }
    return Param(tree, tuple(arrays), transform), arrays
