"""Fixtures of all tests. Nothing global is changed: no seeds, no precision, no host settings."""

import contextlib
import importlib

import pytest

HOSTS = {"numpyro": ("jax", "numpyro"), "pyro": ("torch", "pyro")}


def face(name):
    """The face module of an engine; the test is skipped where the engine's libraries are not installed."""
    for library in HOSTS[name]:
        pytest.importorskip(library, exc_type=ModuleNotFoundError)
    return importlib.import_module(f"deepgen_ppl.{name}")


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
