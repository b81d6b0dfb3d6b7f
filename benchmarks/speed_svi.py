"""Speed of training a VAE 784-200-200-50: CPU time of one step on a batch of 100 rows with Adam, on one core.

    make result NAME=speed_svi              or: python benchmarks/speed_svi.py [--smoke] [--engine both] [--out FILE]

`ours` is what one epoch of `fit` costs (its trainer over the rows of an epoch). On JAX the limit is a loss written by
hand with optax in a scan; `host` is NumPyro's own SVI and Trace_ELBO of our model and guide, in a scan. On torch the
limit is a module written by hand with torch.optim; `host` is the differentiable loss of Pyro's own Trace_ELBO of our
model and guide, with one torch.optim.Adam over the model's tensors. There `fit` takes torch's fused Adam, which the
torch.optim.Adam of these is not by default: `by_hand_fused` is the same module with it.
"""

from pathlib import Path

import common
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import optax
import pyro
import torch
import typer

import deepgen_ppl.numpyro as dgn
import deepgen_ppl.pyro as dgp

RATE = 1e-3


def trainer(dg: object, vae: object, x: np.ndarray, batch: int) -> object:
    """One epoch of `fit`, without its first compilation."""
    engine = dg.engine
    data = {"x": engine.arrays.asarray(x, like=vae.like)}
    loop = engine.host.trainer(dg.ELBO(), dg.adam(RATE), len(x))
    state = loop.init(vae, engine.random.rng(1, vae.like), {"x": data["x"][:batch]})
    rows = np.random.default_rng(0).permutation(len(x)).reshape(-1, batch)

    def run() -> None:
        nonlocal state
        state, _ = loop.run(state, data, rows, None)

    return run


def jax_by_hand(vae: object, x: np.ndarray, batch: int) -> object:
    """The ELBO as plain JAX, with optax in a scan."""
    optimizer = optax.adam(RATE)
    sizes = [
        [(p.shape[0], p.shape[1]) for k, p in sorted(net.params.items()) if k.endswith("kernel")]
        for net in (vae.networks["encoder"], vae.networks["decoder"])
    ]
    keys = iter(jax.random.split(jax.random.key(0), 12))
    params = [[(jax.random.normal(next(keys), s) / np.sqrt(s[0]), jnp.zeros(s[1])) for s in net] for net in sizes]

    def mlp(layers: list, x: jax.Array) -> jax.Array:
        for w, b in layers[:-1]:
            x = jnp.tanh(x @ w + b)
        return x @ layers[-1][0] + layers[-1][1]

    def loss(params: list, key: jax.Array, x: jax.Array) -> jax.Array:
        loc, log_scale = jnp.split(mlp(params[0], x), 2, -1)
        noise = jax.random.normal(key, loc.shape)
        z = loc + jnp.exp(log_scale) * noise
        logits = mlp(params[1], z)
        log_p = (x * logits - jax.nn.softplus(logits)).sum(-1) - 0.5 * (z**2).sum(-1)
        return -(log_p + (log_scale + 0.5 * noise**2).sum(-1)).mean()

    def step(carry: tuple, rows: jax.Array, data: jax.Array) -> tuple:
        params, opt, key = carry
        key, first = jax.random.split(key)
        value, grads = jax.value_and_grad(loss)(params, first, data[rows])
        updates, opt = optimizer.update(grads, opt, params)
        return (optax.apply_updates(params, updates), opt, key), value

    @jax.jit
    def epoch(carry: tuple, data: jax.Array, rows: jax.Array) -> tuple:
        return jax.lax.scan(lambda c, r: step(c, r, data), carry, rows)

    carry, data = (params, optimizer.init(params), jax.random.key(1)), jnp.asarray(x)
    rows = np.random.default_rng(0).permutation(len(x)).reshape(-1, batch)

    def run() -> None:
        nonlocal carry
        carry, _ = jax.block_until_ready(epoch(carry, data, rows))

    return run


def numpyro_svi(vae: object, x: np.ndarray, batch: int) -> object:
    """NumPyro's own SVI with its Trace_ELBO, in a scan."""
    svi = numpyro.infer.SVI(vae.model, vae.guide, optax.adam(RATE), numpyro.infer.Trace_ELBO())
    data = jnp.asarray(x)
    state = svi.init(jax.random.key(0), data[:batch])
    rows = np.random.default_rng(0).permutation(len(x)).reshape(-1, batch)

    @jax.jit
    def epoch(state: object, data: jax.Array, rows: jax.Array) -> tuple:
        return jax.lax.scan(lambda s, r: svi.update(s, data[r]), state, rows)

    def run() -> None:
        nonlocal state
        state, _ = jax.block_until_ready(epoch(state, data, rows))

    return run


