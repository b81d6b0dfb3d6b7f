"""Small runs of `fit`, shared by the tests of training and of checkpoints; a killed process imports them too."""

import dataclasses
import functools

import numpy as np
from helpers import numpy

from deepgen_ppl.objectives.objective import Objective

X = np.random.default_rng(0).integers(0, 2, (10, 6)).astype(np.float32)
BATCHES = [X[:4], X[4:8], X[8:]]


def values(dg, model):
    return {k: numpy(dg, v).copy() for k, v in {**model.params, **model.constants}.items()}


def assert_identical(dg, a, b):
    a, b = values(dg, a), values(dg, b)
    assert a.keys() == b.keys()
    for k in a:
        np.testing.assert_array_equal(a[k], b[k], err_msg=k)


@functools.cache
def vae(dg):
    return dg.VAE.init(rng=0, likelihood=dg.Bernoulli(6), latent=2, hidden=(5,))


@functools.cache
def rbm(dg):
    return dg.RBM.init(rng=0, visible=6, hidden=3, data=X, weight_scale=0.3)


@functools.cache
def dbm(dg):
    return dg.DBM.init(rng=0, visible=6, hidden=(3, 2), data=X, weight_scale=0.3)


@functools.cache
def belief_net(dg):
    return dg.SigmoidBeliefNet.init(6, hidden=(3, 2), rng=0)


RUNS = {
    "vae": lambda dg: (vae(dg), dg.IWAE(num_particles=3), dg.adam(0.01)),
    "elbo": lambda dg: (vae(dg), dg.ELBO(), dg.sgd(0.01, momentum=0.9)),
    "rbm": lambda dg: (rbm(dg), dg.StochasticML(num_chains=8), dg.sgd(0.05)),
    "cd": lambda dg: (rbm(dg), dg.ContrastiveDivergence(), dg.adam(0.01)),
    "dbm": lambda dg: (dbm(dg), dg.StochasticML(num_chains=8), dg.sgd(0.05)),
    "vimco": lambda dg: (belief_net(dg), dg.VIMCO(num_particles=3), dg.adam(0.01)),
    "rloo": lambda dg: (belief_net(dg), dg.RLOO(num_particles=3), dg.adam(0.01)),
    "reweighted_wake_sleep": lambda dg: (belief_net(dg), dg.ReweightedWakeSleep(num_particles=3), dg.adam(0.01)),
    "wake_sleep": lambda dg: (belief_net(dg), dg.WakeSleep(), dg.sgd(0.01)),
}
"""Name -> model, objective and optimizer, made anew at every call; the last batch of the data is a short one."""


def options(dg, kind):
    """Model, and options of `fit`."""
    model, objective, optimizer = RUNS[kind](dg)
    return model, {"objective": objective, "optimizer": optimizer}


def train(dg, kind, *, epochs=4, data=X, **more):
    model, common = options(dg, kind)
    return dg.fit(model, data, **{"epochs": epochs, "batch_size": 4, "rng": 5, "progress": False, **common, **more})


@dataclasses.dataclass(frozen=True)
class Register(Objective):
    """Keeps what it saw: how often each row, in which order, and nothing else; the loss pulls b to 1, or is NaN."""

    broken_at: int = 10**6
    steepness: float = 1.0

    def init(self, rng, model, batch):
        x = batch["v"]
        zero = 0.0 * x[0, 0]
        return {"steps": zero, "seen": 0.0 * x[0], "when": 0.0 * x[0]}

    def before_step(self, rng, model, state, batch, mask):
        x = batch["v"]
        rows = model.engine.xp.sum(x, axis=0) if mask is None else mask @ x
        steps = state["steps"] + 1.0
        return model, {"steps": steps, "seen": state["seen"] + rows, "when": state["when"] * 8.0 + steps * rows}

    def batch_loss(self, rng, model, state, batch, mask, num_data):
        xp = model.engine.xp
        bad = state["steps"] > self.broken_at
        pull = 0.5 * self.steepness * xp.sum((model.params["v.bias"] - 1.0) ** 2)
        return pull + xp.where(bad, xp.nan, 0.0), state


@functools.cache
def one_hot_rbm(dg):
    """Seven rows that are told apart by their one bit."""
    return dg.RBM.init(rng=0, visible=7, hidden=2, centered=False), dg.sgd(0.5)


def registered(dg, *, broken_at=10**6, data=None, **more):
    machine, optimizer = one_hot_rbm(dg)
    data = np.eye(7, dtype=np.float32) if data is None else data
    more = {"epochs": 1, "batch_size": 3, "rng": 0, "progress": False, **more}
    return dg.fit(machine, data, objective=Register(broken_at), optimizer=optimizer, **more)


def bias(dg, model):
    return numpy(dg, model.params["v.bias"])[0]


def scripted(values):
    """A metric that gives these values one after the other."""
    rest = iter(values)
    return lambda model, data: next(rest)
