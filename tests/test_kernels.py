"""Kernels leave the law of their machine invariant, reach all of it, and are the hosts' own MCMC kernels."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import cases
import numpy as np
import pytest
from cases import CASES, FINITE, compiled, oracle, to_engine, to_numpy
from gates import GateError, g_test, gate_mean, once, sampled

from deepgen_ppl.kernels.block_gibbs import BlockGibbs, GibbsInfo, GibbsState

finite = pytest.mark.parametrize("name", FINITE)
REAL = [name for name in CASES if name not in FINITE]
CHAINS = 20_000
SWEEPS = 25


# --- the law of the states after a step


def pieces(name):
    """The law as a mixture over the states of discrete layers: [(p, state, (mean, covariance) of the real layers)]."""
    truth = oracle(name)
    discrete = truth.discrete(list(truth.blocks))
    real = [n for n in truth.blocks if n not in discrete]
    law, p = truth.law(discrete) if discrete else ({}, np.ones(1))
    out = []
    for k, weight in enumerate(p):
        state, gaussian = {n: x[k] for n, x in law.items()}, None
        if real:
            precision, linear, _ = truth.gaussian({n: state.get(n) for n in truth.blocks}, real)
            gaussian = np.linalg.solve(precision, linear), np.linalg.inv(precision)
        out.append((weight, state, gaussian))
    return out, real


def exact_states(name, num, seed):
    """Independent draws from the oracle's law, as NumPy arrays."""
    (mixture, real), rng, blocks = pieces(name), np.random.default_rng(seed), CASES[name].blocks
    p = np.array([weight for weight, _, _ in mixture])
    states = {n: np.zeros((num, size)) for n, (size, _) in blocks.items()}
    index = rng.choice(len(p), num, p=p / p.sum())
    for k in np.unique(index):
        rows, (_, state, gaussian) = index == k, mixture[k]
        for n, x in state.items():
            states[n][rows] = x
        if real:
            x = np.split(
                rng.multivariate_normal(*gaussian, rows.sum()), np.cumsum([blocks[n][0] for n in real])[:-1], 1
            )
            for n, value in zip(real, x, strict=True):
                states[n][rows] = value
    return states


_steps = {}


def step(dg, m, kernel, position, seed):
    """One step of chains given as NumPy arrays."""

    def one(rng, m, position):
        return kernel.step(rng, m, GibbsState(position))[0].position

    fn = compiled(dg, _steps.setdefault(kernel, one))
    rng = dg.engine.random.rng(seed)
    return to_numpy(dg, fn(rng, m, cases.arrays(dg, position, m.like)))


def g_test_states(name, position):
    """The chains against the law of all joint states."""
    truth = oracle(name)
    states, p = truth.law(list(truth.blocks))
    key = {tuple(np.concatenate([x[r] for x in states.values()])): r for r in range(len(p))}
    rows = np.concatenate([position[n] for n in states], axis=1)
    distinct, counts = np.unique(rows, axis=0, return_counts=True)
    cells = np.zeros(len(p))
    for row, count in zip(distinct, counts, strict=True):
        cells[key[tuple(row)]] = count
    g_test(cells, p / p.sum())


def check_invariant(dg, name, kernel, run=sampled):
    """Chains drawn exactly from the law still have it after one step."""
    m = cases.machine(dg, name, np.float32)

    def check(seed, factor):
        g_test_states(name, step(dg, m, kernel, exact_states(name, CHAINS * factor, seed), seed))

    run(check, 21)


def check_forgets(dg, name, kernel, run=sampled):
    """Chains that all start at one state have the law after enough sweeps."""
    m, states = cases.machine(dg, name, np.float32), oracle(name).states(list(CASES[name].blocks))

    def check(seed, factor):
        start = {n: np.repeat(x[:1], CHAINS * factor, 0) for n, x in states.items()}
        g_test_states(name, step(dg, m, kernel, start, seed))

    run(check, 22)


@finite
def test_block_gibbs_leaves_the_law(dg, name):
    check_invariant(dg, name, BlockGibbs())


@finite
def test_block_gibbs_forgets_its_start(dg, name):
    check_forgets(dg, name, BlockGibbs(SWEEPS))


