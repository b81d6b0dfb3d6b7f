"""Optimizers of torch: made from ours, Pyro's or the user's, and their state as arrays."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from pyro.optim import PyroLRScheduler, PyroOptim
from torch.optim import Optimizer as TorchOptimizer

from deepgen_ppl.training.optimizers import SGD, Adam, Optimizer

__all__ = ["OPTIMIZERS", "constructor", "made", "numbers", "put_state", "set_rate", "state_arrays", "try_optimizer"]

OPTIMIZERS = {"adam": Adam, "sgd": SGD}

NUMBERS = (bool, int, float)
HOW = ("foreach", "fused")
"""Options of torch that say how a step is computed, not what it is: they tell no run from another."""


def constructor(optimizer: Any) -> Callable[[list[tuple[str, torch.Tensor]]], TorchOptimizer]:
    """From what the user gives to `(name, tensor) pairs -> optimizer`.

    Raises:
        TypeError: for anything else.
    """
    if isinstance(optimizer, Optimizer):
        return _of_ours(optimizer)
    if isinstance(optimizer, PyroOptim):
        return _of_pyro(optimizer)
    ours = isinstance(optimizer, type) and issubclass(optimizer, Optimizer)
    if not callable(optimizer) or isinstance(optimizer, TorchOptimizer) or ours:
        raise TypeError(
            "expected a constructor of a torch optimizer, such as functools.partial(torch.optim.Adam, lr=1e-3), "
            f"sgd(...), adam(...) or an optimizer of pyro.optim on the Pyro engine, got {optimizer!r}"
        )
    return optimizer


def _of_ours(o: Any) -> Callable:
    rate = o.learning_rate(0) if callable(o.learning_rate) else o.learning_rate
    options = {"lr": float(rate), "weight_decay": o.weight_decay}
    if isinstance(o, SGD):
        return functools.partial(torch.optim.SGD, momentum=o.momentum, nesterov=o.nesterov, **options)
    return functools.partial(adam, betas=(o.b1, o.b2), eps=o.eps, **options)


def adam(named: list[tuple[str, torch.Tensor]], **options: Any) -> TorchOptimizer:
    """Torch's Adam, a step of each tensor in one pass where torch can and the options leave it open.

    Args:
        named: (name, tensor) pairs.
        options: of `torch.optim.Adam`.
    """
    chosen = options.keys() & {*HOW, "capturable", "differentiable"}
    if not chosen and all(_in_one_pass(p) for _, p in named):
        options["fused"] = True
    return torch.optim.Adam(named, **options)


def _in_one_pass(p: torch.Tensor) -> bool:
    """Whether torch's one pass is right: it reads tensors in the order of memory, also where layouts differ."""
    return p.is_floating_point() and p.is_contiguous() and p.device.type in ("cpu", "cuda")


def _of_pyro(o: PyroOptim) -> Callable:
    if isinstance(o, PyroLRScheduler) or o.pt_clip_args:
        raise TypeError(
            f"expected an optimizer of pyro.optim without a scheduler and clip_args, got {o!r}: give sgd or adam a "
            "learning rate that is a function of the number of steps, or a constructor of a torch optimizer that clips"
        )
    make, args = o.pt_optim_constructor, o.pt_optim_args
    if not callable(args):
        return functools.partial(adam if make is torch.optim.Adam else make, **args)
    return lambda named: make([{"params": [(name, p)], **args(name)} for name, p in named])


def made(make: Callable, params: Mapping[str, torch.Tensor]) -> TorchOptimizer:
    """The optimizer of these tensors.

    Raises:
        TypeError: if it is not one of torch.
    """
    optimizer = make(list(params.items()))
    if not isinstance(optimizer, TorchOptimizer):
        raise TypeError(f"expected a constructor of a torch optimizer, got {make!r}, which makes {optimizer!r}")
    return optimizer


