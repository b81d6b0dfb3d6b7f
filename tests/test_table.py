"""The table of a comparison: one set of cells in every form, whole numbers in 80 columns, and a reason for each gap."""

import ast
import csv
import dataclasses
import html.parser
import io
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from deepgen_ppl.log_p.cells import decimals_of, error, number, text_width
from deepgen_ppl.log_p.claims import Bounds, claim, found
from deepgen_ppl.log_p.compare import Comparison
from deepgen_ppl.log_z.estimates import CERTIFIED, FLAGS, Estimate, LogNormalizer

ROOT = Path(__file__).parents[1]
MEASURE = "{0, 1}^64"
HARD = np.random.default_rng(0).standard_normal(250)
HARD = 4.5 * (HARD - HARD.mean()) / HARD.std()
"""What makes a row hard, for all models."""
NO_LOWER = Estimate.missing("log Z has no upper side: exact starts or enumeration of log Z needed")
NO_UPPER = Estimate.missing("no exact posterior draws")


def ais(se, num_runs=200):
    return LogNormalizer(40.0, se, "bound", "lower", "AIS", log_weights=np.zeros(num_runs))


def rows_at(value, seed, *, hard=HARD):
    """Rows of this mean: what is hard, and 0.6 nats of the model's own."""
    own = 0.6 * np.random.default_rng(seed).standard_normal(len(hard))
    return value + hard + own - own.mean()


def upper(rows, se=0.007, **options):
    """An annealed machine."""
    side = claim(rows, "bound", "free energy - AIS", mc_se=se, margin=CERTIFIED)
    options = {"se_log_z": se, "log_normalizer": ais(se)} | options
    return found(NO_LOWER, side, side, rows, upper_rows=rows, **options)


def lower(rows, se=0.006, **options):
    """A directed model."""
    side = claim(rows, "bound", "importance weighting", mc_se=se, margin=CERTIFIED / len(rows))
    return found(side, NO_UPPER, side, rows, lower_rows=rows, **options)


def exact(rows):
    side = claim(rows, "exact", "free energy - enumeration")
    return found(side, side, side, rows, lower_rows=rows, upper_rows=rows)


def both(rows, width=0.04):
    """AIS both ways."""
    sides = (claim(r, "bound", "AIS", mc_se=0.01, margin=CERTIFIED) for r in (rows - width, rows))
    low, high = sides
    given = {"se_log_z": 0.01, "log_normalizer": ais(0.01)}
    return found(low, high, high, rows, lower_rows=rows - width, upper_rows=rows, **given)


def neither(rows, se=0.02):
    """Mean field less forward AIS."""
    guess = claim(rows, "estimate", "mean field - AIS", mc_se=se)
    none = Estimate.missing("log f has no upper side")
    return found(NO_LOWER, none, guess, rows, flags=("mean_field",), se_log_z=se, log_normalizer=ais(se))


def nothing(num=250):
    none = Estimate.missing("the program draws and observes nothing: it has no density")
    return dataclasses.replace(found(none, none, none, np.full(num, math.nan)), flags=("no_density",))


def table(**models):
    return Comparison(models, len(next(iter(models.values())).pointwise), MEASURE)


def demo():
    return table(
        dbm=upper(rows_at(-18.78, 1)),
        rbm=upper(rows_at(-18.83, 2), se=math.nan, flags=("weights_degenerate",)),
        iwae=lower(rows_at(-19.1, 3)),
        vae=lower(rows_at(-19.36, 4), se=math.nan, flags=("low_ess",)),
        rbm16=exact(rows_at(-19.47, 5)),
    )


DEMO = """\
log p(x) in nats per datum over 250 data ({0, 1}^64)
model  log p(x)  s.e. data  s.e. log Z  better than
dbm    ≤ -18.78       0.28        0.01  -
rbm    ≤ -18.83       0.29    withheld  -
iwae   ≥ -19.10       0.28           -  rbm16
vae    ≥ -19.36       0.29           -  -
rbm16  = -19.47       0.29           -  -
≥ at least, in expectation; ≤ at most, in expectation; = exact
no lower side (dbm, rbm): log Z has no upper side: exact starts or enumeration
  of log Z needed
no upper side (iwae, vae): no exact posterior draws
vae not better than rbm16: ahead by 0.11 nats, less scatter over 250 rows 0.16
  nats, Markov's margin of vae 0.01 nats; try more rows
weights_degenerate (rbm): the weights of AIS are too uneven, or under 100, for
  a standard error: more temperatures (betas), at least 100 runs (num_runs)
low_ess (vae): importance weights of many rows have few effective particles: a
  better guide, or more num_particles"""


