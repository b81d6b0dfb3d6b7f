r"""Mean field: a factorized lower bound on the free energy's negative where hidden layers are coupled.

    log f(v) >= L(q) = E_q[-E(v, h)] + H(q),     q(h) = prod_l m_l(h_l) exp( <eta_l, s_l> - A_l(eta_l) )
             = -E~(v, mu) + log m(v) + sum_l [ A_l(eta_l) - <eta_l, mu_l> ],   mu_l = dA_l / d eta_l

where E~ is the multilinear part of the energy at the mean statistics. Setting eta_l to the natural parameter given the
other layers' means maximizes L over layer l; taken color by color, L never decreases. L is a bound at any eta.

References: Deep Boltzmann Machines (Salakhutdinov & Hinton, 2009), eq. 6-8; Saul, Jaakkola & Jordan (1996).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from deepgen_ppl.energies.machine import BoltzmannMachine
from deepgen_ppl.options import check_options, integer
from deepgen_ppl.typing import Array, State

__all__ = ["MeanField", "mean_field_bound"]


@dataclass(frozen=True)
class MeanField:
    """Coordinate ascent on L(q), color by color.

        log f(v) >= L(q) = E_q[-E(v, h)] + H(q),     q(h) = prod_l m_l(h_l) exp( <eta_l, s_l> - A_l(eta_l) )

    Args:
        iterations: number of passes over all hidden layers.

    Raises:
        ValueError: for iterations that are no positive integer.

    References:
        [Deep Boltzmann Machines](https://proceedings.mlr.press/v5/salakhutdinov09a.html) (Salakhutdinov & Hinton,
        2009), eq. 6-8.
    """

    iterations: int = 30

    def __post_init__(self) -> None:
        check_options(self, iterations=integer(self.iterations, "iterations"))

    def solve(self, machine: BoltzmannMachine, v: State | Array) -> dict[str, Array]:
        """Natural parameters of q for each hidden layer, shapes (..., width), as constants of differentiation.

        Args:
            machine: the machine.
            v: values of the observed layers, or an array (..., V) for the visible layer alone.
        """
        state = _observed(machine, v)
        engine, hidden = machine.engine, [n for n in machine.structure.names if n not in state]
        s_v = machine.statistics(state)
        lead = np.broadcast_shapes(tuple(next(iter(state.values())).shape[:-1]), machine.batch_shape)
        eta = {n: engine.xp.broadcast_to(b, (*lead, b.shape[-1])) for n, b in ((n, machine.bias(n)) for n in hidden)}
        colors = [[n for n in color if n in hidden] for color in machine.structure.sweep]

        def update(eta: dict[str, Array], _: None) -> tuple[dict[str, Array], None]:
            for color in colors:
                s = s_v | mean_statistics(machine, eta)
                eta = eta | {n: engine.xp.broadcast_to(machine.natural(n, s), eta[n].shape) for n in color}
            return eta, None

        eta, _ = engine.control.loop(update, eta, length=self.iterations)
        return {n: engine.special.stop_gradient(e) for n, e in eta.items()}


def _observed(machine: BoltzmannMachine, v: State | Array) -> State:
    return v if isinstance(v, Mapping) else {machine.structure.visible: v}


def mean_statistics(machine: BoltzmannMachine, eta: Mapping[str, Array]) -> dict[str, Array]:
    """Centered mean statistics mu_l - offset_l under q."""
    layers, engine = machine.structure.layers, machine.engine
    return {n: machine.center(n, layers[n].mean(engine, e, machine.layer_arrays(n))) for n, e in eta.items()}


def mean_field_bound(machine: BoltzmannMachine, v: State | Array, eta: Mapping[str, Array]) -> Array:
    """L(q), shape (...) in nats: a lower bound on log f(v) at any `eta`.

    Args:
        machine: the machine.
        v: values of the observed layers, or an array (..., V) for the visible layer alone.
        eta: natural parameters of q for each hidden layer, shapes (..., width).
    """
    engine, layers, state = machine.engine, machine.structure.layers, _observed(machine, v)
    s = machine.statistics(state) | mean_statistics(machine, eta)
    bound = machine.log_base(state) - machine.linear_energy(s)
    for n, e in eta.items():
        arrays = machine.layer_arrays(n)
        mu = layers[n].mean(engine, e, arrays)
        bound = bound + engine.xp.sum(layers[n].log_partition(engine, e, arrays), axis=-1)
        bound = bound - engine.xp.sum(e * mu, axis=-1)
    return bound
