"""Speed of annealed importance sampling: CPU time of one temperature, RBM 784 x 500, 100 runs, on one core.

    make result NAME=speed_ais              or: python benchmarks/speed_ais.py [--smoke] [--engine both] [--out FILE]

The limit is two matrix products alone, in the same engine. `ours` is the marginal cost of a temperature in `ais`, from
two lengths: forward costs two products with the weights a temperature, reverse three. By hand is the forward way in a
loop of the same engine: hidden units summed out, as in Salakhutdinov & Murray (2008), eq. 18.
"""

from pathlib import Path

import common
import jax
import jax.numpy as jnp
import numpy as np
import torch
import typer

import deepgen_ppl.numpyro as dgn
import deepgen_ppl.pyro as dgp

CHUNK = 500


def make(dg: object, w: np.ndarray, b: np.ndarray) -> object:
    """The machine, centered as it comes from `init`."""
    rbm = dg.RBM.init(rng=0, visible=w.shape[0], hidden=w.shape[1])
    asarray = dg.engine.arrays.asarray
    return rbm.with_params({"v-h.weight": asarray(w), "v.bias": asarray(b)})


def ours(dg: object, rbm: object, runs: int, *, reverse: bool) -> object:
    """`ais` over a number of temperatures."""
    initial = None
    if reverse:
        initial = dict(dg.BlockGibbs().init(dg.engine.random.rng(1, rbm.like), rbm.uncentered(), runs).position)

    def run(temperatures: int) -> None:
        dg.ais(rbm, rng=0, betas=temperatures + 1, num_runs=runs, reverse=reverse, initial=initial)

    return run


def jax_contestants(w: np.ndarray, b: np.ndarray, runs: int) -> dict:
    """The limit and the loop by hand."""
    visible, hidden = w.shape
    jw, jb, zero = jnp.asarray(w), jnp.asarray(b), jnp.zeros(hidden)
    bounded = jw / jnp.linalg.norm(jw, 2)

    @jax.jit
    def products(w: jax.Array, v: jax.Array, keys: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda v, _: ((v @ w) @ w.T, None), v, keys)[0]

    @jax.jit
    def anneal(w: jax.Array, b: jax.Array, c: jax.Array, v: jax.Array, log_w: jax.Array, xs: tuple) -> tuple:
        def step(carry: tuple, x: tuple) -> tuple:
            (v, log_w), (key, low, high) = carry, x
            first, second = jax.random.split(key)
            eta = v @ w + c
            log_w = log_w + (jax.nn.softplus(high * eta) - jax.nn.softplus(low * eta)).sum(-1) + (high - low) * (v @ b)
            h = jax.random.uniform(first, (runs, hidden)) < jax.nn.sigmoid(high * eta)
            eta = high * (h.astype(w.dtype) @ w.T + b)
            v = jax.random.uniform(second, (runs, visible)) < jax.nn.sigmoid(eta)
            return (v.astype(w.dtype), log_w), None

        return jax.lax.scan(step, (v, log_w), xs)[0]

    def pieces(temperatures: int) -> list:
        """Keys and temperatures in chunks of one length, so that one compilation serves all."""
        betas = np.linspace(0, 1, temperatures + 1, dtype=np.float32)
        keys = jax.random.split(jax.random.key(0), temperatures)
        cuts = [slice(at, at + CHUNK) for at in range(0, temperatures, CHUNK)]
        return [(keys[cut], jnp.asarray(betas[:-1][cut]), jnp.asarray(betas[1:][cut])) for cut in cuts]

    def run_products(temperatures: int) -> None:
        v = jnp.ones((runs, visible))
        for keys, _, _ in pieces(temperatures):
            v = products(bounded, v, keys)
        jax.block_until_ready(v)

    def by_hand(temperatures: int) -> None:
        carry = (jnp.ones((runs, visible)), jnp.zeros(runs))
        for xs in pieces(temperatures):
            carry = anneal(jw, jb, zero, *carry, xs)
        jax.block_until_ready(carry)

    return {"products": run_products, "by_hand": by_hand}


def torch_contestants(w: np.ndarray, b: np.ndarray, runs: int) -> dict:
    """The limit and the loop by hand."""
    tw, tb, tc = torch.as_tensor(w), torch.as_tensor(b), torch.zeros(w.shape[1])
    bounded = tw / torch.linalg.matrix_norm(tw, 2)  # products that neither grow nor vanish: subnormals are slow

    @torch.no_grad()
    def products(temperatures: int) -> None:
        v = torch.ones(runs, w.shape[0])
        for _ in range(temperatures):
            v = (v @ bounded) @ bounded.T

    @torch.no_grad()
    def by_hand(temperatures: int) -> None:
        softplus = torch.nn.functional.softplus
        v, log_w, betas = torch.ones(runs, w.shape[0]), torch.zeros(runs), torch.linspace(0, 1, temperatures + 1)
        for low, high in zip(betas[:-1], betas[1:], strict=True):
            eta = torch.addmm(tc, v, tw)
            log_w += (softplus(high * eta) - softplus(low * eta)).sum(-1) + (high - low) * (v @ tb)
            h = torch.bernoulli(torch.sigmoid(high * eta))
            v = torch.bernoulli(torch.sigmoid(high * torch.addmm(tb, h, tw.T)))

    return {"products": products, "by_hand": by_hand}


def main(
    engine: str = typer.Option("both", help="numpyro, pyro or both"),
    seed: int = 0,
    out: Path | None = None,
    smoke: bool = typer.Option(False, help="tiny sizes, to see that it runs"),
) -> None:
    """Measure and write the file of results."""
    results = common.Results("speed_ais", engine, seed, out)
    visible, hidden, runs, repeats = (12, 8, 10, 1) if smoke else (784, 500, 100, 7)
    short, long = CHUNK, 2 * CHUNK
    rng = np.random.default_rng(seed)
    w = rng.normal(scale=0.05, size=(visible, hidden)).astype(np.float32)
    b = rng.normal(scale=0.1, size=visible).astype(np.float32)
    for name, dg, contestants, targets in (
        ("numpyro", dgn, jax_contestants, {"ours": 1.9}),
        ("pyro", dgp, torch_contestants, {}),
    ):
        if engine in (name, "both"):
            rbm = make(dg, w, b)
            functions = contestants(w, b, runs) | {
                "ours": ours(dg, rbm, runs, reverse=False),
                "ours_reverse": ours(dg, rbm, runs, reverse=True),
            }
            timing = common.marginal({k: (run, short, long) for k, run in functions.items()}, repeats)
            common.report(results, timing, name, "products", targets, f"a temperature of {runs} runs")
    print(f"wrote {results.write().name}")


if __name__ == "__main__":
    typer.run(main)
