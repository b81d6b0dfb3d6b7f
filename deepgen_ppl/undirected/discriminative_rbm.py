r"""Discriminative restricted Boltzmann machine: an RBM over data and their labels, whose p(y | v) is exact.

    E(v, y, h) = - v'b - d_y - h'c - v'W h - sum_j U_yj h_j
    p(y | v)   = exp( d_y + sum_j softplus(c_j + U_yj + (v'W)_j) ) / the same, summed over all labels

Reference: Classification using Discriminative Restricted Boltzmann Machines (Larochelle & Bengio, 2008), eq. 1 and 2.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from deepgen_ppl.energies.initial import random_machine
from deepgen_ppl.energies.machine import BoltzmannMachine
from deepgen_ppl.energies.terms import Dense
from deepgen_ppl.options import numbers
from deepgen_ppl.typing import Array, Rng
from deepgen_ppl.units.base import Unit
from deepgen_ppl.units.bernoulli import Bernoulli, unit_of, unit_or
from deepgen_ppl.units.categorical import Categorical

__all__ = ["DiscriminativeRBM"]

TERMS = (Dense(("v", "h")), Dense(("y", "h")))


class DiscriminativeRBM(BoltzmannMachine):
    r"""RBM with labels: E(v, y, h) = - v'b - d_y - h'c - v'W h - sum_j U_yj h_j, layers `v`, `y`, `h`.

    `y` is one categorical unit, whose values 0..K-1 have shape (N, 1). `machine.given({"v": v})` is the law of labels
    and hidden units of each row, and `machine.label_log_prob(v)` is log p(y | v) of all labels, exactly.

    Args:
        weight: W, shape (V, H).
        label_weight: U, shape (K, H).
        visible_bias: b, shape (V,); zero by default.
        label_bias: d, shape (K,); zero by default.
        hidden_bias: c, shape (H,); zero by default.
        visible: unit of `v`; `Bernoulli(V)` by default.

    Raises:
        ValueError: for shapes that do not fit.

    Example:
        >>> import numpy as np
        >>> import deepgen_ppl.numpyro as dg
        >>> rng = np.random.default_rng(0)
        >>> W, U = (rng.normal(size=shape).astype("float32") for shape in ((6, 4), (3, 4)))
        >>> rbm = dg.DiscriminativeRBM(W, U)
        >>> v = rng.integers(0, 2, (5, 6)).astype("float32")
        >>> log_f = np.logaddexp(0, (v @ W)[:, None] + U).sum(-1)  # sum_j softplus(c_j + U_yj + (v'W)_j)
        >>> log_p = log_f - np.log(np.exp(log_f).sum(1, keepdims=True))
        >>> bool(np.allclose(rbm.label_log_prob(v), log_p, atol=1e-5))
        True

    References:
        Classification using Discriminative Restricted Boltzmann Machines (Larochelle & Bengio, 2008), eq. 1 and 2,
        https://doi.org/10.1145/1390156.1390224.
    """

    def __init__(
        self,
        weight: Array,
        label_weight: Array,
        visible_bias: Array | None = None,
        label_bias: Array | None = None,
        hidden_bias: Array | None = None,
        *,
        visible: Unit | None = None,
    ) -> None:
        weight, label_weight = numbers(weight, "the weight"), numbers(label_weight, "the label weight")
        if len(np.shape(weight)) != 2 or len(np.shape(label_weight)) != 2:
            got = f"{tuple(np.shape(weight))} and {tuple(np.shape(label_weight))}"
            raise ValueError(f"expected weights of shapes (V, H) and (K, H), got shapes {got}")
        w, u = self._array("v-h.weight", weight), self._array("y-h.weight", label_weight)
        given, zeros = (visible_bias, label_bias, hidden_bias), (0.0 * w[:, 0], 0.0 * u[:, 0], 0.0 * w[0])
        biases = {f"{n}.bias": z if b is None else b for n, b, z in zip("vyh", given, zeros, strict=True)}
        layers = {
            "v": unit_or(visible, w.shape[0]),
            "y": Categorical(1, u.shape[0]),
            "h": Bernoulli(w.shape[1]),
        }
        super().__init__(layers, TERMS, {**biases, "v-h.weight": w, "y-h.weight": u})

    @classmethod
    def init(
        cls,
        visible: int | Unit,
        labels: int,
        hidden: int,
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
            labels: number of labels K.
            hidden: number of Bernoulli units.
            rng: seed or generator.
            centered: whether to subtract offsets from the statistics; training moves them.
            data: (N, V) from which to take the visible bias and offset (the base rates).
            weight_scale: standard deviation of the weights.
            dtype: `float32` or `float64`.
        """
        layers = {
            "v": unit_of(visible),
            "y": Categorical(1, labels),
            "h": Bernoulli(hidden),
        }
        return random_machine(
            cls, rng, layers, TERMS, centered=centered, data=data, weight_scale=weight_scale, dtype=dtype
        )

    def label_log_prob(self, v: Array) -> Array:
        """log p(y | v) of every label, shape (N, K) in nats, for v of shape (N, V)."""
        engine, labels = self.engine, np.arange(float(self.structure.layers["y"].width))
        y = engine.arrays.asarray(labels[:, None, None], like=self.like)
        log_f = -self.given({"v": v}).free_energy({"y": y}).T
        return log_f - engine.special.logsumexp(log_f, -1)[:, None]
