"""A run is shown from its worst case to its best, the truth and what it predicted together."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from unetseg.errors import DataError, ModelError
from unetseg.runs import read_run
from unetseg.viewer import validation
from unetseg.viewer.subject import Moment, Subject
from unetseg.viewer.validation import of_run


def test_cases_from_worst_to_best(volumes: Path) -> None:
    shown = of_run(volumes)
    record = read_run(volumes)
    assert record.validation is not None
    assert sorted(entry.case.name for entry in shown.entries) == sorted(record.validation.names)
    means = [entry.scores[0][1] for entry in shown.entries]
    assert means == sorted(means)
    assert shown.entries[0].scores[0][0] == "mean Dice"
    assert [label.value for label in shown.labels] == list(record.plan.data.class_values)


def test_truth_and_predicted_lie_on_the_scan(volumes: Path) -> None:
    shown = of_run(volumes)
    for entry in shown.entries:
        assert [layer.name for layer in entry.layers] == ["truth", "predicted"]
        assert entry.notes == ()
        facts = Subject(entry, shown).facts(Moment())
        assert facts.kind == "volume"
        assert [layer.name for layer in facts.layers] == ["truth", "predicted"]


def test_without_masks_the_truth_is_shown_and_the_reason(volumes: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(volumes, run)
    shutil.rmtree(run / "validation")
    for entry in of_run(run).entries:
        assert [layer.name for layer in entry.layers] == ["truth"]
        assert entry.notes == ("The run has kept no mask of this case; only the truth is shown.",)


def test_undefined_scores_come_last(volumes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = read_run(volumes)
    assert record.validation is not None
    table = record.validation
    worst = of_run(volumes).entries[0].case.name
    values = tuple(
        tuple(math.nan for _ in row) if name == worst else row
        for name, row in zip(table.names, table.values, strict=True)
    )
    changed = replace(record, validation=replace(table, values=values))
    monkeypatch.setattr(validation, "read_run", lambda folder: changed)
    assert of_run(volumes).entries[-1].case.name == worst


def test_data_that_are_gone(volumes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = replace(read_run(volumes), data=None)
    monkeypatch.setattr(validation, "read_run", lambda folder: gone)
    with pytest.raises(DataError, match="no validation case of the run is there"):
        of_run(volumes)


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no run here"):
        of_run(tmp_path)
