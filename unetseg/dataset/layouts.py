"""The ways in which folders hold images and masks, each recognised without configuration.

`LAYOUTS` lists them all, in the order in which they are tried; the first in which an image finds
a mask is taken.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unetseg.dataset.descriptions import FILE_NAME, Description, read_description
from unetseg.dataset.listing import (
    File,
    Listing,
    broken_links,
    composed,
    counted,
    files_below,
    first_named,
    listed,
    walked,
)
from unetseg.dataset.pairing import is_mask_word, without_channel, without_mask_word
from unetseg.dataset.readings import Part, Reading, read_parts
from unetseg.dataset.tables import table_in
from unetseg.formats import split_name
from unetseg.records import Case, Finding, Split

IMAGE_FOLDERS = ("images", "image", "imgs", "img")
MASK_FOLDERS = (
    "labels",
    "label",
    "masks",
    "mask",
    "annotations",
    "segmentations",
    "segmentation",
    "gt",
)
SPLIT_FOLDERS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
# Va is what some challenges add to the folders of the Decathlon.
DECATHLON_FOLDERS: tuple[tuple[str, str, Split], ...] = (
    ("imagesTr", "labelsTr", "train"),
    ("imagesVa", "labelsVa", "val"),
    ("imagesTs", "labelsTs", "test"),
)


def read_decathlon(root: Path) -> Reading | None:
    """imagesTr/ and labelsTr/, with or without channel numbers (nnU-Net, Decathlon)."""
    top = listed(root)
    parts: list[Part] = []
    findings: list[Finding] = []
    for images, masks, split in DECATHLON_FOLDERS:
        for folder in first_named(top.folders, [images]):
            partner = next(iter(first_named(top.folders, [masks])), None)
            parts.append(_part(folder, partner, f"{folder.name}/", split, findings))
    if not any(part.split == "train" for part in parts):
        return _read_training_list(root)
    description = read_description(root)
    reading = read_parts("Decathlon", "imagesTr/ and labelsTr/", parts, findings, description)
    if reading.channels:
        each = counted(reading.channels, "channel file")
        reading = replace(reading, layout="nnU-Net", how=f"{reading.how}, {each} per case")
    found = sum(case.split == "train" for case in reading.cases)
    if description.announced is not None and description.announced != found:
        sentence = (
            f"{FILE_NAME} announces {counted(description.announced, 'training case')}, "
            f"{found} found"
        )
        note = Finding("warning", str(root), sentence, "check that the copy is complete")
        reading = replace(reading, findings=(*reading.findings, note))
    return reading


def _read_training_list(root: Path) -> Reading | None:
    """The "training" list of a Decathlon dataset.json, for files in folders of other names."""
    description = read_description(root)
    if not description.training:
        return None
    cases = []
    findings = []
    for image, label in description.training:
        missing = [name for name in (image, label) if not (root / name).is_file()]
        if missing:
            sentence = f"{FILE_NAME} lists {' and '.join(missing)}, which is not there"
            findings.append(Finding("error", str(root), sentence))
        else:
            name = composed(Path(image).with_name(split_name(Path(image))[0]).as_posix())
            cases.append(Case(name, (root / image,), root / label))
    return Reading(
        "Decathlon",
        f'the "training" list of {FILE_NAME}',
        tuple(cases),
        masks=len(description.training),
        findings=tuple(findings),
        description=description,
    )


def read_folders(root: Path) -> Reading | None:
    """images/ beside labels/ or masks/, perhaps below train/, val/ and test/."""
    top = listed(root)
    findings: list[Finding] = []
    parts: list[Part] = []
    hows: list[str] = []
    bases = _split_folders(top)
    if first_named(top.folders, IMAGE_FOLDERS):
        bases = [(root, "train"), *((base, split) for base, split in bases if split != "train")]
    for base, split in bases:
        below = top if base == root else listed(base)
        images = _holding(first_named(below.folders, IMAGE_FOLDERS), findings)
        masks = _holding(first_named(below.folders, MASK_FOLDERS), findings)
        if images is None:
            continue
        prefix = "" if base == root else f"{base.name}/"
        parts.append(_part(images, masks, prefix, split, findings))
        if masks is not None:
            hows.append(f"{images.name}/ and {masks.name}/")
    if not parts:
        return None
    how = hows[0] if hows else f"{parts[0].folder.name}/"
    if len(parts) == 1 and parts[0].prefix == "":
        parts = _by_split_below(parts[0])
    return read_parts("image and mask folders", how, parts, findings, read_description(root))


def _split_folders(top: Listing) -> list[tuple[Path, Split]]:
    return [
        (folder, SPLIT_FOLDERS[folder.name.casefold()])
        for folder in first_named(top.folders, tuple(SPLIT_FOLDERS))
    ]


def _holding(folders: Sequence[Path], findings: list[Finding]) -> Path | None:
    """The first folder that holds images; a warning if there is a second one."""
    holding = [folder for folder in folders if walked(folder).images]
    if len(holding) > 1:
        names = " and ".join(f"{folder.name}/" for folder in holding)
        findings.append(
            Finding(
                "warning",
                str(holding[0].parent),
                f"{names} could both be meant; {holding[0].name}/ was taken",
                "move the other one elsewhere",
            )
        )
    return holding[0] if holding else None


def _part(
    images: Path, masks: Path | None, prefix: str, split: Split, findings: list[Finding]
) -> Part:
    files = []
    for folder in (images, masks):
        listing = walked(folder) if folder else Listing()
        findings += broken_links(listing.broken, folder or images)
        files.append(files_below(listing.images, folder or images))
    return Part(images, prefix, split, *files)


def _by_split_below(part: Part) -> list[Part]:
    """images/train/ and labels/train/ are parts of their own, if all images lie so."""

    def split_of(file: File) -> Split | None:
        first, slash, _ = file.stem.partition("/")
        return SPLIT_FOLDERS.get(first.casefold()) if slash else None

    splits = {split_of(file) for file in part.images}
    if "train" not in splits or None in splits:
        return [part]
    return [
        replace(
            part,
            split=split,
            images=tuple(file for file in part.images if split_of(file) == split),
            masks=tuple(file for file in part.masks if (split_of(file) or "train") == split),
        )
        for split in ("train", "val", "test")
        if split in splits
    ]


def read_beside(root: Path) -> Reading | None:
    """x.tif beside x_mask.tif in one folder, or in one folder per case, or below train/ ..."""
    top = listed(root)
    findings: list[Finding] = []
    parts: list[Part] = []
    bases = _split_folders(top)
    if all(split != "train" for _, split in bases):
        bases.insert(0, (root, "train"))
    hows = set()
    for base, split in bases:
        listing = top if base == root else listed(base)
        own = listing.images or listing.broken
        if own:
            findings += broken_links(listing.broken, base)
            files = files_below(listing.images, base)
        else:
            others = [folder for folder in listing.folders if (folder, "test") not in bases]
            files = _below_case_folders(base, others, findings)
        images, masks = _told_apart(files)
        prefix = "" if base == root else f"{base.name}/"
        hows.add("masks beside images" if own else "masks beside images in sub-folders")
        if own and listing.folders and base != root:
            hows.add("sub-folders not read")
        if files:
            parts.append(Part(base, prefix, split, images, masks))
    if not parts:
        return None
    return read_parts(
        "masks beside images", ", ".join(sorted(hows)), parts, findings, read_description(root)
    )
