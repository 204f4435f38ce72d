"""A folder -> cases: images and masks found and paired by name, without opening an image."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unetseg.dataset.layouts import LAYOUTS
from unetseg.dataset.listing import counted, inventory, natural
from unetseg.dataset.naming import named
from unetseg.dataset.readings import Reading
from unetseg.dataset.scans import Found, find_scans
from unetseg.dataset.tables import is_table, read_table
from unetseg.errors import DataError
from unetseg.formats import suffixes
from unetseg.records import Case, Finding, Label
from unetseg.regions import Region

__all__ = ["IMAGES_ONLY", "Dataset", "Found", "find_cases", "find_scans"]

IMAGES_ONLY = "images only"


@dataclass(frozen=True)
class Dataset:
    """The cases of a folder, in natural order of their names, which are distinct.

    layout : CSV, nnU-Net, Decathlon, image and mask folders, masks beside images, images only
    reason : one sentence that says why the folder was read so, with counts
    label_names, channel_names : from dataset.json, else empty
    ignore_value : the mask value of voxels that nobody has annotated, if dataset.json names one
    regions, region_values : from dataset.json; the value that each region is written with
    findings : files without a partner, names that are not clear, files that are missing
    unmasked : the images without a mask, where others have one; those for testing among them
    """

    cases: tuple[Case, ...]
    layout: str
    reason: str
    label_names: tuple[Label, ...] = ()
    channel_names: tuple[str, ...] = ()
    ignore_value: int | None = None
    findings: tuple[Finding, ...] = ()
    regions: tuple[Region, ...] = ()
    region_values: tuple[int, ...] = ()
    unmasked: tuple[Case, ...] = ()


def find_cases(path: Path) -> Dataset:
    """The cases in a folder or a CSV file, by the first of LAYOUTS that pairs an image.

    Images without any mask are cases without truth, which can be predicted but not learned from.
    Raises DataError if there are no images, or images and masks of which no two belong together.
    """
    path = Path(path)
    try:
        path.stat()
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot be read: {getattr(error, 'strerror', None) or error}",
            where=path,
            expected="a folder of images and masks, or a CSV file",
            hint="check the path",
        ) from error
    if path.is_dir():
        readings = []
        for layout in LAYOUTS:
            reading = layout.read(path)
            if reading is not None and reading.cases:
                return _dataset(reading)
            readings += [reading] if reading is not None else []
        return _without_pairs(path, readings)
    if is_table(path):
        reading = read_table(path)
        return _dataset(reading) if reading.cases else _without_pairs(path, [reading])
    raise DataError(
        "neither a folder nor a CSV file",
        where=path,
        expected="a folder of images and masks, or a CSV file",
        hint="to train, give the folder that holds the images and the masks",
    )


def _dataset(reading: Reading) -> Dataset:
    cases = _sorted(reading.cases)
    return Dataset(
        cases,
        reading.layout,
        f"{reading.how}, paired by name: {_counts(cases)}",
        reading.description.labels,
        reading.description.channels,
        reading.description.ignore_value,
        reading.findings,
        reading.description.regions,
        reading.description.region_values,
        reading.scans,
    )


def _sorted(cases: Sequence[Case]) -> tuple[Case, ...]:
    return tuple(sorted(named(cases), key=lambda case: natural(case.name)))


def _counts(cases: Sequence[Case]) -> str:
    splits = Counter(case.split for case in cases)
    total = counted(len(cases), "case")
    if set(splits) == {"train"}:
        return total
    shares = [f"{splits[split]} {split}" for split in ("train", "val", "test") if split in splits]
    return f"{total} ({', '.join(shares)})"


def _without_pairs(path: Path, readings: Sequence[Reading]) -> Dataset:
    """Images alone, if no layout saw a mask. Raises DataError otherwise."""
    hint = f"what can be read: {'; '.join(layout.picture for layout in LAYOUTS)}"
    got = inventory(path) if path.is_dir() else ""
    unpaired = [reading for reading in readings if reading.masks]
    alone = [reading for reading in readings if reading.scans]
    errors = [
        finding
        for reading in unpaired or readings
        for finding in reading.findings
        if finding.severity == "error"
    ]
    if unpaired:
        raise DataError(
            "no image finds its mask" + "".join(f": {each.sentence}" for each in errors[:1]),
            where=path,
            expected="masks named as their images, or as these with _mask or _seg after the name",
            got=got,
            hint=hint,
        )
    if not alone:
        raise DataError(
            "no images found" + "".join(f": {each.sentence}" for each in errors[:1]),
            where=path,
            expected=f"files in {' '.join(suffixes())}",
            got=got,
            hint=hint,
        )
    cases = _sorted(alone[0].scans)
    return Dataset(
        cases,
        IMAGES_ONLY,
        f"{counted(len(cases), 'image')} without masks" + (f" in {got}" if got else ""),
        findings=tuple(each for each in alone[0].findings if each.severity == "error"),
    )
