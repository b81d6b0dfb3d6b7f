"""The training loop on torch: one `torch.optim` optimizer over the model's own tensors; no global store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from deepgen_ppl.data import Batch, take
from deepgen_ppl.engine import check_shapes

__all__ = ["OPTIMIZERS", "TrainState", "Trainer"]


def _constructor(cls: Callable) -> Callable:
    def make(learning_rate: float | Callable[[int], float], **options: Any) -> Callable:
        """Constructor of the optimizer, given the tensors.

        Args:
            learning_rate: a number, or a function of the number of steps taken.
            options: further arguments of the torch optimizer.
        """
        return Scheduled(cls, learning_rate, options)

    return make


class Scheduled:
    """Constructor of a torch optimizer whose learning rate may be a function of the number of steps taken."""

    def __init__(self, cls: Callable, learning_rate: float | Callable[[int], float], options: dict[str, Any]) -> None:
        self.cls, self.options = cls, options
        self.rate = learning_rate if callable(learning_rate) else None
        self.first = learning_rate(0) if callable(learning_rate) else learning_rate

    def __call__(self, tensors: list[torch.Tensor]) -> torch.optim.Optimizer:
        """The optimizer of these tensors."""
        return self.cls(tensors, lr=float(self.first), **self.options)

    def set(self, optimizer: torch.optim.Optimizer, steps: int) -> None:
        """The learning rate of the next step."""
        if self.rate is not None:
            for group in optimizer.param_groups:
                group["lr"] = float(self.rate(steps))


OPTIMIZERS = {"adam": _constructor(torch.optim.Adam), "sgd": _constructor(torch.optim.SGD)}


class TrainState:
    """What a step needs: the model, whose tensors are trained in place, and the states around it."""

    def __init__(self, model: Any, optimizer: torch.optim.Optimizer, objective: Any, rng: torch.Generator) -> None:
        self.model, self.optimizer, self.objective, self.rng = model, optimizer, objective, rng
        self.steps = 0


def _leaves(tree: Any) -> list[torch.Tensor]:
    if isinstance(tree, torch.Tensor):
        return [tree]
    if isinstance(tree, Mapping):
        return [leaf for k in sorted(tree) for leaf in _leaves(tree[k])]
    return [leaf for item in tree for leaf in _leaves(item)]


def _own(tree: Any) -> Any:
    """The tree with tensors of its own."""
    if isinstance(tree, torch.Tensor):
        return tree.detach().clone()
    if isinstance(tree, Mapping):
        return {k: _own(v) for k, v in tree.items()}
    items = [_own(v) for v in tree]
    return type(tree)(*items) if hasattr(tree, "_fields") else type(tree)(items)


class Trainer:
    """Steps of one objective with one optimizer.

    Args:
        objective: the objective.
        optimizer: `tensors -> torch.optim.Optimizer`.
        num_data: number of rows in the data set.
    """

    def __init__(self, objective: Any, optimizer: Callable, num_data: int) -> None:
        if not callable(optimizer) or isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(
                "expected a constructor of a torch optimizer on the Pyro engine, such as "
                f"functools.partial(torch.optim.Adam, lr=1e-3), got {optimizer!r}"
            )
        self.objective, self.optimizer, self.num_data = objective, optimizer, num_data

    def init(self, model: Any, rng: torch.Generator, batch: Batch) -> TrainState:
        """First state, over tensors of its own."""
        own = {k: v.detach().clone().requires_grad_() for k, v in model.params.items()}
        model = model.with_params(own).with_constants(_own(model.constants))
        with torch.no_grad():
            inner = _own(self.objective.init(rng, model, batch))
        return TrainState(model, self.optimizer(list(model.params.values())), inner, rng)

    def run(self, state: TrainState, data: Batch, rows: np.ndarray, mask: np.ndarray | None) -> tuple:
        """Steps over `data[rows]`, rows (batches, B); the mask shortens the last batch: (state, losses)."""
        losses = []
        device = state.model.like.device
        for i, index in enumerate(rows):
            kept = index if mask is None else index[mask[i]]
            losses.append(self._step(state, take(data, torch.as_tensor(kept, device=device))))
        return state, torch.stack(losses).cpu().numpy()

    def step(self, state: TrainState, batch: Batch, mask: np.ndarray | None) -> tuple:
        """One step on a batch."""
        batch = batch if mask is None else take(batch, torch.as_tensor(mask, device=state.model.like.device))
        return state, self._step(state, batch)[None].cpu().numpy()

    def _step(self, state: TrainState, batch: Batch) -> torch.Tensor:
        with torch.no_grad():
            model, state.objective = self.objective.before_step(state.rng, state.model, state.objective, batch, None)
            if model is not state.model:
                state.model = self._moved(state.model, model)
        loss, inner = self.objective.batch_loss(state.rng, state.model, state.objective, batch, None, self.num_data)
        state.optimizer.zero_grad()
        loss.backward()
        state.objective = _own(inner) if inner is not state.objective else inner
        if isinstance(self.optimizer, Scheduled):
            self.optimizer.set(state.optimizer, state.steps)
        state.optimizer.step()
        state.steps += 1
        return loss.detach()

    @staticmethod
    def _moved(model: Any, target: Any) -> Any:
        """The model with the target's values in its own trained tensors, and the target's constants."""
        for k, own in model.params.items():
            if own is not target.params[k]:
                own.copy_(target.params[k])
        return model.with_constants(target.constants)

    def model(self, state: TrainState) -> Any:
        """A copy of the model as it stands, which further steps do not touch."""
        copy = {k: torch.nn.Parameter(v.detach().clone()) for k, v in state.model.params.items()}
        return state.model.with_params(copy)

    def export(self, state: TrainState) -> dict[str, np.ndarray]:
        """All arrays of the state."""
        groups = (state.model.params, state.model.constants, state.objective, self._optimizer_tensors(state))
        leaves = [leaf for group in groups for leaf in _leaves(group)]
        arrays = {f"state.{i}": leaf.detach().cpu().numpy().copy() for i, leaf in enumerate(leaves)}
        own = {"state.rng": state.rng.get_state().numpy().copy(), "state.steps": np.array(state.steps)}
        return {**arrays, **own}

    @staticmethod
    def _optimizer_tensors(state: TrainState) -> dict[str, Any]:
        saved = state.optimizer.state_dict()["state"]
        return {f"{i:06d}.{k}": v for i, s in saved.items() for k, v in s.items() if isinstance(v, torch.Tensor)}

    def restore(self, state: TrainState, arrays: Mapping[str, np.ndarray]) -> TrainState:
        """The state that was exported, written into a fresh one."""
        if not state.optimizer.state_dict()["state"]:
            for p in state.model.params.values():
                p.grad = torch.zeros_like(p)
            kept = [p.detach().clone() for p in state.model.params.values()]
            state.optimizer.step()
            with torch.no_grad():
                for p, value in zip(state.model.params.values(), kept, strict=True):
                    p.copy_(value)
        groups = (state.model.params, state.model.constants, state.objective, self._optimizer_tensors(state))
        leaves = [leaf for group in groups for leaf in _leaves(group)]
        check_shapes(arrays, [tuple(leaf.shape) for leaf in leaves])
        state.steps = int(arrays["state.steps"])
        with torch.no_grad():
            for i, leaf in enumerate(leaves):
                leaf.copy_(torch.as_tensor(arrays[f"state.{i}"]))
        state.rng.set_state(torch.as_tensor(arrays["state.rng"]))
        return state
