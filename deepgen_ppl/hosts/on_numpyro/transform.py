"""A bijection of ours as NumPyro's own transform."""

from __future__ import annotations

from typing import Any

import jax
from numpyro.distributions import constraints, transforms

__all__ = ["HostTransform"]


class HostTransform(transforms.Transform):
    """A `Bijection` as a transform of vectors."""

    domain = constraints.real_vector
    codomain = constraints.real_vector

    def __init__(self, bijection: Any) -> None:
        self.bijection = bijection

    def __call__(self, x: jax.Array) -> jax.Array:
        """f(x)."""
        return self.bijection.forward(x)[0]

    def call_with_intermediates(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """f(x) and its log-determinant, so that a draw is scored without an inverse."""
        return self.bijection.forward(x)

    def _inverse(self, y: jax.Array) -> jax.Array:
        return self.bijection.inverse(y)[0]

    def log_abs_det_jacobian(self, x: jax.Array, y: jax.Array, intermediates: Any = None) -> jax.Array:
        """log |det df/dx|, shape (...)."""
        return self.bijection.forward(x)[1] if intermediates is None else intermediates

    def tree_flatten(self) -> tuple:
        """The bijection is a tree of arrays."""
        return (self.bijection,), (("bijection",), {})
