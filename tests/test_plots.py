"""Pictures: what is drawn lies inside the axes, and sides that are not claimed are not drawn."""

import math

import numpy as np
import pytest

pytest.importorskip("matplotlib", exc_type=ModuleNotFoundError)

from deepgen_ppl.diagnostics.plots import plot_bounds, plot_curves, plot_images
from deepgen_ppl.log_p.bounds import Bounds
from deepgen_ppl.log_p.compare import Comparison
from deepgen_ppl.log_z.estimates import Estimate


def made(lower=None, upper=None, estimate=0.0, kind="bound"):
    sides = (Estimate.missing("") if v is None else Estimate(v, 0.1, kind, "") for v in (lower, upper))
    return Bounds(*sides, Estimate(estimate, 0.1, "estimate", ""), 0.1, 0.0, np.zeros(3), 0.0)


def drawn(axis):
    """Coordinates of everything drawn on the data's axes: markers, bars, tips of arrows."""
    points = [p for line in axis.lines for p in np.column_stack(line.get_data()).astype(float)]
    points += [np.asarray(text.xy, float) for text in axis.texts if hasattr(text, "xy")]
    points = np.array(points).reshape(-1, 2)
    return points[np.isfinite(points).all(1)]


def check_inside(axis):
    points = drawn(axis)
    (left, right), (bottom, top) = sorted(axis.get_xlim()), sorted(axis.get_ylim())
    assert (points[:, 0] >= left).all()
    assert (points[:, 0] <= right).all()
    assert (points[:, 1] >= bottom).all()
    assert (points[:, 1] <= top).all()


FOUND = {
    "exact": made(-20.0, -20.0, -20.0, kind="exact"),
    "both": made(-22.0, -21.0, -21.0),
    "lower": made(-25.0, None, -25.0),
    "upper": made(None, -19.0, -19.0),
    "neither": made(None, None, -30.0),
    "nothing": made(None, None, math.nan),
}


@pytest.mark.parametrize("names", [list(FOUND), *([n] for n in FOUND), ["lower", "neither"], ["lower", "upper"]])
def test_bounds_lie_inside_the_axes(names, tmp_path):
    figure = plot_bounds(Comparison({n: FOUND[n] for n in names}, 9, ""))
    (axis,) = figure.axes
    assert [t.get_text() for t in axis.get_yticklabels()] == names
    assert "9 held-out data" in axis.get_xlabel()
    check_inside(axis)
    figure.savefig(tmp_path / "bounds.png")
    assert (tmp_path / "bounds.png").stat().st_size > 1000


def test_one_arrow_for_a_side_that_stands_alone():
    figure = plot_bounds(Comparison(FOUND, 9, ""))
    arrows = [t for t in figure.axes[0].texts if getattr(t, "arrow_patch", None) is not None]
    assert len(arrows) == 2
    tips = {round(t.xyann[0], 3): np.sign(t.xy[0] - t.xyann[0]) for t in arrows}
    assert tips == {-25.0: 1, -19.0: -1}  # a lower side points up, an upper side down


def test_the_first_row_is_on_top():
    (axis,) = plot_bounds(Comparison(FOUND, 9, "")).axes
    bottom, top = axis.get_ylim()
    assert bottom > top
    assert bottom >= len(FOUND) - 1 + 0.2  # rows do not sit on the frame
    assert top <= -0.2


def test_images_have_one_row_a_name(tmp_path):
    rows = {"data": np.zeros((16, 20)), "few": np.ones((3, 20)), "many": np.full((40, 20), 0.5)}
    figure = plot_images(rows, (4, 5))
    assert len(figure.axes) == 3 * 16
    shown = [len(axis.images) for axis in figure.axes]
    assert shown == [1] * 16 + [1] * 3 + [0] * 13 + [1] * 16
    assert figure.axes[0].images[0].get_array().shape == (4, 5)
    assert [axis.texts[0].get_text() for axis in figure.axes[::16]] == list(rows)
    figure.savefig(tmp_path / "images.png")


def test_images_of_other_columns():
    assert len(plot_images({"a": np.zeros((2, 9))}, (3, 3), columns=5).axes) == 5


def test_curves_share_their_axes(tmp_path):
    figure = plot_curves({"a": ([1, 2, 3], [-5.0, -4.0, -3.0]), "b": ([1], [-2.0]), "c": ([], [])}, label="log p")
    (axis,) = figure.axes
    assert [line.get_label() for line in axis.lines] == ["a", "b", "c"]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("epoch", "log p")
    assert len(axis.get_legend().get_texts()) == 3
    figure.savefig(tmp_path / "curves.png")


def test_epochs_are_whole_numbers():
    (axis,) = plot_curves({"a": ([1, 2], [-5.0, -4.0])}, label="log p").axes
    assert all(float(tick).is_integer() for tick in axis.get_xticks())


def test_no_global_state_is_touched():
    """Figures are made without pyplot, which keeps every figure alive and a window open."""
    import sys

    plot_curves({"a": ([1], [0.0])}, label="")
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()
