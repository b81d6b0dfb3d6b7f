"""Planted faults: each makes the check that exists for it fail. On torch, where nothing compiled outlives a change."""

import cases
import numpy as np
import pytest
import test_ais
import test_bounds
import test_contrastive
import test_contrastive_steps
import test_convolutional_rbm
import test_kernels
import test_machines
import test_margins
import test_randomness
from gates import GateError, once

from deepgen_ppl.energies import mean_field
from deepgen_ppl.energies.convolution import Convolution
from deepgen_ppl.energies.machine import BoltzmannMachine
from deepgen_ppl.energies.path import Path
from deepgen_ppl.kernels.block_gibbs import BlockGibbs, GibbsInfo
from deepgen_ppl.log_z import ais, estimates, policies
from deepgen_ppl.objectives import contrastive
from deepgen_ppl.objectives.contrastive_divergence import ContrastiveDivergence
from deepgen_ppl.units import spin
from deepgen_ppl.units.at_most_one import AtMostOne

fails = pytest.raises(AssertionError)


@pytest.fixture
def dg(dg_pyro):
    return dg_pyro


@pytest.fixture
def plant(monkeypatch):
    """`plant(owner, name, fault)`: after a run of the checks as they are, replace one function by a faulty one."""
    return monkeypatch.setattr


def bias_term(m, s):
    return sum(value @ m.params[f"{n}.bias"] for n, value in s.items())


def test_sign_of_the_bias_in_the_energy(dg, plant):
    right = BoltzmannMachine.linear_energy
    test_machines.check_energy(dg, "rbm")
    plant(BoltzmannMachine, "linear_energy", lambda m, s: right(m, s) + 2 * bias_term(m, s))
    with fails:
        test_machines.check_energy(dg, "rbm")
    with fails:
        test_machines.check_fisher(dg, "rbm")


def test_bias_dropped_from_the_energy(dg, plant):
    right = BoltzmannMachine.linear_energy
    plant(BoltzmannMachine, "linear_energy", lambda m, s: right(m, s) + bias_term(m, s))
    with fails:
        test_machines.check_energy(dg, "rbm_centered")


def test_bias_dropped_from_the_conditionals(dg, plant):
    right = BoltzmannMachine.natural
    test_machines.check_conditionals(dg, "dbm2")
    plant(BoltzmannMachine, "natural", lambda m, name, s: right(m, name, s) - m.params[f"{name}.bias"])
    with fails:
        test_machines.check_conditionals(dg, "dbm2")
    with pytest.raises(GateError):
        test_kernels.check_invariant(dg, "dbm2", BlockGibbs(), once)


def test_kernel_that_stands_still(dg, plant):
    test_kernels.check_forgets(dg, "rbm_spin", BlockGibbs(10), once)
    plant(BlockGibbs, "step", lambda kernel, rng, target, state: (state, GibbsInfo(1.0)))
    test_kernels._steps.clear()
    with pytest.raises(GateError):
        test_kernels.check_forgets(dg, "rbm_spin", BlockGibbs(10), once)


def test_spins_at_half_the_field(dg, plant):
    def draw(unit, engine, rng, eta, params):
        return 2.0 * engine.random.bernoulli(rng, eta) - 1.0

    plant(spin.Spin, "draw", draw)
    with pytest.raises(GateError):
        test_kernels.check_invariant(dg, "rbm_spin", BlockGibbs(), once)


def test_convolutional_blocks_in_the_order_of_the_maps(dg, plant):
    test_convolutional_rbm.check_geometry(dg, 2)
    plant(Convolution, "from_maps", lambda term, engine, maps: engine.xp.reshape(maps, (*maps.shape[:-3], -1)))
    with fails:
        test_convolutional_rbm.check_geometry(dg, 2)


def test_convolutional_blocks_that_are_never_off(dg, plant):
    def log_partition(unit, engine, eta, params):
        return engine.special.logsumexp(engine.xp.reshape(eta, (*eta.shape[:-1], unit.size, unit.block)), -1)

    plant(AtMostOne, "log_partition", log_partition)
    with fails:
        test_convolutional_rbm.check_geometry(dg, 2)


