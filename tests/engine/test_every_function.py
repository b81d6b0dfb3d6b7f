"""The tests of this folder reach every function of the engines."""

import dataclasses
import importlib
from pathlib import Path

from rows import COVERED

from deepgen_ppl import engine as base

GROUPS = {
    "arrays": base.Arrays,
    "special": base.Special,
    "random": base.Random,
    "control": base.Control,
    "nn": base.Networks,
    "host": base.Host,
}


def test_engines_are_compared_by_identity(dg_numpyro, dg_pyro):
    assert dg_numpyro.engine != dg_pyro.engine
    assert len({dg_numpyro.engine, dg_pyro.engine, dg_numpyro.engine}) == 2
    copy = dataclasses.replace(dg_numpyro.engine)
    assert copy != dg_numpyro.engine
    assert repr(dg_numpyro.engine) == "<engine numpyro>"


def test_every_function_has_a_row():
    for path in Path(__file__).parent.glob("test_*.py"):
        importlib.import_module(path.stem)  # a test says `covers` as it is imported
    functions = {f"{group}.{f.name}" for group, cls in GROUPS.items() for f in dataclasses.fields(cls)}
    assert functions == COVERED
    groups = {f.name for f in dataclasses.fields(base.Engine)} - {"name", "xp", "register", "families"}
    assert groups == set(GROUPS)
