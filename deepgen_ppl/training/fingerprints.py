"""What a run is known by: plain descriptions of options and code, digests of arrays and of rows of data."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import types
from collections.abc import Mapping, Set
from typing import Any

import numpy as np

from deepgen_ppl.array_files import digest
from deepgen_ppl.data import Batch, num_rows
from deepgen_ppl.engine import Engine

__all__ = ["RowDigest", "describe", "describe_model"]

PLAIN = (bool, int, float, str, type(None))
ROWS_AT_ONCE = 1000


def describe(x: Any, around: tuple[int, ...] = ()) -> Any:
    """JSON that tells one value from another, the same in every process: options by value, functions by their code.

    Of an object of another kind it knows the class alone.
    """
    if isinstance(x, np.generic):
        x = x.item()
    if isinstance(x, PLAIN):
        return x
    if id(x) in around:  # a function that encloses itself
        return type(x).__qualname__
    inner = functools.partial(describe, around=(*around, id(x)))
    if isinstance(x, type | types.BuiltinFunctionType | types.ModuleType):
        return f"{getattr(x, '__module__', None) or ''}.{getattr(x, '__qualname__', x.__name__)}"
    if isinstance(x, types.FunctionType):
        return f"{x.__module__}.{x.__qualname__}#{_code_digest(x, inner)}"
    if isinstance(x, types.MethodType):
        return [inner(x.__func__), inner(x.__self__)]
    if isinstance(x, functools.partial):
        return {"kind": "partial", "of": inner(x.func), "args": inner(x.args), **inner(x.keywords)}
    if hasattr(x, "shape") and hasattr(x, "dtype"):
        return f"array {tuple(x.shape)} {x.dtype} {_array_digest(x)}"
    if isinstance(x, Mapping):
        return {str(k): inner(v) for k, v in x.items()}
    if isinstance(x, Set):
        return sorted((inner(v) for v in x), key=str)
    if isinstance(x, tuple | list):
        return [inner(v) for v in x]
    kind = f"{type(x).__module__}.{type(x).__qualname__}"
    if dataclasses.is_dataclass(x) and not isinstance(x, Engine):
        return {"kind": kind, **{f.name: inner(getattr(x, f.name)) for f in dataclasses.fields(x)}}
    return kind


def _array_digest(x: Any) -> str:
    try:
        return digest({"": np.asarray(x)})
    except Exception:  # a key, or an array of another device, has no plain values
        return ""


def _code_digest(fn: types.FunctionType, inner: Any) -> str:
    """Of a function: its code, its defaults, and the values that it encloses or reads by a global name.

    What a function may fill as it runs (a list, a dict) counts by its kind alone.
    """
    enclosed = [_contents(cell) for cell in fn.__closure__ or ()]
    cells = [type(v).__name__ if isinstance(v, list | dict | set) else inner(v) for v in enclosed]
    read = [(n, fn.__globals__.get(n)) for n in fn.__code__.co_names if isinstance(fn.__globals__.get(n), PLAIN)]
    text = repr((_code(fn.__code__), cells, inner(fn.__defaults__), inner(fn.__kwdefaults__), read))
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return None


def _code(code: types.CodeType) -> tuple:
    consts = [
        _code(c) if isinstance(c, types.CodeType) else sorted(map(repr, c)) if isinstance(c, frozenset) else repr(c)
        for c in code.co_consts
    ]
    return code.co_code, code.co_names, code.co_varnames, consts


def describe_model(model: Any) -> dict[str, Any]:
    """Class, options, what a file would say of it, and digests of the first arrays of a model."""
    to_numpy, form = model.engine.arrays.to_numpy, None
    with contextlib.suppress(TypeError):  # a model that cannot be saved
        form = model.to_file()[0]
    arrays = {k: to_numpy(v) for k, v in {**model.params, **model.constants}.items()}
    return {
        "class": f"{model.engine.name}.{type(model).__qualname__}",
        "options": {name: describe(getattr(model, name)) for name in model.static_fields if hasattr(model, name)},
        "form": form,
        "shapes": {k: [str(v.dtype), *v.shape] for k, v in arrays.items()},
        "first_arrays": {k: digest({k: v}) for k, v in arrays.items()},
    }


class RowDigest:
    """Digests of rows that come batch by batch: of the rows in any order, and of their order."""

    def __init__(self) -> None:
        self._total, self._order = 0, hashlib.blake2b(digest_size=16)

    def add(self, batch: Batch, to_numpy: Any) -> None:
        """One batch more."""
        names, rows = sorted(batch), num_rows(batch)
        self._order.update(f"{names} {rows}".encode())
        for at in range(0, rows, ROWS_AT_ONCE):
            parts = [np.ascontiguousarray(to_numpy(batch[name][at : at + ROWS_AT_ONCE])) for name in names]
            for row in np.concatenate([p.reshape(len(p), -1).view(np.uint8) for p in parts], axis=1):
                one = hashlib.blake2b(row.data, digest_size=16).digest()
                self._total += int.from_bytes(one, "little")
                self._order.update(one)

    @property
    def rows(self) -> str:
        """Digest of the rows in any order."""
        return f"{self._total % 2**128:032x}"

    @property
    def order(self) -> str:
        """Digest of the rows in their order, batch by batch."""
        return self._order.hexdigest()
