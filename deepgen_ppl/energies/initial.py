"""First parameters of a machine: small normal weights, biases and offsets from the base rates of the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from deepgen_ppl.energies.machine import BoltzmannMachine
from deepgen_ppl.energies.structure import Structure
from deepgen_ppl.energies.terms import Coupling
from deepgen_ppl.typing import Array, Rng
from deepgen_ppl.units.base import Unit, mean_statistic

__all__ = ["random_machine"]

M = TypeVar("M", bound=BoltzmannMachine)


def random_machine(
    machine_class: type[M],
    rng: Rng | int,
    layers: Mapping[str, Unit],
    couplings: Sequence[Coupling],
    *,
    centered: bool,
    data: Any,
    weight_scale: float,
    dtype: str,
) -> M:
    """A machine of `machine_class` with weights from Normal(0, weight_scale).

    The visible bias is the natural parameter of the data's mean statistic (zero without data); the visible offset is
    that mean and every other offset the mean of a layer with natural parameter zero.
    """
    engine = machine_class.engine
    like = engine.arrays.asarray(np.zeros(1, np.float32), dtype=dtype)
    rng = engine.random.rng(rng, like)
    structure = Structure.of(layers, couplings)
    params: dict[str, Array] = {}
    constants: dict[str, Array] = {}
    weights = [k for k in structure.array_shapes() if k.endswith(".weight")]
    for key, name in zip(engine.random.split(rng, len(weights) + 1)[1:], weights, strict=True):
        params[name] = weight_scale * engine.random.normal(key, structure.array_shapes()[name], like)
    for name, unit in layers.items():
        trained, fixed = ({k: v.astype(dtype) for k, v in arrays.items()} for arrays in unit.init_arrays())
        eta = np.zeros(unit.width)
        if name == structure.visible and data is not None:
            eta = unit.eta_from_mean(mean_statistic(engine, unit, data), trained | fixed)
        own = {k: engine.arrays.asarray(v, like=like) for k, v in (trained | fixed).items()}
        params[f"{name}.bias"] = engine.arrays.asarray(eta, like=like)
        params |= {f"{name}.{k}": own[k] for k in trained}
        constants |= {f"{name}.{k}": own[k] for k in fixed}
        if centered:
            constants[f"{name}.offset"] = unit.mean(engine, params[f"{name}.bias"], own)
    return machine_class.from_arrays(structure, params, constants)
