"""What the questions about a data set need of each case, kept while its voxels are in memory."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unetseg.checking.coarse import GRIDS, coarse, scaled, turned
from unetseg.geometry import Unit
from unetseg.planning.digests import voxel_digest
from unetseg.planning.facts import CaseFacts, is_turned
from unetseg.records import Case, Scan

# Of more channels than that, the first ones are compared.
_MOST_CHANNELS = 4
# Percentiles to three digits need no more values than this.
_MOST_VALUES = 200_000
# Masks with more values number objects, whose pieces are not counted.
_MOST_CLASSES = 64


@dataclass(frozen=True)
class ChannelLook:
    """The values of a channel.

    low, high : least and greatest
    dark, middle, bright, brightest : percentiles 1, 50, 99 and 99.9
    top_share : share of the voxels that have the greatest value
    """

    name: str
    low: float
    high: float
    dark: float
    middle: float
    bright: float
    brightest: float
    top_share: float


@dataclass(frozen=True)
class Pieces:
    """The connected parts of a label value; voxels that share a corner are connected.

    sizes : voxels, the largest first
    """

    value: int
    sizes: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class CaseLook:
    """One case, seen from afar. Axes in canonical order and direction where scans have any.

    digests : of the voxels of the scan, and of the truth; the second empty without truth
    image : (channels compared, *grid), each with mean 0 and deviation 1
    mask : (*grid), share of the foreground in 255ths; None without truth
    counts : voxels per label value
    """

    case: Case
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    unit: Unit
    is_picture: bool
    channels: tuple[ChannelLook, ...]
    digests: tuple[bytes, bytes]
    image: NDArray[np.float16]
    mask: NDArray[np.uint8] | None = None
    counts: tuple[tuple[int, int], ...] = ()
    pieces: tuple[Pieces, ...] = ()

    @property
    def name(self) -> str:
        return self.case.name

    @property
    def image_file(self) -> str:
        return str(self.case.images[0])

    @property
    def mask_file(self) -> str:
        return str(self.case.truth or self.case.images[0])

    @property
    def has_foreground(self) -> bool:
        return any(value for value, _ in self.counts)


class Looks:
    """Gathers a CaseLook of every case that it is called with, from any thread."""

    def __init__(self) -> None:
        self._looks: dict[str, CaseLook] = {}

    def __call__(
        self, case: Case, scan: Scan, truth: NDArray[np.integer[Any]], facts: CaseFacts
    ) -> None:
        self._looks[case.name] = look_at(case, scan, truth, facts)

    def of(self, cases: Sequence[Case]) -> tuple[CaseLook, ...]:
        """The looks at these cases, in their order, each with its case as it is now."""
        return tuple(replace(self._looks[case.name], case=case) for case in cases)


def look_at(
    case: Case,
    scan: Scan,
    truth: NDArray[np.integer[Any]] | None = None,
    facts: CaseFacts | None = None,
) -> CaseLook:
    """A case whose voxels are in memory; `truth` and `facts` if it has a mask."""
    geometry = scan.geometry
    flat = scan.array.reshape(len(scan.array), -1)
    if scan.is_picture:
        compared = scan.array.mean(axis=0, keepdims=True, dtype=np.float32)
    else:
        compared = scan.array[:_MOST_CHANNELS]
    order: Sequence[int] = range(geometry.ndim)
    if is_turned(scan):
        order = geometry.canonical()[0]
        compared = turned(compared, geometry)
    grid = GRIDS[geometry.ndim]
    look = CaseLook(
        case,
        tuple(geometry.shape[axis] for axis in order),
        tuple(geometry.spacing[axis] for axis in order),
        geometry.unit,
        scan.is_picture,
        tuple(_channel(name, values) for name, values in zip(scan.channels, flat, strict=True)),
        facts.digests if facts else (voxel_digest(flat, scan.array.shape), b""),
        np.stack([scaled(channel) for channel in coarse(compared, grid)]),
    )
    if truth is None or facts is None:
        return look
    foreground = truth > 0
    mask = coarse(turned(foreground, geometry) if is_turned(scan) else foreground, grid)
    return replace(
        look,
        mask=np.rint(255 * mask).astype(np.uint8),
        counts=facts.counts,
        pieces=_pieces(truth) if len(facts.counts) <= _MOST_CLASSES else (),
    )


def _channel(name: str, values: NDArray[Any]) -> ChannelLook:
    low, high = float(values.min()), float(values.max())
    some = values[:: -(-len(values) // _MOST_VALUES)]
    dark, middle, bright, brightest = np.percentile(some, (1, 50, 99, 99.9)).tolist()
    return ChannelLook(
        name, low, high, dark, middle, bright, brightest, float((some == high).mean())
    )


def _pieces(truth: NDArray[np.integer[Any]]) -> tuple[Pieces, ...]:
    everywhere = np.ones((3,) * truth.ndim, dtype=bool)
    found = []
    for value, box in enumerate(ndimage.find_objects(np.maximum(truth, 0).astype(np.int32)), 1):
        if box is None:
            continue
        parts, count = ndimage.label(truth[box] == value, everywhere)
        sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
        found.append(Pieces(value, tuple(sorted(sizes.tolist(), reverse=True))))
    return tuple(found)
