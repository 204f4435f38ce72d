"""OME-Zarr: NGFF 0.4 (Zarr 2) and 0.5 (Zarr 3), in a folder, an archive or behind an address."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

import numpy as np
from numpy.typing import DTypeLike, NDArray

from unetseg.errors import DataError
from unetseg.formats import ngff
from unetseg.formats.boxwise import Voxels, stored_labels, stored_maps, stored_type
from unetseg.formats.remote import remote_store, url_of
from unetseg.formats.viewing import Contents, check_time, scenes_of
from unetseg.formats.voxels import (
    check_grid,
    checked_values,
    smallest_integers,
    whole,
)
from unetseg.formats.zarr_writing import Layout, Store
from unetseg.geometry import Box, whole_box
from unetseg.records import AS_IT_IS, Label, Mask, Opened, Scan, Source, View

if TYPE_CHECKING:
    from zarr import Array, Group
    from zarr.abc.store import Store as ChunkStore

# Archives, which are read and not written. Source: https://ngff.openmicroscopy.org/rfc/9
_ZIPPED = (".ome.zarr.zip", ".zarr.zip", ".ozx")


@dataclass(frozen=True)
class ZarrHeader:
    """What only an OME-Zarr knows.

    image : axes with the units of the file, sizes included
    """

    image: ngff.Image


class OmeZarr:
    """Array axes are (C, Z, Y, X) or (C, Y, X), found by their names; Z of size 1 is dropped.

    Full resolution is read, whatever levels there are. Units are micrometres, millimetres or
    pixels; see `geometry_of`. A path may lead to a group below the store, such as
    plate.zarr/A/1/0 or scan.zarr/labels/nuclei. A store may be packed into a ZIP archive.
    """

    name = "ome-zarr"
    suffixes = tuple(sorted((*_ZIPPED, ".ome.zarr", ".zarr"), key=len, reverse=True))
    is_folder = True

    def contents(self, path: Path, view: View, *, is_mask: bool = False) -> Contents:
        """What is in the store. Raises DataError as `open` does."""
        del is_mask
        names = scene_names(_group(path))
        if len(names) > 1 and view.scene is None:
            # They may differ: the first tells only that there are several.
            view = replace(view, scene=0)
        image, _ = _image(path, view)
        kept = [axis for axis in image.axes if axis.size > 1 or axis.name in "yx"]
        letters = "".join(axis.name.upper() for axis in kept)
        return Contents(tuple(axis.size for axis in kept), (letters,), (), scenes_of(names))

    def open(self, path: Path, view: View = AS_IT_IS) -> Opened:
        """The image by its metadata; boxes cost the chunks that they touch.

        view : axes, time point and scene; what else is in it is for others to do

        Raises DataError for plates, several images or time points of which none is chosen, and
        arrays without axes.
        """
        return _opened(path, view)

    def open_levels(self, path: Path, view: View) -> tuple[Opened, ...]:
        """The other levels of the image. Raises DataError for what `open` refuses."""
        group, attributes = _image_in(_group(path), view.scene)
        levels = ngff.smaller_levels(attributes)
        return tuple(_opened(path, view, level) for level in levels if level in group)

    def read(self, path: Path, view: View = AS_IT_IS) -> Scan:
        """The whole image. Raises DataError for what `open` refuses and non-finite values."""
        return whole(_opened(path, view))

    def read_labels(self, path: Path, view: View = AS_IT_IS) -> Scan:
        """The same as `read`: labels are images of integers."""
        return self.read(path, view)

    def mask_suffix(self, path: Path) -> str:  # noqa: ARG002 - every mask is an OME-Zarr
        return ".ome.zarr"

    def maps_suffix(self, path: Path) -> str:
        return self.mask_suffix(path)

    def write(self, mask: Mask, path: Path, like: Scan) -> None:
        """Write a label image of the scan's NGFF version (0.5 for other scans), with a pyramid."""
        check_grid(mask, like)
        array = smallest_integers(mask.array)
        store = Store(path, _mask_layout(path, like, array.dtype, mask.labels))
        try:
            for box in store.boxes():
                store.write(box, array[box])
            store.finish()
        finally:
            store.discard()

    def write_stack(self, voxels: Voxels, path: Path, like: Scan | Opened) -> None:
        """Write a label image with an axis of time, as `write` does."""
        count = voxels.shape[0]
        layout = _mask_layout(path, like, voxels.dtype, ())
        axes = tuple(axis for axis in layout.axes if axis.name != "t")
        first = next((a for a in layout.axes if a.name == "t"), ngff.Axis("t", count))
        layout = replace(layout, axes=(replace(first, size=count), *axes))
        store = Store(path, layout)
        try:
            for time in range(count):
                for box in store.boxes():
                    values = voxels.read((slice(time, time + 1), *box))[0]
                    store.write(box, values, time)
            store.finish()
        finally:
            store.discard()

    def mask_file(
        self,
        path: Path,
        like: Scan | Opened,
        dtype: DTypeLike,
        labels: tuple[Label, ...] = (),
        made_by: str = "",
    ) -> Store:
        """A label image, which processes with the same `made_by` write together, see `Store`."""
        layout = _mask_layout(path, like, np.dtype(dtype), labels)
        return Store(path, layout, made_by=made_by)

    def maps_file(
        self,
        path: Path,
        like: Scan | Opened,
        names: tuple[str, ...],
        dtype: DTypeLike = np.float32,
        made_by: str = "",
    ) -> Store:
        """Channels, which processes with the same `made_by` write together, see `Store`."""
        layout = _maps_layout(path, like, names, np.dtype(dtype), stored_type(dtype))
        return Store(path, layout, made_by=made_by)


