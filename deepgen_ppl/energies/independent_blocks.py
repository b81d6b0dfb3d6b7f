r"""Blocks whose components are independent: where annealing and chains of an energy of one's own start.

    E(x) = - sum_i log N(x_i; m_i, sigma_i^2)        real components
    E(x) = - sum_i log softmax(l_i)[x_i]             components of finitely many values

It is normalized, log Z = 0, and drawn from exactly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from deepgen_ppl.data import plain
from deepgen_ppl.energies.energy import Block, Energy
from deepgen_ppl.energies.own_energy import OwnEnergy
from deepgen_ppl.energies.spaces import Space, support_of
from deepgen_ppl.options import instance, integer, mapping
from deepgen_ppl.typing import Array, Rng, State

__all__ = ["IndependentBlocks"]

SMOOTHING = 0.05
"""Share of the uniform law among frequencies, so that no value is impossible."""


class IndependentBlocks(OwnEnergy):
    """Independent components, real or of finitely many values: the `start` of `ais` for an energy of one's own.

    E(x) = sum_i [ (x_i - m_i)^2 / (2 sigma_i^2) + log sigma_i + log(2 pi) / 2 ] for real blocks, and
    E(x) = - sum_i log softmax(l_i)[x_i] for blocks of finitely many values. log Z = 0.

    Args:
        blocks: block name -> `Block`.
        arrays: `NAME.mean` and `NAME.log_sigma`, shaped like the block, for real blocks (standard normal by default);
            `NAME.logits`, with an axis of values at the end, for the others (uniform by default).

    Raises:
        ValueError: for blocks neither real nor of finitely many values, unknown arrays or other shapes.

    Example:
        >>> import numpy as np
        >>> import deepgen_ppl.numpyro as dg
        >>> real = dg.engine.host.constraints.real
        >>> arrays = {"v.log_sigma": np.log([2.0, 2.0], dtype="float32")}
        >>> start = dg.IndependentBlocks({"v": dg.Block((2,), real)}, arrays)
        >>> round(float(start.energy({"v": np.zeros(2)})), 4) == round(float(np.log(2 * np.pi * 4)), 4)
        True

    Reference:
        Annealed Importance Sampling (Neal, 2001), section 2 (where annealing starts),
        https://arxiv.org/abs/physics/9803008.
    """

    options = ("kinds",)
    kinds: tuple[Any, ...]

    def __init__(self, blocks: Mapping[str, Block], arrays: Mapping[str, Any] | None = None) -> None:
        if not mapping(blocks, "blocks", "{'v': Block((2,), constraint)}"):
            raise ValueError("expected at least one block, got none")
        for name, block in blocks.items():
            instance(block, f"the block {name!r}", Block, "a block, such as Block((2,), constraint),")
        known = {name: Space(self.engine, block) for name, block in blocks.items()}
        if other := {n: s.measure for n, s in known.items() if not s.real and s.values is None}:
            raise ValueError(f"expected real blocks or blocks of finitely many values, got {other}")
        self.kinds = tuple(
            (name, s.block.shape, None if s.values is None else tuple(map(float, s.values)), s.block.integer)
            for name, s in known.items()
        )
        own = {k: v for name, space in self.units.items() for k, v in _arrays(name, space).items()}
        arrays = {} if arrays is None else mapping(arrays, "arrays", "{'v.mean': m}")
        given = {k: self.engine.arrays.asarray(v) for k, v in arrays.items()}
        shapes = {k: tuple(v.shape) for k, v in own.items()}
        if wrong := {k: tuple(v.shape) for k, v in given.items() if shapes.get(k) != tuple(v.shape)}:
            raise ValueError(f"expected arrays of the shapes {shapes}, got {wrong}")
        self.build(arrays={**own, **given})

    @classmethod
    def like_blocks(cls, energy: Energy, data: Any = None) -> Self:
        """Over the blocks of an energy; with data, the observed block has their means and deviations, or frequencies.

        Args:
            energy: the energy.
            data: rows (N, ...) of its observed block.
        """
        arrays: dict[str, Any] = {}
        if data is not None:
            name = energy.data_name
            rows = plain(energy.engine, data, "data")
            energy.units[name].check(rows, "data")
            if rows.ndim != 1 + len(energy.blocks[name].shape):
                raise ValueError(f"expected data with one axis before those of a row, got shape {rows.shape}")
            arrays = _fitted(name, energy.units[name], rows.astype(float))
        return cls(energy.blocks, {k: cls.engine.arrays.asarray(v, like=energy.like) for k, v in arrays.items()})

    @property
    def blocks(self) -> Mapping[str, Block]:
        """Those given."""
        return {
            name: Block(shape, support_of(self.engine, values), integer) for name, shape, values, integer in self.kinds
        }

    @property
    def log_z(self) -> float:
        """0: it is normalized."""
        return 0.0

    def energy(self, state: State) -> Array:
        """E(x), shape (...) in nats."""
        engine, xp, total = self.engine, self.engine.xp, 0.0
        for name, space in self.units.items():
            x = engine.arrays.asarray(state[name], like=self.like)
            if space.real:
                scaled = (x - self.param(f"{name}.mean")) * xp.exp(-self.param(f"{name}.log_sigma"))
                terms = 0.5 * (scaled**2 + math.log(2 * math.pi)) + self.param(f"{name}.log_sigma")
            else:
                logits, values = self.param(f"{name}.logits"), engine.arrays.asarray(space.values, like=self.like)
                inside = engine.arrays.cast(x[..., None] == values, self.like)
                terms = engine.special.logsumexp(logits, -1) - xp.sum(inside * logits, axis=-1)
            total = total + xp.sum(terms, axis=tuple(range(-len(space.block.shape), 0)))
        return total

    def start(self, rng: Rng, num_chains: int) -> dict[str, Array]:
        """Exact independent draws, shapes (C, ...)."""
        engine, out, num_chains = self.engine, {}, integer(num_chains, "num_chains")
        keys = engine.random.split(rng, len(self.blocks))
        for key, (name, space) in zip(keys, self.units.items(), strict=True):
            shape = (num_chains, *space.block.shape)
            if space.real:
                noise = engine.random.normal(key, shape, self.like)
                out[name] = self.param(f"{name}.mean") + engine.xp.exp(self.param(f"{name}.log_sigma")) * noise
            else:
                values = engine.arrays.asarray(space.values, like=self.like)
                logits = engine.xp.broadcast_to(self.param(f"{name}.logits"), (*shape, len(space.values)))
                out[name] = values[engine.random.categorical(key, logits)]
        return out

    def decoupled(self, data: Any = None) -> Any:
        """Itself."""
        return self


def _arrays(name: str, space: Space) -> dict[str, np.ndarray]:
    shape = space.block.shape
    if space.real:
        return {f"{name}.{k}": np.zeros(shape, np.float32) for k in ("mean", "log_sigma")}
    return {f"{name}.logits": np.zeros((*shape, len(space.values)), np.float32)}


def _fitted(name: str, space: Space, rows: np.ndarray) -> dict[str, np.ndarray]:
    if space.real:
        return {f"{name}.mean": rows.mean(0), f"{name}.log_sigma": np.log(np.maximum(rows.std(0), 1e-3))}
    share = (rows[..., None] == space.values).mean(0)
    return {f"{name}.logits": np.log((1 - SMOOTHING) * share + SMOOTHING / len(space.values))}
