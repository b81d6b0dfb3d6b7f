"""Terms, structures and arrays of machines: what is refused, and what a user's own term gets."""

from dataclasses import dataclass

import cases
import numpy as np
import pytest
from cases import CASES, ENUMERABLE, oracle, to_engine, to_numpy

every = pytest.mark.parametrize("name", cases.in_turn(CASES))
TOL = {"rtol": 1e-10, "atol": 1e-10}


# --- names and shapes


@pytest.mark.parametrize("name", ["", "a.offset", "0", "a-b", 0, "a b"])
def test_layer_names_are_identifiers(dg, name):
    """Names that could collide with those of arrays, or with `a-b` of a term."""
    with pytest.raises(ValueError, match=r"expected layer names that are identifiers, such as 'v' or 'h1', got"):
        dg.BoltzmannMachine({name: dg.Bernoulli(2)}, [], {f"{name}.bias": np.zeros(2, np.float32)})


def test_layers_of_terms_are_checked(dg):
    for bad in ("vh", ["v", 1], None):
        with pytest.raises(ValueError, match=r"expected a tuple of layer names in Dense, such as \('v', 'h'\), got"):
            dg.Dense(bad)
    for kind, names in ((dg.Dense, ("v",)), (dg.ThirdOrder, ("v", "h", "v")), (dg.SharedBias, ("v", "h"))):
        with pytest.raises(ValueError, match=rf"layers? in {kind.__name__}, got"):
            kind(names)
    assert dg.Dense(["v", "h"]) == dg.Dense(("v", "h"))


