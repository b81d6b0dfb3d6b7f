r"""Machines without couplings: where annealing and chains start.

    E_0(x) = - sum_l [ <b_l, s_l(x_l) - mu_l> + log m_l(x_l) ],    log Z_0 = sum_l [ A_l(b_l) - <b_l, mu_l> ]

Its layers are independent, so that it is drawn from exactly and its normalizer is known.

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
    """The machine without couplings whose layers have the given mean statistics: a start for annealing.

    Args:
        machine: the machine to imitate.
        means: layer name -> mean statistic, shape (width,). Layers not named take their centering offset for it, or
            else keep their bias.
    """
    engine, means = machine.engine, dict(means or {})
    structure, to_numpy = machine.structure, machine.engine.arrays.to_numpy
    params = {}
    for name, unit in structure.units:
        arrays = {k: to_numpy(v).astype(float) for k, v in machine.layer_arrays(name).items()}
        offset, bias = machine.constants.get(f"{name}.offset"), machine.bias(name)
        mean = means.get(name, None if offset is None else to_numpy(offset).astype(float))
        eta = None if mean is None else unit.eta_from_mean(mean, arrays)
        params[f"{name}.bias"] = bias if eta is None else engine.arrays.asarray(eta, like=bias)
        params |= {f"{name}.{k}": machine.params[f"{name}.{k}"] for k in unit.init_arrays()[0]}
    constants = {k: v for k, v in machine.constants.items() if k.endswith(".log_sigma")}
    return machine.from_arrays(type(structure)(structure.units, ()), params, constants)


def log_z_base_rate(machine: BoltzmannMachine) -> Array:
    """log Z_0 of a machine without couplings, a scalar in nats."""
    machine = machine.uncentered()
    total = -machine.constants.get("energy_offset", 0.0)
    for name, unit in machine.structure.units:
        terms = unit.log_partition(machine.engine, machine.bias(name), machine.layer_arrays(name))
        total = total + machine.engine.xp.sum(terms, axis=-1)
    return total
