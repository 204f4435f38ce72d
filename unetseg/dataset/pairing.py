"""Images and masks find each other by name, never by their place in a sorted list."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unetseg.dataset.listing import File, some
from unetseg.errors import one_line
from unetseg.formats import split_name
from unetseg.records import Case, Finding

MASK_WORDS = ("mask", "masks", "seg", "segmentation", "label", "labels", "gt")
_MASK_WORD = re.compile(rf"(.*[^/])_(?:{'|'.join(MASK_WORDS)})", re.DOTALL | re.IGNORECASE)
_CHANNEL = re.compile(r"(.*[^/])_([0-9]{4})", re.DOTALL)


@dataclass(frozen=True)
class Pairing:
    """Images with and without a mask, and masks without an image.

    cases : named by stem, with truth
    scans : named by stem, without truth
    channels : files per case, or 0 if the names carry no channel number
    findings : errors only; what they name is in none of the other fields
    """

    cases: tuple[Case, ...]
    scans: tuple[Case, ...]
    masks: tuple[File, ...]
    channels: int
    findings: tuple[Finding, ...]


def without_mask_word(stem: str) -> str | None:
    """`cell` for `cell_mask`, None for a stem that does not end in a word for masks."""
    match = _MASK_WORD.fullmatch(stem)
    return match[1] if match else None


def is_mask_word(stem: str) -> bool:
    return stem.casefold() in MASK_WORDS


def without_channel(stem: str) -> str | None:
    """`brain` for `brain_0003`, None for a stem that does not end in a channel number."""
    match = _CHANNEL.fullmatch(stem)
    return match[1] if match else None


def pair(
    images: Sequence[File], masks: Sequence[File], *, where: Path, channels: int | None = None
) -> Pairing:
    """Give every image the mask that bears its stem, or its stem and a word for masks.

    where : the folder that findings name
    channels : number of channels, if it is known

    Names that all end in `_0000`, `_0001`, ... are the channel files of cases if the masks are
    named without that number; where there are no masks, if no case lacks the number 0000 and no
    number exceeds `channels`. Otherwise they are the numbers of frames.
    """
    findings: list[Finding] = []
    plain = _by_stem(images)
    numbered = _by_channel(images)
    if numbered and not _are_channels(numbered, plain, masks, channels):
        numbered = {}
    count = max((max(group) + 1 for group in numbered.values()), default=0)
    if numbered:
        count = max(count, channels or 0)
        known = _channel_files(numbered, count, where, findings)
    else:
        known = _single(plain, "images", where, findings)
    owned: dict[str, list[File]] = {}
    alone = []
    for mask in masks:
        owner = _owner(mask.stem, numbered or plain)
        if owner is None:
            alone.append(mask)
        else:
            owned.setdefault(owner, []).append(mask)
    truths = _single(owned, "masks", where, findings)
    return Pairing(
        tuple(Case(stem, known[stem], truths[stem][0]) for stem in known if stem in truths),
        tuple(Case(stem, known[stem]) for stem in known if stem not in owned),
        tuple(alone),
        count,
        tuple(findings),
    )


def _by_stem(files: Sequence[File]) -> dict[str, list[File]]:
    groups: dict[str, list[File]] = {}
    for file in files:
        groups.setdefault(file.stem, []).append(file)
    return groups


def _by_channel(files: Sequence[File]) -> dict[str, dict[int, list[File]]]:
    """Files per case and channel; empty if one of the names has no channel number."""
    groups: dict[str, dict[int, list[File]]] = {}
    for file in files:
        stem = without_channel(file.stem)
        if stem is None:
            return {}
        groups.setdefault(stem, {}).setdefault(int(file.stem[-4:]), []).append(file)
    return groups


def _are_channels(
    numbered: Mapping[str, Mapping[int, object]],
    plain: Mapping[str, object],
    masks: Sequence[File],
    channels: int | None,
) -> bool:
    if masks:
        return _owned(masks, numbered) > _owned(masks, plain)
    return all(
        0 in group and (channels is None or max(group) < channels) for group in numbered.values()
    )


def _owner(stem: str, stems: Mapping[str, object]) -> str | None:
    # The whole stem first: an image may itself be called cell_seg.
    if stem in stems:
        return stem
    shorter = without_mask_word(stem)
    return shorter if shorter is not None and shorter in stems else None


def _owned(masks: Sequence[File], stems: Mapping[str, object]) -> int:
    return sum(_owner(mask.stem, stems) is not None for mask in masks)


def _single(
    groups: Mapping[str, Sequence[File]], noun: str, where: Path, findings: list[Finding]
) -> dict[str, tuple[Path, ...]]:
    """The stems with one file; an error finding for each of the others."""
    for stem, files in groups.items():
        if len(files) > 1:
            sentence = (
                f"{len(files)} {noun} for the name {one_line(stem)}: "
                f"{some(file.path.name for file in files)}"
            )
            hint = "keep one of them"
            findings.append(Finding("error", str(where), sentence, hint, "ambiguous", (stem,)))
    return {stem: (files[0].path,) for stem, files in groups.items() if len(files) == 1}


def _channel_files(
    numbered: Mapping[str, Mapping[int, Sequence[File]]],
    count: int,
    where: Path,
    findings: list[Finding],
) -> dict[str, tuple[Path, ...]]:
    """One file per channel in channel order; an error finding where one is missing or double."""
    whole = {}
    for stem, group in numbered.items():
        suffix = split_name(next(iter(group.values()))[0].path)[1]
        missing = [f"{stem}_{i:04d}{suffix}" for i in range(count) if i not in group]
        double = [file.path.name for files in group.values() if len(files) > 1 for file in files]
        if missing:
            sentence = f"{one_line(stem)} lacks a file of its channels: {some(missing)}"
            hint = "add the missing files"
            findings.append(Finding("error", str(where), sentence, hint, "channels", (stem,)))
        if double:
            sentence = f"{one_line(stem)} has two files for one channel: {some(double)}"
            hint = "keep one of them"
            findings.append(Finding("error", str(where), sentence, hint, "ambiguous", (stem,)))
        if not missing and not double:
            whole[stem] = tuple(group[i][0].path for i in range(count))
    return whole
