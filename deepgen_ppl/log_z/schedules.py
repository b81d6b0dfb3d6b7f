"""Inverse temperatures of annealing and tempering: schedules to 1, and their cutting into pieces of one length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from deepgen_ppl.options import integer

__all__ = ["check_betas", "check_ladder", "pieces", "salakhutdinov_murray_betas"]

CHUNK = 500
"""Number of temperatures that run without a look at the progress."""


def salakhutdinov_murray_betas() -> np.ndarray:
    """The 14,501 inverse temperatures of Salakhutdinov & Murray (2008), section 4.1."""
    return np.concatenate([np.arange(0, 0.5, 1e-3), np.arange(0.5, 0.9, 1e-4), np.arange(0.9, 1.0, 1e-5), [1.0]])


def _is_number(betas: Any) -> bool:
    """Whether it is no sequence."""
    return isinstance(betas, (str, bytes)) or not hasattr(betas, "__len__") or getattr(betas, "ndim", 1) == 0


def _floats(betas: Any) -> np.ndarray:
    """Numbers in float64.

    Raises:
        ValueError: for anything else.
    """
    try:
        return np.asarray(betas if hasattr(betas, "dtype") else list(betas), float)
    except (TypeError, ValueError):
        raise ValueError(f"expected inverse temperatures as numbers, got {betas!r}") from None


def _schedule(betas: int | Sequence[float] | np.ndarray, least: int) -> np.ndarray:
    return np.linspace(0.0, 1.0, integer(betas, "betas", least=least)) if _is_number(betas) else _floats(betas)


def check_betas(betas: int | np.ndarray) -> np.ndarray:
    """The schedule of a number of equally spaced temperatures, or the array given.

    Raises:
        ValueError: for temperatures that do not increase from 0 to 1.
    """
    found = _schedule(betas, least=1)
    if found.ndim != 1 or len(found) < 2 or found[0] != 0 or found[-1] != 1 or not (np.diff(found) >= 0).all():
        raise ValueError(
            f"expected inverse temperatures that increase from 0 to 1 for betas, at least two, got {betas}"
        )
    return found


def check_ladder(betas: int | Sequence[float]) -> np.ndarray:
    """The temperatures of replicas: a number of equally spaced ones from 0 to 1, or those given.

    Raises:
        ValueError: for less than two, or ones that do not rise from 0 or more to 1; equal ones are taken.
    """
    ladder = _schedule(betas, least=2)
    if ladder.ndim != 1 or len(ladder) < 2 or ladder[-1] != 1 or not (np.diff(ladder, prepend=0.0) >= 0).all():
        raise ValueError(
            f"expected at least two inverse temperatures that rise from 0 or more to 1 for betas, got {betas}"
        )
    return ladder


def pieces(betas: np.ndarray, *, reverse: bool) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs (low, high) in pieces of one length; steps at beta = 1, which weigh nothing, fill up the last of them."""
    steps = len(betas) - 1
    count = -(-steps // CHUNK)
    betas = np.concatenate([betas, np.ones(-steps % count)])
    low, high = betas[:-1], betas[1:]
    if reverse:
        low, high = low[::-1], high[::-1]
    return list(zip(np.split(low, count), np.split(high, count), strict=True))
