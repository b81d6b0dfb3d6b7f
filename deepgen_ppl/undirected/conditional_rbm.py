r"""Conditional restricted Boltzmann machine: an RBM whose biases depend on inputs x.

    E(v, h | x) = - v'(b + A x) - h'(c + B x) - v'W h
    p(v | x)    = exp( v'(b + A x) + sum_j softplus( c_j + (B x)_j + (v'W)_j ) ) / Z(x)

Z(x) = sum_v,h exp(-E(v, h | x)) is one number for each x, and nothing is said of x itself, which may be any real
vector: past frames of a motion, or the image whose labels are v.

References: Modeling Human Motion Using Binary Latent Variables (Taylor, Hinton & Roweis, 2007), where A are the
autoregressive weights and B those from the past to the hidden units; Conditional Restricted Boltzmann Machines for
Structured Output Prediction (Mnih, Larochelle & Hinton, 2011).
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from deepgen_ppl.energies.initial import random_machine
from deepgen_ppl.energies.machine import BoltzmannMachine
from deepgen_ppl.energies.terms import Dense, NoBias
from deepgen_ppl.options import integer, numbers
from deepgen_ppl.typing import Array, Rng
from deepgen_ppl.units.base import Unit
from deepgen_ppl.units.bernoulli import unit_of, unit_or
from deepgen_ppl.units.given import Given

__all__ = ["ConditionalRBM"]

TERMS = (Dense(("v", "h")), Dense(("v", "x")), Dense(("h", "x")), NoBias(("x",)))


class ConditionalRBM(BoltzmannMachine):
    r"""Conditional RBM: E(v, h | x) = - v'(b + A x) - h'(c + B x) - v'W h, layers `v`, `h` and the given `x`.

    `machine.given({"x": x})` is a batch of RBMs, one for each row of x, with the biases b + A x and c + B x; its
    marginal is p(v | x), its log Z is log Z(x). The machine learns from data `{"v": v, "x": x}` by
    `ContrastiveDivergence`, whose chains start at their own rows, and `bounds` and `compare` judge log p(v | x). What
    would need a law over x is refused.

    With b, c, W and offsets as in `RBM` and real `v` (`visible=Gaussian(V)`) it is the machine of the first reference.

    Args:
        weight: W, shape (V, H).
        visible_input_weight: A, shape (V, X).
        hidden_input_weight: B, shape (H, X).
        visible_bias: b, shape (V,); zero by default.
        hidden_bias: c, shape (H,); zero by default.
        visible: unit of `v`; `Bernoulli(V)` by default.
        hidden: unit of `h`; `Bernoulli(H)` by default.

    Raises:
        ValueError: for shapes that do not fit, or units whose product has no normalizer.

    Example:
        >>> import numpy as np
        >>> import deepgen_ppl.numpyro as dg
        >>> rng = np.random.default_rng(0)
        >>> W, A, B = (rng.normal(size=shape).astype("float32") for shape in ((3, 2), (3, 4), (2, 4)))
        >>> crbm = dg.ConditionalRBM(W, A, B)
        >>> x, states = rng.normal(size=(5, 4)), np.indices((2, 2, 2)).reshape(3, -1).T
        >>> p_v = crbm.given({"x": x}).marginal("v", log_normalizer="exact")
        >>> p = np.exp(p_v.log_prob(states[:, None]))  # p(v | x) of all v and all x, shape (8, 5)
        >>> bool(np.allclose(p.sum(0), 1, atol=1e-5))
        True
        >>> f = np.exp(states @ A @ x.T) * np.prod(1 + np.exp(B @ x.T + (states @ W)[..., None]), axis=1)
        >>> bool(np.allclose(p, f / f.sum(0), atol=1e-4))
        True

    References:
        Modeling Human Motion Using Binary Latent Variables (Taylor, Hinton & Roweis, 2007),
        https://papers.nips.cc/paper/3078; Conditional Restricted Boltzmann Machines for Structured Output Prediction
        (Mnih, Larochelle & Hinton, 2011), https://arxiv.org/abs/1202.3748.
    """

    def __init__(
        self,
        weight: Array,
        visible_input_weight: Array,
        hidden_input_weight: Array,
        visible_bias: Array | None = None,
        hidden_bias: Array | None = None,
        *,
        visible: Unit | None = None,
        hidden: Unit | None = None,
    ) -> None:
        shapes = [tuple(np.shape(numbers(w, "a weight"))) for w in (weight, visible_input_weight, hidden_input_weight)]
        if any(len(shape) != 2 for shape in shapes):
            raise ValueError(
                f"expected weights of shapes (V, H), (V, X) and (H, X), got shapes {shapes}; for random weights use "
                f"{type(self).__name__}.init(visible=6, hidden=3, input=4, rng=0)"
            )
        w = self._array("v-h.weight", weight)
        arrays = {
            "v.bias": 0.0 * w[:, 0] if visible_bias is None else visible_bias,
            "h.bias": 0.0 * w[0] if hidden_bias is None else hidden_bias,
            "v-h.weight": w,
            "v-x.weight": visible_input_weight,
            "h-x.weight": hidden_input_weight,
        }
        layers = {
            "v": unit_or(visible, shapes[0][0]),
            "h": unit_or(hidden, shapes[0][1]),
            "x": Given(shapes[1][1]),
        }
        super().__init__(layers, TERMS, arrays)

    @classmethod
    def init(
        cls,
        visible: int | Unit,
        hidden: int | Unit,
        input: int,  # noqa: A002 - what x is called
        *,
        rng: Rng | int,
        centered: bool = True,
        data: Any = None,
        weight_scale: float = 0.01,
        dtype: str = "float32",
    ) -> Self:
        """A machine with small random weights.

        Args:
            visible: number of Bernoulli units of `v`, or a unit.
            hidden: number of Bernoulli units of `h`, or a unit.
            input: number of components of x. They are read as they come: standardize them.
            rng: seed or generator.
            centered: whether to subtract offsets from the statistics of `v` and `h`; training moves them.
            data: (N, V) from which to take the visible bias and offset (the base rates).
            weight_scale: standard deviation of the weights W, A and B.
            dtype: `float32` or `float64`.
        """
        units = {"v": unit_of(visible), "h": unit_of(hidden)}
        layers = {**units, "x": Given(integer(input, "input"))}
        return random_machine(
            cls, rng, layers, TERMS, centered=centered, data=data, weight_scale=weight_scale, dtype=dtype
        )
