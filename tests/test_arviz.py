"""The hand-over to ArviZ, on both of its lines: 0.x (`InferenceData`) and 1.x (`DataTree`)."""

import dataclasses

import cases
import numpy as np
import pytest

pytest.importorskip("arviz", exc_type=ModuleNotFoundError)
pytest.importorskip("matplotlib", exc_type=ModuleNotFoundError)

import arviz as az
import matplotlib as mpl
import xarray

import deepgen_ppl
from deepgen_ppl.log_z.estimates import Estimate

mpl.use("Agg")

CHAINS, DRAWS = 4, 50


def groups(data):
    """Names of the groups of either container."""
    return set(data.children) if isinstance(data, getattr(xarray, "DataTree", ())) else set(data.groups())


def group(data, name):
    """One group as an xarray Dataset."""
    found = data[name]
    return found if isinstance(found, xarray.Dataset) else found.to_dataset()


def opened(path):
    """The container in a netCDF file."""
    if int(az.__version__.split(".")[0]) >= 1:
        with xarray.open_datatree(path) as data:
            return data.load()
    return az.from_netcdf(str(path)).load()


def reopened(data, path):
    """The container after a round trip through netCDF."""
    data.to_netcdf(str(path))
    return opened(path)


def run(dg, machine, *, draws=DRAWS, chains=CHAINS, start=None, chain_method="sequential", seed=0, kernel=None):
    """A run of the host's own MCMC, with the chains as each host wants them."""
    kernel = kernel or dg.BlockGibbs()
    if dg.engine.name == "numpyro":
        import jax
        from numpyro.infer import MCMC

        mcmc = MCMC(
            kernel.on(machine),
            num_warmup=0,
            num_samples=draws,
            num_chains=chains,
            chain_method=chain_method,
            progress_bar=False,
        )
        mcmc.run(jax.random.key(seed), init_params=start)
        return mcmc
    import pyro
    import torch
    from pyro.infer import MCMC

    with torch.random.fork_rng(devices=[]):
        pyro.set_rng_seed(seed)
        mcmc = MCMC(
            kernel.on(machine, num_chains=chains),
            num_samples=draws,
            warmup_steps=0,
            initial_params=start,
            disable_progbar=True,
        )
        mcmc.run()
    return mcmc


@pytest.fixture(scope="module")
def machine(dg):
    return cases.machine(dg, "rbm_centered", np.float32)


@pytest.fixture(scope="module")
def mcmc(dg, machine):
    return run(dg, machine)


@pytest.fixture(scope="module")
def handed(dg, machine, mcmc):
    return dg.to_arviz(mcmc, model=machine, states=True)


# --- draws of a machine's states


def test_summaries_by_default(dg, machine, mcmc, handed):
    data = dg.to_arviz(mcmc, model=machine)
    assert {"posterior", "sample_stats"} <= groups(data)
    assert set(group(data, "posterior").data_vars) == {"v_mean", "h_mean"}
    assert {"energy", "lp", "acceptance_rate"} <= set(group(data, "sample_stats").data_vars)
    for x in (*group(data, "posterior").data_vars.values(), *group(data, "sample_stats").data_vars.values()):
        assert x.dims == ("chain", "draw")
        assert x.shape == (CHAINS, DRAWS)


def test_states_are_integers_under_named_dimensions(handed):
    posterior = group(handed, "posterior")
    assert posterior.sizes["chain"] == CHAINS
    assert posterior.sizes["draw"] == DRAWS
    for name, size in (("v", 4), ("h", 3)):
        x = posterior[name]
        assert x.dims == ("chain", "draw", f"{name}_unit")
        assert x.shape == (CHAINS, DRAWS, size)
        assert x.dtype.kind == "i"
        assert set(np.unique(x)) == {0, 1}
        np.testing.assert_allclose(posterior[f"{name}_mean"], x.mean(f"{name}_unit"), atol=1e-6)


def test_states_are_those_of_the_run(dg, mcmc, handed):
    if dg.engine.name == "numpyro":
        own = np.asarray(mcmc.get_samples(group_by_chain=True)["v"])
    else:
        own = np.moveaxis(mcmc.get_samples()["v"].numpy(), 1, 0)
    np.testing.assert_array_equal(group(handed, "posterior")["v"], own)


def test_energy_is_the_machine_s(handed):
    posterior, stats = group(handed, "posterior"), group(handed, "sample_stats")
    states = {n: posterior[n].values[:, :5].reshape(-1, posterior[n].shape[-1]).astype(float) for n in ("v", "h")}
    truth = cases.oracle("rbm_centered").energies(states).reshape(CHAINS, 5)
    np.testing.assert_allclose(stats["energy"][:, :5], truth, atol=1e-5)
    np.testing.assert_array_equal(stats["lp"], -stats["energy"])
    assert stats["energy"].dtype == np.float64
    np.testing.assert_array_equal(stats["acceptance_rate"], 1.0)


