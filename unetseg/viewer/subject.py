"""A case whose files are open: what the page shows of it, read as it is asked for."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from unetseg.dataset.large import WHOLE, OpenedMask, Read, boxes_of, open_mask
from unetseg.dataset.loading import grid, open_case
from unetseg.errors import DataError
from unetseg.formats import contents, open_levels, open_scan, read_mask
from unetseg.formats.naming import spatial_letters
from unetseg.formats.viewing import Contents, viewed_unread
from unetseg.formats.voxels import values_of
from unetseg.geometry import Box, Geometry, whole_box
from unetseg.records import AS_IT_IS, Opened, View
from unetseg.viewer import volumes
from unetseg.viewer.entries import Entry, Exhibit, Layer
from unetseg.viewer.facts import CaseFacts, ChannelFacts, LayerFacts
from unetseg.viewer.legends import colour_table, labels_of, numbers_objects
from unetseg.viewer.planes import TILE, Place, Plane, Stored, is_small, shown_type
from unetseg.viewer.reduced import read_reduced

T = TypeVar("T")
# Of films, so many moments stay open.
_KEPT = 24
# Label values travel as signed integers of 32 bits.
_LARGEST = 1 << 31


@dataclass(frozen=True)
class Moment:
    """A time point of a scene; None where the file has but one."""

    time: int | None = None
    scene: int | None = None


class Subject:
    """An entry of an exhibit. Every method may be called from any thread.

    All raise DataError for files that cannot be read and masks that do not lie on their scan.
    """

    def __init__(self, entry: Entry, exhibit: Exhibit) -> None:
        self.entry = entry
        self._exhibit = exhibit
        self._kept: dict[Hashable, Any] = {}
        self._lock = RLock()

    def _once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` gives, made once."""
        with self._lock:
            if key not in self._kept:
                found = make()
                while len(self._kept) >= _KEPT:
                    self._kept.pop(next(iter(self._kept)))
                self._kept[key] = found
            return cast(T, self._kept[key])

    def facts(self, moment: Moment) -> CaseFacts:
        """What the page is told of the case; of a film its first image if no moment is chosen."""
        moment = self._first(moment)
        scan, found = self._scan(moment), self._contents(moment)
        geometry, own = scan.geometry, self.entry.case.view
        is_volume = geometry.ndim == 3
        order = self._order(scan)
        plane = None if is_volume else self._plane(moment)
        steps = volumes.steps_of(geometry) if is_volume else (1, 1)
        notes = list(self.entry.notes)
        if max(steps) > 1:
            shown = " x ".join(str(steps[axis]) for axis in order)
            notes.append(f"too large to be shown whole: one voxel of {shown} is")
        return CaseFacts(
            self.entry.case.name,
            scan.source.path.name,
            "volume" if is_volume else "image",
            tuple(geometry.shape[axis] for axis in order),
            tuple(geometry.spacing[axis] for axis in order),
            geometry.unit,
            tuple(self._channel(scan, plane, k) for k in range(len(scan.channels))),
            scan.is_picture and len(scan.channels) == 3,
            shown_type(scan.dtype).name,
            1 if own.time is not None else found.size(found.likely[0], "T"),
            () if own.scene is not None else found.scenes,
            plane.levels if plane else 1,
            TILE,
            1 if self._letters(scan) == "XYZ" else -1,
            tuple(self._layer_facts(moment, k) for k in range(len(self.entry.layers))),
            tuple(notes),
        )

    def scan_nifti(self, moment: Moment, channel: int) -> tuple[bytes, memoryview]:
        """A channel of a volume as a NIfTI file, in two parts."""
        moment = self._first(moment)
        scan = self._scan(moment)
        self._check(0 <= channel < len(scan.channels), f"no channel {channel}")

        def read(box: Box) -> NDArray[Any]:
            values: NDArray[Any] = scan.read(box)[channel]
            return values

        return self._nifti(scan, read)

    def mask_nifti(self, moment: Moment, layer: int) -> tuple[bytes, memoryview]:
        """A mask of a volume, the values as in its file."""
        moment = self._first(moment)
        values = self._values(moment, layer)
        return self._nifti(self._scan(moment), boxes_of(values, 3), is_reduced=True)

    def scan_tile(self, moment: Moment, channel: int | None, place: Place) -> NDArray[Any]:
        """A tile of a channel (h, w), or of all (C, h, w)."""
        values = self._plane(self._first(moment)).tile(place)
        self._check(channel is None or 0 <= channel < len(values), f"no channel {channel}")
        wanted = values if channel is None else values[channel]
        return np.ascontiguousarray(wanted, shown_type(values.dtype))

    def mask_tile(self, moment: Moment, layer: int, place: Place) -> NDArray[np.int32]:
        """A tile (h, w) of label values, with a row and a column of its neighbours."""
        return np.ascontiguousarray(
            self._mask_plane(self._first(moment), layer).tile(place, 1), np.int32
        )

    def colours(self, moment: Moment, layer: int) -> NDArray[np.uint8]:
        """By id, the place of each object's colour in the palette, from 1; see legends."""
        moment = self._first(moment)
        key = ("colours", moment, self._known(layer))
        values = self._values(moment, layer)
        return self._once(key, lambda: colour_table(values))

    # Files

    def _first(self, moment: Moment) -> Moment:
        """What is shown where nothing is chosen: the case's own moment, or the first."""
        own = self.entry.case.view
        if own.time is not None or own.scene is not None:
            moment = Moment(own.time, own.scene)
        if moment.scene is None and self._contents(moment).scenes:
            moment = replace(moment, scene=0)
        found = self._contents(moment)
        is_film = len(found.likely) == 1 and found.size(found.likely[0], "T") > 1
        return replace(moment, time=0) if is_film and moment.time is None else moment

    def _view(self, moment: Moment) -> View:
        return replace(self.entry.case.view, time=moment.time, scene=moment.scene)

    def _contents(self, moment: Moment) -> Contents:
        view = replace(self.entry.case.view, scene=moment.scene)
        path = self.entry.case.images[0]
        return self._once(("contents", moment.scene), lambda: contents(path, view))

    def _scan(self, moment: Moment) -> Opened:
        case = self.entry.case

        def opened() -> Opened:
            first = open_case(replace(case, view=self._view(moment)))
            if len(case.images) == 1:
                return first
            # A file for each channel.
            each = View(axes=case.view.axes, time=moment.time, scene=moment.scene)
            others = [open_scan(path, each) for path in case.images]

            def read(box: Box) -> NDArray[Any]:
                return np.concatenate([one.read(box) for one in others])

            names = tuple(path.name for path in case.images)
            return replace(first, channels=names, read=read, is_picture=False)

        return self._once(("scan", moment), opened)

    def _known(self, layer: int) -> int:
        self._check(0 <= layer < len(self.entry.layers), f"no mask {layer}")
        return layer

    def _check(self, is_right: bool, what: str) -> None:  # noqa: FBT001
        if not is_right:
            raise DataError(what, where=self.entry.case.name)

    def _mask(self, moment: Moment, layer: int) -> OpenedMask:
        found = self.entry.layers[self._known(layer)]
        scan, inside = self._scan(moment), self._contents(moment)

        def opened() -> OpenedMask:
            mask = self._opened_mask(found, moment, inside)
            differences = scan.geometry.differences(mask.geometry)
            # A mask without a pixel size can only be looked at as one of the same pixels.
            has_no_place = mask.geometry.unit == "px"
            if differences and not (has_no_place and mask.geometry.shape == scan.geometry.shape):
                raise DataError(
                    f"the mask does not lie on its scan {scan.source.path.name}:"
                    f" {'; '.join(differences)}",
                    where=found.path,
                    hint="give a mask on the scan's grid",
                )
            return mask

        return self._once(("mask", moment, layer), opened)

    def _opened_mask(self, layer: Layer, moment: Moment, inside: Contents) -> OpenedMask:
        view = self._view(moment)
        asked = View(pixel_size=view.pixel_size, unit=view.unit)
        letters = view.axes or inside.likely[0]
        if moment.time is not None and self._has_time(layer.path, inside, letters):
            axes = "".join(letter for letter in letters if letter not in "CS")
            asked = replace(asked, axes=axes, time=moment.time)
        if moment.scene is not None and contents(layer.path, is_mask=True).scenes:
            asked = replace(asked, scene=moment.scene)
        if replace(asked, unit=AS_IT_IS.unit) == AS_IT_IS:
            return open_mask(layer.path)
        mask = read_mask(layer.path, is_drawn=False, view=asked)
        return OpenedMask(mask.geometry, boxes_of(mask.array, mask.geometry.ndim), mask.labels)

    @staticmethod
    def _has_time(path: Path, inside: Contents, letters: str) -> bool:
        """Whether the mask of a film has its time points too, or is one for all of them."""
        return contents(path, is_mask=True).shape == grid(inside, letters)

    # Pixels and voxels

    def _letters(self, scan: Opened) -> str:
        letters = spatial_letters(scan)
        is_known = sorted(letters) == sorted("XYZ"[: scan.geometry.ndim])
        return letters if is_known else "ZYX"[-scan.geometry.ndim :]

    def _order(self, scan: Opened) -> tuple[int, ...]:
        """Which axes are X, Y and Z."""
        letters = self._letters(scan)
        return tuple(letters.index(letter) for letter in "XYZ"[: len(letters)])

    def _as_rows(self, scan: Opened, read: Read, like: Opened) -> Stored:
        """An image with rows and columns, whose file may have them the other way round.

        read : of the scan or of a mask on it
        like : the scan, or a smaller copy of it
        """
        x, y = self._order(scan)
        shape, block = like.geometry.shape, like.block

        def turned(box: Box) -> NDArray[Any]:
            rows, columns = box
            values = read((rows, columns) if y < x else (columns, rows))
            return values if y < x else values.swapaxes(-1, -2)

        return Stored((shape[y], shape[x]), turned, (block[y], block[x]))

    def _plane(self, moment: Moment) -> Plane:
        scan = self._scan(moment)
        self._check(scan.geometry.ndim == 2, "a volume has no tiles")

        def made() -> Plane:
            stored = self._as_rows(scan, scan.read, scan)
            smaller: list[Stored] = []
            if not is_small(stored) and len(self.entry.case.images) == 1:
                chosen = View(channels=self.entry.case.view.channels)
                for level in open_levels(self.entry.case.images[0], self._view(moment)):
                    copy = viewed_unread(level, chosen)
                    smaller.append(self._as_rows(scan, copy.read, copy))
            return Plane(stored, smaller)

        return self._once(("plane", moment), made)

    def _mask_plane(self, moment: Moment, layer: int) -> Plane:
        scan, mask = self._scan(moment), self._mask(moment, layer)
        self._check(scan.geometry.ndim == 2, "a volume has no tiles")

        def made() -> Plane:
            stored = self._as_rows(scan, mask.read, scan)
            path = self.entry.layers[layer].path
            if is_small(stored):
                return Plane(stored)
            copies = open_levels(path) if moment == Moment() else ()
            return Plane(stored, [self._as_rows(scan, _first(each), each) for each in copies])

        return self._once(("mask plane", moment, layer), made)

    def _channel(self, scan: Opened, plane: Plane | None, index: int) -> ChannelFacts:
        low, high = 0.0, 0.0
        if scan.is_picture and scan.dtype == np.uint8:
            high = 255.0
        elif plane is not None:
            low, high = volumes.display_range(plane.overview[index])
        return ChannelFacts(scan.channels[index], low, high)

    def _values(self, moment: Moment, layer: int) -> NDArray[Any]:
        """What is looked at to know the values of a mask: all of it, or part if it is large."""
        mask = self._mask(moment, layer)
        geometry = mask.geometry
        if geometry.ndim == 2:
            plane = self._mask_plane(moment, layer)
            return self._once(("values", moment, layer), plane.most)
        steps = volumes.steps_of(geometry)
        whole = whole_box(geometry.shape)
        block = self._scan(moment).block
        return self._once(
            ("values", moment, layer), lambda: read_reduced(mask.read, whole, steps, block)
        )

    def _layer_facts(self, moment: Moment, index: int) -> LayerFacts:
        layer = self.entry.layers[index]
        mask, values = self._mask(moment, index), self._values(moment, index)

        def made() -> LayerFacts:
            there = values_of(values)
            if there and not -_LARGEST <= there[0] <= there[-1] < _LARGEST:
                raise DataError(
                    "label values too large to be shown",
                    where=layer.path,
                    expected="32-bit integers",
                    got=there[-1],
                )
            named = self._exhibit.labels or mask.names
            has_objects = self._exhibit.has_objects
            if has_objects is None:
                has_objects = not named and numbers_objects(
                    there, layer.path, is_large=prod(mask.geometry.shape) > WHOLE
                )
            labels = () if has_objects else labels_of(there, named)
            largest = max(there, default=0)
            return LayerFacts(layer.name, layer.path.name, has_objects, labels, largest)

        return self._once(("layer", moment, index), made)

    def _nifti(
        self, scan: Opened, read: Callable[[Box], NDArray[Any]], *, is_reduced: bool = False
    ) -> tuple[bytes, memoryview]:
        self._check(scan.geometry.ndim == 3, "an image is shown in tiles")
        letters = self._letters(scan)
        steps = volumes.steps_of(scan.geometry)
        geometry = volumes.placed(scan.geometry, steps, letters)
        shape = _shape_of(scan.geometry, steps)
        if is_reduced:
            values = read(whole_box(shape))
        else:
            values = read_reduced(read, whole_box(scan.geometry.shape), steps, scan.block)
        return volumes.nifti(values.transpose(volumes.order_of(letters)), geometry)


def _shape_of(geometry: Geometry, steps: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(-(-n // step) for n, step in zip(geometry.shape, steps, strict=True))


def _first(opened: Opened) -> Read:
    """Reads the only channel."""

    def read(box: Box) -> NDArray[Any]:
        values: NDArray[Any] = opened.read(box)[0]
        return values

    return read
