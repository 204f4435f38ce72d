"""What a page is made of. All text is text: names from files are data, never markup."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unetseg.colours import RGB

Kind = Literal["truth", "predicted", "mask"]
# Corners of pixels: x to the right and y down, whole numbers, (n, 2), the first not repeated.
Ring = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Link:
    """Text that leads to a place on the same page: the anchor of a section or of a picture."""

    text: str
    anchor: str


Cell = str | Link


@dataclass(frozen=True)
class Prose:
    """Paragraphs."""

    paragraphs: tuple[str, ...]


@dataclass(frozen=True)
class Notice:
    """Sentences that a reader must not miss: what is wrong, or what is not here and why."""

    sentences: tuple[str, ...]
    severity: Literal["error", "warning", "note"] = "note"


@dataclass(frozen=True)
class Numbers:
    """The few numbers that matter most, large: what each is, and its value with its unit."""

    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Facts:
    """Names and what they stand for, a line each."""

    rows: tuple[tuple[str, Cell], ...]


@dataclass(frozen=True)
class Code:
    """Text whose lines and blanks count.

    is_folded : only its title is seen until a reader opens it, on paper too
    """

    text: str
    title: str = ""
    is_folded: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of cells. Columns of numbers are found by themselves: they stand to the right.

    is_sortable : by each of the columns, when a reader asks
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""
    is_sortable: bool = True


@dataclass(frozen=True)
class Figure:
    """A chart, as charts.py makes them.

    svg : markup, the only one that a part may hold; never made from outside
    is_wide : takes the whole width of the page rather than half of it
    """

    svg: str
    title: str
    caption: str = ""
    is_wide: bool = False


@dataclass(frozen=True, eq=False)
class Outline:
    """The line around a class or an object in a picture, along the edges of pixels.

    name : of the class, for the legend; empty for an object among many
    """

    rings: tuple[Ring, ...]
    colour: RGB
    kind: Kind
    name: str = ""


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture with outlines over it.

    pixels : (H, W) grey or (H, W, 3) red, green, blue, uint8, square
    alt : says in words what is seen
    pixel_size : edge length of a pixel in `unit`, for the scale bar; None: not known
    anchor : by which links find it
    """

    pixels: NDArray[np.uint8]
    outlines: tuple[Outline, ...] = ()
    alt: str = ""
    caption: str = ""
    pixel_size: float | None = None
    unit: str = ""
    anchor: str = ""


@dataclass(frozen=True, eq=False)
class Gallery:
    """Pictures side by side, with switches for truth and predicted where both are there.

    size : how wide the pictures are shown: thumbnails, or large enough to judge an outline
    """

    pictures: tuple[Picture, ...]
    caption: str = ""
    size: Literal["small", "large"] = "large"


@dataclass(frozen=True, eq=False)
class Section:
    """A heading with what belongs to it; a section within a section has a smaller one.

    anchor : by which links find it; made of the title if it is empty
    """

    title: str
    parts: tuple["Part", ...]
    anchor: str = ""


Part = Prose | Notice | Numbers | Facts | Code | Table | Figure | Picture | Gallery | Section


@dataclass(frozen=True, eq=False)
class Page:
    """All that a file shows."""

    title: str
    subtitle: str
    sections: tuple[Section, ...]
