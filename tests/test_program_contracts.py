"""What is true of every program: contracts over the table of programs, which know no row by name."""

import pickle

import numpy as np
import program_cases as cases
import pytest
from helpers import numpy
from program_cases import CASES, N

NAMES = [pytest.param(n, marks=[pytest.mark.slow] if case.variant else []) for n, case in CASES.items()]


def given(dg, values, dtype="float64"):
    return {k: dg.engine.arrays.asarray(np.asarray(v, dtype)) for k, v in values.items()}


def rows(case):
    """One row of the data after another, with its latents."""
    for n in range(N):
        yield (
            {k: v[n] for k, v in case.data.items()},
            {k: v if k in case.global_ else v[n] for k, v in case.latents.items()},
        )


def expected(name, oracle):
    """Site name -> log-probabilities of all rows, or the one of a global site."""
    case, a = CASES[name], cases.arrays(name)
    found = [oracle(a, row, z) for row, z in rows(case)]
    return {k: found[0][k] if k in case.global_ else np.array([f[k] for f in found]) for k in found[0]}


def trace(dg, half, values, batch):
    """Sites of a run with these values: name -> (value, log-probability, observed)."""
    handlers = dg.engine.host.handlers
    with dg.engine.host.bound():
        if dg.engine.name == "numpyro":
            run = handlers.substitute(handlers.seed(half, 0), data=values)
            sites = {k: s for k, s in handlers.trace(run).get_trace(**batch).items() if s["type"] == "sample"}
        else:
            run = handlers.condition(half, data=values)
            sites = {k: s for k, s in handlers.trace(run).get_trace(**batch).nodes.items() if s["type"] == "sample"}
            sites = {k: s for k, s in sites.items() if type(s["fn"]).__name__ != "_Subsample"}
        return {k: numpy(dg, s["fn"].log_prob(s["value"])) for k, s in sites.items()}


def log_joint(dg, program, case):
    return trace(dg, program.model, given(dg, case.latents), given(dg, case.data))


@pytest.mark.parametrize("name", NAMES)
def test_log_joint_of_the_model(dg, double, name):
    """Site by site, on each engine, hence alike on both."""
    case = CASES[name]
    got = log_joint(dg, cases.program(dg, name), case)
    wanted = expected(name, case.log_model)
    assert got.keys() == wanted.keys()
    for k, v in wanted.items():
        assert got[k].shape == np.shape(v)
        np.testing.assert_allclose(got[k], v, rtol=0, atol=1e-10, err_msg=k)


@pytest.mark.parametrize("name", NAMES)
def test_log_joint_of_the_guide(dg, double, name):
    """Its latent sites are those of the model."""
    case, program = CASES[name], cases.program(dg, name)
    got = trace(dg, program.guide, given(dg, case.latents), given(dg, case.data))
    wanted = expected(name, case.log_guide)
    assert got.keys() == wanted.keys() == case.latents.keys()
    for k, v in wanted.items():
        np.testing.assert_allclose(got[k], v, rtol=0, atol=1e-10, err_msg=k)


