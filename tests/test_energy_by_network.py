"""Energies of a user's own, by a formula or by a network, are trained, annealed, compared and saved like machines."""

import copy
import importlib

import numpy as np
import pytest
from energy_cases import ENERGIES, FINITE, REAL, SIZES, build, network
from gates import GateError, g_test, gate_mean, sampled
from scipy import special

from deepgen_ppl.energies.energy_path import EnergyPath
from deepgen_ppl.log_z.policies import negative_phase

names = pytest.mark.parametrize("name", ENERGIES)
finite = pytest.mark.parametrize("name", FINITE)


def dear(keys, values, *fast):
    """Parameters of which only the fast ones are not marked slow: what is compiled costs seconds a row."""
    return pytest.mark.parametrize(
        keys, [pytest.param(*row, marks=() if row in fast else pytest.mark.slow) for row in values]
    )


def to_numpy(dg, x):
    return np.asarray(dg.engine.arrays.to_numpy(x), float)


def array(dg, x, like):
    return dg.engine.arrays.asarray(np.asarray(x), like=like)


def on(dg, state, like):
    return {k: array(dg, x, like) for k, x in state.items()}


def some_states(name, num=40):
    """Every so many of the states."""
    states = ENERGIES[name].states[0]
    pick = np.linspace(0, len(next(iter(states.values()))) - 1, num).astype(int)
    return {k: x[pick] for k, x in states.items()}


@names
def test_the_energy_is_the_formula(dg, double, name):
    energy, states = build(dg, name, "float64"), some_states(name)
    exact = ENERGIES[name].energy(ENERGIES[name].arrays, states)
    np.testing.assert_allclose(to_numpy(dg, energy.energy(on(dg, states, energy.like))), exact, rtol=1e-10, atol=1e-10)
    assert energy.data_name == "v"
    assert set(energy.observed) == {"v"}


@names
def test_hidden_blocks_are_summed_out(dg, double, name):
    row, energy = ENERGIES[name], build(dg, name, "float64")
    v = some_states(name, 7)["v"]
    joint = np.meshgrid(*[values for k, (size, values) in row.values.items() if k != "v" for _ in range(size)])
    h = np.stack([axis.ravel() for axis in joint], -1) if joint else np.zeros((1, 0))
    wide = {"v": np.repeat(v[None], len(h), 0), "h": np.repeat(h[:, None], len(v), 1)}
    exact = -special.logsumexp(-row.energy(row.arrays, wide), 0)
    got = energy.free_energy(array(dg, v, energy.like))
    np.testing.assert_allclose(to_numpy(dg, got), exact, rtol=1e-10, atol=1e-10)
    again = energy.free_energy({"v": array(dg, v[:, None], energy.like)})  # any leading axes
    np.testing.assert_allclose(to_numpy(dg, again)[:, 0], exact, rtol=1e-10, atol=1e-10)


@finite
def test_log_z_and_probabilities_are_enumeration_s(dg, name):
    row, energy = ENERGIES[name], build(dg, name)
    z = dg.exact_log_normalizer(energy)
    assert z.kind == "exact"
    np.testing.assert_allclose(z.value, row.log_z(), rtol=0, atol=1e-5)
    v = np.unique(row.states[0]["v"], axis=0)
    log_p = energy.marginal("v", log_normalizer="exact").log_prob(array(dg, v, energy.like))
    np.testing.assert_allclose(np.exp(to_numpy(dg, log_p)).sum(), 1.0, rtol=0, atol=1e-5)


def gradient(dg, energy, fn):
    value_and_grad = dg.engine.control.value_and_grad(lambda params: fn(energy.with_params(params)))
    return {k: to_numpy(dg, g) for k, g in value_and_grad(dict(energy.params))[1].items()}


