"""Programs as users of the hosts write them: each is weighed right, or refused by the name of the site.

z_n ~ N(0, 1), x_n ~ N(z_n, 1), 4 data, and the exact posterior for a guide: whatever the draws, every estimate of every
objective is log p(x), to which a row of the table may add what it adds itself.
"""

import contextlib

import numpy as np
import pytest
from scipy import stats

X = np.array([0.5, -1.0, 2.0, 0.3])
LOG_P = stats.norm(0, 2**0.5).logpdf(X)
S = 0.5**0.5


def array(dg, x, dtype="float32"):
    return dg.engine.arrays.asarray(np.asarray(x, dtype))


class Host:
    """What the rows are written with."""

    def __init__(self, dg):
        self.dg, self.ppl, self.dist = dg, dg.engine.host.ppl, dg.engine.host.dist
        self.handlers, self.xp, self.numpyro = dg.engine.host.handlers, dg.engine.xp, dg.engine.name == "numpyro"

    def normal(self, loc, scale=1.0):
        loc = loc if hasattr(loc, "shape") else self.array(loc)
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
        h.guide(x)
        with h.plate():
            h.factor("f", h.array([1.0, 2.0, 3.0, 1.0]))

    return h.model, guide


def looks_at_all(h):
    def model(x):
        with h.plate():
            z = h.sample("z", h.normal(np.zeros(4)))
            h.sample("x", h.normal(z), obs=x)
        h.factor("f", 0.0 * z.sum() - 3.0)

    return model, h.guide


def looks_at_all_rows(h):
    """As above, with an axis left for the particles: the sum is over the rows alone."""

    def model(x):
        with h.plate():
            z = h.sample("z", h.normal(np.zeros(4)))
            h.sample("x", h.normal(z), obs=x)
        h.factor("f", 0.0 * z.sum(-1) - 3.0)

    return model, h.guide


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
RIGHT, REFUSED = "right", "refused"
FACTOR = "observed sites inside the plate"
PROGRAMS = {
    # name: (pair, exact value, K = 1, K = 5, through fit on a part of the data), each None where right
    "plain": (plain, EXACT, None, None, None),
    "observed outside": (observed_outside, EXACT, None, "'x'", FACTOR),
    "guide without plate": (guide_without_plate, None, "'z'", "'z'", "'z'"),
    "model without plate": (model_without_plate, None, "'z'", "'z'", "'z'"),
    "guide in another plate": (guide_in_another_plate, None, "'z'", "'z'", "'z'"),
    "from the left": (from_the_left, EXACT, None, {"pyro": "'x'"}, None),
    "factor in the guide": (factor_in_the_guide, EXACT - 7, None, None, None),
    "factor of each datum in the guide": (factor_of_each_datum_in_the_guide, EXACT - 7, None, None, None),
    "looks at all": (looks_at_all, EXACT - 3, None, "'f'", FACTOR),
    "looks at all rows": (looks_at_all_rows, EXACT - 3, None, "'f'", FACTOR),
    "global scale": (global_scale_in_the_model, EXACT + 0.1 * stats.norm.logpdf(0.5), None, None, None),
    "scale of each datum": (scale_of_each_datum, WEIGHTS @ LOG_P, None, None, None),
    "scale as an array": (scale_as_an_array, 3 * EXACT, None, None, None),
    "undeclared axis": (undeclared_axis, EXACT + 12 * Y_OF_ONE, None, {"pyro": "'y'"}, None),
    "masked": (masked, LOG_P[[0, 2, 3]].sum(), None, None, None),
    "subsampled": (subsampled, 4 * LOG_P[0], None, None, None),
}


def verdict(row, dg, k):
    """(exact value, sentence of the refusal or None)."""
    _, exact, one, five, _ = PROGRAMS[row]
    said = one if k == 1 else five
    return exact, said.get(dg.engine.name) if isinstance(said, dict) else said


@pytest.fixture(params=["eager", "compiled"])
def way(request):
    return request.param


def compiled(dg, way, fn):
    """The function as it is, or under the host's compiler (which torch has none of)."""
    if way == "eager" or dg.engine.name == "pyro":
        if way == "compiled":
            pytest.skip("torch runs programs eagerly")
        return fn
    import jax

    return jax.jit(fn)


def host_loss(dg, objective, pair, x, k):
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
    return dg.ELBO(num_particles=k), dg.IWAE(num_particles=k), dg.IWAE(num_particles=k, num_global=2)


def expect(sentence):
    return contextlib.nullcontext() if sentence is None else pytest.raises(ValueError, match=sentence)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("name", list(PROGRAMS))
def test_programs(dg, way, name, k):
    pair, (exact, sentence) = PROGRAMS[name][0](Host(dg)), verdict(name, dg, k)
    for objective in objectives(dg, k):
        one = compiled(dg, way, lambda key, x, o=objective: o.estimate(dg.engine, key, *pair, (x,), {}))
        with expect(sentence):
            assert float(one(dg.engine.random.rng(0), array(dg, X))) == pytest.approx(exact, abs=2e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("name", list(PROGRAMS))
def test_programs_in_the_hosts_svi(dg, param_store, name, k):
    pair, (exact, sentence) = PROGRAMS[name][0](Host(dg)), verdict(name, dg, k)
    for objective in objectives(dg, k)[1:]:
        with expect(sentence):
            assert float(host_loss(dg, objective, pair, array(dg, X), k)) == pytest.approx(-exact, abs=2e-5)