def test_text():
    assert str(demo()) == DEMO


def test_text_of_every_kind():
    kinds = table(
        both=both(rows_at(-18.9, 1)),
        neither=neither(rows_at(-84.9, 2)),
        nothing=nothing(),
        exact=exact(rows_at(-90, 3)),
    )
    lines = str(kinds).splitlines()
    assert lines[:6] == [
        "log p(x) in nats per datum over 250 data ({0, 1}^64)",
        "model              log p(x)  s.e. data  s.e. log Z  better than",
        "both     ≥ -18.94, ≤ -18.90       0.28        0.01  exact",
        "neither            ≈ -84.90       0.29        0.02  -",
        "nothing                   -          -           -  -",
        "exact              = -90.00       0.28           -  -",
    ]
    signs = "≥ at least, in expectation; ≤ at most, in expectation; = exact; ≈ no side is claimed"
    assert signs in " ".join(str(kinds).split())
    assert "no side (nothing): the program draws and observes nothing: it has no density" in kinds.missing()


def test_an_exact_side_alone_is_a_side():
    """What is exact on one side is no equality."""
    e = exact(rows_at(-9.0, 0))
    half = dataclasses.replace(e, upper=NO_UPPER, upper_pointwise=None)
    assert [row[1] for row in table(e=e, half=half).cells()] == ["= -9.00", "≥ -9.00"]


def test_no_column_without_an_error_of_log_z():
    directed = table(vae=lower(rows_at(-19.36, 4)), rbm16=exact(rows_at(-19.47, 5)))
    assert str(directed).splitlines()[1].split("  ")[-2:] == ["s.e. data", "better than"]
    assert "≤" not in str(directed)  # signs are explained where they stand


# --- numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (-18.784, "-18.78"), (-18.8, "-18.80"), (0.0, "0.00"), (-0.0, "0.00"), (0.0072, "0.01"), (0.004, "0.004"),
        (-3e-7, "-3e-07"), (-95938.123, "-95938.12"), (-123456789.0, "-1.23457e+08"), (1e300, "1e+300"),
        (math.nan, "-"), (-math.inf, "-inf"),
    ],
)  # fmt: skip
def test_numbers_are_whole(value, text):
    assert number(value) == text


def test_rounding_is_no_error():
    """The rows of a model that finds all of them alike scatter in the last digit."""
    rows = np.full(30, -2.0) + 1e-15 * np.arange(30)
    assert table(a=exact(rows)).cells()[0][2] == "0.00"
    assert (error(2e-5), error(math.nan)) == ("2e-05", "-")


def test_decimals_follow_the_error():
    """Many data tell small differences, and the table shows them."""
    found = {decimals_of(e) for e in ([], [0.3, math.nan], [1e-5, 0.3], [0.3, 1e-5, 0.04, 0.3], [1e-9], [0.0])}
    assert found == {2}
    assert [decimals_of(e) for e in ([0.004], [2.0, 0.004, 1e-5], [1e-5], [2e-6])] == [3, 3, 5, 6]
    many = np.random.default_rng(0).standard_normal(40_000) * 0.3
    near = table(a=exact(-18.7801 + many), b=exact(-18.7841 + many))
    assert near.better_than("a") == ["b"]
    assert len({cells[1] for cells in near.cells()}) == 2


LONG = "restricted Boltzmann machine with 500 hidden units, learning_rate=0.01/momentum=0.9"
NAMES = [
    LONG,
    LONG.replace(" ", "_"),
    "受限玻尔兹曼机" * 4,
    "x" * 200,
    "a",
    "é" * 90,
    *(f"model {i}" for i in range(14)),
]
VALUES = [-95938.12, -1e12, -3e-5, -123456789.1, -0.5, 3e15]


def many_models():
    made = (upper, lower, exact, both, neither)
    scaled = (made[i % 5](rows_at(VALUES[i % 6], i, hard=HARD[:30])) for i in range(len(NAMES)))
    return table(**dict(zip(NAMES, scaled, strict=True)))


