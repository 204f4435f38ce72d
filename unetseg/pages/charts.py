"""The charts of a page."""

from collections.abc import Sequence
from math import isfinite, isnan
from typing import Any, Literal

import numpy as np
from matplotlib.figure import Figure as Sheet
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from unetseg.colours import LINES
from unetseg.pages.axes import (
    INK_COLOUR,
    Axis,
    Group,
    Series,
    add_legend,
    colour_of,
    finish,
    label_of,
    rim,
    spread,
    words_of,
)
from unetseg.pages.parts import Figure
from unetseg.pages.svg import INK, painted
from unetseg.pages.words import share_text

__all__ = [
    "INK_COLOUR",
    "Axis",
    "Group",
    "Series",
    "bars",
    "lines",
    "matrix",
    "reliability",
    "scatter",
    "strips",
]

_HALF, _WHOLE = 4.5, 9.2
_HEIGHT = 2.75
_DASHES: tuple[object, ...] = ("-", (0, (5, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# More points than this and markers hide the line.
_FEW_POINTS = 25


def lines(
    title: str,
    series: Sequence[Series],
    x: Axis,
    y: Axis,
    *,
    caption: str = "",
    is_wide: bool = False,
) -> Figure:
    """A line for each series, told apart by colour and by dashes or markers."""

    def paint(sheet: Sheet) -> None:
        panel = sheet.subplots()
        for index, each in enumerate(series):
            colour = colour_of(each.colour, index)
            is_few = sum(map(isfinite, each.y)) <= _FEW_POINTS
            is_gapless = np.isfinite(each.y)
            panel.plot(
                np.array(each.x)[is_gapless],
                np.array(each.y)[is_gapless],
                color=colour,
                label=label_of(each.name),
                linewidth=1.6,
                linestyle=_DASHES[index % len(_DASHES)],
                marker=_MARKERS[index % len(_MARKERS)] if is_few else None,
                markersize=4,
                path_effects=rim(colour, 1.6),
            )
        finish(panel, x, y)
        panel.grid(axis="y")
        if len(series) > 1:
            add_legend(panel)

    words = words_of(title, caption, [each.name for each in series])
    size = (_WHOLE if is_wide else _HALF, _HEIGHT)
    return Figure(painted(size, paint, words=words), title, caption, is_wide)


def scatter(
    title: str,
    series: Sequence[Series],
    x: Axis,
    y: Axis,
    *,
    caption: str = "",
    line: Literal["", "equal", "zero"] = "",
) -> Figure:
    """A point for each pair; a reference `line` at y = x ("equal") or at y = 0 ("zero")."""

    def paint(sheet: Sheet) -> None:
        panel = sheet.subplots()
        panel.margins(0.05)
        for index, each in enumerate(series):
            panel.plot(
                each.x,
                each.y,
                linestyle="none",
                marker=_MARKERS[index % len(_MARKERS)],
                markersize=4.5,
                color=colour_of(each.colour, index),
                markeredgecolor=INK,
                markeredgewidth=0.4,
                alpha=0.85,
                label=label_of(each.name),
            )
        finish(panel, x, y)
        if line == "equal":
            both = [*panel.get_xlim(), *panel.get_ylim()]
            ends = [min(both), max(both)]
            panel.plot(ends, ends, color=INK, linewidth=0.8, alpha=0.6, zorder=1)
            panel.set_xlim(*ends)
            panel.set_ylim(*ends)
        elif line == "zero":
            panel.axhline(0, color=INK, linewidth=0.8, alpha=0.6, zorder=1)
        panel.grid()
        if len(series) > 1:
            add_legend(panel)

    words = words_of(title, caption, [each.name for each in series])
    return Figure(painted((_HALF, _HEIGHT + 0.25), paint, words=words), title, caption)


def strips(
    title: str,
    groups: Sequence[Group],
    values: Axis,
    *,
    caption: str = "",
    is_wide: bool = False,
) -> Figure:
    """A row per group: every value as a point, and a box between the quartiles."""

    def paint(sheet: Sheet) -> None:
        panel = sheet.subplots()
        for row, group in enumerate(groups):
            found = np.array([value for value in group.values if isfinite(value)])
            if not len(found):
                panel.text(
                    0.02,
                    row,
                    "no value",
                    va="center",
                    alpha=0.7,
                    fontsize=8,
                    transform=panel.get_yaxis_transform(),
                )
                continue
            colour = colour_of(group.colour, row)
            low, middle, high = np.quantile(found, [0.25, 0.5, 0.75])
            panel.barh(row, high - low, left=low, height=0.56, color=colour, alpha=0.3, linewidth=0)
            panel.plot([middle] * 2, [row - 0.28, row + 0.28], color=INK, linewidth=1.6, zorder=4)
            panel.plot(
                found,
                row + spread(len(found)),
                linestyle="none",
                marker="o",
                markersize=3.2 if len(found) > 60 else 4.2,
                color=colour,
                markeredgecolor=INK,
                markeredgewidth=0.3,
                alpha=0.8,
            )
        # A point at the end of the axis is whole.
        panel.use_sticky_edges = False
        panel.set_yticks(range(len(groups)), [label_of(group.name) for group in groups])
        panel.set_ylim(len(groups) - 0.5, -0.5)
        panel.tick_params(axis="y", length=0)
        panel.spines["left"].set_visible(False)
        finish(panel, values, Axis(""))
        if not values.is_log:
            # Long names leave little room for numbers.
            panel.xaxis.set_major_locator(MaxNLocator(9 if is_wide else 4))
        panel.grid(axis="x")

    size = (_WHOLE if is_wide else _HALF, 0.75 + 0.46 * max(1, len(groups)))
    words = words_of(title, caption, [group.name for group in groups])
    return Figure(painted(size, paint, words=words), title, caption, is_wide)


def bars(
    title: str,
    names: Sequence[str],
    groups: Sequence[Group],
    values: Axis,
    *,
    caption: str = "",
) -> Figure:
    """For each name a bar of each group, lying; the value stands beside its bar.

    groups : their values are in the order of the names
    """

    def paint(sheet: Sheet) -> None:
        panel = sheet.subplots()
        thickness = 0.8 / len(groups)
        for index, group in enumerate(groups):
            rows = np.arange(len(names)) + (index - (len(groups) - 1) / 2) * thickness
            found = np.nan_to_num(np.array(group.values, float))
            panel.barh(
                rows,
                found,
                height=thickness * 0.92,
                label=label_of(group.name),
                color=colour_of(group.colour, index),
                linewidth=0,
            )
            for row, value in zip(rows, group.values, strict=True):
                if not isnan(value):
                    text = f"{value:.1%}" if values.is_share else f"{value:,.4g}"
                    panel.annotate(
                        text,
                        (value, row),
                        (3, 0),
                        textcoords="offset points",
                        va="center",
                        fontsize=8,
                    )
        panel.set_yticks(range(len(names)), [label_of(name) for name in names])
        panel.set_ylim(len(names) - 0.5, -0.5)
        panel.margins(x=0.15)
        panel.tick_params(axis="y", length=0)
        finish(panel, values, Axis(""))
        if len(groups) > 1:
            add_legend(panel)

    size = (_HALF, 0.8 + 0.24 * len(names) * max(1.0, 0.75 * len(groups)))
    words = words_of(title, caption, [group.name for group in groups])
    return Figure(painted(size, paint, words=words), title, caption)


def matrix(
    title: str,
    names: Sequence[str],
    counts: NDArray[np.integer[Any]],
    *,
    caption: str = "",
    axes: tuple[str, str] = ("predicted", "truth"),
) -> Figure:
    """A table of counts, rows by columns, each cell as a share of its row.

    axes : what the columns and the rows stand for
    """
    size_ = len(names)
    total = counts.sum(1, keepdims=True)
    shares = np.divide(counts, total, out=np.full(counts.shape, np.nan), where=total > 0)

    def paint(sheet: Sheet) -> None:
        panel = sheet.subplots()
        blue = np.array(LINES[0]) / 255
        for (row, column), share in np.ndenumerate(shares):
            if np.isfinite(share):
                # Ink is read on 55 per cent of the colour, be the paper light or dark.
                panel.add_patch(
                    Rectangle(
                        (column - 0.48, row - 0.48),
                        0.96,
                        0.96,
                        facecolor=blue,
                        alpha=float(0.55 * share),
                        linewidth=0,
                    )
                )
            if size_ <= 16:
                panel.text(
                    column,
                    row,
                    share_text(float(share)),
                    ha="center",
                    va="center",
                    fontsize=8.5 if size_ <= 8 else 7,
                )
        panel.set_xlim(-0.5, size_ - 0.5)
        panel.set_ylim(size_ - 0.5, -0.5)
        panel.set_aspect("equal" if size_ > 3 else "auto")
        labels = [label_of(name) for name in names]
        is_long = max(map(len, labels)) * size_ > 44
        panel.set_xticks(
            range(size_),
            labels,
            rotation=40 if is_long else 0,
            ha="right" if is_long else "center",
            rotation_mode="anchor",
        )
        panel.set_yticks(range(size_), labels)
        panel.tick_params(length=0)
        for spine in panel.spines.values():
            spine.set_visible(False)
        panel.set_xlabel(axes[0])
        panel.set_ylabel(axes[1])

    edge = min(7.5, max(2.2, 1.2 + 0.42 * size_))
    words = words_of(title, caption, names)
    return Figure(
        painted((_HALF if edge < 5 else edge, edge), paint, words=words),
        title,
        caption,
        is_wide=edge >= 5,
    )


def reliability(
    title: str,
    confidence: Sequence[float],
    accuracy: Sequence[float],
    counts: Sequence[int],
    *,
    caption: str = "",
    axes: tuple[str, str] = ("confidence", "right"),
) -> Figure:
    """How often an answer is right against how sure it was; below it, how many were so sure.

    confidence, accuracy, counts : of each bin, NaN and 0 where it is empty
    """

    def paint(sheet: Sheet) -> None:
        upper, lower = sheet.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        is_full = np.array(counts) > 0
        upper.plot([0, 1], [0, 1], color=INK, linewidth=0.8, alpha=0.6)
        upper.plot(
            np.array(confidence)[is_full],
            np.array(accuracy)[is_full],
            color=colour_of(None, 0),
            marker="o",
            markersize=4,
            linewidth=1.6,
        )
        for panel in (upper, lower):
            panel.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
            panel.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        upper.set_ylabel(axes[1])
        upper.set_xlim(0, 1)
        upper.set_ylim(0, 1)
        upper.grid()
        edges = np.linspace(0, 1, len(counts) + 1)
        share = np.array(counts, float) / max(1, sum(counts))
        lower.bar(
            edges[:-1],
            share,
            np.diff(edges) * 0.92,
            align="edge",
            color=colour_of(None, 0),
            alpha=0.6,
            linewidth=0,
        )
        lower.set_ylabel("share")
        lower.yaxis.set_major_locator(MaxNLocator(2))
        lower.set_xlabel(axes[0])

    words = words_of(title, caption, [])
    return Figure(painted((_HALF, _HEIGHT + 0.9), paint, words=words), title, caption)
