"""A folder as one layout reads it: parts that are paired by name and put together."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from unetseg.dataset.descriptions import Description
from unetseg.dataset.listing import File, counted, some
from unetseg.dataset.pairing import Pairing, pair
from unetseg.formats import split_name
from unetseg.records import Case, Finding, Split


@dataclass(frozen=True)
class Part:
    """Images and masks that are paired with one another and with no others.

    folder : what findings name
    prefix : put before the stems, so that names stay distinct between the parts
    """

    folder: Path
    prefix: str
    split: Split
    images: tuple[File, ...]
    masks: tuple[File, ...]


@dataclass(frozen=True)
class Reading:
    """What a layout makes of a folder.

    how : the names that were recognised, the first half of the sentence that gives the reason
    cases : with truth, named by their path below the folder
    scans : without truth, named likewise
    masks : number of masks seen, paired or not
    channels : files per case, or 0 if the names carry no channel number
    """

    layout: str
    how: str
    cases: tuple[Case, ...] = ()
    scans: tuple[Case, ...] = ()
    masks: int = 0
    channels: int = 0
    findings: tuple[Finding, ...] = ()
    description: Description = field(default_factory=Description)


def read_parts(
    layout: str,
    how: str,
    parts: Sequence[Part],
    findings: Iterable[Finding],
    description: Description,
) -> Reading:
    """Pair the files of each part, and say what found no partner."""
    cases: list[Case] = []
    scans: list[Case] = []
    told = list(findings)
    channels = 0
    for part in parts:
        pairing = pair(
            part.images,
            part.masks,
            where=part.folder,
            channels=len(description.channels) or None,
        )
        channels = max(channels, pairing.channels)
        told += pairing.findings
        told += _alone(part, pairing)
        cases += _placed(part, pairing.cases)
        scans += _placed(part, pairing.scans)
    return Reading(
        layout,
        how,
        tuple(cases),
        tuple(scans),
        sum(len(part.masks) for part in parts),
        channels,
        tuple(told),
        description,
    )


def _placed(part: Part, cases: Iterable[Case]) -> list[Case]:
    return [replace(case, name=f"{part.prefix}{case.name}", split=part.split) for case in cases]


def _alone(part: Part, pairing: Pairing) -> list[Finding]:
    """What has no partner: an error where masks lie beside the images and none fits."""
    where = str(part.folder)
    if pairing.scans and not part.masks and part.split != "train":
        sentence = f"{counted(len(pairing.scans), 'scan')} without masks, left for predict"
        return [Finding("note", where, sentence, kind="unpaired")]
    found = []
    severity: Literal["error", "warning"] = (
        "error" if part.masks and not pairing.cases else "warning"
    )
    for files, noun, partner in (
        ([case.images[0] for case in pairing.scans], "image", "mask"),
        ([mask.path for mask in pairing.masks], "mask", "image"),
    ):
        if files:
            verb = "has" if len(files) == 1 else "have"
            sentence = (
                f"{counted(len(files), noun)} {verb} no {partner} of that name: "
                f"{some(path.name for path in files)}"
            )
            names = tuple(split_name(path)[0] for path in files)
            hint = "they are left out"
            found.append(Finding(severity, where, sentence, hint, "unpaired", names))
    return found
