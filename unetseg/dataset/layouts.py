"""The ways in which folders hold images and masks, each recognised without configuration.

`LAYOUTS` lists them all, in the order in which they are tried; the first in which an image finds
a mask is taken. Two cases need no trial: a path that is itself a CSV file, and images in any of
these places where no mask is to be seen (images only).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unetseg.dataset.descriptions import FILE_NAME, read_description
from unetseg.dataset.listing import (
    File,
    Listing,
    broken_links,
    composed,
    counted,
    files_below,
    first_named,
    is_there,
    listed,
    walked,
    without_suffix,
)
from unetseg.dataset.pairing import is_mask_word, without_channel, without_mask_word
from unetseg.dataset.readings import Part, Reading, read_parts
from unetseg.dataset.tables import table_in
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
TEST_FOLDERS = tuple(name for name, split in SPLIT_FOLDERS.items() if split == "test")
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
        hint = "check that the copy is complete"
        note = Finding("warning", str(root), sentence, hint, "incomplete")
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
        missing = [name for name in (image, label) if not is_there(root / name)]
        if missing:
            sentence = f"{FILE_NAME} lists {' and '.join(missing)}, which is not there"
            findings.append(Finding("error", str(root), sentence, kind="incomplete"))
        else:
            cases.append(Case(without_suffix(Path(image)), (root / image,), root / label))
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
    if _holding(first_named(top.folders, IMAGE_FOLDERS), []):
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
    places = [part.prefix for part in parts if part.prefix]
    how += f" below {' and '.join(places)}" if places else ""
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
    holding = [folder for folder in folders if (below := walked(folder)).images or below.broken]
    if len(holding) > 1:
        names = " and ".join(f"{folder.name}/" for folder in holding)
        findings.append(
            Finding(
                "warning",
                str(holding[0].parent),
                f"{names} could both be meant; {holding[0].name}/ was taken",
                "move the other one elsewhere",
                "ambiguous",
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
            # A mask below no split that has images is told as being without image.
            masks=tuple(
                file
                for file in part.masks
                if (split_of(file) if split_of(file) in splits else "train") == split
            ),
        )
        for split in ("train", "val", "test")
        if split in splits
    ]


def read_beside(root: Path) -> Reading | None:
    """x.tif beside x_mask.tif in one folder or in one folder per case, perhaps below train/."""
    top = listed(root)
    splits = _split_folders(top)
    bases = [*splits]
    if all(split != "train" for _, split in splits):
        bases.insert(0, (root, "train"))
    findings: list[Finding] = []
    parts: list[Part] = []
    places: list[str] = []
    for base, split in bases:
        listing = top if base == root else listed(base)
        findings += broken_links(listing.broken, base)
        files = files_below(listing.images, base)
        place = "in one folder"
        if not files:
            place = "in one folder per case"
            set_apart = {folder for folder, _ in splits}
            for folder in listing.folders:
                if folder not in set_apart:
                    files += _case_folder(folder, base, findings)
        if files:
            images, masks = told_apart(files)
            prefix = "" if base == root else f"{base.name}/"
            parts.append(Part(base, prefix, split, images, masks))
            places.append(place)
    if not parts:
        return None
    how = f"masks beside their images {places[0]}"
    return read_parts("masks beside images", how, parts, findings, read_description(root))


def _case_folder(folder: Path, base: Path, findings: list[Finding]) -> tuple[File, ...]:
    """The files of one case; a mask that is only called `mask` goes with the only other file."""
    listing = listed(folder)
    findings += broken_links(listing.broken, folder)
    files = files_below(listing.images, base)
    masks = [file for file in files if is_mask_word(file.stem.rpartition("/")[2])]
    if len(files) != 2 or len(masks) != 1:
        return files
    name = composed(folder.relative_to(base).as_posix())
    return tuple(File(file.path, f"{name}_mask" if file in masks else name) for file in files)


def told_apart(files: Sequence[File]) -> tuple[tuple[File, ...], tuple[File, ...]]:
    """Images and masks of one folder: a mask bears an image's stem and a word for masks.

    A stem that ends in such a word is an image's if another file is its mask (cell_seg and
    cell_seg_mask), or if all stems end so and none has a partner.
    """
    stems = {file.stem for file in files}
    stems |= {stem for file in files if (stem := without_channel(file.stem)) is not None}
    heads = {without_mask_word(stem) for stem in stems}
    masks = tuple(
        file
        for file in files
        if file.stem not in heads and without_mask_word(file.stem) is not None
    )
    named_so = {file.path for file in masks}
    images = tuple(file for file in files if file.path not in named_so)
    return (images, masks) if images else (tuple(files), ())


@dataclass(frozen=True)
class Layout:
    """One way to hold images and masks. `read` gives None for a folder that does not look so."""

    picture: str
    read: Callable[[Path], Reading | None]


LAYOUTS = (
    Layout("imagesTr/ and labelsTr/ (nnU-Net, Decathlon)", read_decathlon),
    Layout("images/ and labels/ with the same names", read_folders),
    Layout("NAME.ext beside NAME_mask.ext", read_beside),
    Layout("a CSV file with the columns image,label", table_in),
)
