"""`fit`: the short way to train any model of the library."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from deepgen_ppl.objectives.objective import Objective
from deepgen_ppl.options import flag, instance
from deepgen_ppl.training.gradient_steps import Callback, GradientSteps
from deepgen_ppl.training.method import Fit, Method
from deepgen_ppl.training.validation import Validation
from deepgen_ppl.typing import Rng

__all__ = ["Fit", "Validation", "fit"]

M = TypeVar("M")


def fit(
    model: M,
    data: Any,
    *,
    objective: Objective | None = None,
    method: Method | None = None,
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
        data: array (N, V), named arrays of one length, or an iterable of batches of these that can be iterated once an
            epoch.
        objective: what to minimize; by default `StochasticML()` for machines, or `ContrastiveDivergence()` where they
            are conditioned on some of the data, and for programs `ELBO()`, or `RLOO()` where the guide draws what has
            no pathwise gradient.
        method: how an answer is got; `GradientSteps()` by default. The arguments below are those of gradient steps;
            what another method does not take is refused.
        optimizer: `sgd(...)` or `adam(...)`; on NumPyro an optax transformation, which sees a dict of arrays by name;
            on Pyro an optimizer of `pyro.optim`, or a constructor of a `torch.optim.Optimizer` that is given a list of
            (name, tensor). By default `sgd(0.05)` for machines and `adam(1e-3)` for programs.
        epochs: total number of passes over the data, those before a resume included.
        batch_size: rows a step; a last batch of another size is not dropped.
        rng: seed or generator; it fixes the order of rows too.
        validation: a `Validation`, or data for one with its defaults.
        callbacks: called after each epoch with (epoch, model, history); one that returns True stops the training.
        checkpoint: file to write after each epoch; one that exists is gone on from or refused, never overwritten.
        resume: whether to go on from `checkpoint` where it exists.
        progress: whether to show a progress bar; by default where standard error is a terminal.

    Raises:
        ValueError: for data that do not fit the model, or a checkpoint of another run.
        TypeError: for something else than a model, an optimizer of the other engine, or an argument that the method
            does not take.
        OSError: for a checkpoint that cannot be written, or that exists while `resume` is not set.

    An exception that ends the training (Ctrl-C, a fault in a callback) carries what was reached in its attribute `fit`.

    Warns:
        RuntimeWarning: when a loss is not finite or a machine has no normalizer any more; training stops and the last
            good model is returned.

    Example:
        >>> import numpy as np
        >>> import deepgen_ppl.pyro as dg  # on NumPyro the same
        >>> x = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
        >>> vae = dg.VAE.init(likelihood=dg.Gaussian(3), latent=1, hidden=(5,), rng=0)
        >>> result = dg.fit(vae, x, objective=dg.IWAE(num_particles=5), epochs=2, batch_size=20, rng=0, progress=False)
        >>> len(result.history["loss"]), type(result.model) is type(vae)
        (2, True)
    """
    flag(resume, "resume")
    if progress is not None:
        flag(progress, "progress")
    chosen = (
        GradientSteps() if method is None else instance(method, "method", Method, "a method, such as GradientSteps()")
    )
    arguments = {
        "objective": objective,
        "optimizer": optimizer,
        "epochs": epochs,
        "batch_size": batch_size,
        "validation": validation,
        "callbacks": callbacks,
        "checkpoint": checkpoint,
        "resume": resume,
        "progress": progress,
    }
    defaults = inspect.signature(fit).parameters
    given = {name: value for name, value in arguments.items() if value is not defaults[name].default}
    chosen.check_arguments(given)
    return chosen.run(model, data, rng=rng, **given)
