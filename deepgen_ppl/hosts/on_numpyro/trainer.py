"""The training loop on JAX: minibatches in a compiled scan, optax."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from deepgen_ppl.data import Batch, take
from deepgen_ppl.engine import check_shapes
from deepgen_ppl.hosts.on_numpyro.arrays import RANDOM

__all__ = ["OPTIMIZERS", "TrainState", "Trainer"]

OPTIMIZERS = {"adam": optax.adam, "sgd": optax.sgd}


class TrainState(NamedTuple):
    """What a step needs.

    Attributes:
        model: the model.
        optimizer: state of the optax transformation.
        objective: state of the objective.
        rng: key.
    """

    model: Any
    optimizer: Any
    objective: Any
    rng: jax.Array


def _step(objective: Any, optimizer: Any, num_data: int, state: TrainState, batch: Batch, mask: Any) -> tuple:
    rng, first, second = jax.random.split(state.rng, 3)
    model, inner = objective.before_step(first, state.model, state.objective, batch, mask)

    def loss(params: dict) -> tuple[jax.Array, Any]:
        return objective.batch_loss(second, model.with_params(params), inner, batch, mask, num_data)

    (value, inner), grads = jax.value_and_grad(loss, has_aux=True)(model.params)
    updates, opt = optimizer.update(grads, state.optimizer, model.params)
    model = model.with_params(optax.apply_updates(model.params, updates))
    return TrainState(model, opt, inner, rng), value


@functools.lru_cache(maxsize=64)
def _compiled(objective: Any, optimizer: Any, num_data: int) -> tuple[Callable, Callable, Callable]:
    step = functools.partial(_step, objective, optimizer, num_data)

    @jax.jit
    def scan(state: TrainState, data: Batch, rows: jax.Array, mask: jax.Array | None) -> tuple:
        """All batches of one chunk; `rows` and `mask` are (batches, B)."""
        if mask is None:
            return jax.lax.scan(lambda s, r: step(s, take(data, r), None), state, rows)
        return jax.lax.scan(lambda s, r: step(s, take(data, r[0]), r[1]), state, (rows, mask))

    @jax.jit
    def init(model: Any, rng: jax.Array, batch: Batch) -> TrainState:
        rng, first = jax.random.split(rng)
        return TrainState(model, optimizer.init(model.params), objective.init(first, model, batch), rng)

    return init, scan, jax.jit(step)


class Trainer:
    """Steps of one objective with one optimizer.

    Args:
        objective: the objective (hashable options).
        optimizer: an optax transformation.
        num_data: number of rows in the data set.
    """

    def __init__(self, objective: Any, optimizer: Any, num_data: int) -> None:
        if not isinstance(optimizer, optax.GradientTransformation):
            raise TypeError(f"expected an optax.GradientTransformation on the NumPyro engine, got {optimizer!r}")
        self.objective, self.optimizer, self.num_data = objective, optimizer, num_data
        self._init, self._scan, self._one = _compiled(objective, optimizer, num_data)

    def init(self, model: Any, rng: jax.Array, batch: Batch) -> TrainState:
        """First state."""
        return self._init(model, rng, batch)

    def run(self, state: TrainState, data: Batch, rows: np.ndarray, mask: np.ndarray | None) -> tuple:
        """Steps over `data[rows]`, rows (batches, B): (state, losses)."""
        mask = None if mask is None or mask.all() else jnp.asarray(mask, state.model.like.dtype)
        state, losses = self._scan(state, data, jnp.asarray(rows), mask)
        return state, np.asarray(losses)

    def step(self, state: TrainState, batch: Batch, mask: np.ndarray | None) -> tuple:
        """One step on a batch."""
        state, loss = self._one(state, batch, None if mask is None else jnp.asarray(mask, state.model.like.dtype))
        return state, np.asarray(loss)[None]

    def model(self, state: TrainState) -> Any:
        """The model as it stands."""
        return state.model

    def export(self, state: TrainState) -> dict[str, np.ndarray]:
        """All arrays of the state, by position in the tree."""
        plain = state._replace(rng=jax.random.key_data(state.rng))
        return {f"state.{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(plain))}

    def restore(self, state: TrainState, arrays: Mapping[str, np.ndarray]) -> TrainState:
        """The state that was exported, in the shape of a fresh one."""
        plain = state._replace(rng=jax.random.key_data(state.rng))
        leaves, tree = jax.tree.flatten(plain)
        check_shapes(arrays, [np.shape(leaf) for leaf in leaves])
        new = [jnp.asarray(arrays[f"state.{i}"], leaf.dtype) for i, leaf in enumerate(leaves)]
        state = jax.tree.unflatten(tree, new)
        return state._replace(rng=RANDOM.restore(state.rng))
