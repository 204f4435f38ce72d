"""Where the files of each case go: the mask, and what lies beside it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unetseg.dataset.pairing import without_channel
from unetseg.errors import DataError, UnetsegError, UsageError
from unetseg.formats import format_of, is_readable, split_name
from unetseg.prediction.request import Kind, Request
from unetseg.prediction.shares import Share
from unetseg.records import Case, FileDone


@dataclass(frozen=True)
class Job:
    """A case, and the files that it becomes.

    mask : written last, so that where it is everything is
    beside : the other files by kind
    keeps_mask : the mask is there already and stays as it is; only what lacks beside it is written
    share : which of its blocks are done here; all of them if None
    """

    case: Case
    mask: Path
    beside: tuple[tuple[Kind, Path], ...] = ()
    keeps_mask: bool = False
    share: Share | None = None

    @property
    def image(self) -> Path:
        """The file by which the case is known."""
        return self.case.images[0]

    @property
    def outputs(self) -> tuple[Path, ...]:
        """All of its files."""
        return (self.mask, *(path for _, path in self.beside))

    @property
    def keeps_blocks(self) -> bool:
        """Whether the mask keeps the blocks that are finished, for whoever goes on with it."""
        return len(self.case.images) == 1 and format_of(self.mask).is_folder

    def left(self, *, overwrite: bool) -> "Job | None":
        """What is still to be done of it; None if all is there."""
        # Maps without the mask are those of a case that broke off, of whatever model.
        if overwrite or not self.mask.exists():
            return self
        missing = tuple((kind, path) for kind, path in self.beside if not path.exists())
        # The mask may have been corrected by hand since.
        return replace(self, beside=missing, keeps_mask=True) if missing else None


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
            job = Job(case, mask, beside)
            _check_apart(job, inputs, taken)
        except (DataError, UsageError) as error:
            found.append(failure(case.images, error))
        else:
            taken[_identity(mask)] = image
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
                f"the {'mask' if output == job.mask else 'maps'} would overwrite an input",
                where=output,
                hint="give another -o",
            )
    other = taken.get(_identity(job.mask))
    if other is not None:
        raise UsageError(
            "two inputs would give the same mask",
            where=job.mask,
            got=f"{other} and {job.image}",
            hint="predict them into different folders",
        )


def maps_path(mask: Path, scan: Path, kind: Kind) -> Path:
    """Where what has several channels goes, beside a mask: `{stem}_{kind}`."""
    suffix = format_of(scan).maps_suffix(scan)
    stem = split_name(mask)[0].removesuffix("_seg")
    return mask.with_name(f"{stem}_{kind}{suffix}")


def _stem(case: Case) -> str:
    """The name of the scan's file, without the number of a channel file."""
    stem = split_name(case.images[0])[0]
    channel = without_channel(stem) if len(case.images) > 1 else None
    return channel or stem


def _identity(path: Path) -> str:
    return os.path.normcase(path.resolve())
