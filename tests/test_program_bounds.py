"""Bounds of programs: what each kind of latent site allows, against closed forms, and what is refused."""

import math

import cases
import numpy as np
import pytest
from gates import gate, gate_mean, sampled
from scipy import stats
from scipy.special import logsumexp

from deepgen_ppl.log_p.latents import latents_of
from deepgen_ppl.log_p.programs import _predictive
from deepgen_ppl.log_z.estimates import CERTIFIED, FLAGS

X = np.array([0.5, -1.0, 2.0, 0.1, 4.0])
RNG = np.random.default_rng(0)
WEIGHT = RNG.standard_normal((3, 2))


class Pieces:
    """The host under a program, and arrays like its own."""

    def __init__(self, program):
        self.host, self.like, self.xp = program.engine.host, program.like, program.engine.xp
        self.sample, self.dist, self.plate = self.host.ppl.sample, self.host.dist, self.host.ppl.plate
        self.array = lambda x: program.engine.arrays.asarray(np.asarray(x, float), like=program.like)
        self.cast = lambda x: program.engine.arrays.cast(x, program.like)

    def normal(self, loc, scale):
        return self.dist.Normal(self.array(loc) if np.isscalar(loc) else loc, self.array(scale))

    def bits(self, probs):
        return self.dist.Bernoulli(probs=self.array(probs)).to_event(1)


def program(dg, model, guide=lambda p, x: None, *, unit=None, dtype="float32"):
    """A program from functions of (pieces, x), with data (N, 1) unless a unit says otherwise."""

    class Made(dg.VAE):
        observed = {"x": unit or dg.Gaussian(1)}  # noqa: RUF012 - the property of a program

        def model(self, x=None, *, size=None, num_data=None):
            model(Pieces(self), x)

        def guide(self, x=None, *, size=None, num_data=None):
            guide(Pieces(self), x)

    return Made.init(dg.Gaussian(1), 1, (2,), rng=0, dtype=dtype)


def rows(x):
    return np.asarray(x, float).reshape(len(x), -1)


def local(p, x, loc="z", prior=0.0, plate="data"):
    """z ~ N(prior, 1), x ~ N(z, 1) for every row."""
    with p.plate(plate, x.shape[0], dim=-1):
        z = p.sample(loc, p.normal(prior, 1.0))
        p.sample("x", p.normal(z[..., None], 1.0).to_event(1), obs=x)


def local_guide(scale, plate="data"):
    """q(z given x) = N(x / 2, scale); exact at sqrt(1/2)."""

    def guide(p, x):
        with p.plate(plate, x.shape[0], dim=-1):
            p.sample("z", p.normal(x[..., 0] / 2, scale))

    return guide


# --- no latents, and finitely many: exact


def test_a_density_is_exact_on_both_sides(dg, double):
    """And so it can be beaten, and beat."""

    def gaussian(scale):
        def model(p, x):
            with p.plate("data", x.shape[0], dim=-1):
                p.sample("x", p.normal(p.array(np.zeros(3)), scale).to_event(1), obs=x)

        return program(dg, model, unit=dg.Gaussian(3), dtype="float64")

    def laplace(p, x):
        with p.plate("data", x.shape[0], dim=-1):
            p.sample("x", p.dist.Laplace(p.array(np.zeros(3)), p.array(1.0)).to_event(1), obs=x)

    x = np.random.default_rng(1).standard_normal((60, 3))
    models = {
        "one": gaussian(1.0),
        "five": gaussian(5.0),
        "laplace": program(dg, laplace, unit=dg.Gaussian(3), dtype="float64"),
    }
    table = dg.compare(models, x, rng=0)
    truth = {"one": stats.norm(0, 1), "five": stats.norm(0, 5), "laplace": stats.laplace(0, 1)}
    assert table.measure == "R^3"
    for name, e in table.bounds.items():
        exact = truth[name].logpdf(x).sum(1)
        assert (e.lower.kind, e.upper.kind, e.estimate.kind, e.lower.method) == ("exact",) * 3 + ("closed form",)
        np.testing.assert_allclose(e.pointwise, exact, rtol=0, atol=1e-10)
        assert e.lower.value == e.upper.value == pytest.approx(exact.mean(), abs=1e-10)
        assert (e.lower.mc_se, e.flags) == (0.0, ())
    assert set(table.better_than("one")) == {"five", "laplace"}
    assert table.better_than("five") == []


