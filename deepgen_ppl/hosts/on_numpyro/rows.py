"""Whether a network on JAX mixes the rows of a batch, found by running it once on rows that are made up.

A program is mostly traced, where no values can be read; which rows an output looks at does not depend on them.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deepgen_ppl.hosts.common import MIXED, impure

__all__ = ["check_rows"]

_ALIKE: set[tuple] = set()
"""Networks that do not: their static parts, with shape and dtype of a row."""


def check_rows(net: Any, x: jax.Array) -> None:
    """Check that the outputs of a row do not depend on the other rows, the first time that a network is called.

    Raises:
        TypeError: if they do.
    """
    case: tuple[Any, ...] = (net.body, x.shape[1:], x.dtype)
    try:
        if net.body.activation is not None or case in _ALIKE:  # a perceptron of ours maps row by row
            return
    except TypeError:  # a static part that cannot be remembered
        case = ()
    rng = np.random.default_rng(0)
    with jax.ensure_compile_time_eval():
        arrays = {k: _values(rng, v, trained=True) for k, v in net.params.items()}
        arrays |= {k: _values(rng, v, trained=False) for k, v in net.constants.items()}
        rows = _values(rng, jax.ShapeDtypeStruct((max(len(x), 2), *x.shape[1:]), x.dtype), trained=True)
        others = jnp.broadcast_to(rows[-1:], rows.shape)
        last = jax.jit(lambda *batches: [net.body(arrays, batch)[-1] for batch in batches])
        among, alone = (np.asarray(out) for out in last(rows, others))
    if not np.allclose(among, alone, rtol=1e-3, atol=1e-4 * np.abs(among).max(initial=0.0), equal_nan=True):
        raise impure(getattr(net.body, "kind", "a network"), MIXED)
    if case:
        _ALIKE.add(case)


def _values(rng: np.random.Generator, like: Any, *, trained: bool) -> jax.Array:
    """The array itself where it can be read, else one that a network could have."""
    if isinstance(like, jax.Array) and not isinstance(like, jax.core.Tracer):
        return like
    if not jnp.issubdtype(like.dtype, jnp.floating):
        return jnp.asarray(rng.integers(0, 2, like.shape), like.dtype)
    fan = max(1, int(np.prod(like.shape[:-1])))
    made = rng.normal(size=like.shape) / fan**0.5 if trained else rng.uniform(0.5, 1.5, like.shape)  # variances too
    return jnp.asarray(made, like.dtype)
