"""The summary of a run, its plan with the reasons, and how it was made."""

import math
from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any

from unetseg.config import Plan, plan_keys, to_values
from unetseg.config.toml import describe
from unetseg.dataset.listing import counted
from unetseg.pages.parts import Code, Facts, Notice, Numbers, Part, Prose, Section, Table
from unetseg.pages.words import DASH, TIMES, duration, moment, number, unit_text
from unetseg.report.columns import title
from unetseg.report.validation import Ranked, kept, per_class
from unetseg.runs import RunRecord, mean_of

_UNKNOWN = "not recorded"


def summary(record: RunRecord, cases: Ranked | None) -> Section:
    """What was trained, on which data, how good it is, how long it took and on what machine."""
    parts: list[Part] = [Numbers(tuple(_numbers(record, cases)))]
    if notice := _state(record):
        parts.insert(0, notice)
    parts.append(Facts(tuple(_facts(record))))
    if cases is not None:
        parts.append(per_class(record, cases))
    return Section("Summary", tuple(parts), "summary")


def how_good(record: RunRecord, cases: Ranked | None) -> float:
    """The mean score of the masks as the model gives them; NaN if there is none yet."""
    facts = record.facts
    if facts is not None:
        return facts.mean if math.isnan(facts.cleaned_mean) else facts.cleaned_mean
    if cases is not None:
        return mean_of([mean_of(column) for column in zip(*kept(cases.table), strict=True)])
    validated = record.history.validated
    return validated[-1].mean if validated else math.nan


def _numbers(record: RunRecord, cases: Ranked | None) -> Iterator[tuple[str, str]]:
    where = "out of fold" if record.is_of_folds else "in validation"
    yield f"mean {record.score} {where}", number(how_good(record, cases))
    if cases is not None and cases.scored:
        yield f"{record.score} of the worst case", number(cases.scores[cases.scored[0]])
    facts = record.facts
    if facts is not None and facts.cases:
        if record.is_of_folds or len(facts.cases) == 1:
            yield "cases, each validated once", f"{sum(facts.cases):,}"
        else:
            yield "cases to learn from, to validate", " + ".join(f"{n:,}" for n in facts.cases)
    elif cases is not None:
        yield "cases to validate", f"{len(cases.table.names):,}"
    yield "time", duration(record.seconds) if record.seconds else DASH


def _state(record: RunRecord) -> Notice | None:
    """What is missing because the training is not at its end."""
    rows = record.history.rows
    so_far = f"{counted(rows[-1].step, 'step')} are done" if rows else "no epoch is done yet"
    if record.is_of_folds:
        done = sum(fold.state == "finished" for fold in record.folds)
        so_far = f"{done} of {record.plan.training.folds} folds are trained"
    if record.state == "running":
        return Notice((f"The training goes on: {so_far}. This page shows what there is.",))
    if record.state == "stopped":
        return Notice(
            (
                f"The training was stopped before its end: {so_far}.",
                "The same command goes on with it.",
            ),
            "warning",
        )
    return None


def _facts(record: RunRecord) -> Iterator[tuple[str, str]]:
    plan, facts = record.plan, record.facts
    data, network = plan.data, plan.network
    yield "data", record.data_name or _UNKNOWN
    yield "task", task(plan)
    yield "input", channels(plan)
    if facts is not None and facts.spacing and facts.unit != "px":
        yield "median voxel", voxel(facts.spacing, facts.unit)
    if facts is not None and facts.objects is not None:
        one = facts.objects
        sizes = f"{one.diameter:.3g} {unit_text(one.unit)} ({one.low:.3g} to {one.high:.3g})"
        yield "objects", f"{one.per_image:g} in an image, diameter {sizes}"
    yield (
        "network",
        (
            f"U-Net in {data.dimensions}-D: encoder {network.encoder}, skip {network.skip},"
            f" {network.levels} levels of {', '.join(map(str, network.features))} maps"
        ),
    )
    size = f" {TIMES} ".join(map(str, plan.patch.size))
    yield "patch", f"{size} voxels, {plan.patch.batch} in a batch"
    yield "machine", record.machine or (facts.device if facts is not None else "") or _UNKNOWN
    yield "begun", moment(record.started) or _UNKNOWN
    if facts is not None and facts.step is not None:
        yield "model", f"of step {facts.step:,}, written {moment(facts.created)}"
    elif facts is not None:
        folds = ", ".join(map(str, facts.folds))
        yield "model", f"an ensemble of the folds {folds}, written {moment(facts.created)}"
    else:
        yield "model", "none yet"


