"""Parallel tempering: it crosses between modes where block Gibbs stays, inside both hosts' MCMC."""

import cases
import numpy as np
import pytest
from cases import to_engine, to_numpy
from gates import gate, sampled
from scipy.special import logsumexp

VISIBLE, HIDDEN, CHAINS, WARMUP, DRAWS = 12, 4, 256, 200, 100
LADDER = tuple(np.linspace(0, 1, 12) ** 0.7)


def two_modes(dg):
    """All on or all off, at odds of about 4 : 1, about offsets of one half; (machine, exact log odds)."""
    noise = np.random.default_rng(0).standard_normal((VISIBLE, HIDDEN))
    w = 4.0 + 0.1 * noise
    v = np.indices((2,) * VISIBLE).reshape(VISIBLE, -1).T - 0.5
    more, less = v.mean(1) > 0, v.mean(1) < 0

    def log_odds(b):
        log_f = v @ b + (np.logaddexp(0, v @ w) - 0.5 * (v @ w)).sum(1)
        return logsumexp(log_f[more]) - logsumexp(log_f[less])

    b = (np.log(4) - log_odds(np.zeros(VISIBLE))) / VISIBLE * np.ones(VISIBLE)
    bare = dg.RBM.init(VISIBLE, HIDDEN, rng=0)
    params = {"v.bias": b, "h.bias": np.zeros(HIDDEN), "v-h.weight": w}
    constants = {"v.offset": np.full(VISIBLE, 0.5), "h.offset": np.full(HIDDEN, 0.5)}
    m = bare.with_params(to_engine(dg, params, np.float32)).with_constants(to_engine(dg, constants, np.float32))
    return m, log_odds(b)


def run(dg, kernel, m, seed, factor):
    """Values of v after the warmup, (chains, draws, units), of chains that all start with every unit off; the stats."""
    chains = CHAINS * factor
    off = cases.arrays(dg, {"v": np.zeros((chains, VISIBLE)), "h": np.zeros((chains, HIDDEN))}, m.like)
    if dg.engine.name == "numpyro":
        import jax
        from numpyro.infer import MCMC

        mcmc = MCMC(
            kernel.on(m), num_warmup=WARMUP, num_samples=DRAWS, num_chains=chains, chain_method="vectorized",
            progress_bar=False,
        )  # fmt: skip
        mcmc.run(jax.random.key(seed), init_params=off)
    else:
        import pyro
        import torch
        from pyro.infer import MCMC

        with torch.random.fork_rng(devices=[]):
            pyro.set_rng_seed(seed)
            kernel = kernel.on(m, num_chains=chains)
            mcmc = MCMC(kernel, num_samples=DRAWS, warmup_steps=WARMUP, initial_params=off, disable_progbar=True)
            mcmc.run()
    position, stats = dg.engine.host.kernel.by_chain(mcmc)
    return position["v"], stats


def test_odds_of_two_modes(dg):
    """256 chains that all start in the smaller mode find the odds; block Gibbs does not leave it."""
    m, exact = two_modes(dg)
    assert exact == pytest.approx(np.log(4), abs=0.1)
    seen = {}

    def check(seed, factor):
        v, stats = run(dg, dg.ParallelTempering(LADDER), m, seed, factor)
        on = (v.mean(-1) > 0.5).mean(1)
        p = on.mean()
        gate(np.log(p / (1 - p)), on.std(ddof=1) / np.sqrt(len(on)) / (p * (1 - p)), exact, len(on), 0.1)
        seen.update(stats)

    sampled(check, 51)
    swaps = seen["swap_rate"].mean((0, 1))
    assert swaps.shape == (len(LADDER) - 1,)
    assert (swaps > 0.2).all()
    assert seen["visits"][:, -1].mean() > 3
    assert (np.diff(seen["visits"], axis=1) >= 0).all()
    assert (np.sort(seen["index"], -1) == np.arange(len(LADDER))).all()
    v, _ = run(dg, dg.BlockGibbs(), m, 52, 1)
    assert ((v.mean(-1) > 0.5).any(1)).mean() < 0.01


def test_equal_temperatures_always_swap(dg):
    """With probability exactly 1, so that the replicas rotate: even pairs, then odd ones."""
    m, kernel = cases.machine(dg, "dbm3_centered", np.float32), dg.ParallelTempering((1.0, 1.0, 1.0, 1.0))
    state = kernel.init(dg.engine.random.rng(0), m, 50)
    for seed, expected in enumerate(([1, 0, 3, 2], [1, 3, 0, 2], [3, 1, 2, 0])):
        state, info = kernel.step(dg.engine.random.rng(seed), m, state)
        assert (to_numpy(dg, info.swap_rate) == 1).all()
        np.testing.assert_array_equal(to_numpy(dg, info.index), np.tile(expected, (50, 1)))


def test_swaps_move_states_and_labels_alike(dg):
    """Real units, whose values tell the replicas apart: nothing but the order changes where nothing is swept."""
    from deepgen_ppl.kernels.parallel_tempering import _order

    swap = dg.engine.arrays.asarray(np.array([[True, False, True], [False, False, False], [False, True, False]]))
    expected = [[1, 0, 3, 2], [0, 1, 2, 3], [0, 2, 1, 3]]
    np.testing.assert_array_equal(to_numpy(dg, _order(dg.engine.xp, swap)), expected)


def test_swap_ratio_is_that_of_free_energies(dg, double):
    """log f_r(x_(r+1)) + log f_(r+1)(x_r) - log f_r(x_r) - log f_(r+1)(x_(r+1)), at 1e-10, by machines on the path."""
    from deepgen_ppl.energies.path import Path

    m, betas = cases.machine(dg, "dbm3_centered"), (0.0, 0.3, 0.3, 1.0)
    path, rng = Path(m.decoupled(), m), np.random.default_rng(0)
    keep = {
        n: rng.integers(0, 2, (6, 4, cases.CASES["dbm3_centered"].blocks[n][0])) for n in m.structure.smaller_side[0]
    }
    keep = cases.arrays(dg, keep, m.like)
    beta = dg.engine.arrays.asarray(np.array(betas), like=m.like)
    got = to_numpy(dg, dg.ParallelTempering._log_ratio(path, keep, path.summed_out(keep), beta))
    log_f = np.stack([-to_numpy(dg, path.at(b).free_energy(keep)) for b in betas])  # (temperature, chain, replica)
    for r in range(3):
        expected = log_f[r, :, r + 1] + log_f[r + 1, :, r] - log_f[r, :, r] - log_f[r + 1, :, r + 1]
        np.testing.assert_allclose(got[:, r], expected, atol=1e-10)


@pytest.mark.parametrize("betas", [1, 0, [1.0], [0.0, 0.5], [0.5, 0.2, 1.0], [-0.1, 1.0], [[0.0, 1.0]], [np.nan, 1.0]])
def test_bad_ladders_are_refused(dg, betas):
    with pytest.raises(
        ValueError, match=r"expected (at least two inverse temperatures that rise|an integer of at least 2)"
    ):
        dg.ParallelTempering(betas)


def test_options(dg):
    assert dg.ParallelTempering(3).betas == dg.ParallelTempering(np.array([0.0, 0.5, 1.0])).betas == (0.0, 0.5, 1.0)
    assert hash(dg.ParallelTempering(3)) == hash(dg.ParallelTempering((0, 0.5, 1)))
