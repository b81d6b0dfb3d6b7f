"""Train an RBM, a DBM and a VAE on 8 x 8 digits, and compare them by bounds on log p(x).

python examples/compare_digits.py [--engine numpyro|pyro] [--epochs 20] [--seed 0] [--smoke]
"""

import argparse
import importlib

from deepgen_ppl import datasets


def main():
    """Train, compare, print."""
    parser = argparse.ArgumentParser(description="Compare an RBM, a DBM and a VAE on digits.")
    parser.add_argument("--engine", choices=("numpyro", "pyro"), default="numpyro")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="a few seconds: little data, small models")
    args = parser.parse_args()

    dg = importlib.import_module(f"deepgen_ppl.{args.engine}")
    digits = datasets.load("digits")
    rows, hidden, epochs = (100, 5, 1) if args.smoke else (None, 16, args.epochs)
    x, held_out = digits.train[:rows], digits.test[:rows]
    print(digits.note)

    rbm = dg.RBM.init(rng=args.seed, visible=64, hidden=hidden, data=x)
    dbm = dg.DBM.init(rng=args.seed, visible=64, hidden=(4 * hidden, hidden), data=x)
    vae = dg.VAE.init(rng=args.seed, likelihood=dg.Bernoulli(64), latent=8, hidden=(100,), data=x)
    common = {"epochs": epochs, "batch_size": 20, "rng": args.seed}
    models = {
        "rbm": dg.fit(rbm, x, objective=dg.StochasticML(num_chains=100), optimizer=dg.sgd(0.1), **common).model,
        "dbm": dg.fit(dbm, x, objective=dg.StochasticML(num_chains=100), optimizer=dg.sgd(0.1), **common).model,
        "vae": dg.fit(vae, x, objective=dg.IWAE(num_particles=5), optimizer=dg.adam(2e-3), **common).model,
    }
    options = dg.BoundsOptions(num_particles=100, betas=50, num_runs=100) if args.smoke else None
    print(dg.compare(models, held_out, rng=args.seed, options=options))


if __name__ == "__main__":
    main()