def _image(path: Path, view: View, level: str = "") -> tuple[ngff.Image, "Array[Any]"]:
    """The metadata of the image that is looked at, and its array.

    level : another one than that of full resolution; edge lengths are not that level's own
    """
    group, attributes = _image_in(_group(path), view.scene)
    image = ngff.parsed(attributes)
    if level:
        image = replace(image, level=level)
    array = _array(group, image.level)
    image = image.sized(array.shape)
    if view.axes:
        image = ngff.with_letters(image, view.axes)
    ngff.check_axes(image)
    return image, array


def _opened(path: Path, view: View, level: str = "") -> Opened:
    image, array = _image(path, view, level)
    names = [axis.name for axis in image.axes]
    if "t" in names:
        check_time(image.axes[names.index("t")].size, view.time)
    channel_axis = names.index("c") if "c" in names else None
    count = 1 if channel_axis is None else array.shape[channel_axis]
    kept = [k for k, axis in enumerate(image.axes) if axis.is_kept]
    stored = array.shards or array.chunks

    def read(box: Box) -> NDArray[Any]:
        full = list(whole_box(array.shape))
        for k, axis in zip(kept, box, strict=True):
            full[k] = axis
        if "t" in names:
            time = view.time or 0
            full[names.index("t")] = slice(time, time + 1)
        values = np.asarray(array[tuple(full)])
        order = ([] if channel_axis is None else [channel_axis], kept)
        rest = [k for k in range(values.ndim) if k not in (*order[0], *order[1])]
        values = values.transpose((*rest, *order[0], *order[1]))
        return checked_values(values.reshape(count, *values.shape[-len(kept) :]))

    channels = image.channels if len(image.channels) == count else tuple(map(str, range(count)))
    # What belongs to a scene belongs to its place in the store.
    place = path if view.scene is None else path / str(view.scene)
    return Opened(
        ngff.geometry_of(image),
        channels,
        checked_values(np.zeros(1, array.dtype)).dtype,
        Source(place, OmeZarr.name, ZarrHeader(ngff.at_one_time(image, view.time))),
        tuple(min(stored[k], array.shape[k]) for k in kept),
        read,
        axes=ngff.axes_read(image),
    )


def _group(path: Path) -> "Group":
    import zarr
    from zarr.errors import ContainsArrayError, GroupNotFoundError

    store, inner = _stored(path)
    try:
        return zarr.open_group(store, path=inner, mode="r")
    except (GroupNotFoundError, FileNotFoundError) as error:
        raise DataError(
            "no OME-Zarr image", expected="a Zarr group with metadata", hint="check the path"
        ) from error
    except ContainsArrayError as error:
        raise _without_metadata() from error


def _stored(path: Path) -> tuple["Path | ChunkStore", str]:
    """Where the chunks are, and the place of the image below it."""
    if (url := url_of(path)) is not None:
        return remote_store(url), ""
    if path.is_dir():
        return path, ""
    if not path.name.lower().endswith(_ZIPPED):
        raise DataError(
            "not a folder, as an OME-Zarr is", hint="if it is an archive, call it .zarr.zip"
        )
    from zarr.storage import ZipStore

    with ZipFile(path) as archive:
        roots = {name.partition("/")[0] for name in archive.namelist()}
    # Packed with its folder or without it.
    return ZipStore(path), roots.pop() if len(roots) == 1 else ""


