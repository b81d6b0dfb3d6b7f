"""Programs as users of the hosts write them: each is weighed right, or refused by the name of the site.

z_n ~ N(0, 1), x_n ~ N(z_n, 1), 4 data, and the exact posterior for a guide: whatever the draws, every estimate of every
objective is log p(x), to which a row of the table may add what it adds itself.
"""

import contextlib

import numpy as np
import pytest
from gates import gate_mean, sampled
from helpers import array
from scipy import stats

X = np.array([0.5, -1.0, 2.0, 0.3])
LOG_P = stats.norm(0, 2**0.5).logpdf(X)
S = 0.5**0.5


class Host:
    """What the rows are written with."""

    def __init__(self, dg):
        self.dg, self.ppl, self.dist = dg, dg.engine.host.ppl, dg.engine.host.dist
        self.handlers, self.xp, self.numpyro = dg.engine.host.handlers, dg.engine.xp, dg.engine.name == "numpyro"

    def normal(self, loc, scale=1.0):
        loc = self.array(loc) if isinstance(loc, np.ndarray) else loc
        return self.dist.Normal(loc, self.array(scale))

    def array(self, x):
        return array(self.dg, x)

    def plate(self, size=4, name="data", **options):
        return self.ppl.plate(name, size, dim=-1, **options)

    def sample(self, *args, **kwargs):
        return self.ppl.sample(*args, **kwargs)

    def factor(self, name, value):
        if self.numpyro:
            return self.ppl.factor(name, value)
        return self.ppl.factor(name, value, has_rsample=False)

    def model(self, x):
        with self.plate():
            self.sample("x", self.normal(self.sample("z", self.normal(np.zeros(4)))), obs=x)

    def guide(self, x):
        with self.plate():
            self.sample("z", self.normal(x / 2, S))


def plain(h):
    return h.model, h.guide


def observed_outside(h):
    def model(x):
        with h.plate():
            z = h.sample("z", h.normal(np.zeros(4)))
        h.sample("x", h.normal(z).to_event(1), obs=x)

    return model, h.guide


def guide_without_plate(h):
    return h.model, lambda x: h.sample("z", h.normal(x / 2, S).to_event(1))


def model_without_plate(h):
    def model(x):
        z = h.sample("z", h.normal(np.zeros(4)))
        with h.plate():
            h.sample("x", h.normal(z), obs=x)

    return model, h.guide


def guide_in_another_plate(h):
    def guide(x):
        with h.plate(name="rows"):
            h.sample("z", h.normal(x / 2, S))

    return h.model, guide


def from_the_left(h):
    def model(x):
        with h.plate():
            z = h.sample("z", h.normal(np.zeros((4, 1))).to_event(1))
            h.sample("x", h.normal(z[:, 0]), obs=x)

    def guide(x):
        with h.plate():
            h.sample("z", h.normal(x[:, None] / 2, S).to_event(1))

    return model, guide


def factor_in_the_guide(h):
    def guide(x):
        h.guide(x)
        h.factor("f", h.array(7.0))

    return h.model, guide


def factor_of_each_datum_in_the_guide(h):
    def guide(x):
        with h.plate():
            h.sample("z", h.normal(x / 2, S))
            h.factor("f", h.array([1.0, 2.0, 3.0, 1.0]))

    return h.model, guide


def looks_at_all(h):
    def model(x):
        with h.plate():
            z = h.sample("z", h.normal(np.zeros(4)))
            h.sample("x", h.normal(z), obs=x)
        h.factor("f", 0.1 * z.sum())

    return model, h.guide


def looks_at_all_rows(h):
    """As above, with an axis left for the particles: the sum is over the rows alone."""

    def model(x):
        with h.plate():
            z = h.sample("z", h.normal(np.zeros(4)))
            h.sample("x", h.normal(z), obs=x)
        h.factor("f", 0.1 * z.sum(-1))

    return model, h.guide


