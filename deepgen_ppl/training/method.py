"""What `fit` asks of a method, and what it returns."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from deepgen_ppl.data import Batch
from deepgen_ppl.options import integer
from deepgen_ppl.training.posterior import Posterior, guide_draws
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
        rows: a first batch of the data, on which a guide is run for `posterior`.
        draws: what a sampler drew, or None.
    """

    model: M
    history: dict[str, list[float]]
    state: Any
    stopped: str | None = None
    rows: Batch | None = None
    draws: Posterior | None = None

    def posterior(self, *, rng: Rng | int = 0, num_draws: int | None = None) -> Posterior:
        """The posterior over the global latent sites: what a sampler drew, or draws from the trained guide.

        Args:
            rng: seed or generator, for a guide.
            num_draws: number of draws: 100 from a guide by default, all of a sampler's, which takes no other.

        Raises:
            TypeError: for a model without a guide.
            ValueError: for a guide without global sites, or a number of draws that a sampler did not make.
        """
        if self.draws is not None:
            if num_draws not in (None, self.draws.num_draws):
                raise ValueError(f"expected all {self.draws.num_draws} draws of the sampler, got num_draws={num_draws}")
            return self.draws
        model: Any = self.model
        if not hasattr(model, "guide") or self.rows is None:
            raise TypeError(f"expected a trained program for a posterior, got {type(model).__name__}")
        num_draws = integer(100 if num_draws is None else num_draws, "num_draws")
        key = model.engine.random.rng(rng, model.like)
        return Posterior(model, guide_draws(model, self.rows, key, num_draws), approximate=True)

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
