r"""Convolutional couplings.

    form = sum_k sum_ij h^k_ij (W^k * v)_ij,    (W^k * v)_ij = sum_c sum_rs W^(k,c)_rs v^c_(i+r, j+s)

Reference: Convolutional Deep Belief Networks for Scalable Unsupervised Learning of Hierarchical Representations (Lee et
al., 2009), section 3.2, eq. 1; section 3.3 for the blocks.
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
    With `pool` = c > 1 the components of b are in the order of the blocks of c x c units that are pooled, map by map:
    what `AtMostOne` takes.

    Args:
        layers: (image layer, map layer).
        image: (C, height, width) of layer a.
        filters: number of filters K.
        kernel: side k of a filter.
        pool: side c of a block; it divides both sides of the maps.

    Raises:
        ValueError: for a kernel that is larger than the image, or a pool that does not divide the maps.

    Example:
        >>> import deepgen_ppl.numpyro as dg
        >>> term = dg.Convolution(("v", "h"), image=(1, 8, 8), filters=5, kernel=3, pool=2)
        >>> term.maps, term.shapes({"v": 64, "h": 180})
        ((5, 6, 6), {'weight': (5, 1, 3, 3)})
    """

    image: tuple[int, int, int] = (1, 1, 1)
    filters: int = 1
    kernel: int = 1
    pool: int = 1

    order: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.image, (tuple, list)) or len(self.image) != 3:
            raise ValueError(f"expected an image (channels, height, width), got {self.image!r}")
        image = tuple(integer(n, "each axis of the image") for n in self.image)
        kernel = integer(self.kernel, "kernel")
        if kernel > min(image[1:]):
            raise ValueError(f"expected a kernel of at most {min(image[1:])} for the image {image}, got {kernel}")
        pool = integer(self.pool, "pool")
        check_options(self, image=image, filters=integer(self.filters, "filters"), kernel=kernel, pool=pool)
        if any(n % pool for n in self.maps[1:]):
            raise ValueError(f"expected a pool that divides both sides of the maps {self.maps[1:]}, got {pool}")

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

    @property
    def pooled(self) -> tuple[int, int, int]:
        """Shape of the maps of blocks: (K, (height - k + 1) / c, (width - k + 1) / c)."""
        return (self.filters, self.maps[1] // self.pool, self.maps[2] // self.pool)

    def to_maps(self, engine: Engine, x: Array) -> Array:
        """Components of layer b as maps: (..., width) to (..., K, height - k + 1, width - k + 1)."""
        xp, lead = engine.xp, x.shape[:-1]
        if self.pool > 1:  # (rows of blocks, columns of blocks, rows, columns) to (rows, columns)
            x = xp.moveaxis(xp.reshape(x, (*lead, *self.pooled, self.pool, self.pool)), -2, -3)
        return xp.reshape(x, (*lead, *self.maps))

    def from_maps(self, engine: Engine, maps: Array) -> Array:
        """Inverse of `to_maps`."""
        xp, lead, (k, rows, columns), c = engine.xp, maps.shape[:-3], self.pooled, self.pool
        if c > 1:
            maps = xp.moveaxis(xp.reshape(maps, (*lead, k, rows, c, columns, c)), -3, -2)
        return xp.reshape(maps, (*lead, -1))

    def natural(self, engine: Engine, arrays: Params, s: Mapping[str, Array], to: str) -> Array:
        """W * s_a to b, the adjoint of s_b to a."""
        (a, b), reshape = self.layers, engine.xp.reshape
        if to == b:
            maps = engine.special.conv(reshape(s[a], (-1, *self.image)), arrays["weight"])
            return reshape(self.from_maps(engine, maps), (*s[a].shape[:-1], -1))
        maps = reshape(self.to_maps(engine, s[b]), (-1, *self.maps))
        return reshape(engine.special.conv_transpose(maps, arrays["weight"]), (*s[b].shape[:-1], -1))
