"""What is shown: scans with the masks that lie over them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unetseg.dataset.loading import with_axes_of_truth
from unetseg.errors import UsageError
from unetseg.formats import split_name
from unetseg.records import AS_IT_IS, Case, Label, View


@dataclass(frozen=True)
class Layer:
    """A mask that lies over a scan, and what it is called: truth, predicted, or its file's name."""

    path: Path
    name: str


@dataclass(frozen=True)
class Entry:
    """A case with its masks.

    case : its truth is not looked at; what is shown are the layers
    scores : name and value, NaN where undefined
    notes : what a person should know of it, such as a mask that is missing
    """

    case: Case
    layers: tuple[Layer, ...] = ()
    scores: tuple[tuple[str, float], ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Exhibit:
    """All that one page shows.

    labels : values of the classes with their names; empty where nobody named them
    has_objects : the masks have an id for each object; None: as they look
    """

    title: str
    entries: tuple[Entry, ...]
    labels: tuple[Label, ...] = ()
    has_objects: bool | None = None


def of_files(
    scan: Path, masks: Sequence[Path], view: View = AS_IT_IS, *, has_objects: bool | None = None
) -> Exhibit:
    """A scan with masks over it.

    Raises UsageError for a mask that is given twice, DataError for what is no scan.
    """
    if len(set(masks)) < len(masks):
        raise UsageError("a mask is given twice", where=masks[-1])
    stem = split_name(scan)[0]
    # In most data sets a mask is called as its scan and lies in a folder that says what it is.
    stems = [split_name(mask)[0] for mask in masks]
    names = [
        mask.resolve().parent.name if own == stem else own
        for own, mask in zip(stems, masks, strict=True)
    ]
    if len(set(names)) < len(names):
        names = [str(mask) for mask in masks]
    case = Case(stem, (scan,), masks[0] if masks else None, view=view)
    case = replace(with_axes_of_truth(case), truth=None)
    layers = tuple(Layer(mask, name) for mask, name in zip(masks, names, strict=True))
    return Exhibit(scan.name, (Entry(case, layers),), has_objects=has_objects)
