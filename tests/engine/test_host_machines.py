"""Bridges of machines to the hosts: marginals, kernels and contrastive steps."""

import numpy as np
import pytest
from helpers import array, numpy
from rows import covers, small_rbm
from scipy import special


def marginal_table(w, b, c):
    """p(v) of an RBM with three visible units, by enumeration."""
    v = np.array(list(np.ndindex(2, 2, 2)), float)
    log_f = v @ b + np.logaddexp(0, c + v @ w).sum(-1)
    return v, log_f - special.logsumexp(log_f)


@covers("host.marginal")
def test_marginal_is_the_enumerated_law(dg):
    machine, arrays = small_rbm(dg)
    v, log_p = marginal_table(*arrays)
    law = machine.marginal("v", log_normalizer="exact")
    assert isinstance(law, dg.engine.host.marginal)
    assert tuple(law.event_shape) == (3,)
    np.testing.assert_allclose(numpy(dg, law.log_prob(array(dg, v))), log_p, rtol=1e-5, atol=1e-5)


def deterministic_rbm(dg):
    """Visible biases so large that every chain is at (1, 0, 1) from the first step on."""
    w = np.random.default_rng(0).normal(size=(3, 2))
    b, c = np.array([60.0, -60.0, 60.0]), np.array([0.3, -0.7])
    return dg.RBM(*(x.astype(np.float32) for x in (w, b, c))), (w, b, c), np.array([1.0, 0.0, 1.0])


@covers("host.kernel")
def test_kernel_runs_in_the_hosts_mcmc(dg):
    machine, _, expected = deterministic_rbm(dg)
    kernel = dg.engine.host.kernel(dg.BlockGibbs(), machine, 1)
    if dg.engine.name == "numpyro":
        import jax
        from numpyro.infer import MCMC
        from numpyro.infer.mcmc import MCMCKernel

        mcmc = MCMC(kernel, num_warmup=1, num_samples=4, progress_bar=False)
        mcmc.run(jax.random.key(0))
    else:
        from pyro.infer import MCMC
        from pyro.infer.mcmc.mcmc_kernel import MCMCKernel

        mcmc = MCMC(kernel, warmup_steps=1, num_samples=4, disable_progbar=True)
        mcmc.run()
    assert isinstance(kernel, MCMCKernel)
    draws = mcmc.get_samples()
    assert set(draws) == {"v", "h"}
    np.testing.assert_array_equal(numpy(dg, draws["v"]).reshape(4, 3), np.tile(expected, (4, 1)))


@covers("host.contrastive", "host.persistent")
def test_contrastive_step_inside_the_hosts_svi(dg, param_store):
    """Chains that cannot move make the gradient exact: db = sum_n (x_n - v~), dW = sum_n (x_n p_n' - v~ p~')."""
    machine, (w, b, c), v = deterministic_rbm(dg)
    x = np.array([[1, 1, 0], [0, 1, 1], [1, 0, 0], [0, 0, 0]], float)
    learner = dg.StochasticML(num_chains=7, offset_rate=0.0).on(machine, rng=1)
    rate = 1e-3
    if dg.engine.name == "numpyro":
        import jax
        import optax
        from numpyro.infer import SVI

        svi = SVI(learner.model, learner.guide, optax.sgd(rate), learner.loss)
        state = svi.init(jax.random.key(0), array(dg, x))
        state, _ = svi.update(state, array(dg, x))
        params, chains = svi.get_params(state), state.mutable_state["chains"]
    else:
        import pyro
        from pyro.infer import SVI

        svi = SVI(learner.model, learner.guide, pyro.optim.SGD({"lr": rate}), learner.loss)
        svi.step(array(dg, x))
        params, chains = learner.machine.params, learner.chains
    np.testing.assert_array_equal(numpy(dg, chains.position["v"]), np.tile(v, (7, 1)))
    expit = special.expit
    gradients = {
        "v.bias": (x - v).sum(0),
        "h.bias": expit(c + x @ w).sum(0) - 4 * expit(c + v @ w),
        "v-h.weight": x.T @ expit(c + x @ w) - 4 * np.outer(v, expit(c + v @ w)),
    }
    for (name, gradient), old in zip(gradients.items(), (b, c, w), strict=True):
        moved = (numpy(dg, params[name]).astype(float) - old.astype(np.float32)) / rate
        np.testing.assert_allclose(moved, gradient, atol=6e-3 if name == "v.bias" else 1e-3, err_msg=name)


def test_contrastive_has_no_value(dg, param_store):
    machine, *_ = deterministic_rbm(dg)
    learner = dg.StochasticML(num_chains=3).on(machine)
    arguments = (learner.model, learner.guide, array(dg, np.ones((2, 3))))
    if dg.engine.name == "numpyro":
        import jax

        arguments = (jax.random.key(0), learner.machine.params, *arguments)
    with pytest.raises(RuntimeError, match="expected an objective with a value, got StochasticML"):
        learner.loss.loss(*arguments)
