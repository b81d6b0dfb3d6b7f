"""Data are named arrays with one leading axis: `{"x": images, "covariates": c}`, `{"v": v, "y": labels}`.

The names are the arguments of a program's `model`, or the layers of a machine. An array alone is what the model
observes first: `x` of a program, the visible layer of a machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from deepgen_ppl.engine import Engine
from deepgen_ppl.model import Model
from deepgen_ppl.typing import Array

__all__ = ["WEIGHT", "Batch", "check_names", "checked", "named", "num_rows", "plain", "take"]

Batch: TypeAlias = Mapping[str, Array]
"""Named arrays with one leading axis."""

WEIGHT = "weight"
"""The reserved name of row weights."""

RESERVED = frozenset({WEIGHT, "size", "num_data"})
"""Names that no array of a model's own may have."""


def named(model: Model, data: Any, what: str = "data") -> dict[str, Any]:
    """Data as named arrays.

    Raises:
        TypeError: for something else than an array or a mapping of arrays; a tuple says nothing of its names.
    """
    if isinstance(data, Mapping):
        return dict(data)
    if hasattr(data, "shape"):
        return {model.data_name: data}
    if isinstance(data, (tuple, list)):
        names = ", ".join(repr(name) for name in sorted(model.inputs))
        raise TypeError(
            f"expected {what} as one array, or a dict of arrays by name (among {names}), "
            f"got a {type(data).__name__} of {len(data)}: its items have no names"
        )
    raise TypeError(f"expected {what} as one array, or a dict of arrays by name, got {type(data).__name__}")


def num_rows(batch: Mapping[str, Any]) -> int:
    """Number of rows."""
    return int(np.shape(next(iter(batch.values())))[0])


def take(batch: Batch, rows: Any) -> dict[str, Array]:
    """Some rows of every array: an index or a slice."""
    return {name: x[rows] for name, x in batch.items()}


def check_names(model: Model, data: Mapping[str, Any], what: str, *, weights: bool = False) -> None:
    """Check that the data name what the model takes, and all that it observes.

    Raises:
        ValueError: with what it takes.
    """
    names = data.keys()
    if taken := sorted(model.inputs & RESERVED):
        raise ValueError(f"expected a model that takes no data named {taken}: the name is reserved, got {model!r}")
    known = model.inputs | ({WEIGHT} if weights else set())
    if unknown := sorted(names - known, key=str):
        raise ValueError(f"expected {what} among {sorted(known)} for {type(model).__name__}, got {unknown}")
    if missing := sorted(model.observed.keys() - names):
        raise ValueError(f"expected {what} with {missing}, which {type(model).__name__} observes, got {sorted(names)}")
    if missing := [name for name in model.conditions if name in model.inputs - names]:
        given = f"on which {type(model).__name__} is conditioned"
        raise ValueError(f"expected {what} with {missing}, {given}, got {sorted(names)}")


def checked(model: Model, data: Any, what: str = "data", *, weights: bool = False) -> dict[str, Array]:
    """Named arrays that the model takes, of one length, in its dtype and on its device.

    Args:
        model: the model.
        data: one array or a mapping of arrays.
        what: what to call them in a sentence.
        weights: whether row weights may be among them.

    Raises:
        ValueError: for a name that the model does not take or lacks, lengths that differ, or values that do not fit.
        TypeError: for something else than arrays.
    """
    arrays = {name: _plain(model, x, f"{name} of {what}") for name, x in named(model, data, what).items()}
    check_names(model, arrays, what, weights=weights)
    for name, x in arrays.items():
        label = what if name == model.data_name else f"{name} of {what}"
        if name in model.units:
            if x.ndim != 2:
                raise ValueError(f"expected {label} of shape (N, V), got shape {x.shape}")
            model.units[name].check(x, label)
            continue
        if x.dtype.kind not in "buif":
            raise ValueError(f"expected numbers in {label}, got dtype {x.dtype}")
        if name == WEIGHT and (x.ndim != 1 or not (np.isfinite(x) & (x >= 0)).all()):
            raise ValueError(f"expected {label} as one number a row, finite and not negative, got shape {x.shape}")
        if not x.ndim or not np.isfinite(x).all():
            raise ValueError(f"expected finite rows in {label}, got shape {x.shape} with NaN or infinite values")
    shapes = {name: x.shape for name, x in arrays.items()}
    if len({shape[0] for shape in shapes.values()}) > 1:
        raise ValueError(f"expected {what} of one length, got the shapes {shapes}")
    return {name: model.engine.arrays.asarray(x, like=model.like) for name, x in arrays.items()}


def plain(engine: Engine, x: Any, what: str) -> np.ndarray:
    """An array, or nested lists, as NumPy's.

    Raises:
        ValueError: for hidden values, or lists of different lengths.
    """
    if isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x):
        raise ValueError(f"expected {what} without hidden values, got a masked array: fill it, or leave those rows out")
    try:
        return np.asarray(engine.arrays.to_numpy(x))
    except ValueError:
        raise ValueError(f"expected {what} as an array, got lists of different lengths") from None


def _plain(model: Model, x: Any, what: str) -> np.ndarray:
    if not hasattr(x, "shape"):
        raise TypeError(f"expected {what} as an array, got {type(x).__name__}")
    return plain(model.engine, x, what)
