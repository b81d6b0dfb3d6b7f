"""Fixtures of all tests, and the cost of each row of the contract tables, printed at the end.

Nothing global is changed: no seeds, no precision, no host settings.
"""

import collections
import contextlib
import ctypes
import gc
import importlib
import os
import statistics
import sys
import time
from pathlib import Path

import pytest

HOSTS = {"numpyro": ("jax", "numpyro"), "pyro": ("torch", "pyro")}


def face(name):
    """The face module of an engine; the test is skipped where the engine's libraries are not installed."""
    for library in HOSTS[name]:
        pytest.importorskip(library, exc_type=ModuleNotFoundError)
    return importlib.import_module(f"deepgen_ppl.{name}")


DEAR_ON_NUMPYRO = frozenset(
    {
        "test_a_fitted_autoguide_of_a_pair",
        "test_a_flow_integrates_to_one",
        "test_a_loader_of_tuples_or_dicts",
        "test_a_machine_as_prior_trains_and_is_saved",
        "test_a_machine_inside_leaves_its_sides",
        "test_annealing_agrees_both_ways",
        "test_both_phases_have_the_gradient_of_enumeration",
        "test_bounds_read_in_three_lines",
        "test_certified_values",
        "test_compare_prefers_the_machine_that_made_the_data",
        "test_contrastive_step_inside_the_hosts_svi",
        "test_couplings_of_one_pair_are_merged",
        "test_coverage_of_ais_intervals",
        "test_every_log_weight_of_an_exact_guide_is_the_evidence",
        "test_exact_posterior_guide_gives_log_p_without_noise",
        "test_fit_learns_what_the_input_says",
        "test_gradient_of_the_exact_normalizer",
        "test_gradients_reach_the_parameters_through_given",
        "test_hidden_blocks_are_summed_out",
        "test_joined_layers_too_large_to_enumerate",
        "test_kernels_get_the_machine_as_it_is",
        "test_labels_given_data_sum_to_one",
        "test_marginals_of_a_batch_stand_in_a_plate",
        "test_moments",
        "test_resume_goes_on",
        "test_rows_that_pad_a_batch_do_not_matter",
        "test_scored_global_sites_are_refused",
        "test_svi_on_batches_of_other_sizes",
        "test_the_gradient_is_that_of_the_bound",
        "test_the_rate_of_a_native_optimizer_is_known",
        "test_the_state_is_a_tree_of_arrays_of_one_shape",
        "test_training_raises_the_likelihood",
        "test_two_sided_interval_from_exact_starts",
        "test_which_sides_are_claimed",
    }
)
"""Tests that JAX compiles for many seconds: they are slow on NumPyro, and fast on Pyro."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Compilation is most of what a test costs: on NumPyro every third machine is fast, on Pyro every one."""
    from cases import CASES

    dear = {name for i, name in enumerate(CASES) if i % 3}
    for item in items:
        spec = getattr(item, "callspec", None)
        if spec is not None and spec.id.startswith("numpyro"):
            rows = {v for v in spec.params.values() if isinstance(v, str)}
            if rows & dear or item.originalname in DEAR_ON_NUMPYRO:
                item.add_marker(pytest.mark.slow)


LARGE = 1.1 * 2**30
"""Bytes above which a process of the tests gives back what JAX has compiled, in the middle of a file too."""


def resident():
    """Bytes of memory that the process holds, or 0 where the system does not say."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0


def give_back():
    """Forget what JAX has compiled, and return free memory to the system, which the allocator keeps by itself."""
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def keep_small():
    """Give back what is held where it is much; for what runs many programs in one test."""
    if resident() > LARGE:
        give_back()


@pytest.fixture(autouse=True, scope="module")
def _compiled_programs():
    """What JAX has compiled goes with its file: a process of the tests stays small."""
    yield
    give_back()


@pytest.fixture(autouse=True)
def _small_process():
    """The same within a file that compiles much."""
    yield
    keep_small()


@pytest.fixture(scope="session", params=list(HOSTS))
def dg(request):
    """Each face in turn: `deepgen_ppl.numpyro` and `deepgen_ppl.pyro`."""
    return face(request.param)


@pytest.fixture(scope="session")
def dg_numpyro():
    """The NumPyro face, for what only that host has."""
    return face("numpyro")


@pytest.fixture(scope="session")
def dg_pyro():
    """The Pyro face, for what only that host has."""
    return face("pyro")


@pytest.fixture
def double(dg):
    """Float64 on both engines: x64 is on in JAX for this test alone."""
    if dg.engine.name == "numpyro":
        import jax

        with jax.enable_x64(True):
            yield
    else:
        yield


@pytest.fixture
def param_store():
    """An empty Pyro parameter store for one test; the outer one is put back afterwards."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(ModuleNotFoundError):
            import pyro

            stack.enter_context(pyro.get_param_store().scope())
        yield


ROW_LIMIT = 10.0
"""CPU-seconds that all fast tests of a row may take on one engine."""


def row_of(item):
    """(row, engine) of a test over a contract table (parameter `name` or `kind`), or None."""
    params = getattr(item, "callspec", None) and item.callspec.params or {}
    row = params.get("name", params.get("kind"))
    return (row, params["dg"]) if isinstance(row, str) and "dg" in params else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Note when a test begins."""
    item.began = time.process_time()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item):
    """Note what a test of a row has cost."""
    outcome = yield
    if row := row_of(item):
        item.user_properties.append(("row", [*row, time.process_time() - item.began]))
    return outcome


def pytest_terminal_summary(terminalreporter):
    """Print what the rows have cost."""
    spent = collections.Counter()
    for report in (r for reports in terminalreporter.stats.values() for r in reports):
        if getattr(report, "when", "") == "teardown":
            for _, (row, engine, seconds) in (p for p in report.user_properties if p[0] == "row"):
                spent[f"{row} on {engine}"] += seconds
    if spent:
        largest = ", ".join(f"{row} {seconds:.1f}" for row, seconds in spent.most_common(5))
        over = sum(seconds > ROW_LIMIT for seconds in spent.values())
        terminalreporter.section("cost of the rows")
        terminalreporter.line(
            f"{len(spent)} rows of the contract tables, CPU-seconds an engine: "
            f"median {statistics.median(spent.values()):.1f}, largest {largest}; {over} above {ROW_LIMIT:g}"
        )
