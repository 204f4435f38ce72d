"""Which values a mask has, what they are called, and the colour that each is shown in."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetseg.colours import of_value
from unetseg.formats.voxels import values_of
from unetseg.objects import LEAST_OBJECTS
from unetseg.pages.colouring import coloured
from unetseg.records import Label
from unetseg.viewer.facts import LabelFacts

# Planes of a volume in each direction whose touching objects get different colours.
_PLANES = 48
# Ids above this are coloured by the page, each by itself.
_LARGEST = 1 << 22
# So many objects are coloured in about a second.
_MOST_OBJECTS = 20_000


def numbers_objects(values: Sequence[int], path: Path, *, is_large: bool = False) -> bool:
    """Whether the values of a mask are ids of objects, by their looks or a table beside it.

    values : of the mask, or of a part of it
    is_large : only how many values there are is looked at
    """
    # What reads whole masks is not loaded for a few classes.
    from unetseg.dataset.object_classes import class_table

    if class_table(path) is not None:
        return True
    if len(values) < LEAST_OBJECTS:
        return False
    if is_large:
        from unetseg.planning.numbering import number_objects

        return number_objects([values], [])
    from unetseg.exporting import have_objects

    return have_objects([path])


def labels_of(values: Sequence[int], named: Sequence[Label]) -> tuple[LabelFacts, ...]:
    """The classes that are there or have a name, in order, background left out."""
    names = {label.value: label.name for label in named if label.value}
    return tuple(
        LabelFacts(value, names.get(value, f"label {value}"), of_value(value))
        for value in sorted({*values, *names})
    )


def colour_table(array: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
    """For each id up to the largest, the place of its colour in COLOURS, counted from 1.

    array : (h, w) or three axes, ids of objects

    0 stands for ids that are not there. Empty if there are none, so many that it would take long,
    or ids that are negative or too large: each then has the colour of its number.
    """
    ids = np.array(values_of(array), np.int64)
    if not 0 < ids.size <= _MOST_OBJECTS or ids[0] < 0 or ids[-1] >= _LARGEST:
        return np.zeros(0, np.uint8)
    ranks = np.zeros(int(ids[-1]) + 1, np.int32)
    ranks[ids] = np.arange(1, len(ids) + 1)
    colours = coloured([ranks[plane] for plane in _planes(array)], len(ids))
    table = np.zeros(len(ranks), np.uint8)
    table[ids] = colours[1:] + 1
    return table


def _planes(array: NDArray[Any]) -> list[NDArray[Any]]:
    """(h, w) each: some along every axis of a volume."""
    if array.ndim < 3:
        return [array]
    return [
        np.take(array, index, axis)
        for axis, size in enumerate(array.shape)
        for index in range(0, size, max(1, size // _PLANES))
    ]