def moments(name, position):
    """All values of a row, and all products of two."""
    x = np.concatenate([position[n] for n in CASES[name].blocks], axis=1)
    rows, columns = np.triu_indices(x.shape[1])
    return np.concatenate([x, x[:, rows] * x[:, columns]], axis=1)


def exact_moments_of_real(name):
    """Means and second moments of all values, from the mixture of Gaussians that the law is."""
    blocks, (mixture, real) = CASES[name].blocks, pieces(name)
    at = dict(zip(blocks, np.cumsum([0, *(size for size, _ in blocks.values())]), strict=False))
    width = sum(size for size, _ in blocks.values())
    inside = np.concatenate([np.arange(at[n], at[n] + blocks[n][0]) for n in real])
    first, second = np.zeros(width), np.zeros((width, width))
    for p, state, (mean, covariance) in mixture:
        x = np.zeros(width)
        for n, value in state.items():
            x[at[n] : at[n] + len(value)] = value
        x[inside] = mean
        square = np.outer(x, x)
        square[np.ix_(inside, inside)] += covariance
        first, second = first + p * x, second + p * square
    return np.concatenate([first, second[np.triu_indices(width)]])


@pytest.mark.parametrize("name", REAL)
def test_block_gibbs_leaves_the_law_of_real_layers(dg, name):
    """From exact draws and from a point, first and second moments are those of the law."""
    m = cases.machine(dg, name, np.float32)
    exact = exact_moments_of_real(name)
    start = {n: np.repeat(x, CHAINS, 0) for n, x in exact_states(name, 1, 24).items()}
    for kernel, position in ((BlockGibbs(), exact_states(name, CHAINS, 25)), (BlockGibbs(SWEEPS), start)):
        got = moments(name, step(dg, m, kernel, position, 26))
        scale = got.std(0)
        gate_mean(got / scale, exact / scale, 0.01)


class Identity(BlockGibbs):
    """A planted fault: the chains stand still."""

    def step(self, rng, target, state):
        return state, GibbsInfo(1.0)


class SkipsHidden(BlockGibbs):
    """A planted fault: only the visible layer moves."""

    def step(self, rng, target, state):
        for key in target.engine.random.split(rng, 4):
            v = target.draw(key, "v", state.position)
            state = GibbsState({**state.position, "v": v})
        return state, GibbsInfo(1.0)


class AllAtOnce(BlockGibbs):
    """A planted fault: every layer is drawn given the old values of all others."""

    def step(self, rng, target, state):
        keys = target.engine.random.split(rng, len(state.position))
        drawn = zip(keys, state.position, strict=True)
        return GibbsState({n: target.draw(key, n, state.position) for key, n in drawn}), GibbsInfo(1.0)


@pytest.mark.parametrize("kernel", [Identity(), SkipsHidden()])
def test_kernels_that_do_not_reach_all_states_fail(dg, kernel):
    """They do leave the law invariant: only the start from a point shows the fault."""
    check_invariant(dg, "rbm", kernel)
    with pytest.raises(GateError, match="G ="):
        check_forgets(dg, "rbm", kernel, once)


def test_kernel_that_draws_joined_layers_at_once_fails(dg):
    with pytest.raises(GateError, match="G ="):
        check_invariant(dg, "rbm", AllAtOnce(), once)


def test_first_states_are_of_their_layers(dg):
    """`init` draws every layer as if it were alone."""
    m = cases.machine(dg, "triangle", np.float32)
    state = BlockGibbs().init(dg.engine.random.rng(0), m, 5000)
    position = to_numpy(dg, state.position)
    assert {n: x.shape for n, x in position.items()} == {"v": (5000, 3), "a": (5000, 2), "b": (5000, 1)}
    b = CASES["triangle"].params
    gate_mean(position["v"], 1 / (1 + np.exp(-b["v.bias"])), 0.05)
    gate_mean(position["a"], np.tanh(b["a.bias"]), 0.05)
    g_test(np.bincount(position["b"][:, 0].astype(int), minlength=3), np.exp(b["b.bias"]) / np.exp(b["b.bias"]).sum())