def _without_metadata() -> DataError:
    return DataError(
        "a Zarr without the metadata of an image",
        expected="OME-Zarr, NGFF 0.4 or 0.5",
        hint="write `multiscales` with axes beside the arrays (see docs/formats.md)",
    )


def scene_names(group: "Group") -> tuple[str, ...]:
    """The images that a converter has put into a store, called 0, 1, ...; empty if it has not."""
    attributes = ngff.attributes_of(group.attrs.asdict())
    is_one = attributes.get("multiscales") or "plate" in attributes or attributes.get("labels")
    if is_one or "bioformats2raw.layout" not in attributes:
        return ()
    found: list[str] = []
    while str(len(found)) in group:
        found.append(str(len(found)))
    return tuple(found)


def _image_in(group: "Group", scene: int | None = None) -> tuple["Group", Mapping[str, Any]]:
    """The group of the one image in a group, or of the one that is chosen, and its attributes."""
    attributes = ngff.attributes_of(group.attrs.asdict())
    if attributes.get("multiscales"):
        return group, attributes
    if "plate" in attributes or "well" in attributes:
        word = "plate" if "plate" in attributes else "well"
        wells = attributes[word].get("wells" if word == "plate" else "images") or [{}]
        inside = wells[0].get("path", "A/1") + ("/0" if word == "plate" else "")
        raise DataError(f"a {word} of many images", hint=f"give one image, such as PATH/{inside}")
    # A group of labels lists them.
    names = list(map(str, attributes.get("labels") or scene_names(group)))
    if scene is not None and not 0 <= scene < len(names):
        raise DataError(f"no scene {scene}", expected=f"0 to {len(names) - 1}")
    if len(names) > 1 and scene is None:
        raise DataError(
            "several images in one store",
            got=", ".join(names),
            hint=f"give one of them, such as PATH/{names[0]}",
        )
    name = names[scene or 0] if names else ""
    if name and name in group:
        return _image_in(_below(group, name))
    raise _without_metadata()


def _below(group: "Group", name: str) -> "Group":
    from zarr import Group

    found = group[name]
    if not isinstance(found, Group):
        raise _without_metadata()
    return found


def _array(group: "Group", level: str) -> "Array[Any]":
    from zarr import Array

    found = group.get(level)
    if not isinstance(found, Array):
        raise DataError(
            "the array of full resolution is missing", expected=level, hint="copy it again"
        )
    return found


def _axes_like(like: Scan | Opened, path: Path) -> tuple[ngff.Version, tuple[ngff.Axis, ...]]:
    """The NGFF version and the axes, without channels, of what lies on the scan."""
    if path.name.lower().endswith(_ZIPPED):
        raise DataError("archives are not written", where=path, hint="call it .ome.zarr")
    header = like.source.header
    if isinstance(header, ZarrHeader):
        return header.image.version, tuple(a for a in header.image.axes if a.name != "c")
    try:
        return "0.5", ngff.axes_of(like.geometry)
    except DataError as error:
        error.where = str(path)
        raise


def _mask_layout(
    path: Path, like: Scan | Opened, dtype: np.dtype[Any], labels: tuple[Label, ...]
) -> Layout:
    version, axes = _axes_like(like, path)
    scan = like.source.path
    image = None
    if isinstance(like.source.header, ZarrHeader) and url_of(scan) is None:
        # From the mask as a folder, as in the specification's own ../../
        image = _relative(scan, path)
    return Layout(
        version,
        axes,
        dtype,
        lambda values: stored_labels(values, dtype),
        {"image-label": ngff.image_label(version, labels, image)},
    )


def _relative(scan: Path, mask: Path) -> str:
    import os

    return Path(os.path.relpath(scan.resolve(), mask.resolve())).as_posix()


def _maps_layout(
    path: Path,
    like: Scan | Opened,
    names: tuple[str, ...],
    asked: np.dtype[Any],
    stored: np.dtype[Any],
) -> Layout:
    version, axes = _axes_like(like, path)
    # Channels stand before space and behind time.
    time = sum(axis.name == "t" for axis in axes)
    largest = 255 if asked == np.uint8 else 1
    return Layout(
        version,
        (*axes[:time], ngff.Axis("c", len(names)), *axes[time:]),
        stored,
        lambda values: stored_maps(values, asked),
        {"omero": ngff.channel_display(names, largest)},
    )
