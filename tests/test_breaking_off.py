"""Whatever a training breaks off at, it is one error, and the next command ends where it would."""

import csv
import importlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cubes import request, write_cubes
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from unetseg import checkpoint
from unetseg.errors import DataError, ModelError
from unetseg.records import EpochDone, Stage
from unetseg.tasks.semantic import Semantic
from unetseg.training import batches, history, keeping, train
from unetseg.training.schedule import Plateau
from unetseg.training.scores import Dice
from unetseg.training.state import State
from unetseg.training.validation import Validation

STEPS = {"training.epochs": 4, "training.steps_per_epoch": 2}
FULL = OSError(28, "No space left on device")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cubes(tmp_path_factory.mktemp("breaking") / "data")


@pytest.fixture(scope="module")
def whole(data: Path) -> Path:
    """An uninterrupted run of eight steps."""
    return train(request(data, data.parent / "whole", STEPS)).run


def tensors(run: Path) -> dict[str, dict[str, torch.Tensor]]:
    names = ("model/weights", "last/weights", "resume/state")
    return {name: load_file(run / f"{name}.safetensors") for name in names}


def rows(run: Path) -> list[tuple[str, ...]]:
    """Of every row what does not depend on the clock."""
    columns = ("epoch", "step", "learning_rate", "loss", "mean_dice", "best")
    with (run / "history.csv").open(newline="") as file:
        return [tuple(row[column] for column in columns) for row in csv.DictReader(file)]


def differences(run: Path, other: Path) -> list[str]:
    """Every tensor and every row in which two runs differ."""
    one, two = tensors(run), tensors(other)
    found = [
        f"{part} {name}"
        for part, theirs in two.items()
        for name in theirs.keys() | one[part].keys()
        if not torch.equal(one[part][name], theirs[name])
    ]
    found += [f"row {a} {b}" for a, b in zip(rows(run), rows(other), strict=False) if a != b]
    return found + ["rows"] * (len(rows(run)) != len(rows(other)))


def counting(wanted: int, good: Callable[..., Any], bad: Callable[..., Any]) -> Callable[..., Any]:
    """`good`, but `bad` at the wanted call."""
    calls = 0

    def one(*values: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        return (bad if calls == wanted else good)(*values, **named)

    return one


def raising(error: BaseException) -> Callable[..., Any]:
    def bad(*values: Any, **named: Any) -> Any:
        raise error

    return bad


def test_the_comparison_itself(data: Path, whole: Path, tmp_path: Path) -> None:
    run = train(request(data, tmp_path / "run", STEPS)).run
    assert differences(run, whole) == []
    shorter = train(request(data, tmp_path / "short", STEPS | {"training.epochs": 3})).run
    assert "rows" in differences(shorter, whole)
    assert "last/weights heads.0.bias" in differences(shorter, whole)


# --- a full disk ---


@pytest.fixture
def full_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """No room for the file whose path ends like that, from the given time of writing it on."""

    def set_up(name: str, time: int) -> None:
        written = 0

        def is_full(path: Path) -> bool:
            nonlocal written
            written += str(path).endswith(name)
            return str(path).endswith(name) and written >= time

        write_text, save_file, opened = Path.write_text, checkpoint.save_file, Path.open

        def text(self: Path, *values: Any, **named: Any) -> int:
            if is_full(self):
                write_text(self, "half of i")
                raise FULL
            return write_text(self, *values, **named)

        def weights(values: dict[str, torch.Tensor], path: Path, *more: Any) -> None:
            # The temporary name does not tell a model from the last one.
            if is_full(path):
                path.write_bytes(b"half")
                raise SafetensorError("I/O error: No space left on device (os error 28)")
            save_file(values, path, *more)

        def appending(self: Path, mode: str = "r", *values: Any, **named: Any) -> Any:
            if mode == "a" and is_full(self):
                raise FULL
            return opened(self, mode, *values, **named)

        monkeypatch.setattr(Path, "write_text", text)
        monkeypatch.setattr(Path, "open", appending)
        monkeypatch.setattr(checkpoint, "save_file", weights)

    return set_up


@pytest.mark.parametrize(
    ("name", "time"),
    [
        ("state.safetensors", 1),
        ("state.safetensors", 3),
        ("weights.safetensors", 2),
        ("model.json", 1),
        ("history.csv", 1),
        ("history.csv", 3),
        ("validation.csv", 1),
        ("log.txt", 2),
        ("plan.toml", 1),
        ("folds.json", 1),
    ],
)
def test_a_full_disk_is_one_line_and_the_training_goes_on(
    data: Path,
    whole: Path,
    tmp_path: Path,
    full_at: Callable[[str, int], None],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    time: int,
) -> None:
    run = tmp_path / "run"
    full_at(name, time)
    with pytest.raises(DataError, match=r"cannot be written: .*No space left.*free") as caught:
        train(request(data, run, STEPS))
    monkeypatch.undo()
    assert caught.value.exit_code == 3
    assert caught.value.where.endswith(name)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.joinpath("run").rglob(".*"))
    assert train(request(data, run, STEPS)).finished
    assert differences(run, whole) == []


