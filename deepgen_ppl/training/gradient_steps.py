"""Gradient steps, the default method of `fit`.

Minibatches run in the engine's own loop (a compiled scan on JAX, `torch.optim` on torch); this file keeps the order of
rows, the history, validation, callbacks and checkpoints, the same on both engines.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepgen_ppl.data import WEIGHT, Batch, take
from deepgen_ppl.model import Model
from deepgen_ppl.objectives.contrastive import StochasticML
from deepgen_ppl.objectives.contrastive_divergence import ContrastiveDivergence
from deepgen_ppl.objectives.elbo import ELBO
from deepgen_ppl.objectives.objective import Objective
from deepgen_ppl.objectives.rloo import RLOO
from deepgen_ppl.options import instance, integer
from deepgen_ppl.progress import progress_bar
from deepgen_ppl.training.batches import batches_of
from deepgen_ppl.training.checkpoints import Checkpoint
from deepgen_ppl.training.fingerprints import describe, describe_model
from deepgen_ppl.training.method import Fit, Method
from deepgen_ppl.training.run import Run
from deepgen_ppl.training.validation import Validation, check_validation
from deepgen_ppl.typing import Rng

__all__ = ["Callback", "GradientSteps"]

PLATE = "data"

Callback = Callable[[int, Any, dict[str, list[float]]], "bool | None"]


@dataclass(frozen=True)
class GradientSteps(Method):
    """Minibatch gradient steps on an objective; the arguments are those of `fit`."""

    def run(
        self,
        model: Any,
        data: Any,
        *,
        rng: Rng | int,
        objective: Objective | None = None,
        optimizer: Any = None,
        epochs: int = 10,
        batch_size: int = 100,
        validation: Validation | Any = None,
        callbacks: Sequence[Callback] = (),
        checkpoint: str | Path | None = None,
        resume: bool = False,
        progress: bool | None = None,
    ) -> Fit:
        """Train a model; see `fit`."""
        epochs, batch_size = integer(epochs, "epochs"), integer(batch_size, "batch_size")
        _check_model(model)
        callbacks = _check_callbacks(callbacks)
        if resume and checkpoint is None:
            raise ValueError("expected checkpoint=... with resume=True, got None")
        file = None if checkpoint is None else Checkpoint(checkpoint, resume=resume)
        engine = model.engine
        first, second = engine.random.split(engine.random.rng(rng, model.like), 2)
        seed = int(engine.arrays.to_numpy(engine.random.uniform(first, (), model.like)) * 2**24)
        source = batches_of(model, data, batch_size, seed, digests=file is not None)
        objective, optimizer = _defaults(model, objective, optimizer, source.example())
        watch = check_validation(model, objective, validation)
        trainer = engine.host.trainer(objective, optimizer, source.num_data)
        run = Run(trainer, source, watch, trainer.init(model, second, source.example()), objective.monitor)
        if file is not None:
            file.belongs_to(
                objective=describe(objective),
                optimizer=describe(optimizer),
                optimizer_options=trainer.options(run.state),
                batch_size=source.batch_size,
                seed=seed,
                data=source.digests(),
                model=describe_model(model),
                validation=_describe_validation(watch, validation),
                first_loss=trainer.first_loss(model, engine.random.rng(seed, model.like), source.example()),
            )
            if file.exists:
                _resume(run, file, epochs)
        show = sys.stderr.isatty() if progress is None else progress
        with progress_bar(range(run.epoch, epochs), type(model).__name__, show=show) as bar:
            try:
                run.train(bar, callbacks, file)
            except BaseException as error:
                with contextlib.suppress(AttributeError):
                    error.fit = run.result()  # type: ignore[attr-defined]
                    error.add_note(f"the training of {run.epoch} epochs is in the attribute `fit` of this exception")
                raise
        return run.result()


def _check_model(model: Any) -> None:
    """Check that there is something to train.

    Raises:
        TypeError: for something else than a model.
        ValueError: for a model without parameters.
    """
    if not isinstance(model, Model):
        raise TypeError(f"expected a machine or a program to train, got {type(model).__name__}")
    if not model.params:
        raise ValueError(
            f"expected a model with parameters to train, got {model!r}, which has none: a model of your own names them "
            "in self.build(networks=..., arrays=...)"
        )


def _defaults(model: Any, objective: Any, optimizer: Any, batch: Batch) -> tuple[Any, Any]:
    """Objective and optimizer: the first default that trains the model, and what the objective says."""
    if objective is None:
        defaults = (ELBO(), StochasticML(), ContrastiveDivergence())
        objective = next((o for o in defaults if o.trains(model)), ELBO())
        if isinstance(objective, ELBO) and objective.trains(model) and _draws_without_path(model, batch):
            objective = RLOO()
    instance(objective, "the objective", Objective, "an objective, such as ELBO() or StochasticML()").check(model)
    name, rate = objective.default_optimizer
    return objective, model.engine.host.optimizers[name](rate) if optimizer is None else optimizer


def _draws_without_path(model: Any, batch: Batch) -> bool:
    """Whether the guide draws something for each datum through which no gradient flows, so that it needs a score."""
    engine = model.engine
    rows = {name: x for name, x in take(batch, slice(0, 2)).items() if name != WEIGHT}
    with engine.host.bound():
        sites = engine.host.run(model.guide, rows, rng=engine.random.rng(0, model.like))
    return any(not site.observed and not site.pathwise and site.inside(PLATE) for site in sites.values())


def _check_callbacks(callbacks: Any) -> tuple[Callback, ...]:
    """Callbacks as a tuple.

    Raises:
        TypeError: for one function in place of a list of them, or something that cannot be called.
    """
    if not isinstance(callbacks, Sequence) or not all(callable(c) for c in callbacks):
        raise TypeError(f"expected callbacks as a list of functions of (epoch, model, history), got {callbacks!r}")
    return tuple(callbacks)


def _resume(run: Run, file: Checkpoint, epochs: int) -> None:
    """Go on from the checkpoint.

    Raises:
        ValueError: if it belongs to another run, or is not whole.
    """
    try:
        run.restore(*file.load(epochs=epochs))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"expected a whole checkpoint at {file.path}, got one that does not read: {error!r}"
        ) from error


def _describe_validation(watch: Validation | None, given: Any) -> Any:
    if watch is None:
        return None
    metric = given.metric if isinstance(given, Validation) else None
    return {"data": describe(watch.data), "metric": describe(metric), "patience": watch.patience, "every": watch.every}