@finite
def test_both_phases_have_the_gradient_of_enumeration(dg, double, name):
    """d log Z by the particles of all states at their probabilities, and by the exact policy, is that of the oracle."""
    row, energy = ENERGIES[name], build(dg, name, "float64")
    states, p = on(dg, row.states[0], energy.like), array(dg, row.probabilities, energy.like)
    by_particles = gradient(dg, energy, lambda m: negative_phase(m, states, p))
    v = array(dg, row.states[0]["v"][:1], energy.like)
    by_policy = gradient(dg, energy, lambda m: -m.marginal(log_normalizer="exact").log_prob(v)[0] - m.free_energy(v)[0])
    for k, g in by_particles.items():
        np.testing.assert_allclose(g, by_policy[k], rtol=0, atol=1e-9)
    step, direction = 1e-5, {k: np.random.default_rng(0).standard_normal(v.shape) for k, v in row.arrays.items()}
    up, down = ({k: v + s * step * direction[k] for k, v in row.arrays.items()} for s in (1, -1))
    slope = (row.log_z(up) - row.log_z(down)) / (2 * step)
    moved = energy.from_canonical(direction).params  # the direction in the engine's own names and layouts
    got = sum(float((by_particles[k] * to_numpy(dg, moved[k])).sum()) for k in by_particles)
    np.testing.assert_allclose(got, slope, rtol=0, atol=1e-7)


def weights_agree(dg, name, count, seed, *, reverse):
    """E[w] = Z forward, E[w_rev] = 1 / Z from exact draws."""
    row, energy = ENERGIES[name], build(dg, name)
    if reverse and not row.finite:
        initial = {k: x.astype(np.float32) for k, x in row.draws(count, seed).items()}
    else:
        initial = None
    data = None if row.values["v"][1] is not None else row.draws(500, 0)["v"].astype(np.float32)
    z = dg.ais(energy, rng=seed, betas=30, num_runs=count, data=data, reverse=reverse, initial=initial)
    sign = -1.0 if reverse else 1.0
    gate_mean(np.exp(sign * (np.asarray(z.log_weights) - row.log_z())), 1.0, 0.1)
    return z


@dear(
    ("name", "reverse"),
    [(name, reverse) for name in ENERGIES for reverse in (False, True)],
    ("quadratic", False),
    ("ring", False),
    ("ring", True),
    ("hidden", True),
    ("mixed", True),
)
def test_annealing_agrees_both_ways(dg, name, reverse):
    kept = []
    sampled(lambda seed, factor: kept.append(weights_agree(dg, name, 1000 * factor, seed, reverse=reverse)), 3)
    z = kept[-1]
    assert z.sides == (frozenset() if reverse and name in REAL else {"upper" if reverse else "lower"})


def counts(row, x):
    """How often each joint state was drawn."""
    flat, whole = (np.concatenate(list(s.values()), -1) for s in (x, row.states[0]))
    number = {tuple(s): i for i, s in enumerate(whole)}
    return np.bincount([number[tuple(s)] for s in flat], minlength=len(number))


def leaves_the_law(dg, name, count, seed, kernel):
    row, energy = ENERGIES[name], build(dg, name)
    state = kernel.init(dg.engine.random.rng(seed, energy.like), energy, count)
    state = kernel.place(state, on(dg, row.draws(count, seed), energy.like))
    step = dg.engine.control.compile(lambda rng, energy, state: kernel.step(rng, energy, state))
    for i in range(3):
        state, info = step(dg.engine.random.rng(seed + i, energy.like), energy, state)
    assert info.acceptance_rate.shape == (count,)
    x = {k: to_numpy(dg, state.position[k]) for k in row.values}  # compiled code sorts its dicts
    if row.finite:
        g_test(counts(row, x), row.probabilities)
    moments = lambda s: np.concatenate([*s.values(), s["v"] ** 2, s["v"] * np.roll(s["v"], 1, -1)], -1)  # noqa: E731
    gate_mean(moments(x), row.mean(moments), 0.2)


@dear(("name",), [(name,) for name in ENERGIES], ("ring",), ("mixed",))
def test_hmc_leaves_the_law(dg, name):
    sampled(lambda seed, factor: leaves_the_law(dg, name, 5000 * factor, seed, dg.HMC(0.4, 4)), 5)


