r"""Energies of the user's own, by a formula or by networks.

    p(x) = exp(-E(x)) / Z,    x = a state: one array a block

What is observed is the first block; the others are hidden. Blocks with finitely many values need no conditional: they
are drawn, and summed out, by the energies of all their values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from deepgen_ppl.energies.energy import Energy
from deepgen_ppl.energies.spaces import (
    ROW_BITS,
    STATE_BITS,
    Space,
    beside,
    draw_by_enumeration,
    joint_states,
    log2_states,
    spaces,
)
from deepgen_ppl.state import PARTS
from deepgen_ppl.state_files import Saved
from deepgen_ppl.typing import Array, Distribution, Params, Rng, State

__all__ = ["OwnEnergy"]


class OwnEnergy(Saved, Energy):
    """An unnormalized law over named blocks, p(x) = exp(-E(x)) / Z; subclass it from a face (`dg.Energy`).

    `blocks` and `energy` are required. With its arrays in `build`, an energy is trained by `fit`, annealed by `ais`,
    compared and saved like a machine; hashable attributes are named in `options`. Inside `energy` the state is read by
    `net`, `param`, `constant` and `machine`. The rest is a member each: `conditional` to draw a block given the others
    (real blocks without one are moved by `HMC`; blocks of finitely many values are enumerated), `free_energy` to sum
    hidden blocks out, `decoupled` for a better start of annealing, `log_z` where log Z is known and `start` draws from
    the law itself.

    An energy without `build` may name attributes of its own instead: arrays (or trees of them) in `dynamic_fields`,
    hashable ones in `static_fields`. It is sampled, not trained.

    Example:
        >>> import numpy as np
        >>> import deepgen_ppl.numpyro as dg
        >>> class Quadratic(dg.Energy):
        ...     '''E(x) = sum_i exp(a_i) x_i^2 / 2.'''
        ...     blocks = {"x": dg.Block((2,), dg.engine.host.constraints.real)}
        ...     def __init__(self, a):
        ...         self.build(arrays={"a": a})
        ...     def energy(self, state):
        ...         return self.engine.xp.sum(self.engine.xp.exp(self.param("a")) * state["x"] ** 2 / 2, axis=-1)
        >>> quadratic = Quadratic(np.zeros(2, np.float32))
        >>> z = dg.ais(quadratic, rng=0, betas=20, num_runs=200)
        >>> bool(abs(z.value - np.log(2 * np.pi)) < 0.01)
        True

    Reference:
        A Tutorial on Energy-Based Learning (LeCun et al., 2006), section 2,
        http://yann.lecun.com/exdb/publis/pdf/lecun-06.pdf.
    """

    # -- the state, inside `energy` ------------------------------------------------------------------------------------

    def net(self, name: str) -> Any:
        """A network as a function of arrays (..., inputs) with any number of leading axes."""
        return self.engine.nn.call(self.networks[name], {})

    def param(self, name: str, constraint: Any = None) -> Array:
        """A trained array.

        Args:
            name: its name.
            constraint: of the host; what is kept and trained is then unconstrained, and this its image under the
                host's own bijection (exp for `positive`).
        """
        value = self.arrays[name]
        return value if constraint is None else self.engine.host.biject_to(constraint)(value)

    def constant(self, name: str) -> Array:
        """An array that is not trained."""
        return self.own_constants[name]

    def machine(self, name: str) -> Any:
        """A machine, or another energy."""
        return self.machines[name]

    def _replace(self, **changes: Any) -> Self:
        return super()._replace(**changes) if self.dynamic_fields == PARTS else self

    # -- what is observed ----------------------------------------------------------------------------------------------

    @property
    def observed(self) -> Mapping[str, Space]:
        """The first block."""
        return dict([next(iter(self.units.items()))])

    @property
    def units(self) -> Mapping[str, Space]:
        """The values of all blocks: the data may name any."""
        return spaces(self)

    def support(self, block: str) -> Any:
        """The host's constraint of the values of a block, all its axes event axes."""
        return self.units[block].support

    @property
    def inputs(self) -> frozenset[str]:
        """The blocks."""
        return frozenset(self.blocks)

    @property
    def like(self) -> Array:
        """An array of the energy's dtype and device."""
        arrays: Params = self.params or self.constants
        return next(iter(arrays.values())) if arrays else self.engine.arrays.asarray(np.zeros((), np.float32))

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """One energy."""
        return ()

    # -- what needs no more than the energy where blocks have finitely many values -------------------------------------

    def free_energy(self, state: State | Array) -> Array:
        """F = -log sum exp(-E) over the blocks that are not in the state, shape (...) in nats.

        Args:
            state: named blocks, or the observed one.

        Raises:
            NotImplementedError: for blocks to sum out of more than 2^12 joint states (2^16 where the state is empty).
        """
        given = {name: self._checked(name, x) for name, x in self._named(state).items()}
        out = [name for name in self.blocks if name not in given]
        if not out:
            return self.energy(given)
        bits, most = log2_states(self, out), ROW_BITS if given else STATE_BITS
        if bits > most:
            raise self._lacks("free_energy(state)", f"to sum out the blocks {out}, of 2^{bits:g} joint states,")
        wide = beside(self, joint_states(self, out, self.like), given)
        return -self.engine.special.logsumexp(-self.energy(wide), 0)

    def _checked(self, name: str, x: Any) -> Array:
        """Values of a block as the engine's, of its shape.

        Raises:
            ValueError: for an unknown block, or values of another shape.
        """
        if name not in self.blocks:
            raise ValueError(f"expected a state with blocks among {list(self.blocks)}, got {name!r}")
        shape = self.blocks[name].shape
        x = self.engine.arrays.asarray(x, like=self.like)
        if tuple(x.shape[max(0, x.ndim - len(shape)) :]) != shape:
            raise ValueError(f"expected {name} of shape (..., {str(shape)[1:]}, got shape {tuple(x.shape)}")
        return x

    @property
    def kept(self) -> tuple[str, ...]:
        """The blocks that stay where all that can be summed out is: the observed one, or all."""
        first, *hidden = self.blocks
        closed = type(self).free_energy is not OwnEnergy.free_energy
        return (first,) if closed or log2_states(self, hidden) <= ROW_BITS else (first, *hidden)

    @property
    def sweep(self) -> Sequence[Sequence[str]]:
        """One block after the other, the observed one last."""
        first, *rest = self.blocks
        return [[name] for name in (*rest, first)]

    def draw(self, rng: Rng, block: str, state: State) -> Array:
        """One draw of a block given the others: by its conditional, or else by enumerating its values.

        Raises:
            NotImplementedError: for a block without a conditional that has more than 2^12 values.
        """
        try:
            law = self.conditional(block, state)
        except NotImplementedError:
            if log2_states(self, [block]) > ROW_BITS:
                raise self._lacks(f"conditional(block, state) of {block!r}", "to draw it given the others") from None
            return draw_by_enumeration(rng, self, block, state)
        return self.engine.arrays.cast(self.engine.host.draw(rng, law), self.like)

    def start(self, rng: Rng, num_chains: int) -> dict[str, Array]:
        """A first state of chains, shapes (C, ...): that of `decoupled`, or blocks drawn in turn from zero."""
        if all(space.real or space.values is not None for space in self.units.values()):
            return self.decoupled().start(rng, num_chains)
        return super().start(rng, num_chains)

    def decoupled(self, data: Any = None) -> Any:
        """Independent components: the start of annealing and of chains. Overwrite it with a law closer to this one.

        Real components are standard normal, those of finitely many values uniform; with data the observed block has
        their means and deviations, or their frequencies.

        Args:
            data: rows of the observed block.

        Raises:
            NotImplementedError: for blocks of another kind.
        """
        if wrong := [n for n, s in self.units.items() if not s.real and s.values is None]:
            raise self._lacks("decoupled()", f"to start the blocks {wrong}, neither real nor of finitely many values,")
        return self.engine.families["IndependentBlocks"].like_blocks(self, data)

    def marginal(self, block: str | None = None, *, log_normalizer: Any = None, sampler: Any = None) -> Distribution:
        """p(x_block) as a native distribution of the host, all other blocks summed out.

        Args:
            block: the observed one by default.
            log_normalizer: `"exact"` (by enumeration), a `LogNormalizer`, `Contrastive(particles)`, or None (`log_prob`
                raises).
            sampler: kernel whose one step, from independent starts, is taken for a draw where no exact one is possible.

        Raises:
            ValueError: for a block with other than one axis.
        """
        block = self.data_name if block is None else block
        if isinstance(block, str) and block in self.blocks and len(self.blocks[block].shape) != 1:
            raise ValueError(f"expected a block with one axis for a marginal, got {block!r} of {self.blocks[block]}")
        return self.engine.host.marginal(self, block, log_normalizer, None, sampler)