def test_same_rng_same_chains(dg):
    m, start = cases.machine(dg, "dbm2", np.float32), exact_states("dbm2", 50, 0)
    a, b, c = (step(dg, m, BlockGibbs(), start, seed) for seed in (1, 1, 2))
    assert all((a[n] == b[n]).all() for n in a)
    assert any((a[n] != c[n]).any() for n in a)


# --- inside the hosts' MCMC


def exact_moments(name):
    """Exact means of all values."""
    truth = oracle(name)
    states, p = truth.law(list(truth.blocks))
    return p @ np.concatenate(list(states.values()), axis=1)


def columns(samples):
    """Samples by chain -> (chains, draws, units) in the order of the blocks of `rbm`."""
    return np.concatenate([np.asarray(samples["v"], float), np.asarray(samples["h"], float)], axis=-1)


def batches(x, size=20):
    """Means of batches of consecutive draws of each chain, as independent repetitions."""
    chains, draws, units = x.shape
    return x.reshape(chains, draws // size, size, units).mean(2).reshape(-1, units)


def separated(dg):
    """An RBM with two deep modes, all on and all off, and a state in each."""
    w = np.full((6, 2), 5.0)
    a = to_engine(dg, {"w": w, "b": -w.sum(1) / 2, "c": -w.sum(0) / 2}, np.float32)
    start = {"v": np.repeat([[0.0], [1.0]], 6, 1), "h": np.repeat([[0.0], [1.0]], 2, 1)}
    return dg.RBM(a["w"], a["b"], a["c"]), start


def numpyro_mcmc(m, kernel=None, **options):
    from numpyro.infer import MCMC

    return MCMC((kernel or BlockGibbs()).on(m), progress_bar=False, **options)


@pytest.mark.parametrize("chain_method", ["sequential", "vectorized", "parallel"])
def test_numpyro_mcmc(dg_numpyro, chain_method):
    import jax

    m = cases.machine(dg_numpyro, "rbm_centered", np.float32)
    options = {"num_warmup": 50, "num_samples": 3000, "thinning": 2, "num_chains": 3, "chain_method": chain_method}
    mcmc = numpyro_mcmc(m, BlockGibbs(2), **options)
    mcmc.run(jax.random.key(0), extra_fields=("acceptance_rate",))
    samples = mcmc.get_samples(group_by_chain=True)
    assert {n: x.shape for n, x in samples.items()} == {"v": (3, 1500, 4), "h": (3, 1500, 3)}
    assert {n: x.shape for n, x in mcmc.get_samples().items()} == {"v": (4500, 4), "h": (4500, 3)}
    rate = mcmc.get_extra_fields(group_by_chain=True)["acceptance_rate"]
    assert rate.shape == (3, 1500)
    assert (np.asarray(rate) == 1).all()
    x = columns(samples)
    assert not np.array_equal(x[0], x[1])
    gate_mean(batches(x), exact_moments("rbm_centered"), 0.03)


def test_numpyro_many_chains_by_jax_vmap(dg_numpyro):
    """`init` and `sample` are pure: a user may map them over keys."""
    import jax

    kernel = BlockGibbs(20).on(cases.machine(dg_numpyro, "rbm", np.float32))

    def chain(key):
        return kernel.sample(kernel.init(key, 0, None, (), {}), (), {}).z

    z = jax.jit(jax.vmap(chain))(jax.random.split(jax.random.key(1), 4000))
    assert {n: x.shape for n, x in z.items()} == {"v": (4000, 4), "h": (4000, 3)}
    gate_mean(columns(z), exact_moments("rbm"), 0.03)


def test_numpyro_resume_continues_the_chains(dg_numpyro):
    """Twenty draws and twenty more are forty draws; a pickled MCMC keeps its draws and goes on."""
    import jax

    m = cases.machine(dg_numpyro, "rbm", np.float32)
    whole = numpyro_mcmc(m, num_warmup=0, num_samples=40)
    whole.run(jax.random.key(2))
    half = numpyro_mcmc(m, num_warmup=0, num_samples=20)
    half.run(jax.random.key(2))
    first = half.get_samples()
    half = pickle.loads(pickle.dumps(half))
    for n, x in half.get_samples().items():
        np.testing.assert_array_equal(x, first[n])
    half.post_warmup_state = half.last_state
    half.run(half.post_warmup_state.rng_key)
    for n, x in whole.get_samples().items():
        np.testing.assert_array_equal(np.concatenate([first[n], half.get_samples()[n]]), x)


def test_numpyro_separated_chains_have_a_large_r_hat(dg_numpyro):
    import jax
    from numpyro.diagnostics import gelman_rubin

    m, start = separated(dg_numpyro)
    mcmc = numpyro_mcmc(m, num_warmup=0, num_samples=200, num_chains=2, chain_method="vectorized")
    mcmc.run(jax.random.key(0), init_params=cases.arrays(dg_numpyro, start, m.like))
    on = np.asarray(mcmc.get_samples(group_by_chain=True)["v"]).mean(-1)
    assert on[0].mean() < 0.2
    assert on[1].mean() > 0.8
    assert gelman_rubin(on) > 1.5


def test_numpyro_takes_the_number_of_chains_from_mcmc(dg_numpyro):
    with pytest.raises(ValueError, match=r"expected num_chains in MCMC\(\.\.\., num_chains=3\)"):
        BlockGibbs().on(cases.machine(dg_numpyro, "rbm", np.float32), num_chains=3)


def pyro_mcmc(m, num_chains, kernel=None, **options):
    from pyro.infer import MCMC

    return MCMC((kernel or BlockGibbs()).on(m, num_chains=num_chains), disable_progbar=True, **options)


def test_pyro_mcmc(dg_pyro):
    """Chains move together under the host's own `num_chains=1`."""
    import pyro

    pyro.set_rng_seed(0)
    mcmc = pyro_mcmc(
        cases.machine(dg_pyro, "rbm_centered", np.float32), 300, BlockGibbs(2), num_samples=20, warmup_steps=30
    )
    mcmc.run()
    samples = {n: x.numpy() for n, x in mcmc.get_samples().items()}
    assert {n: x.shape for n, x in samples.items()} == {"v": (20, 300, 4), "h": (20, 300, 3)}
    x = columns(samples).swapaxes(0, 1)
    assert not np.array_equal(x[0], x[1])
    gate_mean(x.mean(1), exact_moments("rbm_centered"), 0.03)
    assert "divergences" in mcmc.diagnostics()


def test_pyro_runs_are_reset_and_seeded(dg_pyro):
    """The same kernel object serves one run after another; the host's seed decides."""
    import pyro

    mcmc, draws = pyro_mcmc(cases.machine(dg_pyro, "rbm", np.float32), 5, num_samples=8, warmup_steps=2), []
    for seed in (1, 1, 2):
        pyro.set_rng_seed(seed)
        mcmc.run()
        draws.append(columns({n: x.numpy() for n, x in mcmc.get_samples().items()}))
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).any()