def bits_model(p, x):
    """h in {0, 1}^3, x ~ N(h W, 1) in R^2."""
    with p.plate("data", x.shape[0], dim=-1):
        h = p.sample("h", p.bits([0.2, 0.5, 0.7]))
        p.sample("x", p.normal(p.cast(h) @ p.array(WEIGHT), 1.0).to_event(1), obs=x)


def bits_plated(p, x):
    """The same with its units in a plate of their own, left of the data."""
    with p.plate("data", x.shape[0], dim=-1):
        with p.plate("units", 3, dim=-2):
            h = p.sample("h", p.dist.Bernoulli(probs=p.array([[0.2], [0.5], [0.7]])))
        mean = p.xp.moveaxis(p.cast(h), -2, -1) @ p.array(WEIGHT)
        p.sample("x", p.normal(mean, 1.0).to_event(1), obs=x)


def bits_two(p, x):
    """The same with two sites: the first a category of four states, two bits in one."""
    pairs = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    probs = np.where(pairs, [0.2, 0.5], [0.8, 0.5]).prod(1)
    with p.plate("data", x.shape[0], dim=-1):
        pair = p.sample("pair", p.dist.Categorical(probs=p.array(probs)))
        last = p.sample("last", p.dist.Bernoulli(probs=p.array(0.7)))
        one_hot = p.cast(p.xp.stack([pair == k for k in range(4)], axis=-1))
        mean = one_hot @ p.array(pairs @ WEIGHT[:2]) + p.cast(last)[..., None] * p.array(WEIGHT[2])
        p.sample("x", p.normal(mean, 1.0).to_event(1), obs=x)


def bits_exact(x):
    h = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    prior = np.log(np.where(h, [0.2, 0.5, 0.7], [0.8, 0.5, 0.3])).sum(1)
    return logsumexp(prior + stats.norm(h @ WEIGHT, 1).logpdf(x[:, None]).sum(-1), axis=1)


@pytest.mark.parametrize("model", [bits_model, bits_plated, bits_two])
def test_finitely_many_latent_states_are_summed(dg, double, model):
    x = np.random.default_rng(2).standard_normal((30, 2))
    made = program(dg, model, unit=dg.Gaussian(2), dtype="float64")
    e = dg.bounds(made, x, rng=0)
    np.testing.assert_allclose(e.pointwise, bits_exact(x), rtol=0, atol=1e-10)
    assert (e.lower.kind, e.upper.kind, e.lower.method) == ("exact", "exact", "sum over 8 latent states")
    with pytest.raises(
        ValueError, match=r"expected a guide that draws \['h'\]|expected a guide that draws \['pair', 'last'\]"
    ):
        dg.bounds(made, x, rng=0, options=dg.BoundsOptions(latent_bits=2))


def test_states_in_pieces_of_rows(dg, double, monkeypatch):
    """More states times rows than go through at once, and a last piece that is not full."""
    from deepgen_ppl.log_p import importance

    monkeypatch.setattr(importance, "ROWS", 8 * 7)
    x = np.random.default_rng(2).standard_normal((30, 2))
    e = dg.bounds(program(dg, bits_model, unit=dg.Gaussian(2), dtype="float64"), x, rng=0)
    np.testing.assert_allclose(e.pointwise, bits_exact(x), rtol=0, atol=1e-10)


def test_beyond_the_limit_states_are_drawn(dg):
    def guide(p, x):
        with p.plate("data", x.shape[0], dim=-1):
            p.sample("h", p.bits([0.5, 0.5, 0.5]))

    x = np.random.default_rng(2).standard_normal((30, 2))
    made = program(dg, bits_model, guide, unit=dg.Gaussian(2))
    e = dg.bounds(made, x, rng=0, options=dg.BoundsOptions(num_particles=2000, latent_bits=2))
    assert (e.lower.kind, e.upper.kind) == ("bound", "none")
    error = (e.pointwise - bits_exact(x)).mean() / e.lower.mc_se
    assert abs(error) < 5
    assert e.lower.mc_se < 0.01


# --- latents of each datum


def test_exact_posterior_gives_exact_weights(dg, double):
    e = dg.bounds(program(dg, local, local_guide(math.sqrt(0.5)), dtype="float64"), rows(X), rng=0)
    np.testing.assert_allclose(e.pointwise, stats.norm(0, math.sqrt(2)).logpdf(X), rtol=0, atol=1e-10)
    assert (e.lower.kind, e.upper.kind, e.upper.reason) == ("bound", "none", "no exact posterior draws")


