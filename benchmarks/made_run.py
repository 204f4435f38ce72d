"""A run folder as a training would have left it, made without one: data, tables, masks, evidence.

Its numbers are those of its masks: Dice and objects are measured by this project's own metrics.
"""

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import tifffile
from made_cases import Made, MadeCase, members
from numpy.typing import NDArray

from unetseg.config import Plan, make_plan, to_values
from unetseg.config.toml import write_plan
from unetseg.metrics import dice_per_class
from unetseg.metrics.objects import THRESHOLDS, matches, merges, splits
from unetseg.runs import AtIoU, Bin, CaseEvidence, Evidence, ObjectsFound
from unetseg.runs.evidence import merged, write_evidence

_STEPS, _EPOCHS, _BINS = 25, 30, 20
_VALUES: dict[str, Any] = {
    "data.channels": ("T1",),
    "data.orientation": "canonical",
    "data.normalisation": "zscore",
    "patch.batch": 2,
    "network.encoder": "plain",
    "network.skip": "concat",
    "network.levels": 2,
    "network.features": (16, 32),
    "network.deep_supervision": False,
    "training.seed": 0,
    "training.fold": 0,
    "training.folds": 5,
    "training.minutes": 10.0,
    "training.steps_per_epoch": _STEPS,
    "training.learning_rate": 0.004,
    "training.weight_decay": 0.01,
    "training.warmup_steps": 20,
    "training.gradient_clip": 12.0,
    "training.average_decay": 0.99,
    "training.foreground_share": 0.33,
    "training.dice_weight": 1.0,
    "training.cross_entropy_weight": 1.0,
    "training.precision": "float32",
    "training.validation_cases": 12,
    "training.augment.mirror_axes": (),
    "training.augment.spatial_probability": 0.3,
    "training.augment.scale": (0.8, 1.25),
    "training.augment.intensity_probability": 0.2,
    "training.augment.brightness": (0.75, 1.25),
    "training.augment.contrast": (0.75, 1.25),
    "training.augment.gamma": (0.7, 1.5),
    "training.augment.noise": 0.1,
    "training.augment.blur": 1.0,
    "decode.overlap": 0.5,
}
_TASKS = {"classes": "semantic", "regions": "regions", "objects": "instances"}
_REASONS = {
    "data.spacing": "median of the scans",
    "network.skip": "the U-Net's long skip",
    "training.minutes": "set by you",
}


def make_run(folder: Path, made: Made) -> Path:
    """A data set in folder/data and a run of it in folder/run; the run's folder."""
    run, data = folder / "run", folder / "data"
    cases = [MadeCase.make(made, number) for number in range(made.cases)]
    for case in cases:
        _write(data / "images" / case.name, case.image, made)
        _write(data / "labels" / case.name, case.truth, made)
    _write_run(run, data, made, cases)
    return run


def make_folds(folder: Path, made: Made, folds: int) -> Path:
    """A run of all folds, each with its share of the cases."""
    run, data = folder / "run", folder / "data"
    cases = [MadeCase.make(made, number) for number in range(made.cases)]
    for case in cases:
        _write(data / "images" / case.name, case.image, made)
        _write(data / "labels" / case.name, case.truth, made)
    parts = [cases[fold::folds] for fold in range(folds)]
    evidence = []
    for fold, part in enumerate(parts):
        evidence.append(_write_run(run / f"fold_{fold}", data, made, part, fold=fold))
    plan = _plan(made)
    plan = replace(plan, training=replace(plan.training, folds=folds))
    write_plan(plan, run / "plan.toml")
    _write_origin(run, data, folds=folds)
    rows = {c.name: (f, c) for f, part in enumerate(parts) for c in part}
    _write_table(
        run / "out_of_fold.csv",
        made,
        [rows[c.name][1] for c in cases],
        [rows[c.name][0] for c in cases],
    )
    _write_model(
        run,
        plan,
        made,
        cases,
        {
            "folds": list(range(folds)),
            "cases": made.cases,
            "cleaning": ["core: the largest component alone gives Dice 0.81, 0.80 without: kept"],
        },
    )
    for case in cases:
        _write(run / "out_of_fold" / f"{case.name}_seg", case.found, made)
    whole = merged([each for each in evidence if each], [case.name for case in cases])
    masks = tuple(
        replace(case, mask=case.mask.replace("validation/", "out_of_fold/")) for case in whole.cases
    )
    write_evidence(run, replace(whole, cases=masks))
    return run


