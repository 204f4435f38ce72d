"""The records that travel between the rooms: frozen, typed, without behaviour of their own.

Shape letters: `B` batch, `C` channels, `K` classes or output maps, `*S` spatial axes in array
order.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unetseg.geometry import Box, Geometry, Unit

Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Axes:
    """How the axes of a file were understood.

    letters : one per axis of the file, in its order: T time, C channels, S colours, Z, Y, X
    sizes : of these axes
    notes : what else was recognised, such as alpha that is left out
    """

    letters: str
    sizes: tuple[int, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class View:
    """What of a file is looked at, and what a person says of it that the file does not.

    axes : one letter per axis of the file, see Axes; empty: as the file says
    mask_axes : the same of the mask that belongs to it
    channels : names, or numbers from 0, in the order in which they are wanted; empty: all
    names : of the channels that were chosen; empty: as the file says
    pixel_size : edge lengths along X and Y, or X, Y and Z, in `unit`; empty: as the file says
    time, scene : which time point and which image of the file, from 0; None: there is one only
    """

    axes: str = ""
    mask_axes: str = ""
    channels: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    pixel_size: tuple[float, ...] = ()
    unit: Unit = "um"
    time: int | None = None
    scene: int | None = None


AS_IT_IS = View()


@dataclass(frozen=True)
class Source:
    """Where a scan came from.

    path : the file that was read
    format : name of the format in FORMATS
    header : what only that format understands (NIfTI header, OME metadata); opaque to all others
    """

    path: Path
    format: str
    header: object = None


@dataclass(frozen=True, eq=False)
class Scan:
    """An input image with its place in space.

    array : (C, *S), any real dtype, as stored in the file
    channels : C names
    is_picture : the channels are the colours of a picture (grey or red, green, blue), so that
        grey and colour files may stand in one set
    axes : of the file, where its format tells them
    """

    array: NDArray[Any]
    geometry: Geometry
    channels: tuple[str, ...]
    source: Source
    is_picture: bool = False
    axes: Axes | None = None


@dataclass(frozen=True, eq=False)
class Opened:
    """A scan on disk, known from its header; voxels are read when they are asked for.

    geometry, channels, source, is_picture, axes : as of the Scan
    dtype : of the voxels that `read` gives
    block : spatial sizes of the boxes in which the file is stored (tiles, chunks); the whole shape
        where any box costs as much as the whole file
    read : box -> (C, *box) voxels, from any thread; raises DataError for damaged files
    """

    geometry: Geometry
    channels: tuple[str, ...]
    dtype: np.dtype[Any]
    source: Source
    block: tuple[int, ...]
    read: Callable[[Box], NDArray[Any]]
    is_picture: bool = False
    axes: Axes | None = None


@dataclass(frozen=True)
class Label:
    """A value that a mask may hold, and what it stands for."""

    value: int
    name: str


@dataclass(frozen=True, eq=False)
class Mask:
    """Integer labels with their place in space.

    array : (*S) integer, the values written to the file
    labels : the values with their names, background included; empty if nobody named them
    classes : where the values are ids of objects: the class value of each, that of id k at k - 1;
        empty where all are of one class
    """

    array: NDArray[np.integer[Any]]
    geometry: Geometry
    labels: tuple[Label, ...] = ()
    classes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Case:
    """A scan on disk and, where there is one, its truth.

    images : one file, or one file per channel in channel order
    columns : of its row in a CSV list, the columns that hold no file and no split, with their cells
    group : what it shares with the cases that must stay in its fold (a patient); None: it is alone
    view : what of its files is looked at
    """

    name: str
    images: tuple[Path, ...]
    truth: Path | None = None
    split: Split = "train"
    columns: tuple[tuple[str, str], ...] = ()
    group: str | None = None
    view: View = AS_IT_IS


@dataclass(frozen=True)
class Finding:
    """Something a person should know about the data.

    severity : an error stops a training, a warning does not, a note is only said
    where : the file, the folder or the case
    hint : what to do about it
    kind : one short word that stays the same from release to release; see docs/check.md
    cases : the names of the cases concerned, where it is about some of them
    """

    severity: Literal["error", "warning", "note"]
    where: str
    sentence: str
    hint: str = ""
    kind: str = ""
    cases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Machine:
    """What the work will run on.

    device : cpu, cuda, cuda:1, mps
    memory_bytes : free memory of that device
    cores : processor cores that this process may use
    has_bfloat16 : the device multiplies bfloat16 natively
    devices : how many such devices train together
    """

    device: str
    memory_bytes: int
    cores: int
    has_bfloat16: bool = False
    devices: int = 1

    @property
    def kind(self) -> str:
        """The device without its number."""
        return self.device.partition(":")[0]


@dataclass(frozen=True)
class CaseScore:
    """The metrics of one class of one case; NaN where a metric is undefined.

    distances are in the geometry's `unit`
    """

    case: str
    label: Label
    unit: str
    values: tuple[tuple[str, float], ...]

    def __getitem__(self, metric: str) -> float:
        return dict(self.values)[metric]


@dataclass(frozen=True)
class Stage:
    """A stretch of work begins: `total` units, or unknown if None."""

    name: str
    total: int | None = None


@dataclass(frozen=True)
class Advance:
    """One more unit of the current stage is done."""

    name: str = ""


@dataclass(frozen=True)
class Note:
    """A sentence for the person and the log."""

    text: str
    level: Literal["info", "warning", "error"] = "info"


@dataclass(frozen=True)
class Progress:
    """Where a training stands, between epochs.

    share : of the whole training, 0 to 1
    waiting : share of the training time that the device waited for data
    """

    share: float
    step: int
    loss: float
    steps_per_second: float
    waiting: float
    seconds_left: float


@dataclass(frozen=True)
class EpochDone:
    """One line of history.csv.

    score : what validation is judged by: Dice, AP
    values : of the score's columns (foreground classes, IoUs), NaN where undefined
    steps_per_second, waiting : NaN where the steps were taken by a command that broke off
    training : which one, where several go on at once
    """

    epoch: int
    step: int
    seconds: float
    learning_rate: float
    loss: float
    steps_per_second: float
    waiting: float
    values: tuple[float, ...]
    mean: float
    is_best: bool
    score: str = "Dice"
    training: str = ""


@dataclass(frozen=True)
class ObjectCount:
    """The objects of one class.

    median_diameter : of the circles or balls that are as large as they, in the scan's unit; NaN
        where there are none
    """

    name: str
    count: int
    median_diameter: float


@dataclass(frozen=True)
class FileDone:
    """One scan of a prediction is finished, skipped or failed.

    status : part where this process has done its blocks and others have not yet
    scans : its files, one or one per channel
    counts : voxels per class name
    voxel_volume : in `unit`, mm^3 or um^2 and so on
    objects : per class, where the mask has an id for each object
    exports : what was written beside the mask for other programs
    """

    scans: tuple[Path, ...]
    output: Path | None
    status: Literal["done", "part", "skipped", "failed"]
    seconds: float = 0.0
    message: str = ""
    counts: tuple[tuple[str, int], ...] = ()
    voxel_volume: float = field(default=float("nan"))
    unit: str = ""
    objects: tuple[ObjectCount, ...] = ()
    exports: tuple[Path, ...] = ()

    @property
    def path(self) -> Path:
        """The first of its files, by which the scan is known."""
        return self.scans[0]


Event = Stage | Advance | Note | Progress | EpochDone | FileDone
Listener = Callable[[Event], None]


def ignore_event(event: Event) -> None:
    """The listener of those who only want the result."""
