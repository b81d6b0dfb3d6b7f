r"""Parallel tempering, also called replica exchange.

    R replicas of each chain, x_r ~ p_(b_r), along the path from the machine without couplings: E_b = (1 - b) E_0 + b E

A step swaps neighbors, even and odd pairs in turn, and then moves every replica by one sweep. With the layers summed
out that leave the fewest states, f_b(x) = sum exp(-E_b), a pair r, r + 1 swaps with probability

    min(1, [ f_(b_r)(x_(r+1)) f_(b_(r+1))(x_r) ] / [ f_(b_r)(x_r) f_(b_(r+1))(x_(r+1)) ])

What the layers kept send to those summed out serves the swap and the sweep, so that a step costs one product with each
weight matrix for the layers summed out and one for the rest, for all replicas at once: a sweep of block Gibbs. Even and
odd pairs in turn, and a fixed order of layers, are not reversible.

References: Markov Chain Monte Carlo Maximum Likelihood (Geyer, 1991); Tempered Markov Chain Monte Carlo for Training of
Restricted Boltzmann Machines (Desjardins et al., 2010), section 3; Non-Reversible Parallel Tempering (Syed et al.,
2022), section 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from deepgen_ppl.energies.path import Path
from deepgen_ppl.kernels.kernel import Kernel, check_start, check_state
from deepgen_ppl.log_z.schedules import check_ladder
from deepgen_ppl.options import check_options
from deepgen_ppl.typing import Array, Rng, State

__all__ = ["ParallelTempering", "ReplicaInfo", "ReplicaState"]


class ReplicaState(NamedTuple):
    """Where the replicas are.

    Attributes:
        position: block name -> values at beta = 1, shape (C, block size).
        replicas: values of the layers kept at each beta, shapes (C, R, block size).
        index: which replica stands at each beta, shape (C, R).
        from_base: whether it was at the lowest beta since it was last at beta = 1, as 0 or 1, shape (C, R).
        visits: how many replicas have come to beta = 1 from the lowest beta so far, shape (C,).
        odd: whether odd pairs are next, as 0 or 1, shape (C,).
    """

    position: dict[str, Array]
    replicas: dict[str, Array]
    index: Array
    from_base: Array
    visits: Array
    odd: Array


class ReplicaInfo(NamedTuple):
    """What a diagnostic may want to know.

    Attributes:
        acceptance_rate: mean of `swap_rate`, shape (C,).
        swap_rate: probability that each pair swaps where it is tried, shape (C, R - 1).
        index: which replica stands at each beta, shape (C, R).
        visits: how many replicas have come to beta = 1 from the lowest beta so far, shape (C,).
    """

    acceptance_rate: Array
    swap_rate: Array
    index: Array
    visits: Array


@dataclass(frozen=True)
class ParallelTempering(Kernel):
    """Parallel tempering: replicas at several inverse temperatures that swap, for laws with separate modes.

        E_b = (1 - b) E_0 + b E;  neighbors r, r + 1 swap with probability
        min(1, [ f_(b_r)(x_(r+1)) f_(b_(r+1))(x_r) ] / [ f_(b_r)(x_r) f_(b_(r+1))(x_(r+1)) ]),   f_b(x) = sum exp(-E_b)

    Args:
        betas: number of inverse temperatures from 0 to 1, equally spaced, or the temperatures, which rise to 1.
            Temperature 0 is the machine with its couplings cut about its offsets (`decoupled`).

    Raises:
        ValueError: for fewer than two temperatures, or some that do not rise to 1.

    Example:
        >>> import deepgen_ppl.numpyro as dg
        >>> dg.ParallelTempering(betas=(0.0, 0.5, 1.0))
        ParallelTempering(betas=(0.0, 0.5, 1.0))

    References:
        Markov Chain Monte Carlo Maximum Likelihood (Geyer, 1991), https://hdl.handle.net/11299/58440; Tempered
        Markov Chain Monte Carlo for Training of Restricted Boltzmann Machines (Desjardins et al., 2010), section 3,
        https://proceedings.mlr.press/v9/desjardins10a.html; Non-Reversible Parallel Tempering (Syed et al., 2022),
        section 3, https://arxiv.org/abs/1905.02939.
    """

    betas: int | Sequence[float] = 10

    def __post_init__(self) -> None:
        check_options(self, betas=tuple(check_ladder(self.betas).tolist()))

    def init(self, rng: Rng, target: Any, num_chains: int) -> ReplicaState:
        """Every replica drawn as if the couplings were cut."""
        rng, num_chains = check_start(rng, target, num_chains)
        if not hasattr(target, "structure"):
            raise TypeError(f"expected a Boltzmann machine for ParallelTempering, got {type(target).__name__}")
        xp, num = target.engine.xp, len(self._betas)
        drawn = target.decoupled().start(rng, num_chains * num)
        replicas = {k: xp.reshape(x, (num_chains, num, x.shape[-1])) for k, x in drawn.items()}
        keep = target.structure.smaller_side[0]
        zero = target.engine.arrays.asarray(np.zeros((num_chains, num)), like=next(iter(drawn.values())))
        index = zero + target.engine.arrays.asarray(np.arange(num), like=zero)
        return ReplicaState(
            {k: x[:, -1] for k, x in replicas.items()},
            {k: replicas[k] for k in keep},
            index,
            zero,
            zero[:, 0],
            zero[:, 0],
        )

    def place(self, state: ReplicaState, position: State) -> ReplicaState:
        """All replicas at other values of some blocks."""
        moved = {k: 0.0 * x + position[k][:, None] for k, x in state.replicas.items() if k in position}
        return super().place(state, position)._replace(replicas={**state.replicas, **moved})

    def step(self, rng: Rng, target: Any, state: ReplicaState) -> tuple[ReplicaState, ReplicaInfo]:
        """Swaps of every second pair, then one sweep of all replicas."""
        check_state(self, state, ReplicaState)
        engine, xp, path = target.engine, target.engine.xp, Path(target.decoupled(), target)
        beta = engine.arrays.asarray(np.asarray(self._betas), like=path.end.like)
        first, second = engine.random.split(rng, 2)
        keep = {k: xp.concat([x[:, :-1], state.position[k][:, None]], axis=1) for k, x in state.replicas.items()}
        sent = path.summed_out(keep)
        log_ratio = self._log_ratio(path, keep, sent, beta)
        pair = engine.arrays.asarray(np.arange(len(self._betas) - 1), like=beta)
        tried = (pair + state.odd[:, None]) % 2 == 0
        swap = tried & (xp.log(engine.random.uniform(first, log_ratio.shape, log_ratio)) < log_ratio)
        order = _order(xp, swap)

        def swapped(x: Array) -> Array:  # what a machine without couplings sends has no axes of chains and replicas
            return x if x.ndim == 1 else xp.take_along_axis(x, order[..., None], axis=1)

        keep = {k: swapped(x) for k, x in keep.items()}
        sent = {k: tuple(swapped(x) for x in pair) for k, pair in sent.items()}
        x = path.transition(second, keep, sent, beta)
        index, from_base = (xp.take_along_axis(a, order, axis=1) for a in (state.index, state.from_base))
        visits = state.visits + from_base[:, -1]
        from_base = xp.concat([1.0 + 0.0 * from_base[:, :1], from_base[:, 1:-1], 0.0 * from_base[:, :1]], axis=1)
        rate = xp.exp(xp.clip(log_ratio, max=0.0))
        position = {k: v[:, -1] for k, v in x.items()}
        new = ReplicaState(position, {k: x[k] for k in keep}, index, from_base, visits, 1.0 - state.odd)
        return new, ReplicaInfo(xp.mean(rate, axis=1), rate, index, visits)

    @property
    def _betas(self) -> tuple[float, ...]:
        return self.betas  # type: ignore[return-value]

    @staticmethod
    def _log_ratio(path: Path, keep: State, sent: Mapping[str, Any], beta: Array) -> Array:
        """log of the ratio that decides a swap of each pair, shape (C, R - 1)."""
        xp = path.end.engine.xp
        up = path.log_ratio(keep, sent, beta, xp.concat([beta[1:], beta[-1:]]))
        down = path.log_ratio(keep, sent, xp.concat([beta[:1], beta[:-1]]), beta)
        return up[:, :-1] - down[:, 1:]


def _order(xp: Any, swap: Array) -> Array:
    """Where the replica at each beta comes from, shape (C, R), from the pairs that swap, (C, R - 1)."""
    no = swap[:, :1] & ~swap[:, :1]
    here = xp.arange(0, swap.shape[1] + 1)
    above, below = (xp.astype(xp.concat(x, axis=1), here.dtype) for x in ([swap, no], [no, swap]))
    return here + above - below
