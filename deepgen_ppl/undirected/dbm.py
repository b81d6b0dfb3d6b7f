r"""Deep Boltzmann machine of any depth.

    E(v, h1, .., hL) = - v'b - sum_l h_l'c_l - v'W_1 h1 - sum_l h_l' W_(l+1) h_(l+1)

(each statistic less its centering offset). Odd and even layers are conditionally independent, which gives block Gibbs
in two halves and an exact sum over either half; log p*(v) with all hidden layers summed out is bounded by mean field:

    log f(v) >= L(q) = E_q[-E(v, h)] + H(q),   q(h) a product over all hidden units.

References: Deep Boltzmann Machines (Salakhutdinov & Hinton, 2009), eq. 9-12; An Efficient Learning Procedure for Deep
Boltzmann Machines (Salakhutdinov & Hinton, 2012), section 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from deepgen_ppl.energies.initial import random_machine
from deepgen_ppl.energies.machine import BoltzmannMachine
from deepgen_ppl.energies.terms import Dense
from deepgen_ppl.typing import Rng
from deepgen_ppl.units.base import Unit
from deepgen_ppl.units.bernoulli import unit_of

__all__ = ["DBM"]


class DBM(BoltzmannMachine):
    """Deep Boltzmann machine: a visible layer `v` and hidden layers `h1`, `h2`, ..., each coupled to the next.

        E(v, h1, .., hL) = - v'b - sum_l h_l'c_l - v'W_1 h1 - sum_l h_l' W_(l+1) h_(l+1)

    Each statistic stands less its centering offset.

    The constructor is that of `BoltzmannMachine`; `init` is the short way.

    Args:
        layers: layer name -> unit: `v`, `h1`, `h2`, ...
        terms: `Dense(("v", "h1"))`, `Dense(("h1", "h2"))`, ...
        params: trained arrays: `LAYER.bias`, `v-h1.weight`, `h1-h2.weight`, ...
        constants: arrays that are never differentiated: `LAYER.offset` (centering), `energy_offset`.

    Raises:
        ValueError: for missing or unknown arrays, wrong shapes, or a machine that has no normalizer.

    Example:
        >>> import numpy as np
        >>> import deepgen_ppl.numpyro as dg
        >>> dbm = dg.DBM.init(visible=4, hidden=(3, 2), centered=False, weight_scale=1.0, rng=0)
        >>> W1, W2 = np.asarray(dbm.params["v-h1.weight"]), np.asarray(dbm.params["h1-h2.weight"])
        >>> v, h1, h2 = np.float32([1, 0, 1, 1]), np.float32([0, 1, 1]), np.float32([1, 0])
        >>> bool(np.isclose(dbm.energy({"v": v, "h1": h1, "h2": h2}), -v @ W1 @ h1 - h1 @ W2 @ h2, atol=1e-5))
        True

    References:
        Deep Boltzmann Machines (Salakhutdinov & Hinton, 2009), eq. 9-12,
        https://proceedings.mlr.press/v5/salakhutdinov09a.html; An Efficient Learning Procedure for Deep Boltzmann
        Machines (Salakhutdinov & Hinton, 2012), section 2, https://doi.org/10.1162/NECO_a_00311.
    """

    @classmethod
    def init(
        cls,
        visible: int | Unit,
        hidden: Sequence[int | Unit],
        *,
        rng: Rng | int,
        centered: bool = True,
        data: Any = None,
        weight_scale: float = 0.01,
        dtype: str = "float32",
    ) -> Self:
        """A machine with small random weights.

        Args:
            visible: number of Bernoulli units, or a unit.
            hidden: for each hidden layer, number of Bernoulli units, or a unit.
            rng: seed or generator.
            centered: whether to subtract offsets from the statistics; training moves them.
            data: (N, V) from which to take the visible bias and offset (the base rates).
            weight_scale: standard deviation of the weights.
            dtype: `float32` or `float64`.

        Raises:
            ValueError: without a hidden layer.
        """
        if isinstance(hidden, str) or not hasattr(hidden, "__len__") or len(hidden) == 0:
            raise ValueError(f"expected the sizes of the hidden layers, such as (500, 1000), got {hidden!r}")
        names = ["v", *(f"h{i + 1}" for i in range(len(hidden)))]
        units = [unit_of(layer) for layer in (visible, *hidden)]
        terms = [Dense(pair) for pair in zip(names, names[1:], strict=False)]
        return random_machine(
            cls,
            rng,
            dict(zip(names, units, strict=True)),
            terms,
            centered=centered,
            data=data,
            weight_scale=weight_scale,
            dtype=dtype,
        )
