"""The training loop on torch: one `torch.optim` optimizer over the model's own tensors; no global store."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyro
import torch
from pyro import poutine

from deepgen_ppl.data import Batch, take
from deepgen_ppl.hosts.common import check_shapes
from deepgen_ppl.hosts.on_pyro.optimizers import (
    OPTIMIZERS,
    constructor,
    made,
    numbers,
    put_state,
    set_rate,
    state_arrays,
    try_optimizer,
)
from deepgen_ppl.hosts.threads import one_at_a_time
from deepgen_ppl.objectives.objective import Objective

__all__ = ["OPTIMIZERS", "TrainState", "Trainer"]


class TrainState:
    """What a step needs: the model, whose tensors are trained in place, and the states around it."""

    def __init__(self, model: Any, optimizer: torch.optim.Optimizer, objective: Any, rng: torch.Generator) -> None:
        self.model, self.optimizer, self.objective, self.rng = model, optimizer, objective, rng
        self.steps, self.validated = 0, False


def _leaves(tree: Any) -> list[torch.Tensor]:
    if isinstance(tree, torch.Tensor):
        return [tree]
    if isinstance(tree, Mapping):
        return [leaf for k in sorted(tree) for leaf in _leaves(tree[k])]
    return [leaf for item in tree for leaf in _leaves(item)]


def _filled(tree: Any, leaves: Iterator[torch.Tensor]) -> Any:
    """The tree with other leaves, in the order of `_leaves`."""
    if isinstance(tree, torch.Tensor):
        return next(leaves)
    if isinstance(tree, Mapping):
        return {k: _filled(tree[k], leaves) for k in sorted(tree)}
    items = [_filled(v, leaves) for v in tree]
    return type(tree)(*items) if hasattr(tree, "_fields") else type(tree)(items)


def _own(tree: Any, *others: Any) -> Any:
    """The tree with tensors of its own: those that share memory with the trees given are copied, or all if none is."""
    taken = {leaf.untyped_storage().data_ptr() for other in others for leaf in _leaves(other)}
    leaves = (leaf.detach() for leaf in _leaves(tree))
    return _filled(tree, (x.clone() if not others or x.untyped_storage().data_ptr() in taken else x for x in leaves))


class Trainer:
    """Steps of one objective with one optimizer.

    Args:
        objective: the objective.
        optimizer: `sgd(...)`, `adam(...)`, an optimizer of `pyro.optim`, or `(name, tensor) pairs -> torch optimizer`.
        num_data: number of rows in the data set.

    Raises:
        TypeError: for something else than an optimizer of this engine.
        RuntimeError: in inference mode, which has no gradients.
    """

    def __init__(self, objective: Any, optimizer: Any, num_data: int) -> None:
        if torch.is_inference_mode_enabled():
            raise RuntimeError("expected fit outside torch.inference_mode(), which has no gradients")
        self.objective, self.optimizer, self.num_data = objective, optimizer, num_data
        self._make = constructor(optimizer)

    def init(self, model: Any, rng: torch.Generator, batch: Batch) -> TrainState:
        """First state, over tensors of its own.

        Raises:
            TypeError: for an optimizer whose steps need more than gradients.
        """
        with torch.enable_grad():
            try_optimizer(self._make, model.params)
            own = {k: v.detach().clone().requires_grad_() for k, v in model.params.items()}
            model = model.with_params(own).with_constants(_own(model.constants))
            optimizer = made(self._make, model.params)
        with torch.no_grad():
            inner = _own(self.objective.init(rng, model, batch))
        return TrainState(model, optimizer, inner, rng)

    @one_at_a_time
    def first_loss(self, model: Any, rng: torch.Generator, batch: Batch) -> float:
        """The loss of a batch at the first parameters: what the code of model and objective is known by."""
        with torch.no_grad(), poutine.block():
            model, state = self.objective.before_step(rng, model, self.objective.init(rng, model, batch), batch, None)
            return float(self.objective.batch_loss(rng, model, state, batch, None, self.num_data)[0])

    def run(self, state: TrainState, data: Batch, rows: np.ndarray, mask: np.ndarray | None) -> tuple:
        """Steps over `data[rows]`, rows (batches, B); the mask shortens the last batch: (state, losses)."""
        losses = []
        device = state.model.like.device
        for i, index in enumerate(rows):
            kept = index if mask is None else index[mask[i]]
            chosen = torch.as_tensor(kept, device=device)
            losses.append(self._step(state, {name: x.index_select(0, chosen) for name, x in data.items()}))
        return state, torch.stack(losses).cpu().numpy()

    def step(self, state: TrainState, batch: Batch, mask: np.ndarray | None) -> tuple:
        """One step on a batch."""
        batch = batch if mask is None else take(batch, torch.as_tensor(mask, device=state.model.like.device))
        return state, self._step(state, batch)[None].cpu().numpy()

    @one_at_a_time
    def _step(self, state: TrainState, batch: Batch) -> torch.Tensor:
        # The first step runs with the host's checks of arguments; then what is NaN shows in the loss, which is watched.
        checks = pyro.validation_enabled(False) if state.validated else contextlib.nullcontext()
        with checks, torch.enable_grad(), poutine.block():  # an outer handler of the user's sees nothing of this
            with torch.no_grad():
                before = self.objective.before_step(state.rng, state.model, state.objective, batch, None)
                self._take(state, *before)
            loss, inner = self.objective.batch_loss(state.rng, state.model, state.objective, batch, None, self.num_data)
            state.optimizer.zero_grad()
            loss.backward()
        state.validated = True
        if inner is not state.objective:
            state.objective = _own(inner, state.model.params, state.model.constants, batch)
        set_rate(state.optimizer, self.optimizer, state.steps)
        state.optimizer.step()
        state.steps += 1
        if type(self.objective).after_step is not Objective.after_step:
            grads = {k: torch.zeros_like(v) if v.grad is None else v.grad for k, v in state.model.params.items()}
            with torch.no_grad():
                self._take(state, *self.objective.after_step(state.model, grads, state.objective))
        return loss.detach()

    @staticmethod
    def _take(state: TrainState, model: Any, inner: Any) -> None:
        """What a hook returned: the values go into the trained tensors, which stay the optimizer's."""
        if model is not state.model:
            for k, own in state.model.params.items():
                if own is not model.params[k]:
                    own.copy_(model.params[k])
            with torch.enable_grad():  # arrays that are being trained are not checked anew in every step
                state.model = state.model.with_constants(model.constants)
        state.objective = inner

    def model(self, state: TrainState) -> Any:
        """A copy of the model as it stands, which further steps do not touch."""
        copy = {k: v.detach().clone() for k, v in state.model.params.items()}
        return state.model.with_params(copy)

    def options(self, state: TrainState) -> dict[str, Any]:
        """The numbers that the optimizer has for each group of parameters."""
        return {"groups": numbers(state.optimizer)}

    def snapshot(self, state: TrainState) -> dict[str, np.ndarray]:
        """What `rollback` needs to come back to this state."""
        return self.export(state)

    def rollback(self, state: TrainState, kept: Mapping[str, np.ndarray]) -> TrainState:
        """The state of a snapshot."""
        return self.restore(state, kept)

    def export(self, state: TrainState) -> dict[str, np.ndarray]:
        """All arrays of the state."""
        leaves = [
            leaf for group in (state.model.params, state.model.constants, state.objective) for leaf in _leaves(group)
        ]
        arrays = {f"state.{i}": leaf.detach().cpu().numpy().copy() for i, leaf in enumerate(leaves)}
        own = {"state.rng": state.rng.get_state().numpy().copy(), "state.steps": np.array(state.steps)}
        return {**arrays, **own, **state_arrays(state.optimizer, state.model.params)}

    def restore(self, state: TrainState, arrays: Mapping[str, np.ndarray]) -> TrainState:
        """The state that was exported, written into a fresh one.

        The state of the objective may have another number of rows: the last batch of an epoch is a shorter one.

        Raises:
            ValueError: for arrays of other shapes.
        """
        groups = (state.model.params, state.model.constants)
        fixed, moving = [leaf for group in groups for leaf in _leaves(group)], _leaves(state.objective)
        saved = [arrays.get(f"state.{i}") for i in range(len(fixed) + len(moving))]
        shapes = [tuple(leaf.shape) for leaf in fixed]
        for leaf, array in zip(moving, saved[len(fixed) :], strict=True):
            rows = () if array is None else tuple(array.shape[:1])
            shapes.append((*rows[: leaf.dim()], *leaf.shape[1:]))
        check_shapes(arrays, shapes)
        with torch.no_grad():
            for leaf, array in zip(fixed, saved, strict=False):
                leaf.copy_(torch.as_tensor(array))
        new = (
            torch.as_tensor(array, dtype=leaf.dtype, device=leaf.device).clone()
            for leaf, array in zip(moving, saved[len(fixed) :], strict=True)
        )
        state.objective = _filled(state.objective, new)
        put_state(self._make, state.optimizer, state.model.params, arrays)
        state.rng.set_state(torch.as_tensor(arrays["state.rng"]))
        state.steps = int(arrays["state.steps"])
        return state
