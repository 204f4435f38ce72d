"""What the scores of a run are scores of: how it is called, and in which colour it is drawn."""

from collections.abc import Sequence
from math import inf, isnan

from unetseg.colours import RGB, of_value
from unetseg.config import DataPlan
from unetseg.pages.charts import Axis
from unetseg.pages.slices import Area
from unetseg.pages.words import unit_text
from unetseg.runs import Evidence, RunRecord

# More lines than this in a chart cannot be told apart.
FEW = 7
# The largest size is so many times the smallest.
_MUCH = 20


def title(record: RunRecord, column: str) -> str:
    """A class by its name; an IoU as such."""
    return f"IoU {column}" if record.score == "AP" else column


def colour(data: DataPlan, name: str) -> RGB | None:
    """The colour that a class has everywhere; None if it is none."""
    values = dict(zip(data.class_names, data.class_values, strict=True))
    return of_value(values[name]) if name in values else None


def areas(data: DataPlan) -> tuple[Area, ...]:
    """What is outlined in pictures: each class or region."""
    if data.regions:
        written = dict(zip(data.class_names, data.class_values, strict=True))
        return tuple(
            Area(region.name, region.values, of_value(written[region.name]))
            for region in data.regions
        )
    pairs = zip(data.class_names[1:], data.class_values[1:], strict=True)
    return tuple(Area(name, (value,), of_value(value)) for name, value in pairs)


def nan_last(value: float) -> float:
    """A key for sorting in which what is undefined comes last."""
    return inf if isnan(value) else value


def size_axis(evidence: Evidence, sizes: Sequence[float], which: str = "true") -> Axis:
    """The axis of sizes, by powers of ten where they differ much.

    sizes : above 0
    """
    unit = unit_text(evidence.unit)
    label = f"{which} {size_noun(evidence)}{f', {unit}' if unit else ''}"
    return Axis(label, is_log=max(sizes) > _MUCH * min(sizes))


def size_noun(evidence: Evidence) -> str:
    """Volume or area, where the unit says so."""
    return {"3": "volume", "2": "area"}.get(evidence.unit[-1:], "size")
