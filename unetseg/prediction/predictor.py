"""A trained model, loaded once, that turns scans into masks."""

import hashlib
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from math import prod
from pathlib import Path
from threading import Lock
from typing import Any, Self, TypeVar

import numpy as np
import psutil
from numpy.typing import NDArray
from torch import Tensor

from unetseg import checkpoint
from unetseg.allocator import keep_freed_memory
from unetseg.config import with_overrides
from unetseg.dataset.loading import load_scan, with_channels
from unetseg.dataset.views import for_model
from unetseg.devices import find_device, is_out_of_memory, measure, usable_precision
from unetseg.errors import DataError, DeviceError, UsageError
from unetseg.formats import split_name
from unetseg.geometry import Box, Geometry, Unit, whole_box
from unetseg.pipeline import GridImage, Prepared, prepare
from unetseg.pipeline.intensity import import_monai
from unetseg.prediction.arrays import scan_of
from unetseg.prediction.outlook import (
    Beside,
    Foresight,
    Header,
    Limits,
    Outlook,
    WindowCost,
    free_memory,
    ring_bytes,
    window_cost,
)
from unetseg.prediction.quality import QUALITIES, check_quality
from unetseg.records import AS_IT_IS, Case, Label, Listener, Mask, Scan, ignore_event
from unetseg.tasks import make_task
from unetseg.tasks.pieces import Piece, together
from unetseg.tasks.segmenting import Segmenter
from unetseg.windows import Walk

T = TypeVar("T")

# Outputs that wait in less than this fit anywhere: nothing needs to be measured for them.
_LITTLE = 256 << 20
# What a pass through the network takes, and is foreseen with it, is kept for the next window.
_KEPT_BYTES = 256 << 20


