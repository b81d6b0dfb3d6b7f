"""What is special to the convolutional RBM: geometry, probabilistic max pooling, and what is refused."""

import cases
import numpy as np
import oracles
import pytest
from cases import to_engine, to_numpy
from scipy.signal import correlate2d
from scipy.special import logsumexp

TOL = {"rtol": 1e-10, "atol": 1e-10}
IMAGE, FILTERS, MAPS = (2, 5, 7), 3, (3, 4, 6)


def arrays(seed, filters, channels=1, scale=0.7):
    shapes = {"v-h.weight": (filters, channels, 2, 2), "h.bias": filters, "v.bias": channels}
    return cases.draw(seed, shapes, scale)


def machine(dg, params, image, pool, dtype=np.float64):
    a = to_engine(dg, params, dtype)
    return dg.ConvolutionalRBM(a["v-h.weight"], a["v.bias"], a["h.bias"], image=image, pool=pool)


def inputs(params, v, image):
    """I(h^k_ij) = (W^k * v)_ij + b_k by SciPy's correlation, shape (N, K, rows, columns)."""
    w, v = params["v-h.weight"], v.reshape(-1, *image)
    maps = [[sum(correlate2d(x[c], f[c], "valid") for c in range(image[0])) for f in w] for x in v]
    return np.array(maps) + params["h.bias"][:, None, None]