def test_a_decision_without_momenta_does_not_leave_the_law(dg, monkeypatch):
    """A decision that forgets the momenta is seen."""
    from deepgen_ppl.energies import moves

    monkeypatch.setattr(moves, "_kinetic", lambda xp, p: 0.0)
    with pytest.raises(GateError):
        leaves_the_law(dg, "quadratic", 20000, 5, dg.HMC(1.1, 1))


@pytest.mark.slow
def test_the_hosts_own_mcmc_moves_it(dg):
    """Real and binary blocks under NumPyro's and Pyro's MCMC."""
    row, energy, kernel = ENERGIES["mixed"], build(dg, "mixed"), dg.HMC(0.3, 5)
    if dg.engine.name == "pyro":
        import pyro

        pyro.set_rng_seed(0)
        mcmc = pyro.infer.MCMC(kernel.on(energy, num_chains=400), num_samples=20, warmup_steps=10, disable_progbar=True)
        mcmc.run()
    else:
        import jax
        import numpyro

        options = {"num_warmup": 10, "num_samples": 20, "num_chains": 400, "chain_method": "vectorized"}
        mcmc = numpyro.infer.MCMC(kernel.on(energy), progress_bar=False, **options)
        mcmc.run(jax.random.key(0), extra_fields=("acceptance_rate",))
    position, info = dg.engine.host.kernel.by_chain(mcmc)
    assert info["acceptance_rate"].shape == (400, 20)
    assert 0.5 < info["acceptance_rate"].mean() < 1.0
    gate_mean(position["v"][:, -1], row.mean(lambda s: s["v"]), 0.2)


@dear(("name",), [(name,) for name in REAL], ("mixed",))
def test_hmc_forgets_its_start(dg, name):
    def check(seed, factor):
        count = 3000 * factor
        row, energy, kernel = ENERGIES[name], build(dg, name), dg.HMC(0.35, 6)
        state = kernel.init(dg.engine.random.rng(seed, energy.like), energy, count)
        state = kernel.place(state, {"v": 0.0 * state.position["v"] + 1.5})
        step = lambda state, key: (kernel.step(key, energy, state)[0], None)  # noqa: E731
        keys = dg.engine.random.split(dg.engine.random.rng(seed, energy.like), 60)
        run = dg.engine.control.compile(lambda state: dg.engine.control.loop(step, state, keys)[0])
        x = to_numpy(dg, run(state).position["v"])
        gate_mean(np.concatenate([x, x**2], -1), row.mean(lambda s: np.concatenate([s["v"], s["v"] ** 2], -1)), 0.2)

    sampled(check, 11)


def log_likelihood(name, energy, v):
    """Mean log p(v) of an energy at its arrays, by the oracle."""
    row, arrays = ENERGIES[name], energy.canonical()
    arrays = {k: np.asarray(x, float) for k, x in arrays.items()}
    hidden = [values for k, (size, values) in row.values.items() if k != "v" for _ in range(size)]
    h = np.stack([axis.ravel() for axis in np.meshgrid(*hidden)], -1) if hidden else np.zeros((1, 0))
    wide = {"v": np.repeat(v[None], len(h), 0), "h": np.repeat(h[:, None], len(v), 1)}
    return special.logsumexp(-row.energy(arrays, wide), 0).mean() - row.log_z(arrays)


def start_of_training(dg, name):
    row = ENERGIES[name]
    shrunk = {k: (0.3 if k != "m" else 1.0) * v for k, v in row.arrays.items()}
    return build(dg, name).from_canonical({k: v.astype(np.float32) for k, v in shrunk.items()})