class Predictor:
    """A trained model, loaded once, ready for scans, from any number of threads.

    model : a run folder or a model folder; the newest finished run under ./runs if None
    quality : fast, balanced (as the plan says) or best
    settings : plan values by dotted key that change the prediction (decode.*); they win over
        the quality
    folds : which networks of an ensemble; all of them if not given, or the first for fast
    limits : the most memory that may be used; what is free if not given

    The device works on one scan at a time; threads read and prepare beside one another.

    Raises ModelError, UsageError or DeviceError.
    """

    def __init__(
        self,
        model: Path | str | None = None,
        *,
        device: str = "auto",
        quality: str = "balanced",
        settings: Mapping[str, Any] | None = None,
        folds: Sequence[int] | None = None,
        limits: Limits | None = None,
    ) -> None:
        check_quality(quality)
        self.path = checkpoint.newest_run(Path("runs")) if model is None else Path(model)
        self._settings, wanted = dict(settings or {}), QUALITIES[quality]
        if wanted.is_alone and folds is None:
            # None for a single network, which has no folds to choose from.
            folds = checkpoint.folds_of(self.path)[:1] or None
        trained = checkpoint.load(self.path, folds)
        for key in self._settings:
            if not key.startswith("decode."):
                raise UsageError(
                    "cannot be changed after the training",
                    where=f"--set {key}",
                    expected="a key of the section decode",
                )
        changed = wanted.settings(trained.plan.decode) | self._settings
        self.facts = trained.facts
        self.plan = (
            with_overrides(trained.plan, changed, where="--set") if changed else trained.plan
        )
        self.quality = quality
        keep_freed_memory(_KEPT_BYTES)
        where = find_device(device)
        self.machine = measure(where)
        precision = usable_precision(self.plan.training.precision, self.machine)
        self.task = make_task(self.plan)
        self.folds = trained.folds
        first, *others = (network.placed(where) for network in trained.networks)
        self.segmenter = Segmenter(first, self.plan, self.task, where, precision, tuple(others))
        self._turn = Lock()
        self.limits = limits or Limits()
        # It is needed in any case, and takes memory that is to be foreseen.
        import_monai()
        self._base_bytes = int(psutil.Process().memory_info().rss)

    @property
    def labels(self) -> tuple[Label, ...]:
        """The values that a mask may hold, with their names."""
        data = self.plan.data
        pairs = zip(data.class_values, data.class_names, strict=True)
        return tuple(Label(value, name) for value, name in pairs)

    @cached_property
    def digest(self) -> str:
        """What the values of a mask come from: the same for the same weights and settings."""
        digest = hashlib.blake2b(digest_size=16)
        for network in self.segmenter.networks:
            for name, values in network.state_dict().items():
                digest.update(name.encode())
                digest.update(values.cpu().numpy().tobytes())
        digest.update(repr((self.plan.decode, self.plan.patch.size)).encode())
        return digest.hexdigest()

    @cached_property
    def on_processor(self) -> Self:
        """The same model on the processor, for a scan that a device has no memory for."""
        return type(self)(
            self.path,
            device="cpu",
            quality=self.quality,
            settings=self._settings,
            folds=self.folds or None,
            limits=self.limits,
        )

    @cached_property
    def _cost(self) -> WindowCost:
        return window_cost(self.segmenter, len(self.plan.data.channels))

    def foresee(self, header: Header, *, with_maps: bool = False) -> Outlook:
        """How a scan will be done within the limits, and what that needs.

        Raises DeviceError if it does not fit; ModelError if it has other axes than the model.
        """
        return self._foresight(with_maps=with_maps)(header)

    def foresee_blocks(
        self, geometry: Geometry, walk_bytes: int, beside: Beside, *, with_maps: bool = False
    ) -> Outlook:
        """The same of a scan that is done in blocks; see Foresight.of_blocks."""
        return self._foresight(with_maps=with_maps).of_blocks(geometry, walk_bytes, beside)

    def _foresight(self, *, with_maps: bool) -> Foresight:
        free = free_memory(self.segmenter.device)
        limits = Limits(self.limits.host or free.host, self.limits.device or free.device)
        return Foresight(self.segmenter, self._cost, limits, self._base_bytes, with_maps)

    def _way(self, prepared: Prepared, *, with_maps: bool) -> tuple[Walk, tuple[Box, ...]]:
        """Through the windows of a scan, and its parts."""
        placement, segmenter = prepared.placement, self.segmenter
        grid = placement.grid.shape
        walk = segmenter.walk(grid)
        waiting = ring_bytes(segmenter.tiling(grid), walk, whole_box(grid), segmenter.blended_maps)
        if self.limits == Limits() and waiting < _LITTLE:
            on_card = segmenter.device.type == "cuda"
            return replace(walk, on_device=on_card), (whole_box(placement.scan.shape),)
        header = Header(placement.scan, len(self.plan.data.channels), 4)
        outlook = self.foresee(header, with_maps=with_maps)
        return outlook.walk, outlook.parts

    @property
    def most_together(self) -> int:
        """How many scans may go through the network at once, where each is a single window.

        A card works on one small image hardly faster than on several; the cores of a processor
        are all busy with one. Limits are worked out for each scan by itself.
        """
        is_alone = self.machine.kind == "cpu" or self.limits != Limits()
        return 1 if is_alone else self.plan.patch.batch

    def lone_window(self, prepared: Prepared) -> tuple[int, ...] | None:
        """The window that a scan is, if it is a single one whose outputs take little memory."""
        tiling = self.segmenter.tiling(prepared.placement.grid.shape)
        waiting = 4 * self.plan.patch.batch * self.segmenter.blended_maps * prod(tiling.window)
        return tiling.window if tiling.count == 1 and waiting < _LITTLE else None

    def answers(
        self, scans: Sequence[Prepared | None], listener: Listener = ignore_event
    ) -> list[Tensor | None]:
        """What the network says to those scans that go through it together, for `pieces`.

        They are a lone window each, of the size of the first such one. The others have no answer,
        and none has where memory does not suffice: each finds its own way then, which may be the
        processor.
        """
        windows = [None if scan is None else self.lone_window(scan) for scan in scans]
        first = next((window for window in windows if window), None)
        places = [place for place, window in enumerate(windows) if window and window == first]
        found: list[Tensor | None] = [None] * len(scans)
        if len(places) < 2:
            return found
        group = [scan for place in places if (scan := scans[place]) is not None]
        try:
            with self._turn:
                answers = self.segmenter.answers(group, listener)
        except DeviceError:
            return found
        for place, answer in zip(places, answers, strict=True):
            found[place] = answer
        return found

    def prepare(self, scan: Scan) -> Prepared:
        """The scan on the plan's grid. Raises DataError or ModelError if it does not fit."""
        data = self.plan.data
        scan = with_channels(scan, data.channels)
        card = self.segmenter.device
        found = _if_it_fits(lambda: prepare(scan, data, card)) if card.type == "cuda" else None
        return found or prepare(scan, data)

    def pieces(
        self,
        prepared: Prepared,
        *,
        probabilities: bool = False,
        answer: Tensor | None = None,
        listener: Listener = ignore_event,
    ) -> Generator[Piece, None, None]:
        """The class numbers of a scan piece by piece, and the probabilities where asked for.

        answer : of the network, if it has been asked already

        Close it if it is left early: until it ends no other scan has its turn.

        Raises DeviceError if memory does not suffice.
        """
        with self._turn:
            walk, parts = self._way(prepared, with_maps=probabilities)
            image: GridImage = prepared
            if walk.on_device and answer is None:
                # Once, instead of window by window.
                device = self.segmenter.device
                there = _if_it_fits(lambda: replace(prepared, image=prepared.image.to(device)))
                image = there or prepared
            for box in parts:
                yield from self.segmenter.pieces(
                    image,
                    walk,
                    box=box,
                    probabilities=probabilities,
                    answer=answer,
                    listener=listener,
                )

    def part(
        self,
        image: GridImage,
        box: Box,
        *,
        probabilities: bool = False,
        listener: Listener = ignore_event,
    ) -> Generator[Piece, None, None]:
        """As `pieces`, for a box of a scan of any size, on the scan's own grid."""
        with self._turn:
            segmenter = self.segmenter
            walk = segmenter.walk(image.placement.grid.shape)
            yield from segmenter.pieces(
                image,
                replace(walk, on_device=segmenter.device.type == "cuda"),
                box=box,
                probabilities=probabilities,
                listener=listener,
            )

    def segment(self, prepared: Prepared) -> tuple[Mask, NDArray[np.float32]]:
        """The mask on the scan's own grid, and all of the (K, *S) probabilities behind it."""
        grid = prepared.placement.scan
        maps = np.empty((self.task.outputs, *grid.shape), np.float32)
        indices: NDArray[np.integer[Any]] = np.empty(grid.shape, np.int32)
        with closing(self.pieces(prepared, probabilities=True)) as pieces:
            for piece in pieces:
                indices[piece.box] = piece.indices
                maps[(slice(None), *piece.box)] = piece.probabilities
        return self.task.mask(indices, grid), maps

    def __call__(
        self,
        scan: Scan | Path | str | NDArray[Any],
        *,
        spacing: Sequence[float] | None = None,
        unit: Unit | None = None,
    ) -> Mask:
        """The mask of a scan, of an image file or of an array, on the scan's own grid.

        scan : an array is (*S), or (C, *S) with the channels first; the model's number of axes
            tells which
        spacing : edge lengths of an array's voxels per axis
        unit : of the spacing, mm or um; the model's own if not given

        An array's axes are taken to run along the world's, in the order in which files of the
        model's kind are read: X, Y, Z with X to the right, Y to the front and Z up for NIfTI, and
        Z, Y, X for images. Give a Scan with a Geometry where they do not.
        """
        if isinstance(scan, (Path, str)):
            path = Path(scan)
            (seen,) = for_model([Case(split_name(path)[0], (path,))], AS_IT_IS, self.plan.data)
            scan = load_scan(seen.case)
            _refuse(spacing, unit)
        elif isinstance(scan, Scan):
            _refuse(spacing, unit)
        else:
            scan = scan_of(scan, self.plan.data, spacing, unit)
        prepared = self.prepare(scan)
        grid = prepared.placement.scan
        with closing(self.pieces(prepared)) as pieces:
            indices = together(pieces, grid.shape)
        return self.task.mask(indices, grid)


def _if_it_fits(work: Callable[[], T]) -> T | None:
    """What the work makes, or None where memory does not suffice."""
    try:
        return work()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return None


def _refuse(spacing: object, unit: object) -> None:
    if spacing is not None or unit is not None:
        raise DataError(
            "a scan or a file has a spacing and a unit of its own",
            hint="give spacing and unit with an array only",
        )
