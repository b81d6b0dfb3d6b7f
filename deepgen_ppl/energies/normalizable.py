r"""Whether a machine has a normalizer: proper conditionals do not make a proper joint law. It is decided term by term.

A unit says how fast its law falls off: its statistic is bounded, or its base measure falls off as exp(-lambda x^2 / 2)
(its `curvature` lambda), or more slowly (a count). A term over at most one layer without bounds is always fine. Of two,
with the matrix W between them:

    both with curvature         the joint precision diag(lambda) - W over all such layers must be positive definite
    one with, one without       W = 0
    both without                W <= 0 and statistics that are never negative

Layers that are always given have no law and count as none. Where a third, bounded layer scales W, this must hold for
every state of it: W is replaced by the largest |W_ij| (the largest W_ij in the last row), which is enough but not
needed, and what it does not settle is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deepgen_ppl.energies.structure import Structure
from deepgen_ppl.energies.terms import Pair, Term
from deepgen_ppl.engine import Engine
from deepgen_ppl.typing import Params

__all__ = ["check_normalizable"]


def check_normalizable(engine: Engine, structure: Structure, arrays: Params) -> None:
    """Check that exp(-E) has a finite sum.

    Args:
        engine: the engine.
        structure: layers and terms.
        arrays: all arrays of the machine, by name.

    Raises:
        ValueError: if it has not, or if that cannot be decided.
    """
    layers = structure.layers
    free = [(t, [n for n in t.layers if layers[n].free and not layers[n].bounded]) for t in structure.couplings]
    if over := [t for t, names in free if len(names) > 2]:
        raise ValueError(f"expected a normalizable machine, got three layers without bounds in {over[0]}")
    if over := [t for t, names in free if len(names) > 1 and set(t.layers) & set(structure.conditions)]:
        raise ValueError(
            f"expected a normalizable machine, got two layers without bounds in {over[0]}, whose couplings are scaled "
            "by values that are given: nothing says how large these are"
        )
    pairs: list[tuple[Term, Pair]] = [(t, (names[0], names[1])) for t, names in free if len(names) == 2]
    if not pairs:
        return
    curvature = {}
    for name in sorted({n for _, names in pairs for n in names}):
        own = {k: engine.arrays.to_numpy(arrays[f"{name}.{k}"]) for part in layers[name].init_arrays() for k in part}
        curvature[name] = layers[name].curvature(own)
    joint = []
    for term, names in pairs:
        if all(curvature[n] is not None for n in names):
            joint.append((term, names))
        else:
            _check_counts(engine, structure, arrays, term, names, mixed=any(curvature[n] is not None for n in names))
    if joint:
        _check_precision(engine, structure, arrays, joint, {n: c for n, c in curvature.items() if c is not None})


def _matrices(engine: Engine, structure: Structure, arrays: Params, term: Term, pair: Pair) -> list[np.ndarray]:
    """Matrices (..., width a, width b) between two layers: one, or one for each component of a third layer."""
    own = {k: arrays[f"{term.name}.{k}"] for k in structure.keys[term.name]}
    widths, like = {n: structure.layers[n].width for n in term.layers}, next(iter(own.values()))
    third = [n for n in term.layers if n not in pair]
    states = [{third[0]: engine.arrays.asarray(row, like=like)} for row in np.eye(widths[third[0]])] if third else [{}]
    found = (term.matrix(engine, own, pair, widths[pair[1]], s) for s in states)
    return [engine.arrays.to_numpy(w).astype(float) for w in found]


def _check_counts(
    engine: Engine, structure: Structure, arrays: Params, term: Term, names: Pair, *, mixed: bool
) -> None:
    """Two layers of which one at least has no curvature."""
    third = [structure.layers[n] for n in term.layers if n not in names]
    low, high = third[0].range if third else (1.0, 1.0)
    found = _matrices(engine, structure, arrays, term, names)
    largest, smallest = (sum(edge(low * w, high * w) for w in found) for edge in (np.maximum, np.minimum))
    counts = all(structure.layers[n].range[0] >= 0 for n in names)
    if mixed or not counts:
        fine, condition = not np.any(largest) and not np.any(smallest), "couplings of zero"
    else:
        fine, condition = bool(np.max(largest) <= 0), "couplings that are never positive"
    if not fine:
        kinds = " and ".join(repr(structure.layers[n]) for n in names)
        raise ValueError(
            f"expected a normalizable machine: {condition} between {kinds}, got {term.name} with couplings from "
            f"{np.min(smallest):.4g} to {np.max(largest):.4g}"
        )


def _check_precision(
    engine: Engine,
    structure: Structure,
    arrays: Params,
    pairs: Sequence[tuple[Term, Pair]],
    curvature: dict[str, np.ndarray],
) -> None:
    """Layers with curvature: the joint precision is positive definite, whatever the states of the others."""
    names = sorted({n for _, pair in pairs for n in pair})
    at = dict(zip(names, np.cumsum([0, *(structure.layers[n].width for n in names)]), strict=False))
    bounded = any(len(t.layers) > 2 for t, _ in pairs)
    size = sum(structure.layers[n].width for n in names)
    w = np.zeros((1, size, size))
    for term, (a, b) in pairs:
        scale = [max(map(abs, structure.layers[n].range)) for n in term.layers if n not in (a, b)]
        found = _matrices(engine, structure, arrays, term, (a, b))
        block = np.sum(np.abs(found), axis=0) * (scale[0] if scale else 1.0) if bounded else found[0]
        rows, columns = (slice(at[n], at[n] + structure.layers[n].width) for n in (a, b))
        w = np.zeros((*np.broadcast_shapes(w.shape[:-2], block.shape[:-2]), size, size)) + w
        w[..., rows, columns] += block
        w[..., columns, rows] += np.swapaxes(block, -1, -2)
    lead = np.broadcast_shapes(*(curvature[n].shape[:-1] for n in names))
    diagonal = np.concatenate([np.broadcast_to(c, (*lead, c.shape[-1])) for c in (curvature[n] for n in names)], -1)
    smallest = float(np.linalg.eigvalsh(diagonal[..., None] * np.eye(size) - w)[..., 0].min())
    if not smallest > 0:
        reason = (
            "whose joint precision, at the largest coupling that the bounded layers allow, has"
            if bounded
            else "whose joint precision has"
        )
        raise ValueError(
            f"expected a normalizable machine, got coupled layers {names} {reason} the eigenvalue {smallest:.4g} <= 0: "
            "its conditionals are proper, its joint law is not"
        )
