"""What a network shall name: the task, the classes or regions, and the values of the masks."""

from collections.abc import Sequence

from unetseg.config import OBJECT_TASKS
from unetseg.errors import UsageError
from unetseg.planning.choices import Choices
from unetseg.planning.fingerprint import Fingerprint
from unetseg.regions import Region, fault, label_values, larger_first, written_values
from unetseg.registry import TASKS

_REGIONS, _VALUES = "data.regions", "data.class_values"


def take_task(choices: Choices, found: Fingerprint) -> None:
    """Choose data.task. Raises UsageError if there is none of that name."""
    regions = choices.overrides.get(_REGIONS, found.regions)
    usual, why = "semantic", "every voxel gets a class"
    asked = {"data.merge_labels", _VALUES} & choices.overrides.keys()
    if found.looks_like_objects and not asked:
        usual = "instances"
        why = "the ids differ from image to image: each is an object; semantic sees one class"
        if found.objects is not None:
            why += f"; {found.objects.sentence(found.unit)}"
    if regions:
        usual, why = "regions", f"{len(regions)} regions of label values, which may overlap"
    task = choices.take("data.task", usual, why)
    if task not in TASKS:
        TASKS.load(task)


def take_classes(choices: Choices, found: Fingerprint) -> None:
    """Choose what the values in the mask files mean.

    Raises UsageError if the regions do not fit one another or have values that no mask holds.
    """
    ignore = choices.take("data.ignore_value", found.ignore_value, "left out of loss and metrics")
    values = [v for v, _ in found.label_counts if v not in (0, ignore)]
    regions = _regions(choices, found, values)
    if choices.values["data.task"] in OBJECT_TASKS:
        if len(values) == 1 and found.cases > 1:
            raise UsageError(
                "every mask holds the same one value, so nothing keeps objects apart",
                where="data.task",
                expected="masks with a number of its own for each object",
                got=f"0 and {values[0]}",
                hint="number the objects, or train with --task semantic",
            )
        choices.take("data.merge_labels", value=False, reason="ids keep objects apart")
        _object_classes(choices, found)
        return
    merge = choices.take(
        "data.merge_labels",
        found.looks_like_objects and not regions,
        "the ids differ from image to image: objects, seen as one class"
        if found.looks_like_objects and not regions
        else "label values name classes",
    )
    if regions:
        _region_classes(choices, found, regions, values)
        return
    names = {label.value: label.name for label in found.label_names}
    if merge:
        # The one value is kept where there is only one (0/255), objects become 1.
        values = values if len(values) == 1 else [1]
        names = {values[0]: "foreground"} if values else {}
    taken = choices.take(_VALUES, (0, *values), "the values in the mask files")
    choices.take(
        "data.class_names",
        tuple(names.get(v, "background" if v == 0 else f"label {v}") for v in taken),
        "from dataset.json" if names and not merge else "nobody named them; rename them here",
    )


def _object_classes(choices: Choices, found: Fingerprint) -> None:
    names, why = found.object_classes, "from the tables of classes beside the masks"
    if not names or choices.values["data.task"] == "borders":
        names, why = ("object",), "objects are of one class; rename it here"
    choices.take(_VALUES, tuple(range(1 + len(names))), why)
    choices.take("data.class_names", ("background", *names), why)


def _regions(choices: Choices, found: Fingerprint, values: Sequence[int]) -> tuple[Region, ...]:
    """Choose data.regions, in the order in which they are written."""
    if _REGIONS in choices.overrides:
        regions: tuple[Region, ...] = choices.overrides[_REGIONS]
        if sentence := fault(regions):
            raise UsageError(sentence, where=_REGIONS)
        for region in regions:
            unknown = [value for value in region.values if value not in values]
            if unknown:
                raise _absent(region, unknown, values, "--set data.regions")
        if _VALUES not in choices.overrides:
            choices.overrides[_REGIONS] = larger_first(regions)
    else:
        without = ("semantic", *OBJECT_TASKS)
        regions = () if choices.values["data.task"] in without else found.regions
        for region in regions:
            if not set(region.values) & set(values):
                raise _absent(region, region.values, values, "dataset.json")
        if not found.region_values:
            regions = larger_first(regions)
    why = "from dataset.json" if regions else "classes do not overlap"
    taken: tuple[Region, ...] = choices.take(_REGIONS, regions, why)
    return taken


def _absent(
    region: Region, unknown: Sequence[int], values: Sequence[int], where: str
) -> UsageError:
    return UsageError(
        f"no mask holds what the region {region.name} is made of",
        where=where,
        expected=f"values of the masks: {', '.join(map(str, values))}",
        got=", ".join(map(str, unknown)),
    )


def _region_classes(
    choices: Choices, found: Fingerprint, regions: Sequence[Region], values: Sequence[int]
) -> None:
    given = found.region_values if regions == found.regions else ()
    why = "what each region is written with, later ones over earlier ones"
    why += "; dataset.json's regions_class_order" if given else "; larger regions first"
    spare = [str(value) for value in values if value not in label_values(regions)]
    if spare:
        why += f"; in no region and so background: {', '.join(spare)}"
    choices.take(_VALUES, (0, *(given or written_values(regions))), why)
    names = {label.value: label.name for label in found.label_names}
    choices.take(
        "data.class_names",
        (names.get(0, "background"), *(region.name for region in regions)),
        "the regions",
    )
