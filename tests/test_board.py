"""TensorBoard's curves are the rows of the history, and no training needs TensorBoard."""

import csv
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cubes import request, write_cubes

from unetseg.records import EpochDone, Note, ignore_event
from unetseg.training import train
from unetseg.training.board import Board

NAN = float("nan")
ROW = EpochDone(1, 2, 3.0, 0.01, 0.5, 20.0, 0.001, (0.7, NAN), 0.7, True)


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Step and value of every point of every curve, by TensorBoard's own reader."""
    module = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = module.EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: [(point.step, point.value) for point in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cubes(tmp_path_factory.mktemp("board") / "data", 3)


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if TensorBoard were not installed."""
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)


def test_the_curves_of_a_training_are_its_history(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    settings = {"training.epochs": 3, "training.validation_every": 2}
    run = train(request(data, tmp_path / "run", settings)).run
    curves = read(run / "tensorboard")
    history = rows(run / "history.csv")
    for column in ("loss", "learning_rate", "steps_per_second", "waiting", "mean_dice"):
        expected = [(int(row["step"]), float(row[column])) for row in history if row[column]]
        assert [step for step, _ in curves[column]] == [step for step, _ in expected]
        values = [value for _, value in expected]
        assert [value for _, value in curves[column]] == pytest.approx(values, rel=1e-5)
    assert [step for step, _ in curves["mean_dice"]] == [4]
    assert curves["dice/label 1"] == curves["mean_dice"]


def test_a_point_is_there_for_what_was_measured(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    board = Board(tmp_path / "board", 0, ignore_event)
    board.add(replace(ROW, steps_per_second=NAN), ("a", "b"))
    board.close()
    assert read(tmp_path / "board").keys() == {
        "loss",
        "learning_rate",
        "mean_dice",
        "dice/a",
        "waiting",
    }


@pytest.mark.parametrize(
    ("told", "points"),
    [
        # Broken off after step 6, gone on with from a state of step 2: 4 and 6 are taken again.
        (2, [(2, 1.0), (4, 5.0), (6, 5.0)]),
        # As it would be if what was taken back still counted.
        (6, [(2, 1.0), (4, 1.0), (6, 1.0), (4, 5.0), (6, 5.0)]),
    ],
)
def test_steps_that_are_taken_again_have_one_point(
    tmp_path: Path, told: int, points: list[tuple[int, float]]
) -> None:
    pytest.importorskip("tensorboard")
    for loss, before, steps in ((1.0, 0, (2, 4, 6)), (5.0, told, (4, 6))):
        board = Board(tmp_path, before, ignore_event)
        for step in steps:
            board.add(replace(ROW, step=step, loss=loss), ("a", "b"))
        board.close()
    assert read(tmp_path)["loss"] == points


def test_a_resumed_training_goes_on_with_its_curves(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run = tmp_path / "run"
    train(request(data, run, {"training.epochs": 2}))
    train(request(data, run, {"training.epochs": 4}))
    # A finished run that is called again has nothing to add.
    train(request(data, run, {"training.epochs": 4}))
    assert [step for step, _ in read(run / "tensorboard")["loss"]] == [2, 4, 6, 8]
    assert len(list((run / "tensorboard").iterdir())) == 2


@pytest.mark.usefixtures("without")
def test_without_tensorboard_nothing_is_missing(data: Path, tmp_path: Path) -> None:
    notes: list[Any] = []
    run = train(request(data, tmp_path / "run"), notes.append).run
    assert not (run / "tensorboard").exists()
    assert len(rows(run / "history.csv")) == 1
    assert not [note for note in notes if isinstance(note, Note) and note.level != "info"]


def test_a_full_disk_ends_the_curves_and_not_the_training(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.summary.writer.record_writer import RecordWriter

    written, write = [], RecordWriter.write

    def full(self: RecordWriter, content: bytes) -> None:
        written.append(content)
        if len(written) > 3:
            raise OSError(28, "No space left on device")
        write(self, content)

    monkeypatch.setattr(RecordWriter, "write", full)
    notes: list[Any] = []
    run = train(request(data, tmp_path / "run", {"training.epochs": 3}), notes.append).run
    warnings = [n.text for n in notes if isinstance(n, Note) and n.level == "warning"]
    assert warnings == [
        f"{run / 'tensorboard'}: no more TensorBoard curves: No space left on device"
    ]
    assert [row["step"] for row in rows(run / "history.csv")] == ["2", "4", "6"]
    assert [step for step, _ in read(run / "tensorboard")["loss"]] == [2]
