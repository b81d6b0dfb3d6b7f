"""Arrays, special functions, randomness and control flow on JAX."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deepgen_ppl.engine import Arrays, Control, Random, Special
from deepgen_ppl.hosts.common import native
from deepgen_ppl.hosts.on_numpyro import noise

__all__ = ["ARRAYS", "CONTROL", "RANDOM", "SPECIAL", "asarray", "beside"]


def asarray(x: Any, like: Any = None, dtype: Any = None) -> jax.Array:
    """Array of the engine; see `Arrays`."""
    if like is not None:
        if isinstance(x, jax.core.Tracer):
            return x.astype(like.dtype)
        return beside(jnp.array(x if isinstance(x, jax.Array) else native(x), like.dtype), like)
    if dtype is None and isinstance(x, jax.Array):
        return x
    x = x if isinstance(x, jax.core.Tracer) else native(x)
    if dtype is not None:
        dtype = jnp.dtype(dtype)
    elif x.dtype.kind == "f":
        dtype = jnp.dtype(np.float64 if x.dtype == np.float64 else np.float32)
    else:
        return jnp.array(x)
    if dtype == np.float64 and not jax.config.jax_enable_x64:
        raise TypeError(
            "expected float32 parameters, got float64 while JAX runs without x64 (it would round them silently): "
            "cast them with .astype('float32'), or call jax.config.update('jax_enable_x64', True) first"
        )
    return jnp.array(x, dtype)


def beside(x: jax.Array, like: Any) -> jax.Array:
    """x on the device of `like`, where that is bound to one: an array of another device would meet it in an error."""
    if isinstance(x, jax.core.Tracer) or isinstance(like, jax.core.Tracer) or not getattr(like, "committed", False):
        return x
    devices = like.devices()
    return jax.device_put(x, next(iter(devices))) if len(devices) == 1 else x


def is_concrete(x: Any) -> bool:
    """Whether the value of `x` can be read now."""
    return not isinstance(x, jax.core.Tracer)


def cast(x: Any, like: Any) -> jax.Array:
    """x in the dtype of `like`, beside it.

    Raises:
        ValueError: for arrays that the user has put on two devices, with both.
    """
    x = x if isinstance(x, jax.Array) else jnp.asarray(native(x))
    _check_device(x, like)
    return x.astype(like.dtype)


def _check_device(x: Any, like: Any) -> None:
    """Raise where both are bound to devices, and to others: JAX would say so from deep inside."""
    traced = isinstance(x, jax.core.Tracer) or isinstance(like, jax.core.Tracer)
    if traced or not (x.committed and getattr(like, "committed", False)):
        return
    if x.devices() != like.devices():
        there, here = (sorted(map(str, a.devices())) for a in (x, like))
        raise ValueError(
            f"expected an array on the device of the model, {', '.join(here)}, got one on {', '.join(there)}: "
            "put one beside the other, jax.device_put(x, device)"
        )


ARRAYS = Arrays(
    asarray=asarray,
    to_numpy=lambda x: np.asarray(x),
    is_concrete=is_concrete,
    is_constant=is_concrete,
    cast=cast,
    mix=lambda beta, a, b: a + beta * (b - a),
)


def conv_transpose(y: jax.Array, w: jax.Array) -> jax.Array:
    """The adjoint of `conv`: filters mirrored, over maps padded by what they reach."""
    pads = [(n - 1, n - 1) for n in w.shape[2:]]
    return jax.lax.conv_general_dilated(y, jnp.flip(jnp.swapaxes(w, 0, 1), (2, 3)), (1, 1), pads)


SPECIAL = Special(
    sigmoid=jax.nn.sigmoid,
    softplus=jax.nn.softplus,
    logsumexp=lambda x, axis: jax.nn.logsumexp(x, axis=axis),
    softmax=lambda x, axis: jax.nn.softmax(x, axis=axis),
    lgamma=jax.scipy.special.gammaln,
    one_hot=lambda x, num_classes, like: jax.nn.one_hot(cast(x, like).astype(jnp.int32), num_classes, dtype=like.dtype),
    stop_gradient=jax.lax.stop_gradient,
    conv=lambda x, w: jax.lax.conv_general_dilated(x, w, (1, 1), "VALID"),
    conv_transpose=conv_transpose,
)


def make_rng(seed: Any, like: Any = None) -> jax.Array:
    """A typed JAX key from an integer, or the key itself, on the device of `like`."""
    if isinstance(seed, (int, np.integer)) and not isinstance(seed, bool):
        return beside(_key(int(seed)), like)
    if isinstance(seed, (jax.Array, np.ndarray)):
        key = jnp.asarray(seed) if isinstance(seed, np.ndarray) else seed
        return beside(key if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else jax.random.wrap_key_data(key), like)
    raise TypeError(f"expected an integer seed or a JAX key, got {type(seed).__name__}")


def _key(seed: int) -> jax.Array:
    """The key of an integer; JAX alone would read it modulo 2^32 where x64 is off."""
    key, high = jax.random.key(seed % 2**32), seed >> 32
    while high not in (0, -1):
        key, high = jax.random.fold_in(key, high % 2**32), high >> 32
    return key if high == 0 else jax.random.fold_in(key, 2**32 - 1)  # a negative seed


RANDOM = Random(
    rng=make_rng,
    split=lambda rng, n: jax.random.split(rng if isinstance(rng, jax.Array) else make_rng(rng), n),
    uniform=noise.uniform,
    normal=noise.normal,
    poisson=lambda rng, rate: jax.random.poisson(rng, rate).astype(rate.dtype),
    bernoulli=noise.bernoulli,
    categorical=noise.categorical,
    state=lambda rng: np.asarray(jax.random.key_data(rng)),
    restore=lambda state, like=None: beside(jax.random.wrap_key_data(jnp.asarray(state, jnp.uint32)), like),
)


def loop(step: Any, carry: Any, xs: Any = None, length: int | None = None) -> tuple[Any, Any]:
    """`jax.lax.scan`."""
    return jax.lax.scan(step, carry, xs, length=length)


def shard(x: Any, like: jax.Array) -> Any:
    """A tree of arrays spread over the local devices along their leading axes; see `Control`."""
    devices, leaves = jax.local_devices(), jax.tree.leaves(x)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in (*leaves, like)):
        return x
    if len(devices) == 1 or like.committed or any(leaf.shape[0] % len(devices) for leaf in leaves):
        return x
    mesh = jax.sharding.Mesh(np.array(devices), ("chains",))
    return jax.device_put(x, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("chains")))


CONTROL = Control(
    loop=loop,
    map=lambda fn, xs: jax.vmap(fn)(xs),
    value_and_grad=jax.value_and_grad,
    compile=jax.jit,
    double=lambda: jax.enable_x64(True),
    shard=shard,
    forget=jax.clear_caches,
)
