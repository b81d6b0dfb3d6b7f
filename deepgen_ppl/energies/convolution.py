r"""Convolutional couplings.

    form = sum_k sum_ij h^k_ij (W^k * v)_ij,    (W^k * v)_ij = sum_c sum_rs W^(k,c)_rs v^c_(i+r, j+s)

Reference: Convolutional Deep Belief Networks for Scalable Unsupervised Learning of Hierarchical Representations (Lee et
al., 2009), section 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from deepgen_ppl.energies.terms import Term
from deepgen_ppl.engine import Engine
from deepgen_ppl.options import check_options, integer
from deepgen_ppl.typing import Array, Params

__all__ = ["Convolution"]


@dataclass(frozen=True)
class Convolution(Term):
    """<s_b, W * s_a>: filters W of shape (K, C, k, k) slide over the images of layer a; their maps are layer b.

    Layers are flat, channels first: a is an image (C, height, width), b the maps (K, height - k + 1, width - k + 1).

    Args:
        layers: (image layer, map layer).
        image: (C, height, width) of layer a.
        filters: number of filters K.
        kernel: side k of a filter.
    """

    image: tuple[int, int, int] = (1, 1, 1)
    filters: int = 1
    kernel: int = 1

    order: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.image, (tuple, list)) or len(self.image) != 3:
            raise ValueError(f"expected an image (channels, height, width), got {self.image!r}")
        image = tuple(integer(n, "each axis of the image") for n in self.image)
        kernel = integer(self.kernel, "kernel")
        if kernel > min(image[1:]):
            raise ValueError(f"expected a kernel of at most {min(image[1:])} for the image {image}, got {kernel}")
        check_options(self, image=image, filters=integer(self.filters, "filters"), kernel=kernel)

    @property
    def maps(self) -> tuple[int, int, int]:
        """Shape of layer b: (K, height - k + 1, width - k + 1)."""
        return (self.filters, self.image[1] - self.kernel + 1, self.image[2] - self.kernel + 1)

    def shapes(self, widths: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        """(K, C, k, k)."""
        expected = dict(zip(self.layers, (math.prod(self.image), math.prod(self.maps)), strict=True))
        if (got := {n: widths[n] for n in self.layers}) != expected:
            raise ValueError(f"expected layers of the widths {expected} for {self}, got {got}")
        return {"weight": (self.filters, self.image[0], self.kernel, self.kernel)}

    def natural(self, engine: Engine, arrays: Params, s: Mapping[str, Array], to: str) -> Array:
        """W * s_a to b, the adjoint of s_b to a."""
        a, b = self.layers
        apply, x, shape = (
            (engine.special.conv, s[a], self.image) if to == b else (engine.special.conv_transpose, s[b], self.maps)
        )
        out = apply(engine.xp.reshape(x, (-1, *shape)), arrays["weight"])
        return engine.xp.reshape(out, (*x.shape[:-1], -1))
