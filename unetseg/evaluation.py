"""Scores of predicted masks against the truth: pairing, metrics per case and class, summaries."""

import csv
import math
import os
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unetseg import geometry
from unetseg.dataset.listing import composed, listed, natural, some
from unetseg.dataset.pairing import without_mask_word
from unetseg.errors import DataError, DeviceError, UnetsegError, UsageError
from unetseg.files import replacing
from unetseg.formats import is_readable, read_mask, split_name
from unetseg.metrics import DISTANCES, METRICS, checked_tolerance, class_boxes, score
from unetseg.records import Advance, CaseScore, Label, Listener, Note, Stage, ignore_event

FOREGROUND = Label(1, "foreground")
COLUMNS = ("case", "label", "name", "unit", "tolerance", *METRICS)

_UNDEFINED = tuple((metric, math.nan) for metric in METRICS)


@dataclass(frozen=True)
class Evaluation:
    """The scores of a set of cases, and the cases that have none.

    scores : one per case and class, cases in the order of their pairs, classes in that of `labels`
    tolerances : of the surface Dice, one for each score and in its unit
    labels : the classes that were scored
    failures : name of a case, and what kept it from being scored
    """

    scores: tuple[CaseScore, ...]
    tolerances: tuple[float, ...]
    labels: tuple[Label, ...]
    failures: tuple[tuple[str, UnetsegError], ...] = ()

    @property
    def unit(self) -> str:
        """The unit of all distances; empty if there are none or the cases have different ones."""
        units = {case_score.unit for case_score in self.scores}
        return units.pop() if len(units) == 1 else ""

    @property
    def tolerance(self) -> float | None:
        """The tolerance that all cases share, None if there is no such number."""
        return self.tolerances[0] if len(set(self.tolerances)) == 1 else None


@dataclass(frozen=True)
class Statistic:
    """A metric over a number of case scores, of which only the defined ones count.

    sd : with n - 1 in the denominator; NaN for fewer than two defined scores
    defined : how many scores are not NaN
    cases : how many scores there are
    """

    metric: str
    mean: float
    sd: float
    median: float
    minimum: float
    maximum: float
    defined: int
    cases: int


@dataclass(frozen=True)
class Summary:
    """All metrics of one class over the cases, or of all classes together.

    label : None for all classes together, where every class of every case counts once
    """

    label: Label | None
    statistics: tuple[Statistic, ...]

    def __getitem__(self, metric: str) -> Statistic:
        return {statistic.metric: statistic for statistic in self.statistics}[metric]


def pair(
    truth: Path, predicted: Path, *, listener: Listener = ignore_event
) -> tuple[tuple[str, Path, Path], ...]:
    """Name, truth and predicted mask of each case, in the natural order of the names.

    truth, predicted : two files, or two folders whose files are paired by name

    A name is a file's stem without `_seg`, `_mask` and their like at its end. Sub-folders and
    hidden files are left out; so are predicted masks without a truth, with a note.

    Raises UsageError for a file and a folder; DataError if one does not exist or holds no masks,
    if two files of a folder have the same name, or if a truth has no predicted mask.
    """
    truth, predicted = Path(truth), Path(predicted)
    if _is_folder(truth) != _is_folder(predicted):
        raise UsageError(
            "a file and a folder cannot be compared",
            expected="two files or two folders",
            got=f"{truth} and {predicted}",
        )
    if not _is_folder(truth):
        return ((_case_name(truth), truth, predicted),)
    truths, others = _masks_by_name(truth), _masks_by_name(predicted)
    missing = [truths[name].name for name in truths if name not in others]
    if missing:
        raise DataError(
            f"no predicted mask for {len(missing)} of {len(truths)} truths: {some(missing)}",
            where=predicted,
            hint="predict these cases or take their truth away",
        )
    spare = [
        others[name].name
        for name in others
        # What predict writes beside its masks.
        if name not in truths and not name.endswith(("_overlay", "_prob"))
    ]
    if spare:
        listener(
            Note(f"{len(spare)} of {len(others)} predicted masks have no truth: {some(spare)}")
        )
    return tuple((name, truths[name], others[name]) for name in truths)


