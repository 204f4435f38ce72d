"""What lies in a folder, and how its files are named: no file is opened."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from stat import S_ISREG

from unetseg.errors import DataError, one_line
from unetseg.formats import is_readable, is_store, split_name
from unetseg.formats.dicom import is_series
from unetseg.records import Finding

SHOWN = 3


@dataclass(frozen=True)
class File:
    """An image file and the name by which it is paired.

    stem : path below the folder that was read, `/` between folders, without suffix, in Unicode
        normal form C: macOS and Linux may write the same name in different code points
    """

    path: Path
    stem: str


@dataclass(frozen=True)
class Listing:
    """The contents of a folder in natural order, hidden files left out.

    others : files of no known image format
    broken : names of images that are no files (links that lead nowhere)
    """

    images: tuple[Path, ...] = ()
    folders: tuple[Path, ...] = ()
    others: tuple[Path, ...] = ()
    broken: tuple[Path, ...] = ()


def natural(name: str) -> tuple[str, str]:
    """A sort key that puts img_2 before img_10, the same on every platform."""
    return re.sub(r"[0-9]+", lambda digits: digits[0].zfill(20), name), name


def _by_name(path: Path) -> tuple[str, str]:
    return natural(path.name)


def listed(folder: Path) -> Listing:
    """The entries of one folder. Raises DataError if it cannot be read."""
    images, folders, others, broken = [], [], [], []
    try:
        # scandir knows the kind of an entry without a stat: minutes on a network drive.
        with os.scandir(folder) as entries:
            for entry in entries:
                path = folder / entry.name
                if entry.name.startswith(".") or entry.name == "__MACOSX":
                    continue
                is_image = is_readable(path) or (entry.is_dir() and is_series(path))
                if entry.is_dir() and not (is_image and is_store(path)):
                    folders.append(path)
                elif not is_image:
                    others.append(path)
                elif entry.is_file() or entry.is_dir():
                    images.append(path)
                else:
                    broken.append(path)
    except OSError as error:
        raise DataError(
            f"cannot be read: {error.strerror}",
            where=folder,
            hint="check the path and its permissions",
        ) from error
    return Listing(
        *(tuple(sorted(found, key=_by_name)) for found in (images, folders, others, broken))
    )


def walked(folder: Path) -> Listing:
    """All files below a folder, each real folder once. Raises DataError if one cannot be read."""
    found: list[Listing] = []
    seen: set[Path] = set()
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        # A link to a folder above would otherwise be followed for ever.
        real = here.resolve()
        if real in seen:
            continue
        seen.add(real)
        found.append(listed(here))
        waiting.extend(reversed(found[-1].folders))
    return Listing(
        tuple(path for listing in found for path in listing.images),
        tuple(path for listing in found for path in listing.folders),
        tuple(path for listing in found for path in listing.others),
        tuple(path for listing in found for path in listing.broken),
    )


def composed(text: str) -> str:
    """The text in Unicode normal form C."""
    return unicodedata.normalize("NFC", text)


def without_suffix(path: Path) -> str:
    """The path without suffix, composed, with `/` between folders."""
    return composed((path.parent / split_name(path)[0]).as_posix())


def is_there(path: Path) -> bool:
    """Whether the path is a scan to look at; False for names no system would take."""
    try:
        return S_ISREG(path.stat().st_mode) or is_store(path)
    except (OSError, ValueError):
        return False


def files_below(paths: Iterable[Path], folder: Path) -> tuple[File, ...]:
    # The whole path is asked for the suffix: folders have none.
    return tuple(
        File(path, composed((path.relative_to(folder).parent / split_name(path)[0]).as_posix()))
        for path in paths
    )


def broken_links(paths: Sequence[Path], folder: Path) -> tuple[Finding, ...]:
    """An error finding if images are links that lead nowhere."""
    if not paths:
        return ()
    return (
        Finding(
            "error",
            str(folder),
            f"{counted(len(paths), 'image')} cannot be opened, being a link that leads nowhere: "
            f"{some(path.name for path in paths)}",
            "fetch the files (for DataLad: datalad get) or remove the links",
            "unreadable",
        ),
    )


def counted(number: int, noun: str) -> str:
    """`1 case`, `2 cases`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def some(names: Iterable[str]) -> str:
    """The first names, and how many there are besides."""
    every = [one_line(name) for name in names]
    rest = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return ", ".join(every[:SHOWN]) + rest


def inventory(folder: Path) -> str:
    """Files by suffix in the folder and one level below it, for messages."""
    top = listed(folder)
    parts = [f"{sub.name}/ ({_suffixes(listed(sub))})" for sub in top.folders[: 2 * SHOWN]]
    if len(top.folders) > 2 * SHOWN:
        parts.append(f"{len(top.folders) - 2 * SHOWN} more folders")
    if top.images or top.others or not parts:
        parts.append(_suffixes(replace(top, folders=())))
    return ", ".join(parts)


def _suffixes(listing: Listing) -> str:
    counts = Counter(
        split_name(path)[1].lower() or "without suffix" for path in listing.images + listing.others
    )
    found = [f"{n} {suffix}" for suffix, n in sorted(counts.items())]
    if listing.folders:
        found.append(counted(len(listing.folders), "folder"))
    return ", ".join(found) or "nothing"


def first_named(folders: Sequence[Path], names: Sequence[str]) -> tuple[Path, ...]:
    """The folders that bear one of the names in any case, in the order of `names`."""
    return tuple(
        folder for name in names for folder in folders if folder.name.casefold() == name.casefold()
    )
