"""Data for `fit`: named arrays whose rows are permuted each epoch, or an iterable of batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

from deepgen_ppl.data import Batch, checked, named, num_rows, take
from deepgen_ppl.model import Model
from deepgen_ppl.training.fingerprints import RowDigest

__all__ = ["Batches", "Rows", "Source", "batches_of"]

CHUNK = 1000
"""Number of minibatches that run without a look at the loss."""

Piece = tuple[Callable[[Any, Any], tuple[Any, np.ndarray]], np.ndarray]
"""Work `(trainer, state) -> (state, losses)`, and the number of rows behind each loss."""


class Rows:
    """Data in memory: an epoch is a permutation of the rows, fixed by seed and epoch.

    Args:
        model: the model.
        data: what `fit` was given.
        batch_size: rows a step.
        seed: seed of the permutations.
    """

    same_order = True

    def __init__(self, model: Model, data: Any, batch_size: int, seed: int) -> None:
        self.to_numpy = model.engine.arrays.to_numpy
        self.data, self.seed = checked(model, data, "data", weights=True), seed
        self.num_data = num_rows(self.data)
        self.batch_size = min(batch_size, self.num_data)

    def digests(self) -> dict[str, str]:
        """What the data are known by."""
        found = RowDigest()
        found.add(self.data, self.to_numpy)
        return {"kind": "arrays", "rows": found.rows, "order_of_rows": found.order}

    def example(self) -> Batch:
        """A first batch."""
        return take(self.data, slice(self.batch_size))

    def epoch(self, number: int) -> Iterator[Piece]:
        """Pieces of work, each at most `CHUNK` batches; the rows that pad the last batch are masked."""
        order = np.random.default_rng([self.seed, number]).permutation(self.num_data)
        batches = -(-self.num_data // self.batch_size)
        padding = batches * self.batch_size - self.num_data
        rows = np.concatenate([order, np.repeat(order[-1:], padding)]).reshape(batches, self.batch_size)
        mask = np.arange(batches * self.batch_size).reshape(batches, self.batch_size) < self.num_data
        for at in range(0, batches, CHUNK):
            r, m = rows[at : at + CHUNK], mask[at : at + CHUNK]
            work = lambda trainer, state, r=r, m=m: trainer.run(state, self.data, r, m if padding else None)  # noqa: E731
            yield work, m.sum(axis=1)


class Batches:
    """Data as an iterable of batches, iterated once before training and once an epoch.

    Args:
        model: the model.
        batches: the iterable.
        digests: whether to take digests of what comes, for a checkpoint.

    Raises:
        ValueError: for no batches, an iterable that can be iterated once alone, or values that do not fit.
    """

    def __init__(self, model: Model, batches: Iterable, *, digests: bool) -> None:
        if iter(batches) is batches:
            raise ValueError(
                f"expected an iterable that can be iterated once an epoch, got one that is exhausted after the first "
                f"({type(batches).__name__}): pass a list or an object whose __iter__ starts again"
            )
        self.model, self.batches, self.same_order = model, batches, True
        self._found = RowDigest() if digests else None
        self.first: Batch = {}
        self.num_data = self.batch_size = 0
        for batch in self._checked(self._found):
            self.first = self.first or batch
            self.num_data, self.batch_size = self.num_data + num_rows(batch), max(self.batch_size, num_rows(batch))
        if not self.num_data:
            raise ValueError("expected at least one batch with rows, got none")

    def _checked(self, found: RowDigest | None) -> Iterator[Batch]:
        for item in self.batches:
            if all(np.shape(x)[:1] == (0,) for x in named(self.model, item, "a batch").values()):
                continue
            batch = checked(self.model, item, "a batch", weights=True)
            if found is not None:
                found.add(batch, self.model.engine.arrays.to_numpy)
            yield batch

    def digests(self) -> dict[str, str]:
        """What the data are known by."""
        assert self._found is not None
        return {"kind": "batches", "rows": self._found.rows, "order_of_rows": self._found.order}

    def example(self) -> Batch:
        """A first batch, padded to the largest size."""
        return self._padded(self.first)[0]

    def _padded(self, batch: Batch) -> tuple[Batch, np.ndarray | None]:
        if (rows := num_rows(batch)) == self.batch_size:
            return batch, None
        index = self.model.engine.arrays.asarray(np.minimum(np.arange(self.batch_size), rows - 1))
        return take(batch, index), np.arange(self.batch_size) < rows

    def epoch(self, number: int) -> Iterator[Piece]:
        """One batch a piece.

        Raises:
            ValueError: if the epoch has another number of rows than the first pass over the batches.
        """
        del number
        rows, found = 0, None if self._found is None else RowDigest()
        for batch in self._checked(found):
            rows += num_rows(batch)
            padded, mask = self._padded(batch)
            work = lambda trainer, state, batch=padded, mask=mask: trainer.step(state, batch, mask)  # noqa: E731
            yield work, np.array([num_rows(batch)])
        if rows != self.num_data:
            raise ValueError(f"expected batches of {self.num_data} rows in each epoch, as in the first, got {rows}")
        if found is not None and self._found is not None and found.order != self._found.order:
            self.same_order = False


Source: TypeAlias = Rows | Batches
"""Where steps come from."""


def batches_of(model: Model, data: Any, batch_size: int, seed: int, *, digests: bool) -> Source:
    """Data as a source of steps.

    Raises:
        ValueError: for data that do not fit the model.
        TypeError: for neither arrays nor an iterable of batches.
    """
    if hasattr(data, "shape") or isinstance(data, (Mapping, tuple)):
        return Rows(model, data, batch_size, seed)
    if isinstance(data, Iterable) and not isinstance(data, (str, bytes)):
        return Batches(model, data, digests=digests)
    raise TypeError(
        f"expected data as an array, a dict of arrays by name, or an iterable of batches, got {type(data).__name__}"
    )
