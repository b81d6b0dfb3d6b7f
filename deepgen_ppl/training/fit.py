"""`fit`: the short way to train any model of the library.

Minibatches run in the engine's own loop (a compiled scan on JAX, `torch.optim` on torch); this file keeps the order of
rows, the history, validation, callbacks and checkpoints, the same on both engines.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from deepgen_ppl.array_files import read_arrays, write_arrays
from deepgen_ppl.directed.program import Program
from deepgen_ppl.energies.machine import BoltzmannMachine
from deepgen_ppl.objectives.contrastive import ContrastiveObjective, StochasticML
from deepgen_ppl.objectives.elbo import ELBO
from deepgen_ppl.objectives.objective import Objective, ProgramObjective
from deepgen_ppl.progress import progress_bar
from deepgen_ppl.training.batches import batches_of
from deepgen_ppl.training.validation import Validation, check_validation
from deepgen_ppl.typing import Rng

__all__ = ["Fit", "fit"]

Callback = Callable[[int, Any, dict[str, list[float]]], "bool | None"]


M = TypeVar("M")


@dataclass
class Fit(Generic[M]):
    """What `fit` returns.

    Attributes:
        model: the trained model (the best one where validation stopped the training).
        history: name -> one value an epoch: `epoch`, `seconds`, `loss` (nats per datum) or what the objective has in
            its place; `validation` and `validation_epoch` have one an evaluation.
        state: the trainer's last state: `.objective` holds persistent chains, for instance.
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


def fit(
    model: M,
    data: Any,
    *,
    objective: Objective | None = None,
    optimizer: Any = None,
    epochs: int = 10,
    batch_size: int = 100,
    rng: Rng | int = 0,
    validation: Validation | Any = None,
    callbacks: Sequence[Callback] = (),
    checkpoint: str | Path | None = None,
    resume: bool = False,
    progress: bool | None = None,
) -> Fit[M]:
    """Train a model; it is not changed, the trained one is returned.

    Args:
        model: a machine or a program.
        data: array (N, V), or an iterable of batches that can be iterated once an epoch.
        objective: what to minimize; `StochasticML()` for machines and `ELBO()` for programs by default.
        optimizer: an optax transformation on NumPyro; on Pyro a constructor `tensors -> torch.optim.Optimizer`. By
            default `sgd(0.05)` for machines and `adam(1e-3)` for programs.
        epochs: total number of passes over the data, those before a resume included.
        batch_size: rows a step; a last batch of another size is not dropped.
        rng: seed or generator; it fixes the order of rows too.
        validation: a `Validation`, or data for one with its defaults.
        callbacks: called after each epoch with (epoch, model, history); one that returns True stops the training.
        checkpoint: file to write after each epoch.
        resume: whether to go on from `checkpoint` where it exists.
        progress: whether to show a progress bar; by default where standard error is a terminal.

    Raises:
        ValueError: for data that do not fit the model, or a checkpoint of another run.
        TypeError: for something else than a model, or an optimizer of the other engine.

    Warns:
        RuntimeWarning: when a loss is not finite; training stops and the last good model is returned.
    """
    if not isinstance(model, (BoltzmannMachine, Program)):
        raise TypeError(f"expected a machine or a program to train, got {type(model).__name__}")
    engine = model.engine
    for name, number in (("epochs", epochs), ("batch_size", batch_size)):
        if not isinstance(number, (int, np.integer)) or number < 1:
            raise ValueError(f"expected a positive integer for {name}, got {number!r}")
    if resume and checkpoint is None:
        raise ValueError("expected checkpoint=... with resume=True, got None")
    machine = isinstance(model, BoltzmannMachine)
    objective = objective or (StochasticML() if machine else ELBO())
    _check_objective(model, objective)
    if optimizer is None:
        optimizer = engine.host.optimizers["sgd"](0.05) if machine else engine.host.optimizers["adam"](1e-3)
    watch = check_validation(model, objective, validation)
    rng = engine.random.rng(rng, model.like)
    first, second = engine.random.split(rng, 2)
    seed = int(engine.arrays.to_numpy(engine.random.uniform(first, (), model.like)) * 2**24)
    source = batches_of(model, data, batch_size, seed)
    trainer = engine.host.trainer(objective, optimizer, source.num_data)
    run = _Run(trainer, source, watch, trainer.init(model, second, source.example()), objective.monitor)
    run.settings = {"objective": repr(objective), "batch_size": batch_size, "rows": source.num_data, "seed": seed}
    run.settings["params"] = {k: list(v.shape) for k, v in model.params.items()}
    if resume and checkpoint is not None and Path(checkpoint).is_file():
        run.restore(checkpoint)
    show = sys.stderr.isatty() if progress is None else progress
    bar = progress_bar(range(run.epoch, epochs), type(model).__name__, show=show)
    for _ in bar:
        if not run.stopped:
            run.one_epoch(bar)
            run.judge(callbacks)
            if checkpoint is not None and run.good:
                run.save(checkpoint)
    return run.result()


