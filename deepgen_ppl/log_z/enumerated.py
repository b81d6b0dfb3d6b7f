r"""log Z and exact draws of an energy without layers: what it knows itself, or from the energies of all joint states.

log Z = log sum_x exp(-E(x))
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from deepgen_ppl.energies.energy import Energy
from deepgen_ppl.energies.spaces import STATE_BITS, joint_states, log2_states
from deepgen_ppl.engine import Engine
from deepgen_ppl.typing import Array, Rng, State

__all__ = ["bits_of", "check_states", "draw_states", "log_z_of_states"]


def bits_of(energy: Energy) -> float:
    """log2 of the number of joint states, infinite where they are not finitely many; 0 where log Z is known."""
    return 0.0 if hasattr(energy, "log_z") else log2_states(energy, list(energy.blocks))


def check_states(energy: Energy) -> None:
    """Raise where not all joint states can be held in memory.

    Raises:
        ValueError: with their number.
    """
    if (bits := bits_of(energy)) > STATE_BITS:
        many = "infinitely many" if bits == float("inf") else f"2^{bits:g}"
        raise ValueError(
            f"expected at most 2^{STATE_BITS:g} joint states to enumerate {type(energy).__name__}, got {many}: use "
            "ais(...) for an estimate"
        )


def _energies(energy: Energy, states: State) -> Array:
    return energy.energy(states)


@functools.cache
def _compiled(engine: Engine) -> Callable:
    return engine.control.compile(_energies)


def _log_f(energy: Energy) -> tuple[dict[str, Array], np.ndarray]:
    """All joint states, and log f of each in float64."""
    check_states(energy)
    states = joint_states(energy, list(energy.blocks), energy.like)
    return states, -energy.engine.arrays.to_numpy(_compiled(energy.engine)(energy, states)).astype(float)


def log_z_of_states(energy: Energy) -> float:
    """log Z, as the energy knows it or summed in float64.

    Raises:
        ValueError: above 2^16 joint states.
    """
    if hasattr(energy, "log_z"):
        return float(energy.log_z)
    return float(np.logaddexp.reduce(_log_f(energy)[1]))


def draw_states(rng: Rng, energy: Energy, num: int) -> dict[str, Array]:
    """Independent exact draws of all blocks, shapes (num, ...).

    Raises:
        ValueError: above 2^16 joint states.
    """
    if hasattr(energy, "log_z"):
        return energy.start(rng, num)
    states, log_f = _log_f(energy)
    cumulative = np.cumsum(np.exp(log_f - log_f.max()))
    u = energy.engine.arrays.to_numpy(energy.engine.random.uniform(rng, (num,), energy.like)).astype(float)
    index = np.minimum(np.searchsorted(cumulative, u * cumulative[-1], side="right"), len(log_f) - 1)
    return {name: x[energy.engine.xp.asarray(index)] for name, x in states.items()}
