"""The table of objectives: name -> the objective and a model it trains. One more objective is one row."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["OBJECTIVES", "ObjectiveCase"]


@dataclass(frozen=True)
class ObjectiveCase:
    """One row.

    Args:
        build: `(dg)` -> the objective.
        model: `(dg, dtype)` -> a model of binary rows of width 4.
        wrong: options that are refused.
        noise_of_rows: whether each row has draws of its own.
        weights: whether rows may have weights; the contracts of steps are tested over these.
        fast: whether its contracts are among the fast tests; one objective of each kind is.
    """

    build: Callable
    model: Callable
    wrong: tuple[dict, ...] = ()
    noise_of_rows: bool = True
    weights: bool = True
    fast: bool = True


def vae(dg, dtype):
    return dg.VAE.init(rng=0, likelihood=dg.Bernoulli(4), latent=2, hidden=(3,), dtype=dtype)


def rbm(dg, dtype):
    data = np.array([[0, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 1.0]])
    return dg.RBM.init(rng=0, visible=4, hidden=3, data=data, weight_scale=0.5, dtype=dtype)


def belief_net(dg, dtype):
    return dg.SigmoidBeliefNet.init(4, hidden=(3, 2), rng=0, dtype=dtype)


def dbm(dg, dtype):
    return dg.DBM.init(rng=0, visible=4, hidden=[3, 2], weight_scale=0.5, dtype=dtype)


PARTICLES = ({"num_particles": 0}, {"num_particles": 1.5}, {"num_global": "2"})
CHAINS = ({"num_chains": 0}, {"offset_rate": 2.0}, {"offsets": "model"})

OBJECTIVES: dict[str, ObjectiveCase] = {
    "elbo": ObjectiveCase(lambda dg: dg.ELBO(num_particles=2), vae, PARTICLES),
    "elbo_closed_kl": ObjectiveCase(lambda dg: dg.ELBO(analytic_kl=True), vae),
    "iwae": ObjectiveCase(lambda dg: dg.IWAE(num_particles=3), vae, PARTICLES),
    "stochastic_ml": ObjectiveCase(
        lambda dg: dg.StochasticML(num_chains=5, offset_rate=0.1), rbm, CHAINS, noise_of_rows=False
    ),
    "stochastic_ml_deep": ObjectiveCase(
        lambda dg: dg.StochasticML(num_chains=5, hidden_bound=dg.MeanField(2)), dbm, noise_of_rows=False
    ),
    "enhanced_gradient": ObjectiveCase(
        lambda dg: dg.StochasticML(num_chains=5, offsets="average"), rbm, noise_of_rows=False
    ),
    "contrastive_divergence": ObjectiveCase(lambda dg: dg.ContrastiveDivergence(dg.BlockGibbs(2)), rbm, CHAINS[1:]),
    "rloo": ObjectiveCase(lambda dg: dg.RLOO(num_particles=2), belief_net, PARTICLES, fast=False),
    "vimco": ObjectiveCase(lambda dg: dg.VIMCO(num_particles=2), belief_net, PARTICLES, fast=False),
    "reweighted_wake_sleep": ObjectiveCase(
        lambda dg: dg.ReweightedWakeSleep(num_particles=2), belief_net, PARTICLES, fast=False
    ),
    "wake_sleep": ObjectiveCase(lambda dg: dg.WakeSleep(), belief_net, PARTICLES[1:], fast=False),
}