@pytest.mark.parametrize("width", [40, 57, 80, 132])
def test_lines_fit_and_numbers_stay_whole(width):
    wide = many_models()
    for form in (wide, wide.differences()):
        for ascii in (False, True):
            text = form.to_text(width, ascii=ascii)
            assert max(text_width(line) for line in text.splitlines()) <= width
            assert "…" not in text
            assert "..." not in text
    text = wide.to_text(width).splitlines()
    for cells in wide.cells():
        for side in cells[1].split(", "):
            assert any(f"{side} " in f"{line} " or f"{side}," in line for line in text), side
    squeezed = "".join(wide.to_text(width).split())
    assert all("".join(name.split()) in squeezed or text_width(name) > 20 for name in NAMES)


def test_width_is_that_of_the_terminal():
    """Two columns for a wide character, none for a combining accent."""
    assert [text_width(text) for text in ("rbm ≤ ± é", "受限", "e\u0301")] == [9, 4, 1]


def test_long_names_are_folded_and_whole():
    """Every letter is there, cut between words where there are some."""
    name = "rbm_500_hidden_units_lr_0.01"
    lines = table(**{name: exact(rows_at(-9.0, 0)), "b": exact(rows_at(-99.0, 1))}).to_text(45).splitlines()
    assert [line.split("  ")[0].strip() for line in lines[2:7]] == ["model", "rbm_500_", "hidden_", "units_lr_0.", "01"]


def test_columns_leave_in_the_stated_order():
    """The s.e. of log Z first, then that over the data, then what is claimed; and it is said."""
    models = {"annealed machine": both(rows_at(-95938.12, 1)), "autoencoder": lower(rows_at(-95100.0, 2))}
    wide = table(**models)
    left = {}
    for width in range(100, 0, -1):
        heads = tuple(" ".join(c.head) for c, _ in wide.table().fitted(width))
        left.setdefault(heads, width)
    assert list(left) == [
        ("model", "log p(x)", "s.e. data", "s.e. log Z", "better than"),
        ("model", "log p(x)", "s.e. data", "better than"),
        ("model", "log p(x)", "better than"),
        ("model", "log p(x)"),
    ]
    fewer = left[("model", "log p(x)", "s.e. data", "better than")]
    text = wide.to_text(max(fewer, 40))
    assert ("left out, for want of room: s.e. log Z" in " ".join(text.split())) == (fewer >= 40)
    with pytest.raises(ValueError, match="expected a width of at least 40 columns, got 39"):
        wide.to_text(39)


def test_names_that_do_not_print():
    odd = table(**{"two\nlines\t\x1b[31m": exact(rows_at(-9.0, 0)), "": exact(rows_at(-10.0, 1))})
    for text in (str(odd), odd.to_markdown(), odd._repr_html_()):
        assert "\x1b" not in text
        assert "two\nlines" not in text
    assert odd.cells()[0][0] == r"two\nlines\t\x1b[31m"


def test_long_lists_are_cut_visibly():
    models = {f"m{i}": exact(rows_at(-float(i), i)) for i in range(9)}
    assert table(**models).cells()[0][-1] == "m1, m2, m3, m4 and 4 more"
    assert table(**models).rows()[0]["better_than"] == "m1 m2 m3 m4 m5 m6 m7 m8"


# --- values that are not finite


def test_values_that_are_not_finite():
    rows = np.append(np.zeros(30), -np.inf)
    side = claim(rows, "exact", "by hand")
    odd = table(
        a=found(side, side, side, rows, lower_rows=rows, upper_rows=rows),
        b=exact(np.full(31, -2.0)),
        c=Bounds(NO_LOWER, Estimate(-math.inf, 0.0, "bound", ""), NO_LOWER, math.nan, 0.0, rows, 0.0),
    )
    lines = str(odd).splitlines()
    assert [line.split() for line in lines[2:5]] == [
        ["a", "-", "-", "-"], ["b", "=", "-2.00", "0.00", "-"], ["c", "≤", "-inf", "-", "-"],
    ]  # fmt: skip
    assert "nan" not in str(odd)
    assert "no side (a): log p(x) is infinite or NaN at 1 of 31 rows" in str(odd)
    assert f"not_finite (a): {FLAGS['not_finite']}" in " ".join(str(odd).split())
    assert "nan" not in str(odd.differences())