def test_all_particles_are_draws_of_their_own(dg):
    """E[w] = p(x), K draws a datum: the mean over 400 repetitions of one row, and its spread as K draws have it."""
    made = program(dg, local, local_guide(1.2))
    exact = stats.norm(0, math.sqrt(2)).logpdf(0.5)

    def check(seed, factor):
        spread = {}
        for num in (10, 40):
            e = dg.bounds(made, np.full((400 * factor, 1), 0.5), rng=seed, options=dg.BoundsOptions(num_particles=num))
            w = np.exp(e.pointwise - exact)
            gate(w.mean(), w.std(ddof=1) / math.sqrt(len(w)), 1.0, len(w), 0.02)
            spread[num] = w.var()
        assert 2.5 < spread[10] / spread[40] < 6.5

    sampled(check, 3)


# --- latents that all data share


def shared_model(p, x):
    t = p.sample("t", p.normal(0.0, 3.0))
    with p.plate("data", x.shape[0], dim=-1):
        p.sample("x", p.normal(t + 0 * x, 1.0).to_event(1), obs=x)


def shared_guide(p, x):
    p.sample("t", p.normal(5.0, 0.1))


def both_model(p, x):
    """t ~ N(0, 3), z ~ N(t, 1), x ~ N(z, 1)."""
    t = p.sample("t", p.normal(0.0, 3.0))
    with p.plate("data", x.shape[0], dim=-1):
        z = p.sample("z", p.normal(t, 1.0))
        p.sample("x", p.normal(z[..., None], 1.0).to_event(1), obs=x)


def both_guide(p, x):
    t = p.sample("t", p.normal(5.0, 0.3))
    with p.plate("data", x.shape[0], dim=-1):
        p.sample("z", p.normal((x[..., 0] + t) / 2, 0.9))


@pytest.mark.parametrize(
    ("model", "guide", "scale"),
    [
        (shared_model, shared_guide, math.sqrt(1.01)),
        pytest.param(both_model, both_guide, math.sqrt(2.09), marks=pytest.mark.slow),
    ],
)
def test_predictive_over_draws_and_its_error(dg, model, guide, scale):
    """200 seeds of one guide: mean weights have the closed form for their mean, and spread as each run claims."""
    made, exact = program(dg, model, guide), stats.norm(5, scale).logpdf(X + 4)
    batch = {"x": dg.engine.arrays.asarray(rows(X + 4), like=made.like)}
    options = dg.BoundsOptions(num_particles=30)
    latents = latents_of(made, batch, dg.engine.random.rng(0, made.like))

    def run(seed):
        rng = dg.engine.random.rng(seed, made.like)
        return _predictive(made, batch, rng, options, latents, None, weighed=bool(latents.local), show=False)

    def check(seed, factor):
        found = [run(seed + s) for s in range(200 * factor)]
        weights = np.exp(np.array([e.pointwise for e in found]) - exact)
        gate_mean(weights.mean(1), 1.0, 0.02)
        values, claimed = np.array([[e.lower.value, e.lower.mc_se] for e in found]).T
        ratio = values.var(ddof=1) / np.mean(claimed**2)
        gate(ratio, ratio * math.sqrt(2 / (len(values) - 1)), 1.0, len(values), 0.2)

    sampled(check, 17)
    e = dg.bounds(made, rows(X + 4), rng=0, options=options)
    assert (e.lower.kind, e.upper.kind, e.flags) == ("bound", "none", ("predictive",))
    assert e.lower.margin == CERTIFIED  # the draws are shared: Markov's margin does not shrink with N
    assert "draws of t from the guide" in e.lower.method


def test_a_guide_far_from_the_data_is_not_silent(dg):
    """Weights that scatter widely over the draws: the error is withheld, and a flag says so."""

    def guide(p, x):
        p.sample("t", p.normal(-9.0, 2.0))

    e = dg.bounds(program(dg, shared_model, guide), rows(X), rng=0, options=dg.BoundsOptions(num_particles=100))
    assert e.lower.withheld
    assert e.flags == ("predictive", "low_ess")


def test_a_point_mass_over_shared_sites_is_plugged_in(dg):
    def guide(p, x):
        p.sample("t", p.dist.Delta(p.array(1.5)))

    e = dg.bounds(program(dg, shared_model, guide), rows(X), rng=0, options=dg.BoundsOptions(num_particles=5))
    np.testing.assert_allclose(e.pointwise, stats.norm(1.5, 1).logpdf(X), atol=1e-5)
    assert e.flags == ("predictive", "plug_in")
    assert e.upper.kind == "none"


