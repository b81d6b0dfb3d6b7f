"""Couplings: how layers of a Boltzmann machine interact.

A coupling between layers a and b contributes -<s_a, W s_b> to the energy, and so sends W s_b to the natural parameter
of a and W' s_a to that of b. Statistics come centered (s - mu) where the machine is centered.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from deepgen_ppl.engine import Engine
from deepgen_ppl.registry import Registered
from deepgen_ppl.typing import Array

__all__ = ["Coupling", "Dense"]


@dataclass(frozen=True)
class Coupling(Registered, ABC):
    """Interaction of the layers named in `layers`, with one weight array.

    Args:
        layers: names of the layers.
    """

    layers: tuple[str, ...]

    @property
    def name(self) -> str:
        """Prefix of the coupling's arrays: the layer names joined by a dash."""
        return "-".join(self.layers)

    @abstractmethod
    def weight_shape(self, widths: Mapping[str, int]) -> tuple[int, ...]:
        """Shape of the weight for layers of these widths."""

    @abstractmethod
    def form(self, engine: Engine, weight: Array, s: Mapping[str, Array]) -> Array:
        """<s_a, W s_b>, shape (...) in nats."""

    @abstractmethod
    def natural(self, engine: Engine, weight: Array, s: Mapping[str, Array], to: str) -> Array:
        """What the other layers send to layer `to`: the derivative of `form` with respect to s[to], (..., width)."""


@dataclass(frozen=True)
class Dense(Coupling):
    """A full weight matrix W of shape (width a, width b)."""

    def __post_init__(self) -> None:
        if len(self.layers) != 2 or self.layers[0] == self.layers[1]:
            raise ValueError(f"expected two different layers in a Dense coupling, got {self.layers}")

    def weight_shape(self, widths: Mapping[str, int]) -> tuple[int, ...]:
        """(width a, width b)."""
        a, b = self.layers
        return widths[a], widths[b]

    def form(self, engine: Engine, weight: Array, s: Mapping[str, Array]) -> Array:
        """sum_ij s_a,i W_ij s_b,j."""
        a, b = self.layers
        return engine.xp.sum((s[a] @ weight) * s[b], axis=-1)

    def natural(self, engine: Engine, weight: Array, s: Mapping[str, Array], to: str) -> Array:
        """W s_b to a, W' s_a to b."""
        a, b = self.layers
        return s[b] @ weight.T if to == a else s[a] @ weight
