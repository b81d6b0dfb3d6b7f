"""Networks on JAX: flax `nnx` modules, split into a static graph and a flat dict of arrays."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from flax import nnx

from deepgen_ppl.engine import Networks
from deepgen_ppl.hosts.on_numpyro.arrays import asarray

__all__ = ["NETWORKS", "Net"]

ACTIVATIONS = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "softplus": jax.nn.softplus,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
}


class MLP(nnx.Module):
    """Multilayer perceptron: affine maps with an activation between them.

    Args:
        sizes: widths (input, hidden..., output).
        activation: name of the activation.
        rngs: flax random streams.
        dtype: dtype of the parameters.
    """

    def __init__(self, sizes: Sequence[int], activation: str, *, rngs: nnx.Rngs, dtype: Any = jnp.float32) -> None:
        self.activation = activation
        make = nnx.initializers.variance_scaling(1.0, "fan_avg", "uniform")
        self.layers = nnx.List(
            nnx.Linear(i, o, rngs=rngs, kernel_init=make, param_dtype=dtype)
            for i, o in zip(sizes, sizes[1:], strict=False)
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map (..., sizes[0]) to (..., sizes[-1])."""
        for layer in self.layers[:-1]:
            x = ACTIVATIONS[self.activation](layer(x))
        return self.layers[-1](x)


class Net:
    """A flax module as a pytree: `params` (flat dict, the leaves) and `graph` (static)."""

    def __init__(self, graph: nnx.GraphDef, params: Mapping[str, jax.Array], paths: tuple[tuple, ...]) -> None:
        self.graph, self.params, self.paths = graph, dict(params), paths

    def __call__(self, x: jax.Array) -> jax.Array:
        """Apply the module to x."""
        flat = {path: nnx.Param(self.params[_name(path)]) for path in self.paths}
        return nnx.merge(self.graph, nnx.from_flat_state(flat))(x)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{k} {tuple(jnp.shape(v))}" for k, v in self.params.items())
        return f"Net({shapes})"


jax.tree_util.register_pytree_with_keys(
    Net,
    lambda net: (((jax.tree_util.GetAttrKey("params"), net.params),), (net.graph, net.paths)),
    lambda aux, children: _rebuild(aux, children[0]),
)


def _rebuild(aux: tuple, params: Any) -> Net:
    net = object.__new__(Net)
    net.graph, net.paths = aux
    net.params = params
    return net


def _name(path: tuple) -> str:
    return ".".join(str(part) for part in path)


def mlp(rng: Any, sizes: Sequence[int], activation: str, dtype: Any = "float32") -> Net:
    """A perceptron with Glorot-uniform weights and zero biases."""
    if activation not in ACTIVATIONS:
        raise ValueError(f"expected an activation among {sorted(ACTIVATIONS)}, got {activation!r}")
    dtype = asarray(np.zeros(1), dtype=dtype).dtype  # refuses float64 that would be rounded
    return wrap(MLP(tuple(sizes), activation, rngs=nnx.Rngs(rng), dtype=dtype))


def wrap(network: Any) -> Net:
    """Split a flax module into graph and arrays.

    Raises:
        TypeError: if it is not a `flax.nnx.Module`, or keeps state other than parameters.
    """
    if isinstance(network, Net):
        return network
    if not isinstance(network, nnx.Module):
        raise TypeError(f"expected a flax.nnx.Module on the NumPyro engine, got {type(network).__name__}")
    graph, params, rest = nnx.split(network, nnx.Param, ...)
    if kinds := sorted({type(v).__name__ for _, v in nnx.to_flat_state(rest)}):
        raise TypeError(
            f"expected a network whose only state is parameters, got {type(network).__name__} with {', '.join(kinds)}: "
            "use LayerNorm instead of BatchNorm, and leave dropout out"
        )
    flat = dict(nnx.to_flat_state(params))
    return Net(graph, {_name(p): v.get_value() for p, v in flat.items()}, tuple(flat))


def with_params(net: Net, params: Mapping[str, Any]) -> Net:
    """The same graph with other arrays."""
    return _rebuild((net.graph, net.paths), {k: params[k] for k in net.params})


def canonical(net: Net) -> dict[str, np.ndarray]:
    """Arrays under common names: kernels (in, out) are called `weight`."""
    return {_common(k): np.asarray(v) for k, v in net.params.items()}


def from_canonical(net: Net, arrays: Mapping[str, np.ndarray]) -> Net:
    """Inverse of `canonical`."""
    return with_params(net, {k: asarray(arrays[_common(k)]) for k in net.params})


def _common(name: str) -> str:
    return name[: -len("kernel")] + "weight" if name.endswith(".kernel") else name


def flatten_leading(net: Any, event_dim: int) -> Any:
    """The network as a function of arrays with any number of leading axes."""

    def call(x: jax.Array) -> jax.Array:
        lead, event = x.shape[: x.ndim - event_dim], x.shape[x.ndim - event_dim :]
        out = net(x.reshape((math.prod(lead), *event)))
        return out.reshape((*lead, *out.shape[1:]))

    return call


NETWORKS = Networks(
    mlp=mlp,
    wrap=wrap,
    params=lambda net: net.params,
    with_params=with_params,
    canonical=canonical,
    from_canonical=from_canonical,
)


def module(name: str, net: Net, event_dim: int) -> Any:
    """The network as a callable whose arrays are NumPyro parameters `NAME.PATH`; see `Host`."""
    params = {k: numpyro.param(f"{name}.{k}", v) for k, v in net.params.items()}
    return flatten_leading(with_params(net, params), event_dim)