def test_pyro_separated_chains_have_a_large_r_hat(dg_pyro):
    import pyro
    from pyro.ops.stats import gelman_rubin

    m, start = separated(dg_pyro)
    pyro.set_rng_seed(0)
    mcmc = pyro_mcmc(m, 2, num_samples=200, warmup_steps=0, initial_params=cases.arrays(dg_pyro, start, m.like))
    mcmc.run()
    on = mcmc.get_samples()["v"].mean(-1)
    assert on[:, 0].mean() < 0.2
    assert on[:, 1].mean() > 0.8
    assert gelman_rubin(on, chain_dim=1, sample_dim=0) > 1.5


@pytest.fixture
def cpus(monkeypatch):
    """`cpus(n)`: Pyro runs chains in processes of their own where it sees more than n of them, else in turn."""
    import torch.multiprocessing

    return lambda n: monkeypatch.setattr(torch.multiprocessing, "cpu_count", lambda: n)


@pytest.mark.filterwarnings("ignore:num_chains=2 is more than available_cpu:UserWarning")
@pytest.mark.parametrize("together", [1, 3])
def test_pyro_chains_of_the_hosts_own(dg_pyro, cpus, together):
    """`MCMC(num_chains=2)`: each of its chains starts anew and is a chain for ArviZ."""
    import pyro
    import torch
    from pyro.infer import MCMC
    from pyro.ops.stats import gelman_rubin

    cpus(1)
    m, start = separated(dg_pyro)
    start = {n: np.repeat(x[:, None], together, 1) for n, x in start.items()}
    pyro.set_rng_seed(0)
    mcmc = MCMC(
        BlockGibbs().on(m, num_chains=together),
        num_samples=50,
        warmup_steps=10,
        num_chains=2,
        disable_progbar=True,
        initial_params=cases.arrays(dg_pyro, start, m.like),
    )
    mcmc.run()
    position, stats = dg_pyro.engine.host.kernel.by_chain(mcmc)
    assert {n: x.shape for n, x in position.items()} == {"v": (2 * together, 50, 6), "h": (2 * together, 50, 2)}
    assert stats["acceptance_rate"].shape == (2 * together, 50)
    on = position["v"].mean(-1)
    assert (on[:together].mean(1) < 0.2).all()
    assert (on[together:].mean(1) > 0.8).all()
    assert gelman_rubin(torch.as_tensor(on), chain_dim=0, sample_dim=1) > 1.5
    az = pytest.importorskip("arviz")
    assert dg_pyro.to_arviz(mcmc, model=m).posterior["v_mean"].shape == (2 * together, 50)
    if int(az.__version__.split(".")[0]) == 0:
        assert az.from_pyro(mcmc).posterior["v"].shape == (2, 50, together, 6)