def _plan(made: Made) -> Plan:
    axes = len(made.shape)
    named = ("background", *(made.classes if made.kind != "objects" else ("object",)))
    values = _VALUES | {
        "data.task": {"classes": "semantic", "regions": "regions", "objects": "instances"}[
            made.kind
        ],
        "data.dimensions": axes,
        "data.unit": "um" if made.is_flat else "mm",
        "data.orientation": "as_read" if made.is_flat else "canonical",
        "data.spacing": (1.0,) * axes,
        "data.class_names": named,
        "data.class_values": tuple(range(len(named))),
        "patch.size": (16,) * axes,
        "network.strides": ((1,) * axes, (2,) * axes),
        "network.kernels": ((3,) * axes, (3,) * axes),
        "training.augment.rotation_degrees": (15.0,) * (1 if made.is_flat else 3),
    }
    if made.kind == "regions":
        count = len(made.classes)
        values["data.regions"] = {
            name: list(range(k + 1, count + 1)) for k, name in enumerate(made.classes)
        }
    return make_plan(values, _REASONS)


def _write(path: Path, array: NDArray[Any], made: Made) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if made.is_flat:
        sizes = {
            "PhysicalSizeX": 1.0,
            "PhysicalSizeXUnit": "µm",
            "PhysicalSizeY": 1.0,
            "PhysicalSizeYUnit": "µm",
        }
        stored = array if array.dtype == np.uint16 else array.clip(0).astype(np.uint16)
        tifffile.imwrite(
            path.with_name(f"{path.name}.ome.tif"),
            stored,
            ome=True,
            metadata={"axes": "YX", **sizes},
        )
        return
    volume = nib.Nifti1Image(array, np.eye(4))
    volume.header.set_xyzt_units("mm")
    nib.save(volume, path.with_name(f"{path.name}.nii.gz"))


def _write_run(
    run: Path, data: Path, made: Made, cases: Sequence[MadeCase], *, fold: int = 0
) -> Evidence | None:
    plan = _plan(made)
    plan = replace(plan, training=replace(plan.training, fold=fold))
    write_plan(plan, run / "plan.toml")
    _write_origin(run, data)
    columns = _columns(made)
    _write_history(run / "history.csv", made, columns)
    if not made.is_done:
        return None
    _write_table(run / "validation.csv", made, cases)
    _write_model(
        run, plan, made, cases, {"step": _STEPS * _EPOCHS, "cases": [4 * len(cases), len(cases)]}
    )
    for case in cases:
        _write(run / "validation" / f"{case.name}_seg", case.found, made)
    evidence = _evidence(made, plan, cases)
    write_evidence(run, evidence)
    return evidence


def _columns(made: Made) -> tuple[str, ...]:
    return tuple(map(str, THRESHOLDS)) if made.kind == "objects" else made.classes


def _write_origin(run: Path, data: Path, folds: int | None = None) -> None:
    content = {
        "data": str(data.resolve()),
        "unetseg": "0",
        "started": "2026-01-02T03:04:05+00:00",
        "command": f"unetseg train {data} --time 10m",
        "versions": {"unetseg": "0", "python": "3.11.2", "torch": "2.8.0"},
        "machine": "a processor, 8 cores, 32 GiB",
        "digest": "0123456789abcdef" * 2,
    }
    if folds is not None:
        content |= {"folds": folds}
    (run / "run.json").write_text(json.dumps(content))


def _write_history(path: Path, made: Made, columns: Sequence[str]) -> None:
    rng = np.random.default_rng(made.seed)
    key = "ap" if made.kind == "objects" else "dice"
    epochs = _EPOCHS if made.is_done else 1
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            [
                "epoch",
                "step",
                "seconds",
                "learning_rate",
                "loss",
                "steps_per_second",
                "waiting",
                f"mean_{key}",
                *(f"{key} {c}" for c in columns),
                "best",
            ]
        )
        for epoch in range(1, epochs + 1):
            share = epoch / _EPOCHS
            values = [0.9 - 0.05 * k - 0.6 * np.exp(-4 * share) for k in range(len(columns))]
            scored = epoch % 2 == 0
            numbers = [np.mean(values), *values] if scored else [""] * (1 + len(values))
            writer.writerow(
                [
                    epoch,
                    epoch * _STEPS,
                    20.0 * epoch,
                    0.004 * (1 - share),
                    2 * np.exp(-3 * share) + 0.2 + 0.02 * rng.normal(),
                    1.25 + 0.05 * rng.normal(),
                    0.01 * rng.random(),
                    *numbers,
                    int(epoch == 28),
                ]
            )


