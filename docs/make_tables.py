"""Write the tables of the README and of the pages: from docstrings, the demo's CSV file and the files of results.

python docs/make_tables.py [--check]

A table stands between `<!-- begin: NAME -->` and `<!-- end: NAME -->`; NAME is one of `TABLES`. With `--check` nothing
is written, and the exit status is 1 where a table is not up to date.
"""

import csv
import functools
import inspect
import json
import re
import sys
from pathlib import Path

import deepgen_ppl.numpyro as face
from deepgen_ppl.directed.program import Program
from deepgen_ppl.energies.machine import BoltzmannMachine
from deepgen_ppl.energies.terms import Term
from deepgen_ppl.kernels.kernel import Kernel
from deepgen_ppl.objectives.objective import Objective
from deepgen_ppl.units.base import Unit

ROOT = Path(__file__).resolve().parent.parent
SIGNS = {"exact": {"lower": "=", "upper": "="}, "bound": {"lower": "≥", "upper": "≤"}}
MARKED = re.compile(r"(<!-- begin: (\S+) -->\n).*?(<!-- end: \2 -->)", re.DOTALL)


def pages():
    """The README and all pages of the docs."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def one_line(text):
    """Text of a docstring as one cell of a table."""
    return " ".join(text.split()).replace("|", r"\|").replace("<", "&lt;")


def family(cls):
    """The class that a class of the face binds to an engine, or the class itself."""
    own = [b for b in cls.__mro__ if b.__name__ == cls.__name__ and b.__module__.startswith("deepgen_ppl.")]
    return own[-1]


def reference(cls):
    """What a docstring, or else that of its module, says behind `Reference:` or `References:`."""
    for source in (family(cls), inspect.getmodule(family(cls))):
        if found := re.search(r"^References?:\s*(.*?)(?:\n\s*\n|\Z)", inspect.getdoc(source) or "", re.DOTALL | re.M):
            return found[1]
    return ""


def listing(*bases):
    """One row for each public class of the face under one of the bases: name, first sentence, reference."""
    found = {n: c for n, c in vars(face).items() if inspect.isclass(c) and issubclass(c, bases) and n[0] != "_"}
    found = {n: c for n, c in found.items() if not inspect.isabstract(c)}
    rows = ["| name | what it is | reference |", "|---|---|---|"]
    for name, cls in found.items():
        about = (inspect.getdoc(family(cls)) or "").split("\n\n")[0]
        rows.append(f"| `{name}` | {one_line(about)} | {linked(one_line(reference(cls)))} |")
    return "\n".join(rows)


def linked(references):
    """References whose addresses stand behind their titles, as links of the titles."""
    return "; ".join(
        re.sub(r"^(.+?) (\(.+), (https?://\S+?)(\.?)$", r"[\1](\3) \2\4", r) for r in references.split("; ")
    )


def demo():
    """The comparison that `make demo` prints: log p(x) with the sign of each side, as the table prints it."""
    with (ROOT / "docs" / "images" / "demo.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    rows = ["| model | log p(x) | s.e. data | s.e. log Z | better than |", "|---|--:|--:|--:|---|"]
    for line in table:
        sides = {SIGNS.get(line[f"{side}_kind"], {}).get(side): number(line[side]) for side in ("lower", "upper")}
        values = ", ".join(f"{sign} {value}" for sign, value in sides.items() if sign)
        cells = (line["model"], values or f"≈ {number(line['estimate'])}", number(line["se_data"]))
        error = "-" if float(line["se_log_z"]) == 0 else number(line["se_log_z"])
        rows.append(f"| {' | '.join((*cells, error, line['better_than'] or '-'))} |")
    return "\n".join(rows)


def number(text):
    """Two decimals, or a dash for NaN."""
    return "-" if text == "nan" else f"{float(text):.2f}"


def recorded(name):
    """The record of a benchmark, and the lines that say how it was made."""
    record = json.loads((ROOT / "docs" / "results" / f"{name}.json").read_text(encoding="utf-8"))
    how = f"engine {record['engine']}, seed {record['seed']}, commit {record['commit']}; {record['machine']}"
    made = f"*Command: `{record['command']}`; {how}; {record['date']}; {record['seconds']:.0f} s.*"
    return record["values"], ["", made]


def figures(name):
    """Values beside published ones."""
    values, made = recorded(name)
    rows = ["| key | value | s.e. | kind | published | how |", "|---|--:|--:|---|--:|---|"]
    for key, v in values.items():
        cells = [number(str(v[c])) if v[c] is not None else "-" for c in ("value", "se", "published")]
        rows.append(f"| `{key}` | {cells[0]} | {cells[1]} | {v['kind']} | {cells[2]} | {one_line(v['note'])} |")
    return "\n".join(rows + made)


def ratios(name):
    """Ratios of CPU times, with the times."""
    values, made = recorded(name)
    rows = ["| contestant | CPU ms | ratio | s.e. | of |", "|---|--:|--:|--:|---|"]
    for key, v in values.items():
        if v["kind"] == "ratio":
            ms = values.get(key.removesuffix("ratio") + "ms", {"value": None})["value"]
            cells = ["-" if x is None else f"{x:.3g}" for x in (ms, v["value"], v["se"])]
            rows.append(f"| `{key.removesuffix('.ratio')}` | {' | '.join(cells)} | {one_line(v['note'])} |")
    return "\n".join(rows + made)


TABLES = {
    "models": lambda: listing(BoltzmannMachine, Program),
    "objectives": lambda: listing(Objective),
    "kernels": lambda: listing(Kernel),
    "units": lambda: listing(Unit, Term),
    "demo": demo,
    **{name: functools.partial(figures, name) for name in ("mnist_rbm", "boston", "sbc")},
    **{name: functools.partial(ratios, name) for name in ("speed_gibbs", "speed_pcd", "speed_ais", "speed_svi")},
}


def updated(text):
    """The text with all its tables made anew."""
    return MARKED.sub(lambda m: f"{m[1]}{TABLES[m[2]]()}\n{m[3]}", text)


def main():
    """Write the pages, or check them."""
    stale = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        if (new := updated(text)) != text:
            stale.append(str(page.relative_to(ROOT)))
            if "--check" not in sys.argv[1:]:
                page.write_text(new, encoding="utf-8")
    print("up to date" if not stale else f"{'stale' if '--check' in sys.argv[1:] else 'written'}: {', '.join(stale)}")
    return 1 if stale and "--check" in sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())
