"""Convolutional networks of one's own in a VAE: flax `nnx` on NumPyro, torch `nn` on Pyro.

A network maps (rows, ..) to (rows, ..): the library flattens all leading axes, particles and plates, before it.

python examples/own_network.py [--engine numpyro|pyro] [--epochs 10] [--seed 0] [--smoke]
"""

import argparse
import importlib

from deepgen_ppl import datasets

LATENT, CHANNELS = 6, 8


def flax_networks(seed):
    """Encoder (rows, 64) to (rows, 2 D), decoder (rows, D) to (rows, 64)."""
    from flax import nnx

    class Encoder(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(1, CHANNELS, kernel_size=(3, 3), strides=2, rngs=rngs)
            self.out = nnx.Linear(4 * 4 * CHANNELS, 2 * LATENT, rngs=rngs)

        def __call__(self, x):
            x = nnx.relu(self.conv(x.reshape(-1, 8, 8, 1)))
            return self.out(x.reshape(len(x), -1))

    class Decoder(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(LATENT, 4 * 4 * CHANNELS, rngs=rngs)
            self.conv = nnx.ConvTranspose(CHANNELS, 1, kernel_size=(3, 3), strides=(2, 2), rngs=rngs)

        def __call__(self, z):
            z = nnx.relu(self.first(z)).reshape(-1, 4, 4, CHANNELS)
            return self.conv(z).reshape(len(z), 64)

    return Encoder(nnx.Rngs(seed)), Decoder(nnx.Rngs(seed + 1))


def torch_networks(seed):
    """The same on torch; its layers draw their first weights from the global generator, forked here."""
    import torch
    from torch import nn

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = nn.Sequential(
            nn.Unflatten(-1, (1, 8, 8)),
            nn.Conv2d(1, CHANNELS, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(4 * 4 * CHANNELS, 2 * LATENT),
        )
        decoder = nn.Sequential(
            nn.Linear(LATENT, 4 * 4 * CHANNELS),
            nn.ReLU(),
            nn.Unflatten(-1, (CHANNELS, 4, 4)),
            nn.ConvTranspose2d(CHANNELS, 1, 3, stride=2, padding=1, output_padding=1),
            nn.Flatten(),
        )
    return encoder, decoder


def main():
    """Train, then bound log p(x)."""
    parser = argparse.ArgumentParser(description="Convolutional networks in a VAE.")
    parser.add_argument("--engine", choices=("numpyro", "pyro"), default="numpyro")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="a few seconds: little data, one epoch")
    args = parser.parse_args()

    dg = importlib.import_module(f"deepgen_ppl.{args.engine}")
    encoder, decoder = (flax_networks if args.engine == "numpyro" else torch_networks)(args.seed)
    digits = datasets.load("digits")
    rows, epochs = (100, 1) if args.smoke else (None, args.epochs)
    x, held_out = digits.train[:rows], digits.test[:rows]

    vae = dg.VAE.init(rng=args.seed, likelihood=dg.Bernoulli(64), latent=LATENT, encoder=encoder, decoder=decoder)
    print(vae)
    objective = dg.IWAE(num_particles=5)
    vae = dg.fit(vae, x, objective=objective, optimizer=dg.adam(2e-3), epochs=epochs, batch_size=20, rng=0).model
    options = dg.BoundsOptions(num_particles=100 if args.smoke else 1000)
    lower = dg.bounds(vae, held_out, rng=args.seed, options=options).lower
    print(f"mean log p(x) over {len(held_out)} test data >= {lower.value:.2f} nats ({lower.method})")


if __name__ == "__main__":
    main()
