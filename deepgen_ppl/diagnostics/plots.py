"""Pictures: samples, learning curves, and the bounds of a comparison. Every function returns a matplotlib figure."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deepgen_ppl.log_p.compare import Comparison

__all__ = ["plot_bounds", "plot_curves", "plot_images"]

COLORS = {"exact": "#1b9e77", "bound": "#377eb8", "estimate": "#e08214"}


def _figure(width: float, height: float, **options: Any) -> tuple[Any, Any]:
    try:
        figure_class = importlib.import_module("matplotlib.figure").Figure
    except ImportError as error:
        raise ImportError("expected matplotlib for pictures: pip install 'deepgen-ppl[cli]'") from error
    figure = figure_class(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(**options)


def plot_images(rows: Mapping[str, np.ndarray], shape: tuple[int, int], *, columns: int = 16) -> Any:
    """One row of images for each name.

    Args:
        rows: name -> images, shape (n, height * width), in [0, 1].
        shape: (height, width).
        columns: images in a row.
    """
    figure, axes = _figure(0.55 * columns + 1.2, 0.62 * len(rows), nrows=len(rows), ncols=columns, squeeze=False)
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        for axis in line:
            axis.set_axis_off()
        for axis, image in zip(line, images[:columns], strict=False):
            axis.imshow(np.reshape(image, shape), cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
        line[0].text(-0.2, 0.5, name, transform=line[0].transAxes, ha="right", va="center", fontsize=10)
    return figure


def plot_curves(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, label: str) -> Any:
    """Learning curves on common axes.

    Args:
        curves: name -> (epochs, values).
        label: of the vertical axis.
    """
    figure, axis = _figure(7, 4)
    for name, (epochs, values) in curves.items():
        axis.plot(epochs, values, marker="o", markersize=3, label=name)
    axis.set(xlabel="epoch", ylabel=label)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    return figure


def plot_bounds(comparison: Comparison) -> Any:
    """Each model's interval of log p(x): a bar where both sides are claimed, an arrow where one is."""
    found = comparison.bounds
    figure, axis = _figure(7.5, 0.5 * len(found) + 1.4)
    values = [v for e in found.values() for v in (e.lower.value, e.upper.value) if not math.isnan(v)]
    values += [e.estimate.value for e in found.values() if not math.isnan(e.estimate.value)]
    reach = 0.08 * (max(values) - min(values)) if values and max(values) > min(values) else 1.0
    for y, e in enumerate(found.values()):
        _interval(axis, y, e, reach)
    if values:
        axis.set_xlim(min(values) - 1.6 * reach, max(values) + 1.6 * reach)
    axis.set_yticks(range(len(found)), list(found))
    axis.set_ylim(len(found) - 0.5, -0.5)
    axis.set_xlabel(f"log p(x), nats per datum over {comparison.num_data} held-out data")
    axis.grid(axis="x", alpha=0.3)
    for kind, color in COLORS.items():
        axis.plot([], [], color=color, marker="o", linestyle="none", label=kind)
    axis.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def _interval(axis: Any, y: int, e: Any, reach: float) -> None:
    low, high = e.lower.value, e.upper.value
    if not math.isnan(low) and not math.isnan(high):
        color = COLORS[e.lower.kind]
        axis.plot([low, high], [y, y], color=color, linewidth=4, solid_capstyle="butt")
        axis.plot([low, high], [y, y], color=color, marker="|", markersize=14, linestyle="none")
    for side, value, way in ((e.lower, low, 1), (e.upper, high, -1)):
        alone = math.isnan(high if way == 1 else low)
        if not math.isnan(value):
            axis.plot(value, y, marker="o", color=COLORS[side.kind], markersize=5)
        if not math.isnan(value) and alone:
            options = {"arrowstyle": "->", "color": COLORS[side.kind], "linewidth": 2}
            axis.annotate("", xy=(value + way * reach, y), xytext=(value, y), arrowprops=options)
    if math.isnan(low) and math.isnan(high) and not math.isnan(e.estimate.value):
        axis.plot(e.estimate.value, y, marker="D", color=COLORS["estimate"], markersize=6)
