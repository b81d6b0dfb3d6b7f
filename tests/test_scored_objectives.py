"""Objectives of guides whose draws have no pathwise gradient: every K-tuple of states of a two-layer binary net.

    h2_j ~ Bernoulli(b2_j),  h1 ~ Bernoulli(h2 W2 + b1),  x ~ Bernoulli(h1 W1 + c),   logits throughout
    q: h1 ~ Bernoulli(x V1 + a1),  h2 ~ Bernoulli(h1 V2 + a2)

The truth is NumPy's, its derivatives by complex steps (exact to the last bits).
"""

import dataclasses
import functools
import itertools

import numpy as np
import pytest
from gates import gate_mean, sampled
from scipy import special, stats

X = np.array([1.0, 0.0, 1.0])
RNG = np.random.default_rng(0)
MODEL = {"b2": (2,), "W2": (2, 2), "b1": (2,), "W1": (2, 3), "c": (3,)}
GUIDE = {"V1": (3, 2), "a1": (2,), "V2": (2, 2), "a2": (2,)}
PARAMS = {name: RNG.normal(size=shape) for name, shape in (MODEL | GUIDE).items()}
STATES = np.array(list(itertools.product((0.0, 1.0), repeat=4)))
H1, H2 = STATES[:, :2], STATES[:, 2:]


# -- truth -------------------------------------------------------------------------------------------------------------


def log_bernoulli(x, logits):
    return np.sum(x * logits - np.log(1 + np.exp(logits)), -1)


def log_p(t):
    """log p(x, h1, h2) of the 16 states."""
    below = log_bernoulli(X, H1 @ t["W1"] + t["c"]) + log_bernoulli(H1, H2 @ t["W2"] + t["b1"])
    return below + log_bernoulli(H2, t["b2"])


def log_q(t):
    return log_bernoulli(H1, X @ t["V1"] + t["a1"]) + log_bernoulli(H2, H1 @ t["V2"] + t["a2"])


def tuples(k):
    return np.array(list(itertools.product(range(16), repeat=k)))


def elbo(w):
    return w.mean(-1)


def iwae(w):
    return np.log(np.exp(w).mean(-1))


def expected_bound(bound, k):
    """t -> E over all K-tuples of the bound of their log-weights."""

    def value(t):
        q = log_q(t)[tuples(k)]
        return np.sum(np.exp(q.sum(-1)) * bound(log_p(t)[tuples(k)] - q))

    return value


def slope(value, names):
    """Gradient by complex steps: name -> array."""
    out = {}
    for name in names:
        out[name] = np.zeros_like(PARAMS[name])
        for at in np.ndindex(PARAMS[name].shape):
            t = {n: a.astype(complex) for n, a in PARAMS.items()}
            t[name][at] += 1e-30j
            out[name][at] = value(t).imag / 1e-30
    return out


def wake_of_the_guide(k):
    """t -> E sum_k v_k log q(z_k), which reweighted wake-sleep ascends; E and v at the parameters."""
    q, w = log_q(PARAMS)[tuples(k)], (log_p(PARAMS) - log_q(PARAMS))[tuples(k)]
    weight = np.exp(q.sum(-1))[:, None] * special.softmax(w, -1)
    return lambda t: np.sum(weight * log_q(t)[tuples(k)])


def wake_of_the_model(t):
    """E_q log p(x, z): what wake-sleep ascends in the model."""
    return np.exp(log_q(PARAMS)) @ log_p(t)


# -- programs ----------------------------------------------------------------------------------------------------------


