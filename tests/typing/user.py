"""What type checkers know of a user's lines: read by mypy in `make types`, never run."""

from typing import assert_type

import numpy as np

import deepgen_ppl.numpyro as dg
import deepgen_ppl.pyro as dp

x = np.zeros((4, 6), np.float32)

rbm = dg.RBM.init(6, 3, rng=0)
assert_type(rbm, dg.RBM)
assert_type(rbm.with_params({}), dg.RBM)
assert_type(rbm.astype("float64"), dg.RBM)
assert_type(rbm.recentered({}), dg.RBM)
assert_type(dg.fit(rbm, x), dg.Fit[dg.RBM])
assert_type(dg.fit(rbm, x).model, dg.RBM)
assert_type(dg.fit(rbm, x, objective=dg.StochasticML(num_chains=5)).model.with_constants({}), dg.RBM)
assert_type(dg.DBM.init(6, [3, 2], rng=0), dg.DBM)
assert_type(dg.GaussianBernoulliRBM.init(6, 3, rng=0), dg.GaussianBernoulliRBM)

vae = dg.VAE.init(dg.Bernoulli(6), 2, rng=0)
assert_type(dg.fit(vae, x).model, dg.VAE)
assert_type(dg.fit(vae, x, objective=dg.IWAE(num_particles=5)).history, dict[str, list[float]])

rbm_torch = dp.RBM.init(6, 3, rng=0)
assert_type(rbm_torch, dp.RBM)
assert_type(rbm_torch.with_params({}), dp.RBM)
assert_type(dp.fit(rbm_torch, x).model, dp.RBM)
assert_type(dp.fit(dp.VAE.init(dp.Bernoulli(6), 2, rng=0), x).model, dp.VAE)

assert_type(dg.bounds(rbm, x, rng=0), dg.Bounds)
assert_type(dg.ais(rbm, rng=0), dg.LogNormalizer)
assert_type(dg.compare({"rbm": rbm, "vae": vae}, x, rng=0), dg.Comparison)
