"""A case's voxels: channel files joined, truth and scan on the same grid."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetseg.errors import DataError, GridMismatch
from unetseg.formats import contents, open_scan, read_mask, read_scan
from unetseg.formats.naming import is_generic, numbered
from unetseg.formats.viewing import Contents, viewed
from unetseg.geometry import Box, Geometry
from unetseg.records import Case, Mask, Opened, Scan, View


def load_scan(case: Case) -> Scan:
    """The scan of a case; one file per channel is joined to (C, *S).

    Axes that can be read in several ways are those that fit the truth, if there is one.

    Raises DataError if a file is not readable or the channel files lie on different grids.
    """
    case = with_axes_of_truth(case)
    if len(case.images) == 1:
        return read_scan(case.images[0], case.view)
    each = replace(case.view, channels=(), names=())
    first, *others = (read_scan(path, each) for path in case.images)
    for path, other in zip(case.images[1:], others, strict=True):
        if found := first.geometry.differences(other.geometry):
            raise DataError(
                f"a channel file lies on another grid than {case.images[0].name}:"
                f" {'; '.join(found)}",
                where=path,
                hint="resample the channels to one grid",
            )
    scans = (first, *others)
    if several := [len(scan.array) for scan in scans if len(scan.array) != 1]:
        raise DataError(
            "a channel file holds several channels",
            where=case.images[0],
            expected=1,
            got=several[0],
        )
    joined = replace(
        first,
        array=np.concatenate([scan.array for scan in scans]),
        channels=tuple(str(index) for index in range(len(scans))),
        is_picture=False,
    )
    return viewed(joined, View(channels=case.view.channels, names=case.view.names))


def without_voxels(scan: Scan) -> Scan:
    """The scan as a mask is written on it, with no memory of its own for the voxels."""
    return replace(scan, array=np.broadcast_to(scan.array.dtype.type(0), scan.array.shape))


def open_case(case: Case) -> Opened:
    """The scan of a case by its header; of one file per channel, the first of them."""
    if len(case.images) == 1:
        return open_scan(case.images[0], case.view)
    return open_scan(case.images[0], replace(case.view, channels=(), names=()))


def time_points(case: Case) -> int:
    """How many time points are in the file of a case, of which it names none."""
    if case.view.time is not None or len(case.images) > 1:
        return 1
    found = contents(case.images[0], case.view)
    return found.size(found.likely[0], "T") if len(found.likely) == 1 else 1


def with_axes_of_truth(case: Case) -> Case:
    """The case as it is, or with the one reading of its axes that fits its truth."""
    if case.truth is None or case.view.axes or len(case.images) > 1:
        return case
    found = contents(case.images[0], case.view)
    if len(found.likely) == 1 and not found.others:
        return case
    mask = contents(case.truth, is_mask=True).shape
    fits = [letters for letters in (*found.likely, *found.others) if grid(found, letters) == mask]
    return replace(case, view=replace(case.view, axes=fits[0])) if len(fits) == 1 else case


def grid(found: Contents, letters: str) -> tuple[int, ...]:
    """The sizes of space and time in a reading: those that a mask has."""
    pairs = zip(letters, found.shape, strict=True)
    return tuple(size for letter, size in pairs if letter not in "CS")


def load_truth(case: Case, geometry: Geometry) -> Mask:
    """The truth of a case, on the scan's grid.

    Raises DataError if there is none, GridMismatch with every field in which its geometry differs.
    """
    if case.truth is None:
        raise DataError("the case has no mask", where=case.images[0])
    view = case.view
    mask = read_mask(case.truth, view=replace(view, axes=view.mask_axes, channels=(), names=()))
    if found := geometry.differences(mask.geometry):
        raise GridMismatch(
            f"the mask does not lie on its scan {case.images[0].name}: {'; '.join(found)}",
            where=case.truth,
            hint="write the mask on the scan's grid",
        )
    return mask


def opened_with_channels(opened: Opened, channels: Sequence[str]) -> Opened:
    """As `with_channels`, for a scan whose voxels stay in the file."""
    picked = _picked(opened, channels)
    if picked is None:
        return opened

    def read(box: Box) -> NDArray[Any]:
        return opened.read(box)[picked]

    return replace(opened, read=read, channels=tuple(channels))


def with_channels(scan: Scan, channels: Sequence[str]) -> Scan:
    """The scan with exactly the named channels, in this order.

    They are found by name where the scan and all that is wanted have names, whatever else is in
    the scan, else by their place. A grey picture may stand for a colour one, and a single channel
    needs no name.

    Raises DataError if a name is missing or the number of channels differs.
    """
    picked = _picked(scan, channels)
    if picked is None:
        return scan
    return replace(scan, array=scan.array[picked], channels=tuple(channels))


def _picked(scan: Scan | Opened, channels: Sequence[str]) -> list[int] | None:
    """Which channels of the scan are wanted; None for all, as they are."""
    names = scan.channels
    if len(names) == len(channels) == 1:
        return None
    if have_names(names) and have_names(channels):
        if [name.casefold() for name in names] == [name.casefold() for name in channels]:
            return None
        places = {name.casefold(): k for k, name in enumerate(names)}
        if missing := [name for name in channels if name.casefold() not in places]:
            raise DataError(
                f"channel{'s' if len(missing) > 1 else ''} {', '.join(missing)} not in the scan",
                where=scan.source.path,
                expected=", ".join(channels),
                got=numbered(names),
                hint="if they are there under other names, give their numbers with --channels",
            )
        return [places[name.casefold()] for name in channels]
    if len(names) == len(channels):
        return None
    numbers = tuple(map(str, range(len(channels))))
    if set(channels) <= set(names) and tuple(channels) != numbers:
        # Such as 1 and 2, which were chosen of three in the training.
        return [names.index(name) for name in channels]
    if scan.is_picture and len(names) == 1 and len(channels) == 3:
        return [0, 0, 0]
    raise DataError(
        "wrong number of channels",
        where=scan.source.path,
        expected=f"{len(channels)} ({', '.join(channels)})",
        got=f"{len(names)} ({', '.join(names)})",
        hint="give the channels that the model was trained on, with --channels if there are more",
    )


def have_names(channels: Sequence[str]) -> bool:
    """Whether the channels have names, not only numbers."""
    return not any(map(is_generic, channels))