def test_numpyro_vectorized_chains(dg_numpyro):
    machine = cases.machine(dg_numpyro, "rbm_centered", np.float32)
    mcmc = run(dg_numpyro, machine, chain_method="vectorized")
    data = dg_numpyro.to_arviz(mcmc, model=machine)
    assert group(data, "posterior").sizes["chain"] == CHAINS
    assert group(data, "posterior").sizes["draw"] == DRAWS


def test_layers_of_all_kinds_and_one_chain(dg):
    """Spins and categories stay integers, real units stay real."""
    layers = {"v": dg.Gaussian(2), "a": dg.Spin(2), "b": dg.Categorical(1, 3)}
    sizes = {"v.bias": 2, "a.bias": 2, "b.bias": 3, "v-a.weight": (2, 2), "v-b.weight": (2, 3)}
    params = cases.to_engine(dg, cases.draw(0, sizes), np.float32)
    machine = dg.BoltzmannMachine(layers, [dg.Dense(("v", "a")), dg.Dense(("v", "b"))], params)
    posterior = group(dg.to_arviz(run(dg, machine, chains=1, draws=6), model=machine, states=True), "posterior")
    assert (posterior.sizes["chain"], posterior.sizes["draw"]) == (1, 6)
    assert set(np.unique(posterior["a"])) <= {-1, 1}
    assert set(np.unique(posterior["b"])) <= {0, 1, 2}
    assert [posterior[n].dtype.kind for n in ("v", "a", "b")] == ["f", "i", "i"]


def test_summary_and_plots_run(handed):
    table = az.summary(handed, var_names=["v_mean", "h_mean"])
    assert list(table.index) == ["v_mean", "h_mean"]
    assert {"mean", "sd", "r_hat"} <= set(table.columns)
    assert abs(float(table["r_hat"].astype(float).max()) - 1) < 0.3
    az.plot_trace(handed, var_names=["v_mean"])
    import matplotlib.pyplot as plt

    plt.close("all")


def rhat(data, name):
    found = az.rhat(group(data, "posterior")[[name]])
    return float(found[name])


def test_rhat_of_separated_chains(dg):
    """Two chains that never leave their modes are seen: R-hat > 1.5; well mixed ones are not."""
    v, h = 8, 4
    weight = np.full((v, h), 1.5, np.float32)
    stuck = dg.RBM(weight, np.full(v, -3.0, np.float32), np.full(h, -6.0, np.float32))
    on = np.arange(2)[:, None]
    start = {"v": np.tile(on, (1, v)).astype(np.float32), "h": np.tile(on, (1, h)).astype(np.float32)}
    data = dg.to_arviz(run(dg, stuck, chains=2, start=cases.arrays(dg, start, stuck.like)), model=stuck)
    assert rhat(data, "v_mean") > 1.5
    free = dg.RBM(0 * weight, np.zeros(v, np.float32), np.zeros(h, np.float32))
    data = dg.to_arviz(run(dg, free, chains=2, start=cases.arrays(dg, start, free.like)), model=free)
    assert rhat(data, "v_mean") < 1.2


def test_run_goes_through_netcdf(handed, tmp_path):
    again = reopened(handed, tmp_path / "run.nc")
    np.testing.assert_array_equal(group(again, "posterior")["v"], group(handed, "posterior")["v"])
    np.testing.assert_array_equal(group(again, "sample_stats")["energy"], group(handed, "sample_stats")["energy"])


# --- what is refused


def test_other_sources_are_refused(dg, machine):
    for source in (None, 3, np.zeros((4, 5)), machine):
        with pytest.raises(TypeError, match=r"expected an MCMC run of a kernel of deepgen_ppl, got"):
            dg.to_arviz(source, model=machine)


def test_the_machine_must_be_given(dg, mcmc):
    with pytest.raises(TypeError, match=r"expected model=\.\.\. \(the machine that was sampled\)"):
        dg.to_arviz(mcmc)


def test_a_run_that_has_not_run_is_refused(dg, machine):
    if dg.engine.name == "numpyro":
        from numpyro.infer import MCMC

        mcmc = MCMC(dg.BlockGibbs().on(machine), num_warmup=0, num_samples=5, progress_bar=False)
    else:
        from pyro.infer import MCMC

        mcmc = MCMC(dg.BlockGibbs().on(machine), num_samples=5, warmup_steps=0, disable_progbar=True)
    with pytest.raises((TypeError, ValueError, RuntimeError), match="expected a run that has draws"):
        dg.to_arviz(mcmc, model=machine)


def test_another_machine_is_refused(dg, mcmc):
    other = cases.machine(dg, "dbm2", np.float32)
    with pytest.raises((TypeError, ValueError), match="expected"):
        dg.to_arviz(mcmc, model=other)


