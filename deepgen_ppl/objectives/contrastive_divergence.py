r"""Contrastive divergence: particles that start at the data in every step.

    - (1 / N) sum_n [ dF(x_n) - dF(x~_n) ],    x~_n after k sweeps from x_n

Reference: Training Products of Experts by Minimizing Contrastive Divergence (Hinton, 2002), eq. 8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from deepgen_ppl.data import num_rows
from deepgen_ppl.energies.energy import Energy
from deepgen_ppl.kernels.block_gibbs import BlockGibbs, GibbsState
from deepgen_ppl.kernels.hmc import HMC
from deepgen_ppl.log_z.policies import negative_phase
from deepgen_ppl.objectives.contrastive import ContrastiveObjective, PhaseState, hidden_blocks
from deepgen_ppl.options import instance
from deepgen_ppl.typing import Array, Rng, State

__all__ = ["ContrastiveDivergence"]


@dataclass(frozen=True)
class ContrastiveDivergence(ContrastiveObjective):
    """Contrastive divergence, CD-k: chains of k sweeps that start at the data. A biased gradient.

        - (1 / N) sum_n [ dF(x_n) - dF(x~_n) ],    x~_n after k sweeps from x_n

    Args:
        kernel: `BlockGibbs(sweeps=k)`, or `HMC(...)` for an energy whose observed block has no conditional.
        offset_rate: rate of the moving average that the offsets of a centered machine follow; 0 keeps them.
        offsets: `data` or `average`.

    Raises:
        ValueError: for options out of range.
        TypeError: for another kernel.

    Example:
        >>> import deepgen_ppl.numpyro as dg
        >>> dg.ContrastiveDivergence(dg.BlockGibbs(sweeps=5)).kernel  # CD-5
        BlockGibbs(sweeps=5)

    Reference:
        Training Products of Experts by Minimizing Contrastive Divergence (Hinton, 2002), eq. 8,
        https://doi.org/10.1162/089976602760128018.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.kernel, HMC):
            instance(self.kernel, "kernel", BlockGibbs, "BlockGibbs(sweeps=...), whose chains can start at the data,")

    def first_chains(self, rng: Rng, model: Energy, data: State) -> Any:
        """None: every step starts at its own data.

        Raises:
            ValueError: if the data do not say where the hidden layers start.
        """
        hidden = hidden_blocks(model, data)
        moved = self.kernel.moved(model) if isinstance(self.kernel, HMC) else ()
        drawn = [group for blocks in model.sweep if (group := {n for n in blocks if n not in moved})]
        if hidden and drawn[:1] != [set(hidden)]:
            raise ValueError(
                f"expected a machine whose hidden layers are not coupled for ContrastiveDivergence, got {model!r} with "
                f"the hidden layers {hidden}: use StochasticML"
            )
        return {}

    def particles(self, rng: Rng, model: Energy, chains: Any, data: State) -> Any:
        """k sweeps from the data; the first draws the hidden layers."""
        asarray, rows, blocks = model.engine.arrays.asarray, num_rows(data), model.blocks
        empty = {n: asarray(np.zeros((rows, *blocks[n].shape)), like=model.like) for n in hidden_blocks(model, data)}
        return self.kernel.step(rng, model, GibbsState({**data, **empty}))[0]

    def negative(self, model: Energy, chains: Any, share: Array) -> Array:
        """Each row has a particle of its own."""
        return negative_phase(model, chains.position, share)

    def kept(self, state: PhaseState) -> PhaseState:
        """No chains."""
        return super().kept(state)._replace(chains={})
