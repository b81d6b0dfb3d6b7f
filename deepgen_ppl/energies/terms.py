"""Terms: what the energy of a Boltzmann machine is a sum of.

    E(x) = - sum_t form_t(s) - sum_l log m_l(x_l),    form_t multilinear in the statistics s_l of one to three layers

A term names its arrays and sends each of its layers the derivative of its form with respect to that layer's statistic.
Terms of one or two layers read statistics less their offsets, s - mu, since offsets fold into biases and a constant;
terms of three layers read the statistics themselves.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from deepgen_ppl.engine import Engine
from deepgen_ppl.options import check_options, integer
from deepgen_ppl.registry import Registered
from deepgen_ppl.typing import Array, Params

__all__ = ["Bias", "Dense", "NoBias", "Pair", "SharedBias", "Term", "ThirdOrder"]

Pair = tuple[str, str]


@dataclass(frozen=True)
class Term(Registered, ABC):
    """A term of the energy; a subclass implements `shapes` and `natural`.

    Args:
        layers: names of the layers, all different.

    Attributes:
        order: the number of layers, where a class has only one.
        batched: whether its arrays may have leading axes, one machine a row.

    Raises:
        ValueError: for anything else than names of as many different layers as it joins.
    """

    layers: tuple[str, ...]

    order: ClassVar[int | None] = None
    batched: ClassVar[bool] = False

    def __post_init__(self) -> None:
        kind, got = type(self).__name__, self.layers
        if not isinstance(got, (tuple, list)) or not all(isinstance(name, str) for name in got):
            raise ValueError(f"expected a tuple of layer names in {kind}, such as ('v', 'h'), got {got!r}")
        count = len(got) if self.order is None else self.order
        if len(got) != count or len(set(got)) < count or not 1 <= count <= 3:
            words = {1: "one layer", 2: "two different layers", 3: "three different layers"}
            raise ValueError(f"expected {words.get(count, 'one to three layers')} in {kind}, got {tuple(got)}")
        check_options(self, layers=tuple(got))

    @cached_property
    def name(self) -> str:
        """Prefix of the term's arrays: the layer names joined by a dash."""
        return "-".join(self.layers)

    @property
    def centered(self) -> bool:
        """Whether it reads s - mu: terms of one or two layers."""
        return len(self.layers) < 3

    @abstractmethod
    def shapes(self, widths: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        """Shapes of its arrays by name (`weight`), for layers of these widths.

        Raises:
            ValueError: for widths that it cannot have.
        """

    @abstractmethod
    def natural(self, engine: Engine, arrays: Params, s: Mapping[str, Array], to: str) -> Array:
        """What the other layers send to layer `to`: the derivative of `form` with respect to s[to], (..., width)."""

    def form(self, engine: Engine, arrays: Params, s: Mapping[str, Array]) -> Array:
        """The term itself, shape (...) in nats: <natural to its last layer, s of its last layer>."""
        last = self.layers[-1]
        return engine.xp.sum(self.natural(engine, arrays, s, last) * s[last], axis=-1)

    def matrix(
        self, engine: Engine, arrays: Params, pair: tuple[str, str], width: int, s: Mapping[str, Array]
    ) -> Array:
        """The matrix of the form between two of its layers, shape (..., width a, width b), by unit vectors in b.

        Args:
            engine: the engine.
            arrays: the term's own.
            pair: layers (a, b).
            width: width of b.
            s: statistic of the third layer, (..., width), if there is one.
        """
        (a, b), rank = pair, max([1, *(x.ndim - 1 for x in s.values())])
        like = next(iter(arrays.values()))
        eye = engine.arrays.asarray(np.eye(width).reshape(width, *(1,) * rank, width), like=like)
        return engine.xp.moveaxis(self.natural(engine, arrays, {**s, b: eye}, a), 0, -1)


@dataclass(frozen=True)
class Bias(Term):
    """<b, s> with b of shape (width,): every layer has one by default.

    Args:
        layers: the layer, as in ("h",).

    Raises:
        ValueError: for anything else than names of as many different layers as it joins.

    Example:
        >>> import deepgen_ppl.numpyro as dg
        >>> dg.Bias(("h",)).shapes({"h": 3})
        {'bias': (3,)}
    """

    order: ClassVar[int] = 1
    batched: ClassVar[bool] = True

    def shapes(self, widths: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        """(width,)."""
        return {"bias": (widths[self.layers[0]],)}

    def natural(self, engine: Engine, arrays: Params, s: Mapping[str, Array], to: str) -> Array:
        """b."""
        return arrays["bias"]

    def form(self, engine: Engine, arrays: Params, s: Mapping[str, Array]) -> Array:
        """<b, s>, one product for all rows where there is one b."""
        b, x = arrays["bias"], s[self.layers[0]]
        return x @ b if b.ndim == 1 else engine.xp.sum(x * b, axis=-1)


@dataclass(frozen=True)
class SharedBias(Term):
    """sum_k b_k sum_(i in group k) s_i: one bias for each group of `repeats` consecutive components.

    It takes the place of a layer's own bias: one bias a channel of an image, or one for a whole layer.

    Args:
        layers: the layer, as in ("h",).
        repeats: number of components in a group.

    Raises:
        ValueError: for anything else than one layer, or repeats that are no positive integer.

    Example:
        >>> import deepgen_ppl.numpyro as dg
        >>> dg.SharedBias(("v",), repeats=4).shapes({"v": 12})
        {'bias': (3,)}
    """

    repeats: int = 1

    order: ClassVar[int] = 1
    batched: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self, repeats=integer(self.repeats, "repeats"))

    def shapes(self, widths: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        """(width / repeats,)."""
        width = widths[self.layers[0]]
        if width % self.repeats:
            raise ValueError(
                f"expected repeats that divide the width {width} of {self.layers[0]!r}, got {self.repeats}"
            )
        return {"bias": (width // self.repeats,)}

    def natural(self, engine: Engine, arrays: Params, s: Mapping[str, Array], to: str) -> Array:
        """Every b_k, `repeats` times."""
        b = arrays["bias"]
        spread = engine.xp.broadcast_to(b[..., None], (*b.shape, self.repeats))
        return engine.xp.reshape(spread, (*b.shape[:-1], -1))


@dataclass(frozen=True)
class NoBias(Term):
    """0: takes the place of a layer's own bias, and has no arrays.

    Args:
        layers: the layer, as in ("h",).

    Raises:
        ValueError: for anything else than names of as many different layers as it joins.

    Example:
        >>> import deepgen_ppl.numpyro as dg
        >>> dg.NoBias(("h",)).shapes({"h": 3})
        {}
    """

    order: ClassVar[int] = 1

    def shapes(self, widths: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        """None."""
        return {}

    def natural(self, engine: Engine, arrays: Params, s: Mapping[str, Array], to: str) -> Array:
        """0."""
        return engine.arrays.asarray(np.zeros(1, np.float32))


def product(x: Array, w: Array) -> Array:
    """x W for W of shape (n, m), or row by row for a batch of them (..., n, m)."""
    return x @ w if w.ndim == 2 else (x[..., None, :] @ w)[..., 0, :]


@dataclass(frozen=True)
class Dense(Term):
    """<s_a, W s_b> with a full weight matrix W of shape (width a, width b).

    Args:
        layers: names of the two layers, as in ("v", "h").

    Raises:
        ValueError: for anything else than names of as many different layers as it joins.

    Example:
        >>> import numpy as np
        >>> import deepgen_ppl.numpyro as dg
        >>> term, W = dg.Dense(("v", "h")), np.float32([[1, 2, 3], [4, 5, 6]])
        >>> v, h = np.float32([1, 1]), np.float32([0, 1, 0])
        >>> float(term.form(dg.engine, {"weight": W}, {"v": v, "h": h})), float(v @ W @ h)
        (7.0, 7.0)
    """

    order: ClassVar[int] = 2
    batched: ClassVar[bool] = True

    def shapes(self, widths: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        """(width a, width b)."""
        a, b = self.layers
        return {"weight": (widths[a], widths[b])}

    def natural(self, engine: Engine, arrays: Params, s: Mapping[str, Array], to: str) -> Array:
        """W s_b to a, W' s_a to b."""
        (a, b), w = self.layers, arrays["weight"]
        return product(s[b], w.mT) if to == a else product(s[a], w)


@dataclass(frozen=True)
class ThirdOrder(Term):
    """sum_ijk W_ijk s_a,i s_b,j s_c,k with a full W of shape (width a, width b, width c).

    Args:
        layers: names of the three layers, as in ("v", "x", "h").

    Raises:
        ValueError: for anything else than names of as many different layers as it joins.

    Example:
        >>> import deepgen_ppl.numpyro as dg
        >>> dg.ThirdOrder(("v", "x", "h")).shapes({"v": 4, "x": 3, "h": 2})
        {'weight': (4, 3, 2)}

    Reference:
        [Higher-Order Boltzmann Machines](https://doi.org/10.1063/1.36246) (Sejnowski, 1986), eq. 4.
    """

    order: ClassVar[int] = 3

    def shapes(self, widths: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        """(width a, width b, width c)."""
        return {"weight": tuple(widths[n] for n in self.layers)}

    def natural(self, engine: Engine, arrays: Params, s: Mapping[str, Array], to: str) -> Array:
        """W with the other two layers put in: their outer product, flat, times W with the axis of `to` last."""
        xp = engine.xp
        w = xp.moveaxis(arrays["weight"], self.layers.index(to), -1)
        p, q = (s[n] for n in self.layers if n != to)
        outer = p[..., :, None] * q[..., None, :]
        return xp.reshape(outer, (*outer.shape[:-2], -1)) @ xp.reshape(w, (-1, w.shape[-1]))

    def matrix(
        self, engine: Engine, arrays: Params, pair: tuple[str, str], width: int, s: Mapping[str, Array]
    ) -> Array:
        """W with the third layer put in, by one product."""
        xp, ((third, x),) = engine.xp, s.items()
        w = xp.moveaxis(arrays["weight"], [self.layers.index(n) for n in (third, *pair)], [0, 1, 2])
        flat = x @ xp.reshape(w, (w.shape[0], -1))
        return xp.reshape(flat, (*flat.shape[:-1], *w.shape[1:]))
