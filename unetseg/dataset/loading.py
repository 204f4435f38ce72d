"""A case's voxels: channel files joined, truth and scan on the same grid."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetseg.errors import DataError
from unetseg.formats import read_mask, read_scan
from unetseg.formats.voxels import COLOURS
from unetseg.geometry import Box, Geometry
from unetseg.records import Case, Mask, Opened, Scan


def load_scan(case: Case) -> Scan:
    """The scan of a case; one file per channel is joined to (C, *S).

    Raises DataError if a file is not readable or the channel files lie on different grids.
    """
    first, *others = (read_scan(path) for path in case.images)
    if not others:
        return first
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
    return replace(
        first,
        array=np.concatenate([scan.array for scan in scans]),
        channels=tuple(str(index) for index in range(len(scans))),
        is_picture=False,
    )


def load_truth(case: Case, geometry: Geometry) -> Mask:
    """The truth of a case, on the scan's grid.

    Raises DataError if there is none, or with every field in which its geometry differs.
    """
    if case.truth is None:
        raise DataError("the case has no mask", where=case.images[0])
    mask = read_mask(case.truth)
    if found := geometry.differences(mask.geometry):
        raise DataError(
            f"the mask does not lie on its scan {case.images[0].name}: {'; '.join(found)}",
            where=case.truth,
            hint="write the mask on the scan's grid",
        )
    return mask


def opened_with_channels(opened: Opened, channels: Sequence[str]) -> Opened:
    """As `with_channels`, for a scan whose voxels stay in the file."""
    if len(opened.channels) == len(channels):
        return opened
    _check_grey(opened, channels)

    def read(box: Box) -> NDArray[Any]:
        return np.repeat(opened.read(box), 3, axis=0)

    return replace(opened, read=read, channels=COLOURS)


def with_channels(scan: Scan, channels: Sequence[str]) -> Scan:
    """The scan with exactly the named channels: a grey picture may stand for a colour one.

    Raises DataError if the number of channels differs otherwise.
    """
    if len(scan.array) == len(channels):
        return scan
    _check_grey(scan, channels)
    return replace(scan, array=np.repeat(scan.array, 3, axis=0), channels=COLOURS)


def _check_grey(scan: Scan | Opened, channels: Sequence[str]) -> None:
    """Raises DataError unless it is a grey picture and three channels are wanted."""
    if scan.is_picture and len(scan.channels) == 1 and len(channels) == 3:
        return
    raise DataError(
        "wrong number of channels",
        where=scan.source.path,
        expected=f"{len(channels)} ({', '.join(channels)})",
        got=f"{len(scan.channels)} ({', '.join(scan.channels)})",
        hint="give the channels that the model was trained on",
    )
