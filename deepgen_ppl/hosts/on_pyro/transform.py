"""A bijection of ours as torch's own transform."""

from __future__ import annotations

from typing import Any

import torch
from torch.distributions import constraints
from torch.distributions.transforms import Transform

__all__ = ["HostTransform"]


class HostTransform(Transform):
    """A `Bijection` as a transform of vectors; the last value is kept, so that a draw is scored without an inverse."""

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    def __init__(self, bijection: Any) -> None:
        super().__init__(cache_size=1)
        self.bijection = bijection
        self._log_det: tuple[torch.Tensor, torch.Tensor] | None = None

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        y, log_det = self.bijection.forward(x)
        self._log_det = x, log_det
        return y

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        x, log_det = self.bijection.inverse(y)
        self._log_det = x, -log_det
        return x

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """log |det df/dx|, shape (...)."""
        if self._log_det is not None and self._log_det[0] is x:
            return self._log_det[1]
        return self.bijection.forward(x)[1]
