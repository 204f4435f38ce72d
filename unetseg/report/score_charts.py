"""Charts of scores: how they spread, and what sizes have to do with them."""

import math
from collections.abc import Sequence

from unetseg.colours import RGB, of_value
from unetseg.evaluation import Evaluation
from unetseg.evaluation.comparison import LEADING
from unetseg.evaluation.wording import label_text
from unetseg.metrics import DISTANCES
from unetseg.pages.charts import INK_COLOUR, Axis, Group, Series, scatter, strips
from unetseg.pages.parts import Figure, Part, Section
from unetseg.pages.words import DASH, unit_text
from unetseg.records import Label

# More classes than this cannot be told apart by colour.
FEW = 7
# IoU is left out, which says in other numbers what Dice says.
_OF_CLASSES = ("dice", "surface_dice", "precision", "recall", "hd95", "assd")
_OF_OBJECTS = ("ap_0.5", "f1", "precision", "recall", "sq", "pq", "aji")
# From here on sizes are drawn on an axis of powers of ten.
_WIDE = 30.0


def distributions(found: Evaluation) -> Section:
    """A chart per metric with a row for each class; of objects one chart per class."""
    parts: list[Part] = []
    if found.are_objects:
        parts += [_of_objects(found, label) for label in found.labels]
    else:
        parts += [_of_classes(found, metric) for metric in _OF_CLASSES]
    return Section("Distribution", tuple(parts))


def colour_of(label: Label, *, are_objects: bool) -> RGB:
    """The colour that a class has everywhere; ink for all objects."""
    return INK_COLOUR if are_objects and not label.value else of_value(label.value)


def dashed(text: str) -> str:
    """The page's dash for the terminal's."""
    return DASH if text == "-" else text


def axis_of(found: Evaluation, metric: str, label: str = "") -> Axis:
    """Of a metric, with its unit where it has one."""
    unit = unit_text(found.unit) if metric in DISTANCES else ""
    return Axis(f"{label or metric}{f' ({unit})' if unit else ''}")


def _of_classes(found: Evaluation, metric: str) -> Figure:
    groups = [
        Group(label_text(label), _values(found, label, metric), of_value(label.value))
        for label in found.labels
    ]
    return strips(metric, groups, axis_of(found, metric), caption=_POINT)


def _of_objects(found: Evaluation, label: Label) -> Figure:
    metrics = [metric for metric in _OF_OBJECTS if metric in found.metrics]
    groups = [
        Group(metric, _values(found, label, metric), of_value(place))
        for place, metric in enumerate(metrics, start=1)
    ]
    title = "all objects" if not label.value else f"objects of class {label.name}"
    return strips(title, groups, Axis("score", 0.0, 1.0), caption=_POINT, is_wide=True)


_POINT = "A point is a case, the bar its median, the box the middle half."


def _values(found: Evaluation, label: Label, metric: str) -> tuple[float, ...]:
    return tuple(score[metric] for score in found.scores if score.label == label)


def sizes(found: Evaluation) -> tuple[Section, ...]:
    """True against predicted sizes or counts, and size against score; nothing of one case."""
    if len(found.pairs) < 2:
        return ()
    figures = _of_counts(found) if found.are_objects else _of_sizes(found)
    return (Section("Size against error", figures, "sizes"),)


def _of_counts(found: Evaluation) -> tuple[Figure, ...]:
    every = found.labels[0]
    true, predicted = (_values(found, every, metric) for metric in ("true", "predicted"))
    leading = LEADING[1]
    counted = Series("images", true, predicted, of_value(1))
    scored = Series("images", true, _values(found, every, leading), of_value(1))
    return (
        scatter(
            "Objects per image",
            [counted],
            Axis("true objects"),
            Axis("predicted objects"),
            caption="On the line as many were found as there are.",
            line="equal",
        ),
        scatter(
            f"{leading} and the number of objects", [scored], Axis("true objects"), Axis(leading)
        ),
    )


def _of_sizes(found: Evaluation) -> tuple[Figure, ...]:
    leading, unit = LEADING[0], unit_text(found.size_unit)
    counted, scored = [], []
    for label in found.labels[:FEW]:
        places = [place for place, score in enumerate(found.scores) if score.label == label]
        true, predicted = zip(*(found.sizes[place] for place in places), strict=True)
        scores = tuple(found.scores[place][leading] for place in places)
        name, colour = label_text(label), of_value(label.value)
        counted.append(Series(name, _positive(true), _positive(predicted), colour))
        scored.append(Series(name, _positive(true), scores, colour))
    every = [size for one in counted for side in (one.x, one.y) for size in side if size > 0]
    is_log = bool(every) and max(every) > _WIDE * min(every)
    size = f"({unit})" if unit else ""
    true_axis = Axis(f"true size {size}".strip(), is_log=is_log)
    more = "" if len(found.labels) <= FEW else f" The first {FEW} of {len(found.labels)} classes."
    return (
        scatter(
            "Predicted and true size",
            counted,
            true_axis,
            Axis(f"predicted size {size}".strip(), is_log=is_log),
            caption=f"On the line the size is right.{more}",
            line="equal",
        ),
        scatter(
            f"{leading} and size",
            scored,
            true_axis,
            Axis(leading),
            caption=f"Small things lose more by an edge that is a voxel off.{more}",
        ),
    )


def _positive(values: Sequence[float]) -> tuple[float, ...]:
    """Sizes; where there is nothing there is no point, which a logarithm would not show either."""
    return tuple(value if value > 0 else math.nan for value in values)
