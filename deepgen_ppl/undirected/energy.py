"""Energies: what every undirected model of the library is, whatever its form.

    p(x) = exp(-E(x)) / Z,    x = a state: one array a block

The blocks of a state are sampled in turn from their conditionals by kernels; models give laws and never draw.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import singledispatch
from typing import TYPE_CHECKING, Any, ClassVar

from deepgen_ppl.typing import Array, Distribution, Rng, State

if TYPE_CHECKING:
    from deepgen_ppl.engines.base import Engine

__all__ = ["Block", "Energy", "draw_block"]


@dataclass(frozen=True)
class Block:
    """One block of a state.

    Args:
        shape: event shape of the block.
        support: the host's constraint of its values.
        integer: whether the values are integers.
    """

    shape: tuple[int, ...]
    support: Any
    integer: bool = False


class Energy(ABC):
    """An unnormalised law over named blocks; subclass it from a face (`dg.Energy`), which gives it an engine.

    A family implements three members: `blocks`, `energy` and `conditional`. To be an argument of compiled functions on
    JAX it names its attributes too: arrays (or trees of them) in `dynamic_fields`, hashable ones in `static_fields`.
    """

    engine: ClassVar[Engine]
    dynamic_fields: ClassVar[tuple[str, ...]] = ()
    static_fields: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, engine: Engine | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if engine is not None:
            cls.engine = engine
        if hasattr(cls, "engine") and cls.dynamic_fields:
            cls.engine.register(cls)

    @property
    @abstractmethod
    def blocks(self) -> Mapping[str, Block]:
        """The blocks of a state, by name."""

    @abstractmethod
    def energy(self, state: State) -> Array:
        """E(x), shape (...) in nats."""

    @abstractmethod
    def conditional(self, block: str, state: State) -> Distribution:
        """p(x_block | the other blocks of the state), a distribution of the host."""


@singledispatch
def draw_block(target: Energy, rng: Rng, block: str, state: State) -> Array:
    """One draw from the conditional of a block, with explicit randomness."""
    return target.engine.host.draw(rng, target.conditional(block, state))