# --- a cache that vanishes ---


@pytest.mark.parametrize("home", ["memory", "disk"])
def test_a_cache_that_vanishes_is_no_trouble_or_one_line(
    data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    if home == "disk":
        monkeypatch.setattr(batches, "_HOST_SHARE", 0.0)
    asked = request(data, tmp_path / "run", STEPS)

    def vanish(event: object) -> None:
        if isinstance(event, EpochDone) and event.epoch == 1:
            shutil.rmtree(tmp_path / "cache")

    if home == "memory":
        # Every case has been cut from by now; what is needed is in memory.
        assert train(asked, vanish).finished
    else:
        again = r"cache.*can no longer be read .*; give the same command again"
        with pytest.raises(DataError, match=again):
            train(asked, vanish)
        steps = load_file(asked.run / "resume" / "state.safetensors")["optimiser.0.step"]
        # What was learned after the last validation is saved as well.
        assert steps > 2
        assert train(asked).finished
    assert differences(asked.run, whole) == []


def test_a_cache_that_vanishes_before_the_first_step(
    data: Path, whole: Path, tmp_path: Path
) -> None:
    asked = request(data, tmp_path / "run", STEPS)

    def vanish(event: object) -> None:
        if isinstance(event, Stage) and event.name == "training":
            shutil.rmtree(tmp_path / "cache")

    with pytest.raises(DataError, match="give the same command again"):
        train(asked, vanish)
    assert train(asked).finished
    assert differences(asked.run, whole) == []


# --- in the middle of something ---


@pytest.mark.parametrize("error", [KeyboardInterrupt(), DataError("a scan vanished")])
@pytest.mark.parametrize("time", [1, 3, 5])
def test_broken_off_in_a_validation_it_is_made_up_for(
    data: Path,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    time: int,
) -> None:
    """The fifth is the last one, on all cases."""
    asked = request(data, tmp_path / "run", STEPS)
    with monkeypatch.context() as patch:
        patch.setattr(keeping, "validate", counting(time, keeping.validate, raising(error)))
        with pytest.raises(type(error)):
            train(asked)
    # Nothing is taken again: the steps before the validation were saved.
    steps = load_file(asked.run / "resume" / "state.safetensors")["optimiser.0.step"]
    assert steps == 2 * min(time, 4)
    assert train(asked).finished
    assert differences(asked.run, whole) == []


def test_broken_off_after_a_row_was_written_it_stands_once(
    data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def written_and_interrupted(*values: Any) -> None:
        history.append_history(*values)
        raise KeyboardInterrupt

    asked = request(data, tmp_path / "run", STEPS)
    with monkeypatch.context() as patch:
        calls = counting(2, history.append_history, written_and_interrupted)
        patch.setattr(keeping, "append_history", calls)
        with pytest.raises(KeyboardInterrupt):
            train(asked)
    assert [row[1] for row in rows(asked.run)] == ["2", "4"]
    assert train(asked).finished
    assert differences(asked.run, whole) == []
    # Nobody knows how fast the steps before it were.
    with (asked.run / "history.csv").open(newline="") as file:
        speeds = [row["steps_per_second"] != "" for row in csv.DictReader(file)]
    assert speeds == [True, False, True, True]


def test_a_loss_that_is_no_number_is_not_saved_by_an_interruption(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = Semantic.loss

    def loss(self: Semantic, *given: Any) -> torch.Tensor:
        return good(self, *given) * float("nan")

    asked = request(data, tmp_path / "run", STEPS)
    update = State.update_average
    monkeypatch.setattr(Semantic, "loss", loss)
    monkeypatch.setattr(State, "update_average", counting(2, update, raising(KeyboardInterrupt())))
    with pytest.raises(KeyboardInterrupt):
        # In the middle of a step nothing is saved.
        train(asked)
    assert not (asked.run / "resume").exists()
    with monkeypatch.context() as patch:
        second = counting(2, batches.Ahead.next, raising(DataError("a cache vanished")))
        patch.setattr(batches.Ahead, "next", second)
        with pytest.raises(ModelError, match="the loss is no longer a number"):
            train(asked)
    assert not (asked.run / "resume").exists()


def test_a_tally_set_back_is_what_was_before(data: Path, tmp_path: Path) -> None:
    from unetseg.training import plan_for

    plan, _ = plan_for(request(data, tmp_path / "run"))
    state = State.fresh(checkpoint.build(plan), plan, torch.device("cpu"))
    state.losses += 3.0
    state.counted, state.plateau = 2, Plateau(0.5, 4)
    before = state.tally()
    state.losses.zero_()
    state.best, state.counted, state.epochs_done = 0.9, 0, 7
    state.plateau.look(plan.training, 0.8, 10)
    assert state.plateau != Plateau(0.5, 4)
    state.set_back(before)
    assert (float(state.losses), state.counted, state.epochs_done) == (3.0, 2, 0)
    assert state.plateau == Plateau(0.5, 4)
    assert state.best != state.best


def test_the_best_model_outlives_a_stop(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a stop leaves in model/ is not taken for the best when the training goes on."""
    longer = STEPS | {"training.epochs": 12, "training.validation_every": 3}

    def scored(segmenter: Any, cases: Any, *others: object) -> Validation:
        # The first validation of three scores best by far; the two last ones score the kept model.
        kind = next(names)
        dice = {"best": 0.9, "poor": 0.3}[kind]
        return Validation(
            tuple(case.name for case in cases), ((dice,),) * len(cases), Dice(("label 1",))
        )

    monkeypatch.setattr(keeping, "validate", scored)
    names = iter(["best", "poor", "poor", "poor", "poor", "best"])
    expected = train(request(data, tmp_path / "whole", longer)).run
    assert checkpoint.load(expected).facts["step"] == 6
    asked = request(data, tmp_path / "run", longer)
    # Stopped after the second validation, where the scores say that its own model is to be kept.
    names = iter(["best", "poor", "poor", "poor"])
    taken = iter(range(100))
    train(asked, should_stop=lambda: next(taken) >= 13)
    assert (asked.run / "resume" / "best" / "model.json").is_file()
    names = iter(["poor", "poor", "poor", "best"])
    train(asked)
    assert checkpoint.load(asked.run).facts["step"] == 6
    assert not [d for d in differences(asked.run, expected) if d.startswith(("model", "last"))]


# --- killed ---


@pytest.mark.slow
def test_killed_again_and_again_it_ends_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few of the kills that benchmarks/kills.py makes a hundred of."""
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[1] / "benchmarks")
    kills = importlib.import_module("kills")
    found = kills.killed(tmp_path, 6, 1)
    assert found["kills"] == 6
    assert found["in the steps"] + found["before the steps"] == 6
    assert found["in the steps"] > 0
    assert found["differences"] == []
    # It would have seen a single bit.
    run, path = tmp_path / "run", tmp_path / "run" / "model" / "weights.safetensors"
    changed = load_file(path)
    bits = changed["heads.0.bias"].view(torch.int32)
    bits[0] ^= 1
    save_file(changed, path)
    text = (run / "history.csv").read_text()
    (run / "history.csv").write_text(text + text.splitlines()[-1] + "\n")
    assert list(kills.differences(run, tmp_path / "whole")) == [
        "model/weights: heads.0.bias",
        "history.csv",
    ]
