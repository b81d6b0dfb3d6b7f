r"""Objectives of model-guide pairs: pure functions of their log-weights.

    L = mean_s [ sum_n scale_n bound(local[s, :, n]) + global_[s] ]
    ELBO: bound(l) = mean_k l_k          IWAE: bound(l) = log mean_k exp(l_k)

Each is a host `ELBO` too, so that the host's own SVI takes it, and what `fit` minimizes (per datum). Draws without a
pathwise gradient are trained by their score: sum_k signal_k grad log q(z_k) is added to the gradient of the bound.

References: Auto-Encoding Variational Bayes (Kingma & Welling, 2014), eq. 3 and 7; Importance Weighted Autoencoders
(Burda et al., 2016), eq. 8.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from deepgen_ppl.data import WEIGHT, Batch, num_rows
from deepgen_ppl.engine import Engine
from deepgen_ppl.objectives.log_weights import LogWeights, log_weights
from deepgen_ppl.options import check_options, flag, integer, text
from deepgen_ppl.typing import Array, Params, Rng

__all__ = ["Objective", "ProgramObjective"]


class Objective(ABC):
    """What `fit` minimizes. Subclasses are frozen dataclasses of options.

    Attributes:
        monitor: name of the loss in the history.
        has_value: whether the loss is a number to judge a model by; of others only the gradient means anything.
        needs: members that a model must have.
        default_optimizer: name and learning rate of the optimizer where none is given.
    """

    monitor: ClassVar[str] = "loss"
    has_value: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ()
    default_optimizer: ClassVar[tuple[str, float]] = ("adam", 1e-3)

    def trains(self, model: Any) -> bool:
        """Whether the model has what the objective needs of it."""
        return all(hasattr(model, name) for name in self.needs)

    def check(self, model: Any) -> None:
        """Check that the model has what the objective needs of it.

        Raises:
            TypeError: for a model that lacks one of the members `needs`.
        """
        if missing := [name for name in self.needs if not hasattr(model, name)]:
            raise TypeError(
                f"expected a model with {' and '.join(self.needs)} for {type(self).__name__}, "
                f"got {type(model).__name__}, which has no {' and no '.join(missing)}"
            )

    @abstractmethod
    def init(self, rng: Rng, model: Any, batch: Batch) -> Any:
        """State that goes from step to step: a tree of arrays (chains, for instance).

        Args:
            rng: generator.
            model: the model.
            batch: the first batch: named arrays of B rows.
        """

    @abstractmethod
    def before_step(self, rng: Rng, model: Any, state: Any, batch: Batch, mask: Array | None) -> tuple[Any, Any]:
        """What happens before the gradient of a step and is not differentiated: (model, state)."""

    @abstractmethod
    def batch_loss(
        self, rng: Rng, model: Any, state: Any, batch: Batch, mask: Array | None, num_data: int
    ) -> tuple[Array, Any]:
        """What a step differentiates with respect to `model.params`, a scalar in nats per datum, and the state."""

    def after_step(self, model: Any, grads: Params, state: Any) -> tuple[Any, Any]:
        """What happens after the step with these gradients: (model, state). Nothing by default."""
        return model, state


@dataclass(frozen=True)
class ProgramObjective(Objective):
    """An objective of a model-guide pair. Subclasses say how K log-weights make a bound.

    Args:
        num_particles: number K of draws of the local sites for each datum.
        num_global: number S of draws of the global sites.
        plate: name of the data plate.
        max_plate_nesting: number of nested plates, the data plate included.
    """

    num_particles: int = 1
    num_global: int = 1
    plate: str = "data"
    max_plate_nesting: int = 1

    needs: ClassVar[tuple[str, ...]] = ("model", "guide")
    pathwise: ClassVar[bool] = True
    analytic_kl: ClassVar[bool] = False
    least_particles: ClassVar[int] = 1

    def __post_init__(self) -> None:
        names = ("num_particles", "num_global", "max_plate_nesting")
        check_options(self, **{name: integer(getattr(self, name), name) for name in names})
        integer(self.num_particles, "num_particles", least=self.least_particles)
        text(self.plate, "plate")
        flag(self.analytic_kl, "analytic_kl")

    @abstractmethod
    def bound(self, engine: Engine, local: Array) -> Array:
        """From log-weights (S, K, N) to bounds (S, N), in nats."""

    def signal(self, engine: Engine, local: Array) -> Array:
        """What multiplies the gradient of each particle's log q where its draw has no pathwise gradient, (S, K, N).

        An objective without one trains pathwise guides alone.
        """
        raise NotImplementedError

    @property
    def scores(self) -> bool:
        """Whether draws without a pathwise gradient can be trained."""
        return type(self).signal is not ProgramObjective.signal

    def penalties(self, model: Any) -> Array | float:
        """What `fit` adds to the loss for the model's arrays, in nats per datum. Nothing by default."""
        return 0.0

    def weights(self, state: Any, batch: Batch) -> Array | None:
        """What `fit` multiplies the bound of each row with, (N,), or None: the row weights among the data."""
        return batch.get(WEIGHT)

    def log_weights(
        self,
        engine: Engine,
        rng: Rng,
        model: Callable,
        guide: Callable,
        args: tuple,
        kwargs: Mapping[str, Any],
        params: Params | None = None,
    ) -> LogWeights:
        """Run guide and model; `params` stand in for the host parameters of these names."""
        return log_weights(engine, self, rng, model, guide, kwargs, params, args)

    def evaluate(self, engine: Engine, w: LogWeights) -> Array:
        """L, a scalar in nats for the whole (scaled) data set."""
        xp, stop = engine.xp, engine.special.stop_gradient
        bounds = self.bound(engine, w.local)
        if w.score is not None:
            score = xp.sum(stop(self.signal(engine, stop(w.local))) * w.score, axis=1)
            bounds = bounds + score - stop(score)
        factor = w.scale if w.mask is None else w.scale * w.mask
        rows = factor * bounds
        if hasattr(factor, "shape"):  # a row that counts nothing may have any bound, also none that is finite
            rows = xp.where(factor != 0.0, rows, 0.0 * factor)
        return xp.mean(xp.sum(rows, axis=-1) + w.global_)

    def estimate(
        self,
        engine: Engine,
        rng: Rng,
        model: Callable,
        guide: Callable,
        args: tuple,
        kwargs: Mapping[str, Any],
        params: Params | None = None,
    ) -> Array:
        """L of a model-guide pair, a scalar in nats for the whole (scaled) data set."""
        return self.evaluate(engine, self.log_weights(engine, rng, model, guide, args, kwargs, params))

    def init(self, rng: Rng, model: Any, batch: Batch) -> dict[str, Array]:
        """Nothing is kept between steps."""
        return {}

    def before_step(self, rng: Rng, model: Any, state: Any, batch: Batch, mask: Array | None) -> tuple[Any, Any]:
        """Nothing happens before the gradient."""
        return model, state

    def batch_loss(
        self, rng: Rng, model: Any, state: Any, batch: Batch, mask: Array | None, num_data: int
    ) -> tuple[Array, Any]:
        """-L / N: the rows of the batch stand for all N data.

        Raises:
            ValueError: for sites outside the plate that are observed, or look at the draws inside it, where the rows do
                not count alike: they cannot be scaled.
        """
        engine = model.engine
        weights = self.weights(state, batch)
        data = {name: x for name, x in batch.items() if name != WEIGHT}
        with engine.host.bound():
            w = self.log_weights(engine, rng, model.model, model.guide, (), data)
        rows = num_rows(data) if mask is None else engine.xp.sum(mask)
        if not (mask is None and weights is None and rows == num_data):
            self._check_batch(w)
        scale = w.scale * (num_data / rows) * (1.0 if weights is None else weights)
        loss = self.evaluate(engine, replace(w, scale=scale, mask=mask)) / -num_data
        return loss + self.penalties(model), state

    def _check_batch(self, w: LogWeights) -> None:
        """Check that what is outside the plate stays what it is where the rows of a batch stand for all data."""
        if w.outside:
            raise ValueError(
                f"expected observed sites inside the plate {self.plate!r}, got {list(w.outside)} outside it: a batch "
                "stands for all data, and what is outside cannot be scaled; put them inside, or train on all rows at "
                "once; terms of the parameters alone belong into `penalties`"
            )
        if w.looking:
            raise ValueError(
                f"expected latent sites outside the plate {self.plate!r} that look at no draw of a datum, got "
                f"{list(w.looking)}: a batch has the draws of its own rows alone; put them inside, or train on all "
                "rows at once"
            )
