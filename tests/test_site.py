"""The site of `make docs`: it builds without a warning, every link in it leads somewhere, every name has a page.

Where the group `docs` of pyproject.toml is not installed, what needs the site is skipped.
"""

import runpy
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from conftest import face

DOCS = Path(__file__).resolve().parent.parent / "docs"


class Page(HTMLParser):
    """Anchors of a page, and what it links to or shows."""

    def __init__(self, text):
        super().__init__()
        self.anchors, self.targets = {""}, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.anchors |= {found[name] for name in ("id", "name") if found.get(name)}
        self.targets += [found[name] for name in ("href", "src") if found.get(name)]


def broken(folder):
    """(page, target) of every internal link, image and anchor of a site that is not there."""
    pages = {p.resolve(): Page(p.read_text(encoding="utf-8")) for p in Path(folder).rglob("*.html")}
    bad = []
    for path, page in pages.items():
        for target in page.targets:
            url = urlsplit(target)
            if url.scheme or url.netloc:
                continue
            to = (path.parent / unquote(url.path)).resolve() if url.path else path
            missing_anchor = to in pages and unquote(url.fragment) not in pages[to].anchors
            if not to.is_file() or missing_anchor:
                bad.append((path.name, target))
    return bad


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built in a folder of its own with warnings as errors."""
    for package in ("sphinx", "furo", "myst_parser"):
        pytest.importorskip(package, reason="the group docs of pyproject.toml is not installed")
    out = tmp_path_factory.mktemp("site")
    options = ["-W", "--keep-going", "-n", "-q", "-b", "html", "-d", str(out / "doctrees")]
    command = [sys.executable, "-m", "sphinx", *options, str(DOCS), str(out / "html")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return out / "html"


@pytest.mark.slow
def test_every_link_of_the_site_leads_somewhere(site):
    assert not broken(site)


@pytest.mark.slow
def test_every_public_name_has_a_page(site):
    text = "".join(p.read_text(encoding="utf-8") for p in (site / "reference").glob("*.html"))
    for name in ("numpyro", "pyro"):
        assert not [n for n in face(name).__all__ if f"deepgen_ppl.{name}.{n}<" not in text]
    assert not [n for n in face("numpyro").__all__ if f'id="deepgen_ppl.numpyro.{n}"' not in text]


def test_what_is_not_there_is_noticed(tmp_path):
    (tmp_path / "a.html").write_text(
        '<p id="x"><a href="b.html#y"><a href="#x"><a href="https://a.b/c"><img src="i.png">'
    )
    (tmp_path / "b.html").write_text('<a href="a.html#x"><a href="a.html#z"><a href="c.html">')
    expected = [("a.html", "b.html#y"), ("a.html", "i.png"), ("b.html", "a.html#z"), ("b.html", "c.html")]
    assert sorted(broken(tmp_path)) == expected


DOCSTRING = """\
p(x) of a law, with <b, s> and x_ and |v|.

    p(x) = sum_z p(x, z) * 1

See [a page](https://a.b/c_(1)) or `RBM` or `f(x_1)`.

Args:
    num_rows: rows_ of x,
        more.
    name: `RBM`.

Example:
    >>> 2 * 3
    6

Reference: Title (A, 2000), https://a.b/c_d.
"""

REST = """\
p(x) of a law, with <b, s> and x\\_ and \\|v\\|.

::

    p(x) = sum_z p(x, z) * 1

See `a page <https://a.b/c_(1)>`__ or :py:obj:`RBM <dg.RBM>` or ``f(x_1)``.

Args:
    num_rows: rows\\_ of x,
        more.
    name: :py:obj:`RBM <dg.RBM>`.

Example:
    >>> 2 * 3
    6

Reference: Title (A, 2000), https://a.b/c_d\\ .
"""


def test_docstrings_become_rest():
    to_rst = runpy.run_path(str(DOCS / "docstrings.py"))["to_rst"]
    assert to_rst(DOCSTRING.split("\n"), {"RBM": "dg.RBM"}) == REST.split("\n")