@dear(
    ("name", "kind"),
    [(name, kind) for name in ENERGIES for kind in ("persistent", "divergence")],
    ("ring", "persistent"),
    ("binary", "divergence"),
    ("mixed", "persistent"),
)
def test_training_raises_the_likelihood(dg, name, kind):
    """From arrays shrunk to 0.3, on draws of the row, either objective comes near the row's own likelihood."""
    row = ENERGIES[name]
    kernel = dg.HMC(0.2, 8) if name in REAL else dg.BlockGibbs()
    objective = dg.StochasticML(kernel, num_chains=100) if kind == "persistent" else dg.ContrastiveDivergence(kernel)
    v = row.draws(400, 0)["v"].astype(np.float32)
    before = start_of_training(dg, name)
    after = dg.fit(before, v, objective=objective, optimizer=dg.adam(0.02), epochs=25, batch_size=100, rng=0).model
    first, last, own = (log_likelihood(name, e, v) for e in (before, after, build(dg, name)))
    assert last > first + 0.7 * (own - first)


def test_training_reaches_the_gaussian(dg):
    """The maximum of the likelihood of the quadratic energy is at exp(-a) = mean of (v - m)^2."""
    v = ENERGIES["quadratic"].draws(1000, 0)["v"].astype(np.float32)
    learn = dg.StochasticML(dg.HMC(0.4, 5), num_chains=1000)
    energy = dg.fit(
        build(dg, "quadratic"), v, objective=learn, optimizer=dg.sgd(0.1), epochs=80, batch_size=1000, rng=0
    ).model
    exact = -np.log(((v - ENERGIES["quadratic"].arrays["m"]) ** 2).mean(0))
    np.testing.assert_allclose(to_numpy(dg, energy.params["a"]), exact, rtol=0, atol=0.15)


def test_an_estimate_of_log_z_belongs_to_its_arrays(dg):
    energy, v = build(dg, "ring"), ENERGIES["ring"].draws(5, 0)["v"].astype(np.float32)
    z = dg.ais(energy, rng=0, betas=10, num_runs=100)
    log_p = energy.marginal(log_normalizer=z).log_prob(array(dg, v, energy.like))
    row = ENERGIES["ring"]
    np.testing.assert_allclose(to_numpy(dg, log_p), -row.energy(row.arrays, {"v": v}) - z.value, rtol=0, atol=1e-4)
    moved = energy.with_params({"log_b": np.float32(0.5)})
    with pytest.raises(ValueError, match="expected a log normalizer computed at these parameters"):
        moved.marginal(log_normalizer=z)
    with pytest.raises(ValueError, match="expected a log normalizer of"):
        build(dg, "quadratic").marginal(log_normalizer=z)


def test_comparison_with_machines(dg):
    row, energy = ENERGIES["binary"], build(dg, "binary")
    v = row.draws(200, 0)["v"].astype(np.float32)
    options = dg.BoundsOptions(betas=20, num_runs=200)
    table = dg.compare({"mine": energy, "rbm": dg.RBM.init(4, 2, rng=0)}, v, rng=0, options=options)
    mine = table.bounds["mine"]
    assert mine.lower.kind == mine.upper.kind == "exact"
    np.testing.assert_allclose(mine.lower.value, log_likelihood("binary", energy, v), rtol=0, atol=1e-5)
    annealed = dg.bounds(energy, v, rng=0, options=dg.BoundsOptions(betas=20, num_runs=200, log_z="ais"))
    assert annealed.lower.kind == annealed.upper.kind == "bound"


def test_comparison_over_the_plane(dg):
    """An upper side alone by annealing; both sides where the energy knows its log Z."""
    v = ENERGIES["quadratic"].draws(100, 0)["v"].astype(np.float32)
    energy = build(dg, "quadratic")
    base = energy.decoupled(v)
    table = dg.compare({"mine": energy, "base": base}, v, rng=0, options=dg.BoundsOptions(betas=10, num_runs=100))
    mine, base = table.bounds["mine"], table.bounds["base"]
    assert (mine.lower.kind, mine.upper.kind, base.lower.kind) == ("none", "bound", "exact")
    exact = -0.5 * (((v - v.mean(0)) / v.std(0)) ** 2 + np.log(2 * np.pi * v.var(0))).sum(-1).mean()
    np.testing.assert_allclose(base.lower.value, exact, rtol=0, atol=1e-5)


