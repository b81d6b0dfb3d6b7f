"""Networks on torch: any `nn.Module`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from deepgen_ppl.engine import Networks
from deepgen_ppl.hosts.on_pyro.objective import registered

__all__ = ["NETWORKS", "MLP"]

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
    if activation not in ACTIVATIONS:
        raise ValueError(f"expected an activation among {sorted(ACTIVATIONS)}, got {activation!r}")
    return MLP(rng, tuple(sizes), activation, getattr(torch, str(np.dtype(dtype))))


def wrap(network: Any) -> nn.Module:
    """The module itself.

    Raises:
        TypeError: if it is not an `nn.Module`.
    """
    if not isinstance(network, nn.Module):
        raise TypeError(f"expected a torch.nn.Module on the Pyro engine, got {type(network).__name__}")
    return network


def with_params(net: nn.Module, params: Mapping[str, torch.Tensor]) -> nn.Module:
    """A copy of the module that owns these tensors."""
    own = dict(net.named_parameters())
    memo = {id(p): nn.Parameter(params[k].detach().clone().contiguous()) for k, p in own.items()}
    return copy.deepcopy(net, memo)


def _linear_weights(net: nn.Module) -> set[str]:
    return {f"{name}.weight".lstrip(".") for name, m in net.named_modules() if isinstance(m, nn.Linear)}


def canonical(net: nn.Module) -> dict[str, np.ndarray]:
    """Arrays under common names and layouts: weights of affine maps are (in, out)."""
    linear = _linear_weights(net)
    arrays = {k: p.detach().cpu().numpy().copy() for k, p in net.named_parameters()}
    return {k: np.ascontiguousarray(a.T) if k in linear else a for k, a in arrays.items()}


def from_canonical(net: nn.Module, arrays: Mapping[str, np.ndarray]) -> nn.Module:
    """Inverse of `canonical`."""
    linear = _linear_weights(net)
    own = {k: np.asarray(arrays[k]).T if k in linear else np.asarray(arrays[k]) for k, _ in net.named_parameters()}
    return with_params(net, {k: torch.tensor(np.ascontiguousarray(a)).to(_device(net)) for k, a in own.items()})


def _device(net: nn.Module) -> torch.device:
    return next(net.parameters()).device


def flatten_leading(net: nn.Module, event_dim: int) -> Any:
    """The network as a function of tensors with any number of leading axes."""

    def call(x: torch.Tensor) -> torch.Tensor:
        lead, event = x.shape[: x.dim() - event_dim], x.shape[x.dim() - event_dim :]
        out = net(x.reshape(-1, *event))
        return out.reshape(*lead, *out.shape[1:])

    return call


NETWORKS = Networks(
    mlp=mlp,
    wrap=wrap,
    params=lambda net: dict(net.named_parameters()),
    with_params=with_params,
    canonical=canonical,
    from_canonical=from_canonical,
)


def module(name: str, net: nn.Module, event_dim: int) -> Any:
    """The network as a callable whose tensors are Pyro parameters `NAME.PATH`; see `Host`.

    Raises:
        RuntimeError: if the global store holds another tensor under such a name.
    """
    own = dict(net.named_parameters())
    used = {k: registered(f"{name}.{k}", p) for k, p in own.items()}
    if all(used[k] is p for k, p in own.items()):
        return flatten_leading(net, event_dim)
    return flatten_leading(lambda x: torch.func.functional_call(net, used, (x,)), event_dim)
