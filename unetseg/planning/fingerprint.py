"""What the data are like: everything the plan needs to know, from one pass over all cases."""

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetseg.dataset import Dataset
from unetseg.dataset.listing import counted, some
from unetseg.dataset.loading import load_scan, load_truth
from unetseg.dataset.object_classes import class_table, object_classes
from unetseg.errors import DataError, UnetsegError
from unetseg.geometry import Unit
from unetseg.planning.numbering import number_objects, single_pieces
from unetseg.planning.objects import ObjectSizes, object_sizes
from unetseg.records import Advance, Case, Finding, Label, Listener, Scan, Stage, ignore_event
from unetseg.regions import Region

# Enough for percentiles to three digits, little enough for thousands of cases.
_SAMPLES_PER_CASE = 4000


@dataclass(frozen=True)
class Intensity:
    """Statistics of one channel over foreground voxels of all cases."""

    low: float
    high: float
    mean: float
    std: float


@dataclass(frozen=True)
class CaseFacts:
    """What one case contributes. Shapes and spacings are in canonical axis order.

    counts : voxels per label value, without the ignored one
    classes : of the objects in its class table, None if it has none
    notes : what was recognised in its file, see records.Axes
    """

    name: str
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    unit: Unit
    channels: tuple[str, ...]
    is_picture: bool
    minimum: float
    zero_share: float
    ignored_share: float
    counts: tuple[tuple[int, int], ...]
    single_pieces: float
    samples: NDArray[np.float32]
    classes: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


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
    """The fingerprint, the cases it rests on, and what a person should know."""

    fingerprint: Fingerprint
    cases: tuple[Case, ...]
    findings: tuple[Finding, ...]

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


def is_turned(scan: Scan) -> bool:
    """Whether the axes of such scans have a place in the body: volumes in millimetres."""
    return scan.geometry.ndim == 3 and scan.geometry.unit == "mm"


def case_facts(case: Case, ignore_value: int | None = None) -> CaseFacts:
    """Read one case. Raises DataError for whatever is wrong with it."""
    scan = load_scan(case)
    truth = load_truth(case, scan.geometry).array
    values, counts = np.unique(truth, return_counts=True)
    ignored_share = 0.0
    if ignore_value is not None and ignore_value in values:
        is_known = values != ignore_value
        ignored_share = float(counts[~is_known].sum() / truth.size)
        values, counts = values[is_known], counts[is_known]
        truth = np.where(truth == ignore_value, 0, truth)
    order = scan.geometry.canonical()[0] if is_turned(scan) else range(scan.geometry.ndim)
    foreground = np.flatnonzero(truth.ravel())
    flat = scan.array.reshape(len(scan.array), -1)
    if len(foreground) > _SAMPLES_PER_CASE:
        picked = np.linspace(0, len(foreground) - 1, _SAMPLES_PER_CASE).astype(np.intp)
        foreground = foreground[picked]
    pieces = 1.0
    if len(values) > 8:
        pieces = single_pieces(truth)
    return CaseFacts(
        name=case.name,
        shape=tuple(scan.geometry.shape[axis] for axis in order),
        spacing=tuple(scan.geometry.spacing[axis] for axis in order),
        unit=scan.geometry.unit,
        channels=scan.channels,
        is_picture=scan.is_picture,
        minimum=float(flat.min()),
        zero_share=float((flat == 0).all(axis=0).mean()),
        ignored_share=ignored_share,
        counts=tuple(zip(values.tolist(), counts.tolist(), strict=True)),
        single_pieces=pieces,
        samples=flat[:, foreground].astype(np.float32),
        classes=_classes(case, values),
        notes=scan.axes.notes if scan.axes else (),
    )


def _classes(case: Case, values: NDArray[np.integer[Any]]) -> tuple[str, ...] | None:
    """The classes of a case's objects. Raises DataError if one of them has none."""
    table = None if case.truth is None else object_classes(case.truth)
    if case.truth is None or table is None:
        return None
    missing = [str(value) for value in values.tolist() if value and value not in table]
    if missing:
        raise DataError(
            f"{counted(len(missing), 'object')} without a class: {some(missing)}",
            where=class_table(case.truth),
        )
    return tuple(sorted(set(table.values())))