def test_options_of_terms_are_checked(dg):
    v, pair = ("v",), ("v", "h")
    for make, message in (
        (lambda: dg.SharedBias(v, repeats=0), "positive integer for repeats"),
        (lambda: dg.Convolution(pair, image=(3, 2)), r"expected an image \(channels, height, width\), got \(3, 2\)"),
        (
            lambda: dg.Convolution(pair, image=(1, 3, 2), kernel=3),
            r"kernel of at most 2 for the image \(1, 3, 2\), got 3",
        ),
        (lambda: dg.Sparse(pair, shape=(2, 2)), r"expected edges \(i, j\), each once and at least one, got"),
        (lambda: dg.Sparse(pair, edges=((0, 0), (0, 0)), shape=(2, 2)), "each once"),
        (lambda: dg.Sparse(pair, edges=((0, 2),), shape=(2, 2)), r"expected edges inside the shape \(2, 2\)"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


def test_terms_fit_their_layers(dg):
    layers = {"v": dg.Bernoulli(6), "h": dg.Bernoulli(4)}
    for term, message in (
        (dg.Convolution(("v", "h"), image=(1, 3, 2), filters=3, kernel=2), r"widths \{'v': 6, 'h': 6\}.*'h': 4"),
        (dg.Sparse(("v", "h"), edges=((0, 0),), shape=(6, 5)), r"widths \(6, 5\), got \(6, 4\)"),
        (dg.SharedBias(("v",), repeats=4), "repeats that divide the width 6 of 'v', got 4"),
    ):
        with pytest.raises(ValueError, match=message):
            dg.BoltzmannMachine(layers, [term], {})
    with pytest.raises(TypeError, match="expected a unit such as Bernoulli"):
        dg.BoltzmannMachine({"v": 6}, [], {})
    with pytest.raises(TypeError, match="expected terms such as Dense"):
        dg.BoltzmannMachine(layers, ["v-h"], {})


# --- widths of states


@every
def test_other_widths_are_refused(dg, name):
    """Arrays of width 1 would be broadcast."""
    m, case = cases.machine(dg, name, np.float32), CASES[name]
    states = {n: np.zeros((3, size), np.float32) for n, (size, _) in case.blocks.items()}
    for block in case.blocks:
        bad = cases.arrays(dg, {**states, block: states[block][:, :1]}, m.like)
        bad = {**bad, block: bad[block] if states[block].shape[1] > 1 else bad[block][:, :0]}
        message = rf"expected {block} of shape \(\.\.\., {states[block].shape[1]}\), got shape \(3, [01]\)"
        with pytest.raises(ValueError, match=message):
            m.energy(bad)
        with pytest.raises(ValueError, match=message):
            m.free_energy(bad)
        for other in m.structure.neighbors(block):
            for ask in (m.conditional, m.mean):
                with pytest.raises(ValueError, match=message):
                    ask(other, bad)


@every
def test_unknown_layers_are_named(dg, name):
    m = cases.machine(dg, name, np.float32)
    for ask in (m.conditional, m.mean, lambda block, state: m.draw(dg.engine.random.rng(0), block, state)):
        with pytest.raises(ValueError, match=r"expected a layer among \['v', .*\], got 'nowhere'"):
            ask("nowhere", {})
    with pytest.raises(ValueError, match=r"expected a state with layers among \['v', .*\], got 'nowhere'"):
        m.energy({**m.start(dg.engine.random.rng(0), 2), "nowhere": m.like})
    with pytest.raises(ValueError, match=r"expected offsets of layers among .*, got \['nowhere'\]"):
        m.recentered({"nowhere": m.like})


# --- arrays


@pytest.mark.parametrize("field", ["params", "constants"])
@every
def test_mappings_are_read_only_and_attributes_are_not_set(dg, name, field):
    m = cases.machine(dg, name, np.float32)
    with pytest.raises(TypeError, match="models are immutable"):
        getattr(m, field)["v.bias"] = m.like
    with pytest.raises(TypeError, match="models are immutable"):
        getattr(m, field).update({})
    with pytest.raises(AttributeError, match=r"expected with_params\(\.\.\.\)"):
        setattr(m, field, {})
    with pytest.raises(AttributeError, match="machines are immutable"):
        m.structure = None


@pytest.mark.parametrize("dtype", ["int64", "uint8", ">f4", ">f8", "float64", "longdouble"])
@every
def test_numpy_arrays_become_the_engines(dg, name, dtype):
    m = cases.machine(dg, name, np.float32)
    new = m.with_params({k: np.ones(v.shape, dtype) for k, v in m.params.items() if k.endswith(".bias")})
    for k, v in new.params.items():
        assert type(v) is type(m.params[k])
        assert v.dtype == m.params[k].dtype
        assert not k.endswith(".bias") or (to_numpy(dg, v) == 1).all()


def test_constructors_take_integers_and_arrays_of_the_other_engine(dg, dg_numpyro, dg_pyro):
    other = dg_pyro if dg is dg_numpyro else dg_numpyro
    w = other.engine.arrays.asarray(np.eye(3, 2, dtype=np.float32))
    for weight in (w, np.eye(3, 2, dtype=int), np.eye(3, 2, dtype=">f4"), [[1, 0], [0, 1], [0, 0]]):
        m = dg.RBM(weight)
        assert {type(v) for v in m.params.values()} == {type(m.like)}
        assert {str(v.dtype)[-7:] for v in m.params.values()} == {"float32"}
        np.testing.assert_array_equal(to_numpy(dg, m.params["v-h.weight"]), np.eye(3, 2))
        np.testing.assert_array_equal(to_numpy(dg, m.with_params({"v-h.weight": w}).params["v-h.weight"]), np.eye(3, 2))


@pytest.mark.parametrize("bad", [np.ones(4, complex), np.ones(4, bool), np.array([None] * 4), np.array(list("abcd"))])
def test_arrays_that_are_no_real_numbers_are_refused(dg, bad):
    m = dg.RBM(np.ones((4, 3), np.float32))
    with pytest.raises(
        ValueError, match=r"expected real numbers in v\.bias, got an array of dtype (complex|bool|obj|str)"
    ):
        m.with_params({"v.bias": bad})
    with pytest.raises(ValueError, match=r"expected real numbers in v\.bias"):
        dg.RBM(np.ones((4, 3), np.float32), bad)


def test_values_that_are_not_finite_are_refused_where_no_gradient_is_taken(dg):
    m = dg.RBM.init(4, 3, rng=0)
    for field, change in (("v.bias", m.with_params), ("v.offset", m.with_constants)):
        with pytest.raises(ValueError, match=rf"expected finite values in {field}, got 2 NaN or infinite of 4"):
            change({field: np.array([0, np.nan, np.inf, 1], np.float32)})


def test_potentials_of_parameters_that_are_not_finite_do_not_raise(dg):
    """Inside a gradient nothing raises and the density is not finite: a raise would end the host's chain."""
    m = dg.RBM.init(4, 3, rng=0, centered=False)

    def log_p(bias):
        machine = m.with_params({"v.bias": bias})
        x = dg.engine.arrays.asarray(np.ones(4), like=bias)
        return machine.marginal("v", log_normalizer="exact").log_prob(x)

    bad = dg.engine.arrays.asarray(np.array([0, np.nan, 0, 0], np.float32))
    if dg.engine.name == "numpyro":
        import jax

        value, _ = jax.value_and_grad(log_p)(bad)
        value = value + 0 * jax.jit(log_p)(bad)
    else:
        value = log_p(bad.requires_grad_())
        value.backward()
    assert not np.isfinite(to_numpy(dg, value))


def test_names_and_shapes_are_checked_under_a_gradient(dg):
    m = dg.RBM.init(4, 3, rng=0)

    def wrong(bias):
        return m.with_params({"h.bias": bias}).energy({"v": bias[None], "h": m.params["h.bias"][None]}).sum()

    gradient = dg.engine.control.value_and_grad(lambda params: wrong(params["b"]))
    with pytest.raises(ValueError, match=r"expected h\.bias of shape \(3,\), got shape \(4,\)"):
        gradient({"b": m.params["v.bias"]})


# --- a term of the user's own


def own_term(dg):
    @dataclass(frozen=True)
    class Diagonal(dg.Term):
        """sum_i w_i s_a,i s_b,i."""

        def shapes(self, widths):
            return {"strength": (widths[self.layers[0]],)}

        def natural(self, engine, arrays, s, to):
            return arrays["strength"] * s[self.layers[0] if to == self.layers[1] else self.layers[1]]

    return Diagonal


def test_a_term_of_the_users_own(dg, double, tmp_path):
    """Its energies are those of a diagonal Dense, in every form, and it can be saved."""
    rng = np.random.default_rng(0)
    arrays = {"v.bias": rng.normal(size=3), "h.bias": rng.normal(size=3), "v-h.strength": rng.normal(size=3)}
    offsets = {"v.offset": rng.uniform(size=3)}
    layers = {"v": dg.Bernoulli(3), "h": dg.Spin(3)}
    m = dg.BoltzmannMachine(layers, [own_term(dg)(("v", "h"))], arrays, offsets)
    dense = {k: v for k, v in arrays.items() if "strength" not in k} | {"v-h.weight": np.diag(arrays["v-h.strength"])}
    other = dg.BoltzmannMachine(layers, [dg.Dense(("v", "h"))], dense, offsets)
    v = to_engine(dg, {"v": rng.integers(0, 2, (5, 3))}, np.float64)
    dg.save(m, tmp_path / "m.safetensors")
    for one in (m, m.uncentered(), dg.load(tmp_path / "m.safetensors")):
        np.testing.assert_allclose(to_numpy(dg, one.free_energy(v)), to_numpy(dg, other.free_energy(v)), **TOL)
    assert dg.exact_log_normalizer(m).value == pytest.approx(dg.exact_log_normalizer(other).value, abs=1e-10)


@every
def test_files_keep_every_term(dg, tmp_path, name):
    m = cases.machine(dg, name, np.float32)
    dg.save(m, tmp_path / "m.safetensors")
    other = dg.load(tmp_path / "m.safetensors")
    assert other.structure == m.structure
    assert type(other) is type(m)
    for k, v in {**m.params, **m.constants}.items():
        np.testing.assert_array_equal(to_numpy(dg, {**other.params, **other.constants}[k]), to_numpy(dg, v))


# --- draws


@every
def test_every_layer_is_drawn_for_every_chain(dg, name):
    """Layers coupled to nothing too."""
    m = cases.machine(dg, name, np.float32)
    state = m.start(dg.engine.random.rng(0), 64)
    for block in m.structure.names:
        x = m.draw(dg.engine.random.rng(1), block, state)
        assert tuple(x.shape) == tuple(state[block].shape)
        assert len(np.unique(to_numpy(dg, x), axis=0)) > 1
        assert tuple(m.mean(block, state).shape[:-1]) == (64,)


@pytest.mark.parametrize("name", ENUMERABLE)
def test_exact_draws_have_every_layer(dg, name):
    from deepgen_ppl.log_z.exact import draw_exact

    m = cases.machine(dg, name, np.float32)
    state = draw_exact(dg.engine.random.rng(0), m, 200)
    for n, (size, values) in CASES[name].blocks.items():
        x = to_numpy(dg, state[n])
        assert x.shape == (200, size)
        assert len(np.unique(x, axis=0)) > 1
        assert values is None or np.isin(x, values).all()


# --- constructors agree


@pytest.mark.parametrize("family", ["RBM", "GaussianBernoulliRBM"])
def test_constructor_and_init_make_the_same_layers(dg, family):
    family = getattr(dg, family)
    made = family(np.ones((4, 3), np.float32), np.zeros(4, np.float32), np.zeros(3, np.float32))
    drawn = family.init(4, 3, rng=0, centered=False)
    assert made.structure == drawn.structure
    assert made.params.keys() == drawn.params.keys()
    assert made.constants.keys() == drawn.constants.keys()
    assert family(np.ones((4, 3), np.float32)).structure == made.structure


def test_scale_of_the_constructor_is_that_of_init(dg):
    w = np.ones((4, 3), np.float32) / 10
    for scale in (0.5, None):
        made = dg.GaussianBernoulliRBM(w, visible_scale=scale)
        drawn = dg.GaussianBernoulliRBM.init(4, 3, rng=0, visible_scale=scale, centered=False)
        assert made.structure == drawn.structure
        assert made.params.keys() == drawn.params.keys()


def test_sizes_in_the_constructor_are_answered_with_init(dg):
    with pytest.raises(ValueError, match=r"use RBM\.init\(visible=6, hidden=3, rng=0\)"):
        dg.RBM(6, 3)
    with pytest.raises(ValueError, match=r"use GaussianBernoulliRBM\.init\(visible=6, hidden=3, rng=0\)"):
        dg.GaussianBernoulliRBM(6, 3)


@pytest.mark.parametrize("shape", [(3,), (2, 2, 3)])
def test_data_of_init_have_two_axes(dg, shape):
    with pytest.raises(ValueError, match=r"expected data of shape \(N, 3\), got shape"):
        dg.RBM.init(3, 2, rng=0, data=np.zeros(shape, np.float32))


def test_options_of_init_are_checked(dg):
    for options, message in (
        ({"centered": "no"}, "expected True or False for centered"),
        ({"dtype": "complex64"}, "expected one of 'float32', 'float64' for dtype"),
        ({"dtype": "float16"}, "expected one of 'float32', 'float64' for dtype"),
        ({"weight_scale": -1}, "a number that is not negative for weight_scale"),
        ({"weight_scale": "large"}, "for weight_scale, got 'large'"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            dg.RBM.init(3, 2, rng=0, **options)


def test_big_endian_data(dg):
    x = np.array([[0, 1, 1], [1, 1, 0]])
    a, b = (dg.RBM.init(3, 2, rng=0, data=x.astype(dtype)) for dtype in ("<f4", ">f8"))
    np.testing.assert_array_equal(to_numpy(dg, a.params["v.bias"]), to_numpy(dg, b.params["v.bias"]))


# --- capabilities of energies


def test_an_energy_of_two_members(dg):
    """What it does not have is said in one sentence."""

    class Bare(dg.Energy):
        blocks = {"x": dg.Block((2,), dg.engine.host.constraints.real)}  # noqa: RUF012

        def energy(self, state):
            return 0.5 * (state["x"] ** 2).sum(-1)

    bare = Bare()
    state = {"x": dg.engine.arrays.asarray(np.ones((3, 2), np.float32))}
    np.testing.assert_allclose(to_numpy(dg, bare.energy(state)), 1.0)
    assert dict(bare.params) == {}
    np.testing.assert_allclose(to_numpy(dg, bare.free_energy(state)), 1.0)
    rng = dg.engine.random.rng(0)
    for member, ask in (
        ("conditional", lambda: bare.conditional("x", state)),
        ("conditional", lambda: bare.draw(rng, "x", state)),
        ("free_energy", lambda: bare.free_energy({})),
    ):
        with pytest.raises(
            NotImplementedError, match=rf"expected an energy with {member}.* to .*, got Bare, which has none"
        ):
            ask()


def test_oracles_of_every_row_are_the_machines_own(dg, double):
    """The rows themselves: widths of the oracle's blocks are those of the machine."""
    for name, case in CASES.items():
        m = cases.machine(dg, name)
        assert {n: u.size for n, u in m.structure.units} == {n: size for n, (size, _) in case.blocks.items()}
        assert case.coupled == (not m.structure.independent(m.structure.hidden))
        assert case.centered == any(k.endswith(".offset") for k in m.constants)
        assert case.enumerable == bool(np.isfinite(m.structure.log2_states(m.structure.smaller_side[0])))
        assert oracle(name).params.keys() == {**case.params, **case.constants}.keys()