def test_shared_draws_with_finite_latents_of_each_datum(dg):
    """c ~ Bernoulli(1/2) for each row, x ~ N(t + 2 c, 1): summed for each draw of t; the guide need not draw c."""

    def model(p, x):
        t = p.sample("t", p.normal(0.0, 3.0))
        with p.plate("data", x.shape[0], dim=-1):
            c = p.sample("c", p.dist.Bernoulli(probs=p.array(0.5)))
            p.sample("x", p.normal((t + 2 * p.cast(c))[..., None], 1.0).to_event(1), obs=x)

    def guide(p, x):
        p.sample("t", p.dist.Delta(p.array(1.5)))

    e = dg.bounds(program(dg, model, guide), rows(X), rng=0, options=dg.BoundsOptions(num_particles=3))
    exact = np.logaddexp(stats.norm(1.5, 1).logpdf(X), stats.norm(3.5, 1).logpdf(X)) - math.log(2)
    np.testing.assert_allclose(e.pointwise, exact, atol=1e-5)


# --- machines inside


def machine_prior(machine, log_normalizer):
    def model(p, x):
        with p.plate("data", x.shape[0], dim=-1):
            v = p.sample("v", machine.marginal("v", log_normalizer=log_normalizer))
            p.sample("x", p.normal(p.cast(v)[..., :1], 1.0).to_event(1), obs=x)

    return model


def machine_guide(p, x):
    with p.plate("data", x.shape[0], dim=-1):
        p.sample("v", p.bits(np.full(4, 0.5)))


def test_a_machine_inside_leaves_its_sides(dg):
    """Forward AIS leaves no lower side, reverse AIS from exact draws does, exact log Z loses nothing."""
    rbm = cases.machine(dg, "rbm", np.float32)
    states = np.array(np.meshgrid(*[[0, 1]] * 4, indexing="ij")).reshape(4, -1).T
    prior = -cases.oracle("rbm").free_energies({"v": states}) - cases.oracle("rbm").log_z
    exact = logsumexp(prior + stats.norm(states[:, 0], 1).logpdf(X[:, None]), axis=1)
    options = dg.BoundsOptions(num_particles=4000)
    forward, reverse = (dg.ais(rbm, rng=0, betas=4, num_runs=200, reverse=way) for way in (False, True))
    kinds = {"exact": ("bound", 0.0), "forward": ("none", forward.se), "reverse": ("bound", reverse.se)}
    for (name, (kind, se)), policy in zip(kinds.items(), ("exact", forward, reverse), strict=True):
        e = dg.bounds(program(dg, machine_prior(rbm, policy), machine_guide), rows(X), rng=0, options=options)
        assert (e.lower.kind, e.upper.kind) == (kind, "none"), name
        shift = 0.0 if policy == "exact" else policy.value - cases.oracle("rbm").log_z
        error = e.pointwise.mean() + shift - exact.mean()
        assert abs(error) < 5 * 0.01, name
        np.testing.assert_equal(e.se_log_z, se)
        if kind == "none":
            assert e.estimate.kind == "estimate"
            assert "log Z of a machine inside the program leaves no lower side" in e.lower.reason
        else:
            np.testing.assert_equal(e.lower.mc_se >= se, math.isfinite(se))
        assert set(e.flags) <= FLAGS.keys()
        if policy != "exact":
            assert set(policy.flags) <= set(e.flags)


def test_an_observed_machine_has_the_sides_of_its_normalizer(dg):
    rbm = cases.machine(dg, "rbm", np.float32)
    x = np.random.default_rng(0).integers(0, 2, (25, 4))
    exact = -cases.oracle("rbm").free_energies({"v": x}) - cases.oracle("rbm").log_z
    forward, reverse = (dg.ais(rbm, rng=0, betas=50, num_runs=400, reverse=way) for way in (False, True))
    sides = {"exact": ("exact", "exact"), forward: ("none", "bound"), reverse: ("bound", "none")}
    for policy, expected in sides.items():

        def model(p, x, policy=policy):
            with p.plate("data", x.shape[0], dim=-1):
                p.sample("x", rbm.marginal("v", log_normalizer=policy), obs=x)

        e = dg.bounds(program(dg, model, unit=dg.Bernoulli(4)), x, rng=0)
        assert (e.lower.kind, e.upper.kind) == expected
        shift = 0.0 if policy == "exact" else policy.value - cases.oracle("rbm").log_z
        np.testing.assert_allclose(e.pointwise + shift, exact, atol=1e-4)
        claimed = e.lower if e.lower.kind != "none" else e.upper
        assert claimed.mc_se == (0.0 if policy == "exact" else policy.se)


