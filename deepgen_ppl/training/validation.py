"""Validation: what `fit` judges a model by while it is trained."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from deepgen_ppl.data import Batch, checked, named, num_rows
from deepgen_ppl.directed.program import Program
from deepgen_ppl.engine import Engine
from deepgen_ppl.objectives.objective import Objective
from deepgen_ppl.options import check_options, instance, integer
from deepgen_ppl.typing import Array, Rng

__all__ = ["Validation", "check_validation"]


@dataclass(frozen=True)
class Validation:
    """Data to judge a model by while it is trained.

    Args:
        data: what `fit` takes: one array (M, V), or named arrays.
        metric: `(model, data) -> float`, larger is better, in nats per datum by convention. By default minus the
            objective's loss, which only objectives of model-guide pairs have; `bounds_metric()` is one for machines.
        patience: number of evaluations without a better value after which training stops and the best model is
            returned; None never stops.
        every: number of epochs between evaluations.
        keep_best: whether the best model is returned in place of the last; by default where there is a patience.

    Raises:
        ValueError: for options that are no positive integers.
        TypeError: for a metric that is no function.
    """

    data: Any
    metric: Callable[[Any, Any], float] | None = None
    patience: int | None = None
    every: int = 1
    keep_best: bool | None = None

    def __post_init__(self) -> None:
        if self.metric is not None and not callable(self.metric):
            raise TypeError(f"expected a function of (model, data) for metric, got {self.metric!r}")
        if self.keep_best is not None:
            instance(self.keep_best, "keep_best", bool, "True, False or None")
        check_options(
            self,
            patience=None if self.patience is None else integer(self.patience, "patience"),
            every=integer(self.every, "every"),
        )

    @property
    def keeps_best(self) -> bool:
        """Whether the best model is returned."""
        return self.patience is not None if self.keep_best is None else self.keep_best

    def value(self, model: Any, epoch: int) -> float:
        """The metric of a model.

        Raises:
            TypeError: for something else than a number.
            ValueError: for NaN, where patience waits for a better value.
        """
        assert self.metric is not None
        got = self.metric(model, self.data)
        try:
            value = float(got)
        except (TypeError, ValueError):
            raise TypeError(f"expected a number from the validation metric in epoch {epoch}, got {got!r}") from None
        if math.isnan(value) and self.patience is not None:
            raise ValueError(
                f"expected a number from the validation metric in epoch {epoch}, got NaN: "
                f"with patience={self.patience} no value would be better"
            )
        return value


def check_validation(model: Any, objective: Objective, validation: Any) -> Validation | None:
    """A validation with its data checked and its metric filled in, or None where there is none.

    Raises:
        ValueError: for data that do not fit the model, or no metric where the objective has none.
    """
    if validation is None:
        return None
    watch = validation if isinstance(validation, Validation) else Validation(validation)
    batch = checked(model, watch.data, "validation data")
    metric = watch.metric
    if metric is None:
        if not getattr(objective, "has_value", isinstance(model, Program)):
            raise ValueError(
                f"expected Validation(data, metric=...) with {type(objective).__name__}, which has no loss to stop on, "
                "got no metric: the gap of free energies means nothing; "
                "metric=bounds_metric() judges a machine by log p(x)"
            )
        metric = _default_metric(objective, model.engine)
    data = batch if isinstance(watch.data, Mapping) else batch[model.data_name]
    return replace(watch, data=data, metric=metric)


@functools.lru_cache(maxsize=16)
def _default_metric(objective: Objective, engine: Engine) -> Callable[[Any, Any], float]:
    """The objective's bound, in nats per datum, with the same draws at every call; compiled once."""

    def bound(model: Any, rng: Rng, batch: Batch) -> Array:
        return -objective.batch_loss(rng, model, {}, batch, None, num_rows(batch))[0]

    evaluate = engine.control.compile(bound)
    return lambda model, data: float(evaluate(model, engine.random.rng(0, model.like), named(model, data)))
