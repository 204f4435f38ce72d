"""Every case as the network sees it that has not learned from it: masks, scores, tables."""

import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from unetseg import checkpoint
from unetseg.config import DataPlan, Plan
from unetseg.dataset.loading import load_scan, without_voxels
from unetseg.devices import find_device, measure, memory_errors, usable_precision
from unetseg.errors import DataError, ModelError
from unetseg.files import write_text
from unetseg.formats import read_mask, write_mask
from unetseg.pipeline import class_indices
from unetseg.records import Advance, Case, Listener, Mask, Stage
from unetseg.runs.evidence import EVIDENCE, Evidence, evidence_of, model_key, read_evidence
from unetseg.runs.run_file import fold_folder
from unetseg.tasks import make_task
from unetseg.tasks.cleaning import clean, cleanings, voxel_size, with_cleanings
from unetseg.tasks.segmenting import Segmenter
from unetseg.training.evidence import Gathering, mask_of, read_case_mask, write_case_mask
from unetseg.training.scores import Row, Score, score_of
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
    evidence : None if an earlier release made the masks
    """

    minutes: float | None
    seconds: float
    validation: Validation
    evidence: Evidence | None = None


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

    What the fold's own validation has left is taken over, if it was not cleaned.

    minutes : see FoldScores

    None if it was asked to stop: then they are all made again. Raises ModelError or DataError.
    """
    begun = perf_counter()
    key = _key(unseen.folder)
    plan = checkpoint.load_plan(unseen.folder)
    # It speaks of masks that are about to be others.
    (unseen.run / EVIDENCE).unlink(missing_ok=True)
    left, gathering = None if cleanings(plan) else _left(unseen), Gathering(plan)
    if left is not None:
        listener(Stage("taking over masks", len(unseen.cases)))
        made = _taken_over(unseen, left, plan.data, score_of(plan))
    else:
        listener(Stage("segmenting", len(unseen.cases)))
        made = _segmented(unseen, find_device(device_name), gathering)
    rows = []
    for case in unseen.cases:
        if should_stop():
            return None
        rows.append(next(made))
        listener(Advance(case.name))
    validation = Validation(tuple(case.name for case in unseen.cases), tuple(rows), score_of(plan))
    evidence = _moved(left, unseen) if left else gathering.evidence(unseen.cases, MASKS)
    scores = FoldScores(minutes, perf_counter() - begun, validation, evidence)
    _write_scores(unseen.folder, key, scores)
    return scores


def _segmented(unseen: FoldCases, device: torch.device, gathering: Gathering) -> Iterator[Row]:
    """What each case gives to the score when the fold's network segments it."""
    trained = checkpoint.load(unseen.folder)
    plan = with_cleanings(trained.plan, {})
    precision = usable_precision(plan.training.precision, measure(device))
    network = trained.network.placed(device)
    segmenter = Segmenter(network, plan, make_task(plan), device, precision)
    for case in unseen.cases:
        with memory_errors(device):
            found = segmented(segmenter, case, score_of(plan), gathering)
        write_case_mask(found.mask, mask_of(unseen.run, case, MASKS), found.like, plan.data)
        gathering.add(found.mask, found.compared, is_kept=True)
        yield found.compared.row


def _left(unseen: FoldCases) -> Evidence | None:
    """What the fold's validation has left of all these cases, masks included."""
    try:
        left = read_evidence(unseen.folder)
    except DataError:
        return None
    if left is None or [each.name for each in left.cases] != [case.name for case in unseen.cases]:
        return None
    is_whole = all(each.mask and (unseen.folder / each.mask).exists() for each in left.cases)
    return left if is_whole else None


def _taken_over(unseen: FoldCases, left: Evidence, data: DataPlan, score: Score) -> Iterator[Row]:
    """What each case gives to the score by the mask that is left of it."""
    for case, each in zip(unseen.cases, left.cases, strict=True):
        like = without_voxels(load_scan(case))
        mask = read_case_mask(unseen.folder / each.mask, like, data)
        write_case_mask(mask, mask_of(unseen.run, case, MASKS), like, data)
        yield score.row(case, mask, data)


def _moved(left: Evidence, unseen: FoldCases) -> Evidence:
    """What is left, of the masks as they lie in the run of all folds."""
    names = [mask_of(Path(), case, MASKS).as_posix() for case in unseen.cases]
    cases = [replace(each, mask=name) for each, name in zip(left.cases, names, strict=True)]
    return replace(left, cases=tuple(cases))


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
            evidence_of(content["evidence"]) if "evidence" in content else None,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ModelError):
        # Whatever is wrong with it, it can be made again.
        return None
    if found.validation.names != tuple(case.name for case in unseen.cases):
        return None
    masks = [mask_of(unseen.run, case, MASKS) for case in unseen.cases]
    return found if all(mask.is_file() for mask in masks) else None


def _write_scores(folder: Path, key: str, scores: FoldScores) -> None:
    validation = scores.validation
    rows = zip(validation.names, validation.rows, strict=True)
    content: dict[str, Any] = {
        "model": key,
        "minutes": scores.minutes,
        "seconds": round(scores.seconds, 1),
        validation.score.key: {
            name: [None if math.isnan(value) else value for value in row] for name, row in rows
        },
    }
    if scores.evidence is not None:
        content["evidence"] = asdict(scores.evidence)
    write_text(folder / _RECORD, json.dumps(content, indent=1) + "\n")


def _key(folder: Path) -> str:
    """What changes with every model that a fold's folder gets."""
    key = model_key(folder)
    if not key:
        raise ModelError("no model of the fold", where=folder)
    return key


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
