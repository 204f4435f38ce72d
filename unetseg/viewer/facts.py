"""What the page is told of a case, as plain data."""

from dataclasses import dataclass
from typing import Literal

from unetseg.colours import COLOURS


@dataclass(frozen=True)
class LabelFacts:
    """A value of a mask, its name and its colour (red, green, blue)."""

    value: int
    name: str
    colour: tuple[int, int, int]


@dataclass(frozen=True)
class LayerFacts:
    """A mask.

    labels : of classes, those that are there or have a name, background left out
    largest : the largest value
    """

    name: str
    file: str
    has_objects: bool
    labels: tuple[LabelFacts, ...]
    largest: int


@dataclass(frozen=True)
class ChannelFacts:
    """A channel, and what is shown as black and as white of it (of volumes, their header says)."""

    name: str
    low: float
    high: float


@dataclass(frozen=True)
class CaseFacts:
    """A case at one time point of one scene.

    kind : an image has two axes in space, a volume three
    shape, spacing : along X and Y, and Z, of the file
    times : how many time points the file has
    scenes : their names, where there are several
    dtype : of the values in a tile: uint8, uint16 or float32, little-endian
    is_picture : the channels are red, green and blue
    levels, tile : of an image, see planes
    y_sign : of a volume, that of a position in the file beside that in its NIfTI
    notes : sentences
    """

    name: str
    file: str
    kind: Literal["image", "volume"]
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    unit: str
    channels: tuple[ChannelFacts, ...]
    is_picture: bool
    dtype: str
    times: int
    scenes: tuple[str, ...]
    levels: int
    tile: int
    y_sign: int
    layers: tuple[LayerFacts, ...]
    notes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...] = COLOURS


@dataclass(frozen=True)
class ListedCase:
    """A case in the list of a run; its score is None where it is undefined."""

    name: str
    scores: tuple[tuple[str, float | None], ...]


@dataclass(frozen=True)
class ExhibitFacts:
    """What the page is about."""

    title: str
    cases: tuple[ListedCase, ...]
    version: str