def test_phase_divided_by_the_wrong_count(dg, plant):
    right = contrastive.negative_phase
    test_contrastive.check_phases(dg, "rbm", 7, 13)
    plant(contrastive, "negative_phase", lambda m, particles, weights=None: right(m, particles, weights) * 13 / 7)
    with fails:
        test_contrastive.check_phases(dg, "rbm", 7, 13)
    with pytest.raises(GateError):
        test_contrastive.check_gradient(dg, "rbm", once)


def without_entropy(m, v, eta):
    """E_q[-E] alone."""
    s = m.statistics({"v": v}) | mean_field.mean_statistics(m, eta)
    return m.log_base({"v": v}) - m.linear_energy(s)


def test_bound_without_its_entropy(dg, plant):
    test_machines.check_mean_field(dg, "dbm2")
    plant(mean_field, "mean_field_bound", without_entropy)
    with fails:
        test_machines.check_mean_field(dg, "dbm2")


def test_an_inequality_would_pass_the_bound_without_its_entropy(dg):
    """Why the checks are equalities: half the bound is a bound too."""
    m, truth = cases.machine(dg, "dbm2"), cases.oracle("dbm2")
    v = truth.states(["v"])["v"]
    x = cases.arrays(dg, {"v": v}, m.like)["v"]
    faulty = cases.to_numpy(dg, without_entropy(m, x, mean_field.MeanField(30).solve(m, x)))
    assert (faulty < -truth.free_energies({"v": v})).all()


def test_mean_field_of_the_first_batch_for_ever(dg, plant):
    right, first = mean_field.MeanField.solve, {}

    def solve(options, m, state):
        eta = right(options, m, state)
        first.update({n: first.get(n, e[:1]) for n, e in eta.items()})
        return {n: first[n].expand(e.shape) for n, e in eta.items()}

    test_contrastive_steps.check_steps(dg, "dbm2")
    plant(mean_field.MeanField, "solve", solve)
    with fails:
        test_contrastive_steps.check_steps(dg, "dbm2")


def test_mean_field_that_is_differentiated(dg, plant, param_store):
    def solve(options, m, v):
        eta = {n: m.params[f"{n}.bias"].expand(len(v), -1) for n in m.structure.hidden}
        for color in [("h1", "h3"), ("h2",)] * options.iterations:
            s = m.statistics({"v": v}) | mean_field.mean_statistics(m, eta)
            eta = eta | {n: m.natural(n, s) for n in color}
        return eta

    plant(mean_field.MeanField, "solve", solve)
    with fails:
        test_contrastive_steps.check_learner(dg, "dbm3_centered")


def test_contrastive_divergence_from_its_last_particles(dg, plant):
    right, last = ContrastiveDivergence.particles, {}

    def particles(objective, rng, m, chains, data):
        chains = right(objective, rng, m, chains, last or data)
        last.update(v=chains.position["v"])
        return chains

    test_contrastive_steps.check_divergence(dg)
    plant(ContrastiveDivergence, "particles", particles)
    with fails:
        test_contrastive_steps.check_divergence(dg)


def test_padded_rows_in_the_means(dg, plant):
    right = contrastive._shares
    test_contrastive_steps.check_means_of_a_padded_batch(dg)
    plant(contrastive, "_shares", lambda m, batch, mask: right(m, batch, None))
    with fails:
        test_contrastive_steps.check_means_of_a_padded_batch(dg)


def test_weights_of_rows_forgotten_by_the_chains(dg, plant):
    right = contrastive.StochasticML.negative

    def negative(objective, m, chains, share):
        return right(objective, m, chains, share / share.sum())

    plant(contrastive.StochasticML, "negative", negative)
    with fails:
        test_contrastive_steps.check_steps(dg, "rbm_centered", weighted=True)