@names
def test_files_hold_the_same_on_both_engines(dg, tmp_path, name):
    energy, states = build(dg, name), some_states(name)
    path = tmp_path / "energy.safetensors"
    dg.save(energy, path)
    for face in ("numpyro", "pyro"):
        pytest.importorskip(face, exc_type=ModuleNotFoundError)
        other = importlib.import_module(f"deepgen_ppl.{face}")
        ENERGIES[name].build(other, "float32")  # a class of one's own is known once it is defined
        loaded = other.load(path)
        got = to_numpy(other, loaded.energy(on(other, states, loaded.like)))
        exact = ENERGIES[name].energy(ENERGIES[name].arrays, states)
        np.testing.assert_allclose(got, exact, rtol=1e-4, atol=1e-4)


def test_networks_of_the_users_own_are_given_to_load(dg, tmp_path):
    net = own_network(dg)
    energy = build(dg, "ring")
    mine = type(energy)(net, energy.arrays["log_b"])
    path = tmp_path / "energy.safetensors"
    dg.save(mine, path)
    state = on(dg, some_states("ring"), mine.like)
    loaded = dg.load(path, f=own_network(dg, other=True))
    np.testing.assert_array_equal(to_numpy(dg, loaded.energy(state)), to_numpy(dg, mine.energy(state)))
    with pytest.raises(ValueError, match=r"expected f=\.\.\. to load a RingEnergy"):
        dg.load(path)


def own_network(dg, *, other=False):
    """A network that the library did not make."""
    if dg.engine.name == "pyro":
        import torch

        torch_rng = torch.Generator().manual_seed(int(other))
        net = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
        with torch.no_grad():
            for p in net.parameters():
                p.normal_(generator=torch_rng)
        return net
    from flax import nnx

    rngs = nnx.Rngs(int(other))
    return nnx.Sequential(nnx.Linear(2, 4, rngs=rngs), nnx.tanh, nnx.Linear(4, 1, rngs=rngs))


