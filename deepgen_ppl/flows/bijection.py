r"""Bijections y = f(x) of R^D: stateless, made inside a program from what the host has registered.

    log p(y) = log p(x) - log |det df/dx|,      x = f^-1(y)

Shapes: x and y are (..., D), log-determinants (...), in nats. `engine.host.transform(bijection)` is the host's own
transform, so that `TransformedDistribution` of the host is the flow.

Reference: [Density Estimation using Real NVP](https://arxiv.org/abs/1605.08803) (Dinh et al., 2017), eq. 2-3.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from deepgen_ppl.typing import Array

__all__ = ["Affine", "AffineCoupling", "Bijection"]


class Bijection(ABC):
    """A bijection of R^D."""

    @abstractmethod
    def forward(self, x: Array) -> tuple[Array, Array]:
        """(f(x), log |det df/dx|)."""

    @abstractmethod
    def inverse(self, y: Array) -> tuple[Array, Array]:
        """(f^-1(y), log |det df^-1/dy|)."""


class Affine(Bijection):
    """f(x) = loc + exp(log_scale) x, elementwise.

    Args:
        xp: array namespace of the engine.
        loc: shape (D,).
        log_scale: shape (D,).
    """

    def __init__(self, xp: Any, loc: Array, log_scale: Array) -> None:
        self.xp, self.loc, self.log_scale = xp, loc, log_scale

    def forward(self, x: Array) -> tuple[Array, Array]:
        """log |det| = sum_i log_scale_i."""
        return self.loc + self.xp.exp(self.log_scale) * x, self._log_det(x)

    def inverse(self, y: Array) -> tuple[Array, Array]:
        """(y - loc) / scale."""
        return (y - self.loc) * self.xp.exp(-self.log_scale), -self._log_det(y)

    def _log_det(self, x: Array) -> Array:
        return self.xp.sum(self.xp.broadcast_to(self.log_scale, x.shape), axis=-1)


class AffineCoupling(Bijection):
    """f(x) = m x + (1 - m) (x exp(s) + t),  (a, t) = net(m x),  s = 2 tanh(a / 2).

    Reference: Real NVP, eq. 7-9, with s kept inside (-2, 2).

    Args:
        xp: array namespace of the engine.
        net: (..., D) -> (..., 2 D).
        mask: m, zeros and ones, shape (D,).
    """

    def __init__(self, xp: Any, net: Callable[[Array], Array], mask: Array) -> None:
        self.xp, self.net, self.mask = xp, net, mask

    def _scale_and_shift(self, fixed: Array) -> tuple[Array, Array]:
        out, d = self.net(fixed), fixed.shape[-1]
        if out.shape[-1] != 2 * d:
            raise ValueError(f"expected a network with outputs of width {2 * d}, got shape {tuple(out.shape)}")
        free = 1.0 - self.mask
        return free * 2.0 * self.xp.tanh(0.5 * out[..., :d]), free * out[..., d:]

    def forward(self, x: Array) -> tuple[Array, Array]:
        """log |det| = sum s."""
        s, t = self._scale_and_shift(self.mask * x)
        return x * self.xp.exp(s) + t, self.xp.sum(s, axis=-1)

    def inverse(self, y: Array) -> tuple[Array, Array]:
        """m y + (1 - m) (y - t) exp(-s)."""
        s, t = self._scale_and_shift(self.mask * y)
        return (y - t) * self.xp.exp(-s), -self.xp.sum(s, axis=-1)
