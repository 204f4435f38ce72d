"""What charts have in common: axes, series, and how names and colours get into them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes as Panel
from matplotlib.patheffects import AbstractPathEffect, Normal, Stroke
from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter
from numpy.typing import NDArray

from unetseg.colours import LINES, RGB
from unetseg.pages.svg import RIM
from unetseg.pages.words import plain

# As the colour of a series: that of the page's text.
INK_COLOUR: RGB = (1, 2, 3)
# Lighter colours, such as yellow, have a thin rim of ink on paper.
_LIGHT = 0.6


@dataclass(frozen=True)
class Axis:
    """What an axis says, and where it begins and ends: None is where the data do.

    is_share : the numbers are shares of one, written as per cent
    """

    label: str
    low: float | None = None
    high: float | None = None
    is_log: bool = False
    is_share: bool = False


@dataclass(frozen=True)
class Series:
    """Points of one thing, NaN where there is none.

    colour : None takes one that no other series of the chart has
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    colour: RGB | None = None


@dataclass(frozen=True)
class Group:
    """Values of one thing, NaN where undefined."""

    name: str
    values: tuple[float, ...]
    colour: RGB | None = None


def colour_of(given: RGB | None, index: int) -> tuple[float, float, float]:
    red, green, blue = LINES[index % len(LINES)] if given is None else given
    return red / 255, green / 255, blue / 255


def rim(colour: tuple[float, float, float], width: float) -> list[AbstractPathEffect]:
    red, green, blue = colour
    if 0.2126 * red + 0.7152 * green + 0.0722 * blue < _LIGHT:
        return []
    return [Stroke(linewidth=width + 1.0, foreground=RIM), Normal()]


def label_of(name: str, longest: int = 28) -> str:
    """A name as a chart can show it: matplotlib reads dollars as formulas and hides underscores."""
    text = plain(name)
    short = text if len(text) <= longest else f"{text[: longest - 1]}\u2026"
    hair = "\u200a" if short.startswith("_") else ""
    return f"{hair}{short}".replace("$", r"\$")


def words_of(title: str, caption: str, names: Sequence[str]) -> str:
    told = f" ({', '.join(names)})" if names else ""
    return plain(f"{title}{told}. {caption}".strip())


def add_legend(panel: Panel) -> None:
    handles, labels = panel.get_legend_handles_labels()
    columns = min(len(labels), max(1, 46 // (6 + max(map(len, labels)))))
    panel.figure.legend(
        handles,
        labels,
        loc="outside upper left",
        ncols=columns,
        columnspacing=1.2,
        handletextpad=0.5,
        borderaxespad=0.1,
    )


def finish(panel: Panel, x: Axis, y: Axis) -> None:
    """Labels, limits and numbers of both axes."""
    if x.is_log:
        panel.set_xscale("log")
    if y.is_log:
        panel.set_yscale("log")
    if x.low is not None or x.high is not None:
        panel.set_xlim(x.low, x.high)
    if y.low is not None or y.high is not None:
        panel.set_ylim(y.low, y.high)
    if x.label:
        panel.set_xlabel(x.label)
    if y.label:
        panel.set_ylabel(y.label)
    for axis, which in ((x, panel.xaxis), (y, panel.yaxis)):
        if axis.is_log:
            # Numbers as people write them, at powers of ten.
            which.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
            which.set_minor_formatter(NullFormatter())
        if axis.is_share:
            which.set_major_formatter(PercentFormatter(1, decimals=None))


def spread(count: int) -> NDArray[np.float64]:
    """How far each of so many points is moved aside, the same each time."""
    found: NDArray[np.float64] = 0.36 * (np.modf(np.arange(count) * 0.618034)[0] - 0.5)
    return found