def _scores(made: Made, case: MadeCase) -> list[float]:
    if made.kind == "objects":
        found = matches(case.truth, case.found)
        counts = [found.counts(threshold) for threshold in THRESHOLDS]
        return [tp / max(1, tp + fp + fn) for tp, fp, fn in counts]
    return list(dice_per_class(case.truth, case.found, members(made)))


def _write_table(
    path: Path, made: Made, cases: Sequence[MadeCase], folds: Sequence[int] | None = None
) -> None:
    key = "ap" if made.kind == "objects" else "dice"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        heads = [f"{key} {column}" for column in _columns(made)]
        writer.writerow(["case", *(["fold"] if folds else []), *heads])
        for place, case in enumerate(cases):
            fold = [folds[place]] if folds else []
            scores = ["" if np.isnan(s) else f"{s:.6f}" for s in _scores(made, case)]
            writer.writerow([case.name, *fold, *scores])


def _write_model(
    run: Path, plan: Plan, made: Made, cases: Sequence[MadeCase], facts: dict[str, Any]
) -> None:
    key = "ap" if made.kind == "objects" else "dice"
    means = np.nanmean([_scores(made, case) for case in cases], axis=0)
    known = {
        "finished": True,
        "seconds": 20.0 * _EPOCHS,
        "device": "cpu",
        "data": "data",
        "scans": {"spacing": [1.0] * len(made.shape), "unit": plan.data.unit},
        f"mean_{key}": float(means.mean()),
        key: dict(zip(_columns(made), means.tolist(), strict=True)),
    }
    if made.kind == "objects":
        known["objects"] = {
            "per_image": 20.0,
            "diameter": 11.0,
            "diameter_5th": 8.0,
            "diameter_95th": 14.0,
            "unit": plan.data.unit,
        }
        known["rules"] = "found on the validation cases"
    content = {
        "schema": 2 if "folds" in facts else 1,
        "unetseg": "0",
        "created": "2026-01-02T03:14:05+00:00",
        "plan": to_values(plan),
        "facts": known | facts,
    }
    (run / "model").mkdir(parents=True, exist_ok=True)
    (run / "model" / "model.json").write_text(json.dumps(content))


def _evidence(made: Made, plan: Plan, cases: Sequence[MadeCase]) -> Evidence:
    suffix = ".ome.tif" if made.is_flat else ".nii.gz"
    of_classes = [[1]] if made.kind == "objects" else members(made)
    table = np.zeros((len(plan.data.class_values),) * 2, np.int64)
    regions = np.zeros((len(of_classes), 2, 2), np.int64)
    counts = np.zeros((len(THRESHOLDS), 3), np.int64)
    rows = []
    for case in cases:
        pair = case.truth, case.found
        if made.kind == "objects":
            pair = (case.truth > 0).astype(np.uint16), (case.found > 0).astype(np.uint16)
        np.add.at(table, pair, 1)
        for k, values in enumerate(of_classes):
            np.add.at(regions[k], tuple(np.isin(one, values).astype(int) for one in pair), 1)
        objects = None
        if made.kind == "objects":
            found = matches(case.truth, case.found)
            counts += np.array([found.counts(threshold) for threshold in THRESHOLDS])
            objects = ObjectsFound(
                len(found.true_ids), len(found.predicted_ids), merges(found), splits(found)
            )
        true, predicted = (
            tuple(float(np.isin(one, values).sum()) for values in of_classes) for one in pair
        )
        rows.append(
            CaseEvidence(case.name, f"validation/{case.name}_seg{suffix}", true, predicted, objects)
        )
    whole = Evidence(
        "classes",
        plan.data.class_names,
        tuple(tuple(map(int, row)) for row in table),
        (),
        _calibration(table, first=0 if made.kind == "objects" else _BINS // 2),
        f"{plan.data.unit}^{len(made.shape)}",
        tuple(rows),
    )
    if made.kind == "objects":
        at = tuple(AtIoU(u, *map(int, row)) for u, row in zip(THRESHOLDS, counts, strict=True))
        return replace(whole, kind="objects", objects=at)
    if made.kind == "regions":
        each = tuple(tuple(tuple(map(int, row)) for row in one) for one in regions)
        return replace(whole, kind="regions", classes=made.classes, confusion=(), regions=each)
    return whole


def _calibration(table: NDArray[np.int64], first: int) -> tuple[Bin, ...]:
    """A network that is a little surer than it is right."""
    found = []
    for place in range(first, _BINS):
        middle = (place + 0.5) / _BINS
        count = int(table.sum() * 0.6 ** (_BINS - place)) + 1
        found.append(
            Bin(place / _BINS, (place + 1) / _BINS, count, middle, max(0.0, middle - 0.04))
        )
    return tuple(found)
