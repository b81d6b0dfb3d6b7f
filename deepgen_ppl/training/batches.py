"""Data for `fit`: an array whose rows are permuted each epoch, or an iterable of batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deepgen_ppl.typing import Array

__all__ = ["Batches", "Rows", "batches_of", "checked"]

CHUNK = 1000
"""Number of minibatches that run without a look at the loss."""


@dataclass
class Rows:
    """Data in one array: an epoch is a permutation of the rows, fixed by seed and epoch."""

    data: Array
    batch_size: int
    seed: int
    num_data: int = field(init=False)

    def __post_init__(self) -> None:
        self.num_data = self.data.shape[0]
        self.batch_size = min(self.batch_size, self.num_data)

    def example(self) -> Array:
        """A first batch."""
        return self.data[: self.batch_size]

    def epoch(self, number: int) -> Iterator[Callable]:
        """Pieces of work, each at most `CHUNK` batches; the rows that pad the last batch are masked."""
        order = np.random.default_rng([self.seed, number]).permutation(self.num_data)
        batches = -(-self.num_data // self.batch_size)
        padding = batches * self.batch_size - self.num_data
        rows = np.concatenate([order, np.repeat(order[-1:], padding)]).reshape(batches, self.batch_size)
        mask = None
        if padding:
            mask = np.arange(batches * self.batch_size).reshape(batches, self.batch_size) < self.num_data
        for at in range(0, batches, CHUNK):
            piece = slice(at, at + CHUNK)
            kept = None if mask is None else mask[piece]
            yield lambda trainer, state, r=rows[piece], m=kept: trainer.run(state, self.data, r, m)


@dataclass
class Batches:
    """Data as an iterable of batches, iterated once an epoch."""

    model: Any
    batches: Iterable
    num_data: int = field(init=False)
    rows: int = field(init=False)

    def __post_init__(self) -> None:
        sizes = [np.shape(batch)[0] for batch in self.batches]
        if not sizes or not sum(sizes):
            raise ValueError("expected at least one batch with rows, got none")
        if len([np.shape(batch)[0] for batch in self.batches]) != len(sizes):
            raise ValueError(
                "expected an iterable that can be iterated once an epoch, got one that is exhausted: "
                "pass a list or an object whose __iter__ starts again"
            )
        self.num_data, self.rows = sum(sizes), max(sizes)

    def example(self) -> Array:
        """A first batch, padded to the largest size."""
        return self._padded(next(iter(self.batches)))[0]

    def _padded(self, batch: Any) -> tuple[Array, np.ndarray | None]:
        x = checked(self.model, batch, "a batch")
        if (rows := x.shape[0]) == self.rows:
            return x, None
        index = np.minimum(np.arange(self.rows), rows - 1)
        return x[self.model.engine.arrays.asarray(index)], np.arange(self.rows) < rows

    def epoch(self, number: int) -> Iterator[Callable]:
        """One batch a piece."""
        del number
        for batch in self.batches:
            x, mask = self._padded(batch)
            yield lambda trainer, state, x=x, mask=mask: trainer.step(state, x, mask)


def batches_of(model: Any, data: Any, batch_size: int, seed: int) -> Rows | Batches:
    """Data as a source of steps.

    Raises:
        ValueError: for data that do not fit the model.
        TypeError: for neither an array nor an iterable.
    """
    if hasattr(data, "shape"):
        return Rows(checked(model, data, "data"), batch_size, seed)
    if isinstance(data, Iterable):
        return Batches(model, data)
    raise TypeError(f"expected data as an array (N, V) or an iterable of batches, got {type(data).__name__}")


def checked(model: Any, x: Any, name: str) -> Array:
    """Data of the right shape and values, in the model's dtype and on its device."""
    arrays = model.engine.arrays
    plain = arrays.to_numpy(x)
    if plain.ndim != 2:
        raise ValueError(f"expected {name} of shape (N, V), got shape {plain.shape}")
    if (unit := getattr(model, "data_unit", None)) is not None:
        unit.check(plain, name)
    return arrays.asarray(x, like=model.like)
