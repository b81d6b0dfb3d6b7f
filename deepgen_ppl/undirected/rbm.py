r"""Restricted Boltzmann machine.

    E(v, h) = - (v - mu)' b - (h - nu)' c - (v - mu)' W (h - nu)
    F(v)    = - (v - mu)' b - sum_j [ softplus(eta_j) - nu_j eta_j ],   eta = c + (v - mu)' W

with v in {0,1}^V, h in {0,1}^H, weights W (V, H), biases b (V,), c (H,) and centering offsets mu (V,), nu (H,), zero
when the machine is not centered.

References: Training Products of Experts by Minimizing Contrastive Divergence (Hinton, 2002), eq. 7;
How to Center Deep Boltzmann Machines (Melchior et al., 2016), eq. 7.
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
from deepgen_ppl.units.bernoulli import unit_of, unit_or
from deepgen_ppl.units.gaussian import Gaussian

__all__ = ["RBM", "GaussianBernoulliRBM"]


class RBM(BoltzmannMachine):
    """Restricted Boltzmann machine: a visible layer `v` and a hidden layer `h`, coupled by a full weight matrix.

        E(v, h) = - (v - mu)' b - (h - nu)' c - (v - mu)' W (h - nu)
        F(v)    = - (v - mu)' b - sum_j [ softplus(eta_j) - nu_j eta_j ],   eta = c + (v - mu)' W

    v and h are in {0,1} where nothing else is said; the offsets mu and nu are zero where the machine is not centered.
    `init` makes one with random weights.

    Args:
        weight: W, shape (V, H).
        visible_bias: b, shape (V,); zero by default.
        hidden_bias: c, shape (H,); zero by default.
        visible: unit of the visible layer; `Bernoulli(V)` by default.
        hidden: unit of the hidden layer; `Bernoulli(H)` by default.

    Raises:
        ValueError: for shapes that do not fit.

    Example:
        >>> import numpy as np
        >>> import deepgen_ppl.numpyro as dg
        >>> rng = np.random.default_rng(0)
        >>> W, b, c = (rng.normal(size=shape).astype("float32") for shape in ((4, 3), 4, 3))
        >>> rbm, v, h = dg.RBM(W, b, c), np.float32([1, 0, 1, 1]), np.float32([0, 1, 1])
        >>> bool(np.isclose(rbm.energy({"v": v, "h": h}), -v @ b - h @ c - v @ W @ h, atol=1e-5))
        True
        >>> bool(np.isclose(rbm.free_energy(v), -v @ b - np.logaddexp(0, c + v @ W).sum(), atol=1e-5))
        True
        >>> dg.RBM.init(visible=784, hidden=500, rng=0)  # small random weights
        RBM(v: Bernoulli(784), h: Bernoulli(500); v-h, centered; float32)

    References:
        Training Products of Experts by Minimizing Contrastive Divergence (Hinton, 2002), eq. 7,
        https://doi.org/10.1162/089976602760128018; How to Center Deep Boltzmann Machines (Melchior et al., 2016),
        eq. 7, https://arxiv.org/abs/1311.1354.
    """

    def __init__(
        self,
        weight: Array,
        visible_bias: Array | None = None,
        hidden_bias: Array | None = None,
        *,
        visible: Unit | None = None,
        hidden: Unit | None = None,
    ) -> None:
        weight = numbers(weight, "the weight")
        if len(np.shape(weight)) != 2:
            how = f"; for random weights use {type(self).__name__}.init(visible=6, hidden=3, rng=0)"
            raise ValueError(f"expected a weight of shape (V, H), got shape {tuple(np.shape(weight))}{how}")
        weight = self._array("v-h.weight", weight)
        visible, hidden = (unit_or(u, n) for u, n in zip((visible, hidden), np.shape(weight), strict=True))
        arrays = {
            "v.bias": 0.0 * weight[:, 0] if visible_bias is None else visible_bias,
            "h.bias": 0.0 * weight[0] if hidden_bias is None else hidden_bias,
            "v-h.weight": weight,
        }
        super().__init__({"v": visible, "h": hidden}, [Dense(("v", "h"))], arrays)

    @classmethod
    def init(
        cls,
        visible: int | Unit,
        hidden: int | Unit,
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
            hidden: number of Bernoulli units, or a unit.
            rng: seed or generator.
            centered: whether to subtract offsets from the statistics; training moves them.
            data: (N, V) from which to take the visible bias and offset (the base rates).
            weight_scale: standard deviation of the weights.
            dtype: `float32` or `float64`.
        """
        layers = {"v": unit_of(visible), "h": unit_of(hidden)}
        return random_machine(
            cls, rng, layers, [Dense(("v", "h"))], centered=centered, data=data, weight_scale=weight_scale, dtype=dtype
        )


