"""Optimizers that both engines have, by one signature; each engine makes its own of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from deepgen_ppl.options import check_options, instance, real

__all__ = ["SGD", "Adam", "Optimizer"]

Rate: TypeAlias = float | Callable[[Any], Any]
"""A learning rate, or one as a function of the number of steps taken."""


@dataclass(frozen=True)
class Optimizer:
    """An optimizer of either engine, compared by value.

    Args:
        learning_rate: a number, or a function of the number of steps taken.
        weight_decay: factor of the parameters that is added to their gradients (an L2 penalty).
    """

    learning_rate: Rate
    weight_decay: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        rate = self.learning_rate
        check_options(
            self,
            learning_rate=rate if callable(rate) else real(rate, "learning_rate", low=0),
            weight_decay=real(self.weight_decay, "weight_decay", low=0),
        )


@dataclass(frozen=True)
class SGD(Optimizer):
    """Gradient steps: m <- momentum m + g, parameters <- parameters - learning_rate m.

    Args:
        learning_rate: a number, or a function of the number of steps taken.
        weight_decay: factor of the parameters that is added to their gradients g.
        momentum: factor of the last step's m.
        nesterov: whether g + momentum m is followed in place of m.

    Raises:
        ValueError: for options out of range, or `nesterov` without momentum.
        TypeError: for a `nesterov` that is not True or False.

    Reference:
        On the Importance of Initialization and Momentum in Deep Learning (Sutskever et al., 2013), section 2,
        https://proceedings.mlr.press/v28/sutskever13.html.
    """

    momentum: float = field(default=0.0, kw_only=True)
    nesterov: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        instance(self.nesterov, "nesterov", bool, "True or False")
        check_options(self, momentum=real(self.momentum, "momentum", low=0, high=1))
        if self.nesterov and not self.momentum:
            raise ValueError("expected a positive momentum with nesterov=True, got 0")


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam: steps along the first moment of the gradients over the root of the second.

    Args:
        learning_rate: a number, or a function of the number of steps taken.
        weight_decay: factor of the parameters that is added to their gradients.
        b1: rate at which the first moment is forgotten.
        b2: rate at which the second moment is forgotten.
        eps: added to the root of the second moment.

    Raises:
        ValueError: for options out of range.

    Reference:
        Adam: A Method for Stochastic Optimization (Kingma & Ba, 2015), algorithm 1,
        https://arxiv.org/abs/1412.6980.
    """

    b1: float = field(default=0.9, kw_only=True)
    b2: float = field(default=0.999, kw_only=True)
    eps: float = field(default=1e-8, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(
            self,
            b1=real(self.b1, "b1", low=0, high=1),
            b2=real(self.b2, "b2", low=0, high=1),
            eps=real(self.eps, "eps", low=0),
        )
