"""What matplotlib draws, as markup that belongs to the page: its ink is the page's ink."""

import io
import re
import warnings
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

_SVG = "http://www.w3.org/2000/svg"
_LINK = "{http://www.w3.org/1999/xlink}href"
# Drawn in this colour, and in no other way, becomes the colour of the page's text.
INK = "#010203"
# The rim of what is too light for light paper; not seen on dark paper.
RIM = "#010204"
_STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.14,
    "grid.linewidth": 0.7,
    # Text stays text, and the same chart is the same bytes.
    "svg.fonttype": "none",
    "svg.hashsalt": "unetseg",
}


def painted(size: tuple[float, float], paint: Callable[[Figure], None], *, words: str) -> str:
    """The markup of a chart.

    size : width and height, inches
    paint : draws into the figure; what it draws in INK follows the page
    words : what a reader who cannot see it is told
    """
    buffer = io.StringIO()
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # The browser has letters that the font for measuring lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=size)
        paint(figure)
        # Once by itself: saving would draw everything a second time for it.
        ConstrainedLayoutEngine().execute(figure)
        figure.savefig(
            buffer,
            format="svg",
            transparent=True,
            metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")),
        )
    return _own(buffer.getvalue(), words)


def _own(text: str, words: str) -> str:
    ElementTree.register_namespace("", _SVG)
    # The document type and the comments are left out.
    root = ElementTree.fromstring(text)
    for parent in list(root.iter()):
        for child in list(parent):
            name = child.tag.removeprefix(f"{{{_SVG}}}")
            if name in ("metadata", "style") or _is_empty(child, name):
                parent.remove(child)
    used = set(re.findall(r"#([\w-]+)", text))
    for each in root.iter():
        _without_style(each)
        if (target := each.attrib.pop(_LINK, None)) is not None:
            each.set("href", target)
        if each.get("id") not in used:
            each.attrib.pop("id", None)
    root.attrib.pop("version", None)
    root.set("role", "img")
    root.set("aria-label", words)
    root.set("stroke-linejoin", "round")
    root.set("stroke-linecap", "butt")
    text = ElementTree.tostring(root, encoding="unicode")
    return text.replace(INK, "currentColor").replace(f'stroke="{RIM}"', 'class="rim"')


def _is_empty(element: ElementTree.Element, name: str) -> bool:
    return name in ("g", "defs") and not len(element) and not element.get("id", "").startswith("m")


def _without_style(element: ElementTree.Element) -> None:
    """The declarations of a style attribute as attributes of their own.

    A page that forbids inline styles forbids those of a chart, too.
    """
    for declaration in element.attrib.pop("style", "").split(";"):
        name, _, value = (word.strip() for word in declaration.partition(":"))
        if name == "font":
            # The family is the page's.
            if size := re.search(r"([\d.]+)px", value):
                element.set("font-size", size[1])
            if "bold" in value or "600" in value or "700" in value:
                element.set("font-weight", "600")
        elif name and name not in ("font-family",):
            element.set(name, value.removesuffix("px") if name == "font-size" else value)
    if element.tag == f"{{{_SVG}}}text" and element.get("fill") is None:
        element.set("fill", "currentColor")