class GaussianBernoulliRBM(RBM):
    r"""RBM with real visible units: E(v, h) = sum_i v_i^2 / (2 sigma_i^2) - b'v - c'h - v'W h, offsets apart.

    p(v | h) = Normal(sigma^2 (b + W h), sigma) and p(h | v) = Bernoulli(sigmoid(c + W'v)).
    In the letters of the reference, b and W here are its b / sigma^2 and W / sigma^2.

    A machine that `init` makes from data is the same of z = (v - l) / u, with the means l and standard deviations u of
    the data as constants (`Gaussian(V, standardized=True)`): E(z, h), b, W and sigma / u know no units, so that pixels
    from 0 to 255, from 0 to 1, and standardized ones are learned alike, while log p(v) is in the units of v. Its
    `mean("v", ...)`, as of every layer, is that of the statistic, z; `conditional("v", ...)` is the law of v.

    >>> import numpy as np
    >>> import deepgen_ppl.numpyro as dg
    >>> v = np.array([[0.0, 10.0], [2.0, 30.0]], np.float32)
    >>> rbm = dg.GaussianBernoulliRBM.init(2, 3, rng=0, data=v)
    >>> print(np.exp(rbm.params["v.log_sigma"]).round(3))
    [ 1. 10.]

    Args:
        weight: W, shape (V, H).
        visible_bias: b, shape (V,); zero by default.
        hidden_bias: c, shape (H,); zero by default.
        visible_scale: standard deviation sigma of the visible units; None, the default, learns one for each, from 1.
        visible: unit of the visible layer, in place of `Gaussian(V, scale=visible_scale)`.
        hidden: unit of the hidden layer; `Bernoulli(H)` by default.

    Raises:
        ValueError: for shapes that do not fit, or a scale that is no positive number.

    Example:
        >>> import numpy as np
        >>> import deepgen_ppl.numpyro as dg
        >>> rng = np.random.default_rng(0)
        >>> W, b, c = (rng.normal(size=shape).astype("float32") for shape in ((4, 3), 4, 3))
        >>> rbm = dg.GaussianBernoulliRBM(W, b, c, visible_scale=2.0)
        >>> v, h = rng.normal(size=4).astype("float32"), np.float32([0, 1, 1])
        >>> E = (v**2).sum() / (2 * 2.0**2) - b @ v - c @ h - v @ W @ h
        >>> bool(np.isclose(rbm.energy({"v": v, "h": h}), E, atol=1e-4))
        True
        >>> p_v = rbm.conditional("v", {"h": h})  # Normal(sigma^2 (b + W h), sigma)
        >>> bool(np.allclose(p_v.mean, 2.0**2 * (b + W @ h), atol=1e-4))
        True

    Reference:
        Improved Learning of Gaussian-Bernoulli Restricted Boltzmann Machines (Cho et al., 2011), eq. 3-5,
        https://doi.org/10.1007/978-3-642-21735-7_2.
    """

    def __init__(
        self,
        weight: Array,
        visible_bias: Array | None = None,
        hidden_bias: Array | None = None,
        *,
        visible_scale: float | None = None,
        visible: Unit | None = None,
        hidden: Unit | None = None,
    ) -> None:
        weight = numbers(weight, "the weight")
        if visible is None and len(np.shape(weight)) == 2:
            visible = Gaussian(np.shape(weight)[0], scale=visible_scale)
        super().__init__(weight, visible_bias, hidden_bias, visible=visible, hidden=hidden)

    @classmethod
    def init(
        cls,
        visible: int | Unit,
        hidden: int | Unit,
        *,
        rng: Rng | int,
        visible_scale: float | None = None,
        centered: bool = True,
        data: Any = None,
        weight_scale: float = 0.01,
        dtype: str = "float32",
    ) -> Self:
        """A machine with small random weights.

        Args:
            visible: number of real units, standardized ones where data are given; or a unit.
            hidden: number of Bernoulli units, or a unit.
            rng: seed or generator.
            visible_scale: standard deviation sigma of the visible units, in the units of the data; None, the default,
                learns one for each, from the standard deviations of the data, or from 1 without data.
            centered: whether to subtract offsets from the statistics; training moves them.
            data: (N, V), in any units, from which to take location and unit of measurement, the visible bias and
                offset, and where sigma starts.
            weight_scale: standard deviation of the weights between h and z = (v - l) / u.
            dtype: `float32` or `float64`.
        """
        if not isinstance(visible, Unit):
            visible = Gaussian(visible, scale=visible_scale, standardized=data is not None)
        return super().init(
            visible, hidden, rng=rng, centered=centered, data=data, weight_scale=weight_scale, dtype=dtype
        )
