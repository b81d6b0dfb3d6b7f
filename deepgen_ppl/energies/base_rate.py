r"""Machines without couplings: where annealing and chains start.

    E_0(x) = - sum_l [ <b_l, s_l(x_l) - mu_l> + log m_l(x_l) ],    log Z_0 = sum_l [ A_l(b_l) - <b_l, mu_l> ]

Its layers are independent, so that it is drawn from exactly and its normalizer is known. By default it is the machine
itself with its couplings cut about the offsets (`BoltzmannMachine.decoupled`).

Reference: On the Quantitative Analysis of Deep Belief Networks (Salakhutdinov & Murray, 2008), section 4.1.1 (the base
rate model).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from deepgen_ppl.energies.machine import BoltzmannMachine
from deepgen_ppl.typing import Array

__all__ = ["base_rate_machine", "log_z_base_rate"]


def base_rate_machine(machine: BoltzmannMachine, means: Mapping[str, np.ndarray] | None = None) -> BoltzmannMachine:
    """The machine without couplings some of whose layers have the given mean statistics: a start for annealing.

    Args:
        machine: the machine to imitate.
        means: layer name -> mean statistic, shape (width,). Layers not named keep their biases.

    Raises:
        ValueError: for an unknown layer.
    """
    engine, base, biases = machine.engine, machine.decoupled(), {}
    for name, mean in (means or {}).items():
        if name not in machine.structure.layers:
            raise ValueError(f"expected means of the layers {list(machine.structure.names)}, got {name!r}")
        arrays = {k: engine.arrays.to_numpy(v).astype(float) for k, v in machine.layer_arrays(name).items()}
        biases[f"{name}.bias"] = machine.structure.layers[name].eta_from_mean(np.asarray(mean, float), arrays)
    return base.with_params(biases)


def log_z_base_rate(machine: BoltzmannMachine) -> Array:
    """log Z_0 of a machine without couplings, a scalar in nats."""
    machine = machine.uncentered()
    total = -machine.constants.get("energy_offset", 0.0)
    for name, unit in machine.structure.units:
        terms = unit.log_partition(machine.engine, machine.bias(name), machine.layer_arrays(name))
        total = total + machine.engine.xp.sum(terms, axis=-1)
    return total
