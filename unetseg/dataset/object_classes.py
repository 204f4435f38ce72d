"""The classes of objects, from a table beside their mask."""

from pathlib import Path

from unetseg.dataset.pairing import without_mask_word
from unetseg.formats import split_name
from unetseg.formats.object_classes import ENDING, read_classes


def class_table(mask: Path) -> Path | None:
    """The table beside a mask, if there is one: cell_objects.csv for cell.tif or cell_seg.tif."""
    stem = split_name(mask)[0]
    names = [stem, without_mask_word(stem)]
    paths = [mask.with_name(f"{name}{ENDING}") for name in names if name]
    return next((path for path in paths if path.is_file()), None)


def object_classes(mask: Path) -> dict[int, str] | None:
    """The class of each object by its id; None if there is no table. Raises as `read_classes`."""
    table = class_table(mask)
    return None if table is None else read_classes(table)
