r"""Machines without couplings: where annealing and chains start.

    E_0(x) = - sum_l [ <b_l, s_l(x_l) - mu_l> + log m_l(x_l) ],    log Z_0 = sum_l [ A_l(b_l) - <b_l, mu_l> ]

Its layers are independent, so that it is drawn from exactly and its normaliser is known.

Reference: On the Quantitative Analysis of Deep Belief Networks (Salakhutdinov & Murray, 2008), section 4.1.1 (the base
rate model).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from deepgen_ppl.typing import Array, Rng
from deepgen_ppl.undirected.machine import BoltzmannMachine

__all__ = ["draw_independent", "independent_machine", "log_z_independent"]


def independent_machine(machine: BoltzmannMachine, means: Mapping[str, np.ndarray] | None = None) -> BoltzmannMachine:
    """The machine without couplings whose layers have the given mean statistics: a start for annealing.

    Args:
        machine: the machine to imitate.
        means: layer name -> mean statistic, shape (width,). Layers not named take their centring offset for it, or else
            keep their bias.
    """
    engine, means = machine.engine, dict(means or {})
    structure, to_numpy = machine.structure, machine.engine.arrays.to_numpy
    params = {}
    for name, unit in structure.items:
        arrays = {k: to_numpy(v).astype(float) for k, v in machine.layer_arrays(name).items()}
        offset, bias = machine.buffers.get(f"{name}.offset"), machine.params[f"{name}.bias"]
        mean = means.get(name, None if offset is None else to_numpy(offset).astype(float))
        eta = None if mean is None else unit.eta_from_mean(mean, arrays)
        params[f"{name}.bias"] = bias if eta is None else engine.arrays.asarray(eta, like=bias)
        params |= {f"{name}.{k}": machine.params[f"{name}.{k}"] for k in unit.init_arrays()[0]}
    buffers = {k: v for k, v in machine.buffers.items() if k.endswith(".log_sigma")}
    return machine.from_arrays(type(structure)(structure.items, ()), params, buffers)


def draw_independent(rng: Rng, machine: BoltzmannMachine, num: int) -> dict[str, Array]:
    """Draws of all layers as if the couplings were cut, shapes (num, n); exact where there are none."""
    engine, items = machine.engine, machine.structure.items
    position = {}
    for key, (name, unit) in zip(engine.random.split(rng, len(items)), items, strict=True):
        eta = machine.params[f"{name}.bias"]
        eta = engine.xp.broadcast_to(eta, (num, *eta.shape))
        position[name] = unit.draw(engine, key, eta, machine.layer_arrays(name))
    return position


def log_z_independent(machine: BoltzmannMachine) -> Array:
    """log Z_0 of a machine without couplings, a scalar in nats."""
    machine = machine.uncentred()
    total = -machine.buffers.get("energy_offset", 0.0)
    for name, unit in machine.structure.items:
        terms = unit.log_partition(machine.engine, machine.params[f"{name}.bias"], machine.layer_arrays(name))
        total = total + machine.engine.xp.sum(terms)
    return total