def net(dg, dtype="float32"):
    """(model, guide) of the parameters that the host is given."""
    host, ppl, dist, cast = dg.engine.host, dg.engine.host.ppl, dg.engine.host.dist, dg.engine.arrays.cast
    start = {name: dg.engine.arrays.asarray(a.astype(dtype)) for name, a in PARAMS.items()}
    param = lambda name: host.param(name, start[name])  # noqa: E731

    def draw(name, logits):
        return cast(ppl.sample(name, dist.Bernoulli(logits=logits).to_event(1)), start["c"])

    def model(x):
        b2, w2, b1, w1, c = (param(name) for name in MODEL)
        with ppl.plate("data", x.shape[0], dim=-1):
            h2 = draw("h2", b2)
            h1 = draw("h1", h2 @ w2 + b1)
            ppl.sample("x", dist.Bernoulli(logits=h1 @ w1 + c).to_event(1), obs=x)

    def guide(x):
        v1, a1, v2, a2 = (param(name) for name in GUIDE)
        with ppl.plate("data", x.shape[0], dim=-1):
            h1 = draw("h1", x @ v1 + a1)
            draw("h2", h1 @ v2 + a2)

    return model, guide


def put_in(engine, sites, values):
    """The sites of a run with other values."""
    return {name: dataclasses.replace(sites[name], value=value) for name, value in values.items()}


def enumerated(dg, objective):
    """Gradient of the objective's estimate, in expectation over all K-tuples: one tuple a row, weighed by its odds."""
    from deepgen_ppl.objectives.log_weights import LogWeights, weigh

    engine, k = dg.engine, objective.num_particles
    asarray = lambda a: engine.arrays.asarray(np.ascontiguousarray(a))  # noqa: E731
    at = tuples(k).T  # (K, T)
    odds = asarray(np.exp(log_q(PARAMS)[at].sum(0)))
    x = asarray(np.tile(X, (at.shape[1], 1)))
    model, guide = net(dg, "float64")

    def value(params):
        run = functools.partial(engine.host.run, batch={"x": x}, params=params)
        first = run(guide, rng=engine.random.rng(0), particles=k)
        draws = put_in(engine, first, {"h1": asarray(H1[at]), "h2": asarray(H2[at])})
        out = weigh(engine, objective, run(model, values=draws), run(guide, values=draws))
        local = sum(out["terms"].values())
        score = out["score"]
        return objective.evaluate(engine, LogWeights(local[None], out["global"][None], odds, score=score[None]))

    with engine.host.bound():
        total, grads = engine.control.value_and_grad(value)({n: asarray(a) for n, a in PARAMS.items()})
    return float(total), {name: engine.arrays.to_numpy(g) for name, g in grads.items()}


def distance(got, exact):
    return max(np.abs(got[name] - exact[name]).max() for name in exact)


