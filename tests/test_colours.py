"""A class has one colour, whatever else is in a picture."""

from hypothesis import given
from hypothesis import strategies as st

from unetseg.colours import COLOURS, of_value


def contrast(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    """Of two colours. Source: WCAG 2.2, relative luminance."""

    def luminance(colour: tuple[int, int, int]) -> float:
        parts = [c / 255 for c in colour]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_first_classes_have_different_colours_in_their_order() -> None:
    assert [of_value(value) for value in range(1, 8)] == list(COLOURS)
    assert len({of_value(value) for value in range(8)}) == 8


@given(st.integers(1, 100_000))
def test_every_value_has_a_colour_and_its_neighbour_another(value: int) -> None:
    assert of_value(value) in COLOURS
    assert of_value(value) != of_value(value + 1)
    assert of_value(value) != of_value(0)


def test_colours_are_seen_on_black() -> None:
    assert all(contrast(colour, (0, 0, 0)) > 3 for colour in COLOURS)


def test_an_exported_mask_has_the_colours_of_its_classes() -> None:
    from unetseg.formats.ngff import image_label
    from unetseg.records import Label

    labels = [Label(0, "background"), Label(5, "nucleus"), Label(2, "cell")]
    colours = image_label("0.5", labels, None)["colors"]
    assert [each["rgba"][:3] for each in colours[1:]] == [list(of_value(5)), list(of_value(2))]
