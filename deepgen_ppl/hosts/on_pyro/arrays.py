"""Arrays, special functions, randomness and control flow on torch."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from deepgen_ppl.engine import Arrays, Control, Random, Special
from deepgen_ppl.hosts.common import native

__all__ = ["ARRAYS", "CONTROL", "RANDOM", "SPECIAL"]

DTYPES = {"float32": torch.float32, "float64": torch.float64, "int64": torch.int64, "int32": torch.int32}


def asarray(x: Any, like: Any = None, dtype: Any = None) -> torch.Tensor:
    """Array of the engine; see `Arrays`."""
    if like is not None:
        own = x if isinstance(x, torch.Tensor) else torch.tensor(native(x))
        return own.to(dtype=like.dtype, device=like.device)
    if isinstance(x, torch.Tensor) and dtype is None:
        return x
    if not isinstance(x, torch.Tensor):
        x = native(x)
        if dtype is None and x.dtype.kind == "f" and x.dtype != np.float64:
            dtype = torch.float32
        x = torch.tensor(x)
    dtype = DTYPES[str(np.dtype(dtype))] if dtype is not None and not isinstance(dtype, torch.dtype) else dtype
    return x if dtype is None else x.to(dtype)


def is_concrete(x: Any) -> bool:
    """Whether the value of `x` can be read now."""
    return not torch._C._functorch.is_functorch_wrapped_tensor(x)


def cast(x: Any, like: torch.Tensor) -> torch.Tensor:
    """x in the dtype and on the device of `like`."""
    x = x if isinstance(x, torch.Tensor) else torch.tensor(native(x))
    return x.to(dtype=like.dtype, device=like.device)


ARRAYS = Arrays(
    asarray=asarray,
    to_numpy=lambda x: x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x),
    is_concrete=is_concrete,
    is_constant=lambda x: is_concrete(x) and not (x.requires_grad and torch.is_grad_enabled()),
    cast=cast,
    mix=lambda beta, a, b: torch.lerp(a, b, beta),
)


def logsumexp(x: torch.Tensor, axis: int) -> torch.Tensor:
    """log sum exp(x), whose derivative keeps its precision at any level (that of `torch.logsumexp` does not)."""
    top = x.detach().amax(axis, keepdim=True)
    top = torch.where(torch.isfinite(top), top, torch.zeros_like(top))
    return (x - top).exp().sum(axis).log() + top.squeeze(axis)


SPECIAL = Special(
    sigmoid=torch.sigmoid,
    softplus=lambda x: torch.nn.functional.softplus(x, threshold=40.0),
    logsumexp=logsumexp,
    softmax=lambda x, axis: torch.softmax(x, axis),
    lgamma=torch.lgamma,
    one_hot=lambda x, num_classes, like: torch.nn.functional.one_hot(cast(x, like).long(), num_classes).to(like.dtype),
    stop_gradient=torch.Tensor.detach,
    conv=torch.nn.functional.conv2d,
    conv_transpose=torch.nn.functional.conv_transpose2d,
)


def make_rng(seed: Any, like: Any = None) -> torch.Generator:
    """A `torch.Generator` on the device of `like`, from an integer, or the generator itself."""
    if isinstance(seed, torch.Generator):
        return seed
    if isinstance(seed, (int, np.integer)) and not isinstance(seed, bool):
        device = like.device if like is not None else "cpu"
        if not -(2**63) <= seed < 2**64:
            raise ValueError(f"expected a seed from -2^63 to 2^64 - 1 on the Pyro engine, got {seed}")
        return torch.Generator(device=device).manual_seed(int(seed))
    raise TypeError(f"expected an integer seed or a torch.Generator, got {type(seed).__name__}")


def _like(like: torch.Tensor) -> dict[str, Any]:
    return {"dtype": like.dtype, "device": like.device}


def bernoulli(rng: torch.Generator, logits: torch.Tensor) -> torch.Tensor:
    """0/1 draws: u < sigmoid(logits) with u in [0, 1), in one buffer."""
    u = torch.empty_like(logits, requires_grad=False).uniform_(generator=rng)
    return torch.lt(u, torch.sigmoid(logits.detach()), out=u)


def gumbel(rng: torch.Generator, shape: Sequence[int], like: torch.Tensor) -> torch.Tensor:
    """Standard Gumbel draws, as minus the log of exponential ones."""
    return -torch.empty(shape, **_like(like)).exponential_(generator=rng).log()


def restore(state: np.ndarray, like: Any = None) -> torch.Generator:
    """The generator whose state was saved."""
    generator = torch.Generator(device=like.device if like is not None else "cpu")
    generator.set_state(torch.tensor(np.asarray(state, np.uint8)))
    return generator


RANDOM = Random(
    rng=make_rng,
    split=lambda rng, n: [make_rng(rng)] * n,
    uniform=lambda rng, shape, like: torch.rand(shape, generator=rng, **_like(like)),
    normal=lambda rng, shape, like: torch.randn(shape, generator=rng, **_like(like)),
    poisson=lambda rng, rate: torch.poisson(rate, generator=rng),
    bernoulli=bernoulli,
    categorical=lambda rng, logits: torch.argmax(logits + gumbel(rng, logits.shape, logits), -1),
    state=lambda rng: rng.get_state().numpy().copy(),
    restore=restore,
)


def _stack(ys: list) -> Any:
    first = ys[0]
    if first is None:
        return None
    if isinstance(first, dict):
        return {k: _stack([y[k] for y in ys]) for k in first}
    if isinstance(first, tuple):
        columns = [_stack(list(column)) for column in zip(*ys, strict=True)]
        return type(first)(*columns) if hasattr(first, "_fields") else tuple(columns)
    return torch.stack(ys)


def _rows(xs: Any, t: int) -> Any:
    if xs is None:
        return None
    if isinstance(xs, dict):
        return {k: _rows(x, t) for k, x in xs.items()}
    if isinstance(xs, tuple):
        columns = [_rows(x, t) for x in xs]
        return type(xs)(*columns) if hasattr(xs, "_fields") else tuple(columns)
    return xs[t]


def _lengths(xs: Any) -> list[int]:
    if xs is None:
        return []
    if isinstance(xs, (dict, tuple)):
        return [n for x in (xs.values() if isinstance(xs, dict) else xs) for n in _lengths(x)]
    return [len(xs)]


def loop(step: Callable, carry: Any, xs: Any = None, length: int | None = None) -> tuple[Any, Any]:
    """The loop that `jax.lax.scan` describes."""
    ys = []
    for t in range(_lengths(xs)[0] if length is None else length):
        carry, y = step(carry, _rows(xs, t))
        ys.append(y)
    return carry, (_stack(ys) if ys else None)


def value_and_grad(fn: Callable) -> Callable:
    """Value and gradient of `fn(params, *args)` with respect to the flat dict `params`."""

    @functools.wraps(fn)
    def evaluate(params: dict[str, torch.Tensor], *args: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        leaves = {k: v.detach().requires_grad_() for k, v in params.items()}
        with torch.enable_grad():
            value = fn(leaves, *args)
            grads = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
        filled = (torch.zeros_like(v) if g is None else g for v, g in zip(leaves.values(), grads, strict=True))
        return value.detach(), dict(zip(leaves, filled, strict=True))

    return evaluate


CONTROL = Control(
    loop=loop,
    map=lambda fn, xs: _stack([fn(_rows(xs, t)) for t in range(_lengths(xs)[0])]),
    value_and_grad=value_and_grad,
    compile=torch.no_grad(),
    double=contextlib.nullcontext,
    shard=lambda x, like: x,
    forget=lambda: None,
)