def evaluate(
    truth: Path,
    predicted: Path,
    *,
    labels: Sequence[Label] = (),
    ignore_value: int | None = None,
    tolerance: float | None = None,
    geometry_tolerance: float = geometry.TOLERANCE_VOXELS,
    merge_labels: bool = False,
    listener: Listener = ignore_event,
) -> Evaluation:
    """Score predicted masks against the truth, each case in the unit of its truth.

    truth, predicted : two files, or two folders, see `pair`
    labels : the classes to score; by default every value other than 0 found in any of the masks
    ignore_value : voxels where the truth has it belong to no class, neither in the truth nor in
        the predicted mask, so the edge of such a region is a surface of what it cuts through;
        elsewhere it counts as background
    tolerance : of the surface Dice, in the unit of each case; by default the shortest edge of a
        voxel of the truth
    geometry_tolerance : how far voxels may lie apart, as a share of a voxel's edge
    merge_labels : all values other than 0 are one class, for instance where they number objects

    A class that is missing from both masks of a case has a score there too, with all metrics NaN.
    A case that fails is recorded, and the others are scored.

    Raises what `pair` raises, and UsageError for a tolerance that is negative or not finite or
    for labels together with `merge_labels`.
    """
    if merge_labels and labels:
        raise UsageError(
            "merged labels have no classes of their own", hint="give labels or merge them"
        )
    if tolerance is not None:
        checked_tolerance(tolerance)
    wanted = (FOREGROUND,) if merge_labels else _without_background(labels, ignore_value)
    rules = _Rules(wanted, ignore_value, tolerance, geometry_tolerance, merge_labels)
    pairs = pair(truth, predicted, listener=listener)
    listener(Stage("evaluating", len(pairs)))
    scored: list[tuple[str, _PairScores]] = []
    failures: list[tuple[str, UnetsegError]] = []
    # Closed at once if the listener raises, so that the waiting pairs are not read any more.
    with closing(_outcomes(pairs, rules)) as outcomes:
        for (name, _, _), outcome in zip(pairs, outcomes, strict=True):
            if isinstance(outcome, UnetsegError):
                failures.append((name, outcome))
            else:
                scored.append((name, outcome))
            listener(Advance(name))
    found = {label.value: label for _, case in reversed(scored) for label in case.found}
    classes = wanted or tuple(found[value] for value in sorted(found))
    _note_classes(classes, found, listener)
    return Evaluation(
        tuple(
            CaseScore(name, label, case.unit, case.values.get(label.value, _UNDEFINED))
            for name, case in scored
            for label in classes
        ),
        tuple(case.tolerance for _, case in scored for _ in classes),
        classes,
        tuple(failures),
    )


def summarise(evaluation: Evaluation) -> tuple[Summary, ...]:
    """One summary per class, and a last one over all classes.

    Distances in different units have no mean: they count as undefined.
    """
    every = evaluation.scores
    by_class = [(label, [s for s in every if s.label == label]) for label in evaluation.labels]
    return tuple(
        Summary(
            label,
            tuple(_statistic(metric, scores, one_unit=bool(evaluation.unit)) for metric in METRICS),
        )
        for label, scores in [*by_class, (None, list(every))]
    )


def to_json(evaluation: Evaluation) -> list[dict[str, str | int | float | None]]:
    """One row per case and class with the keys of COLUMNS; None where a metric is undefined."""
    return [
        {
            "case": found.case,
            "label": found.label.value,
            "name": found.label.name,
            "unit": found.unit,
            "tolerance": tolerance,
            **{metric: None if math.isnan(value) else value for metric, value in found.values},
        }
        for found, tolerance in zip(evaluation.scores, evaluation.tolerances, strict=True)
    ]


def write_csv(evaluation: Evaluation, path: Path) -> None:
    """Write one row per case and class, atomically; an empty cell where a metric is undefined.

    Raises DataError if the file cannot be written.
    """
    with (
        replacing(path) as temporary,
        # A file name on Linux may be no valid text; its case must not cost the others their rows.
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream,
    ):
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(to_json(evaluation))


@dataclass(frozen=True)
class _Rules:
    """What `evaluate` was asked for; `labels` is empty if the classes follow from the masks."""

    labels: tuple[Label, ...]
    ignore_value: int | None
    tolerance: float | None
    geometry_tolerance: float
    merge_labels: bool


@dataclass(frozen=True)
class _PairScores:
    """Scores by value, for those that are in at least one of the two masks.

    found : these values with their names, and the values that nobody asked for
    """

    unit: str
    tolerance: float
    values: Mapping[int, tuple[tuple[str, float], ...]]
    found: tuple[Label, ...]


def _is_folder(path: Path) -> bool:
    if not path.exists():
        raise DataError("does not exist", where=path, hint="check the path")
    return path.is_dir() and not is_readable(path)


