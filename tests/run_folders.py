"""Run folders without a training: tables and plans as a training would have left them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import nan
from pathlib import Path
from typing import Any

from test_config import plan as one_class

from unetseg.config import Plan, to_values, with_overrides
from unetseg.config.toml import write_plan
from unetseg.records import EpochDone
from unetseg.runs.run_file import RunFile, write_run_file
from unetseg.training.history import append_history, write_validation
from unetseg.training.scores import Dice
from unetseg.training.validation import Validation


def plan() -> Plan:
    """Of two classes."""
    names = ("background", "liver", "tumour")
    return one_class(data__class_names=names, data__class_values=(0, 1, 2))


def write_run(
    folder: Path,
    plan: Plan,
    scores: Mapping[str, Sequence[float]],
    *,
    changes: Mapping[str, Any] | None = None,
    **origin: Any,
) -> Path:
    """A finished run.

    scores : of each class, by case
    changes : plan values by dotted key
    origin : of run.json, see RunFile
    """
    folder.mkdir(parents=True)
    plan = with_overrides(plan, changes or {}, where="test")
    score = Dice(plan.data.class_names[1:])
    write_plan(plan, folder / "plan.toml")
    started = origin.pop("started", "2026-01-02T03:04:05+00:00")
    write_run_file(folder, RunFile(data=folder.parent / "data", started=started, **origin))
    validation = Validation(tuple(scores), tuple(map(tuple, scores.values())), score)
    write_validation(folder / "validation.csv", validation)
    for epoch in range(1, 6):
        value = validation.mean * (1 - 0.5**epoch)
        row = EpochDone(
            epoch, 10 * epoch, 6.0 * epoch, 0.01, 2.0 / epoch, 1.5, 0.1,
            (value,) * len(score.columns), value, True,
        )  # fmt: skip
        if epoch % 2:
            row = replace(row, values=(nan,) * len(score.columns), mean=nan, is_best=False)
        append_history(folder / "history.csv", row, score)
    facts = {"finished": True, "step": 50, "seconds": 31.0, "data": "data", **validation.facts()}
    content = {"schema": 1, "created": started, "plan": to_values(plan), "facts": facts}
    (folder / "model").mkdir()
    (folder / "model" / "model.json").write_text(json.dumps(content))
    return folder
