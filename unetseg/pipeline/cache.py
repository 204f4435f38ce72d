"""Prepared cases on disk, each under a name made from all that shapes it.

A changed plan, a changed file or a changed pipeline gives another name, so nothing stale is used.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetseg.config import IGNORED, Plan, to_values
from unetseg.dataset.loading import load_scan, load_truth, with_channels
from unetseg.dataset.object_classes import class_table, object_classes
from unetseg.errors import DataError, UnetsegError
from unetseg.pipeline import prepare, prepare_truth
from unetseg.records import AS_IT_IS, Advance, Case, Listener, Note, Stage

# Raise it when prepared arrays change for the same plan and files.
_VERSION = 4
_LOCATIONS_PER_CLASS = 5000
_FILES = ("image.npy", "labels.npy", "locations.npy")


@dataclass(frozen=True)
class CachedCase:
    """A prepared case on disk; its arrays are mapped anew each time they are asked for."""

    case: Case
    folder: Path

    @property
    def image(self) -> NDArray[np.float32]:
        """(C, *S) on the plan's grid."""
        mapped: NDArray[np.float32] = np.load(self.folder / "image.npy", mmap_mode="r")
        return mapped

    @property
    def labels(self) -> NDArray[np.int16]:
        """(*S) class indices on the plan's grid; of objects (3, *S), see pipeline.objects."""
        mapped: NDArray[np.int16] = np.load(self.folder / "labels.npy", mmap_mode="r")
        return mapped

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Voxels per axis of the plan's grid."""
        return self.image.shape[1:]

    @cached_property
    def locations(self) -> NDArray[np.int32]:
        """(N, 1 + axes): class index and voxel of foreground samples, sorted by class.

        In a case with ignored voxels, index 0 stands for samples of all that is known.
        """
        array: NDArray[np.int32] = np.load(self.folder / "locations.npy")
        return array


def key(case: Case, plan_values: dict[str, Any]) -> str:
    """The name of a prepared case: a hash of the plan's data section and the files' identity."""
    files = []
    for path in (*case.images, *_truth_files(case)):
        stat = path.stat()
        # ctime changes with every write, even where size and mtime were set back.
        identity = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        files.append([str(path.resolve()), *identity])
    parts = [_VERSION, plan_values["data"], files]
    if case.view != AS_IT_IS:
        parts.append(asdict(case.view))
    text = json.dumps(parts, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _truth_files(case: Case) -> tuple[Path, ...]:
    """The mask, and the table of its objects' classes, of those that are there."""
    if case.truth is None:
        return ()
    table = class_table(case.truth)
    return (case.truth,) if table is None else (case.truth, table)


def _locations(labels: NDArray[np.int16], seed: int) -> NDArray[np.int32]:
    rng = np.random.default_rng(seed)
    parts = [np.zeros((0, 1 + labels.ndim), dtype=np.int32)]
    # Where little is known, patches that need no foreground have to be looked for as well.
    any_known = [0] if (labels == IGNORED).any() else []
    for index in [*any_known, *np.unique(labels[labels > 0])]:
        found = np.flatnonzero(labels == index if index else labels != IGNORED)
        if len(found) > _LOCATIONS_PER_CLASS:
            found = np.sort(rng.choice(found, _LOCATIONS_PER_CLASS, replace=False))
        voxels = np.stack(np.unravel_index(found, labels.shape), axis=1)
        parts.append(np.column_stack([np.full(len(found), index), voxels]).astype(np.int32))
    return np.concatenate(parts)


def _is_whole(folder: Path) -> bool:
    return all((folder / name).is_file() for name in _FILES)


def _write(case: Case, plan: Plan, folder: Path) -> None:
    scan = with_channels(load_scan(case), plan.data.channels)
    truth = load_truth(case, scan.geometry)
    prepared = prepare(scan, plan.data)
    classes = object_classes(case.truth) if case.truth and plan.data.has_objects else None
    truth_on_grid = prepare_truth(truth, plan.data, prepared.placement, classes)
    labels = truth_on_grid.numpy().astype(np.int16)
    indices = labels[0] if plan.data.has_objects else labels
    # Two trainings may prepare the same case at the same time, each in a folder of its own.
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        np.save(temporary / "image.npy", prepared.image.numpy())
        np.save(temporary / "labels.npy", labels)
        np.save(temporary / "locations.npy", _locations(indices, plan.training.seed))
        if not _is_whole(folder):
            shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    except OSError as error:
        if _is_whole(folder):
            # The other training was faster.
            return
        raise DataError(
            f"a prepared case cannot be written: {error.strerror or error}",
            where=folder,
            hint="free some space or give another --cache folder",
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def prepare_cases(
    cases: Sequence[Case],
    plan: Plan,
    folder: Path,
    *,
    cores: int,
    skip_bad: bool,
    listener: Listener,
) -> tuple[CachedCase, ...]:
    """Prepare the cases that are not in the cache yet, on all cores.

    Raises the first case's error, unless `skip_bad`: then the case is left out and named.
    """
    values = to_values(plan)

    def one(case: Case) -> CachedCase | UnetsegError:
        try:
            target = folder / key(case, values)
            if not _is_whole(target):
                _write(case, plan, target)
            return CachedCase(case, target)
        except UnetsegError as error:
            return error
        except OSError as error:
            return DataError(f"cannot be read: {error.strerror}", where=case.images[0])

    listener(Stage("preparing", len(cases)))
    done = []
    with ThreadPoolExecutor(max(1, cores)) as pool:
        for case, outcome in zip(cases, pool.map(one, cases), strict=True):
            listener(Advance(case.name))
            if isinstance(outcome, CachedCase):
                done.append(outcome)
            elif skip_bad:
                listener(Note(f"left out {case.name}: {outcome}", "warning"))
            else:
                raise outcome
    return tuple(done)
