"""A model and a guide that users wrote for Pyro, as functions of one flat dict of unconstrained tensors.

Tensors of modules stand in for those of the user's while a program runs, and params live in a store that is thrown
away: the user's modules and Pyro's own store stay as they are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyro
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoDiscreteParallel
from pyro.infer.autoguide.effect import AutoMessenger
from pyro.poutine.messenger import Messenger
from torch import nn
from torch.distributions import constraints, transform_to
from torch.nn.modules.module import register_module_forward_pre_hook

from deepgen_ppl.hosts.common import impure, unweighable
from deepgen_ppl.hosts.on_pyro.distribution import seeded
from deepgen_ppl.hosts.on_pyro.run import Given
from deepgen_ppl.hosts.threads import one_at_a_time

__all__ = ["HostPair", "adopted"]

REFUSED = {
    AutoMessenger: "it runs the model itself, with what that observes",
    AutoDiscreteParallel: "its discrete sites are summed out by Pyro's own TraceEnum_ELBO",
}


class Slot(NamedTuple):
    """A place of a module where a tensor is held."""

    module: nn.Module
    leaf: str
    trained: bool

    @property
    def held(self) -> dict[str, Any]:
        """The dict of the module that holds it; not by attribute, which Pyro's modules answer themselves."""
        return self.module._parameters if self.leaf in self.module._parameters else self.module._buffers


class Answers(Messenger):
    """Answers param statements, which no handler outside sees, and gives observed sites the names of their arguments.

    Args:
        values: names of `pyro.param` -> constrained value.
        tensors: those that stand in for tensors of modules.
        names: observed site -> argument.
    """

    def __init__(
        self, values: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], names: Mapping[str, str]
    ) -> None:
        super().__init__()
        self.values, self.names = values, names
        self.inside = {id(t) for t in tensors.values()}

    def _pyro_param(self, msg: Any) -> None:
        name, first = msg["name"], msg["args"][1] if len(msg["args"]) > 1 else None
        msg["stop"] = True
        if name in self.values:
            msg["value"], msg["done"] = self.values[name], True
        elif id(first) in self.inside:
            msg["value"], msg["done"] = first, True
        elif name not in pyro.get_param_store():  # where a module of Pyro's puts its own
            raise ValueError(f"expected params that were found on the first run, got {name!r}")

    def _pyro_sample(self, msg: Any) -> None:
        msg["name"] = self.names.get(msg["name"], msg["name"])


