"""The pictures of a study, each as PNG and SVG."""

from collections.abc import Callable, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullFormatter

from unetseg.colours import LINES
from unetseg.files import replacing
from unetseg.metrics.spread import Range

_STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "legend.frameon": False,
    # The same study writes the same file.
    "svg.hashsalt": "unetseg",
    "svg.fonttype": "path",
}
_DPI = 160
# Steps and values of one training.
Line = tuple[Sequence[int], Sequence[float]]


def colour(index: int) -> tuple[float, float, float]:
    """The colour of the index-th thing, as matplotlib takes it."""
    red, green, blue = LINES[index % len(LINES)]
    return red / 255, green / 255, blue / 255


def draw(
    out: Path,
    name: str,
    size: tuple[float, float],
    paint: Callable[[Figure], None],
    *,
    is_fitted: bool = True,
) -> str:
    """Write OUT/figures/NAME.png and .svg; returns the name.

    is_fitted : matplotlib arranges what was painted; not every release can do so in 3-D
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=size)
        if is_fitted:
            figure.set_layout_engine("constrained")
        paint(figure)
        for suffix in ("png", "svg"):
            with replacing(out / "figures" / f"{name}.{suffix}") as temporary:
                figure.savefig(temporary, format=suffix, dpi=_DPI, metadata=_no_date(suffix))
    return name


def _no_date(suffix: str) -> dict[str, Any]:
    return {"Date": None} if suffix == "svg" else {}


def curves(
    out: Path, name: str, panels: Mapping[str, Mapping[str, Sequence[Line]]], *, ylabel: str
) -> str:
    """A panel per title, a line per label: the mean of its trainings in the band of all of them."""

    def paint(figure: Figure) -> None:
        columns = min(2, len(panels))
        rows = ceil(len(panels) / columns)
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for panel in axes.flat[len(panels) :]:
            panel.remove()
        for panel, (title, lines) in zip(axes.flat, panels.items(), strict=False):
            for index, (label, members) in enumerate(lines.items()):
                steps = members[0][0]
                values = np.array([line for _, line in members], dtype=float)
                panel.plot(steps, values.mean(0), color=colour(index), label=label, linewidth=2)
                panel.fill_between(
                    steps, values.min(0), values.max(0), color=colour(index), alpha=0.22, lw=0
                )
            panel.set_title(title, loc="left")
            panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            # What is left at the end matters as much as how fast it fell.
            panel.set_yscale("log")
            panel.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
            panel.yaxis.set_major_formatter(FormatStrFormatter("%g"))
            panel.yaxis.set_minor_formatter(NullFormatter())
            panel.grid(axis="y", alpha=0.25)
            panel.legend()
        for panel in axes[-1]:
            panel.set_xlabel("step")
        for panel in axes[:, 0]:
            panel.set_ylabel(ylabel)

    rows = ceil(len(panels) / min(2, len(panels)))
    return draw(out, name, (4.2 * min(2, len(panels)), 0.6 + 2.7 * rows), paint)


def differences(
    out: Path,
    name: str,
    gaps: Mapping[str, Mapping[str, Range]],
    compared: tuple[str, Sequence[str]],
) -> str:
    """A panel per metric: each thing's difference from the reference with its interval.

    compared : the reference, and all things in the order of their colours elsewhere
    """
    reference, order = compared

    def paint(figure: Figure) -> None:
        axes = figure.subplots(1, len(gaps), sharey=True, squeeze=False)[0]
        for panel, (metric, ranges) in zip(axes, gaps.items(), strict=True):
            for place, (thing, gap) in enumerate(ranges.items()):
                own = colour(order.index(thing))
                panel.plot([gap.low, gap.high], [place, place], color=own, linewidth=2)
                panel.plot([gap.mean], [place], "o", color=own, markersize=7)
            panel.axvline(0, color="0.4", linewidth=1)
            panel.set_yticks(range(len(ranges)), list(ranges))
            panel.set_ylim(len(ranges) - 0.5, -0.5)
            panel.xaxis.set_major_locator(MaxNLocator(5))
            panel.set_xlabel(f"{metric.replace('_', ' ')} minus {reference}'s")
            panel.grid(axis="x", alpha=0.25)

    rows = max(len(ranges) for ranges in gaps.values())
    return draw(out, name, (4.2 * len(gaps), 1.2 + 0.45 * rows), paint)
