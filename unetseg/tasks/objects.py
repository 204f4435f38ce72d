"""What tasks have in common that give every object an id: codes of voxels -> objects -> mask."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unetseg.config import Plan
from unetseg.errors import UsageError
from unetseg.formats.voxels import smallest_integers
from unetseg.geometry import Geometry
from unetseg.metrics import METRICS
from unetseg.objects.codes import Maps, pack, unpack
from unetseg.objects.decoding import BYTES_PER_VOXEL, Rules, decode
from unetseg.records import Mask
from unetseg.tasks import ScoreName
from unetseg.tasks.cleaning import Indices, voxel_size
from unetseg.tasks.losses import FromLabels


class ObjectTask(FromLabels):
    """Its numbers of classes are codes, see objects.codes; its masks hold ids."""

    metrics: tuple[str, ...] = METRICS
    cleans = False
    takes_largest = False
    is_local = False
    number_bytes = 4
    mask_bytes = BYTES_PER_VOXEL
    score: ScoreName = "AP"

    def __init__(self, plan: Plan) -> None:
        decode = plan.decode
        if decode.largest_component or decode.fill_holes:
            raise UsageError(
                "masks of objects are not cleaned: every object has rules of its own",
                where="decode.largest_component, decode.fill_holes",
                hint="leave them out; decode.min_size is the least size of an object",
            )
        self._decode, self._unit = decode, plan.data.unit
        self._classes = len(plan.data.class_values) - 1
        self._values = np.array(plan.data.class_values)

    def rules(self, geometry: Geometry) -> Rules:
        """How maps of scans on this grid become objects.

        Raises DataError if sizes have a unit and the scan has none.
        """
        decode = self._decode
        given: dict[str, Any] = {}
        for name in ("foreground", "seed_depth", "seed_centre", "contrast"):
            if (share := getattr(decode, name)) is not None:
                given[name] = share
        if decode.smoothing:
            edges = geometry.spacing
            given["smoothing"] = tuple(decode.smoothing * min(edges) / edge for edge in edges)
        if any(decode.min_size):
            given["min_voxels"] = decode.min_size[0] / voxel_size(geometry, self._unit)
        return Rules(**given)

    def mask(self, indices: Indices, geometry: Geometry) -> Mask:
        """(*S) int32 codes -> ids, in the smallest type that holds them."""
        found = decode(unpack(indices), self.rules(geometry))
        ids = smallest_integers(found.ids)
        return Mask(ids, geometry, classes=self.values(found.classes))

    def values(self, classes: NDArray[np.uint8]) -> tuple[int, ...]:
        """The class values of objects by their (n,) class numbers, as of records.Mask."""
        return tuple(map(int, self._values[classes])) if self._classes > 1 else ()


def packed(classes: Tensor, foreground: Tensor, depth: Tensor, centre: Tensor) -> Tensor:
    """(*S) int32 codes on the device of the maps."""
    maps = Maps(
        classes.to(torch.uint8).cpu().numpy(),
        *(each.float().cpu().numpy() for each in (foreground, depth, centre)),
    )
    return torch.from_numpy(pack(maps)).to(classes.device)
