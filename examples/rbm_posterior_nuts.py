"""The posterior over the weights of a small RBM, by NumPyro's NUTS.

    W_ij ~ Normal(0, 1),   b_i, c_j ~ Normal(0, 1),   x_n ~ p(v) of the RBM with these parameters

The marginal with `log_normalizer="exact"` computes log Z anew from the parameters, so that the likelihood is normalized
and differentiable. Hidden units permute, so only what does not depend on their order is reported: the visible biases
permute with nothing, and log p(x) of held-out data is averaged over the draws.

python examples/rbm_posterior_nuts.py [--samples 500] [--seed 0] [--smoke]
"""

import argparse

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist

import deepgen_ppl.numpyro as dg


def bars_and_stripes(num, seed):
    """3 x 3 images whose rows, or whose columns, are all on or all off: (num, 9)."""
    rng = np.random.default_rng(seed)
    lines = rng.integers(0, 2, (num, 3))
    images = np.repeat(lines[:, :, None], 3, axis=2)
    flip = rng.random(num) < 0.5
    images[flip] = images[flip].transpose(0, 2, 1)
    return images.reshape(num, 9).astype(np.float32)


def main():
    """Sample, then predict."""
    parser = argparse.ArgumentParser(description="NUTS over the weights of an RBM.")
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="a few seconds: few samples")
    args = parser.parse_args()
    hidden, samples, chains = (2, 10, 1) if args.smoke else (4, args.samples, 2)

    x, held_out = bars_and_stripes(100, args.seed), bars_and_stripes(200, args.seed + 1)
    rbm = dg.RBM.init(rng=args.seed, visible=9, hidden=hidden, centered=False)

    def model(x):
        weight = numpyro.sample("weight", dist.Normal(0, 1).expand([9, hidden]).to_event(2))
        visible_bias = numpyro.sample("visible_bias", dist.Normal(0, 1).expand([9]).to_event(1))
        hidden_bias = numpyro.sample("hidden_bias", dist.Normal(0, 1).expand([hidden]).to_event(1))
        machine = rbm.with_params({"v-h.weight": weight, "v.bias": visible_bias, "h.bias": hidden_bias})
        with numpyro.plate("data", len(x)):
            numpyro.sample("x", machine.marginal("v", log_normalizer="exact"), obs=x)

    nuts = numpyro.infer.NUTS(model, max_tree_depth=4 if args.smoke else 8)
    mcmc = numpyro.infer.MCMC(
        nuts, num_warmup=samples, num_samples=samples, num_chains=chains, chain_method="sequential", progress_bar=False
    )
    mcmc.run(jax.random.key(args.seed), x)
    draws = mcmc.get_samples()
    log_p = numpyro.infer.log_likelihood(model, draws, held_out)["x"]  # (draws, N)
    log_mean = jax.nn.logsumexp(log_p, axis=0) - np.log(len(log_p))
    print(f"divergences: {int(mcmc.get_extra_fields()['diverging'].sum())}")
    print(f"visible biases, posterior mean: {np.asarray(draws['visible_bias'].mean(0)).round(2)}")
    error = float(log_mean.std() / np.sqrt(len(log_mean)))
    print(f"log p(held-out), averaged over {len(log_p)} draws: {float(log_mean.mean()):.2f} +- {error:.2f} nats")


if __name__ == "__main__":
    main()
