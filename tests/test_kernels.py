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
from gates import LEVEL, GateError, g_test, gate_mean, once, sampled
from kernel_cases import KERNELS, placed

from deepgen_ppl.kernels.block_gibbs import BlockGibbs, GibbsInfo, GibbsState

REAL = [name for name in CASES if name not in FINITE]
CHAINS = 20_000
MANY = 200_000
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


def some(rows, fast):
    """Parameters of which only the fast ones are not marked slow: a contract of 2e5 chains costs seconds a row."""
    return [pytest.param(*row, marks=() if fast(i, row) else pytest.mark.slow) for i, row in enumerate(rows)]


ROWS = [(kernel, target) for kernel, row in KERNELS.items() for target in row.targets]
rows = pytest.mark.parametrize(("kind", "name"), some(ROWS, lambda i, row: row[1] == KERNELS[row[0]].targets[-1]))
machines = pytest.mark.parametrize("name", some([(name,) for name in FINITE], lambda i, row: i % 4 == 0))
"""Every fourth machine: all of them in the slow tests."""


def draws_at(name, num, seed):
    """`draw(beta)` -> exact draws with the weights times beta: the law of a replica."""
    case = CASES[name]

    def draw(beta):
        if beta == 1.0:
            return exact_states(name, num, seed)
        params = {k: beta * v if k.endswith(".weight") else v for k, v in case.params.items()}
        truth = type(oracle(name))(case.energy, {**params, **case.constants}, case.blocks)
        states, p = truth.law(list(case.blocks))
        index = np.random.default_rng([seed, int(100 * beta)]).choice(len(p), num, p=p / p.sum())
        return {n: x[index] for n, x in states.items()}

    return draw


_steps = {}


def steps(dg, m, kernel, state, seed, count=1):
    """State and Info after `count` steps."""

    def many(rng, m, state):
        def one(state, key):
            return kernel.step(key, m, state)[0], None

        keys = m.engine.random.split(rng, count)
        if count > 1:
            state = m.engine.control.loop(one, state, keys[: count - 1])[0]
        return kernel.step(keys[count - 1], m, state)

    fn = compiled(dg, _steps.setdefault((kernel, count), many))
    return fn(dg.engine.random.rng(seed), m, state)


def step(dg, m, kernel, position, seed, count=1):
    """Positions after `count` steps of chains given as NumPy arrays."""
    return to_numpy(dg, steps(dg, m, kernel, placed(kernel, m, position), seed, count)[0].position)


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


def check_invariant(dg, name, kernel, run=sampled, exact_state=None, chains=CHAINS):
    """Chains drawn exactly from the law still have it after one step."""
    m = cases.machine(dg, name, np.float32)

    def check(seed, factor):
        draw = draws_at(name, chains * factor, seed)
        state = exact_state(kernel, m, draw) if exact_state else placed(kernel, m, draw(1.0))
        g_test_states(name, to_numpy(dg, steps(dg, m, kernel, state, seed)[0].position))

    run(check, 21)


def check_forgets(dg, name, kernel, run=sampled, count=1):
    """Chains that all start at one state have the law after enough sweeps."""
    m, states = cases.machine(dg, name, np.float32), oracle(name).states(list(CASES[name].blocks))

    def check(seed, factor):
        start = {n: np.repeat(x[:1], CHAINS * factor, 0) for n, x in states.items()}
        g_test_states(name, step(dg, m, kernel, start, seed, count))

    run(check, 22)


# --- contracts of every kernel


@rows
def test_kernel_leaves_the_law(dg, kind, name):
    row = KERNELS[kind]
    check_invariant(dg, name, row.kernel, exact_state=row.exact_state, chains=MANY)


@rows
def test_kernel_forgets_its_start(dg, kind, name):
    check_forgets(dg, name, KERNELS[kind].kernel, count=KERNELS[kind].steps)


def index_of(name, position):
    """Number of the joint state of each row, in the order of the oracle's."""
    states = oracle(name).states(list(CASES[name].blocks))
    table = np.concatenate(list(states.values()), axis=1)
    key = {tuple(row): k for k, row in enumerate(table)}
    rows, back = np.unique(np.concatenate([position[n] for n in states], axis=1), axis=0, return_inverse=True)
    return np.array([key[tuple(row)] for row in rows])[back.ravel()], len(table)


def asymmetry(dg, name, kernel, seed, factor):
    """N(x, x') - N(x', x) over the pairs of states that were seen, in units of its standard error, of one step."""
    before = exact_states(name, MANY * factor, seed)
    after = step(dg, cases.machine(dg, name, np.float32), kernel, before, seed)
    (x, count), (y, _) = index_of(name, before), index_of(name, after)
    pairs = np.zeros((count, count))
    np.add.at(pairs, (x, y), 1)
    both = np.triu(pairs + pairs.T, 1)
    enough = both >= 10
    return (np.triu(pairs - pairs.T, 1)[enough] / np.sqrt(both[enough])), pairs