class _Run:
    """One training run: the trainer's state and all that is kept from epoch to epoch."""

    def __init__(self, trainer: Any, source: Any, watch: Validation | None, state: Any, monitor: str) -> None:
        self.trainer, self.source, self.watch, self.state, self.monitor = trainer, source, watch, state, monitor
        self.epoch, self.good = 0, True
        self.stopped: str | None = None
        self.history: dict[str, list[float]] = {"epoch": [], "seconds": [], monitor: []}
        self.metric: Any = None if watch is None else watch.metric
        self.model = trainer.model(state)
        self.best: Any = None
        self.best_value, self.waited = -np.inf, 0
        self.settings: dict[str, Any] = {}

    def one_epoch(self, bar: Any) -> None:
        """Steps over all data; on a loss that is not finite the last good model stays."""
        began, losses = time.perf_counter(), []
        state = self.state
        for piece in self.source.epoch(self.epoch):
            state, values = piece(self.trainer, state)
            losses.append(values)
            if not np.isfinite(values).all():
                self.stop(f"{self.monitor} not finite in epoch {self.epoch + 1}; the model is that before it")
                return
        model = self.trainer.model(state)
        if not all(np.isfinite(model.engine.arrays.to_numpy(v)).all() for v in model.params.values()):
            self.stop(f"parameters not finite after epoch {self.epoch + 1}; the model is that before it")
            return
        self.state, self.model = state, model
        if isinstance(self.model, BoltzmannMachine):
            self.model.check_normalizable()
        self.epoch += 1
        self.history["epoch"].append(self.epoch)
        self.history["seconds"].append(time.perf_counter() - began)
        self.history[self.monitor].append(float(np.concatenate(losses).mean()))
        bar.set_postfix({self.monitor: self.history[self.monitor][-1]})

    def stop(self, why: str) -> None:
        """Keep the last good model."""
        self.good, self.stopped = False, why
        warnings.warn(f"training stopped: {why}", RuntimeWarning, stacklevel=4)

    def judge(self, callbacks: Sequence[Callback]) -> None:
        """Validation and callbacks."""
        if not self.good:
            return
        if self.watch is not None and self.epoch % self.watch.every == 0:
            value = float(self.metric(self.model, self.watch.data))
            self.history.setdefault("validation_epoch", []).append(self.epoch)
            self.history.setdefault("validation", []).append(value)
            if value > self.best_value:
                self.best, self.best_value, self.waited = self.model, value, 0
            else:
                self.waited += 1
            self.check_patience()
        for callback in callbacks:
            if callback(self.epoch, self.model, self.history):
                self.stopped = f"a callback asked for it in epoch {self.epoch}"

    def check_patience(self) -> None:
        """Stop where validation has waited long enough."""
        if self.watch is not None and self.watch.patience is not None and self.waited >= self.watch.patience:
            self.stopped = f"no better validation value in {self.waited} evaluations"

    def result(self) -> Fit:
        """The outcome."""
        early = self.watch is not None and self.watch.patience is not None and self.best is not None
        return Fit(self.best if early else self.model, self.history, self.state, self.stopped)

    def save(self, path: str | Path) -> None:
        """Write the checkpoint."""
        arrays = dict(self.trainer.export(self.state))
        if self.best is not None:
            to_numpy = self.model.engine.arrays.to_numpy
            arrays |= {f"best.params.{k}": to_numpy(v) for k, v in self.best.params.items()}
            arrays |= {f"best.constants.{k}": to_numpy(v) for k, v in self.best.constants.items()}
        meta = {
            "format": 1,
            "kind": "checkpoint",
            "settings": self.settings,
            "epoch": self.epoch,
            "history": self.history,
            "best_value": None if self.best is None else self.best_value,
            "waited": self.waited,
        }
        write_arrays(path, arrays, meta)

    def restore(self, path: str | Path) -> None:
        """Go on from a checkpoint.

        Raises:
            ValueError: if it belongs to a run with other settings.
        """
        arrays, meta = read_arrays(path)
        if meta["kind"] != "checkpoint" or meta["settings"] != self.settings:
            raise ValueError(
                f"expected a checkpoint of a run with {json.dumps(self.settings)} at {path}, "
                f"got {json.dumps(meta.get('settings', meta['kind']))}"
            )
        self.state = self.trainer.restore(self.state, arrays)
        self.model = self.trainer.model(self.state)
        self.epoch, self.history, self.waited = meta["epoch"], meta["history"], meta["waited"]
        if meta["best_value"] is not None:
            asarray, like = self.model.engine.arrays.asarray, self.model.like
            params, constants = (
                {k[len(p) :]: asarray(v, like=like) for k, v in arrays.items() if k.startswith(p)}
                for p in ("best.params.", "best.constants.")
            )
            self.best, self.best_value = self.model.with_params(params).with_constants(constants), meta["best_value"]
        self.check_patience()


def _check_objective(model: Any, objective: Any) -> None:
    """A machine takes a contrastive objective and a program one of model-guide pairs."""
    wanted = ContrastiveObjective if isinstance(model, BoltzmannMachine) else ProgramObjective
    other = ProgramObjective if wanted is ContrastiveObjective else ContrastiveObjective
    if isinstance(objective, other) or not isinstance(objective, Objective):
        example = "StochasticML()" if wanted is ContrastiveObjective else "ELBO() or IWAE()"
        raise TypeError(f"expected an objective for {type(model).__name__}, such as {example}, got {objective!r}")
