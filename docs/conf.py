"""The site: `make docs` builds it into docs/_build.

Its reference has one page for every public name, written here from the NumPyro face (both faces have the same names):
the docstring, and the members that are the class's own or of a base that has no page.
"""

import inspect
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from docstrings import to_rst  # noqa: E402
from sphinx.ext.napoleon import Config, GoogleDocstring  # noqa: E402

import deepgen_ppl  # noqa: E402
import deepgen_ppl.numpyro as face  # noqa: E402

FACE = face.__name__
PUBLIC = {name: getattr(face, name) for name in sorted(face.__all__, key=str.lower)}
GROUPS = {
    "Machines and energies": ("Energy",),
    "Programs": ("Program",),
    "Objectives": ("Objective",),
    "Kernels": ("Kernel",),
    "Methods": ("Method",),
    "Units": ("Unit",),
    "Terms": ("Term",),
}

project, author = "deepgen_ppl", "The deepgen_ppl developers"
copyright = author  # noqa: A001  Sphinx reads this name
release = version = deepgen_ppl.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary"]
exclude_patterns = ["_build", "images/*.csv"]
highlight_language = "none"  # formulas; doctests and fenced blocks say what they are
html_theme, html_title, html_copy_source = "furo", "deepgen_ppl", False
myst_heading_anchors = 3
autosummary_generate = False
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
GOOGLE = Config(napoleon_custom_sections=[("Reference", "References")], napoleon_use_ivar=True)
# Annotations name the types of two engines, and those of private modules.
nitpick_ignore_regex = [("py:class", ".*"), ("py:obj", r"typing\..*")]


def bases(thing):
    """Names of what a class descends from."""
    return [base.__name__ for base in thing.__mro__] if inspect.isclass(thing) else []


def group(thing):
    """The heading under which a public name stands."""
    found = (head for head, names in GROUPS.items() if set(names) & set(bases(thing)))
    return next(found, "Functions" if inspect.isroutine(thing) else "Results and options")


def above(name):
    """Public names, with pages of their own, of what a class descends from."""
    return [n for n in bases(PUBLIC[name]) if n in PUBLIC and n != name]


def members(name):
    """Member -> how autodoc calls it: public ones of the library that are on no page of a base."""
    if not inspect.isclass(PUBLIC[name]):
        return {}
    elsewhere = {base for n in above(name) for base in PUBLIC[n].__mro__}
    own = [b for b in PUBLIC[name].__mro__ if b.__module__.startswith("deepgen_ppl.") and b not in elsewhere]
    found = {n: v for base in reversed(own) for n, v in vars(base).items() if n[0] != "_" and documented(v)}
    first = [n for base in own for n in vars(base) if n in found]
    return {n: "property" if hasattr(found[n], "fget") else "method" for n in first}


def documented(member):
    """Whether a member of a class has a docstring of its own."""
    function = getattr(member, "__func__", None) or getattr(member, "fget", None) or member
    return inspect.isfunction(function) and bool(function.__doc__)


def kind(name):
    """What autodoc calls it."""
    thing = PUBLIC[name]
    return "class" if inspect.isclass(thing) else "function" if inspect.isroutine(thing) else "data"


def file(name):
    """The name of its page: `Fit` and `fit` are two, also where file names have no case."""
    return name if kind(name) == "class" else f"{name}-{kind(name)}"


def page(name):
    """The page of a public name."""
    title = f"dg.{name}"
    lines = [title, "=" * len(title), "", f"``deepgen_ppl.numpyro.{name}`` and ``deepgen_ppl.pyro.{name}``.", ""]
    if links := " and ".join(f":py:obj:`{n} <{FACE}.{n}>`" for n in above(name)):
        lines += [f"What it shares with {links} is on the pages of those.", ""]
    lines += [f".. auto{kind(name)}:: {FACE}.{name}", *(["   :no-value:"] if kind(name) == "data" else []), ""]
    for member, how in members(name).items():
        lines += [f"   .. auto{how}:: {FACE}.{name}.{member}", ""]
    return "\n".join(lines)


def index():
    """The page that lists them all."""
    lines = ["Reference", "=========", ""]
    lines += ["Every public name of ``import deepgen_ppl.numpyro as dg`` and ``import deepgen_ppl.pyro as dg``.", ""]
    for head in [*GROUPS, "Functions", "Results and options"]:
        names = [n for n, thing in PUBLIC.items() if group(thing) == head]
        lines += [head, "-" * len(head), "", f".. currentmodule:: {FACE}", ""]
        lines += [".. autosummary::", "   :nosignatures:", ""]
        lines += [f"   {n}" for n in names] + ["", ".. toctree::", "   :hidden:", ""]
        lines += [f"   {file(n)}" for n in names] + [""]
    return "\n".join(lines)


def write_reference(app):
    """Write what has changed of the reference."""
    folder = HERE / "reference"
    folder.mkdir(exist_ok=True)
    pages = {f"{file(name)}.rst": page(name) for name in PUBLIC} | {"index.rst": index()}
    for path in folder.iterdir():
        if path.name not in pages:
            path.unlink()
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def process(app, what, name, obj, options, lines):
    """A docstring as reStructuredText. A property's is no `type: text`, which is what the extension would read."""
    text = to_rst(lines, {n: f"{FACE}.{n}" for n in PUBLIC})
    lines[:] = GoogleDocstring(text, GOOGLE, app, "class" if what == "class" else "function", name, obj).lines()


def setup(app):
    """What Sphinx calls first."""
    app.connect("builder-inited", write_reference, priority=100)
    app.connect("autodoc-process-docstring", process)
