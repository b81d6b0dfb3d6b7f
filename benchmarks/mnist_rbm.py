"""RBMs on MNIST: the test log-likelihood after persistent contrastive divergence, beside published figures.

    make result NAME=mnist_rbm
    python benchmarks/mnist_rbm.py [--smoke] [--engine numpyro] [--seed 0] [--only KEY] [--resume] [--out FILE]

- `rbm16_*`: 784 x 16 on MNIST thresholded at 0.5, centered or plain, as it is or flipped (1 - x); 60,000 training rows,
  50 epochs; exact log Z by enumeration, so that the values are exact. Centered and plain share one protocol;
  `*_as_published` repeats them with the published runs' constant rate of 0.01 and weights that start at a standard
  deviation of 4 sqrt(2 / (784 + 16)) = 0.2.
- `rbm500_*`: 784 x 500, centered, on the fixed binarization of MNIST; 50,000 training rows, 200 epochs. Forward AIS
  gives an upper side of log p in expectation, and is repeated with twice the temperatures. Reverse AIS starts from the
  persistent chains, which are no exact draws: an estimate of no side.

Data come by name from `deepgen_ppl.datasets`. Training keeps checkpoints in .cache/benchmarks, from which `--resume`
goes on.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import common
import jax.numpy as jnp
import numpy as np
import optax
import torch
import typer

import deepgen_ppl.numpyro as dgn
import deepgen_ppl.pyro as dgp
from deepgen_ppl.datasets import binarize, load

PUBLISHED = {
    "rbm16_centred": -142.564,
    "rbm16_centred_flipped": -142.087,
    "rbm16_plain": -149.053,
    "rbm16_plain_flipped": -183.36,
    "rbm16_centred_as_published": -142.564,
    "rbm16_centred_flipped_as_published": -142.087,
    "rbm16_plain_as_published": -149.053,
    "rbm16_plain_flipped_as_published": -183.36,
    "rbm500_forward_ais": -84.86,
    "rbm500_reverse_ais": -96.61,
}


@dataclass(frozen=True)
class Protocol:
    """How a machine is trained.

    Args:
        hidden: number of hidden units.
        epochs: passes over the training rows.
        rate: learning rate, constant for the first `constant` of all updates and then falling linearly to zero.
        constant: fraction of the updates.
        batch: rows a batch, and number of persistent chains.
        offset_rate: rate of the offsets' moving average.
        scale: standard deviation of the first weights.
    """

    hidden: int
    epochs: int
    rate: float
    constant: float = 0.5
    batch: int = 100
    offset_rate: float = 0.01
    scale: float = 0.01

    def schedule(self, updates: int) -> Callable:
        """Learning rate by the number of the update; works on numbers and on traced arrays."""
        if self.constant >= 1:
            return lambda i: self.rate
        hold = int(self.constant * updates)
        return lambda i: self.rate * jnp.clip((updates - i) / max(updates - hold, 1), 0.0, 1.0)

    def __str__(self) -> str:
        then = "" if self.constant >= 1 else f" for {self.constant:.0%} of the updates, then linear to 0"
        return (
            f"PCD-1, {self.epochs} epochs, batch {self.batch}, {self.batch} chains, sgd {self.rate:g} constant{then}, "
            f"first weights of s.d. {self.scale:g}, base-rate visible biases, no momentum, no weight decay"
        )


RBM16 = Protocol(hidden=16, epochs=50, rate=0.05)
RBM16_AS_PUBLISHED = Protocol(hidden=16, epochs=50, rate=0.01, constant=1.0, scale=0.2)
RBM500 = Protocol(hidden=500, epochs=200, rate=0.05)
RUNS = 200


class ScheduledSGD(torch.optim.Optimizer):
    """Gradient steps whose rate follows a schedule; the count of steps is part of the state, so that runs resume."""

    def __init__(self, params: list, schedule: Callable) -> None:
        super().__init__(params, {})
        self.schedule = schedule

    @torch.no_grad()
    def step(self) -> None:
        """One step."""
        for group in self.param_groups:
            for p in group["params"]:
                count = self.state[p].setdefault("step", torch.zeros(()))
                p.add_(p.grad, alpha=-float(self.schedule(float(count))))
                count += 1


@functools.cache
def optimizer(on_jax: bool, protocol: Protocol, updates: int) -> object:
    """One optimizer for all runs of a protocol, so that a compiled step serves them too."""
    schedule = protocol.schedule(updates)
    return optax.sgd(schedule) if on_jax else functools.partial(ScheduledSGD, schedule=schedule)


def train(dg: object, x: np.ndarray, protocol: Protocol, *, centered: bool, seed: int, checkpoint: Path, resume: bool):
    """A trained machine: what `fit` returns."""
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    if not resume:
        checkpoint.unlink(missing_ok=True)
    init = {"visible": x.shape[1], "hidden": protocol.hidden, "weight_scale": protocol.scale}
    return dg.fit(
        dg.RBM.init(rng=seed, **init, centered=centered, data=x),
        x,
        objective=dg.StochasticML(num_chains=protocol.batch, offset_rate=protocol.offset_rate),
        optimizer=optimizer(dg is dgn, protocol, protocol.epochs * -(-len(x) // protocol.batch)),
        epochs=protocol.epochs,
        batch_size=protocol.batch,
        rng=seed,
        checkpoint=checkpoint,
        resume=resume,
    )


def test_log_likelihood(rbm: object, log_normalizer: object, x: np.ndarray) -> tuple[float, float]:
    """Mean over the test rows of log p(x) in nats, and its standard error over the rows."""
    arrays = rbm.engine.arrays
    log_p = rbm.marginal(log_normalizer=log_normalizer).log_prob(arrays.asarray(x, like=rbm.like))
    log_p = arrays.to_numpy(log_p).astype(float)
    return float(log_p.mean()), float(log_p.std(ddof=1) / np.sqrt(len(log_p)))


def small(results: common.Results, dg: object, key: str, x: tuple, protocol: Protocol, **options: object) -> None:
    """One machine of 16 hidden units, exactly."""
    centered, flipped = "centered" in key, "flipped" in key
    train_x, test_x = ((1 - part if flipped else part) for part in x)
    rbm = train(dg, train_x, protocol, centered=centered, **options).model
    log_z = dg.exact_log_normalizer(rbm)
    value, over_rows = test_log_likelihood(rbm, log_z, test_x)
    note = f"nats, test set; {protocol}; s.e. over test rows {over_rows:.2f}; log Z {log_z.value:.3f} by enumeration"
    results.add(key, value, se=0.0, kind="exact", published=PUBLISHED[key], note=note)


def large(
    results: common.Results,
    dg: object,
    keys: list[str],
    x: tuple,
    protocol: Protocol,
    temperatures: int,
    **options: object,
) -> None:
    """The machine of 500 hidden units, by AIS both ways."""
    train_x, test_x = x
    fitted = train(dg, train_x, protocol, centered=True, **options)
    rbm, seed = fitted.model, options["seed"]
    chains = dict(fitted.state.objective.chains.position)

    def side(key: str, betas: int, *, reverse: bool) -> float:
        log_z = dg.ais(
            rbm,
            rng=seed + 1,
            betas=betas,
            num_runs=protocol.batch if reverse else RUNS,
            data=train_x,
            reverse=reverse,
            initial=chains if reverse else None,
            progress=True,
        )
        value, over_rows = test_log_likelihood(rbm, log_z, test_x)
        note = (
            f"nats, test set; {protocol}; {log_z.method}; log Z {log_z.value:.2f}; s.e. over test rows {over_rows:.2f}"
        )
        note += "".join(f"; {flag}" for flag in log_z.flags)
        kind = "estimate" if reverse else "upper"
        results.add(key, value, se=log_z.se, kind=kind, published=PUBLISHED.get(key), note=note)
        return value

    if "rbm500_forward_ais" in keys:
        once = side("rbm500_forward_ais", temperatures, reverse=False)
        twice = side("rbm500_forward_ais_doubled", 2 * temperatures, reverse=False)
        note = f"nats; twice the temperatures ({2 * temperatures}) minus once; to be within 0.5"
        results.add("rbm500_forward_ais_change", twice - once, kind="estimate", note=note)
    if "rbm500_reverse_ais" in keys:
        side("rbm500_reverse_ais", 2 * temperatures, reverse=True)


def main(
    engine: str = typer.Option("numpyro", help="numpyro or pyro"),
    seed: int = 0,
    out: Path | None = None,
    only: list[str] = typer.Option([], help=f"one of {', '.join(PUBLISHED)}; may be repeated"),
    resume: bool = typer.Option(False, help="go on from checkpoints, and keep the other values of the file"),
    smoke: bool = typer.Option(False, help="tiny sizes on digits, to see that it runs"),
) -> None:
    """Train, evaluate and write the file of results."""
    if unknown := sorted(set(only) - PUBLISHED.keys()):
        raise typer.BadParameter(f"expected keys among {', '.join(PUBLISHED)}, got {', '.join(unknown)}")
    dg = {"numpyro": dgn, "pyro": dgp}[engine]
    results = common.Results("mnist_rbm", engine, seed, out)
    if only or resume:
        results.keep()
    keys = only or list(PUBLISHED)
    rbm16, as_published, rbm500, temperatures = RBM16, RBM16_AS_PUBLISHED, RBM500, 10_000
    if smoke:
        rbm16, as_published = (replace(p, hidden=4, epochs=1) for p in (RBM16, RBM16_AS_PUBLISHED))
        rbm500 = replace(RBM500, hidden=8, epochs=1)
        temperatures = 50

    def options(name: str, protocol: Protocol) -> dict:
        label = f"mnist_rbm-{name}-{engine}-{seed}-{protocol.epochs}-{protocol.rate:g}{'-smoke' if smoke else ''}"
        path = common.ROOT / ".cache" / "benchmarks" / f"{label}.ckpt.safetensors"
        return {"seed": seed, "checkpoint": path, "resume": resume}

    def data(name: str) -> tuple[np.ndarray, np.ndarray]:
        found = load("digits" if smoke else name)
        rows = [found.train] if name == "binarized_mnist" else [found.train, found.valid]
        return binarize(np.concatenate(rows)[: 500 if smoke else None]), binarize(found.test)

    for key in keys:
        if key.startswith("rbm16"):
            protocol = as_published if key.endswith("as_published") else rbm16
            small(results, dg, key, data("mnist"), protocol, **options(key, protocol))
            results.write()
    if wanted := [key for key in keys if key.startswith("rbm500")]:
        large(results, dg, wanted, data("binarized_mnist"), rbm500, temperatures, **options("rbm500", rbm500))
    print(f"wrote {results.write().name}")


if __name__ == "__main__":
    typer.run(main)