@pytest.mark.filterwarnings("ignore:num_chains=2 is more than available_cpu:UserWarning")
def test_pyro_starts_are_those_of_one_run(dg_pyro, cpus):
    """A kernel that has run from a given start runs from its own the next time; flat starts of one chain are taken."""
    import pyro
    from pyro.infer import MCMC

    cpus(1)
    m, start = separated(dg_pyro)
    start = {n: x[1:] for n, x in cases.arrays(dg_pyro, start, m.like).items()}
    kernel = BlockGibbs().on(m)
    pyro.set_rng_seed(1)
    for given in ({n: x[0] for n, x in start.items()}, start):
        mcmc = MCMC(kernel, num_samples=5, warmup_steps=0, initial_params=given, disable_progbar=True)
        mcmc.run()
        assert float(mcmc.get_samples()["v"].mean()) > 0.8
    mcmc = MCMC(kernel, num_samples=5, warmup_steps=0, disable_progbar=True)
    mcmc.run()
    assert float(mcmc.get_samples()["v"].mean()) < 0.2


IN_PROCESSES = """
import numpy as np, pyro, torch, torch.multiprocessing
from pyro.infer import MCMC
import deepgen_ppl.pyro as dg
from kernel_cases import FlipOne

torch.multiprocessing.cpu_count = lambda: 8
m = dg.RBM.init(rng=0, visible=6, hidden=2)
options = {"num_samples": 20, "warmup_steps": 5, "num_chains": 2, "disable_progbar": True}
mcmc = MCMC(FlipOne().on(m, num_chains=3), **options)
mcmc.run()
position, stats = dg.engine.host.kernel.by_chain(mcmc)
assert position["v"].shape == (6, 20, 6), position["v"].shape
assert stats["both_energies"].shape == (6, 20, 2), stats["both_energies"].shape
assert not np.array_equal(stats["both_energies"][:3], stats["both_energies"][3:])
mcmc = MCMC(dg.BlockGibbs().on(m), initial_params={"v": torch.zeros(2, 6), "h": torch.ones(2, 2)}, **options)
try:
    mcmc.run()
except ValueError as error:
    print(error)
"""


