"""Four families on one measure: PPCA, a flow, a VAE and an RBM of real vectors in one table.

The data are the first principal components of 8 x 8 digits, divided by one number, so that every model is a density on
R^V. PPCA, the flow and the RBM have an exact log p(x), the last by summing over its hidden states; the VAE has a lower
side. So each can be shown to be better than those of the three that it beats, and none to be better than the VAE.

python examples/one_measure.py [--engine numpyro|pyro] [--epochs 100] [--seed 0] [--smoke]
"""

import argparse
import importlib

import numpy as np

from deepgen_ppl import datasets


def components(width):
    """(train, test) of the first principal components of the training rows, over the first one's standard deviation."""
    from sklearn.datasets import load_digits

    images = load_digits().data
    images = images[datasets.fixed_permutation(len(images))]
    train, test = images[:1297], images[1297:]
    axes = np.linalg.svd(train - train.mean(0), full_matrices=False)[2][:width]
    x, held_out = ((rows - train.mean(0)) @ axes.T for rows in (train, test))
    scale = x[:, 0].std()
    return (x / scale).astype(np.float32), (held_out / scale).astype(np.float32)


def untrained(dg, x, *, hidden, seed):
    """The four models; PPCA has its maximum in closed form, the others start from the data's means."""
    width = x.shape[1]
    return {
        "ppca": dg.PPCA.maximum_likelihood(x, latent=2),
        "flow": dg.RealNVP.init(width, rng=seed, depth=6, hidden=(hidden,), data=x),
        "vae": dg.VAE.init(dg.Gaussian(width, scale=None), latent=width, hidden=(hidden,), rng=seed, data=x),
        "rbm": dg.GaussianBernoulliRBM.init(width, 8, rng=seed, visible_scale=0.5, data=x),
    }


def trained(dg, models, x, *, epochs, seed):
    """The same after `fit`."""
    common = {"epochs": epochs, "batch_size": 50, "rng": seed}
    how = {
        "flow": {"optimizer": dg.adam(2e-3)},
        "vae": {"objective": dg.IWAE(num_particles=5), "optimizer": dg.adam(2e-3)},
        "rbm": {"objective": dg.StochasticML(num_chains=100), "optimizer": dg.sgd(0.02)},
    }
    return models | {name: dg.fit(models[name], x, **options, **common).model for name, options in how.items()}


def main():
    """Train, compare, print."""
    parser = argparse.ArgumentParser(description="PPCA, a flow, a VAE and an RBM on one measure.")
    parser.add_argument("--engine", choices=("numpyro", "pyro"), default="numpyro")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="a few seconds: few epochs, small models")
    args = parser.parse_args()

    dg = importlib.import_module(f"deepgen_ppl.{args.engine}")
    x, held_out = components(4)
    epochs, hidden = (1, 8) if args.smoke else (args.epochs, 50)
    models = trained(dg, untrained(dg, x, hidden=hidden, seed=args.seed), x, epochs=epochs, seed=args.seed)
    options = dg.BoundsOptions(num_particles=50 if args.smoke else 1000)
    print(dg.compare(models, held_out, rng=args.seed, options=options))


if __name__ == "__main__":
    main()