def blocks(maps, pool):
    """(..., rows, columns) as a list of the blocks' units: (..., rows of blocks, columns of blocks, units)."""
    rows, columns = (n // pool for n in maps.shape[-2:])
    cut = [
        [maps[..., pool * i : pool * i + pool, pool * j : pool * j + pool] for j in range(columns)] for i in range(rows)
    ]
    return np.moveaxis(np.array(cut), [0, 1], [-4, -3]).reshape(*maps.shape[:-2], rows, columns, pool**2)


def check_geometry(dg, pool):
    """Energies, both conditionals and the pooled units of an image with channels, against the paper's formulas."""
    rng, params = np.random.default_rng(0), arrays(1, FILTERS, 2)
    m = machine(dg, params, IMAGE, pool)
    v = rng.integers(0, 2, (5, 70)).astype(float)
    h = rng.integers(0, pool**2 + 1, (5, 72 // pool**2)).astype(float)
    state = cases.arrays(dg, {"v": v, "h": h}, m.like)
    truth = oracles.Oracle(oracles.energy_convolutional_rbm(IMAGE, pool), params, {})
    np.testing.assert_allclose(to_numpy(dg, m.energy(state)), truth.energies({"v": v, "h": h}), **TOL)

    on = np.exp(blocks(inputs(params, v, IMAGE), pool))
    off = 1 / (1 + on.sum(-1))  # P(p_alpha = 0 | v)
    np.testing.assert_allclose(to_numpy(dg, m.pooled(state["v"])), 1 - off, **TOL)
    np.testing.assert_allclose(blocks(to_numpy(dg, m.detection(state["v"])), pool), on * off[..., None], **TOL)
    free = -params["v.bias"] @ v.reshape(5, 2, -1).sum(-1).T + np.log(off).sum((1, 2, 3))
    np.testing.assert_allclose(to_numpy(dg, m.free_energy(state["v"])), free, **TOL)

    units = np.array([oracles.pooled_maps(row, MAPS, pool) for row in h])
    np.testing.assert_array_equal(to_numpy(dg, m.maps(state["h"])), units)
    np.testing.assert_array_equal(to_numpy(dg, m.values(units)), h)
    sent = np.zeros((5, *IMAGE))
    for n, k, i, j in np.argwhere(units):
        sent[n, :, i : i + 2, j : j + 2] += params["v-h.weight"][k]
    p = 1 / (1 + np.exp(-sent - params["v.bias"][:, None, None]))
    np.testing.assert_allclose(to_numpy(dg, m.mean("v", state)).reshape(5, *IMAGE), p, **TOL)


@pytest.mark.parametrize("pool", [1, 2])
def test_convolutional_formulas_of_the_paper(dg, double, pool):
    check_geometry(dg, pool)


@pytest.mark.parametrize(("filters", "pool", "side"), [(2, 2, "h"), (4, 2, "v"), (2, 1, "h")])
def test_convolutional_log_z_from_either_side(dg, double, filters, pool, side):
    """The sum over the states of blocks, or over images with the blocks summed out; images here."""
    params = arrays(2, filters)
    m = machine(dg, params, (1, 3, 3), pool)
    assert m.structure.smaller_side[0] == (side,)
    v = oracles.Oracle(None, {}, {"v": (9, oracles.BINARY)}).states(["v"])["v"]
    log_on = np.log1p(np.exp(blocks(inputs(params, v, (1, 3, 3)), pool)).sum(-1)).sum((1, 2, 3))
    log_z = logsumexp(params["v.bias"][0] * v.sum(1) + log_on)
    assert dg.exact_log_normalizer(m).value == pytest.approx(log_z, abs=1e-9)


def test_convolutional_blocks_may_be_missing(dg, double):
    """log Z sums over the states of the block that is not known; the first state of all contradicts the one that is."""
    m = machine(dg, arrays(6, 2), (1, 3, 3), 2)
    rest = m.given({"h": np.array([[3.0, np.nan]])}, missing={"h": np.array([[0, 1]])})
    h = cases.arrays(dg, {"h": np.array([[3.0, j] for j in range(5)])}, m.like)
    exact = logsumexp(-to_numpy(dg, m.free_energy(h)))
    assert dg.exact_log_normalizer(rest).value[0] == pytest.approx(exact, abs=1e-10)


def test_convolutional_blocks_of_one_unit_are_bernoulli(dg):
    m = dg.ConvolutionalRBM.init((1, 4, 3), 2, 2, rng=0)
    assert m.structure.layers["h"] == dg.Bernoulli(12)
    assert dg.ConvolutionalRBM.init((1, 5, 3), 2, 2, 2, rng=0).structure.layers["h"] == dg.AtMostOne(4, 4)


def test_convolutional_maps_are_checked(dg):
    m = dg.ConvolutionalRBM.init((1, 5, 3), 2, 2, 2, rng=0)
    maps = np.zeros((3, 2, 4, 2), np.float32)
    maps[0, 1, 2, 1] = 1
    np.testing.assert_array_equal(to_numpy(dg, m.values(maps))[0], [0, 0, 0, 2])
    maps[0, 1, 3, 0] = 1
    with pytest.raises(ValueError, match=r"maps: expected at most one unit on in each block of 2 x 2, got 2 in one"):
        m.values(maps)
    with pytest.raises(ValueError, match="maps: expected only 0 and 1 for Bernoulli units, got values such as"):
        m.values(0.5 * maps)
    with pytest.raises(ValueError, match=r"expected maps of shape \(\.\.\., 2, 4, 2\), got shape \(3, 2, 2, 4\)"):
        m.values(maps.swapaxes(2, 3))
    for ask in (m.decoupled().pooled, m.decoupled().maps):
        with pytest.raises(ValueError, match=r"expected a machine with filters, got .*, whose couplings are cut"):
            ask(m.start(dg.engine.random.rng(0), 2)["v"])


def test_convolutional_options_are_checked(dg):
    w = np.zeros((2, 1, 2, 2), np.float32)

    def init(**options):
        return dg.ConvolutionalRBM.init(**{"image": (1, 5, 3), "filters": 2, "kernel": 2} | options, rng=0)

    for make, message in (
        (lambda: init(pool=3), r"expected a pool that divides both sides of the maps \(4, 2\), got 3"),
        (lambda: init(pool=0), "expected a positive integer for pool, got 0"),
        (lambda: init(kernel=4), r"expected a kernel of at most 3 for the image \(1, 5, 3\), got 4"),
        (
            lambda: init(visible=dg.Gaussian(14)),
            r"visible unit of the width 15 for the image \(1, 5, 3\), got Gaussian\(",
        ),
        (lambda: init(data=np.zeros((4, 1, 5, 3))), r"expected data of shape \(\.\.\., 15\) for Bernoulli"),
        (lambda: dg.ConvolutionalRBM(w[0], image=(1, 3, 3)), r"\(K, channels, side, side\), got shape \(1, 2, 2\)"),
        (lambda: dg.ConvolutionalRBM(w[..., :1], image=(1, 3, 3)), r"use ConvolutionalRBM\.init\(image=\(1, 28, 28\)"),
        (
            lambda: dg.ConvolutionalRBM(w, image=(3, 3, 3)),
            r"v-h\.weight of shape \(2, 3, 2, 2\), got shape \(2, 1, 2, 2\)",
        ),
        (
            lambda: dg.ConvolutionalRBM(w, image=(1, 3, 3), visible_bias=np.zeros(9, np.float32)),
            r"expected v\.bias of shape \(1,\), got shape \(9,\)",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            make()


def test_convolutional_constructor_and_init_make_the_same_layers(dg):
    drawn = dg.ConvolutionalRBM.init((2, 5, 3), 4, 2, 2, rng=0)
    made = dg.ConvolutionalRBM(np.ones((4, 2, 2, 2), np.float32), image=(2, 5, 3), pool=2)
    assert made.structure == drawn.structure
    assert made.params.keys() == drawn.params.keys()
    assert not drawn.constants


def test_convolutional_biases_start_at_the_base_rates_of_channels(dg):
    x = np.zeros((8, 2, 3, 3), np.float32)
    x[:2, 0], x[:6, 1] = 1, 1
    m = dg.ConvolutionalRBM.init((2, 3, 3), 1, 2, rng=0, data=x.reshape(8, 18))
    np.testing.assert_allclose(to_numpy(dg, m.params["v.bias"]), np.log([1 / 3, 3]), rtol=1e-5)


def bars(rows, seed):
    """Images of three rows and columns, each of a column that is on."""
    x = np.zeros((rows, 3, 3), np.float32)
    x[np.arange(rows), :, np.random.default_rng(seed).integers(0, 3, rows)] = 1
    return x.reshape(rows, 9)


def log_p(dg, m, x):
    return float(to_numpy(dg, m.marginal(log_normalizer="exact").log_prob(dg.engine.arrays.asarray(x))).mean())


@pytest.mark.parametrize("objective", ["StochasticML", pytest.param("ContrastiveDivergence", marks=pytest.mark.slow)])
def test_convolutional_machines_learn(dg, objective):
    """Columns of three pixels: filters know that a column goes on; independent pixels do not."""
    x = bars(120, 3)
    first = dg.ConvolutionalRBM.init((1, 3, 3), 3, 2, 2, rng=0, data=x)
    fit = dg.fit(first, x, objective=getattr(dg, objective)(), optimizer=dg.sgd(0.2), epochs=40, batch_size=40, rng=1)
    assert log_p(dg, fit.model, x) > log_p(dg, first, x) + 0.5
    assert type(fit.model) is type(first)


def test_convolutional_machines_are_compared(dg):
    """Exact on both sides."""
    x = bars(30, 4)
    m = machine(dg, arrays(5, 2), (1, 3, 3), 2, np.float32)
    table = dg.compare({"convolutional": m, "rbm": dg.RBM.init(9, 4, rng=0)}, x, rng=0)
    found = table.bounds["convolutional"]
    for side in (found.lower, found.upper):
        assert side.kind == "exact"
        assert np.mean(side.value) == pytest.approx(log_p(dg, m, x), abs=1e-5)
