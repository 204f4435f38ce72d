"""What is done to a mask after the network: small components removed, holes filled."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unetseg.config import Plan
from unetseg.errors import DataError
from unetseg.geometry import Box, Geometry, Unit

Indices = NDArray[np.integer[Any]]

# A component of exactly the smallest size stays, however the spacing in the header was rounded.
_ROUNDING = 1e-6
# What cleaning takes for a voxel: a copy, numbers of components twice, and where holes are.
CLEANING_BYTES = 13
_MICROMETRES = {"um": 1.0, "mm": 1000.0}


@dataclass(frozen=True)
class Cleaning:
    """What is done to one class, in this order.

    largest_component : keep the largest component, or all that are as large as the largest
    min_size : smaller components are removed; in the plan's unit, see `voxel_size`
    fill_holes : see `holes`
    """

    largest_component: bool = False
    min_size: float = 0.0
    fill_holes: bool = False

    def kept(self, voxels: NDArray[np.integer[Any]], voxel: float) -> NDArray[np.bool_]:
        """Which components stay.

        voxels : (n,) voxels of each component
        voxel : size of a voxel in the plan's unit
        """
        stay = np.ones(len(voxels), dtype=bool)
        if self.min_size:
            stay &= voxels * voxel >= self.min_size * (1 - _ROUNDING)
        if self.largest_component and len(voxels):
            stay &= voxels == voxels.max()
        return stay


def cleanings(plan: Plan) -> dict[int, Cleaning]:
    """What the plan wants done, by class index; classes that stay as they are are left out.

    Objects are not cleaned: what is too small is none, see objects.decoding.
    """
    if plan.data.has_objects:
        return {}
    decode = plan.decode
    found = {}
    for index, name in enumerate(plan.data.class_names[1:], start=1):
        sizes = decode.min_size or (0.0,)
        wanted = Cleaning(
            name in decode.largest_component,
            sizes[0] if len(sizes) == 1 else sizes[index - 1],
            name in decode.fill_holes,
        )
        if wanted != Cleaning():
            found[index] = wanted
    return found


def with_cleanings(plan: Plan, wanted: Mapping[int, Cleaning]) -> Plan:
    """The plan that wants this done and nothing else; the inverse of `cleanings`."""
    if plan.data.has_objects:
        return plan
    names = plan.data.class_names
    sizes = [wanted.get(index, Cleaning()).min_size for index in range(1, len(names))]
    decode = replace(
        plan.decode,
        largest_component=tuple(names[i] for i in sorted(wanted) if wanted[i].largest_component),
        min_size=tuple(sizes) if any(sizes) else (),
        fill_holes=tuple(names[i] for i in sorted(wanted) if wanted[i].fill_holes),
    )
    return replace(plan, decode=decode)


def voxel_size(geometry: Geometry, unit: Unit) -> float:
    """The volume of a voxel, or the area of a pixel, in `unit` to the power of the axes.

    1 for the unit px: sizes are then numbers of voxels.
    Raises DataError if the grid has no physical size but the unit is one.
    """
    if unit == "px":
        return 1.0
    if geometry.unit == "px":
        raise DataError(
            "the scan does not say how large its voxels are, so decode.min_size means nothing",
            expected=f"a size in {unit}",
            got="none",
            hint="add it to the file, or predict with --set decode.min_size=0",
        )
    factor = _MICROMETRES[geometry.unit] / _MICROMETRES[unit]
    return geometry.voxel_volume * float(factor**geometry.ndim)


def components(own: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The components of a class, voxels that share a corner being connected, and their sizes.

    own : (*S) bool

    Returns (*S) numbers from 1, 0 elsewhere; (n,) voxels of each component.
    """
    labels, count = ndimage.label(own, np.ones((3,) * own.ndim))
    return labels, np.bincount(labels.ravel(), minlength=count + 1)[1:]


def boxes(indices: Indices) -> dict[int, Box]:
    """The smallest box around each class, by class index."""
    return {
        index: box
        for index, box in enumerate(ndimage.find_objects(indices), start=1)
        if box is not None
    }


def holes(indices: Indices) -> dict[int, tuple[Box, NDArray[np.bool_]]]:
    """The holes of every class: a box, and inside it the background that is a hole, by class index.

    indices : (*S) class indices

    A hole is background that the class encloses and touches. Background is connected through faces:
    a wall that is closed diagonally is a wall. A gap between the class and another one inside it is
    a hole of the class, a gap inside that other one is not; what two classes claim is no hole.
    """
    owner = np.zeros(indices.shape, dtype=np.int32)
    places = boxes(indices)
    for index, box in places.items():
        claimed = _claimed(indices[box], index)
        view = owner[box]
        view[claimed] = np.where(view[claimed] == 0, index, -1)
    return {index: (box, owner[box] == index) for index, box in places.items()}


def _claimed(view: Indices, index: int) -> NDArray[np.bool_]:
    """Background that the class encloses and touches, in the smallest box around the class."""
    own = view == index
    outside, count = ndimage.label(~own)
    enclosed = np.ones(count + 1, dtype=bool)
    enclosed[0] = False
    for axis in range(view.ndim):
        for end in (0, -1):
            enclosed[outside.take(end, axis)] = False
    if not enclosed.any():
        return np.zeros(view.shape, dtype=bool)
    regions, count = ndimage.label(enclosed[outside] & (view == 0))
    touching = np.zeros(count + 1, dtype=bool)
    touching[regions[ndimage.binary_dilation(own)]] = True
    touching[0] = False
    claimed: NDArray[np.bool_] = touching[regions]
    return claimed


def clean(indices: Indices, wanted: Mapping[int, Cleaning], voxel: float) -> Indices:
    """The class indices after all cleanings; the order of the classes plays no part.

    indices : (*S) class indices, left as they are
    voxel : size of a voxel in the plan's unit

    What is removed becomes background. Holes are looked for after that, in all classes at once.
    """
    result = indices.copy()
    for index, box in boxes(indices).items():
        if index in wanted:
            _remove(result[box], index, wanted[index], voxel)
    filled = [index for index, cleaning in wanted.items() if cleaning.fill_holes]
    if filled:
        for index, (box, hole) in holes(result).items():
            if index in filled:
                result[box][hole] = index
    return result


def _remove(view: Indices, index: int, cleaning: Cleaning, voxel: float) -> None:
    """Remove components from a view of the indices, in place."""
    if not cleaning.largest_component and not cleaning.min_size:
        return
    labels, sizes = components(view == index)
    gone = np.concatenate([[False], ~cleaning.kept(sizes, voxel)])
    view[gone[labels]] = 0
