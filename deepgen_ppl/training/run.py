"""One training run by gradient steps: the trainer's state, and all that is kept from epoch to epoch."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from deepgen_ppl.data import WEIGHT, take
from deepgen_ppl.training.batches import Source
from deepgen_ppl.training.checkpoints import Checkpoint
from deepgen_ppl.training.method import Fit
from deepgen_ppl.training.validation import Validation

__all__ = ["Run"]


class Diverged(Exception):  # noqa: N818 - no error of the program: training ends
    """A loss, a parameter or a machine that makes no sense any more."""


class Run:
    """One training run.

    Args:
        trainer: the engine's training loop.
        source: the batches.
        watch: the validation.
        state: the trainer's first state.
        monitor: name of the objective's number in the history.
    """

    def __init__(self, trainer: Any, source: Source, watch: Validation | None, state: Any, monitor: str) -> None:
        self.trainer, self.source, self.watch, self.state, self.monitor = trainer, source, watch, state, monitor
        self.epoch = 0
        self.stopped: str | None = None
        self.history: dict[str, list[float]] = {"epoch": [], "seconds": [], monitor: []}
        self.model = trainer.model(state)
        self.best: Any = None
        self.best_value, self.waited = -np.inf, 0

    def train(self, bar: Any, callbacks: tuple[Callable, ...], file: Checkpoint | None) -> None:
        """Epochs until the last one, or until something stops them; each ends with the checkpoint."""
        for _ in bar:
            if self.stopped:
                break
            try:
                self.one_epoch()
            except Diverged as why:
                self.stopped = str(why)
                warnings.warn(f"training stopped: {why}", RuntimeWarning, stacklevel=5)
                break
            bar.set_postfix({self.monitor: self.history[self.monitor][-1]})
            self.judge(callbacks)
            if file is not None:
                file.save(*self.saved())

    def one_epoch(self) -> None:
        """Steps over all data. Whatever ends an epoch before its end, the last good state stays.

        Raises:
            Diverged: where the loss, the parameters or the machine do not make sense any more.
        """
        began, kept = time.perf_counter(), self.trainer.snapshot(self.state)
        try:
            state, loss = self._steps()
            model = self._checked_model(state)
        except BaseException:
            self.state = self.trainer.rollback(self.state, kept)
            raise
        self.state, self.model, self.epoch = state, model, self.epoch + 1
        self.history["epoch"].append(self.epoch)
        self.history["seconds"].append(time.perf_counter() - began)
        self.history[self.monitor].append(loss)

    def _steps(self) -> tuple[Any, float]:
        """State after an epoch, and the mean of the monitored number over its rows."""
        state, total, rows = self.state, 0.0, 0
        for piece, counts in self.source.epoch(self.epoch):
            try:
                state, values = piece(self.trainer, state)
            except ValueError:
                self._checked_model(state)  # a machine that has no normalizer any more says so itself
                raise
            if not np.isfinite(values).all():
                raise Diverged(f"{self.monitor} not finite in epoch {self.epoch + 1}; the model is that before it")
            total, rows = total + float(values @ counts), rows + int(np.sum(counts))
        return state, total / rows

    def _checked_model(self, state: Any) -> Any:
        """The model as it stands, if it makes sense."""
        after = f"after epoch {self.epoch + 1}; the model is that before it"
        to_numpy, arrays = state.model.engine.arrays.to_numpy, {**state.model.params, **state.model.constants}
        if not all(np.isfinite(to_numpy(v)).all() for v in arrays.values()):
            raise Diverged(f"parameters not finite {after}")
        try:
            model = self.trainer.model(state)
            if hasattr(model, "check_normalizable"):
                model.check_normalizable()
        except ValueError as error:
            raise Diverged(f"no normalizer {after} ({error})") from None
        return model

    def judge(self, callbacks: tuple[Callable, ...]) -> None:
        """Validation and callbacks."""
        if self.watch is not None and self.epoch % self.watch.every == 0:
            value = self.watch.value(self.model, self.epoch)
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
        """The outcome so far."""
        best = self.watch is not None and self.watch.keeps_best and self.best is not None
        rows = {name: x for name, x in take(self.source.example(), slice(0, 1)).items() if name != WEIGHT}
        return Fit(self.best if best else self.model, self.history, self.state, self.stopped, rows)

    def saved(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """What a checkpoint keeps: arrays, and a record as JSON."""
        arrays = dict(self.trainer.export(self.state))
        if self.best is not None:
            to_numpy = self.model.engine.arrays.to_numpy
            arrays |= {f"best.params.{k}": to_numpy(v) for k, v in self.best.params.items()}
            arrays |= {f"best.constants.{k}": to_numpy(v) for k, v in self.best.constants.items()}
        best_value = None if self.best is None else self.best_value
        record = {"epoch": self.epoch, "history": self.history, "best_value": best_value, "waited": self.waited}
        return arrays, record | {"same_order": self.source.same_order}

    def restore(self, arrays: Mapping[str, np.ndarray], record: Mapping[str, Any]) -> None:
        """Go on from what `saved` returned."""
        self.state = self.trainer.restore(self.state, arrays)
        self.model = self.trainer.model(self.state)
        self.epoch, self.history, self.waited = record["epoch"], record["history"], record["waited"]
        self.source.same_order = record["same_order"]
        if record["best_value"] is not None:
            asarray, like = self.model.engine.arrays.asarray, self.model.like
            params, constants = (
                {k[len(p) :]: asarray(v, like=like) for k, v in arrays.items() if k.startswith(p)}
                for p in ("best.params.", "best.constants.")
            )
            self.best, self.best_value = self.model.with_params(params).with_constants(constants), record["best_value"]
        if not self.source.same_order:
            warnings.warn(
                "the batches came in another order in each epoch: the run goes on, but not to the bits of one that "
                "was never interrupted",
                RuntimeWarning,
                stacklevel=5,
            )
        self.check_patience()
