"""Everything the documentation shows is run: the blocks of its pages, doctests, examples; its tables are up to date.

A block fenced as ```python is executed; the blocks of a page share one namespace and run in an empty folder. One fenced
as ```text right below it is what it prints, up to the last digits.
"""

import doctest
import importlib
import re
import runpy
import sys
from pathlib import Path

import pytest
from conftest import HOSTS, face, keep_small

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(str(p.relative_to(ROOT)) for p in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
EXAMPLES = sorted(p.name for p in (ROOT / "examples").glob("*.py"))
DEAR = ("guide/coming_from", "guide/comparing", "guide/devices", "guide/directed", "guide/undirected", "contributing")
SLOW = {f"docs/{page}.md" for page in DEAR}
FACES = {"dg": "numpyro", "dn": "numpyro", "dp": "pyro"}
BLOCK = re.compile(r"^```python\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?", re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"-?\d+\.\d+")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")


def modules_with_doctests():
    """Names of the package's modules whose text has a doctest; nothing is imported."""
    files = sorted((ROOT / "deepgen_ppl").rglob("*.py"))
    names = [".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for p in files]
    return [name for name, p in zip(names, files, strict=True) if ">>> " in p.read_text(encoding="utf-8")]


def blocks(text):
    """(number of lines before it, code, what it prints or None) of every python block of a page."""
    return [(text[: m.start(1)].count("\n"), m[1], m[2]) for m in BLOCK.finditer(text)]


def alike(shown, got):
    """Whether two texts have the same words, and numbers within 3 % or a tenth: machines round training otherwise."""
    pairs = zip(NUMBER.findall(shown), NUMBER.findall(got), strict=False)
    near = all(abs(float(a) - float(b)) <= max(0.03 * abs(float(a)), 0.1) for a, b in pairs)
    return near and NUMBER.sub("#", shown).split() == NUMBER.sub("#", got).split()


@pytest.fixture
def elsewhere(tmp_path, monkeypatch, param_store):
    """An empty folder to run in, and the host's global state as it was before."""
    for name in HOSTS:
        face(name)
    import torch

    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    with torch.random.fork_rng():
        yield tmp_path
    torch.set_num_threads(threads)


def pages(marked):
    """The pages, slow ones marked if `marked`."""
    return [pytest.param(p, marks=pytest.mark.slow) if marked and p in SLOW else p for p in PAGES]


@pytest.mark.parametrize("page", pages(marked=True))
def test_blocks_of_a_page_run(elsewhere, capsys, page):
    text = (ROOT / page).read_text(encoding="utf-8")
    namespace = {"__name__": "page"}
    for line, code, shown in blocks(text):
        capsys.readouterr()
        exec(compile("\n" * line + code, str(ROOT / page), "exec"), namespace)
        if shown is not None:
            got = capsys.readouterr().out
            assert alike(shown, got), f"{page}:{line + 1} prints\n{got}"
        keep_small()


@pytest.mark.parametrize("page", pages(marked=False))
def test_names_of_a_page_exist(page):
    code = "".join(code for _, code, _ in blocks((ROOT / page).read_text(encoding="utf-8")))
    used = set(re.findall(r"\b(dg|dn|dp)\.([A-Za-z_]+)", code))
    assert not [f"{alias}.{name}" for alias, name in sorted(used) if not hasattr(face(FACES[alias]), name)]


def test_blocks_are_found():
    text = "a\n```python\nx = 1\n```\n```bash\nrm x\n```\n```python\ny = x\n```\n"
    assert blocks(text) == [(2, "x = 1\n", None), (8, "y = x\n", None)]
    assert blocks(text + "\n```text\n1.00\n```\n")[1] == (8, "y = x\n", "1.00\n")


def test_what_a_block_prints_is_compared():
    assert alike("rbm: -20.13 exact\n", "rbm: -20.14 exact\n")
    assert not alike("rbm: -20.13 exact\n", "rbm: -22.14 exact\n")
    assert not alike("rbm: -20.13 exact\n", "rbm: -20.13 bound\n")
    assert not alike("rbm: -20.13 exact\n", "rbm: -20.13 exact 1.0\n")


@pytest.mark.parametrize("page", pages(marked=False))
def test_links_of_a_page_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = [t for t in LINK.findall(text) if "://" not in t]
    assert not [t for t in targets if not ((ROOT / page).parent / t).exists()]


@pytest.mark.parametrize("name", modules_with_doctests())
def test_doctests(elsewhere, name):
    module, options = importlib.import_module(name), doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    if name in {f"deepgen_ppl.{host}" for host in HOSTS}:  # the examples of its classes run where they are written
        assert run_example(module.__doc__, name, options) == 0
        return
    runner = doctest.DocTestRunner(optionflags=options)
    for test in doctest.DocTestFinder().find(module):
        runner.run(test)
        keep_small()
    assert runner.failures == 0
    assert runner.tries > 0 or name.startswith("deepgen_ppl.hosts")


def run_example(text, name, options):
    """Number of lines of one docstring that fail."""
    example = doctest.DocTestParser().get_doctest(text, {}, name, name, 0)
    assert example.examples
    return doctest.DocTestRunner(optionflags=options).run(example).failed


def test_the_example_of_load_runs(elsewhere):
    assert run_example(face("pyro").load.__doc__, "load", doctest.ELLIPSIS) == 0


@pytest.mark.parametrize("engine", HOSTS)
@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_run(elsewhere, monkeypatch, capsys, example, engine):
    options = ["--engine", engine] if "--engine" in (ROOT / "examples" / example).read_text(encoding="utf-8") else []
    if not options and engine != "numpyro":
        pytest.skip(f"{example} is for the other host alone")
    monkeypatch.setattr(sys, "argv", [example, "--smoke", *options])
    runpy.run_path(str(ROOT / "examples" / example), run_name="__main__")
    assert capsys.readouterr().out


def test_tables_are_up_to_date(elsewhere):
    tables = runpy.run_path(str(ROOT / "docs" / "make_tables.py"))
    stale = [p.name for p in tables["pages"]() if tables["updated"](text := p.read_text(encoding="utf-8")) != text]
    assert not stale, "run python docs/make_tables.py"


def test_a_stale_table_is_noticed():
    face("numpyro")
    tables = runpy.run_path(str(ROOT / "docs" / "make_tables.py"))
    text = "<!-- begin: kernels -->\nold\n<!-- end: kernels -->\n"
    assert "`BlockGibbs`" in tables["updated"](text)
    assert tables["updated"](tables["updated"](text)) == tables["updated"](text)