# --- other forms


class Cells(html.parser.HTMLParser):
    """Texts of the cells of a page, row by row, and of its list."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.notes, self.tags, self.open = [], [], set(), None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "li":
            self.notes.append("")
        self.open = tag

    def handle_endtag(self, tag):
        self.open = None

    def handle_data(self, data):
        if self.open in ("td", "th"):
            self.rows[-1][-1] += data
        elif self.open == "li":
            self.notes[-1] += data


ODD = ["<b>", "a|b", "`c`", "*d*_e_", 'f & "g"', "<script>alert(1)</script>", "x\\|y", "$z$"]


def odd_names():
    models = {name: exact(rows_at(-18.0 - i, i)) for i, name in enumerate(ODD)}
    return table(**models, annealed=upper(rows_at(-40.0, 9)), vae=lower(rows_at(-41.0, 10)))


def test_html_has_the_cells_and_is_escaped():
    page = Cells(odd_names()._repr_html_())
    assert page.tags == {"table", "caption", "thead", "tbody", "tr", "th", "td", "ul", "li"}
    head, *rows = page.rows
    assert head == ["model", "log p(x)", "s.e. data", "s.e. log Z", "better than"]
    assert [tuple(row) for row in rows] == odd_names().cells()
    assert page.notes == list(odd_names().table().notes)


def test_markdown_has_the_cells_and_is_escaped():
    text = odd_names().to_markdown()
    title, empty, head, rule, *rest = text.splitlines()
    assert (title, empty, rule) == (
        r"log p(x) in nats per datum over 250 data ({0, 1}^64)",
        "",
        "|---|--:|--:|--:|---|",
    )
    rows, notes = rest[: len(ODD) + 2], rest[len(ODD) + 3 :]

    def plain(cell):
        return html.unescape(re.sub(r"\\(.)", r"\1", cell.strip()))

    cells = [tuple(map(plain, re.findall(r"((?:\\.|[^|\\])+)(?=\|)", row))) for row in [head, *rows]]
    assert cells == [("model", "log p(x)", "s.e. data", "s.e. log Z", "better than"), *odd_names().cells()]
    assert all(note.startswith("- ") for note in notes)
    assert "<" not in text
    assert r"| a\|b |" in text


def test_csv_round_trip(tmp_path):
    """Names and numbers come back as they were, to the last bit."""
    path, odd = tmp_path / "table.csv", odd_names()
    names = {'comma, "quote"': exact(rows_at(-3.0, 1)), "two\nlines": upper(rows_at(-4.0, 2)), "é ≤": nothing()}
    for form in (odd, table(**names), odd.differences(), table(a=exact(rows_at(0.0, 0))).differences()):
        form.to_csv(path, about={"seed": 3})
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            found = list(reader)
        assert reader.fieldnames == [*form.columns, "seed"]
        assert len(found) == len(form.records())
        for row, own in zip(found, form.records(), strict=True):
            for name, value in own.items():
                same = float(row[name]) == pytest.approx(value, abs=0, nan_ok=True) if type(value) is float else None
                assert row[name] == str(value) if same is None else same, name


def test_data_frame():
    pandas = pytest.importorskip("pandas")
    for form in (demo(), demo().differences()):
        frame = form.to_dataframe()
        assert list(frame.columns) == list(form.columns)
        assert len(frame) == len(form.records())
    frame = demo().to_dataframe().set_index("model")
    assert frame.loc["iwae", "lower"] == demo().bounds["iwae"].lower.value
    assert pandas.isna(frame.loc["iwae", "upper"])
    assert frame["num_data"].tolist() == [250] * 5
    alone = table(a=exact(rows_at(0.0, 0))).differences().to_dataframe()
    assert list(alone.columns) == list(demo().differences().columns)
    assert len(alone) == 0


def test_data_frame_without_pandas(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="expected pandas for a data frame: pip install pandas"):
        demo().to_dataframe()


def test_a_terminal_without_the_signs(monkeypatch):
    """Printing never fails for want of a letter of ours."""
    for encoding, sign in (("ascii", "<= -18.78"), ("cp1252", "<= -18.78"), ("utf-8", "≤ -18.78")):
        stdout = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "stdout", stdout)
        print(demo())
        print(demo().differences())
        stdout.flush()
        monkeypatch.undo()
        assert sign in stdout.buffer.getvalue().decode(encoding)


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_command_line_prints_the_same_cells(monkeypatch, width, encoding):
    pytest.importorskip("typer", exc_type=ModuleNotFoundError)
    rich = pytest.importorskip("rich.console", exc_type=ModuleNotFoundError)
    from deepgen_ppl.cli import main

    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(main, "console", rich.Console(width=width, file=file))
    models = {"[bold]x[/bold]": both(rows_at(-18.78, 1)), LONG: lower(rows_at(-17.1, 2)), "c": exact(rows_at(-1e9, 3))}
    main._print(table(**models))
    file.flush()
    text = file.buffer.getvalue().decode(encoding)
    said = text.index("A model is better")
    assert max(map(len, text[:said].splitlines())) <= width
    assert "…" not in text
    framed = [line for line in text.splitlines() if line[0] in "│|"]
    assert len(framed) >= 6
    assert all(line[0] == line[-1] for line in framed)  # whole: rich crops what is too wide
    for value in ("-18.82", "-18.78", "-17.10", "-1e+09"):
        assert value in text
    if width == 200:
        assert "[bold]x[/bold]" in text
        assert LONG in text


# --- reasons


def test_what_is_missing_says_why_once():
    assert demo().missing() == [
        "no lower side (dbm, rbm): log Z has no upper side: exact starts or enumeration of log Z needed",
        "no upper side (iwae, vae): no exact posterior draws",
    ]
    assert table(a=exact(rows_at(0.0, 0))).missing() == []


LOW = lower(np.full(40, -1.0), se=0.0)
WITHHELD = {
    "more rows": (lower(rows_at(-19.10, 1)), exact(rows_at(-19.15, 2))),
    "more temperatures (betas)": (LOW, upper(np.full(40, -2.0), se=math.nan)),
    "at least 100 runs (num_runs)": (
        LOW, upper(np.full(40, -2.0), se=math.nan, log_normalizer=ais(math.nan, num_runs=50))
    ),
    "more temperatures (betas) or runs (num_runs)": (LOW, upper(np.full(40, -2.0), se=0.4)),
    "more particles (num_particles)": (lower(np.full(40, -1.0), se=0.4), exact(np.full(40, -2.0))),
    "a better guide, or more particles (num_particles)": (
        lower(np.full(40, -1.0), se=math.nan), exact(np.full(40, -1.05))
    ),
    "more temperatures and runs of the AIS behind its log Z": (
        LOW, upper(np.full(40, -2.0), se=0.4, log_normalizer=None)
    ),
}  # fmt: skip


@pytest.mark.parametrize("advice", list(WITHHELD))
def test_a_withheld_claim_says_what_to_turn(advice):
    """What is largest of the errors in the way."""
    a, b = WITHHELD[advice]
    (remark, *_) = table(a=a, b=b).remarks()
    assert remark.startswith("a not better than b: ahead by ")
    assert remark.endswith(f"; try {advice}")
    assert table(a=a, b=b).versus("a", "b").advice == advice


def test_equal_reasons_are_said_once():
    few = {n: exact(np.full(5, -float(i))) for i, n in enumerate("abc")}
    assert table(**few).remarks() == [
        "a not better than b, c: 5 rows, at least 20 needed", "b not better than c: 5 rows, at least 20 needed",
    ]  # fmt: skip


# --- paired differences


DIFFERENCES = """\
paired differences of log p(x) ± s.e., in nats per datum over the same 250 data
model  than   lower - upper  needed  better  best guesses
dbm    rbm                -       -  -        0.05 ± 0.05
dbm    iwae               -       -  -        0.32 ± 0.05
dbm    vae                -       -  -        0.58 ± 0.05
dbm    rbm16              -       -  -        0.69 ± 0.05
rbm    iwae               -       -  -        0.27 ± 0.06
rbm    vae                -       -  -        0.53 ± 0.06
rbm    rbm16              -       -  -        0.64 ± 0.05
iwae   vae                -       -  -        0.26 ± 0.05
iwae   rbm16    0.37 ± 0.05    0.18  yes      0.37 ± 0.05
vae    rbm16    0.11 ± 0.05    0.18  no       0.11 ± 0.05
better where lower - upper exceeds what is needed; the best guesses claim
  nothing"""


def test_text_of_the_differences():
    assert str(demo().differences()) == DIFFERENCES


def test_differences_by_hand():
    a, b = rows_at(-19.1, 3), rows_at(-19.47, 5)
    records = {(r["model"], r["than"]): r for r in demo().differences().records()}
    assert len(records) == 20
    r = records["iwae", "rbm16"]
    se = (a - b).std(ddof=1) / math.sqrt(250)
    assert (r["difference"], r["se"]) == pytest.approx(((a - b).mean(), se))
    assert (r["guess"], r["se_guess"]) == pytest.approx(((a - b).mean(), se))
    assert r["se"] < demo().bounds["iwae"].se_data / 5  # rows are hard for both
    assert r["needed"] == demo().versus("iwae", "rbm16").needed
    assert (r["better"], r["withheld"], r["num_data"], r["z"]) == (True, "", 250, 3.0)
    back = records["rbm16", "iwae"]
    assert math.isnan(back["difference"])
    assert back["guess"] == -r["guess"]
    assert back["withheld"] == "iwae has no upper side (no exact posterior draws)"
    loose = {(r["model"], r["than"]): r for r in demo().differences(z=1.0).records()}
    assert loose["iwae", "rbm16"]["needed"] < r["needed"]


def test_the_other_order_is_shown_where_it_is_ahead():
    """The order of the rows is no ranking."""
    shown = table(a=exact(rows_at(-2.0, 0)), b=exact(rows_at(-1.0, 1))).differences().table().rows()
    assert [(row[0], row[1], row[4]) for row in shown] == [("a", "b", "no"), ("b", "a", "yes")]


def test_differences_of_few_rows():
    """One row has no standard error, and no model no difference."""
    one = table(a=exact(np.array([-1.0])), b=exact(np.array([-2.0])), c=nothing(1))
    r = one.differences().records()[0]
    assert r["difference"] == 1.0
    assert math.isnan(r["se"])
    assert math.isnan(r["se_guess"])
    assert "nan" not in str(one.differences())
    assert len(str(table(a=exact(np.zeros(5))).differences()).splitlines()) == 4


# --- bounds


def test_bounds_print_one_line_a_side():
    shown = repr(upper(rows_at(-18.78, 1, hard=np.tile(HARD, 400)))).splitlines()
    assert shown == [
        "Bounds(mean over 100000 rows in nats, s.e. over data 0.014, 0.0 s;",
        "  lower none (log Z has no upper side: exact starts or enumeration of log Z needed)",
        "  upper -18.78 (s.e. 0.007; bound by free energy - AIS))",
    ]
    guess = repr(neither(rows_at(-84.9, 2))).splitlines()
    assert guess[0].endswith("flags ['mean_field'];")
    assert guess[-1] == "  estimate -84.9 (s.e. 0.02; estimate by mean field - AIS))"
    assert repr(exact(np.array([-2.0]))).splitlines()[0] == "Bounds(mean over 1 rows in nats, 0.0 s;"


# --- flags


def flags_made():
    """What the code calls a flag: words where something named `flags` is made."""
    for path in (ROOT / "deepgen_ppl").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            targets = getattr(node, "targets", [getattr(node, "target", None)])
            made = isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)) and any(
                isinstance(t, ast.Name) and t.id == "flags" for t in targets
            )
            made = made or (isinstance(node, ast.keyword) and node.arg == "flags")
            made = made or (isinstance(node, ast.FunctionDef) and node.name == "_flags")
            if made:
                compared = {id(c) for n in ast.walk(node) if isinstance(n, ast.Compare) for c in ast.walk(n)}
                words = (n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and id(n) not in compared)
                yield from (word for word in words if isinstance(word, str) and re.fullmatch(r"[a-z_]+", word))


def test_every_flag_has_its_section():
    """No flag without a sentence, none that is never made, and no section of a flag that is gone."""
    page = (ROOT / "docs" / "guide" / "flags.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## `(\w+)`\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
    assert sorted(name for name, _ in sections) == sorted(FLAGS)
    assert set(flags_made()) == set(FLAGS)
    for name, text in sections:
        for part in ("**What it says.**", "**Why it matters.**", "**What to do.**"):
            assert part in text, (name, part)
