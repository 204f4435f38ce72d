"""What the data are like: everything the plan needs to know, from one pass over all cases."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np

from unetseg.dataset import Dataset
from unetseg.errors import DataError, UnetsegError
from unetseg.geometry import Unit
from unetseg.planning.digests import set_digest
from unetseg.planning.facts import CaseFacts, Look, case_facts
from unetseg.planning.numbering import number_objects
from unetseg.planning.objects import ObjectSizes, object_sizes
from unetseg.planning.remarks import failure, on_labels, together
from unetseg.records import Advance, Case, Finding, Label, Listener, Stage, ignore_event
from unetseg.regions import Region


@dataclass(frozen=True)
class Intensity:
    """Statistics of one channel over foreground voxels of all cases."""

    low: float
    high: float
    mean: float
    std: float


@dataclass(frozen=True)
class Fingerprint:
    """The data set in numbers.

    label_counts : voxels per label value, over all cases, without the ignored one
    regions, region_values : of dataset.json; what each region is written with, if that is told
    looks_like_objects : the label values number objects, they do not name classes
    intensity : per channel, inside the foreground
    zero_share : mean share of voxels that are exactly zero in every channel
    ignored_share : mean share of voxels that nobody has annotated
    objects : None if no mask has a foreground
    object_classes : names in the class tables, in alphabetical order
    """

    cases: int
    dimensions: int
    unit: Unit
    channels: tuple[str, ...]
    is_picture: bool
    shapes: tuple[tuple[int, ...], ...]
    spacings: tuple[tuple[float, ...], ...]
    label_counts: tuple[tuple[int, int], ...]
    label_names: tuple[Label, ...]
    ignore_value: int | None
    looks_like_objects: bool
    looks_like_ct: bool
    intensity: tuple[Intensity, ...]
    zero_share: float
    ignored_share: float = 0.0
    regions: tuple[Region, ...] = ()
    region_values: tuple[int, ...] = ()
    objects: ObjectSizes | None = None
    object_classes: tuple[str, ...] = ()

    @property
    def facts(self) -> dict[str, Any]:
        """What a model remembers of the scans that it learned from, in plain values."""
        spacing = [float(f"{edge:.5g}") for edge in self.median_spacing]
        return {"spacing": spacing, "unit": self.unit}

    @property
    def median_shape(self) -> tuple[int, ...]:
        return tuple(int(n) for n in np.median(self.shapes, axis=0).round())

    @property
    def median_spacing(self) -> tuple[float, ...]:
        return tuple(float(x) for x in np.median(self.spacings, axis=0))


@dataclass(frozen=True)
class Inspection:
    """The fingerprint, the cases it rests on, and what a person should know.

    digest : hexadecimal, of the names and voxels of all cases: the same data, the same digest
    """

    fingerprint: Fingerprint
    cases: tuple[Case, ...]
    findings: tuple[Finding, ...]
    digest: str = ""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Voxels per axis of every case, by its name."""
        names = (case.name for case in self.cases)
        return dict(zip(names, self.fingerprint.shapes, strict=True))

    @property
    def object_facts(self) -> dict[str, Any]:
        """What model.json says of the objects that were learned from."""
        sizes = self.fingerprint.objects
        return {"objects": sizes.facts(self.fingerprint.unit)} if sizes else {}


