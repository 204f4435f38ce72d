"""Batches of patches: a pure function of seed and step, made ahead in a thread."""

import queue
import threading
from collections.abc import Sequence
from time import perf_counter
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unetseg.config import IGNORED, Plan
from unetseg.pipeline.cache import CachedCase

# Prepared cases are kept in memory while they take at most this share of what is free.
_MEMORY_SHARE = 0.4


class Batches:
    """Patches cut from prepared cases.

    Every case is seen equally often; a share of the patches is centred on a foreground voxel of
    a class drawn from those that the case holds.
    """

    def __init__(self, cases: Sequence[CachedCase], plan: Plan, memory_bytes: int) -> None:
        self._plan = plan
        self._cases = cases
        total = sum(case.image.nbytes + case.labels.nbytes for case in cases)
        self.in_memory = total <= _MEMORY_SHARE * memory_bytes
        self._arrays: list[tuple[NDArray[np.float32], NDArray[np.int16]]] = [
            (np.array(case.image), np.array(case.labels))
            if self.in_memory
            else (case.image, case.labels)
            for case in cases
        ]
        self._order = (-1, np.zeros(0, dtype=np.intp))

    def make(self, step: int) -> tuple[Tensor, Tensor]:
        """Images (B, C, *patch) float32 and class indices (B, *patch) int16 of a step."""
        batch, seed = self._plan.patch.batch, self._plan.training.seed
        rng = np.random.default_rng((seed, step))
        forced = round(batch * self._plan.training.foreground_share)
        samples = [
            self._patch(self._case(step * batch + i), rng, centred=i >= batch - forced)
            for i in range(batch)
        ]
        images, labels = zip(*samples, strict=True)
        return torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(labels))

    def _case(self, sample: int) -> int:
        """The case of the sample: a new random order of all cases each time round."""
        turn, place = divmod(sample, len(self._cases))
        if self._order[0] != turn:
            rng = np.random.default_rng((self._plan.training.seed, 1, turn))
            self._order = (turn, rng.permutation(len(self._cases)))
        return int(self._order[1][place])

    def _patch(
        self, index: int, rng: np.random.Generator, *, centred: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
        image, labels = self._arrays[index]
        size = self._plan.patch.size
        room = [max(0, n - p) for n, p in zip(labels.shape, size, strict=True)]
        start = [int(rng.integers(r + 1)) for r in room]
        locations = self._cases[index].locations
        if centred and len(locations):
            classes = np.unique(locations[:, 0])
            rows = locations[locations[:, 0] == rng.choice(classes)]
            voxel = rows[rng.integers(len(rows)), 1:]
            start = [
                int(np.clip(v - p // 2, 0, r)) for v, p, r in zip(voxel, size, room, strict=True)
            ]
        box = tuple(slice(a, a + p) for a, p in zip(start, size, strict=True))
        patch, truth = image[(slice(None), *box)], labels[box]
        missing = [p - n for p, n in zip(size, truth.shape, strict=True)]
        if any(missing):
            # A scan smaller than the patch lies somewhere inside it; the rest is not judged.
            before = [int(rng.integers(m + 1)) for m in missing]
            pads = [(b, m - b) for b, m in zip(before, missing, strict=True)]
            patch = np.pad(patch, [(0, 0), *pads])
            truth = np.pad(truth, pads, constant_values=IGNORED)
        return np.ascontiguousarray(patch), np.ascontiguousarray(truth)


class Ahead:
    """Makes the batches of the next steps in a thread; `waited` adds up the time lost to it."""

    def __init__(self, batches: Batches, first: int) -> None:
        self._batches = batches
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
