"""First parameters of a machine: small normal weights, biases and offsets from the base rates of the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from deepgen_ppl.typing import Array, Rng
from deepgen_ppl.undirected.couplings import Coupling
from deepgen_ppl.undirected.machine import BoltzmannMachine
from deepgen_ppl.undirected.structure import Structure
from deepgen_ppl.undirected.unit import Unit

__all__ = ["initial_arrays", "mean_statistic"]

M = TypeVar("M", bound=BoltzmannMachine)


def mean_statistic(model_class: Any, unit: Unit, x: Any) -> np.ndarray:
    """Mean over the data of s(x), shape (width,), after checking the data."""
    engine = model_class.engine
    x = np.asarray(engine.arrays.to_numpy(x))
    unit.check(x, "data")
    like = engine.arrays.asarray(np.zeros(1, np.float32))
    s = engine.arrays.to_numpy(unit.statistic(engine, engine.arrays.asarray(x.astype(np.float32)), like))
    return s.reshape(-1, unit.width).mean(0, dtype=float)


def initial_arrays(
    machine_class: type[M],
    rng: Rng | int,
    layers: Mapping[str, Unit],
    couplings: Sequence[Coupling],
    *,
    centred: bool,
    data: Any,
    scale: float,
    dtype: str,
) -> M:
    """A machine of `machine_class` with weights from Normal(0, scale).

    The visible bias is the natural parameter of the data's mean statistic (zero without data); the visible offset is
    that mean and every other offset the mean of a layer with natural parameter zero.
    """
    engine = machine_class.engine
    like = engine.arrays.asarray(np.zeros(1, np.float32), dtype=dtype)
    rng = engine.random.rng(rng, like)
    structure = Structure.of(layers, couplings)
    params: dict[str, Array] = {}
    buffers: dict[str, Array] = {}
    weights = [k for k in structure.array_shapes() if k.endswith(".weight")]
    for key, name in zip(engine.random.split(rng, len(weights) + 1)[1:], weights, strict=True):
        params[name] = scale * engine.random.normal(key, structure.array_shapes()[name], like)
    for name, unit in layers.items():
        trained, fixed = ({k: v.astype(dtype) for k, v in arrays.items()} for arrays in unit.init_arrays())
        eta = np.zeros(unit.width)
        if name == structure.visible and data is not None:
            eta = unit.eta_from_mean(mean_statistic(machine_class, unit, data), trained | fixed)
        own = {k: engine.arrays.asarray(v, like=like) for k, v in (trained | fixed).items()}
        params[f"{name}.bias"] = engine.arrays.asarray(eta, like=like)
        params |= {f"{name}.{k}": own[k] for k in trained}
        buffers |= {f"{name}.{k}": own[k] for k in fixed}
        if centred:
            buffers[f"{name}.offset"] = unit.mean(engine, params[f"{name}.bias"], own)
    return machine_class.from_arrays(structure, params, buffers)
