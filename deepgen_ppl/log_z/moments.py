r"""Mean, variance and entropy of a layer under its machine, by enumeration.

    E[x_b]   = sum_k p(k) E[x_b | k]
    Var[x_b] = sum_k p(k) ( Var[x_b | k] + (E[x_b | k] - E[x_b])^2 )
    H[x_b]   = - sum_x p(x_b) log p(x_b)

over the joint states k of the smaller side, which gives the layers summed out in closed form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from deepgen_ppl.energies.machine import BoltzmannMachine
from deepgen_ppl.log_z.exact import CHUNK, DRAW_BITS, log_normalizer_by_enumeration, num_states, states_at
from deepgen_ppl.typing import Array, State

__all__ = ["marginal_entropy", "marginal_mean", "marginal_variance"]

Moment = Callable[[State, Array], Array]


def _expectation(machine: BoltzmannMachine, keep: Sequence[str], moment: Moment) -> Array:
    """sum_k p(k) moment(k, log p(k)) over the joint states of the layers `keep`; `moment` has shape (states, ...)."""
    engine = machine.engine
    xp, total = engine.xp, num_states(machine, keep)
    log_z, chunk = log_normalizer_by_enumeration(machine), min(CHUNK, total)

    def step(carry: Array, start: Array) -> tuple[Array, None]:
        index = start + xp.arange(0, chunk)
        state = states_at(machine, keep, index % total)
        log_p = -machine.free_energy(state) - log_z
        p = xp.where(index < total, xp.exp(log_p), 0.0 * log_p)
        terms = moment(state, log_p)
        return carry + p @ terms, None

    shape = moment(states_at(machine, keep, xp.arange(0, 1)), log_z[None])[0]
    return engine.control.loop(step, 0.0 * shape, xp.arange(0, total, chunk))[0]


def _refuse_without_layers(machine: Any, what: str) -> None:
    if not hasattr(machine, "structure"):
        raise NotImplementedError(
            f"expected a machine for the {what} of a marginal, got {type(machine).__name__}: average draws instead"
        )


def _refuse_above(machine: BoltzmannMachine, what: str, names: Sequence[str]) -> None:
    bits = machine.structure.log2_states(names)
    if bits > DRAW_BITS:
        raise NotImplementedError(
            f"expected at most 2^{DRAW_BITS:g} joint states for the {what} of a marginal, got 2^{bits:g} "
            f"(layers {list(names)}): average draws instead"
        )


def _moments_given(machine: BoltzmannMachine, block: str, state: State) -> tuple[Array, Array]:
    """E[x_b | state] and Var[x_b | state], shapes (states, n)."""
    if block in state:
        return state[block], 0.0 * state[block]
    law = machine.conditional(block, state)
    return law.mean, law.variance


def _prepared(machine: BoltzmannMachine, block: str, what: str) -> tuple[BoltzmannMachine, Sequence[str]]:
    _refuse_without_layers(machine, what)
    unit, keep = machine.structure.layers[block], machine.structure.smaller_side[0]
    if unit.width != unit.size:
        raise NotImplementedError(f"expected units whose values have a {what}, got {unit!r}, whose values are labels")
    _refuse_above(machine, what, keep)
    return machine.uncentered(), keep


def marginal_mean(machine: BoltzmannMachine, block: str) -> Array:
    """E[x_b], shape (n,).

    Raises:
        NotImplementedError: above 2^20 joint states of the smaller side, or for units whose values are labels.
    """
    machine, keep = _prepared(machine, block, "mean")
    return _expectation(machine, keep, lambda state, log_p: _moments_given(machine, block, state)[0])


def marginal_variance(machine: BoltzmannMachine, block: str) -> Array:
    """Var[x_b], shape (n,).

    Raises:
        NotImplementedError: above 2^20 joint states of the smaller side, or for units whose values are labels.
    """
    machine, keep = _prepared(machine, block, "variance")
    center = marginal_mean(machine, block)

    def moment(state: State, log_p: Array) -> Array:
        mean, variance = _moments_given(machine, block, state)
        return variance + (mean - center) ** 2

    return _expectation(machine, keep, moment)


def marginal_entropy(machine: BoltzmannMachine, block: str) -> Array:
    """H[x_b], a scalar in nats.

    Raises:
        NotImplementedError: above 2^20 states of the layer, or where the other layers have no closed-form sum.
    """
    _refuse_without_layers(machine, "entropy")
    out = [n for n in machine.structure.names if n != block]
    if not machine.structure.independent(out):
        raise NotImplementedError(f"expected layers that are not coupled to sum out for an entropy, got {out}")
    _refuse_above(machine, "entropy", [block])
    return _expectation(machine.uncentered(), [block], lambda state, log_p: -log_p)
