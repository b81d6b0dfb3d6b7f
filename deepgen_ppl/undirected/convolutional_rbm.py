r"""Convolutional restricted Boltzmann machine with probabilistic max pooling.

    E(v, h) = - sum_k sum_ij h^k_ij [ (W^k * v)_ij + b_k ] - sum_c c_c sum_ij v^c_ij,   sum_(ij in block) h^k_ij <= 1
    (W^k * v)_ij = sum_c sum_rs W^(k,c)_rs v^c_(i+r, j+s)

Filters slide over an image; all units of a map share their filter and their bias b_k, all pixels of a channel their
bias c_c. The maps are cut into blocks B_alpha of C x C units, at most one of them on, and a block is pooled to one unit
p_alpha, on where one of its units is. With I(h_ij) = (W^k * v)_ij + b_k,

    P(h_ij = 1 | v)    = exp I(h_ij) / (1 + sum_(i'j' in B_alpha) exp I(h_i'j'))
    P(p_alpha = 0 | v) = 1 / (1 + sum_(i'j' in B_alpha) exp I(h_i'j'))

Layer `h` has one variable a block: 0 where all of its units are off, else the number, from 1, row by row, of the unit
that is on (`AtMostOne`). With blocks of one unit these are binary units.

Reference: Convolutional Deep Belief Networks for Scalable Unsupervised Learning of Hierarchical Representations (Lee et
al., 2009), eq. 1 and section 3.3.
"""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np

from deepgen_ppl.energies.convolution import Convolution
from deepgen_ppl.energies.initial import random_machine
from deepgen_ppl.energies.machine import BoltzmannMachine
from deepgen_ppl.energies.terms import SharedBias, Term
from deepgen_ppl.options import numbers
from deepgen_ppl.typing import Array, Rng
from deepgen_ppl.units.at_most_one import AtMostOne
from deepgen_ppl.units.base import Unit
from deepgen_ppl.units.bernoulli import Bernoulli, unit_or

__all__ = ["ConvolutionalRBM"]


