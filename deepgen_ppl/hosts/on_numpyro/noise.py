r"""Random numbers on JAX that XLA computes where they are used.

    x_rc, y_rc = Threefry-2x32-20 of the key at the counter (r, c): row r, column c of an array

The generator is that of `jax.random`, which keeps its 20 rounds in a loop: all bits of an array are then written to
memory and read back. Written out, they are fused with the comparison or the sum that needs them, and a sweep of block
Gibbs costs little more than its matrix products.

Reference: Parallel Random Numbers: As Easy as 1, 2, 3 (Salmon et al., 2011), section 3.3.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["bernoulli", "categorical", "normal", "threefry", "uniform", "words"]

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = np.uint32(0x1BD11BDA)


def threefry(key: tuple[Any, Any], counter: tuple[Any, Any]) -> tuple[Any, Any]:
    """The two words of a counter under a key; arrays of uint32, broadcast."""
    keys = (*key, key[0] ^ key[1] ^ PARITY)
    x, y = counter[0] + keys[0], counter[1] + keys[1]
    for i in range(5):
        for by in ROTATIONS[i % 2]:
            x = x + y
            y = x ^ (y << np.uint32(by) | y >> np.uint32(32 - by))
        x, y = x + keys[(i + 1) % 3], y + keys[(i + 2) % 3] + np.uint32(i + 1)
    return x, y


def words(key: jax.Array, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """Two random uint32 for each element of a shape; a key of another generator gives them by `jax.random`."""
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.wrap_key_data(key)
    if str(jax.random.key_impl(key)) != "threefry2x32":
        x, y = jax.random.bits(key, (2, *shape), jnp.uint32)
        return x, y
    data, columns, rows = jax.random.key_data(key), shape[-1] if shape else 1, math.prod(shape[:-1])
    row, column = (jax.lax.broadcasted_iota(jnp.uint32, (rows, columns), axis) for axis in (0, 1))
    x, y = threefry((data[0], data[1]), (row, column))
    return jnp.reshape(x, shape), jnp.reshape(y, shape)


@functools.partial(jax.jit, static_argnums=(1, 2), inline=True)
def _uniform(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    x, y = words(key, shape)
    if dtype == jnp.float64:
        return ((x >> 6).astype(dtype) * 2.0**26 + (y >> 6).astype(dtype) + 0.5) * 2.0**-52
    return (((x ^ y) >> 9).astype(dtype) + 0.5) * 2.0**-23


@functools.partial(jax.jit, static_argnums=(1, 2), inline=True)
def _normal(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    return math.sqrt(2.0) * jax.lax.erf_inv(2.0 * _uniform(key, shape, dtype) - 1.0)


def uniform(key: jax.Array, shape: Sequence[int], like: jax.Array) -> jax.Array:
    """Midpoints of 2^23 equal parts of (0, 1), of 2^52 in float64: exact, symmetric about 1/2, never 0 nor 1."""
    return _uniform(key, tuple(shape), like.dtype)


def normal(key: jax.Array, shape: Sequence[int], like: jax.Array) -> jax.Array:
    """Standard normal draws: sqrt(2) erf^-1(2 u - 1)."""
    return _normal(key, tuple(shape), like.dtype)


@functools.partial(jax.jit, inline=True)
def bernoulli(key: jax.Array, logits: jax.Array) -> jax.Array:
    """0/1 draws, u < sigmoid(logits): 0 never fires and 1 always does."""
    return (uniform(key, logits.shape, logits) < jax.nn.sigmoid(logits)).astype(logits.dtype)


@functools.partial(jax.jit, inline=True)
def categorical(key: jax.Array, logits: jax.Array) -> jax.Array:
    """Integer draws over the last axis: argmax_k of logits_k - log(-log(u_k))."""
    return jnp.argmax(logits - jnp.log(-jnp.log(uniform(key, logits.shape, logits))), axis=-1)