def test_pyro_chains_in_processes():
    """Pyro's processes hand their Info on; it would start them all where the last was told to, which is refused."""
    pytest.importorskip("pyro", exc_type=ModuleNotFoundError)
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here), str(here.parent)])
    done = subprocess.run(
        [sys.executable, "-c", IN_PROCESSES],
        capture_output=True, text=True, timeout=120, check=False, env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "expected kernel.on(machine, num_chains=C) in MCMC(num_chains=1) for initial_params" in done.stdout


def test_pyro_needs_a_chain(dg_pyro):
    with pytest.raises(ValueError, match="expected a positive integer for num_chains, got 0"):
        BlockGibbs().on(cases.machine(dg_pyro, "rbm", np.float32), num_chains=0)


def test_host_kernels_say_what_they_are(dg):
    m = cases.machine(dg, "rbm", np.float32)
    assert repr(BlockGibbs(3).on(m)).startswith("BlockGibbs(sweeps=3).on(RBM(v: Bernoulli(4), h: Bernoulli(3); v-h; ")


# --- a block of NumPyro's composable kernel


def test_numpyro_block_beside_hmc(dg_numpyro):
    """t ~ N(0, 1) shifts the visible biases, y ~ N(t, 1) is seen: HMC moves t and block Gibbs the machine's layers."""
    import jax
    import numpyro
    from numpyro.distributions import Normal
    from numpyro.infer import HMC, MCMC, Gibbs

    m = cases.machine(dg_numpyro, "rbm", np.float32)

    def at(t):
        return m.with_params({"v.bias": m.params["v.bias"] + t})

    def model(y):
        t = numpyro.sample("t", Normal(0.0, 1.0))
        numpyro.sample("y", Normal(t, 1.0), obs=y)
        numpyro.sample("v", at(t).marginal("v", log_normalizer="exact"))

    block = BlockGibbs(3).block(lambda sites: at(sites["t"]))
    assert repr(block).startswith("BlockGibbs(sweeps=3).block(")
    kernel = Gibbs([(block, ["v"]), (HMC(model, trajectory_length=1.0, find_heuristic_step_size=False), ["t"])])
    mcmc = MCMC(kernel, num_warmup=300, num_samples=8000, num_chains=2, chain_method="sequential", progress_bar=False)
    mcmc.run(jax.random.key(0), 0.8, extra_fields=("block_states.0.info.acceptance_rate",))
    draws = mcmc.get_samples(group_by_chain=True)
    t, v = np.asarray(draws["t"], float)[..., None], np.asarray(draws["v"], float)
    assert (np.asarray(mcmc.get_extra_fields()["block_states.0.info.acceptance_rate"]) == 1).all()

    nodes, weights = np.polynomial.hermite_e.hermegauss(30)  # t given y is N(y / 2, 1 / 2), whatever v
    case, mean, product = CASES["rbm"], 0.0, 0.0
    for node, weight in zip(0.4 + nodes / np.sqrt(2), weights / weights.sum(), strict=True):
        params = {**case.params, "v.bias": case.params["v.bias"] + node}
        states, p = type(oracle("rbm"))(case.energy, params, case.blocks).law(["v"])
        mean, product = mean + weight * (p @ states["v"]), product + weight * node * (p @ states["v"])
    got = np.concatenate([v, t * v, t], axis=-1)
    gate_mean(batches(got, 40), np.concatenate([mean, product, [0.4]]), 0.02)


def test_blocks_are_refused_where_there_are_none(dg_pyro, monkeypatch):
    from deepgen_ppl.kernels.kernel import Kernel

    m = cases.machine(dg_pyro, "rbm", np.float32)
    if Kernel.host_block is not None:  # both faces are in use
        block = BlockGibbs().block(lambda sites: m)
        with pytest.raises(TypeError, match=r"expected an energy of deepgen_ppl.numpyro .* NumPyro's Gibbs, got RBM"):
            block.init(None, 0, {}, (), {})
    monkeypatch.setattr(Kernel, "host_block", None)
    with pytest.raises(NotImplementedError, match=r"expected NumPyro .*: Pyro has no kernel made of blocks"):
        BlockGibbs().block(lambda sites: m)


def test_kernels_move_energies_and_nothing_else(dg):
    vae = dg.VAE.init(dg.Bernoulli(4), rng=0, latent=2, hidden=(3,))
    for wrong in (vae, None, "rbm"):
        with pytest.raises(TypeError, match="expected an energy, such as a Boltzmann machine, for target, got"):
            BlockGibbs().on(wrong)