def task(plan: Plan) -> str:
    """What is segmented, in words."""
    names = ", ".join(plan.data.class_names[1:])
    if plan.data.has_objects:
        return f"objects, each by itself ({plan.data.task}): {names}"
    return f"{'regions' if plan.data.regions else 'classes'}: {names}"


def channels(plan: Plan) -> str:
    """What the network sees, in words."""
    data = plan.data
    text = f"{counted(len(data.channels), 'channel')}: {', '.join(data.channels)}"
    if data.spacing:
        text += f"; resampled to voxels of {voxel(data.spacing, data.unit)}"
    return f"{text}; {data.normalisation} of the intensities"


def voxel(spacing: Sequence[float], unit: str) -> str:
    """Edge lengths of a voxel with their unit."""
    edges = f" {TIMES} ".join(f"{edge:.4g}" for edge in spacing)
    return f"{edges} {unit_text(unit)}"


def folds(record: RunRecord, cases: Ranked | None) -> Section:
    """The score of each fold, and what was decided on all of them."""
    columns = ["fold", "state", "cases", f"mean {record.score}"]
    names = record.validation.columns if record.validation is not None else ()
    columns += [title(record, name) for name in names]
    rows = [_fold_row(fold, cases, len(names)) for fold in record.folds]
    begun = len(rows)
    parts: list[Part] = []
    if missing := record.plan.training.folds - begun:
        parts.append(Notice((f"{counted(missing, 'fold')} of {begun + missing} not begun yet.",)))
    caption = "Each fold scored by the network that has not learned from it, before any cleaning."
    parts.append(Table((*columns, "minutes"), tuple(rows), caption))
    if record.facts is not None and record.facts.cleaning:
        parts.append(Section("Cleaning", (Prose(record.facts.cleaning),), "cleaning"))
    return Section("Folds", tuple(parts), "folds")


def _fold_row(fold: RunRecord, cases: Ranked | None, width: int) -> tuple[str, ...]:
    number_ = fold.plan.training.fold
    values: list[tuple[float, ...]] = []
    if cases is not None:
        each = zip(cases.table.folds, cases.table.values, strict=True)
        values = [row for own, row in each if own == number_]
    elif fold.validation is not None:
        values = list(fold.validation.values)
    means = [mean_of(column) for column in zip(*values, strict=True)] or [math.nan] * width
    told = [number(mean) for mean in means][:width]
    return (
        str(number_),
        fold.state,
        f"{len(values):,}",
        number(mean_of(means)),
        *told,
        _minutes(fold),
    )


def _minutes(fold: RunRecord) -> str:
    # A column in one unit can be sorted.
    return number(fold.seconds / 60, 1) if fold.seconds else DASH


def plan(record: RunRecord) -> Section:
    """Every value that was chosen, and why."""
    facts = record.facts
    now = record.plan if facts is None else facts.plan
    values = to_values(now)
    rows = []
    for key in plan_keys():
        value: Any = reduce(lambda node, name: node[name], key.split("."), values)
        if value is None:
            continue
        reason = record.plan.reasons.get(key, "")
        if key.startswith("decode.") and _is_changed(record.plan, key, value):
            reason = facts.rules if facts is not None and facts.rules else "found on validation"
        rows.append((key, _shown(value), reason))
    columns, caption = ("value of", "value", "why"), "All that shapes the training."
    table = Table(columns, tuple(rows), caption, is_sortable=False)
    parts = (table, Code(describe(record.plan), "plan.toml, to train so again", is_folded=True))
    return Section("Plan", parts, "plan")


def _is_changed(before_: Plan, key: str, value: Any) -> bool:
    """Whether the training has found another value than the plan had."""
    before = reduce(lambda node, name: node[name], key.split("."), to_values(before_))
    return bool(before != value)


def _shown(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        if value and isinstance(value[0], dict):
            return ", ".join(f"{one['name']} = {_shown(one['values'])}" for one in value)
        return f"[{', '.join(_shown(part) for part in value)}]"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def origin(record: RunRecord) -> Section:
    """The command, the versions and the data, exactly."""
    parts: list[Part] = []
    if record.command:
        parts.append(Code(record.command, "The command"))
    else:
        parts.append(Notice(("The command was not recorded by the release that trained.",)))
    rows = [
        ("run", str(record.path.resolve())),
        ("data", str(record.data) if record.data is not None else _UNKNOWN),
        ("hash of the data", record.digest or _UNKNOWN),
        *(record.versions or (("versions", _UNKNOWN),)),
    ]
    parts.append(Facts(tuple(rows)))
    return Section("How it was made", tuple(parts), "origin")
