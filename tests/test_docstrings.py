"""`help(dg.X)` is the page of X: what the docstring of every public name says, on both faces."""

import ast
import inspect
import re
import textwrap

import pytest
from conftest import HOSTS, face

MODELS = {"BoltzmannMachine", "OwnEnergy", "Program"}
WAYS = {"Kernel", "Method", "Objective"}
SHOWN = MODELS | WAYS | {"Term", "Unit"}
CHECKS = {"check_options", "instance", "integer", "one_of", "real"}
"""What raises besides `raise`: `deepgen_ppl.options`."""


@pytest.fixture(scope="module", params=HOSTS)
def dg(request):
    """One face after the other."""
    return face(request.param)


def public(dg):
    """Name -> object for every public class and function; `engine` is neither."""
    found = {name: getattr(dg, name) for name in dg.__all__}
    return {name: thing for name, thing in found.items() if inspect.isclass(thing) or inspect.isfunction(thing)}


def kinds(thing):
    """Names of all classes that a class descends from."""
    return {base.__name__ for base in thing.__mro__} if inspect.isclass(thing) else set()


def section(text, *heads):
    """Lines below one of these heads of a docstring, as far as they are indented; empty without one."""
    found = re.search(rf"^(?:{'|'.join(heads)}):\n((?:    .*\n|\n)*)", text + "\n", re.MULTILINE)
    return found[1] if found else ""


def arguments(thing):
    """Names of what a call takes."""
    signature = inspect.signature(thing)
    return [n for n, p in signature.parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


def makers(thing):
    """The functions of the library that run when a class is made, or the function itself."""
    if not inspect.isclass(thing):
        return [thing]
    members = [getattr(thing, n, None) for n in ("__init__", "__post_init__")]
    return [m for m in members if (getattr(m, "__module__", "") or "").startswith("deepgen_ppl.")]


def raises(function):
    """Whether a function has a `raise`, or checks its options."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except OSError:  # made by `dataclass`
        return False
    calls = {n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    return bool(calls & CHECKS) or any(isinstance(node, ast.Raise) for node in ast.walk(tree))


def page(thing):
    """The docstring of a public name, which is its own."""
    return inspect.cleandoc(thing.__doc__ or "")


def test_a_summary_comes_first(dg):
    assert not [n for n, thing in public(dg).items() if not page(thing).split("\n\n")[0].endswith(".")]
    assert len(public(dg)) > 60


def test_every_argument_has_a_line(dg):
    bad = {}
    for name, thing in public(dg).items():
        lines = section(page(thing), "Args") + section(page(thing), "Attributes")
        missing = [a for a in arguments(thing) if not re.search(rf"^    {a}: ", lines, re.MULTILINE)]
        bad |= {name: missing} if missing else {}
    assert not bad


def test_what_raises_says_so(dg):
    bad = [n for n, thing in public(dg).items() if any(map(raises, makers(thing)))]
    assert not [n for n in bad if not section(page(public(dg)[n]), "Raises")]


def test_what_models_are_made_of_has_an_example(dg):
    things = {n: thing for n, thing in public(dg).items() if not inspect.isabstract(thing) or n == "Energy"}
    shown = [n for n, thing in things.items() if not inspect.isclass(thing) or kinds(thing) & SHOWN]
    assert not [n for n in shown if ">>> " not in page(public(dg)[n])]


def test_every_model_has_a_formula_and_a_reference_with_a_link(dg):
    models = {n: page(thing) for n, thing in public(dg).items() if kinds(thing) & MODELS and n != "Program"}
    assert not [n for n, text in models.items() if not re.search(r"^References?:", text, re.MULTILINE)]
    assert not [n for n, text in models.items() if not re.search(r"https?://", text.partition("Reference")[2])]
    assert not [n for n, text in models.items() if not re.search(r"\b(E|p|y|log w|log p)\b.*=", text)]


def test_methods_and_objectives_have_a_reference_with_a_link(dg):
    shown = [n for n, thing in public(dg).items() if kinds(thing) & WAYS and n != "Kernel"]
    assert not [n for n in shown if not re.search(r"^References?:.*https?://", page(public(dg)[n]), re.S | re.M)]


def test_completion_shows_public_names_alone(dg):
    assert {n for n in dir(dg) if n[0] != "_"} == set(dg.__all__)


def test_sections_are_found():
    text = "Sum.\n\nArgs:\n    x: a\n        b\n\n    y: c\n\nRaises:\n    ValueError: d\n"
    assert section(text, "Args") == "    x: a\n        b\n\n    y: c\n\n"
    assert section(text, "Returns") == ""
    assert raises(section) is False
    assert raises(face) is False
