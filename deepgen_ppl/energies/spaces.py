"""What the values of a block are: real numbers, finitely many values that can be enumerated, or something else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from deepgen_ppl.energies.energy import Block, Energy
from deepgen_ppl.engine import Engine
from deepgen_ppl.typing import Array, Rng, State

__all__ = [
    "ROW_BITS",
    "STATE_BITS",
    "Space",
    "draw_by_enumeration",
    "joint_states",
    "log2_states",
    "spaces",
    "support_of",
]

STATE_BITS = 16.0
"""Joint states are held in memory up to this log2 of their number."""

ROW_BITS = 12.0
"""The same where there are as many for each row of data, or each chain."""


@dataclass(frozen=True)
class Space:
    """The values of one block: what the data of a model of one's own are checked against.

    Args:
        engine: the engine, whose constraints are the supports.
        block: the block.
    """

    engine: Engine
    block: Block

    @cached_property
    def constraint(self) -> Any:
        """The host's constraint of one component."""
        constraint = self.block.support
        while (inner := getattr(constraint, "base_constraint", None)) is not None:
            constraint = inner
        return constraint

    @property
    def support(self) -> Any:
        """The host's constraint of the whole block."""
        lacking = len(self.block.shape) - self.block.support.event_dim
        independent = self.engine.host.constraints.independent
        return independent(self.block.support, lacking) if lacking else self.block.support

    @property
    def size(self) -> int:
        """Number of components."""
        return math.prod(self.block.shape)

    @property
    def real(self) -> bool:
        """Whether a component may be any real number."""
        return bool(self.constraint == self.engine.host.constraints.real)

    @cached_property
    def values(self) -> Any:
        """The values of a component, a NumPy array, where they are finitely many, else None."""
        constraint, host = self.constraint, self.engine.host
        if constraint == host.constraints.boolean:
            return np.array([0.0, 1.0])
        if constraint == host.spin.unit_support:
            return np.array([-1.0, 1.0])
        if constraint.is_discrete and hasattr(constraint, "upper_bound") and hasattr(constraint, "lower_bound"):
            return np.arange(float(constraint.lower_bound), float(constraint.upper_bound) + 1)
        return None

    @property
    def bits(self) -> float:
        """log2 of the number of values of the block, infinite where they are not finitely many."""
        return math.inf if self.values is None else self.size * math.log2(len(self.values))

    @property
    def measure(self) -> str:
        """The space, and what its probabilities are relative to: those of one measure can be compared."""
        if self.values is not None:
            return "{" + ", ".join(f"{v:g}" for v in self.values) + "}" + f"^{self.size}"
        return f"R^{self.size}" if self.real else f"{self.constraint!r}^{self.size}"

    def check(self, x: np.ndarray, name: str) -> None:
        """Check the shape and the values of data, eagerly.

        Raises:
            ValueError: with what was expected and what came.
        """
        shape = self.block.shape
        if x.dtype.kind not in "buif":
            raise ValueError(f"expected numbers in {name}, got dtype {x.dtype}")
        if tuple(x.shape[max(0, x.ndim - len(shape)) :]) != shape or not x.size:
            raise ValueError(f"expected {name} with rows of shape {shape}, got shape {x.shape}")
        if bad := int((~np.isfinite(x)).sum()):
            raise ValueError(f"expected finite values in {name}, got {bad} NaN or infinite of {x.size}")
        inside = self.constraint.check(self.engine.arrays.asarray(x))
        if not self.engine.arrays.to_numpy(inside).all():
            raise ValueError(f"expected {name} inside {self.measure}, got values from {x.min():g} to {x.max():g}")


def support_of(engine: Engine, values: Sequence[float] | None) -> Any:
    """The host's constraint of a component that is real, or has these values."""
    if values is None:
        return engine.host.constraints.real
    if tuple(values) == (-1.0, 1.0):
        return engine.host.spin.unit_support
    if tuple(values) == (0.0, 1.0):
        return engine.host.constraints.boolean
    return engine.host.constraints.integer_interval(int(values[0]), int(values[-1]))


def spaces(target: Energy) -> dict[str, Space]:
    """Block name -> the values of the block."""
    return {name: Space(target.engine, block) for name, block in target.blocks.items()}


def log2_states(target: Energy, names: Sequence[str]) -> float:
    """log2 of the number of joint states of some blocks."""
    known = spaces(target)
    return sum(known[name].bits for name in names)


def joint_states(target: Energy, names: Sequence[str], like: Array) -> dict[str, Array]:
    """All joint states of some blocks with finitely many values, shapes (S, ...)."""
    known = spaces(target)
    digits = [known[name].values for name in names for _ in range(known[name].size)]
    grid = np.stack(np.meshgrid(*digits, indexing="ij"), -1).reshape(-1, len(digits)) if digits else np.zeros((1, 0))
    out, at = {}, 0
    for name in names:
        size, shape = known[name].size, known[name].block.shape
        out[name] = target.engine.arrays.asarray(grid[:, at : at + size].reshape(-1, *shape), like=like)
        at += size
    return out


def beside(target: Energy, states: Mapping[str, Array], given: State) -> dict[str, Array]:
    """Joint states, shapes (S, ...), beside rows of other blocks, (..., n): a state with leading axes (S, ...)."""
    xp, blocks = target.engine.xp, target.blocks
    lead: tuple[int, ...] = ()
    for name, x in given.items():
        lead = np.broadcast_shapes(lead, tuple(x.shape[: x.ndim - len(blocks[name].shape)]))
    num = next(iter(states.values())).shape[0]
    wide = {name: xp.reshape(x, (num, *(1,) * len(lead), *blocks[name].shape)) for name, x in states.items()} | {
        name: x[None] for name, x in given.items()
    }
    return {name: xp.broadcast_to(x, (num, *lead, *blocks[name].shape)) for name, x in wide.items()}


def draw_by_enumeration(rng: Rng, target: Energy, block: str, state: State) -> Array:
    """A draw of a block with finitely many values from its conditional, by the energies of all its values."""
    xp = target.engine.xp
    given = {name: x for name, x in state.items() if name != block}
    states = joint_states(target, [block], state[block])
    log_f = -target.energy(beside(target, states, given))  # (S, ...)
    if not given:
        log_f = xp.broadcast_to(log_f[:, None], (log_f.shape[0], state[block].shape[0]))
    index = target.engine.random.categorical(rng, xp.moveaxis(log_f, 0, -1))
    return states[block][index]
