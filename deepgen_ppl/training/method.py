"""What `fit` asks of a method, and what it returns."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from deepgen_ppl.typing import Rng

__all__ = ["Fit", "Method"]

M = TypeVar("M")


@dataclass
class Fit(Generic[M]):
    """What `fit` returns.

    Attributes:
        model: the trained model (the best one where validation stopped the training).
        history: name -> one value an epoch: `epoch`, `seconds`, `loss` (nats per datum, the mean over the rows of the
            epoch) or what the objective has in its place; `validation` and `validation_epoch` have one an evaluation.
        state: the trainer's last good state: `.objective` holds persistent chains, for instance.
        stopped: why training ended before the last epoch, or None.
    """

    model: M
    history: dict[str, list[float]]
    state: Any
    stopped: str | None = None

    def __repr__(self) -> str:
        last = {k: v[-1] for k, v in self.history.items() if v}
        ended = f", stopped: {self.stopped}" if self.stopped else ""
        return f"Fit({self.model!r}, last {last}{ended})"


class Method(ABC):
    """How `fit` gets an answer. Subclasses are frozen dataclasses of options.

    The keyword arguments of `run` are the arguments of `fit` that a method takes; `fit` refuses the others by name.
    """

    @abstractmethod
    def run(self, model: Any, data: Any, *, rng: Rng | int) -> Fit:
        """Train a model; it is not changed.

        Args:
            model: the model.
            data: what `fit` was given.
            rng: seed or generator.
        """

    def check_arguments(self, given: dict[str, Any]) -> None:
        """Check that the method takes these arguments of `fit`.

        Raises:
            TypeError: naming those that it does not take.
        """
        taken = sorted(inspect.signature(self.run).parameters.keys() - {"model", "data"})
        if refused := sorted(given.keys() - set(taken)):
            raise TypeError(f"expected arguments of fit among {taken} for {type(self).__name__}, got {refused}")
