"""Truths and predicted masks, paired by name."""

from pathlib import Path

from unetseg.dataset.listing import composed, listed, natural, some
from unetseg.dataset.pairing import without_mask_word
from unetseg.errors import DataError, UsageError
from unetseg.formats import is_readable, is_store, split_name
from unetseg.records import Listener, Note, ignore_event


def pair(
    truth: Path, predicted: Path, *, listener: Listener = ignore_event
) -> tuple[tuple[str, Path, Path], ...]:
    """Name, truth and predicted mask of each case, in the natural order of the names.

    truth, predicted : two files, or two folders whose files are paired by name

    A name is a file's stem without `_seg`, `_mask` and their like at its end, and without the
    number 0000 of nnU-Net's first channel if the truth has none. Sub-folders and
    hidden files are left out; so are predicted masks without a truth, with a note.

    Raises UsageError for a file and a folder; DataError if one does not exist or holds no masks,
    if two files of a folder have the same name, or if a truth has no predicted mask.
    """
    truth, predicted = Path(truth), Path(predicted)
    if _is_folder(truth) != _is_folder(predicted):
        raise UsageError(
            "a file and a folder cannot be compared",
            expected="two files or two folders",
            got=f"{truth} and {predicted}",
        )
    if not _is_folder(truth):
        return ((_case_name(truth), truth, predicted),)
    truths, others = _masks_by_name(truth), _masks_by_name(predicted)
    for name in truths:
        # The mask of nnU-Net's only channel file, where its truth bears no channel number.
        if name not in others and (only := others.pop(f"{name}_0000", None)):
            others[name] = only
    missing = [truths[name].name for name in truths if name not in others]
    if missing:
        raise DataError(
            f"no predicted mask for {len(missing)} of {len(truths)} truths: {some(missing)}",
            where=predicted,
            hint="predict these cases or take their truth away",
        )
    spare = [
        others[name].name
        for name in others
        # What predict writes beside its masks.
        if name not in truths
        and not name.endswith(("_overlay", "_prob", "_regions", "_uncertainty"))
    ]
    if spare:
        listener(
            Note(f"{len(spare)} of {len(others)} predicted masks have no truth: {some(spare)}")
        )
    return tuple((name, truths[name], others[name]) for name in truths)


def _is_folder(path: Path) -> bool:
    if not path.exists():
        raise DataError("does not exist", where=path, hint="check the path")
    return path.is_dir() and not (is_readable(path) or is_store(path))


def _case_name(path: Path) -> str:
    name = composed(split_name(path)[0])
    # More than once: what predict makes of a scan called lung_seg is lung_seg_seg.
    while shorter := without_mask_word(name):
        name = shorter
    return name


def _masks_by_name(folder: Path) -> dict[str, Path]:
    listing = listed(folder)
    named: dict[str, list[Path]] = {}
    # A link that leads nowhere is a case that fails, not one that was never there.
    for path in sorted(listing.images + listing.broken, key=lambda path: natural(path.name)):
        named.setdefault(_case_name(path), []).append(path)
    if not named:
        raise DataError("no masks in this folder", where=folder, hint="check the path")
    for name, paths in named.items():
        if len(paths) > 1:
            raise DataError(
                f"{len(paths)} masks for the name {name}: {some(path.name for path in paths)}",
                where=folder,
                hint="give a folder that holds one mask per case and nothing else",
            )
    return {name: paths[0] for name, paths in named.items()}
