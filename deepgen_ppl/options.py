"""Checks of options: each returns the value as it is kept, or says what was expected and what came."""

from __future__ import annotations

import math
import operator
from collections.abc import Collection
from typing import Any

__all__ = ["check_options", "instance", "integer", "one_of", "real"]


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


def real(value: Any, name: str, *, low: float = -math.inf, high: float = math.inf, open_low: bool = False) -> float:
    """A finite number between `low` and `high`, as Python's own float.

    Raises:
        ValueError: for anything else.
    """
    try:
        number = math.nan if isinstance(value, (bool, str)) else float(value)
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


def check_options(options: Any, **checked: Any) -> None:
    """Put checked values back into a frozen dataclass, in its `__post_init__`."""
    for name, value in checked.items():
        object.__setattr__(options, name, value)
