"""Batches of patches: a pure function of seed and step, made ahead in a thread."""

import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from time import perf_counter
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from unetseg.config import IGNORED, Plan
from unetseg.errors import DataError
from unetseg.pipeline.cache import CachedCase
from unetseg.training.ranks import ALONE, Ranks

# Prepared cases are kept in memory while they take at most this share of what is free there; on
# a card the network needs the rest.
_HOST_SHARE, _DEVICE_SHARE = 0.4, 0.2

Home = Literal["device", "memory", "disk"]


@dataclass(frozen=True)
class _Crop:
    """Where a patch is cut.

    case : its number
    box : inside the case, per axis
    padding : voxels beyond the case's edge, (before, after) per axis
    """

    case: int
    box: tuple[slice, ...]
    padding: tuple[tuple[int, int], ...]


class Batches:
    """Patches cut from prepared cases.

    Every case is seen equally often; a share of the patches is centred on a foreground voxel of
    a class drawn from those that the case holds. In a partly annotated case such a voxel lies
    anywhere in the patch, and the other patches hold any known voxel, so that none is without.

    home : where the cases lie: on the device if they fit, else in memory, else on disk
    steps_per_round : in which as many voxels are cut out as the cases have; a case that is smaller
        than a patch counts as one
    ranks : this rank's samples of every batch are made
    """

    def __init__(
        self,
        cases: Sequence[CachedCase],
        plan: Plan,
        memory_bytes: int,
        device: torch.device | None = None,
        device_bytes: int = 0,
        ranks: Ranks = ALONE,
    ) -> None:
        self._plan = plan
        self._cases = cases
        self._device, self._rows = device, ranks.rows
        # The ranks of one machine share its memory.
        memory_bytes //= ranks.local_count
        self._is_card = device is not None and device.type == "cuda"
        patch = prod(plan.patch.size)
        patches = sum(max(1.0, prod(case.shape) / patch) for case in cases)
        self.steps_per_round = patches / plan.patch.batch
        total = sum(case.image.nbytes + case.labels.nbytes for case in cases)
        self.home: Home = "disk"
        if self._is_card and total <= _DEVICE_SHARE * device_bytes:
            self.home = "device"
        elif total <= _HOST_SHARE * memory_bytes:
            self.home = "memory"
        place = device if self.home == "device" else None
        self._arrays = (
            [] if self.home == "disk" else [tuple(t.to(place) for t in _read(c)) for c in cases]
        )
        self._order = (-1, np.zeros(0, dtype=np.intp))

    def make(self, step: int) -> tuple[Tensor, Tensor]:
        """Images (B, C, *patch) float32 and labels (B, ..., *patch) int16 of a step.

        B : of the step's batch what is this rank's

        Raises DataError if a prepared case can no longer be read.
        """
        batch, seed = self._plan.patch.batch, self._plan.training.seed
        rng = np.random.default_rng((seed, step))
        forced = round(batch * self._plan.training.foreground_share)
        crops = [
            self._crop(self._case(step * batch + i), rng, centred=i >= batch - forced)
            for i in range(batch)
        ]
        # All are drawn and some are cut: the batch is the same however many ranks share it.
        cut = map(self._cut, crops[self._rows])
        images, labels = (torch.stack(each) for each in zip(*cut, strict=True))
        if self._is_card and self.home != "device":
            # Only from pinned memory does a copy run beside the computing. A thread begins at the
            # first card, which belongs to another rank.
            with torch.cuda.device(self._device):
                return images.pin_memory(), labels.pin_memory()
        return images, labels

    def _case(self, sample: int) -> int:
        """The case of the sample: a new random order of all cases each time round."""
        turn, place = divmod(sample, len(self._cases))
        if self._order[0] != turn:
            rng = np.random.default_rng((self._plan.training.seed, 1, turn))
            self._order = (turn, rng.permutation(len(self._cases)))
        return int(self._order[1][place])

    def _crop(self, index: int, rng: np.random.Generator, *, centred: bool) -> _Crop:
        with _readable(self._cases[index]):
            shape, locations = self._cases[index].shape, self._cases[index].locations
        size = self._plan.patch.size
        room = [max(0, n - p) for n, p in zip(shape, size, strict=True)]
        start = [int(rng.integers(r + 1)) for r in room]
        is_foreground = locations[:, 0] > 0
        is_partly_known = not is_foreground.all()
        if centred and is_foreground.any():
            locations = locations[is_foreground]
        else:
            locations = locations[~is_foreground]
        if len(locations):
            classes = np.unique(locations[:, 0])
            rows = locations[locations[:, 0] == rng.choice(classes)]
            voxel = rows[rng.integers(len(rows)), 1:]
            places = list(zip(voxel.tolist(), size, room, strict=True))
            if is_partly_known:
                # Around the middle, annotated slices would lie at the same few places of the
                # patch, and what the network says in all others would never be judged.
                start = [int(rng.integers(max(0, v - p + 1), min(r, v) + 1)) for v, p, r in places]
            else:
                start = [min(max(v - p // 2, 0), r) for v, p, r in places]
        box = tuple(slice(a, min(a + p, n)) for a, p, n in zip(start, size, shape, strict=True))
        missing = [max(0, p - n) for p, n in zip(size, shape, strict=True)]
        # A scan smaller than the patch lies somewhere inside it; the rest is not judged.
        before = [int(rng.integers(m + 1)) if any(missing) else 0 for m in missing]
        return _Crop(index, box, tuple((b, m - b) for b, m in zip(before, missing, strict=True)))

    def _cut(self, crop: _Crop) -> tuple[Tensor, Tensor]:
        if self.home == "disk":
            images, labels = _read(self._cases[crop.case], crop.box)
        else:
            images, labels = self._arrays[crop.case]
            images, labels = (
                images[(slice(None), *crop.box)],
                labels[_with_maps(crop.box, labels.ndim)],
            )
        # torch counts from the last axis.
        padding = [n for pair in reversed(crop.padding) for n in pair]
        if any(padding):
            images = functional.pad(images, padding)
            labels = _padded(labels, padding)
        return images, labels


def _with_maps(box: tuple[slice, ...], axes: int) -> tuple[slice, ...]:
    """The box in labels that have so many axes, those of their maps included."""
    return (slice(None),) * (axes - len(box)) + box


def _padded(labels: Tensor, padding: list[int]) -> Tensor:
    """Labels with voxels around them of which nothing is known."""
    axes = len(padding) // 2
    result = functional.pad(labels, padding, value=IGNORED if labels.ndim == axes else 0)
    if labels.ndim > axes:
        result[0] = functional.pad(labels[0], padding, value=IGNORED)
    return result


def _read(case: CachedCase, box: tuple[slice, ...] = ()) -> tuple[Tensor, Tensor]:
    """The image and the labels in the box, or whole."""
    with _readable(case):
        image, labels = case.image, case.labels
        arrays = (
            np.array(image[(slice(None), *box)]),
            np.array(labels[_with_maps(box, labels.ndim)]),
        )
    return torch.from_numpy(arrays[0]), torch.from_numpy(arrays[1])


@contextmanager
def _readable(case: CachedCase) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise DataError(
            "a prepared case can no longer be read",
            where=case.folder,
            got=error,
            hint="give the same command again: the case is prepared anew and the run goes on",
        ) from error


class Ahead:
    """Makes the batches of the next steps in a thread; `waited` adds up the time lost to it."""

    def __init__(self, batches: Batches, first: int) -> None:
        self._batches, self.steps_per_round = batches, batches.steps_per_round
        self._queue: queue.Queue[Any] = queue.Queue(maxsize=3)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(first,), daemon=True)
        self.waited = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        while not self._queue.empty():
            self._queue.get_nowait()
        self._thread.join(timeout=5)

    def _work(self, step: int) -> None:
        while not self._stop.is_set():
            try:
                item: Any = self._batches.make(step)
            except BaseException as error:  # noqa: BLE001 - raised again where it is awaited
                item = error
            while not self._stop.is_set():
                try:
                    self._queue.put(item, timeout=0.2)
                    break
                except queue.Full:
                    continue
            step += 1

    def next(self) -> tuple[Tensor, Tensor]:
        """The next step's batch. Raises whatever making it raised."""
        begun = perf_counter()
        item = self._queue.get()
        self.waited += perf_counter() - begun
        if isinstance(item, BaseException):
            raise item
        images, labels = item
        return images, labels
