"""Truths and predicted masks, paired by name."""

from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from unetseg.dataset.groups import with_groups
from unetseg.dataset.listing import some
from unetseg.dataset.masks import BESIDE_MASKS, case_name, is_folder, masks_by_name
from unetseg.errors import DataError, DeviceError, UnetsegError, UsageError
from unetseg.formats import read_mask
from unetseg.processes import usable_cores
from unetseg.records import Advance, Case, Listener, Mask, Note, Stage, ignore_event

# Name, truth and predicted mask of a case.
Pair = tuple[str, Path, Path]
Scored = TypeVar("Scored")


def pair(truth: Path, predicted: Path, *, listener: Listener = ignore_event) -> tuple[Pair, ...]:
    """Name, truth and predicted mask of each case, in the natural order of the names.

    truth, predicted : two files, or two folders whose files are paired by name

    A name is a file's stem without `_seg`, `_mask` and their like at its end, and without the
    number 0000 of nnU-Net's first channel if the truth has none. Sub-folders and
    hidden files are left out; so are predicted masks without a truth, with a note.

    Raises UsageError for a file and a folder; DataError if one does not exist or holds no masks,
    if two files of a folder have the same name, or if a truth has no predicted mask.
    """
    truth, predicted = Path(truth), Path(predicted)
    if is_folder(truth) != is_folder(predicted):
        raise UsageError(
            "a file and a folder cannot be compared",
            expected="two files or two folders",
            got=f"{truth} and {predicted}",
        )
    if not is_folder(truth):
        return ((case_name(truth), truth, predicted),)
    truths, others = masks_by_name(truth), masks_by_name(predicted)
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
        if name not in truths and not name.endswith(BESIDE_MASKS)
    ]
    if spare:
        listener(
            Note(f"{len(spare)} of {len(others)} predicted masks have no truth: {some(spare)}")
        )
    return tuple((name, truths[name], others[name]) for name in truths)


def groups_of(names: Iterable[str], group: str) -> dict[str, str]:
    """The group of each case by its name: patients, slides, plates.

    group : a regular expression with one group of its own, searched in each of the names

    Raises UsageError if it is none, DataError if it is not found in a name.
    """
    cases = with_groups([Case(name, ()) for name in names], group, where="--group")
    return {case.name: case.group or "" for case in cases}


def read_pair(truth_path: Path, predicted_path: Path, tolerance: float) -> tuple[Mask, Mask]:
    """Both masks, which lie on the same grid.

    tolerance : how far voxels may lie apart, as a share of a voxel's edge

    Raises DataError if one cannot be read, or with every field in which the grids differ.
    """
    truth, predicted = read_mask(truth_path), read_mask(predicted_path, is_drawn=False)
    if differences := truth.geometry.differences(predicted.geometry, tolerance=tolerance):
        raise DataError(
            f"does not lie on its truth: {'; '.join(differences)}",
            where=predicted_path,
            hint=f"compare masks of the same grid as {truth_path.name}",
        )
    return truth, predicted


def score_each(
    pairs: Sequence[Pair], score: Callable[[Path, Path], Scored], listener: Listener
) -> tuple[dict[str, Scored], list[tuple[str, UnetsegError]]]:
    """What `score` makes of each truth and predicted mask by the case's name, and the failures."""
    listener(Stage("evaluating", len(pairs)))
    scored: dict[str, Scored] = {}
    failures: list[tuple[str, UnetsegError]] = []
    # Closed at once if the listener raises, so that the waiting pairs are not read any more.
    with closing(_outcomes(pairs, score)) as outcomes:
        for (name, _, _), outcome in zip(pairs, outcomes, strict=True):
            if isinstance(outcome, UnetsegError):
                failures.append((name, outcome))
            else:
                scored[name] = outcome
            listener(Advance(name))
    return scored, failures


def _outcomes(
    pairs: Sequence[Pair], score: Callable[[Path, Path], Scored]
) -> Generator[Scored | UnetsegError, None, None]:
    """What `score` makes of each pair, or its failure; in order, on all cores."""

    def outcome(files: Pair) -> Scored | UnetsegError:
        _, truth, predicted = files
        try:
            return score(truth, predicted)
        except UnetsegError as error:
            return error
        except MemoryError:
            return DeviceError("too large to be scored in the free memory", where=predicted)

    # Threads suffice: reading and the distance transform release the interpreter lock.
    with ThreadPoolExecutor(min(usable_cores(), len(pairs))) as executor:
        yield from executor.map(outcome, pairs)
