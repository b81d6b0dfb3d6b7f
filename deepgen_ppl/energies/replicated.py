"""Dense couplings to a layer whose bias counts once for every count of another layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deepgen_ppl.energies.terms import Dense
from deepgen_ppl.engine import Engine
from deepgen_ppl.typing import Array, Params

__all__ = ["Replicated"]


@dataclass(frozen=True)
class Replicated(Dense):
    """<s_a, W s_b> + D <c, s_b> with D = sum_k s_a,k: a dense term, and a bias c of b for every count of a.

    It is a dense term with the weights W_kj + c_j. With a `NoBias` for b it is the hidden part of a replicated softmax.

    Args:
        layers: (a, b), as in ("v", "h").

    Raises:
        ValueError: for anything else than names of as many different layers as it joins.

    Example:
        >>> import deepgen_ppl.numpyro as dg
        >>> dg.Replicated(("v", "h")).shapes({"v": 4, "h": 2})
        {'weight': (4, 2), 'bias': (2,)}
    """

    def shapes(self, widths: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        """W (width a, width b), c (width b,)."""
        return super().shapes(widths) | {"bias": (widths[self.layers[1]],)}

    def natural(self, engine: Engine, arrays: Params, s: Mapping[str, Array], to: str) -> Array:
        """(W + 1 c') s_b to a, its transpose to b."""
        return super().natural(engine, {"weight": arrays["weight"] + arrays["bias"][..., None, :]}, s, to)
