"""Speed of learning by persistent contrastive divergence: CPU time of one update of an RBM 784 x 500, on one core.

    make result NAME=speed_pcd              or: python benchmarks/speed_pcd.py [--smoke] [--engine both] [--out FILE]

PCD-1, batches of 100 rows, 100 chains, plain gradient steps. `ours` is what one epoch of `fit` costs (its trainer over
the rows of an epoch), for a plain and for a centered machine, whose offsets move at every update. By hand is the
closed-form gradient in the same engine, in a scan on JAX. scikit-learn is `BernoulliRBM.partial_fit` in float32.
"""

from pathlib import Path

import common
import jax
import jax.numpy as jnp
import numpy as np
import torch
import typer
from sklearn.neural_network import BernoulliRBM

import deepgen_ppl.numpyro as dgn
import deepgen_ppl.pyro as dgp

RATE = 0.01


def ours(dg: object, x: np.ndarray, hidden: int, batch: int, *, centered: bool) -> object:
    """One epoch of `fit`, without its first compilation: the trainer over shuffled rows."""
    engine = dg.engine
    rbm = dg.RBM.init(rng=0, visible=x.shape[1], hidden=hidden, centered=centered, data=x)
    data = {"v": engine.arrays.asarray(x, like=rbm.like)}
    trainer = engine.host.trainer(dg.StochasticML(num_chains=batch), dg.sgd(RATE), len(x))
    state = trainer.init(rbm, engine.random.rng(1, rbm.like), {"v": data["v"][:batch]})
    rows = np.random.default_rng(0).permutation(len(x)).reshape(-1, batch)

    def run() -> None:
        nonlocal state
        state, _ = trainer.run(state, data, rows, None)

    return run


def jax_by_hand(x: np.ndarray, hidden: int, batch: int) -> object:
    """The closed-form gradient in a scan."""
    visible = x.shape[1]

    def update(carry: tuple, rows: jax.Array, data: jax.Array) -> tuple:
        (w, b, c), v, key = carry
        x = data[rows]
        key, first, second = jax.random.split(key, 3)
        h = jax.random.uniform(first, (batch, hidden)) < jax.nn.sigmoid(v @ w + c)
        v = jax.random.uniform(second, (batch, visible)) < jax.nn.sigmoid(h.astype(w.dtype) @ w.T + b)
        v = v.astype(w.dtype)
        up, down = jax.nn.sigmoid(x @ w + c), jax.nn.sigmoid(v @ w + c)
        w = w + RATE * (x.T @ up - v.T @ down) / batch
        b = b + RATE * (x.mean(0) - v.mean(0))
        c = c + RATE * (up.mean(0) - down.mean(0))
        return ((w, b, c), v, key), None

    @jax.jit
    def epoch(carry: tuple, data: jax.Array, rows: jax.Array) -> tuple:
        return jax.lax.scan(lambda carry, rows: update(carry, rows, data), carry, rows)[0]

    w = 0.01 * jax.random.normal(jax.random.key(0), (visible, hidden))
    carry = ((w, jnp.zeros(visible), jnp.zeros(hidden)), jnp.zeros((batch, visible)), jax.random.key(1))
    data, rows = jnp.asarray(x), np.random.default_rng(0).permutation(len(x)).reshape(-1, batch)

    def run() -> None:
        nonlocal carry
        carry = jax.block_until_ready(epoch(carry, data, rows))

    return run


def torch_by_hand(x: np.ndarray, hidden: int, batch: int) -> object:
    """The closed-form gradient, in place."""
    data = torch.as_tensor(x)
    w, b, c = 0.01 * torch.randn(x.shape[1], hidden), torch.zeros(x.shape[1]), torch.zeros(hidden)
    v = torch.zeros(batch, x.shape[1])
    rows = torch.as_tensor(np.random.default_rng(0).permutation(len(x)).reshape(-1, batch))

    @torch.no_grad()
    def run() -> None:
        nonlocal v
        for row in rows:
            x = data[row]
            h = torch.bernoulli(torch.addmm(c, v, w).sigmoid_())
            v = torch.bernoulli(torch.addmm(b, h, w.T).sigmoid_())
            up, down = torch.addmm(c, x, w).sigmoid_(), torch.addmm(c, v, w).sigmoid_()
            w.addmm_(x.T, up, alpha=RATE / batch).addmm_(v.T, down, alpha=-RATE / batch)
            b.add_(x.mean(0) - v.mean(0), alpha=RATE)
            c.add_(up.mean(0) - down.mean(0), alpha=RATE)

    return run


def scikit_learn(x: np.ndarray, hidden: int, batch: int) -> object:
    """`BernoulliRBM.partial_fit`."""
    rbm = BernoulliRBM(n_components=hidden, learning_rate=RATE, batch_size=batch, random_state=0)
    batches = x.reshape(-1, batch, x.shape[1])

    def run() -> None:
        for rows in batches:
            rbm.partial_fit(rows)

    return run


def main(
    engine: str = typer.Option("both", help="numpyro, pyro or both"),
    seed: int = 0,
    out: Path | None = None,
    smoke: bool = typer.Option(False, help="tiny sizes, to see that it runs"),
) -> None:
    """Measure and write the file of results."""
    results = common.Results("speed_pcd", engine, seed, out)
    visible, hidden, batch, updates, repeats = (12, 8, 10, 5, 3) if smoke else (784, 500, 100, 100, 15)
    x = (np.random.default_rng(seed).random((updates * batch, visible)) < 0.2).astype(np.float32)
    learn = {"scikit_learn": (scikit_learn(x, hidden, batch), updates)}
    for name, dg, by_hand, target in (("numpyro", dgn, jax_by_hand, 1.25), ("pyro", dgp, torch_by_hand, None)):
        if engine in (name, "both"):
            contestants = {
                "by_hand": (by_hand(x, hidden, batch), updates),
                "ours": (ours(dg, x, hidden, batch, centered=False), updates),
                "ours_centred": (ours(dg, x, hidden, batch, centered=True), updates),
            }
            targets = {} if target is None else {"ours": target, "ours_centred": target}
            timing = common.ratios(contestants | learn, repeats)
            common.report(results, timing, name, "by_hand", targets, f"an update, batch {batch}")
    print(f"wrote {results.write().name}")


if __name__ == "__main__":
    typer.run(main)