def beside(h, model_looks=None, guide_looks=None, **plate):
    """A latent site outside the plate, which has one law on both sides unless it looks at the draws of each datum."""

    def half(local, looks):
        def program(x):
            with h.plate(**plate) as rows:
                z = local(x[rows] if plate else x)
            mean = h.array(0.0).reshape(()) if looks is None else looks(z)
            h.sample("t", h.dist.Normal(mean, h.array(1.0).reshape(())))

        return program

    def model(x):
        z = h.sample("z", h.normal(np.zeros(len(x))))
        h.sample("x", h.normal(z), obs=x)
        return z

    return half(model, model_looks), half(lambda x: h.sample("z", h.normal(x / 2, S)), guide_looks)


def latent_looks_at_all(h):
    return beside(h, lambda z: z.sum(-1))


def latent_looks_at_one(h):
    return beside(h, lambda z: 0.1 * z[..., 2] ** 2)


def guide_looks_at_all(h):
    return beside(h, guide_looks=lambda z: z.sum(-1))


def looks_at_a_part(h):
    return beside(h, lambda z: z.sum(-1), subsample_size=2)


def global_scale_in_the_model(h):
    """t ~ N(0, 1) on both sides, its log p at a tenth: the log-weight has -0.9 log N(t) more."""

    def model(x):
        with h.handlers.scale(scale=0.1):
            h.sample("t", h.dist.Normal(h.array(0.0), h.array(1.0)))
        h.model(x)

    def guide(x):
        h.sample("t", h.dist.Delta(h.array(0.5), log_density=h.array(0.0)))
        h.guide(x)

    return model, guide


WEIGHTS = np.array([1.0, 2.0, 0.5, 4.0])


def scale_of_each_datum(h):
    w = h.array(WEIGHTS)
    return tuple(h.handlers.scale(f, scale=w) for f in plain(h))


def scale_as_an_array(h):
    """Two arrays of one value are one scale."""
    return tuple(h.handlers.scale(f, scale=h.array(3.0)) for f in plain(h))


def undeclared_axis(h):
    """Three measurements of each datum along an axis that no plate names: NumPyro takes it, Pyro does not."""

    def model(x):
        with h.plate():
            z = h.sample("z", h.normal(np.zeros(4)))
            h.sample("x", h.normal(z), obs=x)
            h.sample("y", h.dist.Normal(h.array(np.zeros((3, 4))), h.array(1.0)), obs=h.array(np.ones((3, 4))))

    return model, h.guide


def masked(h):
    keep = h.xp.asarray(np.array([True, False, True, True])) if h.numpyro else h.array([1, 0, 1, 1]).bool()
    return tuple(h.handlers.mask(f, mask=keep) for f in plain(h))


def subsampled(h):
    """Two rows of the four; the rows of the model are those of the guide."""

    def model(x):
        with h.plate(subsample_size=2) as rows:
            h.sample("x", h.normal(h.sample("z", h.normal(np.zeros(2)))), obs=0.0 * x[rows] + 0.5)

    def guide(x):
        with h.plate(subsample_size=2) as rows:
            h.sample("z", h.normal(0.0 * x[rows] + 0.25, S))

    return model, guide


Y_OF_ONE = stats.norm.logpdf(1.0)

EXACT = LOG_P.sum()
FACTOR = "observed sites inside the plate"
LOOKS = r"latent sites outside the plate 'data' that look at no draw of a datum, got \['t'\]"
PROGRAMS = {
    # name: (pair, exact value, K = 1, K = 5, through fit on a part of the data), each None where right
    "plain": (plain, EXACT, None, None, None),
    "observed outside": (observed_outside, EXACT, None, "'x'", FACTOR),
    "guide without plate": (guide_without_plate, None, "'z'", "'z'", "'z'"),
    "model without plate": (model_without_plate, None, "'z'", "'z'", "'z'"),
    "guide in another plate": (guide_in_another_plate, None, "'z'", "'z'", "'z'"),
    "from the left": (from_the_left, EXACT, None, {"pyro": "'x'"}, None),
    "factor in the guide": (factor_in_the_guide, EXACT - 7, None, None, FACTOR),
    "factor of each datum in the guide": (factor_of_each_datum_in_the_guide, EXACT - 7, None, None, None),
    "looks at all": (looks_at_all, None, None, "'f'", FACTOR),
    "looks at all rows": (looks_at_all_rows, None, None, "'f'", FACTOR),
    "latent beside": (beside, EXACT, None, None, None),
    "latent looks at all": (latent_looks_at_all, None, None, "'t'", LOOKS),
    "latent looks at one": (latent_looks_at_one, None, None, "'t'", LOOKS),
    "guide looks at all": (guide_looks_at_all, None, None, "'t'", LOOKS),
    "looks at a part": (looks_at_a_part, None, "'t' of the scale 1", "'t'", None),
    "global scale": (global_scale_in_the_model, EXACT + 0.1 * stats.norm.logpdf(0.5), None, None, None),
    "scale of each datum": (scale_of_each_datum, WEIGHTS @ LOG_P, None, None, None),
    "scale as an array": (scale_as_an_array, 3 * EXACT, None, None, None),
    "undeclared axis": (undeclared_axis, EXACT + 12 * Y_OF_ONE, None, {"pyro": "'y'"}, None),
    "masked": (masked, LOG_P[[0, 2, 3]].sum(), None, None, None),
    "subsampled": (subsampled, 4 * LOG_P[0], None, None, None),
}