def inspect(
    dataset: Dataset,
    *,
    ignore_value: int | None = None,
    skip_bad: bool = False,
    cores: int = 1,
    listener: Listener = ignore_event,
    look: Look | None = None,
) -> Inspection:
    """Read every case with a mask and take the fingerprint.

    ignore_value : a label value that stands for "not known"; dataset.json's if not given
    skip_bad : leave out the cases that fail instead of refusing the data
    look : sees every case that can be read, from several threads

    Raises DataError if no usable case is left, or if the cases do not belong together.
    """
    cases = [case for case in dataset.cases if case.truth is not None and case.split != "test"]
    if not cases:
        raise DataError("no image has a mask", hint="training needs images and masks")
    ignore = dataset.ignore_value if ignore_value is None else ignore_value
    listener(Stage("inspecting", len(cases)))
    facts: list[CaseFacts] = []
    usable: list[Case] = []
    findings = list(dataset.findings)
    with ThreadPoolExecutor(max(1, cores)) as pool:
        outcomes = pool.map(_outcome, cases, repeat(ignore), repeat(look))
        for case, outcome in zip(cases, outcomes, strict=True):
            listener(Advance(case.name))
            if isinstance(outcome, CaseFacts):
                facts.append(outcome)
                usable.append(case)
            else:
                findings.append(failure(case, outcome, is_left_out=skip_bad))
    if not facts:
        first = next(f for f in findings if f.severity in ("error", "warning"))
        raise DataError(f"no case can be read; the first: {first.sentence}", where=first.where)
    findings += together(facts)
    recognised = Counter(note for fact in facts for note in fact.notes)
    for note, count in recognised.items():
        sentence = f"{note}: {count} of {len(facts)}"
        findings.append(Finding("note", "images", sentence, kind="recognised"))
    fingerprint = _fingerprint(facts, dataset, ignore)
    findings += on_labels(fingerprint, facts)
    digest = set_digest((fact.name, *fact.digests) for fact in facts)
    return Inspection(fingerprint, tuple(usable), tuple(findings), digest)


def _outcome(case: Case, ignore_value: int | None, look: Look | None) -> CaseFacts | UnetsegError:
    try:
        return case_facts(case, ignore_value, look)
    except UnetsegError as error:
        return error


def _fingerprint(facts: Sequence[CaseFacts], dataset: Dataset, ignore: int | None) -> Fingerprint:
    usual_axes = Counter(len(f.shape) for f in facts).most_common(1)[0][0]
    same = [f for f in facts if len(f.shape) == usual_axes]
    widest = max(same, key=lambda f: len(f.channels))
    channels = widest.channels
    if len(dataset.channel_names) == len(channels):
        channels = dataset.channel_names
    counts: Counter[int] = Counter()
    for fact in same:
        counts.update(dict(fact.counts))
    columns = [
        f.samples if len(f.samples) == len(channels) else f.samples.repeat(len(channels), axis=0)
        for f in same
        if len(f.samples) in (1, len(channels))
    ]
    samples = np.concatenate(columns, axis=1) if columns else np.zeros((len(channels), 0))
    intensity = tuple(
        Intensity(
            low=float(np.percentile(channel, 0.5)),
            high=float(np.percentile(channel, 99.5)),
            mean=float(channel.mean(dtype=np.float64)),
            std=float(channel.std(dtype=np.float64)),
        )
        for channel in samples
        if channel.size
    )
    named_ct = len(channels) == 1 and channels[0].upper() == "CT"
    air = len(channels) == 1 and all(f.minimum < -200 for f in same)
    return Fingerprint(
        cases=len(same),
        dimensions=usual_axes,
        unit=Counter(f.unit for f in same).most_common(1)[0][0],
        channels=channels,
        is_picture=all(f.is_picture for f in same),
        shapes=tuple(f.shape for f in same),
        spacings=tuple(f.spacing for f in same),
        label_counts=tuple(sorted(counts.items())),
        label_names=dataset.label_names,
        ignore_value=ignore,
        looks_like_objects=not (dataset.label_names or dataset.regions)
        and (any(f.classes is not None for f in same) or _objects(same)),
        looks_like_ct=same[0].unit == "mm" and (named_ct or air),
        intensity=intensity,
        zero_share=float(np.mean([f.zero_share for f in same])),
        ignored_share=float(np.mean([f.ignored_share for f in same])),
        regions=dataset.regions,
        region_values=dataset.region_values,
        objects=object_sizes([f.counts for f in same], [f.spacing for f in same]),
        object_classes=tuple(sorted({name for fact in same for name in fact.classes or ()})),
    )


def _objects(facts: Sequence[CaseFacts]) -> bool:
    ids = [{value for value, _ in fact.counts if value} for fact in facts]
    # Organs and vertebrae are in every body once; cells are not.
    cells = all(fact.unit != "mm" for fact in facts)
    sizes = [[n for value, n in fact.counts if value] for fact in facts] if cells else []
    return number_objects(ids, [f.single_pieces for f in facts if len(f.counts) > 8], sizes)