@pytest.mark.parametrize("name", NAMES)
def test_log_prob_is_exact_or_refused(dg, double, name):
    case, program = CASES[name], cases.program(dg, name)
    if case.log_prob is None:
        with pytest.raises(ValueError, match="expected a program without latent sites .*: bounds"):
            program.log_prob(case.data)
        return
    wanted = [case.log_prob(cases.arrays(name), row) for row, _ in rows(case)]
    np.testing.assert_allclose(numpy(dg, program.log_prob(case.data["x"])), wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_the_host_sees_all_params(dg, param_store, name):
    """Names of the host's parameters, the program's own name before them."""
    program, names = cases.program(dg, name, "float32", "own"), set()
    for half in (program.model, program.guide):
        run = half if dg.engine.name == "pyro" else dg.engine.host.handlers.seed(half, 0)
        got = dg.engine.host.handlers.trace(run).get_trace(**given(dg, CASES[name].data, "float32"))
        sites = got if dg.engine.name == "numpyro" else got.nodes
        names |= {k for k, s in sites.items() if s["type"] == "param"}
    assert names == set(program.params)
    assert all(k.startswith("own.") for k in names)


def inputs(dg, program, case, dtype="float32"):
    return given(dg, {k: v for k, v in case.data.items() if k not in program.observed}, dtype)


@pytest.mark.parametrize("name", NAMES)
def test_the_hosts_predictive(dg, param_store, name):
    """Three draws of all sites, observed ones within their units' support."""
    case, program = CASES[name], cases.program(dg, name, "float32")
    kwargs = inputs(dg, program, case) or {"size": N}
    if dg.engine.name == "numpyro":
        import jax
        from numpyro.infer import Predictive

        draws = Predictive(program.model, num_samples=3)(jax.random.key(0), **kwargs)
    else:
        from pyro.infer import Predictive

        draws = Predictive(program.model, num_samples=3)(**kwargs)
    for k, unit in program.observed.items():
        x = numpy(dg, draws[k]).astype(float)
        assert x.shape == (3, N, unit.size)
        unit.check(x, k)
    assert case.latents.keys() <= draws.keys()


@pytest.mark.parametrize("name", NAMES)
def test_sample(dg, name):
    case, program = CASES[name], cases.program(dg, name, "float32")
    kwargs = {k: numpy(dg, v) for k, v in inputs(dg, program, case).items()}
    x, again, other = (numpy(dg, program.sample(N, rng=seed, **kwargs)) for seed in (0, 0, 1))
    (unit,) = program.observed.values()
    assert x.shape == (N, unit.size)
    unit.check(x.astype(float), "draws")
    np.testing.assert_array_equal(x, again)
    assert (x != other).any()


@pytest.mark.parametrize("name", NAMES)
def test_files_of_either_engine(dg, dg_numpyro, dg_pyro, tmp_path, name):
    """The same class, options and log joint, whichever engine wrote and reads."""
    case = CASES[name]
    with dg_numpyro.engine.control.double():
        program = cases.program(dg, name)
        dg.save(program, tmp_path / "model")
        for face in (dg_numpyro, dg_pyro):
            again = face.load(tmp_path / "model")
            assert type(again) is getattr(face, type(program).__name__)
            assert {f: getattr(again, f) for f in again.options} == {f: getattr(program, f) for f in program.options}
            assert {k: v.dtype for k, v in again.canonical().items()} == dict.fromkeys(cases.arrays(name), np.float64)
            assert len(again.params) == len(program.params)
            got, wanted = log_joint(face, again, case), log_joint(dg, program, case)
            for k, v in wanted.items():
                np.testing.assert_allclose(got[k], v, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_copies_and_changes(dg, double, name):
    """Pickles, `with_params` and repr."""
    case, program = CASES[name], cases.program(dg, name)
    wanted = log_joint(dg, program, case)
    for twin in (pickle.loads(pickle.dumps(program)), program.with_params(program.params), program.with_params({})):
        for k, v in log_joint(dg, twin, case).items():
            np.testing.assert_array_equal(v, wanted[k])
    other = program.with_params({k: numpy(dg, v) + 0.1 for k, v in program.params.items()})
    assert any((v != wanted[k]).any() for k, v in log_joint(dg, other, case).items())
    for k, v in log_joint(dg, program, case).items():
        np.testing.assert_array_equal(v, wanted[k])
    assert repr(program).startswith(type(program).__name__ + "(")


def moved(dg, program, before):
    return {k: np.abs(numpy(dg, v) - before[k]).max() for k, v in program.params.items()}


def values(dg, program):
    return {k: numpy(dg, v).copy() for k, v in program.params.items()}


@pytest.mark.parametrize("name", NAMES)
def test_two_train_through_fit(dg, name):
    """Two of one family, one after the other: every array moves, and those of the program given do not."""
    case = CASES[name]
    objective = dg.ELBO()
    if case.discrete:
        objective = dg.VIMCO(num_particles=3)
    data = {k: v.astype(np.float32) for k, v in case.data.items()}
    for _ in range(2):
        program = cases.program(dg, name, "float32")
        before = values(dg, program)
        fit = dg.fit(
            program, data, objective=objective, optimizer=dg.adam(0.01), epochs=4, batch_size=4, progress=False
        )
        assert np.isfinite(fit.history["loss"]).all()
        assert min(moved(dg, fit.model, before).values()) > 1e-4
        assert max(moved(dg, program, before).values()) == 0


@pytest.mark.parametrize("name", NAMES)
def test_two_train_through_the_hosts_svi(dg, param_store, name):
    """With the host's own objective, which takes discrete sites."""
    for prefix in ("first", "second"):
        program = cases.program(dg, name, "float32", prefix)
        before, batch = values(dg, program), given(dg, CASES[name].data, "float32")
        if dg.engine.name == "numpyro":
            import jax
            import optax
            from numpyro.infer import SVI, TraceGraph_ELBO

            svi = SVI(program.model, program.guide, optax.adam(0.01), TraceGraph_ELBO())
            run = svi.run(jax.random.key(0), 4, progress_bar=False, **batch)
            program = program.with_params(run.params)
        else:
            import pyro
            from pyro.infer import SVI, TraceGraph_ELBO

            svi = SVI(program.model, program.guide, pyro.optim.Adam({"lr": 0.01}), TraceGraph_ELBO())
            for _ in range(4):
                svi.step(**batch)
        assert min(moved(dg, program, before).values()) > 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_data_of_other_names_or_widths_are_refused(dg, name):
    case, program = CASES[name], cases.program(dg, name, "float32")
    data = {k: v.astype(np.float32) for k, v in case.data.items()}
    observed = next(iter(program.observed))
    for wrong, match in (
        ({**data, "other": data["x"]}, r"expected data among \[.*got \['other'\]"),
        ({k: v for k, v in data.items() if k != observed} or {"y": data["x"]}, "expected data"),
        ({**data, observed: data[observed][:, :-1]}, rf"shape \(\.\.\., {program.observed[observed].size}\)"),
        ({**data, observed: data[observed] * np.nan}, "expected finite values"),
    ):
        with pytest.raises(ValueError, match=match):
            dg.fit(program, wrong, epochs=1, progress=False)
    with dg.engine.host.bound(), pytest.raises(ValueError, match=rf"expected {observed} of shape \(N, "):
        program.model(**given(dg, {**data, observed: data[observed][:, :-1]}, "float32"))


@pytest.mark.parametrize("name", NAMES)
def test_num_data_scales_the_rows(dg, double, name):
    """Local sites alone."""
    case, program = CASES[name], cases.program(dg, name)
    handlers = dg.engine.host.handlers
    batch, values = {**given(dg, case.data), "num_data": 5 * N}, given(dg, case.latents)
    with dg.engine.host.bound():
        if dg.engine.name == "numpyro":
            run = handlers.substitute(handlers.seed(program.model, 0), data=values)
            sites = handlers.trace(run).get_trace(**batch)
        else:
            sites = handlers.trace(handlers.condition(program.model, data=values)).get_trace(**batch).nodes
    for k in expected(name, case.log_model):
        assert float(sites[k]["scale"] or 1.0) == (1.0 if k in case.global_ else 5.0)