OUTSIDE = {"global scale": 0.1 * stats.norm.logpdf(0.5)}
"""What of the exact value stands outside the plate."""


def verdict(row, dg, k):
    """(exact value, sentence of the refusal or None)."""
    _, exact, one, five, _ = PROGRAMS[row]
    said = one if k == 1 else five
    return exact, said.get(dg.engine.name) if isinstance(said, dict) else said


@pytest.fixture(params=["numpyro-compiled", "pyro-eager", pytest.param("numpyro-eager", marks=pytest.mark.slow)])
def compiled_or_not(request):
    """(face, compiler): programs as they are, or under the host's compiler, which torch has none of."""
    engine, way = request.param.split("-")
    dg = request.getfixturevalue(f"dg_{engine}")
    if way == "eager":
        return dg, lambda fn: fn
    import jax

    return dg, jax.jit


def host_loss(dg, objective, pair, x):
    """The loss of the host's own SVI."""
    if dg.engine.name == "numpyro":
        import jax
        import optax
        from numpyro.infer import SVI

        svi = SVI(*pair, optax.sgd(0.0), objective)
        return svi.evaluate(svi.init(jax.random.key(0), x), x)
    import pyro
    from pyro.infer import SVI

    pyro.set_rng_seed(0)
    return SVI(*pair, pyro.optim.SGD({"lr": 0.0}), objective).evaluate_loss(x)


def objectives(dg, k):
    return dg.ELBO(num_particles=k), dg.IWAE(num_particles=k, num_global=2)


def expect(sentence):
    return contextlib.nullcontext() if sentence is None else pytest.raises(ValueError, match=sentence)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("name", list(PROGRAMS))
