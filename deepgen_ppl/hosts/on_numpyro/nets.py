"""Networks on JAX: flax `nnx` modules and callable pytrees, split into a static body and flat dicts of arrays."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from flax import nnx

from deepgen_ppl.engine import Networks
from deepgen_ppl.hosts.common import impure
from deepgen_ppl.hosts.on_numpyro.arrays import asarray
from deepgen_ppl.hosts.on_numpyro.rows import check_rows
from deepgen_ppl.options import precision

__all__ = ["NETWORKS", "Net", "module", "name_of_key"]

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


@dataclass(frozen=True)
class Flax:
    """The static part of a flax module: called with its arrays, it checks that they stay what they were."""

    kind: str
    graph: nnx.GraphDef
    paths: tuple[tuple, ...]
    keys: frozenset[str]
    activation: str | None = None

    def __call__(self, arrays: Mapping[str, jax.Array], x: jax.Array) -> jax.Array:
        """Apply the module to x.

        Raises:
            TypeError: if that changes a variable of the module.
        """
        own = {
            p: jax.random.wrap_key_data(arrays[n]) if (n := _name(p)) in self.keys else arrays[n] for p in self.paths
        }
        network = nnx.merge(self.graph, nnx.from_flat_state(own))
        out = network(x)
        after = {path: v.get_value() for path, v in nnx.to_flat_state(nnx.state(network))}
        # arrays of JAX are immutable: what was assigned is another object, traced or not
        if changed := sorted(_name(path) for path, v in after.items() if v is not own.get(path)):
            raise impure(self.kind, f"changes of {', '.join(changed)}")
        return out


@dataclass(frozen=True)
class Tree:
    """The static part of a callable pytree: its structure, and the leaves that are no arrays."""

    structure: Any
    names: tuple[str, ...]
    others: tuple[tuple[int, Any], ...]

    def __call__(self, arrays: Mapping[str, jax.Array], x: jax.Array) -> jax.Array:
        """Apply the tree to x."""
        leaves = [arrays[n] for n in self.names]
        for at, leaf in self.others:
            leaves.insert(at, leaf)
        return jax.tree_util.tree_unflatten(self.structure, leaves)(x)

    @property
    def activation(self) -> None:
        """Not one of ours."""


class Net:
    """A network as a pytree: `params` and `constants` (flat dicts, the leaves) and a static body."""

    def __init__(self, body: Any, params: Mapping[str, jax.Array], constants: Mapping[str, jax.Array]) -> None:
        self.body, self.params, self.constants = body, params, constants

    def __call__(self, x: jax.Array) -> jax.Array:
        """Apply the network to x."""
        return self.body({**self.params, **self.constants}, x)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{k} {tuple(jnp.shape(v))}" for k, v in self.params.items())
        return f"Net({shapes})"


jax.tree_util.register_pytree_with_keys(
    Net,
    lambda net: (tuple((jax.tree_util.GetAttrKey(k), getattr(net, k)) for k in ("params", "constants")), net.body),
    lambda body, children: Net(body, *children),
)


def _name(path: tuple) -> str:
    return ".".join(str(part) for part in path)


def mlp(rng: Any, sizes: Sequence[int], activation: str, dtype: Any = "float32") -> Net:
    """A perceptron with Glorot-uniform weights and zero biases."""
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise ValueError(f"expected an activation among {sorted(ACTIVATIONS)}, got {activation!r}")
    dtype = asarray(np.zeros(1), dtype=precision(dtype)).dtype  # refuses float64 that would be rounded
    return wrap(MLP(tuple(sizes), activation, rngs=nnx.Rngs(rng), dtype=dtype))


def wrap(network: Any) -> Net:
    """Split a network into its body and its arrays.

    Raises:
        TypeError: if it is neither a `flax.nnx.Module` nor a callable pytree.
    """
    if isinstance(network, Net):
        return network
    if isinstance(network, nnx.Module):
        return _from_flax(network)
    if callable(network) and not jax.tree_util.all_leaves([network]):
        return _from_tree(network)
    raise TypeError(
        f"expected a flax.nnx.Module on the NumPyro engine, got {type(network).__name__} "
        "(a callable pytree of arrays will do as well)"
    )


def _from_flax(network: nnx.Module) -> Net:
    graph, trained, rest = nnx.split(network, nnx.Param, ...)
    params, others = (dict(nnx.to_flat_state(state)) for state in (trained, rest))
    constants, keys = {}, set()
    for path, variable in others.items():
        value = jnp.asarray(variable.get_value())
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):  # kept as numbers, which files can hold
            keys.add(_name(path))
            value = jax.random.key_data(value)
        constants[_name(path)] = value
    activation = network.activation if isinstance(network, MLP) else None
    body = Flax(type(network).__name__, graph, (*params, *others), frozenset(keys), activation)
    return Net(body, {_name(p): v.get_value() for p, v in params.items()}, constants)


def _from_tree(network: Any) -> Net:
    leaves, structure = jax.tree_util.tree_flatten_with_path(network)
    arrays: dict[str, jax.Array] = {}
    others = []
    for at, (path, leaf) in enumerate(leaves):
        if isinstance(leaf, (jax.Array, np.ndarray)):
            arrays[".".join(name_of_key(key) for key in path)] = jnp.asarray(leaf)
        else:
            others.append((at, leaf))
    trained = {k: v for k, v in arrays.items() if jnp.issubdtype(v.dtype, jnp.floating)}
    constants = {k: v for k, v in arrays.items() if k not in trained}
    return Net(Tree(structure, tuple(arrays), tuple(others)), trained, constants)


def name_of_key(key: Any) -> str:
    """A step of the path to a leaf of a tree, as a name."""
    return str(next(getattr(key, a) for a in ("name", "key", "idx") if hasattr(key, a)))


def with_arrays(net: Net, arrays: Mapping[str, Any]) -> Net:
    """The same body with other arrays."""
    return Net(net.body, *({k: arrays.get(k, v) for k, v in own.items()} for own in (net.params, net.constants)))


def frozen(net: Net) -> Net:
    """The same network, no array of which is trained."""
    return Net(net.body, {}, {**net.params, **net.constants})


def call(net: Net, arrays: Mapping[str, Any]) -> Callable:
    """The network as a function of x, with arrays under the common names put in."""
    return flatten_leading(with_arrays(net, {k: arrays[c] for k in _arrays(net) if (c := _common(k)) in arrays}), 1)


def _arrays(net: Net) -> dict[str, jax.Array]:
    return {**net.params, **net.constants}


def canonical(net: Net) -> dict[str, np.ndarray]:
    """Arrays under common names: kernels (in, out) are called `weight`."""
    return {_common(k): np.asarray(v) for k, v in _arrays(net).items()}


def from_canonical(net: Net, arrays: Mapping[str, np.ndarray]) -> Net:
    """Inverse of `canonical`."""
    return with_arrays(net, {k: asarray(arrays[_common(k)]) for k in _arrays(net)})


def _common(name: str) -> str:
    head, dot, last = name.rpartition(".")
    return f"{head}{dot}weight" if last == "kernel" else name


def flatten_leading(net: Net, event_dim: int) -> Callable:
    """The network as a function of arrays with any number of leading axes, which must not mix rows."""

    def apply(x: jax.Array) -> jax.Array:
        lead, event = x.shape[: x.ndim - event_dim], x.shape[x.ndim - event_dim :]
        rows = x.reshape((math.prod(lead), *event))
        check_rows(net, rows)
        out = net(rows)
        return out.reshape((*lead, *out.shape[1:]))

    return apply


NETWORKS = Networks(
    mlp=mlp,
    activation=lambda net: net.body.activation,
    wrap=wrap,
    params=lambda net: net.params,
    constants=lambda net: net.constants,
    with_arrays=with_arrays,
    frozen=frozen,
    call=call,
    canonical=canonical,
    from_canonical=from_canonical,
)


def module(name: str, net: Net, event_dim: int) -> Callable:
    """The network as a callable whose arrays are NumPyro parameters `NAME.PATH`; see `Host`."""
    params = {k: numpyro.param(f"{name}.{k}", v) for k, v in net.params.items()}
    return flatten_leading(with_arrays(net, params), event_dim)
