"""Files, folders and patterns -> the scans to predict."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from glob import glob, has_magic
from pathlib import Path

from unetseg.dataset.layouts import IMAGE_FOLDERS, TEST_FOLDERS, told_apart
from unetseg.dataset.listing import (
    File,
    composed,
    files_below,
    first_named,
    inventory,
    is_there,
    listed,
    natural,
    walked,
)
from unetseg.dataset.naming import named
from unetseg.dataset.pairing import pair, without_channel, without_mask_word
from unetseg.errors import DataError, UnetsegError
from unetseg.formats import is_readable, is_store, split_name, suffixes
from unetseg.formats.remote import local, url_of
from unetseg.records import Case


@dataclass(frozen=True)
class Found:
    """Scans in the order in which they were asked for, and what could not be found.

    cases : with distinct names, without truth
    failures : the path concerned and what is wrong with it
    """

    cases: tuple[Case, ...] = ()
    failures: tuple[tuple[Path, UnetsegError], ...] = ()


def find_scans(paths: Sequence[Path | str], *, channels: int | None = None) -> Found:
    """The scans behind files, folders and patterns (`*`, `?`, `[...]`, `**`), each once.

    channels : how many channels the model wants; tells channel files (brain_0000, brain_0001)
        from frames (film_0000 to film_0099). If None, numbers from 0000 on are channels.

    A folder stands for the images in itself, without masks that lie beside them; one that is
    laid out for training stands for its imagesTs/, else images/, else imagesTr/. Whatever is
    wrong with one path is told in `failures`; the others are found all the same.
    """
    # A dict for its keys: in order, each once.
    batches: dict[tuple[Path, bool], dict[File, None]] = {}
    failures: list[tuple[Path, UnetsegError]] = []
    for given in paths:
        try:
            for path in _matches(Path(given)):
                if path.is_dir() and not is_store(path):
                    batches[path, True] = dict.fromkeys(_in_folder(path))
                else:
                    loose = batches.setdefault((path.parent, False), {})
                    loose.update(dict.fromkeys(files_below([path], path.parent)))
        except UnetsegError as error:
            failures.append((Path(given), error))
    cases: dict[tuple[Path, ...], Case] = {}
    for (folder, _), batch in batches.items():
        files = tuple(batch)
        pairing = pair(files, (), where=folder, channels=channels)
        scans = pairing.scans
        if pairing.channels:
            failures += [
                (folder, DataError(fault.sentence, where=fault.where, hint=fault.hint))
                for fault in pairing.findings
            ]
        else:
            # x.png and x.tif are two scans, though they could not share a mask.
            scans = tuple(Case(file.stem, (file.path,)) for file in files)
        for scan in scans:
            # A link is a scan of its own: only its folder is resolved.
            key = tuple(path.parent.resolve() / path.name for path in scan.images)
            name = composed((scan.images[0].parent / Path(scan.name).name).as_posix())
            cases.setdefault(key, replace(scan, name=name))
    return Found(named(tuple(cases.values())), tuple(failures))


def _matches(path: Path) -> list[Path]:
    """The path itself, or what it matches as a pattern. Raises DataError if there is nothing."""
    if url_of(path) is not None:
        # Whether it is there is seen when it is opened.
        return [path]
    path = local(path)
    try:
        path.stat()
    except (OSError, ValueError) as error:
        if has_magic(str(path)):
            return _globbed(path)
        raise DataError(
            f"cannot be read: {getattr(error, 'strerror', None) or error}",
            where=path,
            hint="check the path",
        ) from error
    if path.is_dir() or is_readable(path):
        return [path]
    raise DataError(
        "no known image format",
        where=path,
        expected=" ".join(suffixes()),
        got=split_name(path)[1] or "no suffix",
    )


def _globbed(pattern: Path) -> list[Path]:
    # Path.glob takes no absolute patterns.
    matches = [Path(match) for match in glob(str(pattern), recursive=True)]  # noqa: PTH207
    matches.sort(key=lambda path: natural(path.as_posix()))
    files = [path for path in matches if is_readable(path) and is_there(path)]
    folders = [path for path in matches if path.is_dir() and path not in files]
    if not files and not folders:
        raise DataError("no image matches this pattern", where=pattern, hint="check the pattern")
    return files or folders


def _in_folder(folder: Path) -> tuple[File, ...]:
    top = listed(folder)
    for name in ("imagesTs", *IMAGE_FOLDERS, "imagesTr"):
        for below in first_named(top.folders, [name]):
            inside = walked(below)
            if inside.images or inside.broken:
                return files_below((*inside.images, *inside.broken), below)
    # A link that leads nowhere is a scan too: reading it will say so.
    if top.images or top.broken:
        return _without_masks(files_below((*top.images, *top.broken), folder))
    for below in first_named(top.folders, TEST_FOLDERS):
        return _in_folder(below)
    raise DataError(
        "no images in this folder",
        where=folder,
        expected=" ".join(suffixes()),
        got=inventory(folder),
        hint="give a folder that holds images itself, or a pattern such as 'FOLDER/**/*.tif'",
    )


def _without_masks(files: Sequence[File]) -> tuple[File, ...]:
    """The images, and what is named like a mask but lies beside no image that it could be of."""
    images, masks = told_apart(files)
    stems = {image.stem for image in images} | {without_channel(image.stem) for image in images}
    taken = {mask.path for mask in masks if without_mask_word(mask.stem) in stems}
    return tuple(file for file in files if file.path not in taken)