# --- no density, and what is refused


def test_a_sampler_without_a_density_has_no_sides(dg):
    def model(p, x):
        with p.plate("data", x.shape[0], dim=-1):
            z = p.sample("z", p.normal(0.0, 1.0))
            p.host.ppl.deterministic("x", z[..., None])

    e = dg.bounds(program(dg, model, local_guide(1.0)), rows(X), rng=0)
    for side in (e.lower, e.upper, e.estimate):
        assert (side.kind, side.reason) == ("none", "the program draws and observes nothing: it has no density")
    table = dg.compare({"a": program(dg, model, local_guide(1.0))}, rows(X), rng=0)
    assert table.bounds["a"].flags == ("no_density",)
    assert "nan" not in str(table)


def outside(p, x):
    with p.plate("data", x.shape[0], dim=-1):
        z = p.sample("z", p.normal(0.0, 1.0))
    p.sample("x", p.normal(z[..., None], 1.0).to_event(2), obs=x)


def no_plate(p, x):
    z = p.sample("z", p.normal(p.array(np.zeros(x.shape[0])), 1.0).to_event(1))
    p.sample("x", p.normal(z[..., None], 1.0).to_event(2), obs=x)


def scaled(p, x):
    with p.host.handlers.scale(scale=2.0):
        local(p, x)


def factored(p, x):
    with p.plate("data", x.shape[0], dim=-1):
        p.sample("x", p.normal(p.array(np.zeros(1)), 1.0).to_event(1), obs=x)
        p.host.ppl.factor("f", x[..., 0])


def batch_mean(p, x):
    with p.plate("data", x.shape[0], dim=-1):
        z = p.sample("z", p.normal(0.0, 1.0))
        p.sample("x", p.normal(z[..., None] + p.xp.mean(x), 1.0).to_event(1), obs=x)


def delta_guide(p, x):
    with p.plate("data", x.shape[0], dim=-1):
        p.sample("z", p.dist.Delta(x[..., 0] / 2))


def looking(p, x):
    with p.plate("data", x.shape[0], dim=-1):
        z = p.sample("z", p.normal(0.0, 1.0))
        p.sample("x", p.normal(z[..., None], 1.0).to_event(1), obs=x)
    p.sample("t", p.normal(p.xp.sum(z), 1.0))


def guide_of_both(p, x):
    local_guide(1.0)(p, x)
    p.sample("t", p.normal(p.array(0.0).reshape(()), 1.0))


def reading_guide(p, x):
    p.sample("t", p.normal(p.xp.mean(x), 0.1))


def no_guide(p, x):
    pass


REFUSED = {
    "x outside the plate": (
        outside,
        local_guide(1.0),
        r"observed site 'x' inside a plate named 'data' .* got the plates \[\]",
    ),
    "no plate": (
        no_plate,
        no_guide,
        r"expected the same latent sites in model and guide, got \['z'\]|observed site 'x' inside",
    ),
    "a point mass": (
        local,
        delta_guide,
        r"guide with a density at the site 'z' of each datum, got a point mass \(Delta\)",
    ),
    "the guide's plate": (
        local,
        local_guide(1.0, plate="rows"),
        r"site 'z' of the guide inside the plates \['data'\], .* \['rows'\]",
    ),
    "no draws of z": (local, no_guide, r"expected a guide that draws \['z'\], which cannot be summed"),
    "a scale": (scaled, local_guide(1.0), r"expected sites counted once, got the scale 2.0 at the site"),
    "a factor": (factored, no_guide, "expected observed sites with a density, got the factor 'f'"),
    "rows that look at each other": (batch_mean, local_guide(1.0), "expected rows that do not look at each other"),
    "no guide of t": (
        shared_model,
        no_guide,
        r"expected the same latent sites in model and guide, got \['t'\] in the model",
    ),
    "another site": (local, both_guide, r"expected the same latent sites in model and guide, got \['z'\] in the model"),
    "a shared site that looks at all": (looking, guide_of_both, r"look at no draw of a datum, got \['t'\]"),
    "a guide that reads": (shared_model, reading_guide, "site 't', shared by all data, does not read the rows at hand"),
}


@pytest.mark.parametrize("what", list(REFUSED))
def test_what_cannot_be_weighed_is_refused(dg, what):
    model, guide, message = REFUSED[what]
    with pytest.raises(ValueError, match=message):
        dg.bounds(program(dg, model, guide), rows(X), rng=0)
