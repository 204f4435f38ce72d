"""The page of a check: findings with pictures, every case with its outline, and the plan."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetseg.checking import Checked
from unetseg.checking.looks import CaseLook
from unetseg.colours import of_value
from unetseg.config.toml import describe
from unetseg.dataset.listing import counted
from unetseg.pages.charts import Axis, Group, strips
from unetseg.pages.parts import (
    Cell,
    Code,
    Facts,
    Figure,
    Gallery,
    Link,
    Notice,
    Numbers,
    Page,
    Part,
    Picture,
    Prose,
    Section,
    Table,
)
from unetseg.pages.slices import Area, Look, picture_of
from unetseg.pages.words import share_text
from unetseg.planning.facts import CaseFacts
from unetseg.planning.fingerprint import Fingerprint
from unetseg.records import Case, Finding, Mask, Scan

_LONGEST = 192
# Masks with more values number objects, which are told apart by colour and have no names.
_MOST_NAMED = 64


class Pictures:
    """Draws every case that it is shown, from any thread."""

    def __init__(self) -> None:
        self._drawn: dict[str, Picture] = {}

    def __call__(
        self, case: Case, scan: Scan, truth: NDArray[np.integer[Any]], facts: CaseFacts
    ) -> None:
        """A case with its mask, as the look of an inspection."""
        values = [value for value, _ in facts.counts if value]
        # Named by their values until it is known what these stand for.
        areas = tuple(Area(str(value), (value,), of_value(value)) for value in values)
        look = Look(_LONGEST, kind="mask")
        if len(areas) > _MOST_NAMED:
            look = replace(look, has_objects=True)
        elif areas:
            look = replace(look, areas=areas)
        mask = Mask(truth, scan.geometry)
        self._drawn[case.name] = picture_of(scan, mask, look=look, name=case.name)

    def other(self, case: Case, scan: Scan) -> None:
        """An image without a mask."""
        self._drawn[case.name] = picture_of(scan, look=Look(_LONGEST), name=case.name)

    def of(self, name: str, found: Fingerprint) -> Picture | None:
        """The picture of a case, its classes named; None if it could not be read."""
        picture = self._drawn.get(name)
        if picture is None:
            return None
        names = {str(label.value): label.name for label in found.label_names}
        outlines = tuple(
            replace(
                each,
                name="" if found.looks_like_objects else names.get(each.name, f"label {each.name}"),
            )
            for each in picture.outlines
        )
        return replace(picture, outlines=outlines)


def page_of(data: Path, result: Checked, pictures: Pictures) -> Page:
    found = result.inspection.fingerprint
    drawn = {
        look.name: replace(picture, anchor=f"case-{number}", caption=_caption(look))
        for number, look in enumerate((*result.learned, *result.others))
        if (picture := pictures.of(look.name, found)) is not None
    }
    sections = [
        Section("Findings", tuple(_findings(result.findings, drawn))),
        Section("Data", tuple(_data(result))),
        Section("Cases", tuple(_cases(result, drawn))),
    ]
    if result.plan is not None:
        sections.append(Section("Plan", tuple(_plan(result))))
    return Page(f"Check of {data.name or data.resolve().name}", str(data), tuple(sections))


def _caption(look: CaseLook) -> str:
    size = " x ".join(map(str, look.shape))
    return f"{look.name}, {size}" if look.counts else f"{look.name}, {size}, no mask"


def _findings(findings: Sequence[Finding], drawn: dict[str, Picture]) -> Iterator[Part]:
    counts = [
        (f"{severity}s", str(sum(each.severity == severity for each in findings)))
        for severity in ("error", "warning", "note")
    ]
    yield Numbers(tuple(counts))
    if not findings:
        yield Prose(("Nothing was found that should be looked at.",))
        return
    if any(each.severity == "error" for each in findings):
        yield Notice(("Errors stop a training: mend them, or leave the cases out.",), "error")
    rows = []
    for each in findings:
        case = next((name for name in each.cases if name in drawn), None)
        where: Cell = each.cases[0] if each.cases else each.where
        if case is not None:
            where = Link(case, drawn[case].anchor)
        advice = f"; {each.hint}" if each.hint else ""
        rows.append((f"{each.severity}: {each.kind}", where, each.sentence + advice))
    yield Table(("finding", "case", "what, and what to do"), tuple(rows), "Findings")
    files = "\n".join(f"{each.kind}: {each.where}" for each in findings)
    yield Code(files, "Files concerned", is_folded=True)


def _data(result: Checked) -> Iterator[Part]:
    found = result.inspection.fingerprint
    facts = [
        ("cases with a mask", str(found.cases)),
        ("other images", str(len(result.others))),
        ("axes", str(found.dimensions)),
        ("channels", ", ".join(found.channels)),
        ("unit", found.unit),
        ("digest of the data", result.inspection.digest),
    ]
    if found.looks_like_objects and found.objects is not None:
        facts.append(("objects", found.objects.sentence(found.unit)))
    yield Facts(tuple(facts))
    if not found.looks_like_objects:
        yield _labels(result.learned, found)
    yield from _distributions((*result.learned, *result.others))


def _labels(looks: Sequence[CaseLook], found: Fingerprint) -> Table:
    total = sum(count for _, count in found.label_counts) or 1
    names = {label.value: label.name for label in found.label_names}
    rows = []
    for value, voxels in found.label_counts:
        having = sum(value in dict(look.counts) for look in looks)
        name = names.get(value, "background" if value == 0 else "")
        rows.append((str(value), name, str(voxels), share_text(voxels / total), str(having)))
    columns = ("value", "name", "voxels", "share", "masks that hold it")
    return Table(columns, tuple(rows), "Label values")


def _distributions(looks: Sequence[CaseLook]) -> Iterator[Figure]:
    axes = max(len(look.shape) for look in looks)
    same = [look for look in looks if len(look.shape) == axes]
    names = "xyz" if axes == 3 else ("height", "width")
    yield strips(
        "Sizes",
        [Group(names[k], tuple(float(look.shape[k]) for look in same)) for k in range(axes)],
        Axis("voxels"),
        caption="Voxels along each axis, a point for each image.",
    )
    spacings = {look.spacing for look in same}
    if len(spacings) > 1:
        yield strips(
            "Spacings",
            [Group(names[k], tuple(look.spacing[k] for look in same)) for k in range(axes)],
            Axis(same[0].unit),
            caption="Edge lengths of a voxel, a point for each image.",
        )
    channels = min(len(look.channels) for look in same)
    spans = [
        Group(
            same[0].channels[k].name,
            tuple(
                span if (span := look.channels[k].bright - look.channels[k].dark) > 0 else nan
                for look in same
            ),
        )
        for k in range(channels)
    ]
    yield strips(
        "Range of intensities",
        spans,
        Axis("as in the files", is_log=True),
        caption="Between the 1st and the 99th percentile of each channel, a point for each image.",
    )
    shares = tuple(
        sum(n for value, n in look.counts if value) / max(1, sum(n for _, n in look.counts))
        for look in same
        if look.counts
    )
    if shares:
        yield strips(
            "Foreground",
            [Group("all labels", shares)],
            Axis("share of the voxels"),
            caption="How much of each image is labelled.",
        )


def _cases(result: Checked, drawn: dict[str, Picture]) -> Iterator[Part]:
    told = {
        name: f"{each.severity}: {each.kind}"
        for each in reversed(result.findings)
        if each.severity != "note"
        for name in each.cases
        if name in drawn
    }
    if told:
        marked = tuple(
            replace(drawn[name], caption=f"{drawn[name].caption} ({what})")
            for name, what in told.items()
        )
        yield Gallery(marked, f"{counted(len(marked), 'case')} with findings", "small")
    rest = tuple(picture for name, picture in drawn.items() if name not in told)
    if rest:
        yield Gallery(rest, f"{len(rest)} {'others' if told else 'cases'}", "small")


def _plan(result: Checked) -> Iterator[Part]:
    if result.estimates is not None:
        yield Facts(result.estimates.rows)
    if result.plan is not None:
        yield Code(describe(result.plan), "plan.toml", is_folded=False)
