"""Pictures of scored cases: truth and predicted outlines, over the scan where it is given."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from unetseg.colours import of_value
from unetseg.dataset import find_scans
from unetseg.dataset.masks import case_name
from unetseg.errors import UnetsegError
from unetseg.evaluation import Evaluation, Outcome
from unetseg.evaluation.comparison import LEADING
from unetseg.evaluation.direction import badness
from unetseg.evaluation.wording import number_text
from unetseg.pages.parts import Gallery, Notice, Part, Picture, Section
from unetseg.pages.slices import Area, Look, picture_of
from unetseg.pages.thinning import shown
from unetseg.records import Case, Mask, Scan

# Where things go wrong there is more to be seen.
_WORST, _MIDDLE, _BEST = 6, 3, 3
# More scores than this say nothing below a picture.
_FEW_SCORES = 4


@dataclass(frozen=True, eq=False)
class Pictured:
    """What pictures of an evaluation are made from.

    scans : a folder or file of what the masks lie on; None: black ground
    """

    outcome: Outcome
    scans: Path | None = None

    @cached_property
    def scan_of(self) -> Mapping[str, Case]:
        """The scans by the names that their masks have.

        Raises DataError if there are none where they should be.
        """
        if self.scans is None:
            return {}
        asked = find_scans([self.scans])
        found = asked.cases
        for _, error in asked.failures if not found else ():
            raise error
        if len(found) == 1 and len(self.outcome.evaluation.pairs) == 1:
            # Two files need no common name.
            return {self.outcome.evaluation.pairs[0][0]: found[0]}
        return {case_name(Path(case.name)): case for case in found}

    @property
    def look(self) -> Look:
        """The classes with their colours, or objects."""
        found = self.outcome.evaluation
        if found.are_objects:
            return Look(has_objects=True)
        return Look(
            areas=tuple(
                Area(label.name, values or (label.value,), of_value(label.value))
                for label, values in zip(found.labels, found.class_values, strict=True)
            )
        )

    def picture(self, name: str, predicted: Path, caption: str, anchor: str = "") -> Picture:
        """The truth of a case and a predicted mask over its scan.

        Raises DataError if a file cannot be read or one does not lie on the other.
        """
        found = self.outcome.evaluation
        truth = {case: path for case, path, _ in found.pairs}[name]
        known = self.scan_of.get(name)
        case = Case(name, (truth,), truth) if known is None else replace(known, truth=truth)
        scan, masks = shown(case, (truth, predicted))
        if known is None:
            scan = _black(scan)
        of_truth, of_predicted = (self._seen(mask, masks[0]) for mask in masks)
        picture = picture_of(
            scan, of_truth, of_predicted, look=self.look, name=name, caption=caption
        )
        return replace(picture, anchor=anchor)

    def _seen(self, mask: Mask | None, truth: Mask | None) -> Mask | None:
        """What of a mask was scored."""
        if mask is None or truth is None:
            return mask
        found, array = self.outcome.evaluation, mask.array
        if found.ignore_value is not None:
            unknown = truth.array == found.ignore_value
            if not found.are_objects:
                unknown = unknown | (array == found.ignore_value)
            array = np.where(unknown, 0, array)
        if any(not values for values in found.class_values):
            array = (array != 0).astype(np.uint8)
        return replace(mask, array=array)


def pictures(made: Pictured) -> tuple[tuple[Section, ...], frozenset[str]]:
    """The worst, median and best cases, and the names of those that have a picture."""
    found = made.outcome.evaluation
    predicted = {name: path for name, _, path in found.pairs}
    drawn: list[Picture] = []
    missing: list[str] = []
    names = []
    for name, why in _chosen(found):
        caption = " \u00b7 ".join(part for part in (why, name, score_text(found, name)) if part)
        try:
            drawn.append(made.picture(name, predicted[name], caption, f"case-{name}"))
            names.append(name)
        except UnetsegError as error:
            missing.append(str(error))
    parts: list[Part] = []
    if drawn:
        caption = "From worst to best; a volume by the slice that shows most of the truth."
        parts.append(Gallery(tuple(drawn), caption))
    sentences = [f"No picture: {text}." for text in missing]
    bare = [name for name in names if name not in made.scan_of]
    if made.scans is None:
        sentences.append("Without scans the masks lie on black ground; --scans gives them.")
    elif bare:
        sentences.append(f"No scan was found for {', '.join(bare)}.")
    if sentences and found.scores:
        parts.append(Notice(tuple(sentences), "note" if not missing else "warning"))
    section = Section("Worst, median and best cases", tuple(parts), "pictures")
    return ((section,) if parts else ()), frozenset(names)


def ranked(found: Evaluation) -> tuple[str, ...]:
    """The cases from the worst to the best mean of the leading score; the undefined come last."""
    means = {name: _mean_score(found, name) for name, _, _ in found.pairs}
    metric = LEADING[found.are_objects]

    def key(name: str) -> float:
        return math.inf if math.isnan(means[name]) else -badness(metric, means[name])

    return tuple(sorted(means, key=key))


def score_text(found: Evaluation, name: str) -> str:
    """The leading score of a case, with those of its classes if they are few."""
    metric = LEADING[found.are_objects]
    text = f"{metric} {number_text(_mean_score(found, name))}"
    each = [(score.label.name, score[metric]) for score in found.scores if score.case == name]
    if found.are_objects or not 1 < len(each) <= _FEW_SCORES:
        return text
    return f"{text} ({', '.join(f'{label}: {number_text(value)}' for label, value in each)})"


def _mean_score(found: Evaluation, name: str) -> float:
    """Over the classes that are defined; of objects that of all of them."""
    metric = LEADING[found.are_objects]
    of_case = [score for score in found.scores if score.case == name]
    values = [score[metric] for score in (of_case[:1] if found.are_objects else of_case)]
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _chosen(found: Evaluation) -> Sequence[tuple[str, str]]:
    """Names of cases that have a score, and why each is shown."""
    order = [name for name in ranked(found) if not math.isnan(_mean_score(found, name))]
    count = len(order)
    if count <= _WORST + _MIDDLE + _BEST:
        told = {0: "worst", count // 2: "median", count - 1: "best"}
        return [(name, told.get(place, "")) for place, name in enumerate(order)]
    middle = count // 2 - _MIDDLE // 2
    return [
        *((name, "worst") for name in order[:_WORST]),
        *((name, "median") for name in order[middle : middle + _MIDDLE]),
        *((name, "best") for name in order[-_BEST:]),
    ]


def _black(scan: Scan) -> Scan:
    """Nothing, where the scan is."""
    array = np.zeros((1, *scan.geometry.shape), np.uint8)
    return Scan(array, scan.geometry, ("",), scan.source)
