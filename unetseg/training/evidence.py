"""What the last validation leaves besides scores: masks, confusion, calibration, sizes, objects."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetseg.config import IGNORED, DataPlan, Plan
from unetseg.errors import DataError
from unetseg.exporting import table_path
from unetseg.exporting.tables import read_classes, write_classes
from unetseg.files import remove_unfinished, telling
from unetseg.formats import format_of, read_mask, write_mask
from unetseg.metrics.objects import THRESHOLDS, merges, splits
from unetseg.objects.codes import FOREGROUND_SCALE, FOREGROUND_SHIFT
from unetseg.records import Case, Label, Mask, Scan
from unetseg.runs.evidence import (
    EVIDENCE,
    MASKS,
    AtIoU,
    Bin,
    CaseEvidence,
    Confusion,
    Evidence,
    ObjectsFound,
)
from unetseg.runs.record import VALIDATION
from unetseg.tasks.cleaning import Indices
from unetseg.tasks.pieces import Piece
from unetseg.training.ranks import ALONE, Ranks
from unetseg.training.scores import Compared, TrueObjects

BINS = 20
_PREFIX = ".validation-"
_PART = 1 << 22


def mask_of(run: Path, case: Case, folder: str = MASKS) -> Path:
    """Where the mask of a case goes. A name with folders in it stands for folders."""
    suffix = format_of(case.images[0]).mask_suffix(case.images[0])
    return run / folder / f"{case.name}_seg{suffix}"


def write_case_mask(mask: Mask, path: Path, like: Scan, data: DataPlan) -> None:
    """Write a mask as predict would, with the table of its objects' classes where they have any."""
    write_mask(mask, path, like)
    if _has_table(data):
        write_classes(table_path(path), mask.classes, _labels(data))


def read_case_mask(path: Path, like: Scan, data: DataPlan) -> Mask:
    """A mask that `write_case_mask` has written, on the grid of its scan.

    Raises DataError if it, or the table of its objects' classes, is none.
    """
    array = read_mask(path, is_drawn=False).array
    if array.shape != like.geometry.shape:
        hint = "remove it: it is made again"
        raise DataError("is not on its scan's grid", where=path, hint=hint)
    if not data.has_objects:
        return Mask(array, like.geometry, _labels(data))
    classes = read_classes(table_path(path), _labels(data))[0] if _has_table(data) else ()
    return Mask(array, like.geometry, classes=classes)


def _has_table(data: DataPlan) -> bool:
    return data.has_objects and len(data.class_values) > 2


def _labels(data: DataPlan) -> tuple[Label, ...]:
    return tuple(map(Label, data.class_values, data.class_names))


@dataclass(eq=False)
class Calibration:
    """How often what is said with some probability is true.

    sums : (3, BINS) voxels, their probabilities, and those in which it is true
    """

    sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros((3, BINS)))

    def add(self, probability: NDArray[np.floating[Any]], is_true: NDArray[np.bool_]) -> None:
        """Count voxels, each with a probability in [0, 1]."""
        places = np.minimum((probability * BINS).astype(np.intp), BINS - 1)
        self.sums[1] += np.bincount(places, probability, BINS)
        places += BINS * is_true
        wrong, right = np.bincount(places, minlength=2 * BINS).reshape(2, BINS)
        self.sums[0] += wrong + right
        self.sums[2] += right

    def bins(self) -> tuple[Bin, ...]:
        return tuple(
            Bin(place / BINS, (place + 1) / BINS, round(count), total / count, true / count)
            for place, (count, total, true) in enumerate(self.sums.T.tolist())
            if count
        )


