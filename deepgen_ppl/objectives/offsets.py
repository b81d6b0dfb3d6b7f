"""The offsets of a centered machine, which follow a moving average of the layers' means; p(x) stays the same.

Reference: How to Center Deep Boltzmann Machines (Melchior et al., 2016), algorithm 1.
"""

from __future__ import annotations

from typing import Any

from deepgen_ppl.energies.machine import BoltzmannMachine
from deepgen_ppl.energies.mean_field import mean_statistics
from deepgen_ppl.typing import Array, Params, State

__all__ = ["batch_means", "offsets", "recentered"]


def offsets(model: Any) -> dict[str, Array]:
    """Layer name -> offset of the layers that are centered, shapes (width,); none where the model has no such thing."""
    names = model.structure.names if hasattr(model, "recentered") else ()
    return {n: model.constants[f"{n}.offset"] for n in names if f"{n}.offset" in model.constants}


def recentered(model: BoltzmannMachine, means: Params, rate: float) -> BoltzmannMachine:
    """The machine with its offsets moved a part of the way to these means."""
    moved = {n: (1 - rate) * mu + rate * means[n] for n, mu in offsets(model).items()}
    new = model.recentered(moved)
    # what was finite and has a normalizer keeps both when offsets move: nothing is checked again in every step
    return model._replace(params=new.params, constants={k: new.constants[k] for k in model.constants})


def batch_means(model: BoltzmannMachine, eta: Params, drawn: State, data: State, share: Array) -> dict[str, Array]:
    """Mean statistics of the centered layers, shapes (width,); the offsets where no row counts.

    Args:
        model: the machine.
        eta: natural parameters of coupled hidden layers; empty where the data decide them.
        drawn: layers of particles whose means count by half; empty where those of the data count alone.
        data: the layers that the data name.
        share: w_n / N of each row.
    """
    xp = model.engine.xp
    s = model.statistics(data)
    eta = eta or {n: model.natural(n, s) for n in model.structure.names if n not in data}
    s |= mean_statistics(model, eta)
    sampled = model.statistics(drawn)
    total = xp.sum(share)
    total = xp.where(total > 0, total, 1.0)
    out = {}
    for n, offset in offsets(model).items():
        mu = (share @ s[n]) / total
        mu = mu if n not in sampled else 0.5 * (mu + xp.mean(sampled[n], axis=0))
        out[n] = mu + offset
    return out
