"""Speed of block Gibbs in an RBM 784 x 500: CPU time of one sweep of all chains, on one core.

    make result NAME=speed_gibbs            or: python benchmarks/speed_gibbs.py [--smoke] [--engine both] [--out FILE]

The limit is the two matrix products of a sweep alone, in the same engine and the same loop. Contestants: `BlockGibbs`
in the engine's loop, a loop written by hand, the same kernel inside the host's own MCMC (marginal cost of a sweep, from
two lengths), and scikit-learn's `BernoulliRBM.gibbs`.

NumPyro compiles anew in each `MCMC.run`; JAX's persistent cache of compilations, in a temporary folder, keeps that and
its noise out of the difference. What storing costs depends on the memory: NumPyro makes three arrays of the size of the
draws. Small ones fit into memory that the process already has; large ones wait for the operating system's.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import common
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pyro
import torch
import typer
from sklearn.neural_network import BernoulliRBM

import deepgen_ppl.numpyro as dgn
import deepgen_ppl.pyro as dgp


def weights(visible: int, hidden: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights and biases of the machine that everyone runs."""
    rng = np.random.default_rng(seed)
    w = rng.normal(scale=0.05, size=(visible, hidden)).astype(np.float32)
    return w, rng.normal(scale=0.1, size=visible).astype(np.float32), np.zeros(hidden, np.float32)


def with_weights(dg: object, w: np.ndarray, b: np.ndarray, c: np.ndarray, *, centered: bool) -> object:
    """The machine in an engine."""
    rbm = dg.RBM.init(rng=0, visible=w.shape[0], hidden=w.shape[1], centered=centered)
    asarray = dg.engine.arrays.asarray
    return rbm.with_params({"v-h.weight": asarray(w), "v.bias": asarray(b), "h.bias": asarray(c)})


def ours(dg: object, rbm: object, chains: int, sweeps: int) -> object:
    """`BlockGibbs.step` in the engine's own loop."""
    kernel, engine = dg.BlockGibbs(), dg.engine

    def run(rbm: object, rng: object, state: object) -> object:
        keys = engine.random.split(rng, sweeps)
        return engine.control.loop(lambda s, key: (kernel.step(key, rbm, s)[0], None), state, keys)[0]

    run = engine.control.compile(run)
    rng = engine.random.rng(0, rbm.like)
    state = kernel.init(rng, rbm, chains)
    return lambda: jax.block_until_ready(run(rbm, rng, state))


def jax_contestants(w: np.ndarray, b: np.ndarray, c: np.ndarray, chains: int, sweeps: int) -> dict:
    """The limit, loops by hand, and ours on JAX."""
    visible, hidden = w.shape

    @jax.jit
    def products(w: jax.Array, v: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda v, _: ((v @ w) @ w.T, None), v, None, length=sweeps)[0]

    @jax.jit
    def by_hand(w: jax.Array, b: jax.Array, c: jax.Array, v: jax.Array, key: jax.Array) -> jax.Array:
        def sweep(v: jax.Array, key: jax.Array) -> tuple:
            first, second = jax.random.split(key)
            h = jax.random.uniform(first, (chains, hidden)) < jax.nn.sigmoid(v @ w + c)
            v = jax.random.uniform(second, (chains, visible)) < jax.nn.sigmoid(h.astype(v.dtype) @ w.T + b)
            return v.astype(w.dtype), None

        return jax.lax.scan(sweep, v, jax.random.split(key, sweeps))[0]

    jw, jb, jc = map(jnp.asarray, (w, b, c))
    bounded = jw / jnp.linalg.norm(jw, 2)
    v, key = jnp.ones((chains, visible)), jax.random.key(0)
    runs = {
        "products": lambda: jax.block_until_ready(products(bounded, v)),
        "by_hand": lambda: jax.block_until_ready(by_hand(jw, jb, jc, v, key)),
        "ours": ours(dgn, with_weights(dgn, w, b, c, centered=False), chains, sweeps),
        "ours_centred": ours(dgn, with_weights(dgn, w, b, c, centered=True), chains, sweeps),
    }
    return {name: (run, sweeps) for name, run in runs.items()}


def torch_contestants(w: np.ndarray, b: np.ndarray, c: np.ndarray, chains: int, sweeps: int) -> dict:
    """The limit, loops by hand, and ours on torch."""
    tw, tb, tc = map(torch.as_tensor, (w, b, c))
    bounded = tw / torch.linalg.matrix_norm(tw, 2)  # products that neither grow nor vanish: subnormals are slow
    ones = torch.ones(chains, w.shape[0])

    @torch.no_grad()
    def products() -> torch.Tensor:
        v = ones
        for _ in range(sweeps):
            v = (v @ bounded) @ bounded.T
        return v

    @torch.no_grad()
    def by_hand() -> torch.Tensor:
        v = ones
        for _ in range(sweeps):
            h = torch.bernoulli(torch.sigmoid(v @ tw + tc))
            v = torch.bernoulli(torch.sigmoid(h @ tw.T + tb))
        return v

    @torch.no_grad()
    def in_place() -> torch.Tensor:
        v, noise_h, noise_v = ones, torch.empty(chains, w.shape[1]), torch.empty(chains, w.shape[0])
        for _ in range(sweeps):
            h = torch.addmm(tc, v, tw).sigmoid_()
            h = torch.lt(noise_h.uniform_(), h, out=h)
            v = torch.addmm(tb, h, tw.T).sigmoid_()
            v = torch.lt(noise_v.uniform_(), v, out=v)
        return v

    runs = {
        "products": products,
        "by_hand": by_hand,
        "by_hand_in_place": in_place,
        "ours": ours(dgp, with_weights(dgp, w, b, c, centered=False), chains, sweeps),
        "ours_centred": ours(dgp, with_weights(dgp, w, b, c, centered=True), chains, sweeps),
    }
    return {name: (run, sweeps) for name, run in runs.items()}


