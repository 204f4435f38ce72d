"""A picture with its outlines and its scale bar, as markup."""

import base64
import io
from collections.abc import Iterator, Sequence
from html import escape
from math import floor, log10

from markupsafe import Markup
from PIL import Image

from unetseg.colours import RGB
from unetseg.pages.parts import Outline, Picture, Ring
from unetseg.pages.words import plain

# Up to so many pixels along an edge the pixels are shown as they are: no detail is made up.
_FEW = 160
_QUALITY = 78
# A bar is at most this share of a picture.
_LONGEST_BAR = 0.3
_UNITS = {"mm": "mm", "um": "µm"}


def drawn(picture: Picture) -> Markup:
    """The picture as an <img>, and an <svg> of the same size over it."""
    height, width = picture.pixels.shape[:2]
    is_few = max(height, width) <= _FEW
    kinds = {outline.kind for outline in picture.outlines}
    paths = "".join(_paths(picture.outlines))
    source = _source(picture, is_few=is_few)
    found = (
        f'<img alt="{escape(plain(picture.alt))}" width="{width}" height="{height}"'
        f' decoding="async"{" class=few" if is_few else ""} src="{source}">'
    )
    if paths:
        found += (
            f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" aria-hidden="true"'
            f">{paths}</svg>"
        )
    found += _bar(picture)
    inside = f'<div class="both">{found}</div>' if {"truth", "predicted"} <= kinds else found
    return Markup(inside)


def _source(picture: Picture, *, is_few: bool) -> str:
    buffer = io.BytesIO()
    image = Image.fromarray(picture.pixels)
    # Few pixels are small without loss, too; methods beyond 4 take long for a percent.
    image.save(buffer, format="WEBP", lossless=is_few, quality=_QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _paths(outlines: Sequence[Outline]) -> Iterator[str]:
    """A path for each kind and colour: a thousand objects are not a thousand elements."""
    lines: dict[tuple[str, RGB], list[str]] = {}
    for outline in outlines:
        own = lines.setdefault((outline.kind, outline.colour), [])
        own += [_line(ring) for ring in outline.rings]
    for (kind, colour), parts in lines.items():
        stroke = "#{:02x}{:02x}{:02x}".format(*colour)
        yield f'<path class="{kind}" stroke="{stroke}" d="{"".join(parts)}"/>'


def _line(ring: Ring) -> str:
    """A closed ring whose lines run along rows and columns by turns, in few letters."""
    (x, y), *rest = ring.tolist()
    found, at = [f"M{x} {y}"], (x, y)
    for point in rest:
        right, down = point[0] - at[0], point[1] - at[1]
        found.append(f"h{right}" if not down else f"v{down}" if not right else f"l{right} {down}")
        at = (point[0], point[1])
    return "".join([*found, "z"])


def _bar(picture: Picture) -> str:
    """A bar of a round length, where the size of the pixels is known."""
    if picture.pixel_size is None:
        return ""
    bar = bar_of(picture.pixels.shape[1] * picture.pixel_size, picture.unit)
    if bar is None:
        return ""
    share, text = bar
    where = f'x1="4%" x2="{4 + 100 * share:.2f}%" y1="95%" y2="95%"'
    return (
        f'<svg class="bar" aria-hidden="true"><line class="under" {where}/><line {where}/>'
        f'<text x="4%" y="95%" dy="-6">{text}</text></svg>'
    )


def bar_of(extent: float, unit: str) -> tuple[float, str] | None:
    """A scale bar's share of the width of a picture, and its length in words.

    extent : width of the picture, in the unit; None where the unit has no size
    """
    name = _UNITS.get(unit)
    if name is None:
        return None
    length = round_length(extent * _LONGEST_BAR)
    return length / extent, f"{length:g} {name}"


def round_length(longest: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten that is not above `longest`."""
    power = 10.0 ** floor(log10(longest))
    return next(step * power for step in (5, 2, 1) if step * power <= longest * (1 + 1e-9))
