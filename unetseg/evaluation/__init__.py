"""Scores of predicted masks against the truth: metrics per case and class or object, summaries."""

from collections.abc import Sequence
from pathlib import Path

from unetseg import geometry
from unetseg.config import DataPlan
from unetseg.errors import UsageError
from unetseg.evaluation.classes import FOREGROUND as FOREGROUND
from unetseg.evaluation.classes import Rules, score_classes, wanted
from unetseg.evaluation.comparison import Comparison as Comparison
from unetseg.evaluation.comparison import compare as compare
from unetseg.evaluation.objects import ObjectRules, score_objects
from unetseg.evaluation.outcome import Outcome as Outcome
from unetseg.evaluation.pairs import Pair
from unetseg.evaluation.pairs import groups_of as groups_of
from unetseg.evaluation.pairs import pair as pair
from unetseg.evaluation.results import COLUMNS as COLUMNS
from unetseg.evaluation.results import Evaluation as Evaluation
from unetseg.evaluation.results import to_json as to_json
from unetseg.evaluation.results import write_csv as write_csv
from unetseg.evaluation.summaries import Statistic as Statistic
from unetseg.evaluation.summaries import Summary as Summary
from unetseg.evaluation.summaries import summarise as summarise
from unetseg.evaluation.summary_file import write_summary as write_summary
from unetseg.metrics import checked_tolerance
from unetseg.metrics.objects import THRESHOLDS, checked_thresholds
from unetseg.metrics.resampling import Resampling as Resampling
from unetseg.planning.numbering import are_objects
from unetseg.records import Label, Listener, Note, ignore_event
from unetseg.regions import Region, fault


def evaluate(
    truth: Path,
    predicted: Path,
    *,
    labels: Sequence[Label] = (),
    regions: Sequence[Region] = (),
    data: DataPlan | None = None,
    ignore_value: int | None = None,
    tolerance: float | None = None,
    geometry_tolerance: float = geometry.TOLERANCE_VOXELS,
    merge_labels: bool = False,
    objects: bool | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
    listener: Listener = ignore_event,
) -> Evaluation:
    """Score predicted masks against the truth, each case in the unit of its truth.

    truth, predicted : two files, or two folders, see `pair`
    labels : the classes to score; by default every value other than 0 found in any of the masks
    regions : classes of several values to score instead, in both masks: a voxel is in a region if
        it has one of its values
    data : of the plan of a model: what it calls classes, regions, merged and ignored is scored so
    ignore_value : voxels where the truth has it belong to no class, neither in the truth nor in
        the predicted mask, so the edge of such a region is a surface of what it cuts through;
        elsewhere it counts as background. Of objects see `metrics.objects.matches`
    tolerance : of the surface Dice, in the unit of each case; by default the shortest edge of a
        voxel of the truth
    geometry_tolerance : how far voxels may lie apart, as a share of a voxel's edge
    merge_labels : all values other than 0 are one class, for instance where they number objects
    objects : whether the values number objects, which are matched one to one; None: as the model's
        task has it, or else as the true masks look, which is said
    thresholds : of the IoU, for the average precision of objects

    A class or region that is missing from both masks of a case has a score there too, with all
    metrics NaN. A case that fails is recorded, and the others are scored.

    Raises what `pair` raises, and UsageError for a tolerance that is negative or not finite, for
    thresholds that are none, for regions that do not fit one another, for two of labels, regions,
    data and `merge_labels`, or for one of the first two or the last with `objects`.
    """
    _check_asked(labels, regions, data, merged=merge_labels)
    if objects and (labels or regions or merge_labels):
        raise UsageError(
            "objects are matched whatever their values",
            hint="give no labels, regions or merged labels with them",
        )
    checked_thresholds(thresholds)
    if tolerance is not None:
        checked_tolerance(tolerance)
    if data is not None and ignore_value is None:
        ignore_value = data.ignore_value
    pairs = pair(truth, predicted, listener=listener)
    if objects is None and not (labels or regions or merge_labels):
        objects = _are_objects(pairs, data, ignore_value, listener)
    if objects:
        names = () if data is None else tuple(map(Label, data.class_values, data.class_names))
        rules = ObjectRules(ignore_value, geometry_tolerance, tuple(thresholds), names)
        return score_objects(pairs, rules, listener)
    if data is not None:
        regions = data.regions
        merge_labels = data.merge_labels or data.has_objects
        if not regions and not merge_labels:
            labels = tuple(map(Label, data.class_values, data.class_names))
    classes = wanted(labels, regions, ignore_value, merged=merge_labels)
    asked = Rules(classes, ignore_value, tolerance, geometry_tolerance, merge_labels)
    return score_classes(pairs, asked, listener)


def _are_objects(
    pairs: Sequence[Pair], data: DataPlan | None, ignore_value: int | None, listener: Listener
) -> bool:
    """Whether the values of the masks number objects, by the model's task or as the masks look."""
    if data is None:
        truths = [truth for _, truth, _ in pairs]
        others = [predicted for _, _, predicted in pairs]
        return are_objects(truths, others, "scored", ignore_value, listener)
    is_task = data.has_objects
    if is_task:
        listener(Note(f"scored as objects: the model's task is {data.task}"))
    return is_task


def _check_asked(
    labels: Sequence[Label], regions: Sequence[Region], data: DataPlan | None, *, merged: bool
) -> None:
    if merged and (labels or regions or data is not None):
        raise UsageError(
            "merged labels have no classes of their own", hint="give labels or merge them"
        )
    if bool(labels) + bool(regions) + (data is not None) > 1:
        raise UsageError(
            "labels, regions and a model each say what is scored", hint="give one of them"
        )
    if sentence := fault(regions):
        raise UsageError(sentence, where="regions")
