"""Charts: their ink is the page's, names are text, and points lie where their numbers say."""

import re
from collections.abc import Callable
from xml.etree import ElementTree

import numpy as np
import pytest

from unetseg.colours import of_value
from unetseg.pages.charts import (
    Axis,
    Group,
    Series,
    bars,
    lines,
    matrix,
    reliability,
    scatter,
    strips,
)
from unetseg.pages.parts import Figure

NAN = float("nan")
X, Y = (1.0, 2.0, 3.0, 4.0), (0.1, 0.4, 0.2, 0.8)
AXES = Axis("step"), Axis("loss")
SVG = "{http://www.w3.org/2000/svg}"


def one_of_each(name: str) -> dict[str, Figure]:
    two = [Series(name, X, Y), Series("other", X, Y[::-1], of_value(4))]
    groups = [Group(name, Y), Group("none", (NAN,)), Group("one", (0.5,), of_value(4))]
    counts = np.array([[90, 10], [0, 0]])
    return {
        "lines": lines(name, two, *AXES, caption=name),
        "scatter": scatter(name, two, *AXES, line="equal"),
        "strips": strips(name, groups, Axis("Dice")),
        "bars": bars(name, [name, "b"], [Group(name, (0.5, NAN))], Axis("share", is_share=True)),
        "matrix": matrix(name, [name, "b"], counts),
        "reliability": reliability(name, [NAN, 0.7], [NAN, 0.6], [0, 10]),
    }


USUAL = one_of_each("a class")


@pytest.mark.parametrize("kind", USUAL)
def test_a_chart_belongs_to_its_page(kind: str) -> None:
    root = ElementTree.fromstring(USUAL[kind].svg)
    assert root.get("role") == "img"
    assert "a class" in str(root.get("aria-label"))
    every = list(root.iter())
    # What a strict page forbids, and what differs from day to day.
    assert not [each.tag for each in every if each.get("style")]
    assert not {each.tag.removeprefix(SVG) for each in every} & {"style", "metadata", "script"}
    assert root.findall(f".//{SVG}text")
    colours = {each.get(key) for each in every for key in ("fill", "stroke")}
    assert "currentColor" in colours
    # Neither black nor white is drawn: one of both would be lost on dark or on light paper.
    assert not colours & {"#000000", "black", "#ffffff", "white", "#010203", "#010204"}
    ids = [each.get("id") for each in every if each.get("id")]
    assert len(ids) == len(set(ids))


def test_the_same_chart_is_the_same_bytes() -> None:
    again = one_of_each("a class")
    assert again == USUAL
    assert one_of_each("another") != USUAL


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", "$x_1$", "_hidden", "\u6d77\u99ac", "a\x00b\nc", "%s {}"]
)
def test_names_are_text(name: str) -> None:
    for kind, figure in one_of_each(name).items():
        root = ElementTree.fromstring(figure.svg)
        assert [e.tag for e in root.iter()].count(f"{SVG}script") == 0
        texts = [text.text or "" for text in root.iter(f"{SVG}text")]
        wanted = name.replace("\x00", r"\x00").replace("\n", r"\n")
        if kind != "reliability":
            assert any(text.strip("\u200a") == wanted for text in texts), (kind, texts)


def path_points(svg: str, stroke: tuple[int, int, int]) -> np.ndarray:
    """The points of the longest line in a colour."""
    colour = "#{:02x}{:02x}{:02x}".format(*stroke)
    found = [
        np.array(re.findall(r"[ML] ([\d.-]+) ([\d.-]+)", str(each.get("d"))), dtype=float)
        for each in ElementTree.fromstring(svg).iter(f"{SVG}path")
        if each.get("stroke") == colour
    ]
    return max(found, key=len)


def test_a_line_goes_through_its_points_and_leaves_out_what_is_undefined() -> None:
    colour = of_value(1)
    x, y = np.arange(40.0), np.sin(np.arange(40.0))
    y[7] = NAN
    figure = lines("a", [Series("a", tuple(x), tuple(y), colour)], *AXES)
    points = path_points(figure.svg, colour)
    kept = np.isfinite(y)
    assert len(points) == kept.sum()
    # Right for x, up for y: a straight relation with both.
    right = np.polyfit(x[kept], points[:, 0], 1)
    up = np.polyfit(y[kept], points[:, 1], 1)
    assert right[0] > 0 > up[0]
    np.testing.assert_allclose(points[:, 0], np.polyval(right, x[kept]), atol=0.01)
    np.testing.assert_allclose(points[:, 1], np.polyval(up, y[kept]), atol=0.01)


def test_lines_are_told_apart_without_colours() -> None:
    series = [Series(str(k), X * 20, Y * 20, (0, 0, 255)) for k in range(4)]
    svg = lines("a", series, *AXES).svg
    assert len(set(re.findall(r'stroke-dasharray="([^"]+)"', svg))) == 3


def test_what_is_rare_is_not_called_none() -> None:
    figure = matrix("a", ["x", "y"], np.array([[99_999, 1], [5, 5]]))
    assert "&lt;0.1%" in figure.svg
    assert "&gt;99.9%" in figure.svg
    assert figure.svg.count("50.0%") == 2


def test_a_class_that_is_nowhere_has_no_shares() -> None:
    svg = matrix("a", ["x", "y"], np.array([[3, 1], [0, 0]])).svg
    assert svg.count("\u2013") == 2
    assert "nan" not in svg


def test_a_perfect_calibration_lies_on_the_line() -> None:
    middle = [(k + 0.5) / 10 for k in range(10)]
    colour = (0, 114, 178)
    right = path_points(reliability("a", middle, middle, [5] * 10).svg, colour)
    wrong = path_points(reliability("a", middle, [0.9 * m for m in middle], [5] * 10).svg, colour)

    def bend(points: np.ndarray) -> float:
        # The panel is not square: its corners are those of the frame, 0 and 1 on both axes.
        return float(np.abs(np.diff(points[:, 1]) / np.diff(points[:, 0])).std())

    assert bend(right) < 1e-3
    assert len(right) == len(wrong) == 10
    assert right[0, 1] - right[-1, 1] > wrong[0, 1] - wrong[-1, 1] + 1


@pytest.mark.parametrize("make", [lines, scatter])
def test_nothing_to_show_is_an_empty_chart(make: Callable[..., Figure]) -> None:
    figure = make("a", [Series("a", (), ())], *AXES)
    assert ElementTree.fromstring(figure.svg).get("role") == "img"
