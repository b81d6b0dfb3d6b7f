"""Networks on torch: any `nn.Module`."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from deepgen_ppl.engine import Networks
from deepgen_ppl.hosts.common import MIXED, impure
from deepgen_ppl.hosts.on_pyro.arrays import ARRAYS
from deepgen_ppl.hosts.on_pyro.objective import keeps_own, registered
from deepgen_ppl.hosts.threads import one_at_a_time
from deepgen_ppl.options import precision

__all__ = ["NETWORKS", "MLP", "held", "module"]

ACTIVATIONS: dict[str, Callable] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "softplus": nn.functional.softplus,
    "gelu": nn.functional.gelu,
}


class MLP(nn.Module):
    """Multilayer perceptron: affine maps with an activation between them.

    Args:
        rng: generator of the Glorot-uniform weights (biases are zero).
        sizes: widths (input, hidden..., output).
        activation: name of the activation.
        dtype: dtype of the parameters.
    """

    def __init__(self, rng: torch.Generator, sizes: Sequence[int], activation: str, dtype: torch.dtype) -> None:
        super().__init__()
        self.activation = activation
        self.layers = nn.ModuleList()
        for i, o in zip(sizes, sizes[1:], strict=False):
            layer = nn.utils.skip_init(nn.Linear, i, o, dtype=dtype, device=rng.device)
            with torch.no_grad():
                bound = (6.0 / (i + o)) ** 0.5
                layer.weight.uniform_(-bound, bound, generator=rng)
                layer.bias.zero_()
            self.layers.append(layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (..., sizes[0]) to (..., sizes[-1])."""
        *hidden, last = self.layers
        for layer in hidden:
            x = ACTIVATIONS[self.activation](layer(x))
        return last(x)


def mlp(rng: torch.Generator, sizes: Sequence[int], activation: str, dtype: Any = "float32") -> MLP:
    """A perceptron with Glorot-uniform weights and zero biases."""
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise ValueError(f"expected an activation among {sorted(ACTIVATIONS)}, got {activation!r}")
    return MLP(rng, tuple(sizes), activation, getattr(torch, precision(dtype)))


def wrap(network: Any) -> nn.Module:
    """The module itself.

    Raises:
        TypeError: if it is not an `nn.Module`.
    """
    if not isinstance(network, nn.Module):
        raise TypeError(f"expected a torch.nn.Module on the Pyro engine, got {type(network).__name__}")
    return network