@dataclass(eq=False)
class Gathering:
    """Evidence as a validation goes on, case by case; nothing as large as a scan is held.

    plan : of the model
    """

    plan: Plan
    calibration: Calibration = field(default_factory=Calibration)
    _rows: list[list[float]] = field(default_factory=list)
    _table: NDArray[np.int64] = field(init=False)
    _objects: NDArray[np.float64] = field(init=False)
    unit: str = ""

    def __post_init__(self) -> None:
        kinds = len(self.plan.data.label_values)
        self._table = np.zeros((kinds, kinds), np.int64)
        self._objects = np.zeros(3 * len(THRESHOLDS))

    def watched(self, pieces: Iterable[Piece], truth: Indices) -> Iterator[Piece]:
        """The pieces, with probabilities; what they say is counted as they pass.

        truth : (*S) class indices
        """
        members = self.plan.data.members[1:] if self.plan.data.regions else ()
        for piece in pieces:
            maps = piece.probabilities
            if maps is None:
                raise ValueError("a piece without probabilities")
            true = truth[piece.box]
            known = true != IGNORED
            # Most truths are known everywhere: then nothing is picked.
            kept = slice(None) if known.all() else known
            true = true[kept].ravel()
            if not members:
                is_right = piece.indices[kept].ravel() == true
                self.calibration.add(maps[0][kept].ravel(), is_right)
            for probability, values in zip(maps, members, strict=False):
                inside, is_in = probability[kept].ravel(), np.isin(true, values)
                self.calibration.add(np.maximum(inside, 1 - inside), (inside > 0.5) == is_in)
            yield piece

    def watch_codes(self, codes: Indices, truth: TrueObjects) -> None:
        """Count the foreground's probabilities of a whole scan.

        codes : (*S), as of objects.codes
        """
        flat, ids = codes.reshape(-1), truth.ids.reshape(-1)
        ignored = None if truth.ignored is None else truth.ignored.reshape(-1)
        for start in range(0, len(flat), _PART):
            part = slice(start, start + _PART)
            levels = flat[part].astype(np.int64) >> FOREGROUND_SHIFT & FOREGROUND_SCALE
            is_in = ids[part] != 0
            if ignored is not None:
                levels, is_in = levels[~ignored[part]], is_in[~ignored[part]]
            self.calibration.add(levels / FOREGROUND_SCALE, is_in)

    def add(self, mask: Mask, compared: Compared, *, is_kept: bool) -> None:
        """Take in a case whose mask is done; cases come in their order.

        is_kept : the mask is on disk
        """
        data, table = self.plan.data, compared.table
        self._table += table
        members = [list(indices) for indices in data.members[1:]]
        voxel = prod(mask.geometry.spacing)
        self.unit = f"{mask.geometry.unit}^{mask.geometry.ndim}"
        row = [float(is_kept)]
        row += [int(table[indices].sum()) * voxel for indices in members]
        row += [int(table[:, indices].sum()) * voxel for indices in members]
        found = compared.matches
        if found is not None:
            self._objects += compared.row
            row += [len(found.true_ids), len(found.predicted_ids), merges(found), splits(found)]
        self._rows.append(row)

    def evidence(
        self, cases: Sequence[Case], folder: str = MASKS, ranks: Ranks = ALONE
    ) -> Evidence:
        """The evidence of all cases, of which every rank has taken in its own.

        folder : of the masks, in the run folder
        """
        data = self.plan.data
        parts = [self._table.ravel(), self.calibration.sums.ravel(), self._objects]
        ends = np.cumsum([len(part) for part in parts])
        sums = ranks.gathered([np.concatenate(parts).tolist()], (ranks.count, int(ends[-1])))
        tables, bins, objects = np.split(sums.sum(axis=0), ends[:-1])
        table = tables.astype(np.int64).reshape(self._table.shape)
        classes = len(data.class_values) - 1
        width = 1 + 2 * classes + (4 if data.has_objects else 0)
        rows = ranks.gathered(self._rows, (len(cases), width)).tolist()
        whole = Evidence(
            kind="classes",
            classes=data.class_names,
            confusion=_plain(table),
            regions=(),
            calibration=Calibration(bins.reshape(3, BINS)).bins(),
            unit=self.unit,
            cases=tuple(
                _case(case, row, classes, folder) for case, row in zip(cases, rows, strict=True)
            ),
        )
        if data.has_objects:
            counts = objects.reshape(-1, 3).tolist()
            at = tuple(AtIoU(u, *map(round, n)) for u, n in zip(THRESHOLDS, counts, strict=True))
            return replace(whole, kind="objects", objects=at)
        if data.regions:
            regions = tuple(_plain(_inside(table, each)) for each in data.members[1:])
            names = data.class_names[1:]
            return replace(whole, kind="regions", classes=names, confusion=(), regions=regions)
        return whole


def _plain(table: NDArray[np.int64]) -> Confusion:
    return tuple(tuple(map(int, row)) for row in table)


def _inside(table: NDArray[np.int64], members: Sequence[int]) -> NDArray[np.int64]:
    """(2, 2) voxels outside and inside of a region, in the truth and predicted."""
    is_in = np.isin(np.arange(len(table)), members)
    sides = (~is_in, is_in)
    return np.array([[table[np.ix_(a, b)].sum() for b in sides] for a in sides])


def _case(case: Case, row: Sequence[float], classes: int, folder: str) -> CaseEvidence:
    kept, *numbers = row
    sizes, rest = numbers[: 2 * classes], numbers[2 * classes :]
    mask = mask_of(Path(), case, folder).as_posix() if kept else ""
    objects = ObjectsFound(*map(round, rest)) if rest else None
    return CaseEvidence(case.name, mask, tuple(sizes[:classes]), tuple(sizes[classes:]), objects)


# --- masks ----------------------------------------------------------------------------------------


@dataclass(eq=False)
class Leaving:
    """What a validation is to leave: evidence, and masks in a hidden folder until it is chosen.

    fault : why a mask could not be written; that costs the masks, not the training
    """

    run: Path
    name: str
    gathering: Gathering
    fault: str = ""

    @property
    def folder(self) -> str:
        return f"{_PREFIX}{self.name}"

    def take(self, case: Case, mask: Mask, compared: Compared, like: Scan) -> None:
        """Write the mask of a case and take in what it shows."""
        if not self.run.is_dir():
            self.fault = "a process does not see the run folder"
        if not self.fault:
            try:
                path = mask_of(self.run, case, self.folder)
                write_case_mask(mask, path, like, self.gathering.plan.data)
            except DataError as error:
                self.fault = str(error)
        self.gathering.add(mask, compared, is_kept=not self.fault)

    def show(self) -> None:
        """Let the masks appear, in the place of those that were there.

        Raises DataError if that is not possible.
        """
        shutil.rmtree(self.run / MASKS, ignore_errors=True)
        with telling(self.run / MASKS):
            if (self.run / self.folder).is_dir():
                (self.run / self.folder).rename(self.run / MASKS)


def remove_evidence(run: Path) -> None:
    """Remove what belongs to a model that is about to be replaced: first what speaks of masks."""
    (run / EVIDENCE).unlink(missing_ok=True)
    (run / VALIDATION).unlink(missing_ok=True)
    shutil.rmtree(run / MASKS, ignore_errors=True)


def remove_unchosen(run: Path) -> None:
    """Remove what validations have left that were not chosen, or were killed."""
    for folder in run.glob(f"{_PREFIX}*"):
        shutil.rmtree(folder, ignore_errors=True)
    remove_unfinished(run)
