"""A page as one HTML file that needs nothing else and asks nobody for anything."""

import base64
import hashlib
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from itertools import count

from jinja2 import Environment, FunctionLoader
from markupsafe import Markup

from unetseg.pages.drawing import drawn
from unetseg.pages.parts import Cell, Figure, Page, Part, Picture, Section, Table
from unetseg.pages.words import address, plain
from unetseg.version import __version__

# A number, and a unit, an interval or a total after it.
_NUMBER = re.compile(
    r"[+\-\u2212]?[\d,]*\.?\d+(e[+-]?\d+)?(\s?%|\s\S{1,6}|\s[±/(].*)?", re.IGNORECASE
)
_UNDEFINED = ("", "\u2013", "\u2014", "nan", "-")


def render(page: Page) -> str:
    """The HTML of the page: the same bytes for the same page.

    It holds its style, its script and its pictures, and forbids everything else by its
    Content-Security-Policy: what a name holds is never markup and never loaded.
    """
    environment = Environment(
        loader=FunctionLoader(_text), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    anchors, figures = _Anchors(), count()
    environment.filters |= {
        "t": plain,
        "lines": _lines,
        "kind": lambda part: type(part).__name__,
        "together": _together,
        "anchor": anchors.of,
        "address": address,
        "numeric": _numeric,
        "kinds": _kinds,
        "legend": _legend,
        "drawn": drawn,
        "svg": lambda figure: _with_own_ids(figure, next(figures)),
    }
    style, script = _text("page.css"), _text("page.js")
    return environment.get_template("page.html").render(
        page=page,
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
        version=__version__,
    )


class _Anchors:
    """The ids of a page's sections, each once."""

    def __init__(self) -> None:
        self._of: dict[int, str] = {}

    def of(self, section: Section) -> str:
        if id(section) not in self._of:
            words = re.sub(r"[^a-z0-9]+", "-", section.title.lower()).strip("-") or "section"
            wanted = address(section.anchor) if section.anchor else words
            taken = set(self._of.values())
            names = (wanted if n == 1 else f"{wanted}-{n}" for n in count(1))
            self._of[id(section)] = next(name for name in names if name not in taken)
        return self._of[id(section)]


def _lines(text: str) -> str:
    return "\n".join(plain(line) for line in text.expandtabs(4).splitlines())


def _together(parts: Sequence[Part]) -> list[list[Part]]:
    """Charts that follow one another stand side by side; all else stands alone."""
    found: list[list[Part]] = []
    for part in parts:
        if found and isinstance(part, Figure) and isinstance(found[-1][0], Figure):
            found[-1].append(part)
        else:
            found.append([part])
    return found


def _numeric(table: Table) -> list[bool]:
    """Which columns hold numbers, and nothing else but cells without a value."""
    columns = zip(*table.rows, strict=True) if table.rows else [() for _ in table.columns]
    return [_is_numeric(column) for column in columns]


def _is_numeric(cells: Sequence[Cell]) -> bool:
    texts = [(cell if isinstance(cell, str) else cell.text).strip() for cell in cells]
    values = [text for text in texts if text.lower() not in _UNDEFINED]
    return bool(values) and all(_NUMBER.fullmatch(text) for text in values)


def _kinds(pictures: Sequence[Picture]) -> list[str]:
    return sorted({outline.kind for picture in pictures for outline in picture.outlines})


def _legend(pictures: Sequence[Picture]) -> list[tuple[str, str]]:
    """The named outlines with their colours, each once."""
    found = {
        (outline.name, "#{:02x}{:02x}{:02x}".format(*outline.colour)): None
        for picture in pictures
        for outline in picture.outlines
        if outline.name
    }
    return list(found)


def _with_own_ids(figure: Figure, number: int) -> Markup:
    """The chart's markup with ids that no other chart of the page has."""
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>c{number}-", figure.svg)
    return Markup(svg)


@cache
def _text(name: str) -> str:
    return files("unetseg.pages").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
