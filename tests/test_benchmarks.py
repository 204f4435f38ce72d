"""The hours of a benchmark are not spent twice, and not saved where the code has changed."""

import argparse
import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from unetseg.config import parse_settings


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """benchmarks/train.py, with trainings that take no time and no peer."""
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[1] / "benchmarks")
    train = importlib.import_module("train")
    monkeypatch.setattr(train, "peer_version", lambda: None)
    monkeypatch.setattr(train, "surroundings", lambda: {"code": "abc", "machine": "m"})
    monkeypatch.setattr(train, "measure", lambda trial: faked(train, trial))
    return train


def faked(train: ModuleType, trial: Any) -> dict[str, Any]:
    return {
        "data": trial.data.name,
        "minutes": trial.minutes,
        "seed": trial.seed,
        "options": list(trial.options),
        "mean_dice": 0.8 + trial.seed / 10,
        "by_quality": {name: {"mean_dice": 0.91} for name in trial.qualities},
        "steps": 100,
        "steps_per_second": 2.0,
        "waiting": None,
        "curve": [[30.0, 0.5], [90.0, 0.7]],
        "train_seconds": 60 * trial.minutes + 9,
        "scores": ["most of the file"],
        **train.surroundings(),
    }


def call(train: ModuleType, path: Path, *options: str, seeds: tuple[int, ...] = (0, 1)) -> int:
    """Make what is missing; how many trainings there are now."""
    given = argparse.Namespace(
        data=[Path("some/set")], minutes=[2, 1], seeds=seeds, qualities=["best"], reach=[0.6]
    )
    train.dice(given, train.Results(path), options)
    return len(json.loads(path.read_text())["trainings"])


def test_what_is_kept_is_not_made_again(
    program: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results.json"
    assert call(program, path) == 4
    first = capsys.readouterr().out
    assert [line for line in first.splitlines() if line.endswith("...")] == [
        f"unetseg, set, {minutes} minutes, seed {seed} ..." for minutes in (1, 2) for seed in (0, 1)
    ]
    assert "2 0.8500 (0.8000 to 0.9000)    100    2.00       -         +9.0, set unetseg" in first
    assert "set, best, 2 minutes, seed 1: 0.9100" in first
    assert "set: validation Dice 0.6 after 1.5 minutes, of 4 trainings" in first
    assert "nnunetv2 is not installed" in first
    assert call(program, path) == 4
    assert " ..." not in capsys.readouterr().out
    assert call(program, path, seeds=(0, 1, 2)) == 6
    assert "scores" not in path.read_text()


@pytest.mark.parametrize("change", ["code", "machine", "processor"])
def test_another_code_or_machine_is_another_training(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    path = tmp_path / "results.json"
    assert call(program, path) == 4
    assert call(program, path, "--encoder", "resnet18") == 8
    other = {"code": "abc", "machine": "m"} | {change: "other"}
    monkeypatch.setattr(program, "surroundings", lambda: other)
    assert call(program, path) == 12
    assert call(program, path) == 12


def test_code_that_is_not_committed_is_never_the_same(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "surroundings", lambda: {"code": "abc-dirty", "machine": "m"})
    assert call(program, tmp_path / "results.json") == 4
    assert call(program, tmp_path / "results.json") == 8


def test_a_peer_is_measured_beside_it_whatever_the_code(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "results.json"
    monkeypatch.setattr(program, "peer_version", lambda: "2.8.1")
    monkeypatch.setattr(program, "measure_peer", lambda trial: faked(program, trial))
    assert call(program, path) == 8
    monkeypatch.setattr(program, "surroundings", lambda: {"code": "new", "machine": "m"})
    assert call(program, path) == 12
    makers = [row["who"] for row in json.loads(path.read_text())["trainings"]]
    assert makers.count("nnU-Net 2.8.1") == 4


def test_a_command_that_is_late_is_named(
    program: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"who": "unetseg", "data": "d", "minutes": 10, "options": [], "code": "c", "steps": 1}
    # Ten minutes may be 18 seconds late, one minute ten.
    for minutes, seconds, is_late in ((10, 617, False), (10, 619, True), (1, 71, True)):
        timed = row | {"minutes": minutes, "train_seconds": seconds, "mean_dice": 0.9}
        program.show_dice([timed], [])
        assert ("TOO LATE" in capsys.readouterr().out) == is_late


# --- what each part is worth ---


@pytest.fixture
def ablation(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """benchmarks/ablation.py, with trainings that take no time."""
    module = importlib.import_module("ablation")
    monkeypatch.setattr(module, "surroundings", program.surroundings)
    monkeypatch.setattr(module, "train", trained)
    return module


def trained(data: Path, minutes: float, seed: int, options: tuple[str, ...]) -> dict[str, Any]:
    augment = {"mirror_axes": (), "spatial_probability": 0.3}
    return {
        "data": data.name,
        "minutes": minutes,
        "seed": seed,
        "options": list(options),
        "score": "mean_dice",
        "value": 0.8 + seed / 100 - 0.05 * any("spatial" in word for word in options),
        "steps": 100,
        "plan": {"training": {"augment": augment}},
        "code": "abc",
        "machine": "m",
    }


def ablated(module: ModuleType, path: Path, *options: str) -> list[dict[str, Any]]:
    """Make what is missing of two changes; all trainings there are."""
    only = ["no mirroring", "no turning and scaling"]
    given = argparse.Namespace(data=[Path("some/set")], minutes=2.0, seeds=(0, 1), only=only)
    module.ablate(given, module.Results(path), options)
    found: list[dict[str, Any]] = json.loads(path.read_text())["ablation"]
    return found


def test_a_part_is_left_out_where_the_plan_has_it(
    ablation: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results.json"
    rows = ablated(ablation, path)
    assert [(row["change"], row["seed"]) for row in rows] == [
        (name, seed) for seed in (0, 1) for name in ("as planned", "no turning and scaling")
    ]
    assert rows[1]["options"] == ["--set", "training.augment.spatial_probability=0.0"]
    said = capsys.readouterr().out
    assert "set: no mirroring: as planned" in said
    assert "as planned                       0.8050  +0.0000     100 steps, 2 seeds" in said
    assert "no turning and scaling           0.7550  -0.0500     100 steps, 2 seeds" in said
    assert ablated(ablation, path) == rows
    assert " ..." not in capsys.readouterr().out
    assert len(ablated(ablation, path, "--task", "semantic")) == 8
    # Other options make another table.
    said = capsys.readouterr().out
    assert "set, 2 minutes, dice" in said
    assert "set --task semantic, 2 minutes, dice" in said
    assert "4 seeds" not in said


def test_every_change_is_one_of_plan_values(ablation: ModuleType) -> None:
    for name, change in ablation.CHANGES.items():
        values = parse_settings(ablation.as_options(change)[1::2])
        assert values == change, name
