"""A machine about other offsets: what moves with an offset goes into biases and the constant, and p(x) stays.

    < s_a - mu_a, W (s_b - mu_b) > = < s_a - mu'_a, W (s_b - mu'_b) >
                                     + < s_a - mu'_a, W (mu'_b - mu_b) > + < mu'_a - mu_a, W (s_b - mu'_b) > + const

Reference: How to Center Deep Boltzmann Machines (Melchior et al., 2016), eq. 7 and algorithm 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deepgen_ppl.options import mapping
from deepgen_ppl.typing import Array, Params

__all__ = ["recentered", "uncentered"]


def uncentered(machine: Any) -> Any:
    """The machine with the same energy without offsets or shared biases; see `BoltzmannMachine.uncentered`."""
    structure, constants = machine.structure, machine.constants
    offsets = {n: constants[f"{n}.offset"] for n in structure.names if f"{n}.offset" in constants}
    if not offsets and not structure.biases:
        return machine
    # s - mu at s = 0 is -mu: what it sends through the couplings moves into the biases
    zero = {n: -offsets[n] if n in offsets else machine.zeros(n) for n in structure.names}
    terms = machine.centered_terms
    sent = {n: machine.sent(terms, n, zero) for n in structure.names}
    params = {**machine.params, **{f"{n}.bias": eta for n, eta in sent.items()}}
    constants = {k: v for k, v in constants.items() if not k.endswith(".offset")}
    constants["energy_offset"] = constants.get("energy_offset", 0.0) - _form(machine, terms, sent, zero)
    return machine._replace(params=params, constants=constants, structure=structure.without_shared_biases)


def _offset(machine: Any, name: str, mu: Any) -> Array:
    """A new offset of a layer, of its width and finite where its values can be read."""
    arrays, width = machine.engine.arrays, machine.structure.layers[name].width
    mu = arrays.asarray(mu, like=machine.like)
    if tuple(mu.shape[-1:]) != (width,) or (arrays.is_concrete(mu) and not np.isfinite(arrays.to_numpy(mu)).all()):
        raise ValueError(f"expected a finite offset of {name!r} of shape ({width},), got shape {tuple(mu.shape)}")
    return mu


def recentered(machine: Any, offsets: Params) -> Any:
    """The same law p(x) about other offsets; see `BoltzmannMachine.recentered`.

    Raises:
        ValueError: for an unknown layer, or where a neighbor has a shared bias, which cannot take what moves.
    """
    structure = machine.structure
    if unknown := sorted(mapping(offsets, "offsets", "{'v': mu}").keys() - structure.layers.keys(), key=str):
        raise ValueError(f"expected offsets of layers among {list(structure.names)}, got {unknown}")
    offsets = {n: _offset(machine, n, mu) for n, mu in offsets.items()}
    shared, terms = {t.layers[0] for t in structure.biases}, machine.centered_terms
    for name in shared:
        if moved := sorted({n for t in terms if name in t.layers for n in t.layers} - {name} & offsets.keys()):
            raise ValueError(f"expected offsets {moved} to stay: the bias of their neighbor {name!r} is shared")
    params, shift = dict(machine.params), {}
    for name in structure.names:
        old: Array = machine.constants.get(f"{name}.offset", machine.zeros(name))
        shift[name] = offsets[name] - old if name in offsets else 0.0 * old
    sent = {n: machine.sent(terms, n, shift) for n in structure.names}
    params |= {f"{n}.bias": eta for n, eta in sent.items() if n not in shared}
    constants = {**machine.constants, **{f"{n}.offset": mu for n, mu in offsets.items()}}
    constants["energy_offset"] = machine.constants.get("energy_offset", 0.0) - _form(machine, terms, sent, shift)
    return machine._replace(params=params, constants=constants)


def _form(machine: Any, terms: list[Any], sent: Params, s: Params) -> Array:
    """Sum of the terms, of one layer or two, from what they send: sum_l <sent_l, s_l> counts those of two twice."""
    biases = machine.form([t for t in terms if len(t.layers) == 1], s)
    return 0.5 * (sum(machine.engine.xp.sum(sent[n] * s[n], axis=-1) for n in s) + biases)