def _case_name(path: Path) -> str:
    name = composed(split_name(path)[0])
    # More than once: what predict makes of a scan called lung_seg is lung_seg_seg.
    while shorter := without_mask_word(name):
        name = shorter
    return name


def _masks_by_name(folder: Path) -> dict[str, Path]:
    listing = listed(folder)
    named: dict[str, list[Path]] = {}
    # A link that leads nowhere is a case that fails, not one that was never there.
    for path in sorted(listing.images + listing.broken, key=lambda path: natural(path.name)):
        named.setdefault(_case_name(path), []).append(path)
    if not named:
        raise DataError("no masks in this folder", where=folder, hint="check the path")
    for name, paths in named.items():
        if len(paths) > 1:
            raise DataError(
                f"{len(paths)} masks for the name {name}: {some(path.name for path in paths)}",
                where=folder,
                hint="give a folder that holds one mask per case and nothing else",
            )
    return {name: paths[0] for name, paths in named.items()}


def _without_background(labels: Sequence[Label], ignore_value: int | None) -> tuple[Label, ...]:
    return tuple(label for label in labels if label.value not in (0, ignore_value))


def _note_classes(classes: Sequence[Label], found: Mapping[int, Label], listener: Listener) -> None:
    unasked = sorted(set(found) - {label.value for label in classes})
    if unasked:
        text = f"values that are not among the labels are not scored: {some(map(str, unasked))}"
        listener(Note(text, "warning"))
    if not classes:
        listener(Note("no mask holds a value other than 0: nothing to score", "warning"))


def _outcomes(
    pairs: Sequence[tuple[str, Path, Path]], rules: _Rules
) -> Generator[_PairScores | UnetsegError, None, None]:
    """Scores or failure of each pair, in order, computed on all cores."""
    # Threads suffice: reading and the distance transform release the interpreter lock.
    with ThreadPoolExecutor(min(_cores(), len(pairs))) as executor:
        yield from executor.map(lambda files: _outcome(files[1], files[2], rules), pairs)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _outcome(truth: Path, predicted: Path, rules: _Rules) -> _PairScores | UnetsegError:
    try:
        return _scored(truth, predicted, rules)
    except UnetsegError as error:
        return error
    except MemoryError:
        return DeviceError("too large to be scored in the free memory", where=predicted)


def _scored(truth_path: Path, predicted_path: Path, rules: _Rules) -> _PairScores:
    truth, predicted = read_mask(truth_path), read_mask(predicted_path, is_drawn=False)
    differences = truth.geometry.differences(predicted.geometry, tolerance=rules.geometry_tolerance)
    if differences:
        raise DataError(
            f"does not lie on its truth: {'; '.join(differences)}",
            where=predicted_path,
            hint=f"compare masks of the same grid as {truth_path.name}",
        )
    of_truth, of_predicted = truth.array, predicted.array
    if rules.ignore_value is not None:
        ignored = of_truth == rules.ignore_value
        of_truth = np.where(ignored, 0, of_truth)
        of_predicted = np.where(ignored | (of_predicted == rules.ignore_value), 0, of_predicted)
    if rules.merge_labels:
        of_truth, of_predicted = ((array != 0).view(np.uint8) for array in (of_truth, of_predicted))
    spacing = truth.geometry.spacing
    tolerance = min(spacing) if rules.tolerance is None else rules.tolerance
    boxes = class_boxes(of_truth, of_predicted)
    asked = {label.value for label in rules.labels} or set(boxes)
    values = {
        value: score(
            of_truth[box] == value, of_predicted[box] == value, spacing, tolerance=tolerance
        )
        for value, box in boxes.items()
        if value in asked
    }
    names = {label.value: label for label in (*predicted.labels, *truth.labels, *rules.labels)}
    return _PairScores(
        truth.geometry.unit,
        tolerance,
        values,
        tuple(names.get(value, Label(value, str(value))) for value in boxes),
    )


def _statistic(metric: str, scores: Sequence[CaseScore], *, one_unit: bool) -> Statistic:
    values = np.array([found[metric] for found in scores], dtype=np.float64)
    if metric in DISTANCES and not one_unit:
        values[:] = math.nan
    defined = values[~np.isnan(values)]
    whole = defined if defined.size else np.array([math.nan])
    return Statistic(
        metric,
        mean=float(whole.mean()),
        sd=float(defined.std(ddof=1)) if defined.size > 1 else math.nan,
        median=float(np.median(whole)),
        minimum=float(whole.min()),
        maximum=float(whole.max()),
        defined=int(defined.size),
        cases=len(scores),
    )