def check_reversible(dg, name, kernel, run=sampled):
    """N(x, x') = N(x', x) from exact draws: one chi-square over all pairs."""
    from scipy.stats import chi2

    def check(seed, factor):
        z, _ = asymmetry(dg, name, kernel, seed, factor)
        if not (len(z) > 20 and chi2.sf(float(z @ z), len(z)) > LEVEL):
            raise GateError(f"chi-square {z @ z:.1f} over {len(z)} pairs")

    run(check, 23)


@pytest.mark.parametrize(("kind", "name"), [row for row in ROWS if KERNELS[row[0]].reversible])
def test_reversible_kernels_are(dg, kind, name):
    check_reversible(dg, name, KERNELS[kind].kernel)


def test_block_gibbs_is_not_reversible(dg):
    """The check can fail: a fixed scan over three layers goes one way round."""
    with pytest.raises(GateError, match="chi-square"):
        check_reversible(dg, "dbm2", BlockGibbs(), once)


def host_run(dg, kernel, m, chains, *, start=None, draws=12, chain_method="vectorized", extra=()):
    """A run of the host's own MCMC."""
    if dg.engine.name == "numpyro":
        import jax
        from numpyro.infer import MCMC

        options = {"num_warmup": 3, "num_samples": draws, "num_chains": chains, "chain_method": chain_method}
        mcmc = MCMC(kernel.on(m), progress_bar=False, **options)
        mcmc.run(jax.random.key(0), init_params=start, extra_fields=extra)
        return mcmc
    import pyro
    from pyro.infer import MCMC

    pyro.set_rng_seed(0)
    kernel = kernel.on(m, num_chains=chains)
    mcmc = MCMC(kernel, num_samples=draws, warmup_steps=3, initial_params=start, disable_progbar=True)
    mcmc.run()
    return mcmc


@pytest.mark.parametrize("kind", KERNELS)
def test_info_reaches_arviz(dg, kind):
    """Every field, whatever its shape, by chain and draw."""
    arviz = pytest.importorskip("deepgen_ppl.diagnostics.arviz")
    row, m = KERNELS[kind], cases.machine(dg, "rbm_centered", np.float32)
    mcmc = host_run(dg, row.kernel, m, 3, extra=tuple(f"info.{k}" for k in row.info))
    if dg.engine.name == "numpyro":
        extra = mcmc.get_extra_fields(group_by_chain=True)
        assert {f"info.{k}": (3, 12, *shape) for k, shape in row.info.items()}.items() <= {
            k: v.shape for k, v in extra.items()
        }.items()
    stats = arviz.to_arviz(mcmc, model=m).sample_stats
    assert {k: stats[k].shape for k in row.info} == {k: (3, 12, *shape) for k, shape in row.info.items()}
    assert not np.isnan([stats[k].values.astype(float).sum() for k in row.info]).any()
    energy = cases.oracle("rbm_centered").energies
    position, _ = dg.engine.host.kernel.by_chain(mcmc)
    np.testing.assert_allclose(stats["energy"][0], energy({n: x[0] for n, x in position.items()}), atol=1e-4)


@pytest.mark.parametrize("kind", KERNELS)
@pytest.mark.parametrize("chain_method", [pytest.param(m, marks=pytest.mark.slow) for m in ("sequential", "parallel")])
def test_numpyro_chain_methods(dg_numpyro, kind, chain_method):
    """The same chains from the same keys, and no two alike."""
    m = cases.machine(dg_numpyro, "rbm_centered", np.float32)
    mcmc = host_run(dg_numpyro, KERNELS[kind].kernel, m, 3, chain_method=chain_method, draws=30)
    v = np.asarray(mcmc.get_samples(group_by_chain=True)["v"])
    assert v.shape == (3, 30, 4)
    other = host_run(dg_numpyro, KERNELS[kind].kernel, m, 3, chain_method="vectorized", draws=30)
    np.testing.assert_array_equal(v, np.asarray(other.get_samples(group_by_chain=True)["v"]))
    assert not np.array_equal(v[0], v[1])


@pytest.mark.parametrize("kind", [k for k, row in KERNELS.items() if "swap_rate" not in row.info])
def test_separated_chains_have_a_large_r_hat(dg, kind):
    """Two chains that never leave their modes are seen to be two."""
    m, start = separated(dg)
    mcmc = host_run(dg, KERNELS[kind].kernel, m, 2, start=cases.arrays(dg, start, m.like), draws=200)
    on = dg.engine.host.kernel.by_chain(mcmc)[0]["v"].mean(-1)
    within, between = on.var(1, ddof=1).mean(), on.mean(1).var(ddof=1)
    assert on[0].mean() < 0.2
    assert on[1].mean() > 0.8
    assert 199 / 200 * within + between > 1.5**2 * within  # R-hat above 1.5, also where both stand still


# --- block Gibbs


@machines
def test_block_gibbs_leaves_the_law(dg, name):
    check_invariant(dg, name, BlockGibbs())


@machines
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


@pytest.mark.slow
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
