"""Where the files of each case go: the mask, and what lies beside it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unetseg.dataset.pairing import without_channel
from unetseg.errors import DataError, UnetsegError, UsageError
from unetseg.exporting import check_free, export_path
from unetseg.formats import format_of, is_readable, split_name
from unetseg.prediction.request import Kind, Request
from unetseg.prediction.shares import Share
from unetseg.records import Case, FileDone


@dataclass(frozen=True)
class Job:
    """A case, and the files that it becomes.

    mask : written last, so that where it is everything is
    beside : the maps by kind
    exports : by name, what is made of the mask when it is there
    keeps_mask : the mask is there already and stays as it is; only what lacks beside it is written
    share : which of its blocks are done here; all of them if None
    """

    case: Case
    mask: Path
    beside: tuple[tuple[Kind, Path], ...] = ()
    exports: tuple[tuple[str, Path], ...] = ()
    keeps_mask: bool = False
    share: Share | None = None

    @property
    def image(self) -> Path:
        """The file by which the case is known."""
        return self.case.images[0]

    @property
    def outputs(self) -> tuple[Path, ...]:
        """All of its files."""
        return (self.mask, *(path for _, path in (*self.beside, *self.exports)))

    @property
    def keeps_blocks(self) -> bool:
        """Whether the mask keeps the blocks that are finished, for whoever goes on with it."""
        return len(self.case.images) == 1 and format_of(self.mask).is_folder

    @property
    def needs_model(self) -> bool:
        """Whether anything is left for a network to do."""
        return not self.keeps_mask or bool(self.beside)

    def left(self, *, overwrite: bool) -> "Job | None":
        """What is still to be done of it; None if all is there."""
        # Maps without the mask are those of a case that broke off, of whatever model.
        if overwrite or not self.mask.exists():
            return self
        beside = tuple((kind, path) for kind, path in self.beside if not path.exists())
        exports = tuple((name, path) for name, path in self.exports if not path.exists())
        if not beside and not exports:
            return None
        # The mask may have been corrected by hand since.
        return replace(self, beside=beside, exports=exports, keeps_mask=True)


def failure(scans: tuple[Path, ...], error: UnetsegError) -> FileDone:
    """What is told of a scan that failed."""
    return FileDone(scans, None, "failed", message=str(error))


def placed(cases: Sequence[Case], request: Request) -> list[Job | FileDone]:
    """A job for each case; a failure for one whose files would hit an input or another mask.

    Raises UsageError if the output is neither a folder nor a file for a single case.
    """
    inputs = {_identity(path) for case in cases for path in case.images}
    folder = request.output or Path()
    as_file = request.output is not None and len(cases) == 1 and is_readable(request.output)
    if request.output is not None and not as_file:
        _check_folder(request.output)
    found: list[Job | FileDone] = []
    taken: dict[str, Path] = {}
    for case in cases:
        image = case.images[0]
        try:
            suffix = format_of(image).mask_suffix(image)
            mask = folder if as_file else folder / f"{_stem(case)}_seg{suffix}"
            beside = tuple((kind, maps_path(mask, image, kind)) for kind in request.kinds)
            exports = tuple((name, export_path(mask, name)) for name in request.exports)
            job = Job(case, mask, beside, exports)
            _check_apart(job, inputs, taken)
            if not (request.overwrite or mask.exists()):
                # Somebody's own outlines, perhaps those that the model has learned from.
                check_free([path for _, path in exports])
        except (DataError, UsageError) as error:
            found.append(failure(case.images, error))
        else:
            taken |= dict.fromkeys(map(_identity, job.outputs), image)
            found.append(job)
    return found


def dealt(
    everything: Sequence[Job | FileDone], share: Share, *, in_blocks: bool
) -> list[Job | FileDone]:
    """What a share has to do.

    Whole scans in turn; where there are fewer scans than shares, each has a part of the blocks of
    every mask that keeps its blocks.

    in_blocks : whether the blocks of a mask may be done apart from one another
    """
    if not in_blocks or len(everything) >= share.count:
        return share.of(everything)
    mine = {id(each) for each in share.of(everything)}
    found: list[Job | FileDone] = []
    for each in everything:
        if isinstance(each, Job) and each.keeps_blocks:
            found.append(replace(each, share=share))
        elif id(each) in mine:
            found.append(each)
    return found


def _check_folder(output: Path) -> None:
    # An OME-Zarr is a folder too, and no place for masks.
    if is_readable(output):
        raise UsageError(
            "several inputs cannot go into one file", where=output, hint="give -o a folder"
        )
    if output.exists() and not output.is_dir():
        raise UsageError("not a folder", where=output, hint="give -o a folder")


def _check_apart(job: Job, inputs: set[str], taken: dict[str, Path]) -> None:
    for output in job.outputs:
        if _identity(output) in inputs:
            raise UsageError(
                f"{_noun(output, job)} would overwrite an input",
                where=output,
                hint="give another -o",
            )
        other = taken.get(_identity(output))
        if other is not None:
            raise UsageError(
                f"two inputs would give the same {_noun(output, job).removeprefix('the ')}",
                where=output,
                got=f"{other} and {job.image}",
                hint="predict them into different folders",
            )


def _noun(output: Path, job: Job) -> str:
    if output == job.mask:
        return "the mask"
    return "the maps" if output in (path for _, path in job.beside) else "the export"


def maps_path(mask: Path, scan: Path, kind: Kind) -> Path:
    """Where what has several channels goes, beside a mask: `{stem}_{kind}`."""
    suffix = format_of(scan).maps_suffix(scan)
    stem = split_name(mask)[0].removesuffix("_seg")
    return mask.with_name(f"{stem}_{kind}{suffix}")


def _stem(case: Case) -> str:
    """The name of the scan's file, without the number of a channel file."""
    stem = split_name(case.images[0])[0]
    channel = without_channel(stem) if len(case.images) > 1 else None
    if case.view.scene is not None:
        # Several masks for one file; the name ends in the scene, see dataset.views.
        return f"{stem}_{case.name.rpartition('_')[2]}"
    return channel or stem


def _identity(path: Path) -> str:
    return os.path.normcase(path.resolve())
