"""A page: what is in it is text, and it needs nothing else."""

import base64
import hashlib
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from unetseg.pages.drawing import drawn, round_length
from unetseg.pages.parts import (
    Code,
    Facts,
    Figure,
    Gallery,
    Link,
    Notice,
    Numbers,
    Outline,
    Page,
    Part,
    Picture,
    Prose,
    Section,
    Table,
)
from unetseg.pages.rendering import render
from unetseg.pages.words import address, duration, number, plain, quantity, share_text, unit_text

HOSTILE = (
    "<script>alert(1)</script>",
    '"onload=alert(1) x="',
    "</style><style>*{}",
    "a\u202eb\u202c",
    "&amp;",
    "{{ 7*7 }}",
    "x" * 300,
)


class Reader(HTMLParser):
    """Elements with their attributes, and all text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def page(*parts: Part, title: str = "Title") -> Page:
    return Page(title, "what it is about", (Section("One", parts), Section("Two", ())))


def picture(text: str = "a case", anchor: str = "") -> Picture:
    ring = np.array([[1, 1], [3, 1], [3, 2], [1, 2]])
    pixels = np.arange(48, dtype=np.uint8).reshape(6, 8)
    outlines = (
        Outline((ring,), (230, 159, 0), "truth", text),
        Outline((ring + 1,), (230, 159, 0), "predicted", text),
    )
    return Picture(pixels, outlines, text, text, 1.5, "mm", anchor)


def everything(text: str) -> Page:
    return Page(
        text,
        text,
        (
            Section(
                text,
                (
                    Prose((text,)),
                    Notice((text,), "warning"),
                    Numbers(((text, text),)),
                    Facts(((text, text), (text, Link(text, text)))),
                    Code(text, text, is_folded=True),
                    Code(text, text),
                    Table((text, "n"), ((text, "1"), (Link(text, text), "2")), text),
                    Gallery((picture(text, text),), text),
                    Section(text, (Prose((text,)),)),
                ),
                anchor=text,
            ),
        ),
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_names_are_text_wherever_they_stand(text: str) -> None:
    usual, hostile = Reader(render(everything("name"))), Reader(render(everything(text)))
    # Neither an element nor an attribute more than with a harmless name.
    assert [(tag, sorted(a)) for tag, a in hostile.elements] == [
        (tag, sorted(a)) for tag, a in usual.elements
    ]
    shown = plain(text)
    assert sum(words.strip() == shown for words in hostile.words) > 15
    assert all(image["alt"] == shown for image in hostile.of("img"))


def test_a_name_that_turns_the_direction_is_shown_with_the_mark_written_out() -> None:
    html = render(page(Prose(("abc\u202edef\u2066",))))
    assert r"abc\u202edef\u2066" in html
    assert not set("\u202e\u2066\u200f") & set(html)
    # A letter of a language that runs from right to left is no such mark.
    assert "\u05d0" in render(page(Prose(("\u05d0",))))


def test_the_policy_allows_this_style_and_this_script_and_nothing_else() -> None:
    html = render(page(Prose(("text",))))
    policy = Reader(html).of("meta")[1]["content"]
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.S)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert not re.search(r"""\son\w+=|\sstyle=""", html)


def test_nothing_is_asked_for_elsewhere() -> None:
    reader = Reader(render(everything("name")))
    for _, attributes in reader.elements:
        for name in ("src", "href", "xlink:href", "srcset", "action"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:")), value


def test_every_id_stands_once_and_every_link_leads_somewhere() -> None:
    one = Section("Same", (Facts((("a", Link("to it", "case <1>")),)), picture(anchor="case <1>")))
    svg = '<svg><defs><path id="m1"/></defs><use href="#m1"/></svg>'
    figures = Section("Same", (Figure(svg, "a"), Figure(svg, "b")))
    reader = Reader(render(Page("t", "", (one, figures))))
    ids = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [a["href"] for tag, a in reader.elements if tag in ("a", "use")]
    assert len(targets) == 6
    assert {str(target).removeprefix("#") for target in targets} <= set(ids)


@given(st.text(max_size=8), st.text(max_size=8))
def test_two_anchors_have_two_addresses(one: str, other: str) -> None:
    assert (address(one) == address(other)) == (one == other)
    assert re.fullmatch(r"[A-Za-z0-9_.-]*", address(one))


def test_headings_go_down_step_by_step() -> None:
    inner = Section("Inner", (Prose(("text",)),))
    html = render(Page("Top", "", (Section("Outer", (inner,)), Section("Next", ()))))
    assert re.findall(r"<h(\d)", html) == ["1", "2", "3", "2"]


def test_the_same_page_is_the_same_bytes() -> None:
    assert render(everything("a")) == render(everything("a"))
    assert render(everything("a")) != render(everything("b"))


def numeric(*cells: str) -> bool:
    rows = tuple(("name", cell) for cell in cells)
    table = re.findall(r"<td[^>]*>", render(page(Table(("a", "b"), rows))))
    assert len({*table}) == 1
    return 'class="n"' in table[0]


@pytest.mark.parametrize(
    "cells",
    [("1", "2.5"), ("0.873", "\u2013"), ("1,204", "12 mm"), ("+3.1%", "-4%"), ("30 / 30", "nan"),
     ("0.8 \u00b1 0.1", ""), ("1e-3", ".5"), ("12 min", "3.2 s")],
)  # fmt: skip
def test_columns_of_numbers_are_found(cells: tuple[str, ...]) -> None:
    assert numeric(*cells)


@pytest.mark.parametrize(
    "cells", [("case_1", "case_2"), ("1", "one"), ("", "\u2013"), ("3d", "2d"), ("[1, 2]", "3")]
)
def test_columns_of_words_are_not(cells: tuple[str, ...]) -> None:
    assert not numeric(*cells)


def test_a_table_that_is_not_to_be_sorted_has_no_buttons() -> None:
    rows = (("a", "1"), ("b", "2"))
    assert Reader(render(page(Table(("x", "y"), rows)))).of("button") == [{"type": "button"}] * 2
    assert not Reader(render(page(Table(("x", "y"), rows, is_sortable=False)))).of("button")


def test_a_table_without_rows() -> None:
    assert len(Reader(render(page(Table(("x", "y"), ())))).of("th")) == 2


# --- pictures ----------------------------------------------------------------------------------


def stored(html: str) -> np.ndarray:
    (source,) = re.findall(r"data:image/webp;base64,([^\"]+)", html)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source))))


def test_few_pixels_are_kept_exactly() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60), dtype=np.uint8)
    found = stored(drawn(Picture(pixels)))
    np.testing.assert_array_equal(found[..., 0], pixels)
    assert "class=few" in drawn(Picture(pixels))


def test_many_pixels_are_small_and_nearly_the_same() -> None:
    ramp = np.add.outer(np.arange(300), np.arange(400)) / 700 * 255
    pixels = ramp.astype(np.uint8)
    html = drawn(Picture(pixels))
    assert len(html) < pixels.size / 10
    assert np.abs(stored(html)[..., 0].astype(float) - pixels).mean() < 3
    assert "class=few" not in html


def test_an_outline_is_a_path_along_the_edges_of_pixels() -> None:
    html = drawn(picture())
    assert 'viewBox="0 0 8 6"' in html
    assert '<path class="truth" stroke="#e69f00" d="M1 1h2v1h-2z"/>' in html
    assert '<path class="predicted" stroke="#e69f00" d="M2 2h2v1h-2z"/>' in html


def test_outlines_of_one_kind_and_colour_are_one_path() -> None:
    ring = np.array([[1, 1], [3, 1], [3, 2], [1, 2]])
    kinds = ("truth", "truth", "predicted", "truth")
    colours = ((1, 2, 3), (1, 2, 3), (1, 2, 3), (4, 5, 6))
    outlines = tuple(Outline((ring,), c, k) for c, k in zip(colours, kinds, strict=True))
    html = drawn(Picture(np.zeros((6, 8), np.uint8), outlines))
    assert re.findall(r'class="(\w+)" stroke="(#\w+)"', html) == [
        ("truth", "#010203"),
        ("predicted", "#010203"),
        ("truth", "#040506"),
    ]
    assert html.count("M1 1h2v1h-2z") == 4


def test_switches_are_there_for_what_can_be_switched() -> None:
    both = Reader(render(page(Gallery((picture(),))))).of("input")
    assert [each["class"] for each in both] == ["truth", "predicted"]
    bare = Picture(np.zeros((4, 4), np.uint8))
    assert not Reader(render(page(Gallery((bare,))))).of("input")


def test_the_scale_bar_is_as_long_as_it_says() -> None:
    html = drawn(picture())
    # 8 pixels of 1.5 mm: of 12 mm at most 3.6.
    assert "2 mm" in html
    (start,), (end,) = (
        re.findall(r'line x1="(.*?)%"', html),
        re.findall(r'line x1=.*? x2="(.*?)%"', html),
    )
    assert (float(end) - float(start)) / 100 * 12 == pytest.approx(2, abs=0.01)
    assert "bar" not in drawn(Picture(np.zeros((4, 4), np.uint8)))


@given(st.floats(1e-6, 1e9))
def test_a_round_length_is_round_and_not_too_short(longest: float) -> None:
    length = round_length(longest)
    assert 0.39 * longest < length <= longest * (1 + 1e-8)
    assert f"{length:e}"[0] in "125"


# --- words -------------------------------------------------------------------------------------


def test_how_numbers_are_written() -> None:
    assert number(0.87345) == "0.873"
    assert number(float("nan")) == "\u2013"
    assert [share_text(s) for s in (0, 0.0001, 0.5, 0.99999, 1)] == [
        "0.0%", "<0.1%", "50.0%", ">99.9%", "100.0%",
    ]  # fmt: skip
    assert quantity(1234567.8, "mm^3") == "1,234,568 mm\u00b3"
    assert quantity(1.23456, "um^2") == "1.235 \u00b5m\u00b2"
    assert unit_text("px^2") == "px\u00b2"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.44, "0.4 s"), (59.6, "1 min"), (90, "1 min 30 s"), (3600, "1 h"), (7505, "2 h 5 min"),
     (90061, "1 d 1 h"), (float("nan"), "\u2013")],
)  # fmt: skip
def test_how_long_something_takes(seconds: float, text: str) -> None:
    assert duration(seconds) == text
