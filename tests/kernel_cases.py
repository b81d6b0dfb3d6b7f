"""The table of kernels: name -> options and the truth about them. One more kernel is one row.

Beside the library's own, a kernel as a user writes it: with a State and an Info of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from deepgen_ppl.kernels.block_gibbs import BlockGibbs
from deepgen_ppl.kernels.hmc import HMC
from deepgen_ppl.kernels.kernel import Kernel
from deepgen_ppl.kernels.parallel_tempering import ParallelTempering

__all__ = ["KERNELS", "FlipOne", "Row", "placed"]


class FlipState(NamedTuple):
    """`position` (C, n); `steps` a number; `memory` a tree of (C, 2) and (C,)."""

    position: dict[str, Any]
    steps: Any
    memory: dict[str, Any]


class FlipInfo(NamedTuple):
    """A field of each shape that Info may have: a number, (C,) and (C, R)."""

    acceptance_rate: Any
    steps: Any
    log_ratio: Any
    both_energies: Any


@dataclass(frozen=True)
class FlipOne(Kernel):
    """One unit, drawn uniformly from all of the blocks, is flipped by a Metropolis move: reversible.

    Reference: Equation of State Calculations by Fast Computing Machines (Metropolis et al., 1953).
    """

    def init(self, rng, target, num_chains):
        """Blocks of zeros and ones."""
        position = target.start(rng, num_chains)
        zero = 0.0 * next(iter(position.values()))[:, 0]
        return FlipState(position, 0, {"two": target.engine.xp.stack([zero, zero], axis=1), "one": zero})

    def step(self, rng, target, state):
        """Propose one flip and decide."""
        engine, xp, position = target.engine, target.engine.xp, state.position
        first, second = engine.random.split(rng, 2)
        units = xp.concat([position[n] for n in position], axis=1)
        picked = engine.special.one_hot(engine.random.categorical(first, 0.0 * units), units.shape[1], units)
        moved, at, proposal = xp.abs(units - picked), 0, {}
        for name, x in position.items():
            proposal[name], at = moved[:, at : at + x.shape[1]], at + x.shape[1]
        before, after = target.energy(position), target.energy(proposal)
        accept = xp.log(engine.random.uniform(second, before.shape, before)) < before - after
        position = {n: xp.where(accept[:, None], proposal[n], x) for n, x in position.items()}
        info = FlipInfo(engine.arrays.cast(accept, before), state.steps, before - after, xp.stack([before, after], 1))
        return FlipState(position, state.steps + 1, {"two": info.both_energies, "one": before}), info


@dataclass(frozen=True)
class Row:
    """One row.

    Args:
        kernel: options.
        targets: rows of `cases.CASES` that it moves.
        steps: number of steps after which a point mass is forgotten.
        reversible: whether N(x, x') = N(x', x).
        info: shape of each field of Info, without the axis of chains.
        exact_state: `(kernel, target, draw)` -> State whose chains have the law, where `draw(beta)` are exact draws of
            all blocks with the weights times beta; by default those at beta = 1 are its position.
    """

    kernel: Kernel
    targets: tuple[str, ...]
    steps: int
    reversible: bool = False
    info: dict[str, tuple[int, ...]] = field(default_factory=lambda: {"acceptance_rate": ()})
    exact_state: Callable = lambda kernel, target, draw: placed(kernel, target, draw(1.0))


def placed(kernel, target, position):
    """A state of chains at given values."""
    rows = len(next(iter(position.values())))
    state = kernel.init(target.engine.random.rng(0), target, rows)
    return kernel.place(
        state, {n: target.engine.arrays.asarray(x, like=state.position[n]) for n, x in position.items()}
    )


def replicas(kernel, target, draw):
    """Replicas that each have the law of their temperature."""
    state, asarray, xp = placed(kernel, target, draw(1.0)), target.engine.arrays.asarray, target.engine.xp
    drawn = [draw(beta) for beta in kernel.betas[:-1]]
    return state._replace(
        replicas={
            n: xp.concat([xp.stack([asarray(x[n], like=old) for x in drawn], axis=1), old[:, -1:]], axis=1)
            for n, old in state.replicas.items()
        }
    )


LADDER = (0.0, 0.25, 0.5, 0.5, 1.0)
SWAPS = {"acceptance_rate": (), "swap_rate": (4,), "index": (5,), "visits": ()}

KERNELS: dict[str, Row] = {
    "block_gibbs": Row(BlockGibbs(), ("rbm", "rbm_centered", "rbm_spin", "rbm_categorical_visible", "triangle"), 25),
    "block_gibbs_5": Row(BlockGibbs(5), ("rbm_centered", "dbm2", "dbm3_centered"), 6),
    "flip_one": Row(
        FlipOne(), ("rbm", "rbm_centered"), 150, reversible=True,
        info={"acceptance_rate": (), "steps": (), "log_ratio": (), "both_energies": (2,)},
    ),
    "hmc": Row(HMC(0.3, 5), ("rbm_centered",), 25),  # no layer is real: it draws them all in turn
    "parallel_tempering": Row(
        ParallelTempering(LADDER), ("rbm_centered", "rbm_spin", "dbm3_centered", "triangle"), 25,
        info=SWAPS, exact_state=replicas,
    ),
}  # fmt: skip
"""The kernels, the library's own and a user's."""