def try_optimizer(make: Callable, params: Mapping[str, torch.Tensor]) -> None:
    """Take a step on copies of the parameters.

    Raises:
        TypeError: for an optimizer that needs more than gradients, or whose state is no arrays and numbers.
    """
    made(make, {k: v.detach().clone().requires_grad_() for k, v in params.items()})
    try:
        state_arrays(*_after_a_step(make, params))
    except Exception as error:
        raise TypeError(f"expected an optimizer whose steps need gradients alone, got {make!r}: {error}") from None


def set_rate(optimizer: TorchOptimizer, options: Any, steps: int) -> None:
    """The learning rate of the next step, where it is a function of the number of steps taken."""
    if isinstance(options, Optimizer) and callable(options.learning_rate):
        for group in optimizer.param_groups:
            group["lr"] = float(options.learning_rate(steps))


def numbers(optimizer: TorchOptimizer) -> list[dict[str, Any]]:
    """The options of each group of parameters that are numbers (the learning rate, for instance)."""
    kept = []
    for group in optimizer.param_groups:
        pairs = {
            k: list(v) for k, v in group.items() if isinstance(v, tuple) and all(isinstance(x, NUMBERS) for x in v)
        }
        kept.append(_plain(group) | pairs)
    return kept


def _plain(group: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a group that are numbers and tell one run from another."""
    return {k: v for k, v in group.items() if isinstance(v, NUMBERS) and k not in HOW}


def _entries(optimizer: TorchOptimizer, params: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, dict, str]]:
    """(name in files, the dict that holds it, its key) of all state of an optimizer."""
    for name, p in params.items():
        state = optimizer.state.get(p, {})
        yield from ((f"optimizer.{name}.{k}", state, k) for k in sorted(state) if state[k] is not None)
    for i, group in enumerate(optimizer.param_groups):
        yield from ((f"optimizer.{i}.{k}", group, k) for k in sorted(_plain(group)))


def state_arrays(optimizer: TorchOptimizer, params: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """The state of an optimizer as arrays by name.

    Raises:
        TypeError: for state that is neither a tensor nor a number.
    """
    arrays = {}
    for name, holder, key in _entries(optimizer, params):
        value = holder[key]
        if not isinstance(value, (torch.Tensor, *NUMBERS)):
            raise TypeError(f"expected tensors and numbers as its state, got {key} of type {type(value).__name__}")
        arrays[name] = value.detach().cpu().numpy().copy() if isinstance(value, torch.Tensor) else np.array(value)
    return arrays


def put_state(make: Callable, optimizer: TorchOptimizer, params: Mapping[str, torch.Tensor], arrays: Mapping) -> None:
    """Put the state that `state_arrays` returned into an optimizer of the same tensors.

    Raises:
        ValueError: for other names or shapes.
    """
    pattern, twins = _after_a_step(make, params)
    fresh = state_arrays(pattern, twins)
    saved = {k: v for k, v in arrays.items() if k.startswith("optimizer.") and k.rpartition(".")[2] not in HOW}
    if wrong := sorted(k for k, v in saved.items() if k not in fresh or v.shape != fresh[k].shape):
        raise ValueError(f"expected a checkpoint of the same optimizer, with the arrays {sorted(fresh)}, got {wrong}")
    for name, p in params.items():  # before the first step there is none
        own = {k: v for k, v in pattern.state[twins[name]].items() if v is None or f"optimizer.{name}.{k}" in saved}
        optimizer.state[p] = own
    for name, holder, key in _entries(optimizer, params):
        old = holder[key]
        if isinstance(old, torch.Tensor):
            holder[key] = torch.tensor(saved[name], dtype=old.dtype, device=old.device)
        else:
            holder[key] = type(old)(saved[name])


def _after_a_step(make: Callable, params: Mapping[str, torch.Tensor]) -> tuple[TorchOptimizer, dict[str, torch.Tensor]]:
    """An optimizer of copies of these tensors after a step with gradients of zero, and the copies."""
    copies = {k: v.detach().clone().requires_grad_() for k, v in params.items()}
    optimizer = made(make, copies)
    for p in copies.values():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    return optimizer, copies