def test_one_noise_for_every_step(dg, plant):
    def step(kernel, rng, target, state):
        return noisy(kernel, rng.manual_seed(0), target, state)

    noisy = test_contrastive_steps.Noisy.step
    plant(test_contrastive_steps.Noisy, "step", step)
    with fails:
        test_contrastive_steps.check_noise_of_steps(dg)


def test_one_key_for_all(dg_numpyro, plant):
    """On JAX: `split` gives the key itself."""
    import jax

    plant(jax.random, "split", lambda key, num=2: jax.numpy.stack([key] * num))
    with pytest.raises(GateError):
        test_randomness.check_spread_over_globals(dg_numpyro, once)
    with fails:
        test_contrastive_steps.check_noise_of_steps(dg_numpyro)


def test_margin_in_decimal_logarithms(dg, plant):
    plant(estimates, "CERTIFIED", np.log10(40))
    with fails:
        test_margins.check_coverage(dg, 0.1)


def test_mean_field_updates_of_all_layers_at_once(dg, plant):
    def solve(options, m, v):
        hidden = m.structure.hidden
        eta = {n: m.params[f"{n}.bias"].expand(len(v), -1) for n in hidden}
        for _ in range(options.iterations):
            s = m.statistics({"v": v}) | mean_field.mean_statistics(m, eta)
            eta = {n: m.natural(n, s) for n in hidden}
        return eta

    test_machines.check_mean_field_ascends(dg)
    plant(mean_field.MeanField, "solve", solve)
    with fails:
        test_machines.check_mean_field_ascends(dg)


def test_annealing_that_moves_before_it_weighs(dg, plant):
    right = ais.forward_step

    def faulty(path, carry, x):
        rng, low, high = x
        keep, log_w, lost = carry
        moved = path.transition(rng, keep, path.summed_out(keep), high)
        keep = {n: moved[n] for n in keep}
        return right(path, (keep, log_w, lost), x)

    test_bounds.check_ais(dg, "rbm_spin", once)
    plant(ais, "forward_step", faulty)
    with pytest.raises(GateError):
        test_bounds.check_ais(dg, "rbm_spin", once)


def test_gradient_of_an_estimate_without_its_weights(dg, plant):
    right = policies.negative_phase
    test_ais.check_gradient_of_uneven_weights(dg)
    plant(policies, "negative_phase", lambda m, particles, weights=None: right(m, particles))
    with fails:
        test_ais.check_gradient_of_uneven_weights(dg)


def test_exact_draws_in_the_precision_of_the_machine(dg, plant):
    test_ais.check_draws_far_up(dg, once)
    plant(BoltzmannMachine, "astype", lambda m, dtype: m)
    with pytest.raises(GateError):
        test_ais.check_draws_far_up(dg, once)


def test_reverse_annealing_in_the_order_of_the_way_up(dg, plant):
    right = Path.transition
    test_bounds.check_reverse_of_three_colors(dg, once)
    plant(Path, "transition", lambda path, rng, keep, sent, beta, backward=False: right(path, rng, keep, sent, beta))
    with pytest.raises(GateError):
        test_bounds.check_reverse_of_three_colors(dg, once)


def test_offsets_that_leave_the_biases_behind(dg, plant):
    def recentered(m, offsets):
        return m.with_constants({f"{n}.offset": mu for n, mu in offsets.items()})

    plant(BoltzmannMachine, "recentered", recentered)
    with fails:
        test_contrastive.check_offsets(dg)


def test_checks_see_a_relative_error_of_1e_8(dg):
    """They run in float64 and at 1e-10: one weight that is off in its eighth digit is seen."""
    m = cases.machine(dg, "rbm")
    w = m.params["v-h.weight"].clone()
    w[0, 0] *= 1 + 1e-8
    states = test_machines.states_of("rbm")
    got = test_machines.energies(dg, m.with_params({"v-h.weight": w}), states)
    with fails:
        np.testing.assert_allclose(got, cases.oracle("rbm").energies(states), **test_machines.TOL)