@pytest.mark.parametrize("k", [2, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("name", "bound"), [("VIMCO", iwae), ("RLOO", elbo)])
def test_the_gradient_is_that_of_the_bound(dg, double, name, bound, k):
    value, grads = enumerated(dg, getattr(dg, name)(num_particles=k))
    exact = expected_bound(bound, k)
    assert value == pytest.approx(exact(PARAMS), abs=1e-10)
    assert distance(grads, slope(exact, PARAMS)) < 1e-10


def test_reweighted_wake_sleep(dg, double):
    """The model's gradient is that of the importance-weighted bound, the guide's the weighted mean of grad log q."""
    _, grads = enumerated(dg, dg.ReweightedWakeSleep(num_particles=2))
    assert distance(grads, slope(expected_bound(iwae, 2), MODEL)) < 1e-10
    assert distance(grads, slope(wake_of_the_guide(2), GUIDE)) < 1e-10


def test_the_wake_phase_of_wake_sleep(dg, double):
    """It reaches the model alone."""
    _, grads = enumerated(dg, dg.WakeSleep(num_particles=2))
    assert distance(grads, slope(wake_of_the_model, MODEL)) < 1e-10
    assert distance(grads, {name: np.zeros(shape) for name, shape in GUIDE.items()}) < 1e-10


MUTANTS = {
    "no score": ("VIMCO", lambda own: lambda self, e, w: 0.0 * w),
    "other sign of the score": ("VIMCO", lambda own: lambda self, e, w: -own(self, e, w)),
    "own weight in the baseline": ("VIMCO", lambda own: lambda self, e, w: self.bound(e, w)[:, None] - w),
    "not divided by K": ("RLOO", lambda own: lambda self, e, w: 2 * own(self, e, w)),
    "other sign": ("RLOO", lambda own: lambda self, e, w: -own(self, e, w)),
    "other sign of the guide's phase": ("ReweightedWakeSleep", lambda own: lambda self, e, w: -own(self, e, w)),
}


@pytest.mark.parametrize("fault", list(MUTANTS))
def test_mutants_are_far_off(dg_pyro, fault):
    name, signal = MUTANTS[fault]
    base = getattr(dg_pyro, name)
    objective = type("Mutant", (base,), {"signal": signal(base.signal)})(num_particles=2)
    truth = {"VIMCO": expected_bound(iwae, 2), "RLOO": expected_bound(elbo, 2)}
    _, grads = enumerated(dg_pyro, objective)
    assert distance(grads, slope(truth.get(name, wake_of_the_guide(2)), GUIDE)) > 0.1


# -- draws of both kinds, and of the model -----------------------------------------------------------------------------


def gradients(dg, objective, pair, params, x, repetitions, seed):
    """Independent gradients of L / N, shape (repetitions, ...), by the name of the parameter."""
    engine = dg.engine
    x = engine.arrays.asarray(np.asarray(x, np.float32))
    params = {name: engine.arrays.asarray(np.asarray(a, np.float32)) for name, a in params.items()}
    value = lambda p, key: objective.estimate(engine, key, *pair, (), {"x": x}, p) / x.shape[0]  # noqa: E731
    one = lambda key: engine.control.value_and_grad(value)(params, key)[1]  # noqa: E731
    with engine.host.bound():
        if engine.name == "numpyro":
            import jax

            grads = jax.jit(lambda keys: jax.lax.map(one, keys))(jax.random.split(jax.random.key(seed), repetitions))
            return {name: np.asarray(g, float) for name, g in grads.items()}
        rng = engine.random.rng(seed)
        runs = [one(rng) for _ in range(repetitions)]
    return {name: np.stack([r[name].numpy() for r in runs]).astype(float) for name in params}


def test_the_sleep_phase_of_wake_sleep(dg):
    """The guide's gradient is that of E_p log q(z | x), over all 2^7 outcomes."""
    t = {n: a.astype(np.float32) for n, a in PARAMS.items()}
    xs = np.array(list(itertools.product((0.0, 1.0), repeat=3)))
    exact = {name: np.zeros_like(PARAMS[name]) for name in GUIDE}
    for x in xs:
        h1, h2 = H1, H2
        joint = log_bernoulli(x, h1 @ PARAMS["W1"] + PARAMS["c"]) + log_bernoulli(h1, h2 @ PARAMS["W2"] + PARAMS["b1"])
        p = np.exp(joint + log_bernoulli(h2, PARAMS["b2"]))
        first = h1 - special.expit(x @ PARAMS["V1"] + PARAMS["a1"])
        second = h2 - special.expit(h1 @ PARAMS["V2"] + PARAMS["a2"])
        exact["a1"] += p @ first
        exact["V1"] += np.outer(x, p @ first)
        exact["a2"] += p @ second
        exact["V2"] += np.einsum("s,si,sj->ij", p, h1, second)
    pair, x = net(dg), np.tile(X, (50, 1))

    def check(seed, factor):
        grads = gradients(dg, dg.WakeSleep(), pair, t, x, 300 * factor, seed)
        flat = np.concatenate([grads[n].reshape(len(grads[n]), -1) for n in GUIDE], 1)
        gate_mean(flat, np.concatenate([exact[n].ravel() for n in GUIDE]), se_cap=0.01)

    sampled(check, 71)


X0 = 1.3
MIXED = {"a": 0.3, "b": 0.2, "c": 0.5}


def mixed(dg):
    """s ~ Bernoulli(0.4), z ~ N(s, 1), x ~ N(z + 2 s, 1); q(s) = Bernoulli(a), q(z given s) = N(b + c s, 0.7)."""
    host, ppl, dist, cast = dg.engine.host, dg.engine.host.ppl, dg.engine.host.dist, dg.engine.arrays.cast
    number = lambda v: dg.engine.arrays.asarray(np.float32(v)).reshape(())  # noqa: E731

    def model(x):
        with ppl.plate("data", x.shape[0], dim=-1):
            s = cast(ppl.sample("s", dist.Bernoulli(probs=number(0.4))), x)
            z = ppl.sample("z", dist.Normal(s, number(1.0)))
            ppl.sample("x", dist.Normal(z + 2 * s, number(1.0)), obs=x)

    def guide(x):
        a, b, c = (host.param(name, number(MIXED[name])) for name in MIXED)
        with ppl.plate("data", x.shape[0], dim=-1):
            s = cast(ppl.sample("s", dist.Bernoulli(logits=a)), x)
            ppl.sample("z", dist.Normal(b + c * s, number(0.7)))

    return model, guide


def mixed_exact(bound):
    """Gradient of the bound at K = 2, by quadrature and central differences."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)

    def value(t):
        a, b, c = t
        log_w, p = [], []
        for s in (0, 1):
            z, q_s = b + c * s + 0.7 * nodes, special.expit(a if s else -a)
            joint = stats.norm(s, 1).logpdf(z) + stats.norm(z + 2 * s, 1).logpdf(X0) + np.log(0.4 if s else 0.6)
            log_w.append(joint - np.log(q_s) - stats.norm(b + c * s, 0.7).logpdf(z))
            p.append(q_s * weights / weights.sum())
        w, p = np.concatenate(log_w), np.concatenate(p)
        return p @ w if bound == "elbo" else p @ (np.logaddexp(w[:, None], w[None]) - np.log(2)) @ p

    t, h = np.array(list(MIXED.values())), 1e-4
    return np.array([(value(t + h * e) - value(t - h * e)) / (2 * h) for e in np.eye(3)])


@pytest.mark.parametrize(("name", "bound"), [("RLOO", "elbo"), ("VIMCO", "iwae")])
def test_guides_with_draws_of_both_kinds(dg, name, bound):
    """Its discrete site is scored, its normal one is not."""
    pair = mixed(dg)

    def check(seed, factor):
        grads = gradients(dg, getattr(dg, name)(num_particles=2), pair, MIXED, np.full(500, X0), 300 * factor, seed)
        gate_mean(np.stack([grads[n].reshape(-1) for n in MIXED], 1), mixed_exact(bound), se_cap=0.01)

    sampled(check, 72)


# -- what they ask for -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["VIMCO", "RLOO", "ReweightedWakeSleep"])
def test_one_particle_is_too_few(dg, name):
    with pytest.raises(ValueError, match="expected an integer of at least 2 for num_particles, got 1"):
        getattr(dg, name)(num_particles=1)


@pytest.mark.parametrize("name", ["VIMCO", "RLOO", "ReweightedWakeSleep", "WakeSleep"])
def test_scored_global_sites_are_refused(dg, name):
    ppl, dist = dg.engine.host.ppl, dg.engine.host.dist
    model, guide = net(dg)
    asarray = dg.engine.arrays.asarray

    def also(program):
        def run(x):
            ppl.sample("s", dist.Bernoulli(probs=asarray(np.float32(0.5)).reshape(())))
            program(x)

        return run

    x = asarray(np.tile(X, (4, 1)).astype(np.float32))
    t = {n: asarray(a.astype(np.float32)) for n, a in PARAMS.items()}
    with pytest.raises(ValueError, match="expected latent sites inside the plate 'data', got {'s': 'Bernoulli"):
        getattr(dg, name)().estimate(dg.engine, dg.engine.random.rng(0), also(model), also(guide), (x,), {}, t)