def test_programs(compiled_or_not, name, k):
    dg, compiler = compiled_or_not
    pair, (exact, sentence) = PROGRAMS[name][0](Host(dg)), verdict(name, dg, k)
    for objective in objectives(dg, k):
        one = compiler(lambda key, x, o=objective: o.estimate(dg.engine, key, *pair, (x,), {}))
        with expect(sentence):
            value = float(one(dg.engine.random.rng(0), array(dg, X)))
            assert exact is None or value == pytest.approx(exact, abs=2e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("name", list(PROGRAMS))
def test_programs_in_the_hosts_svi(dg, param_store, name, k):
    """With one particle, the same number as the host's own objective, where the host takes the pair."""
    pair, (exact, sentence) = PROGRAMS[name][0](Host(dg)), verdict(name, dg, k)
    x, objective = array(dg, X), dg.IWAE(num_particles=k)
    with expect(sentence):
        value = float(host_loss(dg, objective, pair, x))
        if exact is not None:
            assert value == pytest.approx(-exact, abs=2e-5)
        if k == 1 and not (dg.engine.name == "pyro" and name == "undeclared axis"):
            assert value == pytest.approx(float(host_loss(dg, own_elbo(dg), pair, x)), abs=2e-5)


def own_elbo(dg):
    """The host's own objective."""
    if dg.engine.name == "numpyro":
        from numpyro.infer import Trace_ELBO
    else:
        from pyro.infer import Trace_ELBO
    return Trace_ELBO()


# -- as `fit` sees them ------------------------------------------------------------------------------------------------


class Learned:
    """What an objective reads of a program that is trained."""

    def __init__(self, dg, pair):
        self.engine, (self.model, self.guide) = dg.engine, pair


def batch_loss(dg, objective, pair, num_data, mask=None, **batch):
    data = {name: array(dg, a) for name, a in ({"x": X} | batch).items()}
    rng, mask = dg.engine.random.rng(0), None if mask is None else array(dg, mask)
    return float(objective.batch_loss(rng, Learned(dg, pair), {}, data, mask, num_data)[0])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("name", list(PROGRAMS))
def test_programs_as_fit_sees_them(dg, name, k):
    """On all rows at once the loss is -L / N; where four rows stand for eight, what is local counts twice."""
    row, (exact, sentence) = PROGRAMS[name], verdict(name, dg, k)
    pair, outside, objective = row[0](Host(dg)), OUTSIDE.get(name, 0.0), dg.IWAE(num_particles=k)
    with expect(sentence):
        value = batch_loss(dg, objective, pair, 4)
        assert exact is None or value == pytest.approx(-exact / 4, abs=1e-5)
    with expect(sentence or row[4]):
        value = batch_loss(dg, objective, pair, 8)
        assert value == pytest.approx(-(2 * (exact - outside) + outside) / 8, abs=1e-5)


def test_what_looks_is_asked_once(dg):
    """A program is run once more at its first step alone, and only where it has sites that could look."""

    def runs(pair):
        calls = []
        counted = Learned(dg, (lambda x: calls.append(pair[0](x)), pair[1]))
        data, objective = {"x": array(dg, X)}, dg.ELBO()
        step = lambda key: objective.batch_loss(key, counted, {}, data, None, 4)[0]  # noqa: E731
        step = dg.engine.control.compile(step)
        for key in dg.engine.random.split(dg.engine.random.rng(0), 3):
            step(key)
        return len(calls)

    traced = dg.engine.name == "numpyro"
    assert runs(plain(Host(dg))) == (1 if traced else 3)
    assert runs(latent_looks_at_all(Host(dg))) == (2 if traced else 4)


def test_padding_and_row_weights(dg):
    """A mask counts nothing of a row, a weight multiplies its bound; the model never sees the weights."""
    pair, mask, w = plain(Host(dg)), np.array([1.0, 1.0, 1.0, 0.0]), np.array([0.5, 2.0, 3.0, 7.0])
    for objective in objectives(dg, 3):
        assert batch_loss(dg, objective, pair, 4, mask) == pytest.approx(-LOG_P[:3].mean(), abs=1e-5)
        assert batch_loss(dg, objective, pair, 4, weight=w) == pytest.approx(-(w @ LOG_P) / 4, abs=1e-5)
        both = batch_loss(dg, objective, pair, 6, mask, weight=w)
        assert both == pytest.approx(-(w[:3] @ LOG_P[:3]) / 3, abs=1e-5)


def test_a_row_that_counts_nothing_may_have_no_finite_bound(dg):
    pair, mask = plain(Host(dg)), np.array([1.0, 1.0, 1.0, 0.0])
    value = batch_loss(dg, dg.ELBO(), pair, 4, mask, x=np.array([*X[:3], 1e30]))
    assert value == pytest.approx(-LOG_P[:3].mean(), abs=1e-5)


def test_the_users_scale_is_kept(dg):
    """A likelihood at a tenth is one at a tenth also where a batch stands for more rows."""
    h = Host(dg)
    pair = tuple(h.handlers.scale(program, scale=0.1) for program in plain(h))
    assert batch_loss(dg, dg.ELBO(), pair, 40) == pytest.approx(-0.1 * EXACT / 4, abs=1e-6)


# -- closed forms ------------------------------------------------------------------------------------------------------

CHAIN = {"a": 0.8, "s1": 0.6, "b": 1.2, "sx": 0.7}
BOTTOM_UP = {"c": 0.5, "t1": 0.5, "d": 0.4, "t2": 0.9}


def bottom_up(dg):
    """z2 ~ N(0, 1), z1 ~ N(a z2, s1), x ~ N(b z1, sx); q: z1 ~ N(c x, t1), z2 ~ N(d z1, t2)."""
    ppl, dist = dg.engine.host.ppl, dg.engine.host.dist
    m, q = ({k: array(dg, v, "float64").reshape(()) for k, v in t.items()} for t in (CHAIN, BOTTOM_UP))

    def model(x):
        with ppl.plate("data", x.shape[0], dim=-1):
            z2 = ppl.sample("z2", dist.Normal(0.0 * x, 1.0 + 0.0 * m["a"]))
            z1 = ppl.sample("z1", dist.Normal(m["a"] * z2, m["s1"]))
            ppl.sample("x", dist.Normal(m["b"] * z1, m["sx"]), obs=x)

    def guide(x):
        with ppl.plate("data", x.shape[0], dim=-1):
            z1 = ppl.sample("z1", dist.Normal(q["c"] * x, q["t1"]))
            ppl.sample("z2", dist.Normal(q["d"] * z1, q["t2"]))

    return model, guide


def expected_log_normal(mean_square, scale):
    return -0.5 * np.log(2 * np.pi) - np.log(scale) - 0.5 * mean_square / scale**2


def bottom_up_elbo(x):
    """The ELBO by first and second moments."""
    (a, s1, b, sx), (c, t1, d, t2) = CHAIN.values(), BOTTOM_UP.values()
    m1, v1 = c * x, t1**2
    p = expected_log_normal((x - b * m1) ** 2 + b**2 * v1, sx)
    p += expected_log_normal(((1 - a * d) * m1) ** 2 + (1 - a * d) ** 2 * v1 + (a * t2) ** 2, s1)
    p += expected_log_normal((d * m1) ** 2 + d**2 * v1 + t2**2, 1.0)
    return np.sum(p - expected_log_normal(v1, t1) - expected_log_normal(t2**2, t2))


@pytest.mark.parametrize("analytic_kl", [False, True])
def test_elbo_of_a_bottom_up_guide(dg, double, analytic_kl):
    """z1 is drawn before its parent z2: its divergence would be that of another law."""
    x, engine = array(dg, np.tile(X, 100), "float64"), dg.engine
    objective, pair = dg.ELBO(analytic_kl=analytic_kl), bottom_up(dg)
    one = lambda key: objective.estimate(engine, key, *pair, (x,), {}) / 100  # noqa: E731

    def check(seed, factor):
        keys = engine.random.split(engine.random.rng(seed), 300 * factor)
        values = engine.arrays.to_numpy(engine.control.map(one, keys))
        gate_mean(values, bottom_up_elbo(X), se_cap=0.02)

    sampled(check, 81)


def test_the_divergence_of_a_transformed_point_is_no_closed_form(dg):
    """An autoguide draws a positive site as a point with the density of its transform."""
    h = Host(dg)

    def model(x):
        with h.plate():
            z = h.sample("z", h.dist.Exponential(h.array(np.ones(4))))
            h.sample("x", h.normal(z), obs=x)

    def guide(x):
        with h.plate():
            u = h.sample("u", h.normal(np.zeros(4)), infer={"is_auxiliary": True})
            h.sample("z", h.dist.Delta(h.xp.exp(u), log_density=-u))

    estimates = [
        float(
            dg.ELBO(num_particles=2, analytic_kl=a).estimate(
                dg.engine, dg.engine.random.rng(0), model, guide, (array(dg, X),), {}
            )
        )
        for a in (False, True)
    ]
    assert estimates[0] == pytest.approx(estimates[1], abs=1e-5)


# -- time steps in the host's scan -------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 5])
def test_scan(dg_numpyro, k):
    """Five steps, also with five particles: time is not taken for them."""
    import numpyro
    from numpyro.contrib.control_flow import scan

    dist, x = numpyro.distributions, array(dg_numpyro, np.arange(20.0).reshape(5, 4) / 10 - 1)

    def step_of(draw):
        def program(x):
            def step(carry, x_t):
                with numpyro.plate("data", 4, dim=-1):
                    draw(x_t)
                return carry, None

            scan(step, 0.0, x)

        return program

    model = step_of(
        lambda x_t: numpyro.sample("x", dist.Normal(numpyro.sample("z", dist.Normal(0 * x_t, 1.0)), 1.0), obs=x_t)
    )
    guide = step_of(lambda x_t: numpyro.sample("z", dist.Normal(x_t / 2, S)))
    for objective in (dg_numpyro.ELBO(num_particles=k), dg_numpyro.IWAE(num_particles=k)):
        value = float(objective.estimate(dg_numpyro.engine, dg_numpyro.engine.random.rng(0), model, guide, (x,), {}))
        assert value == pytest.approx(stats.norm(0, 2**0.5).logpdf(np.asarray(x)).sum(), abs=2e-5)
    wake_sleep = dg_numpyro.ReweightedWakeSleep(num_particles=2)
    with pytest.raises(ValueError, match="'z' inside the host's scan"):
        wake_sleep.estimate(dg_numpyro.engine, dg_numpyro.engine.random.rng(0), model, guide, (x,), {})


# -- the user's own state and parameters -------------------------------------------------------------------------------


def test_mutable_sites_move(dg_numpyro):
    """A counter of the user's counts the steps of their SVI."""
    import jax
    import optax
    from numpyro.infer import SVI
    from numpyro.primitives import mutable

    h = Host(dg_numpyro)

    def model(x):
        count = mutable("count", {"steps": h.array(0.0)})
        count["steps"] = count["steps"] + 1.0
        h.model(x)

    x = array(dg_numpyro, X)
    for objective in (dg_numpyro.ELBO(), dg_numpyro.IWAE(num_particles=3)):
        svi = SVI(model, h.guide, optax.sgd(0.0), objective)
        state = svi.init(jax.random.key(0), x)
        begun = float(state.mutable_state["count"]["steps"])
        for _ in range(3):
            state, loss = svi.update(state, x)
        assert float(state.mutable_state["count"]["steps"]) == begun + 3
        assert float(loss) == pytest.approx(-EXACT, abs=2e-5)
    svi = SVI(model, h.guide, optax.sgd(0.0), dg_numpyro.ELBO(num_global=2))
    with pytest.raises(ValueError, match=r"expected num_global=1 for the mutable \['count'\], got 2"):
        svi.update(svi.init(jax.random.key(0), x), x)


def test_parameters_are_put_in_where_a_program_keeps_its_own(dg):
    """`params` reach the program inside `host.bound()` as outside."""
    h, start = Host(dg), array(dg, 0.0)

    def model(x):
        with h.plate():
            h.sample("x", h.dist.Normal(dg.engine.host.param("m", start) + 0.0 * x, h.array(1.0)), obs=x)

    with dg.engine.host.bound():
        w = dg.ELBO().log_weights(
            dg.engine, dg.engine.random.rng(0), model, lambda x: None, (array(dg, X),), {}, {"m": array(dg, 0.5)}
        )
    np.testing.assert_allclose(dg.engine.arrays.to_numpy(w.local)[0, 0], stats.norm(0.5, 1).logpdf(X), atol=1e-6)


def test_tensors_that_pyro_does_not_know_are_refused(dg_pyro, param_store):
    """A guide that is a plain module would silently stay as it is."""
    import pyro
    import torch

    h = Host(dg_pyro)

    class Guide(torch.nn.Module):
        def __init__(self, *, register):
            super().__init__()
            self.slope, self.register = torch.nn.Parameter(torch.tensor(0.5)), register

        def forward(self, x):
            if self.register:
                pyro.module("guide", self)
            with h.plate():
                h.sample("z", h.normal(self.slope * x, S))

    optimizer, x = pyro.optim.SGD({"lr": 0.01}), array(dg_pyro, X)
    with pytest.raises(ValueError, match=r"expected parameters that Pyro knows, got \['slope'\]"):
        pyro.infer.SVI(h.model, Guide(register=False), optimizer, dg_pyro.ELBO()).step(x)
    guide = Guide(register=True)
    pyro.infer.SVI(h.model, guide, optimizer, dg_pyro.ELBO()).step(x)
    assert float(guide.slope.detach()) != 0.5


# -- the hosts' autoguides ---------------------------------------------------------------------------------------------

BOTH = ["AutoNormal", "AutoDiagonalNormal", "AutoMultivariateNormal", "AutoLowRankMultivariateNormal"]
GUIDES = {
    "numpyro": [*BOTH, "AutoIAFNormal", "AutoBNAFNormal", "AutoDAIS"],
    "pyro": [*BOTH, "AutoIAFNormal", "AutoStructured", "AutoGaussian", "AutoNormalizingFlow", "AutoGuideList"],
}


def regression(dg):
    """Global latents, one of them positive: y_n ~ N(w x_n, s)."""
    h = Host(dg)

    def model(x):
        w = h.sample("w", h.dist.Normal(h.array(0.0).reshape(()), h.array(1.0).reshape(())))
        s = h.sample("s", h.dist.LogNormal(h.array(0.0).reshape(()), h.array(1.0).reshape(())))
        with h.plate():
            h.sample("x", h.dist.Normal(w + 0.0 * x, s), obs=x)

    return model


def autoguide(dg, name, model, **scale):
    if dg.engine.name == "numpyro":
        import numpyro.infer.autoguide as module

        options = {"AutoIAFNormal": {"hidden_dims": [4]}, "AutoBNAFNormal": {"num_flows": 1}, "AutoDAIS": {"K": 2}}
        return getattr(module, name)(model, **options.get(name, scale))
    import functools

    import pyro.infer.autoguide as module
    from pyro import poutine
    from pyro.distributions.transforms import block_autoregressive

    if name == "AutoGuideList":
        guide = module.AutoGuideList(model)
        guide.append(module.AutoNormal(poutine.block(model, expose=["w"])))
        guide.append(module.AutoDiagonalNormal(poutine.block(model, expose=["s"])))
        return guide
    flow = functools.partial(block_autoregressive, hidden_factors=[2])
    own = (flow,) if name == "AutoNormalizingFlow" else ()
    return getattr(module, name)(model, *own, **scale)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("engine", ["numpyro", "pyro"])
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in ("AutoBNAFNormal", "AutoDAIS", "AutoIAFNormal") else [])
        for name in sorted({*GUIDES["numpyro"], *GUIDES["pyro"]})
    ],
)
def test_autoguides_of_global_sites(request, param_store, engine, name):
    """The same number as the host's own objective at the same draws, and a finite one with five particles.

    The first run sets the guide up, with draws of its own.
    """
    if name not in GUIDES[engine]:
        pytest.skip("the host has none, or it is not weighed")
    dg = request.getfixturevalue(f"dg_{engine}")
    model, x = regression(dg), array(dg, X)
    pair = model, autoguide(dg, name, model)
    _, own, ours = (float(host_loss(dg, o, pair, x)) for o in (own_elbo(dg), own_elbo(dg), dg.ELBO()))
    assert ours == pytest.approx(own, rel=1e-5)
    assert np.isfinite(float(host_loss(dg, dg.IWAE(num_particles=5), pair, x)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["AutoDiagonalNormal", "AutoMultivariateNormal", "AutoLowRankMultivariateNormal"])
def test_joint_autoguides_of_local_sites_are_refused(dg, param_store, name):
    h = Host(dg)
    for k in (1, 5):
        with pytest.raises(ValueError, match="no weight for each datum"):
            host_loss(dg, dg.IWAE(num_particles=k), (h.model, autoguide(dg, name, h.model)), array(dg, X))


@pytest.mark.filterwarnings("ignore")
def test_an_autoguide_of_local_sites(dg, param_store):
    """`AutoNormal` draws each site in its plate: the host's number, and more particles give a better bound."""
    h = Host(dg)
    pair, x = (h.model, autoguide(dg, "AutoNormal", h.model, init_scale=1.0)), array(dg, X)
    _, own, ours = (float(host_loss(dg, o, pair, x)) for o in (own_elbo(dg), own_elbo(dg), dg.ELBO()))
    assert ours == pytest.approx(own, rel=1e-5)
    assert float(host_loss(dg, dg.IWAE(num_particles=5000), pair, x)) == pytest.approx(-EXACT, abs=0.2)
