r"""Moves of a state that need no structure of the energy: Hamiltonian ones of real blocks, draws of the others.

    p ~ N(0, 1);  (x', p') = leapfrog(x, p);  accept with probability min(1, exp(H(x, p) - H(x', p'))),
    H(x, p) = E(x) + |p|^2 / 2

leaves exp(-E) invariant whatever the step size, and is reversible. The step size of a move is drawn from 0.8 to 1.2 of
the one given: a path of fixed length may come back to where it started, again and again. Other blocks are drawn given
all others.

Reference: MCMC Using Hamiltonian Dynamics (Neal, 2011), sections 3.2 and 5.4.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deepgen_ppl.energies.energy import Energy
from deepgen_ppl.typing import Array, Rng

__all__ = ["hamiltonian", "hamiltonian_within_gibbs"]

Position = dict[str, Array]

JITTER = 0.2
"""How far the step size of a move may be from the one given, as a share of it."""


def hamiltonian(
    rng: Rng, target: Energy, position: Position, blocks: Sequence[str], *, step_size: float, num_steps: int
) -> tuple[Position, Array]:
    """One Hamiltonian move of some blocks, all together, given the others.

    Returns:
        The position, and the probability with which each chain's proposal was accepted, shape (C,).
    """
    engine, xp = target.engine, target.engine.xp
    fixed = {name: x for name, x in position.items() if name not in blocks}
    start = {name: position[name] for name in blocks}
    slope = engine.control.value_and_grad(lambda x: xp.sum(target.energy({**fixed, **x})))

    *keys, length, last = engine.random.split(rng, len(blocks) + 2)
    any_block = start[blocks[0]]
    size = step_size * (1.0 + JITTER * (2.0 * engine.random.uniform(length, (), any_block) - 1.0))

    def leapfrog(carry: tuple[Position, Position, Position], _: None) -> tuple[tuple, None]:
        x, p, g = carry
        p = {n: p[n] - 0.5 * size * g[n] for n in blocks}
        x = {n: x[n] + size * p[n] for n in blocks}
        g = dict(slope(x)[1])
        return (x, {n: p[n] - 0.5 * size * g[n] for n in blocks}, g), None

    p = {n: engine.random.normal(key, tuple(x.shape), x) for key, (n, x) in zip(keys, start.items(), strict=True)}
    (x, q, _), _ = engine.control.loop(leapfrog, (start, p, dict(slope(start)[1])), None, num_steps)
    before = target.energy(position) + _kinetic(xp, p)
    log_ratio = before - (target.energy({**fixed, **x}) + _kinetic(xp, q))
    log_ratio = xp.where(xp.isnan(log_ratio), -float("inf") + 0.0 * before, log_ratio)
    accept = xp.log(engine.random.uniform(last, log_ratio.shape, log_ratio)) < log_ratio
    moved = {n: xp.where(_wide(accept, x[n]), x[n], start[n]) for n in blocks}
    return {**position, **moved}, xp.exp(xp.clip(log_ratio, max=0.0))


def _kinetic(xp: Any, p: Position) -> Array:
    """|p|^2 / 2 of each chain, shape (C,)."""
    return sum(0.5 * xp.sum(v**2, axis=tuple(range(1, v.ndim))) for v in p.values())


def _wide(accept: Array, x: Array) -> Array:
    return accept.reshape((-1, *(1,) * (x.ndim - 1)))


def hamiltonian_within_gibbs(
    rng: Rng,
    target: Energy,
    position: Position,
    blocks: Sequence[str],
    *,
    step_size: float,
    num_steps: int,
    backward: bool = False,
) -> tuple[Position, Array]:
    """Draws of blocks in the order of `target.sweep`, then a Hamiltonian move of the others.

    Args:
        rng: generator.
        target: the energy.
        position: block name -> values, shape (C, ...).
        blocks: those that the Hamiltonian move changes.
        step_size: of the leapfrog steps.
        num_steps: number of leapfrog steps.
        backward: the reversed order, whose transition is the reversal of this one.

    Returns:
        As `hamiltonian`; without blocks for it, all proposals are accepted.
    """
    others = [[name for name in group if name not in blocks] for group in target.sweep]
    first, *keys = target.engine.random.split(rng, 1 + sum(map(len, others)))
    accepted = 1.0 + 0.0 * target.energy(position)

    def drawn(position: Position) -> Position:
        left = iter(keys)
        for group in reversed(others) if backward else others:
            position = position | {name: target.draw(next(left), name, position) for name in group}
        return position

    if not backward:
        position = drawn(position)
    if blocks:
        position, accepted = hamiltonian(first, target, position, blocks, step_size=step_size, num_steps=num_steps)
    return (drawn(position) if backward else position), accepted
