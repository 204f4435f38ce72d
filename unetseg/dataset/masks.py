"""Folders of masks, one file per case, as predict writes them."""

from pathlib import Path

from unetseg.dataset.listing import composed, listed, natural, some
from unetseg.dataset.pairing import without_mask_word
from unetseg.errors import DataError
from unetseg.formats import is_readable, is_store, split_name

# How the names end of what predict writes beside its masks.
BESIDE_MASKS = ("_overlay", "_prob", "_regions", "_uncertainty")


def is_folder(path: Path) -> bool:
    """Whether it is a folder of files, no OME-Zarr. Raises DataError if it is not there."""
    if not path.exists():
        raise DataError("does not exist", where=path, hint="check the path")
    return path.is_dir() and not (is_readable(path) or is_store(path))


def case_name(path: Path) -> str:
    """The stem without `_seg`, `_mask` and their like at its end."""
    name = composed(split_name(path)[0])
    # More than once: what predict makes of a scan called lung_seg is lung_seg_seg.
    while shorter := without_mask_word(name):
        name = shorter
    return name


def masks_by_name(folder: Path) -> dict[str, Path]:
    """The masks of a folder by `case_name`, in natural order.

    Raises DataError if there are none, or two of the same name.
    """
    listing = listed(folder)
    named: dict[str, list[Path]] = {}
    # A link that leads nowhere is a case that fails, not one that was never there.
    for path in sorted(listing.images + listing.broken, key=lambda path: natural(path.name)):
        named.setdefault(case_name(path), []).append(path)
    for paths in named.values():
        # A DICOM-SEG beside the mask that it was made of is no second mask.
        if any(path.suffix.lower() != ".dcm" for path in paths):
            paths[:] = [path for path in paths if path.suffix.lower() != ".dcm"]
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
