"""Which class each object of a mask has, by number, from and to the table beside it."""

from collections.abc import Sequence
from pathlib import Path

from unetseg.errors import DataError
from unetseg.formats import object_classes
from unetseg.records import Label

# More objects than a mask has; a larger id is a typing error.
_MOST = 1 << 28


def write_classes(path: Path, classes: Sequence[int], labels: Sequence[Label]) -> None:
    """Write a row per object, atomically.

    classes : of each object, the one with id k at k - 1
    labels : the names of classes; one without a name is written as its number
    """
    names = {label.value: label.name for label in labels}
    object_classes.write_classes(path, (names.get(c, str(c)) for c in classes))


def read_classes(
    path: Path, labels: Sequence[Label] = ()
) -> tuple[tuple[int, ...], tuple[Label, ...]]:
    """The class of each object, 0 for those that the table leaves out, and the classes' names.

    labels : classes that are known; others are numbered after them, in the order of their names

    Raises DataError for what is no such table.
    """
    found = object_classes.read_classes(path)
    if max(found, default=0) >= _MOST:
        raise DataError("an id that no object has", where=path, got=max(found))
    number = {label.name: label.value for label in labels}
    for name in sorted(set(found.values()) - number.keys()):
        number[name] = max(number.values(), default=0) + 1
    classes = [0] * max(found, default=0)
    for value, name in found.items():
        classes[value - 1] = number[name]
    return tuple(classes), tuple(Label(value, name) for name, value in number.items())
