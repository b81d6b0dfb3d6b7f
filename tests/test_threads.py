"""Threads: a host's stack of handlers is one for the process, and so is torch's generator; runs wait for each other."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

X = (np.random.default_rng(0).random((8, 4)) < 0.5).astype(np.float32)
FEW = {"num_particles": 20, "betas": 20, "num_runs": 100, "log_z": "ais"}


def vae(dg, seed):
    return dg.VAE.init(dg.Bernoulli(4), 2, (3,), rng=seed)


def regression(dg, seed):
    return dg.BayesianRegression.init((2, 1), rng=seed)


XY = {"x": X[:, :2], "y": X[:, 2:3]}


def posterior(dg, seed):
    return dg.fit(regression(dg, seed), XY, epochs=1, rng=seed, progress=False).posterior(rng=seed, num_draws=5)


def nuts(dg, seed):
    method = dg.NUTS(num_warmup=5, num_samples=5, max_tree_depth=3)
    return dg.fit(regression(dg, seed), XY, method=method, rng=seed).draws.draws


JOBS = {
    "bounds": lambda dg, seed: dg.bounds(vae(dg, seed), X, rng=seed, options=dg.BoundsOptions(**FEW)).pointwise,
    "compare": lambda dg, seed: dg.compare(
        {"vae": vae(dg, seed), "rbm": dg.RBM.init(4, 2, rng=seed)}, X, rng=seed, options=dg.BoundsOptions(**FEW)
    ).bounds["vae"].pointwise,
    "log_likelihood": lambda dg, seed: posterior(dg, seed).log_likelihood(XY),
    "predict": lambda dg, seed: posterior(dg, seed).predict(XY["x"])["y"],
    "sample": lambda dg, seed: vae(dg, seed).sample(20, rng=seed),
    "log_prob": lambda dg, seed: dg.RealNVP.init(4, rng=seed, depth=1, hidden=(3,)).log_prob(X),
    "encode": lambda dg, seed: vae(dg, seed).encode(X).mean,
    "reconstruct": lambda dg, seed: vae(dg, seed).reconstruct(X),
    "marginal": lambda dg, seed: dg.engine.host.draw(
        dg.engine.random.rng(seed), dg.RBM.init(4, 2, rng=seed).marginal("v", log_normalizer="exact")
    ),
    "nuts": nuts,
}  # fmt: skip


CHEAP = ("bounds", "sample", "encode")


@pytest.fixture
def switching():
    """Threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in CHEAP else [pytest.mark.slow]) for n in JOBS])
def test_threads_give_the_numbers_of_one(dg, switching, name):
    job, seeds = JOBS[name], range(4)
    with ThreadPoolExecutor(4) as pool:
        side = list(pool.map(lambda seed: job(dg, seed), seeds))
    for seed, found in zip(seeds, side, strict=True):
        alone = job(dg, seed)
        pairs = [(alone, found)] if not isinstance(alone, dict) else [(alone[k], found[k]) for k in alone]
        for a, b in pairs:
            np.testing.assert_array_equal(*(dg.engine.arrays.to_numpy(v) for v in (a, b)))
