"""Where a model errs: classes it confuses, how sure it is of that, sizes, and objects."""

import math
from collections.abc import Sequence

import numpy as np

from unetseg.dataset.listing import counted
from unetseg.pages.charts import Axis, Series, lines, matrix, reliability, scatter
from unetseg.pages.parts import Facts, Figure, Notice, Part, Section, Table
from unetseg.pages.words import number
from unetseg.report.columns import FEW, colour, size_axis, size_noun
from unetseg.runs import AtIoU, Bin, Evidence, RunRecord

# More classes than this make a matrix that nobody reads; their table says the same.
_MOST_IN_MATRIX = 24
_HOLDING = "{} objects that hold at least half of each of several {} ones"


def mistakes(record: RunRecord) -> tuple[Section, ...]:
    """Confusion, calibration, sizes and, where there are any, objects; nothing without evidence."""
    evidence = record.evidence
    if evidence is None:
        return (Section("Mistakes", (Notice((_why_not(record),)),), "mistakes"),)
    parts: list[Part] = [*_matrix(evidence)]
    parts += [_calibration(evidence)] if evidence.calibration else []
    parts += _found_and_right(evidence)
    parts += _sizes(record, evidence) if evidence.kind != "objects" else []
    sections = [Section("Mistakes", tuple(parts), "mistakes")] if parts else []
    if evidence.objects:
        sections.insert(0, _objects(evidence))
    return tuple(sections)


def _why_not(record: RunRecord) -> str:
    missing = "Masks of the validation cases, confusion, calibration and sizes"
    if record.state == "running" or record.facts is None:
        return f"{missing} are written at the end of a training."
    return (
        f"{missing} are not here: the training was stopped before it wrote them, or it was trained"
        " by an earlier release."
    )


def _matrix(evidence: Evidence) -> list[Figure]:
    counts = np.array(evidence.confusion, dtype=np.int64)
    if not 0 < len(counts) <= _MOST_IN_MATRIX:
        return []
    caption = "Of each true class, the share of its voxels that became what."
    return [matrix("Confusion", evidence.classes, counts, caption=caption)]


def _found_and_right(evidence: Evidence) -> list[Table]:
    """How much of each class is found, and how much of what is found is right."""
    rows = []
    for name, table in zip(evidence.classes, evidence.regions, strict=False):
        (_, wrong), (missed, right) = table
        rows.append(_found(name, right, right + missed, right + wrong))
    counts = np.array(evidence.confusion, dtype=np.int64)
    for place, name in enumerate(evidence.classes if counts.size else ()):
        right, true = int(counts[place, place]), int(counts[place].sum())
        rows.append(_found(name, right, true, int(counts[:, place].sum())))
    first = "region" if evidence.kind == "regions" else "class"
    columns = (first, "recall", "precision", "true voxels", "predicted voxels")
    caption = (
        "All cases together. Recall: share of the true voxels that was found; precision: share of"
        " the predicted ones that is right."
    )
    return [Table(columns, tuple(rows), caption)] if rows else []


def _found(name: str, right: int, true: int, predicted: int) -> tuple[str, ...]:
    recall = right / true if true else math.nan
    precision = right / predicted if predicted else math.nan
    return name, number(recall), number(precision), f"{true:,}", f"{predicted:,}"


def calibration_error(bins: Sequence[Bin]) -> float:
    """The expected calibration error: mean distance of accuracy and confidence over the voxels.

    Source: Naeini et al. 2015, doi:10.1609/aaai.v29i1.9602.
    """
    total = sum(each.count for each in bins)
    if not total:
        return math.nan
    return sum(each.count * abs(each.accuracy - each.confidence) for each in bins) / total


def _calibration(evidence: Evidence) -> Figure:
    bins = evidence.calibration
    width = min(each.high - each.low for each in bins)
    places = max(1, round(1 / width))
    by_place = {min(places - 1, round(each.low * places)): each for each in bins}
    found = [by_place.get(place) for place in range(places)]
    if evidence.kind == "objects":
        axes, what = ("probability of the foreground", "is foreground"), "voxels"
    else:
        axes, what = ("probability of the answer given", "is right"), "answers"
    over, under = "surer than it is right", "less sure than it is right"
    mean = sum(b.count * (b.confidence - b.accuracy) for b in bins) / sum(b.count for b in bins)
    caption = (
        f"Expected calibration error {calibration_error(bins):.4f}. On the line, probabilities are"
        f" what they say; on the whole the model is {over if mean > 0 else under}, by"
        f" {abs(mean):.2%}. Below: the share of the {what} in each bin."
    )
    if evidence.kind == "objects":
        caption = (
            f"Expected calibration error {calibration_error(bins):.4f}. On the line, probabilities"
            " are what they say. Below: the share of the voxels in each bin."
        )
    return reliability(
        "Calibration",
        [math.nan if one is None else one.confidence for one in found],
        [math.nan if one is None else one.accuracy for one in found],
        [0 if one is None else one.count for one in found],
        caption=caption,
        axes=axes,
    )


