"""Every case as the network sees it that has not learned from it: masks, scores, tables."""

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from unetseg import checkpoint
from unetseg.config import Plan
from unetseg.dataset.loading import load_scan
from unetseg.devices import find_device, measure, memory_errors, usable_precision
from unetseg.errors import ModelError
from unetseg.files import write_text
from unetseg.formats import format_of, read_mask, write_mask
from unetseg.pipeline import class_indices
from unetseg.records import Advance, Case, Listener, Mask, Stage
from unetseg.tasks import make_task
from unetseg.tasks.cleaning import clean, cleanings, voxel_size, with_cleanings
from unetseg.tasks.segmenting import Segmenter
from unetseg.training.run_file import fold_folder
from unetseg.training.scores import score_of
from unetseg.training.selection import Unseen
from unetseg.training.validation import Validation, segmented

# Masks as the networks give them, and as the model cleans them.
MASKS, CLEANED = "out_of_fold", "out_of_fold_cleaned"
TABLE = "out_of_fold.csv"
_RECORD = "out_of_fold.json"


@dataclass(frozen=True)
class FoldScores:
    """The scores of one fold's cases, as its folder keeps them.

    minutes : the time budget of all folds together that the fold had a share in, if any
    seconds : that it took to make the masks
    """

    minutes: float | None
    seconds: float
    validation: Validation


@dataclass(frozen=True)
class OutOfFold:
    """The scores of all cases, each by the network that has not learned from it.

    folds : the fold of each case
    scores : of the masks as the networks give them
    cleaned : of the masks as the model cleans them, None if it does not
    """

    folds: tuple[int, ...]
    scores: Validation
    cleaned: Validation | None

    def of_fold(self, fold: int) -> Validation:
        """The scores of one fold's cases."""
        picked = [place for place, each in enumerate(self.folds) if each == fold]
        return Validation(
            tuple(self.scores.names[place] for place in picked),
            tuple(self.scores.rows[place] for place in picked),
            self.scores.score,
        )


def mask_of(run: Path, case: Case, folder: str = MASKS) -> Path:
    """Where the mask of a case goes. A name with folders in it stands for folders."""
    suffix = format_of(case.images[0]).mask_suffix(case.images[0])
    return run / folder / f"{case.name}_seg{suffix}"


@dataclass(frozen=True)
class FoldCases:
    """The cases that the network of a fold has not learned from, and where their masks go.

    run : the folder of all folds
    """

    run: Path
    fold: int
    cases: tuple[Case, ...]

    @property
    def folder(self) -> Path:
        return fold_folder(self.run, self.fold)


def segment_unseen(
    unseen: FoldCases,
    device_name: str,
    minutes: float | None,
    listener: Listener,
    should_stop: Callable[[], bool] = lambda: False,
) -> FoldScores | None:
    """Write the masks of a fold's cases, without cleaning, score them, and keep the scores.

    minutes : see FoldScores

    None if it was asked to stop: then they are all made again. Raises ModelError or DataError.
    """
    begun = perf_counter()
    key = _key(unseen.folder)
    trained = checkpoint.load(unseen.folder)
    plan = with_cleanings(trained.plan, {})
    device = find_device(device_name)
    precision = usable_precision(plan.training.precision, measure(device))
    network = trained.network.placed(device)
    segmenter = Segmenter(network, plan, make_task(plan), device, precision)
    listener(Stage("segmenting", len(unseen.cases)))
    score, rows = score_of(plan), []
    for case in unseen.cases:
        if should_stop():
            return None
        with memory_errors(device):
            scan, mask = segmented(segmenter, case)
        write_mask(mask, mask_of(unseen.run, case), scan)
        rows.append(score.row(case, mask, plan.data))
        listener(Advance(case.name))
    names = tuple(case.name for case in unseen.cases)
    scores = FoldScores(minutes, perf_counter() - begun, Validation(names, tuple(rows), score))
    _write_scores(unseen.folder, key, scores)
    return scores


def read_scores(unseen: FoldCases) -> FoldScores | None:
    """What `segment_unseen` has kept of these cases, if the fold has had no other model since."""
    try:
        content = json.loads((unseen.folder / _RECORD).read_text(encoding="utf-8"))
        if content["model"] != _key(unseen.folder):
            return None
        score = score_of(checkpoint.load_plan(unseen.folder))
        found = FoldScores(
            content["minutes"],
            float(content["seconds"]),
            Validation(
                tuple(content[score.key]),
                tuple(
                    tuple(math.nan if value is None else float(value) for value in row)
                    for row in content[score.key].values()
                ),
                score,
            ),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ModelError):
        # Whatever is wrong with it, it can be made again.
        return None
    if found.validation.names != tuple(case.name for case in unseen.cases):
        return None
    return found if all(mask_of(unseen.run, case).is_file() for case in unseen.cases) else None


def _write_scores(folder: Path, key: str, scores: FoldScores) -> None:
    validation = scores.validation
    rows = zip(validation.names, validation.rows, strict=True)
    content = {
        "model": key,
        "minutes": scores.minutes,
        "seconds": round(scores.seconds, 1),
        validation.score.key: {
            name: [None if math.isnan(value) else value for value in row] for name, row in rows
        },
    }
    write_text(folder / _RECORD, json.dumps(content, indent=1) + "\n")


def _key(folder: Path) -> str:
    """What changes with every model that a fold's folder gets."""
    path = folder / "model" / checkpoint.DESCRIPTION
    try:
        return blake2b(path.read_bytes(), digest_size=16).hexdigest()
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}", where=path) from error


def write_cleaned(
    run: Path, unseen: Sequence[Unseen], plan: Plan, listener: Listener
) -> Validation:
    """Write every mask as the plan cleans it, and score it."""
    wanted, values = cleanings(plan), np.array(plan.data.class_values)
    sized = any(cleaning.min_size for cleaning in wanted.values())
    listener(Stage("cleaning", len(unseen)))
    score, rows = score_of(plan), []
    for each in unseen:
        raw = read_mask(each.mask, is_drawn=False)
        voxel = voxel_size(raw.geometry, plan.data.unit) if sized else 1.0
        indices = clean(class_indices(raw.array, plan.data).numpy(), wanted, voxel)
        mask = Mask(values[indices].astype(raw.array.dtype), raw.geometry, raw.labels)
        write_mask(mask, mask_of(run, each.case, CLEANED), load_scan(each.case))
        rows.append(score.row(each.case, mask, plan.data))
        listener(Advance(each.case.name))
    return Validation(tuple(each.case.name for each in unseen), tuple(rows), score)


def write_table(path: Path, found: OutOfFold) -> None:
    """A row per case: its fold and the score's values, empty where they are not defined."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    names = found.scores.score.heads()
    tables: list[Sequence[Sequence[float]]] = [found.scores.cases]
    if found.cleaned is not None:
        names += [f"cleaned {head}" for head in found.cleaned.score.heads()]
        tables.append(found.cleaned.cases)
    writer.writerow(["case", "fold", *names])
    for name, fold, *rows in zip(found.scores.names, found.folds, *tables, strict=True):
        cells: list[Any] = [value for row in rows for value in row]
        writer.writerow([name, fold, *("" if math.isnan(d) else f"{d:.6f}" for d in cells)])
    write_text(path, buffer.getvalue())