def inspect(
    dataset: Dataset,
    *,
    ignore_value: int | None = None,
    skip_bad: bool = False,
    cores: int = 1,
    listener: Listener = ignore_event,
) -> Inspection:
    """Read every case with a mask and take the fingerprint.

    ignore_value : a label value that stands for "not known"; dataset.json's if not given
    skip_bad : leave out the cases that fail instead of refusing the data

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
        for case, outcome in zip(cases, pool.map(_outcome, cases, repeat(ignore)), strict=True):
            listener(Advance(case.name))
            if isinstance(outcome, CaseFacts):
                facts.append(outcome)
                usable.append(case)
            else:
                hint = outcome.hint or "mend or remove it, or go on without it by --skip-bad"
                text = str(outcome).removeprefix(f"{outcome.where}: ")
                text = text.removesuffix(f"; {outcome.hint}")
                where = outcome.where or case.name
                findings.append(Finding("warning" if skip_bad else "error", where, text, hint))
    if not facts:
        first = next(f for f in findings if f.severity in ("error", "warning"))
        raise DataError(f"no case can be read; the first: {first.sentence}", where=first.where)
    findings += _together(facts)
    recognised = Counter(note for fact in facts for note in fact.notes)
    for note, count in recognised.items():
        findings.append(Finding("note", "images", f"{note}: {count} of {len(facts)}"))
    fingerprint = _fingerprint(facts, dataset, ignore)
    findings += _label_findings(fingerprint, facts)
    return Inspection(fingerprint, tuple(usable), tuple(findings))


def _outcome(case: Case, ignore_value: int | None) -> CaseFacts | UnetsegError:
    try:
        return case_facts(case, ignore_value)
    except UnetsegError as error:
        return error


def _together(facts: Sequence[CaseFacts]) -> Iterable[Finding]:
    """Cases that cannot be of one set with the majority."""
    for what, kinds in (
        ("axes", [len(f.shape) for f in facts]),
        ("unit", [f.unit for f in facts]),
    ):
        usual = Counter(kinds).most_common(1)[0][0]
        for fact, kind in zip(facts, kinds, strict=True):
            if kind != usual:
                yield Finding(
                    "error",
                    fact.name,
                    f"{what}: {kind}, most cases have {usual}",
                    "keep cases of one kind in a set",
                )
    numbers = {len(f.channels) for f in facts if not f.is_picture}
    if len(numbers) > 1 or (numbers and any(f.is_picture for f in facts) and numbers != {1, 3}):
        usual = Counter(len(f.channels) for f in facts).most_common(1)[0][0]
        for fact in facts:
            if len(fact.channels) != usual:
                yield Finding(
                    "error",
                    fact.name,
                    f"channels: {len(fact.channels)}, most cases have {usual}",
                    "every case needs the same channels",
                )


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


def _label_findings(fingerprint: Fingerprint, facts: Sequence[CaseFacts]) -> Iterable[Finding]:
    values = [v for v, _ in fingerprint.label_counts]
    foreground = [v for v in values if v]
    if not foreground:
        yield Finding("error", "masks", "every mask is background only", "draw what to segment")
    if len(facts) == 1 and len(foreground) > 20 and not fingerprint.label_names:
        yield Finding(
            "note",
            "masks",
            f"{len(foreground)} label values in the only image are taken as classes",
            "if they number objects, give --task instances",
        )
    bare = [f.name for f in facts if f.classes is None]
    if fingerprint.object_classes and bare:
        sentence = f"{counted(len(bare), 'mask')} without a table of classes: {some(bare)}"
        yield Finding("error", "masks", sentence, "every mask needs one, or none does")
    unknown = [f.name for f in facts if not f.counts]
    if unknown:
        sentence = f"{len(unknown)} masks hold nothing but the ignored value: {some(unknown)}"
        yield Finding("warning", "masks", sentence, "nothing can be learned from them")
    empty = [f.name for f in facts if f.counts and not any(v for v, _ in f.counts)]
    if empty and foreground:
        sentence = f"{len(empty)} masks are background only: {some(empty)}"
        yield Finding("warning", "masks", sentence, "are they?")
    if (
        fingerprint.ignore_value is None
        and 255 in values
        and 2 <= len(foreground) <= 100
        and not fingerprint.looks_like_objects
        and sorted(foreground)[-2] < 128
    ):
        yield Finding(
            "note",
            "masks",
            "the value 255 stands apart from the others and is taken as a class",
            "if it means 'not known', give --ignore-label 255",
        )