def torch_by_hand(vae: object, x: np.ndarray, batch: int, *, fused: bool | None = None) -> object:
    """The ELBO as plain torch."""

    def mlp(sizes: list[int]) -> torch.nn.Sequential:
        layers = []
        for i, o in zip(sizes[:-1], sizes[1:], strict=True):
            layers += [torch.nn.Linear(i, o), torch.nn.Tanh()]
        return torch.nn.Sequential(*layers[:-1])

    shapes = [
        [tuple(p.shape) for k, p in net.named_parameters() if k.endswith("weight")]
        for net in (vae.networks["encoder"], vae.networks["decoder"])
    ]
    encoder, decoder = (mlp([net[0][1], *(s[0] for s in net)]) for net in shapes)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=RATE, fused=fused)
    data, latent = torch.as_tensor(x), vae.latent
    rows = torch.as_tensor(np.random.default_rng(0).permutation(len(x)).reshape(-1, batch))

    def run() -> None:
        for row in rows:
            x = data[row]
            out = encoder(x)
            loc, log_scale = out[:, :latent], out[:, latent:]
            noise = torch.randn_like(loc)
            z = loc + log_scale.exp() * noise
            likelihood = torch.nn.functional.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum")
            loss = (likelihood + (0.5 * z**2 - log_scale - 0.5 * noise**2).sum()) / len(x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return run


def pyro_svi(vae: object, x: np.ndarray, batch: int) -> object:
    """The differentiable loss of Pyro's Trace_ELBO with one torch optimizer."""
    data = torch.as_tensor(x)
    rows = torch.as_tensor(np.random.default_rng(0).permutation(len(x)).reshape(-1, batch))
    loss_of = pyro.infer.Trace_ELBO().differentiable_loss
    optimizer = torch.optim.Adam(list(vae.params.values()), lr=RATE)

    def run() -> None:
        for row in rows:
            x = data[row]
            loss = loss_of(vae.model, vae.guide, x) / len(x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return run


def main(
    engine: str = typer.Option("both", help="numpyro, pyro or both"),
    seed: int = 0,
    out: Path | None = None,
    smoke: bool = typer.Option(False, help="tiny sizes, to see that it runs"),
) -> None:
    """Measure and write the file of results."""
    results = common.Results("speed_svi", engine, seed, out)
    visible, hidden, latent, batch, steps, repeats = (12, 8, 3, 10, 5, 3) if smoke else (784, 200, 50, 100, 100, 15)
    x = (np.random.default_rng(seed).random((steps * batch, visible)) < 0.2).astype(np.float32)
    for name, dg, by_hand, host in (("numpyro", dgn, jax_by_hand, numpyro_svi), ("pyro", dgp, torch_by_hand, pyro_svi)):
        if engine in (name, "both"):

            def vae(dg: object = dg) -> object:
                return dg.VAE.init(rng=0, likelihood=dg.Bernoulli(visible), latent=latent, hidden=(hidden, hidden))

            contestants = {
                "by_hand": (by_hand(vae(), x, batch), steps),
                "host": (host(vae(), x, batch), steps),
                "ours": (trainer(dg, vae(), x, batch), steps),
            }
            if name == "pyro":
                contestants["by_hand_fused"] = torch_by_hand(vae(), x, batch, fused=True), steps
            timing = common.ratios(contestants, repeats)
            targets = {"ours": 1.05 if name == "numpyro" else 1.3}
            common.report(results, timing, name, "by_hand", targets, f"a step, batch {batch}")
            value, se = timing.ratio("ours", "host")
            note = "`fit` times the host's own objective" + ("; target at most 1.1" if name == "pyro" else "")
            results.add(f"{name}.ours_to_host.ratio", value, se=se, kind="ratio", note=note)
            if name == "pyro":
                value, se = timing.ratio("ours", "by_hand_fused")
                results.add("pyro.ours_to_fused.ratio", value, se=se, kind="ratio", note="`fit` times by_hand_fused")
    print(f"wrote {results.write().name}")


if __name__ == "__main__":
    typer.run(main)