def scikit_learn(w: np.ndarray, b: np.ndarray, c: np.ndarray, chains: int, sweeps: int, dtype: str) -> tuple:
    """`BernoulliRBM.gibbs`."""
    rbm = BernoulliRBM(n_components=w.shape[1], random_state=0)
    rbm.fit(np.zeros((2, w.shape[0]), dtype))
    rbm.components_, rbm.intercept_visible_, rbm.intercept_hidden_ = (x.astype(dtype) for x in (w.T, b, c))
    rbm.random_state_ = np.random.RandomState(0)  # noqa: NPY002 - what scikit-learn draws from
    start = np.ones((chains, w.shape[0]), dtype)

    def run() -> np.ndarray:
        v = start
        for _ in range(sweeps):
            v = rbm.gibbs(v).astype(dtype)
        return v

    return run, sweeps


def repeated(run: Callable, sweeps: int) -> tuple:
    """A run without fixed cost, for `common.marginal`."""
    return lambda n: run() if n else None, 0, sweeps


def numpyro_mcmc(rbm: object, chains: int, thinning: int) -> object:
    """Our kernel inside NumPyro's MCMC."""

    def run(sweeps: int) -> None:
        mcmc = numpyro.infer.MCMC(
            dgn.BlockGibbs().on(rbm),
            num_warmup=0,
            num_samples=sweeps,
            thinning=thinning,
            num_chains=chains,
            chain_method="vectorized",
            progress_bar=False,
        )
        mcmc.run(jax.random.key(0))
        jax.block_until_ready(mcmc.get_samples(group_by_chain=True))

    return run


def keep_compilations(folder: str) -> None:
    """Let JAX keep what it compiles in a folder."""
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def pyro_mcmc(rbm: object, chains: int) -> object:
    """Our kernel inside Pyro's MCMC."""

    def run(sweeps: int) -> None:
        kernel = dgp.BlockGibbs().on(rbm, num_chains=chains)
        pyro.infer.MCMC(kernel, num_samples=sweeps, warmup_steps=0, disable_progbar=True).run()

    return run


def main(
    engine: str = typer.Option("both", help="numpyro, pyro or both"),
    seed: int = 0,
    out: Path | None = None,
    smoke: bool = typer.Option(False, help="tiny sizes, to see that it runs"),
) -> None:
    """Measure and write the file of results."""
    results = common.Results("speed_gibbs", engine, seed, out)
    w, b, c = weights(*((12, 8) if smoke else (784, 500)), seed)
    repeats, few = (2, 1) if smoke else (11, 11)
    cache = tempfile.TemporaryDirectory()
    keep_compilations(cache.name)
    for chains in (10,) if smoke else (100, 1000):
        sweeps = 10 if smoke else 20_000 // chains
        unit = f"a sweep of {chains} chains"
        if engine in ("numpyro", "both"):
            contestants = jax_contestants(w, b, c, chains, sweeps)
            for dtype in ("float32", "float64"):
                contestants[f"scikit_learn_{dtype}"] = scikit_learn(w, b, c, chains, sweeps // 4 + 1, dtype)
            timing = common.ratios(contestants, repeats)
            common.report(results, timing, f"numpyro.{chains}", "products", {"ours": 1.7, "ours_centred": 1.7}, unit)
            rbm = with_weights(dgn, w, b, c, centered=True)
            runs = {
                "products": repeated(*contestants["products"]),
                "mcmc_thinned_by_50": (numpyro_mcmc(rbm, chains, 50), 50, 50 + max(4 * sweeps // 50, 1) * 50),
                "mcmc_storing_50_MB": (numpyro_mcmc(rbm, chains, 1), 1 + sweeps // 20, 1 + sweeps // 20 + sweeps // 2),
                "mcmc_storing_400_MB": (numpyro_mcmc(rbm, chains, 1), 10, 10 + 4 * sweeps),
            }
            targets = {"mcmc_thinned_by_50": 1.8, "mcmc_storing_50_MB": 2.3, "mcmc_storing_400_MB": 2.3}
            common.report(results, common.marginal(runs, few), f"numpyro_mcmc.{chains}", "products", targets, unit)
        if engine in ("pyro", "both"):
            contestants = torch_contestants(w, b, c, chains, sweeps)
            timing = common.ratios(contestants, repeats)
            common.report(results, timing, f"pyro.{chains}", "products", {"ours": 2.6, "ours_centred": 2.6}, unit)
            runs = {
                "products": repeated(*contestants["products"]),
                "mcmc_storing_all": (pyro_mcmc(with_weights(dgp, w, b, c, centered=True), chains), 5, 5 + sweeps // 2),
            }
            common.report(results, common.marginal(runs, few), f"pyro_mcmc.{chains}", "products", {}, unit)
    print(f"wrote {results.write().name}")


if __name__ == "__main__":
    typer.run(main)