@dataclass(frozen=True, eq=False)
class HostPair:
    """Model and guide; see `Host`."""

    fns: Mapping[str, Callable]
    slots: tuple[tuple[Slot, str], ...]
    own: Mapping[str, tuple[str, ...]]
    names: Mapping[str, tuple[str, ...]]
    constraints: Mapping[str, Any]

    @one_at_a_time
    def call(self, which: str, arrays: Mapping[str, Any], renamed: Mapping[str, str], args: tuple, batch: Any) -> Any:
        """Run the model or the guide with these tensors in place of its own."""
        values = {name: transform_to(self.constraints[name])(arrays[name]) for name in self.own[which]}
        slots = [(slot, arrays[name]) for slot, name in self.slots if name in arrays]
        with _empty_store(), _standing_in(slots), Answers(values, arrays, renamed):
            return self.fns[which](*args, **batch)

    def host_params(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Name -> constrained value."""
        real = constraints.real
        return {name: transform_to(self.constraints.get(name, real))(x) for name, x in arrays.items()}


@contextlib.contextmanager
def _empty_store() -> Iterator[Any]:
    """Pyro's parameter store, empty; what it held comes back untouched."""
    store = pyro.get_param_store()
    kept = store._params, store._param_to_name, store._constraints
    store._params, store._param_to_name, store._constraints = {}, {}, {}
    try:
        yield store
    finally:
        store._params, store._param_to_name, store._constraints = kept


@contextlib.contextmanager
def _standing_in(slots: list[tuple[Slot, torch.Tensor]]) -> Iterator[None]:
    """Tensors stand in the slots of modules."""
    kept = [(slot, slot.held[slot.leaf]) for slot, _ in slots]
    for slot, tensor in slots:
        slot.held[slot.leaf] = tensor
    try:
        yield
    finally:
        for slot, tensor in kept:
            slot.held[slot.leaf] = tensor


@one_at_a_time
def adopted(
    model: Callable, guide: Callable, batch: Mapping[str, Any], rng: torch.Generator
) -> tuple[HostPair, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """(pair, trained tensors, other tensors) of a model and a guide, found by one run of each; see `Host`.

    Raises:
        TypeError: for an autoguide that cannot be weighed, or a network that is no function of its input.
        ValueError: for tensors that have a gradient and that neither Pyro knows nor a module of the pair holds.
    """
    for kind, why in REFUSED.items():
        if isinstance(guide, kind):
            raise unweighable(guide, why)
    called: dict[nn.Module, None] = {}
    hook = register_module_forward_pre_hook(lambda module, _: called.setdefault(module))
    try:
        with seeded(rng), poutine.block(), torch.enable_grad():
            with _empty_store():
                guide(**batch)  # sets an autoguide up
            stores = {}
            with _empty_store() as store:
                q = poutine.trace(guide).get_trace(**batch)
                stores["guide"] = (dict(store._params), dict(store._constraints))
            draws = {n: s["value"] for n, s in q.nodes.items() if s["type"] == "sample" and not s["is_observed"]}
            with _empty_store() as store, Given({}, draws):
                p = poutine.trace(model).get_trace(**batch)
                stores["model"] = (dict(store._params), dict(store._constraints))
    finally:
        hook.remove()
    for module in called:
        _check_pure(module)
    pair, first = _pair({"model": model, "guide": guide}, stores, called)
    _check_leaves(p.log_prob_sum() - q.log_prob_sum(), first)
    copied = {name: t.detach().clone() for name, (t, _) in first.items()}
    trained = {name for name, (_, trains) in first.items() if trains}
    return (
        pair,
        {k: t for k, t in copied.items() if k in trained},
        {k: t for k, t in copied.items() if k not in trained},
    )


def _pair(
    fns: dict[str, Callable], stores: dict[str, tuple[dict, dict]], called: Mapping[nn.Module, None]
) -> tuple[HostPair, dict[str, tuple[torch.Tensor, bool]]]:
    """The pair, and its first tensors: name -> (tensor, whether it is trained)."""
    known: dict[int, str] = {}
    for params, _ in stores.values():
        for name, tensor in params.items():
            known.setdefault(id(tensor), name)  # of several names of one tensor the first
    first: dict[str, tuple[torch.Tensor, bool]] = {}
    slots: dict[Slot, str] = {}
    read = {which: set(params) for which, (params, _) in stores.items()}
    for which in ("guide", "model"):
        top = getattr(fns[which], "__self__", fns[which])
        for path, module in top.named_modules() if isinstance(top, nn.Module) else ():
            for slot, tensor in _slots(module):
                name = known.setdefault(id(tensor), ".".join(filter(None, (which, path, slot.leaf))))
                slots[slot] = name
                first[name] = tensor, slot.trained
                read[which].add(name)
    for module in called:  # networks that a function encloses are known by pyro.module alone
        for slot, tensor in _slots(module):
            if id(tensor) in known and slot not in slots:
                slots[slot] = known[id(tensor)]
                first[slots[slot]] = tensor, slot.trained
    inside = {id(t) for t, _ in first.values()}
    own = {w: tuple(n for n, t in params.items() if id(t) not in inside) for w, (params, _) in stores.items()}
    for which, fresh in own.items():
        params, _ = stores[which]
        if held := [n for n in fresh if "$$$" in n]:  # what pyro.module has registered
            raise ValueError(f"expected networks that the pair runs as modules, got {held} of one that it never calls")
        first |= {n: (params[n], True) for n in fresh}
    found = {name: c for _, named in stores.values() for name, c in named.items()}
    names = {which: tuple(n for n in first if n in read[which]) for which in fns}
    return HostPair(fns, tuple(slots.items()), own, names, found), first


def _slots(module: nn.Module) -> Iterator[tuple[Slot, torch.Tensor]]:
    """The tensors that a module itself holds."""
    for held in (module._parameters, module._buffers):
        for leaf, tensor in held.items():
            if tensor is not None:
                yield Slot(module, leaf, held is module._parameters and tensor.requires_grad), tensor


def _check_pure(module: nn.Module) -> None:
    """Check that a network is a function of its input."""
    kind = type(module).__name__
    if module.training and isinstance(module, nn.modules.dropout._DropoutNd):
        raise impure(kind, "other outputs for equal inputs")
    if module.training and getattr(module, "track_running_stats", False):
        raise impure(kind, "changes of running_mean, running_var")


def _check_leaves(loss: torch.Tensor, first: Mapping[str, tuple[torch.Tensor, bool]]) -> None:
    """Check that all tensors that have a gradient are known: others would silently stay untrained."""
    known, seen, missed = {id(t) for t, _ in first.values()}, set(), []
    todo = [loss.grad_fn] if isinstance(loss, torch.Tensor) else []
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        todo += [following for following, _ in node.next_functions]
        tensor = getattr(node, "variable", None)
        if tensor is not None and id(tensor) not in known:
            missed.append(tuple(tensor.shape))
    if missed:
        raise ValueError(
            f"expected parameters that Pyro knows, got tensors of the shapes {missed} that have a gradient and would "
            "stay untrained: call pyro.param(name, ...) or pyro.module(name, network) in the program, or "
            "requires_grad_(False) on those that are fixed"
        )