def params(net: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters that are not frozen by `requires_grad_(False)`."""
    return {k: p for k, p in net.named_parameters() if p.requires_grad or not ARRAYS.is_concrete(p)}


def constants(net: nn.Module) -> dict[str, torch.Tensor]:
    """Buffers and frozen parameters."""
    trained = params(net)
    return {k: t for k, t in arrays_of(net).items() if k not in trained}


def arrays_of(net: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers."""
    return {**dict(net.named_parameters()), **dict(net.named_buffers())}


def held(tensor: torch.Tensor, *, trained: bool) -> torch.Tensor:
    """The tensor as a module holds it: a copy of its own, or itself where a gradient is taken through it."""
    inside = not ARRAYS.is_concrete(tensor) or (tensor.requires_grad and not isinstance(tensor, nn.Parameter))
    if inside:
        return tensor
    copied = tensor.detach().clone(memory_format=torch.contiguous_format)
    return nn.Parameter(copied) if trained else copied


def with_arrays(net: nn.Module, arrays: Mapping[str, torch.Tensor]) -> nn.Module:
    """A copy of the module that holds these tensors, and copies of its own for the others."""
    trained, memo = params(net), {}
    for k, own in arrays_of(net).items():
        new = held(arrays.get(k, own), trained=k in trained)
        frozen = isinstance(own, nn.Parameter) and not isinstance(new, nn.Parameter) and k not in trained
        memo[id(own)] = nn.Parameter(new, requires_grad=False) if frozen else new
    new = copy.deepcopy(net, memo)
    if net in _PURE:
        _PURE[new] = _PURE[net]
    return new


def frozen(net: nn.Module) -> nn.Module:
    """A copy, no parameter of which is trained."""
    return with_arrays(net, {}).requires_grad_(False)


def call(net: nn.Module, arrays: Mapping[str, torch.Tensor]) -> Callable:
    """The network as a function of x, with arrays under the common names put in."""
    linear = _linear_weights(net)
    own = {k: arrays[k].mT if k in linear else arrays[k] for k in arrays_of(net) if k in arrays}
    return flatten_leading(lambda x: torch.func.functional_call(net, own, (x,)), 1, net)


def _linear_weights(net: nn.Module) -> set[str]:
    return {f"{name}.weight".lstrip(".") for name, m in net.named_modules() if isinstance(m, nn.Linear)}


def canonical(net: nn.Module) -> dict[str, np.ndarray]:
    """Arrays under common names and layouts: weights of affine maps are (in, out)."""
    linear = _linear_weights(net)
    arrays = {k: t.detach().cpu().numpy().copy() for k, t in arrays_of(net).items()}
    return {k: np.asarray(a.T, order="C") if k in linear else a for k, a in arrays.items()}


def from_canonical(net: nn.Module, arrays: Mapping[str, np.ndarray]) -> nn.Module:
    """Inverse of `canonical`."""
    linear, own = _linear_weights(net), arrays_of(net)
    new = {k: np.asarray(arrays[k]).T if k in linear else np.asarray(arrays[k]) for k in own}
    return with_arrays(net, {k: torch.tensor(np.asarray(a, order="C")).to(own[k].device) for k, a in new.items()})


_PURE: weakref.WeakKeyDictionary[nn.Module, tuple[tuple[bool, ...], bool]] = weakref.WeakKeyDictionary()
"""Networks that were found to be functions of a row: the modes that their modules were in, and whether rows stood
beside each other."""


@one_at_a_time
def check_pure(net: nn.Module, x: torch.Tensor) -> None:
    """Run a copy of a network on equal inputs and on other rows, the first time that it is called.

    Raises:
        TypeError: if outputs differ, or an array of the copy has changed.
    """
    found = (tuple(m.training for m in net.modules()), len(x) > 1)
    if _PURE.get(net) in (found, (found[0], True)) or not ARRAYS.is_concrete(x):
        return
    twin = with_arrays(net, {k: t.detach() for k, t in arrays_of(net).items()})
    before = {k: t.clone() for k, t in arrays_of(twin).items()}
    with torch.no_grad(), torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):
        first, second, beside = twin(x), twin(x), twin(_other_rows(x))
    kind = type(net).__name__
    same = {k: torch.allclose(t, before[k], rtol=0, atol=0, equal_nan=True) for k, t in arrays_of(twin).items()}
    if changed := sorted(k for k, kept in same.items() if not kept):
        raise impure(kind, f"changes of {', '.join(changed)}")
    if not torch.allclose(first, second, rtol=1e-4, atol=1e-6, equal_nan=True):
        raise impure(kind, "other outputs for equal inputs")
    size = float(first.nan_to_num().abs().amax()) if first.numel() else 0.0
    if len(x) > 1 and not torch.allclose(first[-1], beside[-1], rtol=1e-3, atol=1e-4 * size, equal_nan=True):
        raise impure(kind, MIXED)
    _PURE[net] = found


def _other_rows(x: torch.Tensor) -> torch.Tensor:
    """The last row, where all others are it as well, or are it no more."""
    others = x[-1:].repeat(len(x), *(1,) * (x.dim() - 1))
    if torch.equal(others, x) and x.is_floating_point():
        others[:-1] += 1.0
    return others


def flatten_leading(net: Callable, event_dim: int, checked: nn.Module) -> Callable:
    """The network as a function of tensors with any number of leading axes; `checked` must be one of its input."""

    def apply(x: torch.Tensor) -> torch.Tensor:
        if x.dim() == event_dim + 1:
            check_pure(checked, x.detach())
            return net(x)
        lead, event = x.shape[: x.dim() - event_dim], x.shape[x.dim() - event_dim :]
        rows = x.reshape(-1, *event)
        check_pure(checked, rows.detach())
        out = net(rows)
        return out.reshape(*lead, *out.shape[1:])

    return apply


NETWORKS = Networks(
    mlp=mlp,
    activation=lambda net: net.activation if isinstance(net, MLP) else None,
    wrap=wrap,
    params=params,
    constants=constants,
    with_arrays=with_arrays,
    frozen=frozen,
    call=call,
    canonical=canonical,
    from_canonical=from_canonical,
)


def module(name: str, net: nn.Module, event_dim: int) -> Callable:
    """The network as a callable whose tensors are Pyro parameters `NAME.PATH`; see `Host`.

    Raises:
        RuntimeError: if the global store holds another tensor under such a name.
    """
    if keeps_own():
        return flatten_leading(net, event_dim, net)
    own = params(net)
    used = {k: registered(f"{name}.{k}", p) for k, p in own.items()}
    if all(used[k] is p for k, p in own.items()):
        return flatten_leading(net, event_dim, net)
    return flatten_leading(lambda x: torch.func.functional_call(net, used, (x,)), event_dim, net)
