"""Checks of options: each returns the value as it is kept, or says what was expected and what came."""

from __future__ import annotations

import math
import operator
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

__all__ = [
    "check_options",
    "flag",
    "instance",
    "integer",
    "integers",
    "mapping",
    "numbers",
    "one_of",
    "precision",
    "real",
    "text",
]


def integer(value: Any, name: str, *, least: int = 1) -> int:
    """An integer, NumPy's included, as Python's own.

    Raises:
        ValueError: for anything else, or one below `least`.
    """
    kind = "a positive integer" if least == 1 else f"an integer of at least {least}"
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if isinstance(value, bool) or number < least:
        raise ValueError(f"expected {kind} for {name}, got {value!r}")
    return number


def integers(value: Any, name: str, *, least: int = 1) -> tuple[int, ...]:
    """Several integers, in a tuple, a list or an array; `name` says what one of them is.

    Raises:
        ValueError: for something else than several, or as `integer` for one of them.
    """
    if isinstance(value, (str, bytes, Mapping)) or not hasattr(value, "__iter__") or getattr(value, "ndim", 1) != 1:
        raise ValueError(f"expected a tuple of integers, {name} each, got {value!r}")
    return tuple(integer(n, name, least=least) for n in value)


def real(value: Any, name: str, *, low: float = -math.inf, high: float = math.inf, open_low: bool = False) -> float:
    """A finite number between `low` and `high`, as Python's own float.

    Raises:
        ValueError: for anything else.
    """
    dtype = str(getattr(value, "dtype", ""))
    several = getattr(value, "ndim", 0) > 0
    other = several or isinstance(value, (bool, str, bytes)) or "bool" in dtype or "complex" in dtype
    try:
        number = math.nan if other else float(value)
    except (TypeError, ValueError):
        number = math.nan
    inside = low < number <= high if open_low else low <= number <= high
    if not (math.isfinite(number) and inside):
        raise ValueError(f"expected {_range(low, high, open_low=open_low)} for {name}, got {value!r}")
    return number


def _range(low: float, high: float, *, open_low: bool) -> str:
    if low == 0 and high == math.inf:
        return "a positive number" if open_low else "a number that is not negative"
    if math.isinf(low) and math.isinf(high):
        return "a finite number"
    return f"a number between {low:g} and {high:g}"


def one_of(value: Any, name: str, allowed: Collection[Any]) -> Any:
    """One of a few values.

    Raises:
        ValueError: with all of them.
    """
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"expected one of {', '.join(map(repr, allowed))} for {name}, got {value!r}")
    return value


def instance(value: Any, name: str, kind: type, example: str) -> Any:
    """An instance of a class.

    Raises:
        TypeError: with an example of what was expected.
    """
    if not isinstance(value, kind):
        raise TypeError(f"expected {example} for {name}, got {value!r}")
    return value


def flag(value: Any, name: str) -> bool:
    """True or False.

    Raises:
        TypeError: for anything else, that Python would take for one of them.
    """
    return bool(instance(value, name, bool, "True or False"))


def text(value: Any, name: str, *, empty: bool = False) -> str:
    """A string, which may be empty where that says something.

    Raises:
        ValueError: for anything else.
    """
    if not isinstance(value, str) or not (value or empty):
        raise ValueError(f"expected a string for {name}, got {value!r}")
    return value


def precision(value: Any, name: str = "dtype") -> str:
    """The name of a precision of models, given by name or as a dtype.

    Raises:
        ValueError: for anything but float32 and float64.
    """
    known = getattr(value, "name", None) or getattr(value, "__name__", value)
    if known not in ("float32", "float64"):
        raise ValueError(f"expected one of 'float32', 'float64' for {name}, got {value!r}")
    return str(known)


def mapping(value: Any, name: str, example: str) -> Mapping[Any, Any]:
    """A dict, or another mapping.

    Raises:
        TypeError: with an example of what was expected.
    """
    if not isinstance(value, Mapping):
        raise TypeError(f"expected {name} as a dict, such as {example}, got {_shown(value)}")
    return value


def numbers(value: Any, name: str) -> Any:
    """An array of real numbers: itself, or NumPy's of a number or of nested lists.

    Raises:
        ValueError: for truth values, text, complex numbers, objects, or lists of different lengths.
    """
    try:
        x = value if hasattr(value, "dtype") else np.asarray(value)
    except ValueError:
        raise ValueError(f"expected real numbers in {name}, got lists of different lengths") from None
    dtype = getattr(x.dtype, "name", str(x.dtype))
    if "float" not in dtype and "int" not in dtype:
        came = _shown(value) if x is not value else "an array"
        raise ValueError(f"expected real numbers in {name}, got {came} of dtype {dtype}")
    return x


def _shown(value: Any) -> str:
    """A value in a few words: arrays and long lists by their class alone."""
    said = repr(value)
    return said if len(said) <= 60 and not hasattr(value, "shape") else f"{type(value).__name__}"


def check_options(options: Any, **checked: Any) -> None:
    """Put checked values back into a frozen dataclass, in its `__post_init__`."""
    for name, value in checked.items():
        object.__setattr__(options, name, value)
