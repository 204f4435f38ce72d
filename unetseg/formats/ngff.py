"""The metadata of OME-Zarr: axes, levels, channels and labels, in NGFF 0.4 and 0.5.

Source: https://ngff.openmicroscopy.org/0.4 and /0.5; earlier versions are read as well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from unetseg.colours import COLOURS, of_value
from unetseg.errors import DataError
from unetseg.formats.naming import named_axes
from unetseg.formats.units import micrometres
from unetseg.geometry import Geometry, Unit
from unetseg.records import Axes, Label

Version = Literal["0.4", "0.5"]

_READ = ("0.1", "0.2", "0.3", "0.4", "0.5")
_TYPES = {"t": "time", "c": "channel"}
_WORDS = {"um": "micrometer", "mm": "millimeter"}


@dataclass(frozen=True)
class Axis:
    """One axis of an array, as its metadata name it.

    scale, translation : in `unit`, or in nobody knows what if there is none
    """

    name: str
    size: int
    scale: float = 1.0
    translation: float = 0.0
    unit: str | None = None

    @property
    def is_space(self) -> bool:
        return self.name in ("z", "y", "x")

    @property
    def is_kept(self) -> bool:
        """Whether the scan has it: Y and X always, others if there is more than one entry."""
        return self.name in ("y", "x") or (self.is_space and self.size > 1)


@dataclass(frozen=True)
class Image:
    """What the metadata tell of a multiscale image.

    level : path of the array of full resolution, below the group
    axes : names and transformations; sizes are 0 before the array is known
    channels : names, empty if there are none
    """

    version: Version
    level: str
    axes: tuple[Axis, ...]
    channels: tuple[str, ...]

    def sized(self, shape: Sequence[int]) -> "Image":
        """The same with the sizes of the array. Raises DataError if its axes do not fit."""
        axes = self.axes
        if len(shape) != len(axes):
            raise DataError(
                "the array does not have the axes that the metadata name",
                expected="".join(axis.name for axis in axes),
                got=tuple(shape),
            )
        return replace(
            self, axes=tuple(replace(a, size=n) for a, n in zip(axes, shape, strict=True))
        )


def attributes_of(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """What NGFF says of a group: 0.5 keeps it below the key `ome`."""
    found = attributes.get("ome", attributes)
    return found if isinstance(found, Mapping) else {}


def parsed(attributes: Mapping[str, Any]) -> Image:
    """The image that the attributes of a group tell of, as given by `attributes_of`.

    Raises DataError for unknown versions, and for axes that are neither space, channels nor time.
    """
    multiscale = attributes["multiscales"][0]
    version = str(attributes.get("version") or multiscale.get("version") or "0.4")
    if version not in _READ:
        raise DataError(
            f"OME-Zarr {version} is not supported",
            expected=", ".join(_READ),
            hint="save it as OME-Zarr 0.5",
        )
    dataset = multiscale["datasets"][0]
    names = _axis_names(multiscale)
    scale, translation = _combined(dataset, multiscale, len(names))
    units = [
        str(axis["unit"]) if isinstance(axis, Mapping) and axis.get("unit") else None
        for axis in multiscale.get("axes") or names
    ]
    axes = tuple(map(Axis, names, [0] * len(names), scale, translation, units))
    omero = attributes.get("omero") or {}
    channels = [str(each.get("label") or "").strip() for each in omero.get("channels") or ()]
    usable = all(channels) and len(set(channels)) == len(channels)
    return Image(
        "0.5" if version == "0.5" else "0.4",
        str(dataset["path"]),
        axes,
        tuple(channels) if usable else (),
    )


def smaller_levels(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """Paths of the arrays below that of full resolution, the largest first."""
    return tuple(str(dataset["path"]) for dataset in attributes["multiscales"][0]["datasets"][1:])


def _axis_names(multiscale: Mapping[str, Any]) -> list[str]:
    # Before 0.3 there were always these five; 0.3 has names only.
    axes = multiscale.get("axes") or list("tczyx")
    names = [str(axis["name"] if isinstance(axis, Mapping) else axis).lower() for axis in axes]
    space = [name for name in names if name in ("z", "y", "x")]
    if space not in (["y", "x"], ["z", "y", "x"]) or len(set(names)) < len(names):
        raise DataError(
            "the axes do not make an image",
            expected="z, y, x or y, x in this order, with optional t and c",
            got=", ".join(names),
        )
    return names


def _combined(
    dataset: Mapping[str, Any], multiscale: Mapping[str, Any], count: int
) -> tuple[list[float], list[float]]:
    scale, translation = np.ones(count), np.zeros(count)
    for place in (dataset, multiscale):
        for step in place.get("coordinateTransformations") or ():
            kind = step.get("type")
            values = step.get(kind)
            if kind == "identity":
                continue
            if kind not in ("scale", "translation") or not isinstance(values, list):
                raise DataError(f"the coordinate transformation {kind} is not supported")
            numbers = np.array(values, np.float64)
            if numbers.shape != (count,) or not np.isfinite(numbers).all():
                raise DataError(
                    f"the {kind} does not fit the axes", expected=f"{count} numbers", got=values
                )
            if kind == "scale":
                scale, translation = scale * numbers, translation * numbers
            else:
                translation = translation + numbers
    if (scale <= 0).any():
        raise DataError("the scale is not positive", got=scale.tolist())
    return scale.tolist(), translation.tolist()


def check_axes(image: Image) -> None:
    """Raises DataError for axes that are neither space nor time nor channels."""
    for axis in image.axes:
        if not axis.is_space and axis.name not in ("t", "c") and axis.size > 1:
            raise DataError(
                f"axis {axis.name} with {axis.size} entries is neither space nor channels",
                hint="save one image per entry",
            )


def axes_read(image: Image) -> Axes:
    """The axes of the array, in its order."""
    letters = "".join(axis.name.upper() for axis in image.axes)
    return Axes(letters, tuple(axis.size for axis in image.axes))


def with_letters(image: Image, letters: str) -> Image:
    """The image with other names for its axes, all of them or those of several entries.

    Raises DataError if there are not as many.
    """
    sizes = [axis.size for axis in image.axes]
    places = named_axes(sizes, [a.size > 1 or a.name in "yx" for a in image.axes], letters)
    axes = list(image.axes)
    unused = [name for name in "tcz" if name.upper() not in letters]
    for k in range(len(axes)):
        if k in places:
            axes[k] = replace(axes[k], name=letters[places.index(k)].lower())
        elif axes[k].name not in unused:
            axes[k] = replace(axes[k], name=unused.pop(0))
        else:
            unused.remove(axes[k].name)
    return replace(image, axes=tuple(axes))


def at_one_time(image: Image, time: int | None) -> Image:
    """The image as it is at a time point: its axis of time, where there is one, has one entry."""
    axes = tuple(
        replace(a, size=1, translation=a.translation + (time or 0) * a.scale)
        if a.name == "t"
        else a
        for a in image.axes
    )
    return replace(image, axes=axes)


def geometry_of(image: Image) -> Geometry:
    """Where the voxels lie: millimetres stay, other lengths become micrometres, else pixels.

    The translation is the place of the first voxel.
    """
    axes = [axis for axis in image.axes if axis.is_kept]
    factors = [micrometres(1.0, axis.unit or "") for axis in axes]
    unit: Unit = "px"
    known = [factor for factor in factors if factor is not None]
    factors_known = [1.0] * len(axes)
    if all(axis.unit == "millimeter" for axis in axes):
        unit = "mm"
    elif len(known) == len(axes):
        unit, factors_known = "um", known
    affine = np.diag([*(a.scale * f for a, f in zip(axes, factors_known, strict=True)), 1.0])
    affine[:-1, -1] = [a.translation * f for a, f in zip(axes, factors_known, strict=True)]
    return Geometry(tuple(axis.size for axis in axes), affine, unit)


def axes_of(geometry: Geometry) -> tuple[Axis, ...]:
    """The axes of an image on this grid. Raises DataError for flipped or oblique grids."""
    directions = geometry.affine[:-1, :-1]
    upright = np.diag(geometry.spacing)
    if not np.allclose(directions, upright, rtol=0, atol=1e-6 * float(min(geometry.spacing))):
        raise DataError("an OME-Zarr cannot hold a flipped or oblique grid", hint="write NIfTI")
    names = "zyx"[-geometry.ndim :]
    unit = _WORDS.get(geometry.unit)
    places = [float(place) for place in geometry.affine[:-1, -1]]
    return tuple(
        Axis(name, size, edge, place, unit)
        for name, size, edge, place in zip(
            names, geometry.shape, geometry.spacing, places, strict=True
        )
    )


def multiscale(
    name: str, version: Version, axes: Sequence[Axis], steps: Sequence[Sequence[int]]
) -> dict[str, Any]:
    """The entry of `multiscales`; level k keeps every `steps[k][a]`-th voxel of axis a.

    The voxels that are kept stay where they are, and so does the first one: no level is shifted.
    """
    datasets = []
    for level, step in enumerate(steps):
        scale = [axis.scale * n for axis, n in zip(axes, step, strict=True)]
        moves: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
        if any(axis.translation for axis in axes):
            shift = [axis.translation for axis in axes]
            moves.append({"type": "translation", "translation": shift})
        datasets.append({"path": str(level), "coordinateTransformations": moves})
    entry: dict[str, Any] = {
        "name": name,
        "axes": [
            {"name": axis.name, "type": _TYPES.get(axis.name, "space")}
            | ({"unit": axis.unit} if axis.unit else {})
            for axis in axes
        ],
        "datasets": datasets,
        "type": "nearest",
    }
    return entry | ({"version": version} if version == "0.4" else {})


def image_label(version: Version, labels: Sequence[Label], image: str | None) -> dict[str, Any]:
    """The entry `image-label`: a colour and a class name per value, and whose labels they are.

    image : path of the scan's group, relative to the mask
    """
    entry: dict[str, Any] = {"version": version}
    if labels:
        entry["colors"] = [
            {"label-value": label.value, "rgba": _rgba(label.value)} for label in labels
        ]
        entry["properties"] = [
            {"label-value": label.value, "class": label.name} for label in labels
        ]
    if image is not None:
        entry["source"] = {"image": image}
    return entry


def _rgba(value: int) -> list[int]:
    # The background is seen through.
    return [0, 0, 0, 0] if value == 0 else [*of_value(value), 255]


def channel_display(names: Sequence[str], largest: float) -> dict[str, Any]:
    """The entry `omero`: the names of channels, and how a viewer shows 0 to `largest`."""
    window = {"min": 0, "start": 0, "end": largest, "max": largest}
    return {
        "channels": [
            {
                "label": name,
                "color": "".join(f"{part:02X}" for part in COLOURS[number % len(COLOURS)]),
                "window": window,
                "active": number == 0,
            }
            for number, name in enumerate(names)
        ]
    }


def stored_attributes(version: Version, entries: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a group with these entries."""
    return {"ome": {"version": version, **entries}} if version == "0.5" else dict(entries)


def pyramid_steps(axes: Sequence[Axis], largest: int) -> list[tuple[int, ...]]:
    """Per level, how many voxels of full resolution a voxel stands for along each axis.

    Axes are halved until none has more than `largest` voxels; those whose voxels are much longer
    than the others' wait, so that voxels come closer to cubes.
    """
    steps = [(1,) * len(axes)]
    while True:
        sizes = [-(-axis.size // n) for axis, n in zip(axes, steps[-1], strict=True)]
        if max(sizes) <= largest:
            return steps
        edges = [axis.scale * n for axis, n in zip(axes, steps[-1], strict=True)]
        finest = min(e for a, e, n in zip(axes, edges, sizes, strict=True) if a.is_space and n > 1)
        steps.append(
            tuple(
                step * 2 if axis.is_space and size > 1 and edge < 2 * finest else step
                for axis, step, size, edge in zip(axes, steps[-1], sizes, edges, strict=True)
            )
        )
