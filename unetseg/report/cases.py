"""Pictures of the validation cases: the worst, those in the middle, and the best."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unetseg.config import DataPlan
from unetseg.dataset.object_classes import object_classes
from unetseg.errors import UnetsegError
from unetseg.pages.parts import Gallery, Notice, Part, Picture, Section
from unetseg.pages.slices import Look, picture_of
from unetseg.pages.thinning import shown
from unetseg.pages.words import number
from unetseg.records import Case, Mask
from unetseg.report.columns import areas
from unetseg.report.validation import Ranked, kept
from unetseg.runs import RunCases, RunRecord

# Where things go wrong there is more to be seen.
_WORST, _MIDDLE, _BEST = 6, 3, 3
# More scores than this say nothing below a picture.
_FEW_SCORES = 4


@dataclass(frozen=True)
class Chosen:
    """A case that is shown, by its row in the table, and why."""

    place: int
    why: str


def choose(cases: Ranked) -> tuple[Chosen, ...]:
    """The worst, median and best of those that have a score; all of them if they are few."""
    order = cases.scored
    count = len(order)
    if count <= _WORST + _MIDDLE + _BEST:
        last = {0: "worst", count // 2: "median", count - 1: "best"}
        return tuple(Chosen(place, last.get(rank, "")) for rank, place in enumerate(order))
    # Between the others, if they are not many more than these.
    middle = max(_WORST, min(count // 2 - _MIDDLE // 2, count - _BEST - _MIDDLE))
    groups = (
        ("worst", order[:_WORST]),
        ("median", order[middle : middle + _MIDDLE]),
        ("best", order[-_BEST:]),
    )
    return tuple(Chosen(place, why) for why, places in groups for place in places)


def pictures(record: RunRecord, cases: Ranked | None, found: RunCases) -> tuple[Section, ...]:
    """The section of the pictures, or what keeps it from being there.

    found : the validation cases that are still where they were
    """
    if cases is None or not cases.scored:
        return ()
    chosen, missing = choose(cases), []
    made: list[Picture] = []
    there = {case.name: case for case in found.cases}
    without_mask = [
        name for one in chosen if (name := cases.table.names[one.place]) not in record.masks
    ]
    for one in chosen:
        name = cases.table.names[one.place]
        if name not in there:
            continue
        try:
            made.append(_picture(record, cases, one, there[name]))
        except UnetsegError as error:
            missing.append(str(error))
    parts: list[Part] = []
    sentences = [f"Images are missing: {found.reason}."] if found.reason else []
    if without_mask and made:
        sentences.append(
            "Predicted masks are missing, only the truth is outlined: "
            + ("the run keeps none." if not record.masks else f"{', '.join(without_mask)}.")
        )
    sentences += [f"No picture: {sentence}." for sentence in missing]
    if sentences:
        parts.append(Notice(tuple(sentences), "warning"))
    if made:
        parts.append(Gallery(tuple(made), _caption(record.plan.data)))
    return (Section("Worst, median and best cases", tuple(parts), "pictures"),) if parts else ()


def _caption(data: DataPlan) -> str:
    if data.has_objects:
        return "From worst to best. What was found has the colour of the true object below."
    if data.dimensions == 2:
        return "From worst to best."
    return "From worst to best. The slice is the one with the most of the truth."


def _picture(record: RunRecord, cases: Ranked, one: Chosen, case: Case) -> Picture:
    data, name = record.plan.data, case.name
    predicted = record.masks.get(name)
    scan, (truth, found) = shown(case, (case.truth, predicted))
    if truth is not None and data.merge_labels:
        truth = replace(truth, array=(truth.array != 0).astype("uint8"))
    if truth is not None and data.has_objects:
        truth = _of_objects(truth, case.truth, data)
    if found is not None and data.has_objects:
        found = _of_objects(found, predicted, data)
    values = kept(cases.table)[one.place]
    score = f"{cases.table.score} {number(cases.scores[one.place])}"
    if 1 < len(values) <= _FEW_SCORES and not data.has_objects:
        each = zip(cases.table.columns, values, strict=True)
        score += f" ({', '.join(f'{column} {number(value)}' for column, value in each)})"
    look = Look(has_objects=data.has_objects, areas=() if data.has_objects else areas(data))
    caption = f"{f'{one.why}: ' if one.why else ''}{score} \u00b7 {name}"
    picture = picture_of(scan, truth, found, look=look, name=name, caption=caption)
    return replace(picture, anchor=f"case-{name}")


def _of_objects(mask: Mask, path: Path | None, data: DataPlan) -> Mask:
    """What is not known is left out; where objects have classes, each gets its own."""
    array = mask.array
    if data.ignore_value is not None:
        array = array.copy()
        array[array == data.ignore_value] = 0
    table = object_classes(path) if path is not None and len(data.class_names) > 2 else None
    values = dict(zip(data.class_names, data.class_values, strict=True))
    classes: Sequence[int] = ()
    if table:
        classes = [values.get(table.get(k, ""), 0) for k in range(1, max(table) + 1)]
    return replace(mask, array=array, classes=tuple(classes))