@names
def test_an_energy_passes_through_compiled_code(dg, name):
    energy, states = build(dg, name), some_states(name)
    state = on(dg, states, energy.like)
    compiled = dg.engine.control.compile(lambda energy, state: energy.energy(state))
    exact = to_numpy(dg, energy.energy(state))
    np.testing.assert_allclose(to_numpy(dg, compiled(energy, state)), exact, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(to_numpy(dg, copy.deepcopy(energy).energy(state)), exact, rtol=0, atol=0)


def test_independent_blocks_are_drawn_from_exactly(dg):
    row = ENERGIES["hidden"]
    law = build(dg, "hidden").decoupled(row.draws(300, 0)["v"].astype(np.float32))
    log_f = -to_numpy(dg, law.energy(on(dg, row.states[0], law.like)))
    np.testing.assert_allclose(special.logsumexp(log_f), 0.0, rtol=0, atol=1e-5)

    def check(seed, factor):
        x = law.start(dg.engine.random.rng(seed, law.like), 3000 * factor)
        g_test(counts(row, {k: to_numpy(dg, x[k]) for k in row.values}), np.exp(log_f))

    sampled(check, 3)


def test_the_path_joins_two_energies(dg):
    energy = build(dg, "mixed")
    start, states = energy.decoupled(), on(dg, some_states("mixed"), energy.like)
    for beta in (0.0, 0.3, 1.0):
        exact = (1 - beta) * start.energy(states) + beta * energy.energy(states)
        np.testing.assert_allclose(
            to_numpy(dg, EnergyPath(start, energy, beta).energy(states)), to_numpy(dg, exact), rtol=1e-5, atol=1e-5
        )


def test_what_an_energy_lacks_is_said(dg):
    constraints = dg.engine.host.constraints

    class Counts(dg.Energy):
        blocks = {"n": dg.Block((2,), constraints.nonnegative_integer, integer=True)}  # noqa: RUF012

        def energy(self, state):
            return self.engine.xp.sum(state["n"], axis=-1)

    class Wide(dg.Energy):
        blocks = {"v": dg.Block((2,), constraints.real), "h": dg.Block((40,), constraints.boolean)}  # noqa: RUF012

        def __init__(self):
            self.build(arrays={"b": np.zeros(40, np.float32)})

        def energy(self, state):
            return self.engine.xp.sum(state["h"] * self.param("b"), axis=-1)

    whole, wide, ring, rng = Counts(), Wide(), build(dg, "ring"), dg.engine.random.rng(0)
    quadratic, mixed, binary, rbm = (
        *(build(dg, n) for n in ("quadratic", "mixed", "binary")),
        dg.RBM.init(2, 2, rng=0),
    )
    v, third = np.zeros((4, 2), np.float32), np.full((3, 4), 1 / 3, np.float32)
    state, many, learn = ring.start(rng, 3), {"v": np.zeros((200, 3), np.float32)}, dg.StochasticML()
    for error, sentence, ask in (
        (
            NotImplementedError,
            "expected an energy with conditional.*of 'v' to draw",
            lambda: ring.draw(rng, "v", state),
        ),
        (NotImplementedError, "expected an energy with decoupled.*'n'", lambda: dg.ais(whole, rng=0)),
        (NotImplementedError, "with conditional.*of 'h'", lambda: wide.draw(rng, "h", wide.start(rng, 2))),
        (NotImplementedError, r"to sum out the blocks \['h'\], of 2\^40", lambda: wide.free_energy(v)),
        (NotImplementedError, "or at most 2.12 values of a block, to anneal", lambda: dg.ais(wide, rng=0)),
        (NotImplementedError, "with conditional.*of 'v'", lambda: dg.fit(ring, v, objective=learn)),
        (
            ValueError,
            "expected a model with parameters.*Counts",
            lambda: dg.fit(whole, v, objective=learn),
        ),
        (TypeError, "expected a Boltzmann machine for the host's SVI", lambda: learn.on(ring)),
        (ValueError, "expected at most 2.16 joint states to enumerate", lambda: dg.exact_log_normalizer(ring)),
        (ValueError, "expected real blocks for HMC.*'h'", lambda: dg.HMC(blocks=("h",)).init(rng, wide, 2)),
        (ValueError, "for step_size", lambda: dg.HMC(0.0)),
        (ValueError, "expected two energies over the same blocks", lambda: dg.ais(ring, rng=0, start=mixed)),
        (ValueError, "expected a start whose log Z is known", lambda: dg.ais(ring, rng=0, start=quadratic)),
        (ValueError, "expected draws from the energy", lambda: dg.ais(ring, rng=0, reverse=True)),
        (ValueError, "with reverse=True, got it", lambda: dg.ais(ring, rng=0, initial={"v": v})),
        (ValueError, "with rows of shape", lambda: dg.ais(ring, rng=0, reverse=True, initial=many)),
        (TypeError, r"expected HMC\(...\) for the kernel", lambda: dg.ais(ring, rng=0, kernel=dg.BlockGibbs())),
        (TypeError, "expected no kernel for a machine", lambda: dg.ais(rbm, rng=0, kernel=dg.HMC())),
        (ValueError, "expected test data with rows of shape", lambda: dg.bounds(ring, v[:, :1], rng=0)),
        (ValueError, "inside {0, 1}", lambda: dg.bounds(binary, third, rng=0)),
        (NotImplementedError, "expected a machine for the mean", lambda: ring.marginal().mean),
        (RuntimeError, "has no exact draw", lambda: dg.engine.host.draw(rng, ring.marginal())),
    ):
        with pytest.raises(error, match=sentence):
            ask()


def test_a_network_may_take_a_fresh_one(dg):
    """Widths come from the network alone: a class serves any."""
    energy = build(dg, "binary")
    wider = type(energy)(network(dg, "binary", "float32"))
    assert {k: v.shape for k, v in wider.params.items()} == {k: v.shape for k, v in energy.params.items()}
    assert sum(int(np.prod(v.shape)) for v in wider.params.values()) == sum(
        a * b + b for a, b in zip(SIZES["binary"], SIZES["binary"][1:], strict=False)
    )
