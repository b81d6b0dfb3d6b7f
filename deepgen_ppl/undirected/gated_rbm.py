r"""Gated restricted Boltzmann machine: hidden units that multiply two layers.

    E(v, x, h) = - v'b - x'a - h'c - sum_ijk W_ijk v_i x_j h_k

Given the input x it is an RBM over v and h with the weights sum_j W_ijk x_j, one for each x: hidden units say how x
becomes v. Given x and h, or v and h, or v and x, the third layer's units are independent.

References: Unsupervised Learning of Image Transformations (Memisevic & Hinton, 2007), eq. 1-4; Higher-Order Boltzmann
Machines (Sejnowski, 1986), eq. 4.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from deepgen_ppl.energies.initial import random_machine
from deepgen_ppl.energies.machine import BoltzmannMachine
from deepgen_ppl.energies.terms import ThirdOrder
from deepgen_ppl.options import numbers
from deepgen_ppl.typing import Array, Rng
from deepgen_ppl.units.base import Unit
from deepgen_ppl.units.bernoulli import unit_of, unit_or

__all__ = ["GatedRBM"]

TERMS = (ThirdOrder(("v", "x", "h")),)


class GatedRBM(BoltzmannMachine):
    r"""Gated RBM: E(v, x, h) = - v'b - x'a - h'c - sum_ijk W_ijk v_i x_j h_k, layers `v`, `x`, `h`.

    `machine.given({"x": x})` is the RBM of v and h with the weights sum_j W_ijk x_j, one machine for each row of x, and
    its marginal is p(v | x).

    Args:
        weight: W, shape (V, X, H).
        visible_bias: b, shape (V,); zero by default.
        input_bias: a, shape (X,); zero by default.
        hidden_bias: c, shape (H,); zero by default.
        visible: unit of `v`; `Bernoulli(V)` by default.
        input: unit of `x`; `Bernoulli(X)` by default.
        hidden: unit of `h`; `Bernoulli(H)` by default.

    Raises:
        ValueError: for shapes that do not fit, or units whose product has no normalizer.

    Example:
        >>> import numpy as np
        >>> import deepgen_ppl.numpyro as dg
        >>> W = np.random.default_rng(0).normal(size=(3, 2, 4)).astype("float32")
        >>> rbm = dg.GatedRBM(W)
        >>> v, x, h = np.ones((1, 3)), np.array([[0.0, 1.0]]), np.ones((1, 4))
        >>> energy = -np.einsum("ijk,ni,nj,nk->n", W, v, x, h)
        >>> bool(np.allclose(rbm.energy({"v": v, "x": x, "h": h}), energy, atol=1e-5))
        True
        >>> rbm.given({"x": x})
        BoltzmannMachine(v: Bernoulli(3), h: Bernoulli(4); v-h, (1,) machines; float32)

    References:
        Unsupervised Learning of Image Transformations (Memisevic & Hinton, 2007), eq. 1-4,
        https://doi.org/10.1109/CVPR.2007.383036.
    """

    def __init__(
        self,
        weight: Array,
        visible_bias: Array | None = None,
        input_bias: Array | None = None,
        hidden_bias: Array | None = None,
        *,
        visible: Unit | None = None,
        input: Unit | None = None,  # noqa: A002 - the layer's own name
        hidden: Unit | None = None,
    ) -> None:
        weight = numbers(weight, "the weight")
        if len(np.shape(weight)) != 3:
            raise ValueError(
                f"expected a weight of shape (V, X, H), got shape {tuple(np.shape(weight))}; for random weights use "
                f"{type(self).__name__}.init(visible=6, input=4, hidden=3, rng=0)"
            )
        weight = self._array("v-x-h.weight", weight)
        given, units = (visible_bias, input_bias, hidden_bias), (visible, input, hidden)
        zeros = (0.0 * weight[:, 0, 0], 0.0 * weight[0, :, 0], 0.0 * weight[0, 0])
        biases = {f"{n}.bias": z if b is None else b for n, b, z in zip("vxh", given, zeros, strict=True)}
        layers = {n: unit_or(u, size) for n, u, size in zip("vxh", units, np.shape(weight), strict=True)}
        super().__init__(layers, TERMS, {**biases, "v-x-h.weight": weight})

    @classmethod
    def init(
        cls,
        visible: int | Unit,
        input: int | Unit,  # noqa: A002 - the layer's own name
        hidden: int | Unit,
        *,
        rng: Rng | int,
        data: Any = None,
        weight_scale: float = 0.01,
        dtype: str = "float32",
    ) -> Self:
        """A machine with small random weights.

        Args:
            visible: number of Bernoulli units of `v`, or a unit.
            input: number of Bernoulli units of `x`, or a unit.
            hidden: number of Bernoulli units of `h`, or a unit.
            rng: seed or generator.
            data: (N, V) from which to take the visible bias (the base rates).
            weight_scale: standard deviation of the weights.
            dtype: `float32` or `float64`.
        """
        layers = {"v": unit_of(visible), "x": unit_of(input), "h": unit_of(hidden)}
        return random_machine(
            cls, rng, layers, TERMS, centered=False, data=data, weight_scale=weight_scale, dtype=dtype
        )
