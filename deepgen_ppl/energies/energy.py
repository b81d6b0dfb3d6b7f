"""Energies: what every undirected model of the library is, whatever its form.

    p(x) = exp(-E(x)) / Z,    x = a state: one array a block

The blocks of a state are sampled in turn from their conditionals by kernels; models give laws and never draw.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from deepgen_ppl.model import Model
from deepgen_ppl.options import check_options, flag, integer, integers, mapping
from deepgen_ppl.typing import Array, Distribution, Params, Rng, State

__all__ = ["Block", "Energy"]


@dataclass(frozen=True)
class Block:
    """One block of a state.

    Args:
        shape: event shape of the block.
        support: the host's constraint of its values.
        integer: whether the values are integers.

    Raises:
        ValueError: for a shape that is none.
        TypeError: for something else than a constraint.

    Example:
        >>> import deepgen_ppl.numpyro as dg
        >>> dg.Block((2,), dg.engine.host.constraints.real).shape  # two real numbers
        (2,)
    """

    shape: tuple[int, ...]
    support: Any
    integer: bool = False

    def __post_init__(self) -> None:
        if not hasattr(self.support, "is_discrete"):
            raise TypeError(f"expected a constraint of the host for the support of a block, got {self.support!r}")
        check_options(
            self, shape=integers(self.shape, "an axis of the shape of a block"), integer=flag(self.integer, "integer")
        )


class Energy(Model):
    """An unnormalized law over named blocks; subclass it from a face (`dg.Energy`), which gives it an engine.

    A family implements `blocks` and `energy`. What else it can do is a member each: `conditional` to be moved by block
    Gibbs, `free_energy` to be trained and bounded, `params` and `with_params` to be trained. To be an argument of
    compiled functions on JAX it names its attributes too: arrays (or trees of them) in `dynamic_fields`, hashable ones
    in `static_fields`.
    """

    def _named(self, state: Any) -> State:
        """The state as a mapping; an array alone is the observed block.

        Raises:
            TypeError: for neither.
        """
        if isinstance(state, Mapping) or hasattr(state, "shape"):
            return state if isinstance(state, Mapping) else {self.data_name: state}
        return mapping(state, "a state", "{'v': v, 'h': h}")

    def _lacks(self, member: str, use: str) -> NotImplementedError:
        return NotImplementedError(f"expected an energy with {member} {use}, got {type(self).__name__}, which has none")

    @property
    def params(self) -> Mapping[str, Array]:
        """Trained arrays: none by default."""
        return {}

    def with_params(self, params: Params) -> Self:
        """The same energy with other trained arrays.

        Raises:
            NotImplementedError: for an energy that names no parameters.
        """
        raise self._lacks("params and with_params", "to change its parameters")

    def with_constants(self, constants: Params) -> Self:
        """The same energy with other untrained arrays."""
        return self

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape of a batch of energies; () for one."""
        return ()

    @property
    @abstractmethod
    def blocks(self) -> Mapping[str, Block]:
        """The blocks of a state, by name."""

    @property
    def block_names(self) -> tuple[str, ...]:
        """Names of the blocks, in order; asked in every step of training."""
        return tuple(self.blocks)

    def support(self, block: str) -> Any:
        """The host's constraint of the values of a block."""
        return self.blocks[block].support

    @abstractmethod
    def energy(self, state: State) -> Array:
        """E(x), shape (...) in nats."""

    def conditional(self, block: str, state: State) -> Distribution:
        """p(x_block | the other blocks of the state), a distribution of the host.

        Raises:
            NotImplementedError: for an energy whose blocks have no conditional.
        """
        raise self._lacks("conditional(block, state)", "to draw a block given the others")

    def free_energy(self, state: State | Array) -> Array:
        """F = -log sum exp(-E) over the blocks that are not in the state, shape (...) in nats.

        Raises:
            NotImplementedError: for an energy whose blocks cannot be summed out.
        """
        raise self._lacks("free_energy(state)", "to sum blocks out")

    def sums_out(self, blocks: Collection[str]) -> bool:
        """Whether `free_energy` sums these blocks out together; a family says where it cannot."""
        return True

    @property
    def family(self) -> Any:
        """What two energies with equal arrays must share to be one law."""
        return type(self), tuple(getattr(self, name) for name in self.static_fields)

    # -- what is conditioned on some of the data; nothing, by default

    def conditioned(self, data: State) -> tuple[Energy, State]:
        """The energy given what these data condition it on, one a row, and the values of its other blocks."""
        return self, data

    def check_given(self, what: str) -> None:
        """Check that nothing is left that must be given."""

    # -- what kernels ask of an energy; these defaults know nothing of its structure

    @property
    def sweep(self) -> Sequence[Sequence[str]]:
        """Groups of blocks that are drawn together, in order: no two blocks of a group may interact."""
        return [[name] for name in self.blocks]

    def draw(self, rng: Rng, block: str, state: State) -> Array:
        """One draw from the conditional of a block, with explicit randomness.

        Raises:
            NotImplementedError: for an energy whose blocks have no conditional.
        """
        return self.engine.host.draw(rng, self.conditional(block, state))

    def start(self, rng: Rng, num_chains: int) -> dict[str, Array]:
        """A first state of chains: blocks drawn in turn from zero, shapes (C, block size)."""
        asarray, num_chains = self.engine.arrays.asarray, integer(num_chains, "num_chains")
        state = {n: asarray(np.zeros((num_chains, *b.shape), np.float32)) for n, b in self.blocks.items()}
        for key, name in zip(self.engine.random.split(rng, len(state)), list(state), strict=True):
            state[name] = self.draw(key, name, state)
        return state

    def uncentered(self) -> Self:
        """The same energy, with its constant, without centering offsets: itself, where it has none."""
        return self

    def decoupled(self) -> Self:
        """An energy over the same blocks that can be drawn from: the base of tempering.

        Raises:
            NotImplementedError: for an energy that has none.
        """
        raise self._lacks("decoupled()", "to temper it")
