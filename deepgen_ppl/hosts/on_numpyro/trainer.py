"""The training loop on JAX: minibatches in a compiled scan, optax."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpyro import handlers

from deepgen_ppl.data import Batch, take
from deepgen_ppl.hosts.common import check_shapes
from deepgen_ppl.hosts.on_numpyro.arrays import beside
from deepgen_ppl.hosts.threads import LOCK
from deepgen_ppl.training.optimizers import SGD, Adam, Optimizer

__all__ = ["OPTIMIZERS", "TrainState", "Trainer"]

OPTIMIZERS = {"adam": Adam, "sgd": SGD}


@functools.lru_cache(maxsize=64)
def native(optimizer: Optimizer) -> optax.GradientTransformation:
    """The optax transformation of an optimizer, the same object for equal options."""
    o: Any = optimizer
    if isinstance(o, SGD):
        made = optax.sgd(o.learning_rate, o.momentum or None, o.nesterov)
    else:
        made = optax.adam(o.learning_rate, o.b1, o.b2, o.eps)
    return optax.chain(optax.add_decayed_weights(o.weight_decay), made) if o.weight_decay else made


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
    with LOCK, handlers.block():  # an outer handler of the user's sees nothing of this
        model, inner = objective.before_step(first, state.model, state.objective, batch, mask)

        def loss(params: dict) -> tuple[jax.Array, Any]:
            return objective.batch_loss(second, model.with_params(params), inner, batch, mask, num_data)

        params = dict(model.params)
        (value, inner), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt = optimizer.update(grads, state.optimizer, params)
        model = model.with_params(optax.apply_updates(params, updates))
        model, inner = objective.after_step(model, grads, inner)
    return TrainState(model, opt, inner, rng), value


@functools.lru_cache(maxsize=16)
def _compiled(objective: Any, optimizer: Any, num_data: int) -> tuple[Callable, ...]:
    """(init, scan, one step, first loss) of equal objectives and optimizers, compiled once for all models of a kind."""
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
        return TrainState(model, optimizer.init(dict(model.params)), objective.init(first, model, batch), rng)

    @jax.jit
    def first_loss(model: Any, rng: jax.Array, batch: Batch) -> jax.Array:
        with LOCK, handlers.block():
            first, second, third = jax.random.split(rng, 3)
            model, state = objective.before_step(second, model, objective.init(first, model, batch), batch, None)
            return objective.batch_loss(third, model, state, batch, None, num_data)[0]

    return init, scan, jax.jit(step), first_loss


class Trainer:
    """Steps of one objective with one optimizer.

    Args:
        objective: the objective (hashable options).
        optimizer: `sgd(...)`, `adam(...)`, or an optax transformation, which sees a dict of arrays by name.
        num_data: number of rows in the data set.

    Raises:
        TypeError: for something else than an optimizer of this engine.
    """

    def __init__(self, objective: Any, optimizer: Any, num_data: int) -> None:
        if isinstance(optimizer, Optimizer):
            optimizer = native(optimizer)
        if not isinstance(optimizer, optax.GradientTransformation):
            raise TypeError(
                "expected an optax.GradientTransformation, sgd(...) or adam(...) on the NumPyro engine, "
                f"got {optimizer!r}"
            )
        self.optimizer = optimizer
        self._init, self._scan, self._one, self._first_loss = _compiled(objective, optimizer, num_data)

    def init(self, model: Any, rng: jax.Array, batch: Batch) -> TrainState:
        """First state.

        Raises:
            TypeError: for an optimizer whose updates need more than gradients and parameters.
        """
        state = self._init(model, rng, batch)
        params = dict(model.params)
        try:
            jax.eval_shape(self.optimizer.update, params, state.optimizer, params)
        except Exception as error:
            raise TypeError(
                f"expected an optimizer that needs gradients and parameters alone, got {self.optimizer!r}: {error}"
            ) from None
        return state

    def first_loss(self, model: Any, rng: jax.Array, batch: Batch) -> float:
        """The loss of a batch at the first parameters: what the code of model and objective is known by."""
        return float(self._first_loss(model, rng, batch))

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

    def options(self, state: TrainState) -> dict[str, Any]:
        """Nothing: an optax transformation is known by its functions."""
        del state
        return {}

    def snapshot(self, state: TrainState) -> TrainState:
        """What `rollback` needs to come back to this state."""
        return state

    def rollback(self, state: TrainState, kept: TrainState) -> TrainState:
        """The state of a snapshot."""
        del state
        return kept

    def export(self, state: TrainState) -> dict[str, np.ndarray]:
        """All arrays of the state, by position in the tree."""
        return {f"state.{i}": np.asarray(_plain(leaf)) for i, leaf in enumerate(jax.tree.leaves(state))}

    def restore(self, state: TrainState, arrays: Mapping[str, np.ndarray]) -> TrainState:
        """The state that was exported, in the shape of a fresh one and on its devices.

        Raises:
            ValueError: for arrays of other shapes or dtypes.
        """
        leaves, tree = jax.tree.flatten(state)
        check_shapes(arrays, [np.shape(_plain(leaf)) for leaf in leaves])
        return jax.tree.unflatten(tree, [_restored(leaf, arrays[f"state.{i}"]) for i, leaf in enumerate(leaves)])


def _plain(leaf: Any) -> Any:
    """An array; of a key (the trainer's own, or an optimizer's) its data."""
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def _restored(leaf: jax.Array, array: np.ndarray) -> jax.Array:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return beside(jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(leaf)), leaf)
    return beside(jnp.asarray(array, leaf.dtype), leaf)
