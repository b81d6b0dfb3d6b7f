r"""The geometric path between two energies over the same blocks.

    E_beta = (1 - beta) E_a + beta E_b,    0 <= beta <= 1

It is an energy of its own, about which nothing is known but its blocks: real ones are moved along its gradient, those
of finitely many values are drawn by enumeration. `Path` does better between machines.

Reference: Annealed Importance Sampling (Neal, 2001), eq. 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from deepgen_ppl.energies.energy import Block, Energy
from deepgen_ppl.energies.spaces import ROW_BITS, draw_by_enumeration, log2_states
from deepgen_ppl.typing import Array, Rng, State

__all__ = ["EnergyPath"]


class EnergyPath(Energy):
    """E_beta between two energies, at one beta.

    Args:
        start: E_a.
        end: E_b.
        beta: a number, traced or not.

    Raises:
        ValueError: for energies over other blocks.
    """

    def __init__(self, start: Energy, end: Energy, beta: Array = 1.0) -> None:
        shapes = [{name: block.shape for name, block in energy.blocks.items()} for energy in (start, end)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"expected two energies over the same blocks, got {start!r} of {shapes[0]} and {end!r} of {shapes[1]}"
            )
        self.engine = end.engine  # type: ignore[misc]
        self.first, self.last, self.beta = start, end, beta

    @property
    def blocks(self) -> Mapping[str, Block]:
        """Those of both."""
        return self.last.blocks

    def rise(self, state: State) -> Array:
        """E_b - E_a, shape (...) in nats."""
        return self.last.energy(state) - self.first.energy(state)

    def energy(self, state: State) -> Array:
        """E_beta, shape (...) in nats."""
        low, high = self.first.energy(state), self.last.energy(state)
        return (1.0 - self.beta) * low + self.beta * high

    @property
    def sweep(self) -> Sequence[Sequence[str]]:
        """One block after the other."""
        return [[name] for name in self.blocks]

    def draw(self, rng: Rng, block: str, state: State) -> Array:
        """A draw of a block by enumeration of its values.

        Raises:
            NotImplementedError: for a block that is not real and has more than 2^12 values.
        """
        if (bits := log2_states(self, [block])) > ROW_BITS:
            raise NotImplementedError(
                f"expected real blocks, or at most 2^{ROW_BITS:g} values of a block, to anneal {self.last!r}, got "
                f"2^{bits:g} of {block!r}"
            )
        return draw_by_enumeration(rng, self, block, state)
