"""Sparse couplings: two layers joined along a list of edges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from deepgen_ppl.energies.terms import Term
from deepgen_ppl.engine import Engine
from deepgen_ppl.options import check_options, integers
from deepgen_ppl.typing import Array, Params

__all__ = ["Sparse"]


@dataclass(frozen=True)
class Sparse(Term):
    """sum_e w_e s_a,i(e) s_b,j(e) over edges e = (i, j), with w of shape (number of edges,).

    Args:
        layers: (a, b).
        edges: pairs (i, j) of components of a and b, each at most once.
        shape: (width a, width b).

    Raises:
        ValueError: for edges that are no pairs, stand twice, or lie outside the shape.

    Example:
        >>> import deepgen_ppl.numpyro as dg
        >>> dg.Sparse(("v", "h"), edges=((0, 0), (1, 0), (2, 1)), shape=(3, 2)).shapes({"v": 3, "h": 2})
        {'weight': (3,)}
    """

    edges: tuple[tuple[int, int], ...] = ()
    shape: tuple[int, int] = (1, 1)

    order: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        shape = integers(self.shape, "an axis of the shape")
        if isinstance(self.edges, str) or not hasattr(self.edges, "__iter__"):
            raise ValueError(f"expected edges (i, j), each once and at least one, got {self.edges!r}")
        edges = tuple(integers(edge, "an end of an edge", least=0) for edge in self.edges)
        if not edges or {len(edge) for edge in edges} != {2} or len(set(edges)) < len(edges):
            raise ValueError(f"expected edges (i, j), each once and at least one, got {edges}")
        if len(shape) != 2 or (np.max(edges, axis=0) >= shape).any():
            raise ValueError(f"expected edges inside the shape {shape}, got one to {tuple(np.max(edges, axis=0))}")
        check_options(self, edges=edges, shape=shape)

    def shapes(self, widths: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        """(number of edges,)."""
        if (got := tuple(widths[n] for n in self.layers)) != self.shape:
            raise ValueError(f"expected layers {self.layers} of the widths {self.shape}, got {got}")
        return {"weight": (len(self.edges),)}

    @cached_property
    def _incoming(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """For each end: the edges at every component, padded by one past the last, and the components across."""
        tables = []
        for end, width in enumerate(self.shape):
            own, across = np.array(self.edges)[:, end], np.append(np.array(self.edges)[:, 1 - end], 0)
            lists = [np.flatnonzero(own == i) for i in range(width)]
            table = np.full((width, max(map(len, lists))), len(own), np.int32)  # JAX takes 32 bits at any precision
            for row, found in zip(table, lists, strict=True):
                row[: len(found)] = found
            tables.append((table, across[table].astype(np.int32)))
        return tuple(tables)

    def natural(self, engine: Engine, arrays: Params, s: Mapping[str, Array], to: str) -> Array:
        """At each component, the sum over its edges of w_e times the statistic across: gathers alone."""
        xp, w, end = engine.xp, arrays["weight"], self.layers.index(to)
        edges, across = self._incoming[end]
        padded = xp.concat([w, xp.zeros_like(w[:1])])
        return xp.sum(padded[edges] * s[self.layers[1 - end]][..., across], axis=-1)
