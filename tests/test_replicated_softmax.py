"""Replicated softmax: laws of word counts, one for each length, against the paper's energy and brute force."""

import functools
import itertools

import cases
import numpy as np
import oracles
import pytest
from cases import compiled, to_numpy
from gates import g_test, gate, sampled
from oracles import BINARY, Oracle
from scipy import stats
from scipy.special import expit, gammaln, logsumexp, softmax
from test_conditional import one_step

from deepgen_ppl.log_z import exact

TOL = {"rtol": 1e-10, "atol": 1e-10}
K, H = 3, 2
PARAMS = cases.draw(81, {"v.bias": K, "v-h.bias": H, "v-h.weight": (K, H)}, 0.8)
LENGTHS = np.array([1, 2, 5, 9])


def machine(dg, dtype="float64"):
    """Three words, two topics, documents of at most nine words."""
    w, b, a = (PARAMS[k].astype(dtype) for k in ("v-h.weight", "v.bias", "v-h.bias"))
    return dg.ReplicatedSoftmax(w, b, a, longest=9)


def vectors(length, kinds=K):
    """All count vectors of one length, (S, K)."""
    rows = [v for v in itertools.product(range(length + 1), repeat=kinds) if sum(v) == length]
    return np.array(rows, float)


def log_coefficient(v):
    """log D! / prod_k v_k!: of the number of sequences with these counts."""
    return gammaln(v.sum(-1) + 1) - gammaln(v + 1).sum(-1)


TRUTH = Oracle(oracles.energy_replicated_softmax, PARAMS, {"v": (K, None), "h": (H, BINARY)})


def log_f(v):
    """log of the coefficient times the sum over h, of each row."""
    return log_coefficient(v) - TRUTH.free_energies({"v": v})


def log_z_in_closed_form(length):
    """log sum_h exp(D a'h) (sum_k exp(b_k + W_k h))^D."""
    b, a, w = PARAMS["v.bias"], PARAMS["v-h.bias"], PARAMS["v-h.weight"]
    terms = []
    for h in itertools.product([0.0, 1.0], repeat=H):
        words = logsumexp([b[k] + sum(w[k, j] * h[j] for j in range(H)) for k in range(K)])
        terms.append(length * sum(a[j] * h[j] for j in range(H)) + length * words)
    return logsumexp(terms)


def counts(dg, v, m):
    return dg.engine.arrays.asarray(v, like=m.like)


