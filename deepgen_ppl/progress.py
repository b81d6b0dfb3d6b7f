"""Progress bars for long work, which can be turned off."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

__all__ = ["progress_bar"]

T = TypeVar("T")


def progress_bar(items: Iterable[T], label: str, *, show: bool) -> tqdm[T]:
    """The items, with a bar on standard error if `show`."""
    return tqdm(items, desc=label, disable=not show, leave=False, dynamic_ncols=True)
