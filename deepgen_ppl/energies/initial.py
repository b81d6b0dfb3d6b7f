"""First parameters of a machine: small normal weights, biases and offsets from the base rates of the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from deepgen_ppl.energies.machine import BoltzmannMachine
from deepgen_ppl.energies.structure import Structure
from deepgen_ppl.energies.terms import Term
from deepgen_ppl.options import instance, one_of, real
from deepgen_ppl.typing import Array, Rng
from deepgen_ppl.units.base import Unit, checked_rows, mean_statistic

__all__ = ["random_machine"]

M = TypeVar("M", bound=BoltzmannMachine)


def random_machine(
    machine_class: type[M],
    rng: Rng | int,
    layers: Mapping[str, Unit],
    terms: Sequence[Term],
    *,
    centered: bool,
    data: Any,
    weight_scale: float,
    dtype: str,
) -> M:
    """A machine of `machine_class` with weights from Normal(0, weight_scale).

    The visible bias is the natural parameter of the data's mean statistic (zero without data), averaged where it is
    shared; the visible offset is that mean and every other offset the mean of a layer with natural parameter zero. The
    arrays of the visible units are what the data suggest (`Unit.arrays_from_data`).

    Raises:
        ValueError: for other options, or data that the visible units cannot take.
    """
    engine = machine_class.engine
    weight_scale = real(weight_scale, "weight_scale", low=0)
    instance(centered, "centered", bool, "True or False")
    like = engine.arrays.asarray(np.zeros(1, np.float32), dtype=one_of(dtype, "dtype", ("float32", "float64")))
    rng = engine.random.rng(rng, like)
    structure = Structure.of(layers, terms)
    shapes = structure.array_shapes()
    params: dict[str, Array] = {}
    constants: dict[str, Array] = {}
    weights = [f"{t.name}.{k}" for t in structure.couplings for k in structure.keys[t.name]]
    for key, name in zip(engine.random.split(rng, len(weights) + 1)[1:], weights, strict=True):
        params[name] = weight_scale * engine.random.normal(key, shapes[name], like)
    for name, unit in layers.items():
        eta, found = np.zeros(unit.width), unit.init_arrays()
        if name == structure.visible and data is not None:
            found = unit.arrays_from_data(checked_rows(engine, unit, data))
            own_arrays = found[0] | found[1]
            eta = unit.eta_from_mean(mean_statistic(engine, unit, data, own_arrays), own_arrays)
        trained, fixed = ({k: v.astype(dtype) for k, v in arrays.items()} for arrays in found)
        own = {k: engine.arrays.asarray(v, like=like) for k, v in (trained | fixed).items()}
        if (bias := f"{name}.bias") in shapes:
            params[bias] = engine.arrays.asarray(eta.reshape(*shapes[bias], -1).mean(-1), like=like)
        params |= {f"{name}.{k}": own[k] for k in trained}
        constants |= {f"{name}.{k}": own[k] for k in fixed}
        if centered and unit.free:
            constants[f"{name}.offset"] = unit.mean(engine, engine.arrays.asarray(eta, like=like), own)
    return machine_class.from_arrays(structure, params, constants)
