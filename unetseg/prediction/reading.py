"""What is said of the scans of a prediction: how they are read, what may not fit."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unetseg.config import DataPlan
from unetseg.dataset.listing import some
from unetseg.dataset.loading import have_names
from unetseg.dataset.views import Seen, summary
from unetseg.formats.naming import in_order, in_units, spatial_letters
from unetseg.records import FileDone, Note, Opened

# Pixels, or objects, that are so many times larger or smaller than in the training are told of.
_TOLD = 1.5


def reading_notes(
    seen: Sequence[Seen], data: DataPlan, facts: Mapping[str, Any]
) -> tuple[Note, ...]:
    """How the scans are read, one line per distinct way, and warnings.

    facts : of the model; `scans` holds the spacing and the unit that it was trained at
    """
    warnings: dict[str, list[str]] = {}
    for each in seen:
        if each.opened is not None:
            for text in doubts(each.opened, data, facts):
                warnings.setdefault(text, []).append(each.case.images[0].name)
    return (
        *(Note(f"read as {line}") for line in summary(seen)),
        *(Note(f"{some(names)}: {text}", "warning") for text, names in warnings.items()),
    )


def doubts(opened: Opened, data: DataPlan, facts: Mapping[str, Any]) -> tuple[str, ...]:
    """What of a scan may not suit the model, a sentence each."""
    found = []
    size = _pixel_size(opened, data, facts)
    if size:
        found.append(size)
    if len(opened.channels) == len(data.channels) == 1 and have_names(opened.channels):
        mine, theirs = opened.channels[0], data.channels[0]
        if have_names(data.channels) and mine.casefold() != theirs.casefold():
            found.append(f"its only channel {mine} stands for {theirs}")
    return tuple(found)


def size_notes(records: Sequence[FileDone], facts: Mapping[str, Any]) -> tuple[Note, ...]:
    """A warning if most objects found are much smaller or larger than those that were learned.

    facts : of the model; `objects` holds the diameters that it was trained on
    """
    try:
        learned = facts["objects"]
        low, high = float(learned["diameter_5th"]), float(learned["diameter_95th"])
        middle, unit = float(learned["diameter"]), str(learned["unit"])
    except (KeyError, TypeError, ValueError):
        return ()
    found = [
        each.median_diameter
        for record in records
        if record.unit.partition("^")[0] == unit
        for each in record.objects
        if each.count
    ]
    if not found or low / _TOLD <= float(np.median(found)) <= high * _TOLD:
        return ()
    text = (
        f"objects of {np.median(found):.3g} {unit} (median diameter), the model learned from"
        f" {middle:.3g} {unit} ({low:.3g} to {high:.3g}); look at the masks, and whether the pixel"
        " size is right"
    )
    return (Note(text, "warning"),)


def _pixel_size(opened: Opened, data: DataPlan, facts: Mapping[str, Any]) -> str:
    if data.spacing or data.orientation == "canonical":
        # Scans are brought to the model's grid, or refused if theirs is not known.
        return ""
    try:
        trained = [float(edge) for edge in facts["scans"]["spacing"]]
        unit = str(facts["scans"]["unit"])
    except (KeyError, TypeError, ValueError):
        # Models of earlier releases do not say.
        return ""
    geometry = opened.geometry
    if unit == "px" or len(trained) != geometry.ndim:
        return ""
    # Images are read in the order Z, Y, X.
    learned = f"{in_order(trained[::-1])} {unit}"
    if geometry.unit == "px":
        return (
            f"no pixel size in the file, the model learned from {learned};"
            " give --pixel-size if it differs"
        )
    factor = {("mm", "um"): 1000.0, ("um", "mm"): 0.001}.get((geometry.unit, unit), 1.0)
    ratios = [
        factor * mine / theirs for mine, theirs in zip(geometry.spacing, trained, strict=True)
    ]
    if all(1 / _TOLD <= ratio <= _TOLD for ratio in ratios):
        return ""
    there = in_units(geometry, spatial_letters(opened))
    return (
        f"pixels of {there}, the model learned from {learned}; train with --set data.spacing to"
        " have scans resampled, or give --pixel-size if the file is wrong"
    )
