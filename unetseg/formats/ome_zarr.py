"""OME-Zarr: NGFF 0.4 (Zarr 2) and 0.5 (Zarr 3), in a folder or behind an address."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from unetseg.errors import DataError
from unetseg.formats import ngff
from unetseg.formats.boxwise import stored_labels, stored_maps, stored_type
from unetseg.formats.remote import remote_store, url_of
from unetseg.formats.voxels import (
    check_grid,
    checked_values,
    smallest_integers,
    whole,
)
from unetseg.formats.zarr_writing import Layout, Store
from unetseg.geometry import Box, whole_box
from unetseg.records import Label, Mask, Opened, Scan, Source

if TYPE_CHECKING:
    from zarr import Array, Group


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
    plate.zarr/A/1/0 or scan.zarr/labels/nuclei.
    """

    name = "ome-zarr"
    suffixes = (".ome.zarr", ".zarr")
    is_folder = True

    def open(self, path: Path) -> Opened:
        """The image by its metadata; boxes cost the chunks that they touch.

        Raises DataError for plates, several images, time points and arrays without axes.
        """
        return _opened(path)

    def read(self, path: Path) -> Scan:
        """The whole image. Raises DataError for what `open` refuses and non-finite values."""
        return whole(_opened(path))

    def read_labels(self, path: Path) -> Scan:
        """The same as `read`: labels are images of integers."""
        return self.read(path)

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


def _opened(path: Path) -> Opened:
    group = _group(path)
    group, attributes = _image_in(group)
    image = ngff.parsed(attributes)
    array = _array(group, image.level)
    image = image.sized(array.shape)
    ngff.check_axes(image)
    names = [axis.name for axis in image.axes]
    channel_axis = names.index("c") if "c" in names else None
    count = 1 if channel_axis is None else array.shape[channel_axis]
    kept = [k for k, axis in enumerate(image.axes) if axis.is_kept]
    stored = array.shards or array.chunks

    def read(box: Box) -> NDArray[Any]:
        full = list(whole_box(array.shape))
        for k, axis in zip(kept, box, strict=True):
            full[k] = axis
        values = np.asarray(array[tuple(full)])
        order = ([] if channel_axis is None else [channel_axis], kept)
        rest = [k for k in range(values.ndim) if k not in (*order[0], *order[1])]
        values = values.transpose((*rest, *order[0], *order[1]))
        return checked_values(values.reshape(count, *values.shape[-len(kept) :]))

    channels = image.channels if len(image.channels) == count else tuple(map(str, range(count)))
    return Opened(
        ngff.geometry_of(image),
        channels,
        checked_values(np.zeros(1, array.dtype)).dtype,
        Source(path, OmeZarr.name, ZarrHeader(image)),
        tuple(min(stored[k], array.shape[k]) for k in kept),
        read,
    )


def _group(path: Path) -> "Group":
    import zarr
    from zarr.errors import ContainsArrayError, GroupNotFoundError

    url = url_of(path)
    if url is None and not path.is_dir():
        raise DataError("not a folder, as an OME-Zarr is", hint="unpack it, if it is an archive")
    try:
        return zarr.open_group(path if url is None else remote_store(url), mode="r")
    except (GroupNotFoundError, FileNotFoundError) as error:
        raise DataError(
            "no OME-Zarr image", expected="a Zarr group with metadata", hint="check the path"
        ) from error
    except ContainsArrayError as error:
        raise _without_metadata() from error


def _without_metadata() -> DataError:
    return DataError(
        "a Zarr without the metadata of an image",
        expected="OME-Zarr, NGFF 0.4 or 0.5",
        hint="write `multiscales` with axes beside the arrays (see docs/formats.md)",
    )


def _image_in(group: "Group") -> tuple["Group", Mapping[str, Any]]:
    """The group of the one image in a group, and its attributes."""
    attributes = ngff.attributes_of(group.attrs.asdict())
    if attributes.get("multiscales"):
        return group, attributes
    if "plate" in attributes or "well" in attributes:
        word = "plate" if "plate" in attributes else "well"
        wells = attributes[word].get("wells" if word == "plate" else "images") or [{}]
        inside = wells[0].get("path", "A/1") + ("/0" if word == "plate" else "")
        raise DataError(f"a {word} of many images", hint=f"give one image, such as PATH/{inside}")
    # A group of labels lists them; converters put images into groups called 0, 1, ...
    names = list(map(str, attributes.get("labels") or ()))
    if not names and "bioformats2raw.layout" in attributes:
        names = ["0", "1"] if "1" in group else ["0"]
    if len(names) > 1:
        raise DataError(
            "several images in one store",
            got=", ".join(names),
            hint=f"give one of them, such as PATH/{names[0]}",
        )
    if names and names[0] in group:
        return _image_in(_below(group, names[0]))
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
