"""Data for `fit`: named arrays whose rows are permuted each epoch, or an iterable of batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deepgen_ppl.data import Batch, checked, named, num_rows, take
from deepgen_ppl.model import Model

__all__ = ["Batches", "Rows", "batches_of"]

CHUNK = 1000
"""Number of minibatches that run without a look at the loss."""


@dataclass
class Rows:
    """Data in memory: an epoch is a permutation of the rows, fixed by seed and epoch."""

    data: Batch
    batch_size: int
    seed: int
    num_data: int = field(init=False)

    def __post_init__(self) -> None:
        self.num_data = num_rows(self.data)
        self.batch_size = min(self.batch_size, self.num_data)

    def example(self) -> Batch:
        """A first batch."""
        return take(self.data, slice(self.batch_size))

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

    model: Model
    batches: Iterable
    num_data: int = field(init=False)
    rows: int = field(init=False)

    def __post_init__(self) -> None:
        sizes = [num_rows(named(self.model, batch, "a batch")) for batch in self.batches]
        if not sizes or not sum(sizes):
            raise ValueError("expected at least one batch with rows, got none")
        if sum(1 for _ in self.batches) != len(sizes):
            raise ValueError(
                "expected an iterable that can be iterated once an epoch, got one that is exhausted: "
                "pass a list or an object whose __iter__ starts again"
            )
        self.num_data, self.rows = sum(sizes), max(sizes)

    def example(self) -> Batch:
        """A first batch, padded to the largest size."""
        return self._padded(next(iter(self.batches)))[0]

    def _padded(self, batch: Any) -> tuple[Batch, np.ndarray | None]:
        batch = checked(self.model, batch, "a batch", weights=True)
        if (rows := num_rows(batch)) == self.rows:
            return batch, None
        index = self.model.engine.arrays.asarray(np.minimum(np.arange(self.rows), rows - 1))
        return take(batch, index), np.arange(self.rows) < rows

    def epoch(self, number: int) -> Iterator[Callable]:
        """One batch a piece."""
        del number
        for batch in self.batches:
            padded, mask = self._padded(batch)
            yield lambda trainer, state, batch=padded, mask=mask: trainer.step(state, batch, mask)


def batches_of(model: Model, data: Any, batch_size: int, seed: int) -> Rows | Batches:
    """Data as a source of steps.

    Raises:
        ValueError: for data that do not fit the model.
        TypeError: for neither arrays nor an iterable of batches.
    """
    if hasattr(data, "shape") or isinstance(data, (Mapping, tuple)):
        return Rows(checked(model, data, "data", weights=True), batch_size, seed)
    if isinstance(data, Iterable) and not isinstance(data, str):
        return Batches(model, data)
    raise TypeError(
        f"expected data as an array, a dict of arrays by name, or an iterable of batches, got {type(data).__name__}"
    )