def documents(rows, seed, kinds=K, longest=9):
    """Counts of documents of many lengths."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest + 1, rows)
    return np.stack([rng.multinomial(n, rng.dirichlet(np.ones(kinds))) for n in lengths]).astype(float)


# --- the law


def test_energies_are_those_of_the_paper(dg, double):
    """Less the log of the coefficient, with the length that the counts themselves have."""
    m, v = machine(dg), documents(6, 82)
    h = np.random.default_rng(83).integers(0, 2, (6, H)).astype(float)
    state = {"v": v, "h": h}
    truth = TRUTH.energies(state) - log_coefficient(v)
    on_engine = cases.arrays(dg, state, m.like)
    np.testing.assert_allclose(to_numpy(dg, m.energy(on_engine)), truth, **TOL)
    np.testing.assert_allclose(to_numpy(dg, m.uncentered().energy(on_engine)), truth, **TOL)
    np.testing.assert_allclose(to_numpy(dg, m.free_energy(on_engine["v"])), -log_f(v), **TOL)
    rest = m.given({"lengths": v.sum(1)})
    np.testing.assert_allclose(to_numpy(dg, rest.energy(on_engine)), truth, **TOL)
    other = to_numpy(dg, m.given({"lengths": v.sum(1) - 1}).energy(on_engine))
    assert (other == np.inf).all(), "counts of another total are impossible"


def test_log_z_of_four_lengths_in_one_run(dg, double):
    """By the closed form over h, and by brute force over all count vectors."""
    rest = machine(dg).given({"lengths": LENGTHS})
    assert rest.batch_shape == (4,)
    log_z = dg.exact_log_normalizer(rest).value
    np.testing.assert_allclose(log_z, [log_z_in_closed_form(n) for n in LENGTHS], **TOL)
    np.testing.assert_allclose(log_z, [logsumexp(log_f(vectors(n))) for n in LENGTHS], **TOL)
    alone = [dg.exact_log_normalizer(machine(dg).given({"lengths": n})).value for n in LENGTHS]
    np.testing.assert_allclose(log_z, alone, **TOL)


@pytest.mark.parametrize("length", [0, 1, 4])
def test_probabilities_of_one_length_sum_to_one(dg, double, length):
    """Over count vectors; over sequences of words, each has its share of the coefficient."""
    m, v = machine(dg), vectors(length)
    law = m.given({"lengths": length}).marginal("v", log_normalizer="exact")
    log_p = to_numpy(dg, law.log_prob(counts(dg, v, m)))
    assert np.exp(log_p).sum() == pytest.approx(1.0, abs=1e-10)
    np.testing.assert_allclose(log_p, log_f(v) - logsumexp(log_f(v)), **TOL)
    words = [np.bincount(w, minlength=K) for w in map(list, itertools.product(range(K), repeat=length)) if w]
    if words:
        one = dict(zip(map(tuple, v.astype(int)), log_p - log_coefficient(v), strict=True))
        assert np.exp([one[tuple(w)] for w in words]).sum() == pytest.approx(1.0, abs=1e-10)


def test_conditionals_are_those_of_the_paper(dg, double):
    """p(h_j | v) = sigmoid(D a_j + (v'W)_j); p(v | h) = multinomial of softmax(b + W h)."""
    m, v = machine(dg), documents(5, 84)
    eta = v.sum(1)[:, None] * PARAMS["v-h.bias"] + v @ PARAMS["v-h.weight"]
    np.testing.assert_allclose(to_numpy(dg, m.mean("h", {"v": counts(dg, v, m)})), expit(eta), **TOL)
    h = np.array([[1.0, 0.0], [1.0, 1.0]])
    p = softmax(PARAMS["v.bias"] + h @ PARAMS["v-h.weight"].T, axis=1)
    state = {"h": counts(dg, h, m)}
    mean = m.given({"lengths": np.array([3, 7])}).mean("v", state)
    np.testing.assert_allclose(to_numpy(dg, mean), np.array([[3], [7]]) * p, **TOL)
    law, every = m.given({"lengths": 4}).conditional("v", state), vectors(4)
    log_p = to_numpy(dg, law.log_prob(counts(dg, every[:, None], m)))
    np.testing.assert_allclose(log_p, np.stack([stats.multinomial(4, q).logpmf(every) for q in p], 1), **TOL)


def test_two_words_are_a_binomial_machine(dg, double):
    """Counts (n, D - n) of two words: an RBM of one binomial unit, by another unit and another term."""
    rng, length = np.random.default_rng(85), 6
    w, b, a = rng.standard_normal((2, 3)), rng.standard_normal(2), rng.standard_normal(3)
    m = dg.ReplicatedSoftmax(w, b, a).given({"lengths": length})
    rbm = dg.RBM((w[0] - w[1])[None], (b[0] - b[1])[None], length * (a + w[1]), visible=dg.Binomial(1, length))
    n = np.arange(length + 1.0)[:, None]
    laws = (one.marginal("v", log_normalizer="exact") for one in (m, rbm))
    one, other = (law.log_prob(counts(dg, x, m)) for law, x in zip(laws, (np.hstack([n, length - n]), n), strict=True))
    np.testing.assert_allclose(to_numpy(dg, one), to_numpy(dg, other), **TOL)


def test_one_word_is_a_categorical_machine(dg, double):
    m = machine(dg).given({"lengths": 1})
    rbm = dg.RBM(PARAMS["v-h.weight"], PARAMS["v.bias"], PARAMS["v-h.bias"], visible=dg.Categorical(1, K))
    one = m.marginal("v", log_normalizer="exact").log_prob(counts(dg, np.eye(K), m))
    other = rbm.marginal("v", log_normalizer="exact").log_prob(dg.engine.arrays.asarray(np.arange(3)[:, None]))
    np.testing.assert_allclose(to_numpy(dg, one), to_numpy(dg, other), **TOL)


# --- learning and judging


def test_contrastive_divergence_keeps_the_length_of_each_row(dg, double):
    """Particles have their rows' lengths, and the gradients of W, b and a are those of the paper (eq. 6, with a)."""
    m, v = machine(dg), documents(8, 86)
    batch = {"v": counts(dg, v, m)}
    position, slope = compiled(dg, functools.partial(one_step, dg.ContrastiveDivergence()))(
        dg.engine.random.rng(3), m, batch
    )
    drawn = to_numpy(dg, position["v"])
    np.testing.assert_array_equal(drawn.sum(1), v.sum(1))
    assert np.abs(drawn - v).max() > 0

    length = v.sum(1)[:, None]
    h, dreamt = (expit(length * PARAMS["v-h.bias"] + x @ PARAMS["v-h.weight"]) for x in (v, drawn))
    expected = {
        "v-h.weight": (drawn.T @ dreamt - v.T @ h) / 8,
        "v.bias": (drawn - v).mean(0),
        "v-h.bias": (length * (dreamt - h)).mean(0),
    }
    for k, g in expected.items():
        np.testing.assert_allclose(to_numpy(dg, slope[k]), g, **TOL, err_msg=k)


def topics(rows, seed):
    """Documents of two topics, one over the first two of four words and one over the others."""
    rng = np.random.default_rng(seed)
    p = np.where(rng.integers(0, 2, rows)[:, None] == 1, [[0.49, 0.49, 0.01, 0.01]], [[0.01, 0.01, 0.49, 0.49]])
    return np.stack([rng.multinomial(n, q) for n, q in zip(rng.integers(4, 13, rows), p, strict=True)]).astype(float)


def test_fit_finds_topics(dg):
    """Perplexity: four words to begin with, little more than two when the topic is known."""
    v, test = (topics(rows, seed).astype(np.float32) for rows, seed in ((200, 87), (100, 88)))
    m = dg.ReplicatedSoftmax.init(4, 2, rng=1, longest=12, data=v, weight_scale=0.1)
    before = m.perplexity(test, dg.bounds(m, test, rng=0).pointwise)
    fitted = dg.fit(m, v, optimizer=dg.sgd(0.05), epochs=30, batch_size=50, rng=0).model
    after = m.perplexity(test, dg.bounds(fitted, test, rng=0).pointwise)
    assert before == pytest.approx(4, abs=0.3)
    assert 2 < after < 2.7
    assert type(fitted) is dg.ReplicatedSoftmax
    assert fitted.structure == m.structure


def test_bounds_and_perplexity_are_exact(dg, double):
    m, v = machine(dg), documents(7, 89)
    found = dg.bounds(m, v, rng=0)
    log_p = log_f(v) - np.array([log_z_in_closed_form(n) for n in v.sum(1)])
    np.testing.assert_allclose(found.pointwise, log_p, **TOL)
    assert found.lower == found.upper
    assert (found.lower.kind, found.lower.method) == ("exact", "enumeration given lengths")
    by_word = np.mean((log_p - log_coefficient(v)) / v.sum(1))
    assert m.perplexity(v, found.pointwise) == pytest.approx(np.exp(-by_word), abs=1e-10)
    flat = dg.ReplicatedSoftmax(np.zeros((K, H)), longest=9)
    assert flat.perplexity(v, dg.bounds(flat, v, rng=0).pointwise) == pytest.approx(K, abs=1e-10)
    table = dg.compare({"machine": m, "flat": flat}, v, rng=0)
    assert table.measure == "counts of a given total in N^3"


def test_annealing_at_one_length(dg):
    """Its estimate of Z_D is unbiased: E[w] = Z_D."""
    rest = machine(dg, "float32").given({"lengths": 5})

    def check(seed, factor):
        estimate = dg.ais(rest, rng=seed, betas=20, num_runs=1000 * factor)
        assert estimate.side == "lower"
        gate(estimate.value, estimate.se, log_z_in_closed_form(5), 1000 * factor, 0.1)

    sampled(check, 90)


# --- draws, hosts, files


def test_draws_of_the_unit_follow_the_multinomial_law_of_their_row(dg):
    """Rows of other totals and probabilities, one of them zero; no draw loses a count."""
    unit, total = dg.Multinomial(3, 6), np.array([0.0, 2.0, 6.0])
    p = np.array([[0.3, 0.3, 0.4], [0.0, 0.25, 0.75], [0.6, 0.3, 0.1]])
    with np.errstate(divide="ignore"):
        eta = dg.engine.arrays.asarray(np.log(p).astype(np.float32))
    arrays = {"total": dg.engine.arrays.asarray(total.astype(np.float32))}

    def check(seed, factor):
        rows = dg.engine.xp.broadcast_to(eta, (4000 * factor, 3, 3))
        x = to_numpy(dg, unit.draw(dg.engine, dg.engine.random.rng(seed), rows, arrays))
        assert x.dtype == np.float32
        np.testing.assert_array_equal(x.sum(-1), np.broadcast_to(total, x.shape[:2]))
        for r in (1, 2):
            states = vectors(int(total[r]))
            cells = [(x[:, r] == s).all(-1).sum() for s in states]
            g_test(cells, stats.multinomial(int(total[r]), p[r]).pmf(states))

    sampled(check, 91)


@pytest.mark.parametrize("way", ["exact", "gibbs"])
def test_draws_of_documents_follow_their_lengths(dg, way):
    rest = machine(dg, "float32").given({"lengths": np.array([2, 4])})

    def check(seed, factor):
        rng, num = dg.engine.random.rng(seed), 3000 * factor
        if way == "exact":
            v = exact.draw_exact(rng, rest, num)["v"]
        else:
            kernel = dg.BlockGibbs(sweeps=40)
            first, second = dg.engine.random.split(rng, 2)
            v = compiled(dg, gibbs)(second, rest, kernel.init(first, rest, num).position)
        v = to_numpy(dg, v)
        for r, length in enumerate((2, 4)):
            states = vectors(length)
            cells = [(v[:, r] == s).all(-1).sum() for s in states]
            g_test(cells, np.exp(log_f(states) - logsumexp(log_f(states))))

    sampled(check, 92)


def gibbs(rng, rest, position):
    """Values of v after forty sweeps."""
    from deepgen_ppl.kernels.block_gibbs import BlockGibbs, GibbsState

    return BlockGibbs(sweeps=40).step(rng, rest, GibbsState(position))[0].position["v"]


def test_the_law_of_documents_stands_in_a_plate_of_the_host(dg, double):
    m, v = machine(dg), documents(4, 93)
    law, ppl = m.given({"lengths": v.sum(1)}).marginal("v", log_normalizer="exact"), dg.engine.host.ppl
    assert tuple(law.batch_shape) == (4,)
    x = counts(dg, v, m)

    def program():
        with ppl.plate("data", 4):
            return ppl.sample("v", law, obs=x)

    if dg.engine.name == "numpyro":
        from numpyro.handlers import seed, trace

        total = trace(seed(program, 0)).get_trace()["v"]["fn"].log_prob(x).sum()
    else:
        import pyro

        total = pyro.poutine.trace(program).get_trace().log_prob_sum()
    exact_p = log_f(v).sum() - sum(log_z_in_closed_form(n) for n in v.sum(1))
    np.testing.assert_allclose(to_numpy(dg, total), exact_p, **TOL)


def test_files_give_the_machine_back(dg, tmp_path):
    m = machine(dg, "float32")
    for name, one in (("whole", m), ("given", m.given({"lengths": LENGTHS}))):
        dg.save(one, tmp_path / name)
        other = dg.load(tmp_path / name)
        assert type(other) is type(one)
        assert other.structure == one.structure
    np.testing.assert_array_equal(dg.exact_log_normalizer(other).value, dg.exact_log_normalizer(one).value)


# --- refusals


REFUSED = {
    "log Z without lengths": (
        exact.exact_log_normalizer,
        r"expected a machine given lengths for its log Z, got ReplicatedSoftmax\(.*'lengths': lengths",
    ),
    "a marginal without lengths": (lambda m: m.marginal("v"), "expected a machine given lengths for a marginal"),
    "draws without lengths": (
        lambda m: m.draw(m.engine.random.rng(0), "v", {"h": m.like[:2]}), "expected the totals of a layer of Multin",
    ),
    "chains without lengths": (
        lambda m: m.start(m.engine.random.rng(0), 3), "expected a machine given lengths for draws",
    ),
    "lengths that are too large": (
        lambda m: m.given({"lengths": np.array([3, 10])}), "expected lengths from 0 to longest=9, got 3 to 10",
    ),
    "lengths that are no integers": (
        lambda m: m.given({"lengths": np.array([2.5])}), r"expected lengths from 0 to longest=9, got 2\.5 to 2\.5",
    ),
    "documents that are too long": (
        lambda m: m.given({"v": np.array([[5, 5, 0]])}), "v: expected at most 9 counts in all for Multinomial",
    ),
    "counts that are none": (lambda m: m.given({"v": np.array([[0.5, 1, 1]])}), "expected counts 0, 1, .. for Mult"),
    "words that are missing": (
        lambda m: m.given({"v": np.array([[2, 1, 1]])}, missing={"v": np.array([[1, 0, 0]])}),
        "expected masks of layers whose units are independent, got one of 'v'",
    ),
    "documents without words": (
        lambda m: m.perplexity(np.array([[0, 0, 0], [1, 0, 0]]), np.zeros(2)), "expected counts of documents with w",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", list(REFUSED))
def test_what_has_no_length_is_refused(dg, what):
    ask, sentence = REFUSED[what]
    with pytest.raises(ValueError, match=sentence):
        ask(machine(dg, "float32"))


def test_what_else_does_not_fit_is_refused(dg):
    with pytest.raises(ValueError, match=r"expected a weight of shape \(K, H\), got shape \(3,\); .*init"):
        dg.ReplicatedSoftmax(np.zeros(3))
    with pytest.raises(ValueError, match="same for every row for StochasticML, got ReplicatedSoftmax given lengths"):
        dg.fit(machine(dg, "float32"), documents(4, 94), objective=dg.StochasticML(num_chains=4), rng=0)
    rest = machine(dg, "float32").given({"lengths": np.array([2, 3])})
    with pytest.raises(NotImplementedError, match=r"expected one total for a distribution of the host, got \[.*2.*3"):
        rest.conditional("v", {"h": rest.like[:2]})


def test_totals_that_are_not_known_are_nan_in_compiled_code(dg_numpyro):
    """Where nothing can be read, and so nothing be refused."""
    dg, m = dg_numpyro, machine(dg_numpyro, "float32")
    mean = compiled(dg, lambda m: m.mean("v", {"h": 0.0 * m.params["v-h.bias"]}))(m)
    assert np.isnan(to_numpy(dg, mean)).all()