def test_runs_over_parameters_are_refused(dg, machine):
    """NUTS draws parameters: that is ArviZ's own business."""
    if dg.engine.name == "numpyro":
        import numpyro
        from numpyro.infer import MCMC, NUTS

        mcmc = MCMC(NUTS(lambda: numpyro.sample("a", numpyro.distributions.Normal())), num_warmup=1, num_samples=1)
    else:
        import pyro
        from pyro.infer import MCMC, NUTS

        mcmc = MCMC(NUTS(lambda: pyro.sample("a", pyro.distributions.Normal(0.0, 1.0))), num_samples=1, warmup_steps=1)
    with pytest.raises(TypeError, match=r"of NUTS: for draws of parameters use ArviZ's own converter"):
        dg.to_arviz(mcmc, model=machine)


# --- a comparison


@pytest.fixture(scope="module")
def comparison(dg):
    models = {
        "rbm": cases.machine(dg, "rbm", np.float32),
        "vae": dg.VAE.init(dg.Bernoulli(4), rng=0, latent=2, hidden=(5,)),
    }
    x = np.random.default_rng(0).integers(0, 2, (9, 4))
    return dg.compare(models, x, rng=0, options=dg.BoundsOptions(num_particles=10))


def check_comparison(data, comparison):
    assert {"log_likelihood", "bounds"} <= groups(data)
    scores, bounds = group(data, "log_likelihood"), group(data, "bounds")
    assert list(bounds["model"].values) == list(comparison.bounds)
    for made in (scores, bounds):
        assert made.attrs["inference_library"] == "deepgen_ppl"
        assert made.attrs["inference_library_version"] == deepgen_ppl.__version__
    for i, (name, e) in enumerate(comparison.bounds.items()):
        if e.lower.kind == "none":
            assert name not in scores
        else:
            assert scores[name].dims == ("chain", "draw", "datum")
            np.testing.assert_allclose(scores[name].values[0, 0], e.lower_pointwise)
        for side in ("lower", "upper", "estimate"):
            own = getattr(e, side)
            np.testing.assert_equal(float(bounds[side][i]), own.value)
            np.testing.assert_equal(float(bounds[f"{side}_se"][i]), own.mc_se)
            said = [str(bounds[f"{side}_{what}"].values[i]) for what in ("kind", "method", "missing")]
            assert said == [own.kind, own.method, own.reason]
        for side in ("lower_pointwise", "upper_pointwise"):
            rows = getattr(e, side)
            np.testing.assert_allclose(bounds[side].values[i], np.full(9, np.nan) if rows is None else rows)
        assert str(bounds["flags"].values[i]) == " ".join(e.flags)
        assert float(bounds["se_data"][i]) == e.se_data
        assert float(bounds["se_log_z"][i]) == e.se_log_z


def test_comparison_has_its_groups(dg, comparison):
    check_comparison(dg.to_arviz(comparison), comparison)


def upper_alone(comparison):
    """The comparison with an RBM that has no lower side."""
    e = comparison.bounds["rbm"]
    upper = dataclasses.replace(e, lower=Estimate.missing("given"), lower_pointwise=None, flags=("mean_field",))
    return dataclasses.replace(comparison, bounds={"rbm": upper, "vae": comparison.bounds["vae"]})


def test_upper_sides_are_no_log_likelihood(dg, comparison, tmp_path):
    """They stand in `bounds`, with their kind; beside lower sides ArviZ would rank them."""
    mixed = upper_alone(comparison)
    check_comparison(dg.to_arviz(mixed), mixed)
    check_comparison(reopened(dg.to_arviz(mixed), tmp_path / "mixed.nc"), mixed)
    alone = dg.Comparison({"rbm": mixed.bounds["rbm"]}, 9, "")
    data = dg.to_arviz(alone)
    assert "log_likelihood" not in groups(data)
    assert str(group(data, "bounds")["upper_kind"].values[0]) == "exact"


def test_comparison_goes_through_netcdf(dg, comparison, tmp_path):
    check_comparison(reopened(dg.to_arviz(comparison), tmp_path / "comparison.nc"), comparison)


# --- held-out log scores for az.compare


def test_elpd_goes_through_az_compare(dg, comparison):
    scores = dg.to_elpd(comparison)
    assert set(scores) == {"rbm", "vae"}
    table = az.compare(scores, method="stacking")
    for name, e in comparison.bounds.items():
        total = next(float(table.loc[name, c]) for c in ("elpd", "elpd_loo") if c in table.columns)
        assert total == pytest.approx(e.lower_pointwise.sum(), abs=0.6 if abs(total) > 10 else 0.06)  # 1.x rounds
    assert float(table["weight"].astype(float).sum()) == pytest.approx(1.0, abs=0.02)


def test_elpd_takes_no_upper_sides_and_says_so(dg, comparison):
    mixed = upper_alone(comparison)
    with pytest.warns(UserWarning, match=r"without a lower side of log p\(x\) are left out: rbm \(given\)"):
        assert set(dg.to_elpd(mixed)) == {"vae"}
    with pytest.raises(ValueError, match="expected a model with a lower side"):
        dg.to_elpd(dg.Comparison({"rbm": mixed.bounds["rbm"]}, 9, ""))
