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


LARGE = 1.2 * 2**30
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


@pytest.fixture(autouse=True, scope="module")
def _compiled_programs():
    """What JAX has compiled goes with its file: a process of the tests stays small."""
    yield
    give_back()


@pytest.fixture(autouse=True)
def _small_process():
    """The same within a file that compiles much."""
    yield
    if resident() > LARGE:
        give_back()


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
