"""What both bridges share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["MIXED", "check_shapes", "impure", "native", "unweighable"]


def check_shapes(arrays: Mapping[str, Any], expected: Sequence[tuple[int, ...]]) -> None:
    """Check that a checkpoint's arrays `state.0`, `state.1`, ... have the shapes of a fresh training state.

    Raises:
        ValueError: with both.
    """
    got = {k: tuple(v.shape) for k, v in arrays.items() if k.removeprefix("state.").isdigit()}
    wanted = {f"state.{i}": tuple(shape) for i, shape in enumerate(expected)}
    if got != wanted:
        raise ValueError(
            f"expected a checkpoint of the same model, objective and optimizer, with arrays of the shapes "
            f"{list(wanted.values())}, got {list(got.values())}"
        )


def native(x: Any) -> np.ndarray:
    """A NumPy array that every engine can take: contiguous, in the byte order of this machine, at most float64.

    Raises:
        ValueError: for something else than real numbers, or truth values.
    """
    try:
        x = np.asarray(x)
    except ValueError:
        raise ValueError("expected an array of numbers, got lists of different lengths") from None
    if x.dtype.kind in "cOSUMm":
        raise ValueError(f"expected an array of real numbers, got one of dtype {x.dtype}")
    dtype = np.dtype(np.float64) if x.dtype.kind == "f" and x.dtype.itemsize > 8 else x.dtype.newbyteorder("=")
    return np.array(x, dtype, order="C")  # a copy: a reversed array of one row counts as contiguous


MIXED = "outputs of a row that depend on the other rows of its batch"
"""What is said of a network that mixes rows."""


def impure(kind: str, what: str) -> TypeError:
    """What is raised for a network that is no function of its input and its arrays.

    Args:
        kind: class of the network.
        what: what differed: "other outputs for equal inputs", `MIXED`, or names of arrays that it changed.
    """
    return TypeError(
        f"expected a network that gives equal outputs for equal inputs and changes none of its arrays, got {kind} with "
        f"{what}: use LayerNorm instead of BatchNorm, leave dropout out, or put it in evaluation mode (.eval())"
    )


def unweighable(guide: Any, why: str) -> TypeError:
    """What is raised for an autoguide whose draws cannot be weighed.

    Args:
        guide: the autoguide.
        why: what is in the way.
    """
    return TypeError(
        f"expected a guide whose draws can be weighed against the model, got {type(guide).__name__}: {why}; use "
        "AutoNormal or AutoMultivariateNormal for latents that all data share, and a guide of your own for those of "
        "each datum"
    )