class ConvolutionalRBM(BoltzmannMachine):
    r"""Convolutional RBM, pooled by blocks: E(v, h) = - sum_k,ij h^k_ij [(W^k * v)_ij + b_k] - sum_c c_c sum_ij v^c_ij.

    Layer `v` is the image, flat, channels first. Layer `h` has one value for each block of `pool` x `pool` units of a
    map, 0 or the unit that is on; `maps` and `values` translate. There are no offsets: biases that are shared cannot
    take what moves with them.

    Args:
        weight: filters W, shape (K, channels, side, side).
        visible_bias: c, shape (channels,); zero by default.
        hidden_bias: b, shape (K,); zero by default.
        image: (channels, height, width).
        pool: side C of a block, which divides the sides of the maps, height - side + 1 and width - side + 1.
        visible: unit of `v`, of channels x height x width; `Bernoulli` by default, `Gaussian(n, scale=...)` for reals.

    Raises:
        ValueError: for shapes that do not fit, or a pool that does not divide the maps.

    Example:
        >>> import numpy as np
        >>> import deepgen_ppl.numpyro as dg
        >>> W = np.random.default_rng(0).normal(size=(1, 1, 2, 2)).astype("float32")
        >>> rbm = dg.ConvolutionalRBM(W, hidden_bias=np.float32([0.5]), image=(1, 3, 3), pool=2)
        >>> v = np.eye(3, dtype="float32")
        >>> I = np.array([[(W[0, 0] * v[i : i + 2, j : j + 2]).sum() + 0.5 for j in (0, 1)] for i in (0, 1)])
        >>> on = np.exp(I) / (1 + np.exp(I).sum())
        >>> bool(np.allclose(rbm.detection(v.reshape(1, 9)), on, atol=1e-6))  # P(h_ij = 1 | v), (1, K, 2, 2)
        True
        >>> bool(np.allclose(rbm.pooled(v.reshape(1, 9)), on.sum(), atol=1e-6))  # P(p_alpha = 1 | v), (1, K, 1, 1)
        True

    References:
        Convolutional Deep Belief Networks for Scalable Unsupervised Learning of Hierarchical Representations (Lee
        et al., 2009), eq. 1 and section 3.3, https://doi.org/10.1145/1553374.1553453.
    """

    def __init__(
        self,
        weight: Array,
        visible_bias: Array | None = None,
        hidden_bias: Array | None = None,
        *,
        image: tuple[int, int, int],
        pool: int = 1,
        visible: Unit | None = None,
    ) -> None:
        weight = numbers(weight, "the weight")
        shape = tuple(np.shape(weight))
        if len(shape) != 4 or shape[2] != shape[3]:
            raise ValueError(
                f"expected a weight of shape (K, channels, side, side), got shape {shape}; for random weights use "
                f"{type(self).__name__}.init(image=(1, 28, 28), filters=24, kernel=5, pool=2, rng=0)"
            )
        weight = self._array("v-h.weight", weight)
        layers, terms = _parts(image, shape[0], shape[2], pool, visible)
        given, sizes = {"v.bias": visible_bias, "h.bias": hidden_bias}, (image[0], shape[0])
        biases = {
            k: self._array(k, np.zeros(n), weight) if b is None else b
            for (k, b), n in zip(given.items(), sizes, strict=True)
        }
        super().__init__(layers, terms, {**biases, "v-h.weight": weight})

    @classmethod
    def init(
        cls,
        image: tuple[int, int, int],
        filters: int,
        kernel: int,
        pool: int = 1,
        *,
        rng: Rng | int,
        visible: Unit | None = None,
        data: Any = None,
        weight_scale: float = 0.01,
        dtype: str = "float32",
    ) -> Self:
        """A machine with small random weights.

        Args:
            image: (channels, height, width).
            filters: number of filters K.
            kernel: side of a filter.
            pool: side C of a block; 1 makes no blocks.
            rng: seed or generator.
            visible: unit of `v`; Bernoulli by default.
            data: (N, channels x height x width) from which to take the visible biases (the base rates).
            weight_scale: standard deviation of the weights.
            dtype: `float32` or `float64`.
        """
        layers, terms = _parts(image, filters, kernel, pool, visible)
        return random_machine(
            cls, rng, layers, terms, centered=False, data=data, weight_scale=weight_scale, dtype=dtype
        )

    @property
    def convolution(self) -> Convolution:
        """The term that couples the layers: it knows the shapes of images, maps and blocks.

        Raises:
            ValueError: for a machine whose couplings are cut.
        """
        for term in self.structure.couplings:
            if isinstance(term, Convolution):
                return term
        raise ValueError(f"expected a machine with filters, got {self!r}, whose couplings are cut")

    def detection(self, v: Array) -> Array:
        """P(h^k_ij = 1 | v), shape (..., K, rows, columns), for v of shape (..., V)."""
        return self.convolution.to_maps(self.engine, self.mean("h", {"v": v}))

    def pooled(self, v: Array) -> Array:
        """P(p^k_alpha = 1 | v), shape (..., K, rows / C, columns / C), for v of shape (..., V)."""
        on = self.mean("h", {"v": v})
        return self.engine.xp.sum(self.engine.xp.reshape(on, (*on.shape[:-1], *self.convolution.pooled, -1)), axis=-1)

    def maps(self, h: Array) -> Array:
        """The units h^k_ij, 0 or 1, shape (..., K, rows, columns), of values of layer `h`, shape (..., blocks)."""
        unit = self.structure.layers["h"]
        return self.convolution.to_maps(self.engine, unit.statistic(self.engine, h, self.like, self.layer_arrays("h")))

    def values(self, maps: Array) -> Array:
        """Values of layer `h`, shape (..., blocks), of units h^k_ij, shape (..., K, rows, columns): inverse of `maps`.

        Raises:
            ValueError: for other shapes, units that are not 0 or 1, or a block with more than one unit on.
        """
        term, engine = self.convolution, self.engine
        on = np.asarray(engine.arrays.to_numpy(maps))
        if on.shape[-3:] != term.maps:
            raise ValueError(f"expected maps of shape (..., {', '.join(map(str, term.maps))}), got shape {on.shape}")
        if problem := Bernoulli(term.maps[-1]).problem(on):
            raise ValueError(f"maps: expected {problem}")
        units = engine.arrays.asarray(on, like=self.like)
        blocks = engine.xp.reshape(term.from_maps(engine, units), (*on.shape[:-3], math.prod(term.pooled), -1))
        most = float(engine.xp.max(engine.xp.sum(blocks, axis=-1)))
        if most > 1:
            c = term.pool
            raise ValueError(f"maps: expected at most one unit on in each block of {c} x {c}, got {most:g} in one")
        number = engine.arrays.asarray(np.arange(1.0, term.pool**2 + 1), like=self.like)
        return blocks @ number


def _parts(
    image: tuple[int, int, int], filters: int, kernel: int, pool: int, visible: Unit | None
) -> tuple[dict[str, Unit], list[Term]]:
    """Layers and terms: filters, a bias a channel and a bias a map."""
    term = Convolution(("v", "h"), image=image, filters=filters, kernel=kernel, pool=pool)
    pixels, blocks = math.prod(term.image), math.prod(term.pooled)
    visible = unit_or(visible, pixels)
    if isinstance(visible, Unit) and visible.width != pixels:
        raise ValueError(f"expected a visible unit of the width {pixels} for the image {term.image}, got {visible!r}")
    layers = {
        "v": visible,
        "h": Bernoulli(blocks) if term.pool == 1 else AtMostOne(blocks, term.pool**2),
    }
    shared = [SharedBias((n,), repeats=math.prod(s[1:])) for n, s in (("v", term.image), ("h", term.maps))]
    return layers, [term, *shared]
