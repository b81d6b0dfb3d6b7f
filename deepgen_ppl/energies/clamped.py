"""Machines some of whose layers are given: clamped layers become biases, one machine a row.

    E(x_free | x_given) = E(x_free, x_given),    log Z(x_given) = log sum_(x_free) exp(-E) = log f(x_given)

A term over one free layer becomes part of its bias, a term over two free layers of three a matrix between them, a term
over none a constant.
"""

from __future__ import annotations

from typing import Any

from deepgen_ppl.energies.structure import Structure
from deepgen_ppl.energies.terms import Dense, Pair, Term
from deepgen_ppl.typing import Array, State
from deepgen_ppl.units.partly_observed import PartlyObserved

__all__ = ["clamped_parts"]

Arrays = dict[str, Array]


def clamped_parts(machine: Any, state: State, missing: State) -> tuple[Structure, Arrays, Arrays]:
    """Structure, trained arrays and constants of `machine.given(state, missing=missing)`.

    Raises:
        ValueError: see `BoltzmannMachine.given`.
    """
    values, masks = _checked(machine, state, missing)
    machine = machine.uncentered()
    layers, free = machine.structure.layers, [n for n in machine.structure.names if n not in values or n in masks]
    if not free:
        raise ValueError(f"expected a layer that is not given, got values of all layers {list(layers)}")
    known = {n: x for n, x in values.items() if n not in masks}
    s = machine.statistics(known)
    offset = machine.linear_energy(s) - machine.log_base(known)
    units, params = [], dict[str, Array]()
    constants = {"energy_offset": machine.engine.arrays.asarray(offset, like=machine.like)}
    for n in free:
        unit = layers[n]
        trained, fixed = unit.init_arrays()
        reach = [t for t in machine.structure.terms if n in t.layers and set(t.layers) - {n} <= known.keys()]
        params |= {f"{n}.bias": machine.sent(reach, n, s)} | {f"{n}.{k}": machine.params[f"{n}.{k}"] for k in trained}
        constants |= {f"{n}.{k}": machine.constants[f"{n}.{k}"] for k in fixed}
        if n in masks:
            unit = PartlyObserved(unit.size, unit)
            constants |= {f"{n}.value": values[n], f"{n}.missing": masks[n]}
        units.append((n, unit))
    couplings, weights = _free_couplings(machine, known, s)
    return Structure(tuple(units), couplings), params | weights, constants


def _free_couplings(machine: Any, known: Arrays, s: Arrays) -> tuple[tuple[Term, ...], Arrays]:
    """Couplings of the free layers and their arrays: terms with one layer given, and what they meet, become dense."""
    found: dict[frozenset[str], tuple[Term, Arrays]] = {}
    cut = [t for t in machine.structure.couplings if set(t.layers) & known.keys()]
    for t in machine.structure.couplings:
        if t not in cut:
            found[frozenset(t.layers)] = (t, machine.term_arrays(t))
    for t in cut:
        free = [n for n in t.layers if n not in known]
        if len(free) == 2:
            pair = free[0], free[1]
            w = _matrix(machine, t, machine.term_arrays(t), pair, {n: s[n] for n in t.layers if n in known})
            if frozenset(pair) in found:
                other, own = found[frozenset(pair)]
                w = w + _matrix(machine, other, own, pair, {})
            found[frozenset(pair)] = (Dense(pair), {"weight": w})
    return tuple(t for t, _ in found.values()), {
        f"{t.name}.{k}": v for t, own in found.values() for k, v in own.items()
    }


def _matrix(machine: Any, t: Term, own: Arrays, pair: Pair, s: Arrays) -> Array:
    """The matrix of a term between two layers, (a, b), or (..., a, b) where a row of it depends on what is given."""
    w = t.matrix(machine.engine, own, pair, machine.structure.layers[pair[1]].width, s)
    return w if s or w.shape[0] > 1 else w[0]


def _checked(machine: Any, state: State, missing: State) -> tuple[Arrays, Arrays]:
    """Values, with some value where it is not known, and masks (1 where it is not), in the machine's dtype."""
    arrays, layers = machine.engine.arrays, machine.structure.layers
    if unknown := sorted(state.keys() - layers.keys(), key=str):
        raise ValueError(f"expected values of layers among {list(layers)}, got {unknown}")
    if unknown := sorted(missing.keys() - state.keys(), key=str):
        raise ValueError(f"expected masks of layers that are given, {sorted(state)}, got {unknown}")
    values = {n: arrays.asarray(x, like=machine.like) for n, x in state.items()}
    masks = {n: arrays.asarray(m, like=machine.like) for n, m in missing.items()}
    for n, x in values.items():
        unit = layers[n]
        if n in masks:
            if not (unit.free and unit.factorizes):
                raise ValueError(f"expected masks of layers whose units are independent, got one of {n!r}: {unit!r}")
            if tuple(masks[n].shape) != tuple(x.shape):
                raise ValueError(f"expected missing[{n!r}] of shape {tuple(x.shape)}, got {tuple(masks[n].shape)}")
            anything = 0.0 if unit.states is None else float(unit.states[0])
            x = values[n] = machine.engine.xp.where(masks[n] != 0, anything, x)
        if arrays.is_concrete(x):
            unit.check(arrays.to_numpy(x), n)
    return values, masks