def _sizes(record: RunRecord, evidence: Evidence) -> list[Part]:
    """Predicted against true size, and how wrong it is for small and for large ones."""
    names = evidence.foreground
    pairs = [[(c.true[k], c.predicted[k]) for c in evidence.cases] for k in range(len(names))]
    present = [[(t, p) for t, p in one if t > 0] for one in pairs]
    if not any(present):
        return []
    noun = size_noun(evidence)
    groups = list(zip(names, present, strict=True))
    if len(names) > FEW:
        groups = [("all classes", [pair for one in present for pair in one])]
    sizes = [size for _, one in groups for pair in one for size in pair if size > 0]
    x, y = (size_axis(evidence, sizes, which) for which in ("true", "predicted"))
    absolute, relative, gone = [], [], 0
    for name, one in groups:
        own = colour(record.plan.data, name)
        shown = [(t, p) for t, p in one if p > 0 or not y.is_log]
        gone += len(one) - len(shown)
        absolute.append(Series(name, tuple(t for t, _ in shown), tuple(p for _, p in shown), own))
        relative.append(
            Series(name, tuple(t for t, _ in one), tuple(p / t - 1 for t, p in one), own)
        )
    caption = "A point is a case; on the line both are the same."
    if gone:
        caption += f" {counted(gone, 'prediction')} of nothing at all cannot be shown here."
    return [
        scatter(
            f"Predicted and true {noun}",
            absolute,
            x,
            y,
            caption=caption,
            line="equal",
        ),
        scatter(
            f"Error of the {noun}",
            relative,
            x,
            Axis("predicted less true, share of true", is_share=True),
            caption="Above zero it is too large.",
            line="zero",
        ),
    ]


def _objects(evidence: Evidence) -> Section:
    """Objects found over the thresholds of the IoU, and those that were merged or split."""
    at = evidence.objects
    ious = tuple(one.iou for one in at)
    series = [
        Series("AP", ious, tuple(_share(one.tp, one.tp + one.fp + one.fn) for one in at)),
        Series("precision", ious, tuple(_share(one.tp, one.tp + one.fp) for one in at)),
        Series("recall", ious, tuple(_share(one.tp, one.tp + one.fn) for one in at)),
    ]
    counts = [case.objects for case in evidence.cases if case.objects is not None]
    parts: list[Part] = [
        lines(
            "Objects found",
            series,
            Axis("IoU that counts as found"),
            Axis("share", 0, 1),
            caption="Of the objects of all cases together. AP is TP / (TP + FP + FN).",
        )
    ]
    if counts:
        points = Series(
            "",
            tuple(float(one.true) for one in counts),
            tuple(float(one.predicted) for one in counts),
        )
        parts.append(
            scatter(
                "Objects in each case",
                [points],
                Axis("true objects"),
                Axis("predicted objects"),
                caption="A point is a case; on the line both are the same.",
                line="equal",
            )
        )
    parts.append(
        Table(
            ("IoU above", "TP", "FP", "FN", "AP", "precision", "recall"),
            _rows(at),
            "Objects of all cases together",
            is_sortable=False,
        )
    )
    if counts:
        merges, splits = sum(one.merges for one in counts), sum(one.splits for one in counts)
        rows = (
            ("true objects", f"{sum(one.true for one in counts):,}"),
            ("predicted objects", f"{sum(one.predicted for one in counts):,}"),
            ("merges", f"{merges:,}: {_HOLDING.format('predicted', 'true')}"),
            ("splits", f"{splits:,}: {_HOLDING.format('true', 'predicted')}"),
        )
        parts.append(Facts(rows))
    return Section("Objects", tuple(parts), "objects")


def _rows(at: Sequence[AtIoU]) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (
            f"{one.iou:g}",
            f"{one.tp:,}",
            f"{one.fp:,}",
            f"{one.fn:,}",
            number(_share(one.tp, one.tp + one.fp + one.fn)),
            number(_share(one.tp, one.tp + one.fp)),
            number(_share(one.tp, one.tp + one.fn)),
        )
        for one in at
    )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
