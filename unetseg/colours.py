"""Colours that people with any colour vision tell apart; the same for a thing everywhere.

Source: Okabe and Ito 2008, Color Universal Design.
"""

RGB = tuple[int, int, int]

# Red, green, blue, 0 to 255. Blue and black are too dark on dark scans and come last.
COLOURS: tuple[RGB, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (204, 121, 167),
    (0, 114, 178),
)

# For lines on paper, where yellow is too light: the darker ones first.
LINES: tuple[RGB, ...] = tuple(COLOURS[index] for index in (6, 0, 2, 5, 1, 4))

# The background has no colour of its own.
_NONE: RGB = (128, 128, 128)


def of_value(value: int) -> RGB:
    """The colour of a class, by the value that masks have for it; grey for the background 0."""
    return _NONE if value == 0 else COLOURS[(value - 1) % len(COLOURS)]
