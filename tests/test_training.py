"""A training from a folder to a run folder: what it leaves, that it learns, that it resumes."""

import csv
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomlkit
import torch
from cubes import request, write_cubes
from safetensors.torch import load_file

from unetseg import augment, checkpoint
from unetseg.config import IGNORED, AugmentPlan, Plan
from unetseg.errors import DataError, DeviceError, ModelError, UsageError
from unetseg.pipeline.cache import CachedCase
from unetseg.records import Case, EpochDone, Note, Progress, Stage
from unetseg.training import Request, plan_for, train
from unetseg.training.batches import Ahead, Batches

# Rates, seconds and speeds may differ between two runs; weights may not.
STEPS = {"training.epochs": 3, "training.steps_per_epoch": 2}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cubes(tmp_path_factory.mktemp("training") / "data")


@pytest.fixture(scope="module")
def whole(data: Path) -> Path:
    """An uninterrupted run of six steps."""
    return train(request(data, data.parent / "whole", STEPS)).run


def stop_after(steps: int) -> Callable[[], bool]:
    """Asked once before each step: yes when `steps` were taken."""
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > steps

    return should_stop


def weights(run: Path, part: str = "last") -> dict[str, torch.Tensor]:
    return load_file(run / part / "weights.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_folder_explains_itself(whole: Path) -> None:
    names = {path.relative_to(whole).as_posix() for path in whole.rglob("*") if path.is_file()}
    # TensorBoard's curves are there where it is installed.
    assert {name for name in names if not name.startswith("tensorboard/")} == {
        "plan.toml",
        "run.json",
        "folds.json",
        "history.csv",
        "validation.csv",
        "validation.json",
        "validation/case_0_seg.nii.gz",
        "validation/case_3_seg.nii.gz",
        "log.txt",
        "model/weights.safetensors",
        "model/model.json",
        "last/weights.safetensors",
        "last/model.json",
        "resume/state.safetensors",
    }
    plan = tomlkit.parse((whole / "plan.toml").read_text())
    assert plan["training"]["epochs"] == 3
    assert plan["network"]["features"] == [4, 8]
    assert "finished after 6 steps" in (whole / "log.txt").read_text()


def test_the_folds_hold_every_case_once_for_validation(whole: Path) -> None:
    folds = json.loads((whole / "folds.json").read_text())
    held = Counter(name for fold in folds for name in fold["val"])
    assert held == {f"case_{number}": 1 for number in range(6)}
    validated = [row["case"] for row in rows(whole / "validation.csv")]
    assert sorted(validated) == sorted(folds[0]["val"])


def test_the_history_has_a_line_per_epoch(whole: Path) -> None:
    history = rows(whole / "history.csv")
    assert [row["epoch"] for row in history] == ["1", "2", "3"]
    assert [row["step"] for row in history] == ["2", "4", "6"]
    assert all(float(row["loss"]) > 0 for row in history)
    # Annealed: 0.004 * (1 + cos(pi * 5/6)) / 2 in the last of six steps, by hand.
    assert float(history[-1]["learning_rate"]) == pytest.approx(0.00026795, rel=1e-4)


def test_the_kept_model_says_how_it_came_about(whole: Path) -> None:
    facts = checkpoint.load(whole).facts
    assert facts["finished"] is True
    assert facts["step"] == 6
    assert facts["cases"] == [4, 2]
    assert 0 <= facts["mean_dice"] <= 1
    table = rows(whole / "validation.csv")
    mean = np.mean([float(row["dice label 1"]) for row in table])
    assert facts["mean_dice"] == pytest.approx(mean, abs=1e-5)


def test_it_learns_a_bright_cube(data: Path, tmp_path: Path) -> None:
    losses: list[float] = []

    def listener(event: object) -> None:
        if isinstance(event, EpochDone):
            losses.append(event.loss)

    settings = {
        "training.epochs": 6,
        "training.steps_per_epoch": 6,
        "training.learning_rate": 0.02,
        "training.augment.spatial_probability": 0.0,
    }
    outcome = train(request(data, tmp_path / "run", settings), listener)
    assert len(losses) == 6
    assert losses[-1] < 0.5 * losses[0]
    assert outcome.finished
    assert outcome.validation.mean > 0.8


@pytest.mark.parametrize("steps", [0, 2, 3])
def test_stopped_and_resumed_is_bit_for_bit_as_if_never_stopped(
    data: Path, whole: Path, tmp_path: Path, steps: int
) -> None:
    first = train(request(data, tmp_path / "run", STEPS), should_stop=stop_after(steps))
    assert not first.finished
    # A few steps at a falling rate end what is kept, a tenth of those taken: none here.
    assert checkpoint.load(first.run).facts["step"] == steps
    assert not same(weights(first.run), weights(whole))
    second = train(request(data, tmp_path / "run", STEPS))
    assert second.finished
    assert checkpoint.load(second.run).facts["step"] == 6
    assert same(weights(second.run), weights(whole))
    state, expected = (
        load_file(run / "resume" / "state.safetensors") for run in (second.run, whole)
    )
    assert same(state, expected)
    assert "resuming at step" in (second.run / "log.txt").read_text()


def told(into: list[str]) -> Callable[[object], None]:
    """A listener that keeps the sentences."""
    return lambda event: into.append(event.text) if isinstance(event, Note) else None


def test_what_a_stop_adds_is_no_part_of_what_is_gone_on_with(data: Path, tmp_path: Path) -> None:
    """The rate falls within a few more steps; a later command goes on from before them."""
    longer = STEPS | {"training.epochs": 20}
    uninterrupted = train(request(data, tmp_path / "whole", longer)).run
    notes: list[str] = []
    first = train(request(data, tmp_path / "run", longer), told(notes), stop_after(25))
    assert "the learning rate fell to zero in 2 more steps" in notes
    assert checkpoint.load(first.run).facts["step"] == 27
    state = load_file(first.run / "resume" / "state.safetensors")
    assert state["optimiser.0.step"] == 25
    second = train(request(data, tmp_path / "run", longer))
    assert same(weights(second.run), weights(uninterrupted))
    steps = [row["step"] for row in rows(second.run / "history.csv")]
    assert steps == [row["step"] for row in rows(uninterrupted / "history.csv")]


def test_lines_of_steps_that_are_taken_again_are_left_out(data: Path, tmp_path: Path) -> None:
    run = train(request(data, tmp_path / "run", STEPS), should_stop=stop_after(3)).run
    history = run / "history.csv"
    kept = history.read_text()
    # As if it had been killed after the next epoch, before the state was saved.
    history.write_text(kept + kept.splitlines()[-1].replace("1,2,", "2,4,", 1) + "\n")
    assert [row["step"] for row in rows(history)] == ["2", "4"]
    train(request(data, run, STEPS))
    assert [row["step"] for row in rows(history)] == ["2", "4", "6"]


def test_without_a_budget_it_ends_when_the_score_no_longer_rises(
    data: Path, tmp_path: Path
) -> None:
    settings = {
        "training.steps_per_epoch": 2,
        "training.learning_rate": 0.02,
        "training.validation_every": 1,
        "training.augment.spatial_probability": 0.0,
    }
    asked = request(data, tmp_path / "run", settings)
    del asked.overrides["training.epochs"]  # type: ignore[attr-defined]  # a dict here
    notes: list[str] = []
    outcome = train(asked, told(notes))
    assert outcome.finished
    assert sum("has not risen since step" in note for note in notes) == 1
    history = rows(outcome.run / "history.csv")
    rates = [float(row["learning_rate"]) for row in history]
    steady = rates.index(next(rate for rate in rates if rate < 0.02 and rate != rates[0]))
    assert rates[1:steady] == [0.02] * (steady - 1)
    assert rates[steady:] == sorted(rates[steady:], reverse=True)
    # Three quarters at a steady rate, one in which it falls.
    assert steady / len(rates) == pytest.approx(0.75, abs=0.07)
    assert all(row["mean_dice"] for row in history)
    scores = [float(row["mean_dice"]) for row in history]
    assert max(scores[:steady]) <= max(scores[: steady - 6]) + 0.001
    train(asked, told(notes))
    assert any("has had all of its time" in note for note in notes)
    assert len(rows(outcome.run / "history.csv")) == len(history)


def test_a_killed_open_training_ends_at_the_same_weights(data: Path, tmp_path: Path) -> None:
    def asked(name: str) -> Request:
        settings = {"training.validation_every": 2, "training.learning_rate": 0.01}
        made = request(data, tmp_path / name, settings)
        del made.overrides["training.epochs"]  # type: ignore[attr-defined]  # a dict here
        return made

    expected = train(asked("whole")).run
    for steps in (5, 9):
        train(asked("run"), should_stop=stop_after(steps))
    assert same(weights(train(asked("run")).run), weights(expected))


# --- memory ---


def test_several_passes_are_the_same_step(data: Path, tmp_path: Path) -> None:
    # Cross-entropy alone: the Dice of a part is not that of the batch.
    alone = STEPS | {"patch.batch": 4, "training.dice_weight": 0.0}
    alone |= {"training.augment.spatial_probability": 0.0}
    runs = [
        train(request(data, tmp_path / str(n), alone | {"training.passes": n})).run for n in (1, 2)
    ]
    one, two = (weights(run) for run in runs)
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)
    assert not same(one, two)


def test_random_changes_grow_with_the_rounds_over_the_data(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = augment.grown, []

    def grown(plan: AugmentPlan, rounds: float) -> AugmentPlan:
        asked.append(rounds)
        return real(plan, rounds)

    monkeypatch.setattr(augment, "grown", grown)
    run = train(request(data, tmp_path / "run", STEPS | {"training.augment.growth": 2.0})).run
    facts = json.loads((run / "model" / "model.json").read_text())
    cases = facts["facts"]["cases"][0]
    # Scans of a patch each, two a step.
    assert asked == [step * 2 / cases for step in range(6)]
    assert asked[-1] > 2
    # And they are what the training learns from.
    other = train(request(data, tmp_path / "other", STEPS | {"training.augment.growth": 0.0})).run
    assert not same(weights(run), weights(other))


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Memory for so many patches at a time in training; the list may be changed."""
    from unetseg.nets.unet import UNet

    most, forward = [1], UNet.forward

    def limited(self: UNet, x: torch.Tensor, **more: bool) -> list[torch.Tensor]:
        if self.training and len(x) > most[0]:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 99 bytes")
        return forward(self, x, **more)

    monkeypatch.setattr(UNet, "forward", limited)
    return most


def test_when_memory_runs_out_the_batch_is_learned_in_parts(
    data: Path, tmp_path: Path, little_memory: list[int]
) -> None:
    notes: list[str] = []
    settings = STEPS | {"patch.batch": 4}
    run = train(request(data, tmp_path / "run", settings), told(notes)).run
    short = [note for note in notes if note.startswith("out of memory")]
    assert [note.partition(": ")[2][:55] for note in short] == [
        "the 4 patches of a step go through the network 2 at a t",
        "the 4 patches of a step go through the network 1 at a t",
    ]
    assert "training.passes = 4 begins like that" in short[1]
    begun = train(request(data, tmp_path / "begun", settings | {"training.passes": 4})).run
    assert same(weights(run), weights(begun))


def test_when_one_patch_is_too_much_it_says_so(
    data: Path, tmp_path: Path, little_memory: list[int]
) -> None:
    little_memory[0] = 0
    with pytest.raises(DeviceError, match=r"cpu: out of memory; .*smaller patch"):
        train(request(data, tmp_path / "run", STEPS))


def test_another_seed_gives_other_weights(data: Path, whole: Path, tmp_path: Path) -> None:
    other = train(request(data, tmp_path / "other", STEPS | {"training.seed": 1}))
    assert not same(weights(other.run), weights(whole))
    again = train(request(data, tmp_path / "again", STEPS))
    assert same(weights(again.run), weights(whole))


def test_a_stop_is_clean_and_keeps_a_model(data: Path, tmp_path: Path) -> None:
    notes: list[str] = []

    def listener(event: object) -> None:
        if isinstance(event, Note):
            notes.append(event.text)

    outcome = train(request(data, tmp_path / "run", STEPS), listener, stop_after(1))
    assert not outcome.finished
    assert len(outcome.validation.names) == 2
    assert any(note.startswith("stopped after 1 steps") for note in notes)
    assert checkpoint.load(outcome.run).facts["finished"] is False
    assert same(weights(outcome.run, "model"), weights(outcome.run))


def test_a_finished_run_is_left_as_it_is(data: Path, tmp_path: Path) -> None:
    settings = {"training.epochs": 1}
    run = train(request(data, tmp_path / "run", settings)).run
    before = weights(run)
    train(request(data, run, settings))
    assert same(weights(run), before)
    assert "has had all of its time" in (run / "log.txt").read_text()


def test_more_epochs_lengthen_a_finished_run(data: Path, tmp_path: Path) -> None:
    run = train(request(data, tmp_path / "run", {"training.epochs": 1})).run
    train(request(data, run, {"training.epochs": 2}))
    assert checkpoint.load(run).facts["step"] == 4
    assert [row["epoch"] for row in rows(run / "history.csv")] == ["1", "2"]


@pytest.mark.parametrize(
    ("section", "old", "new"),
    [
        ("network", "features = [4, 8]", "features = [4, 6]"),
        ("patch", "batch = 2", "batch = 3"),
        ("data", 'normalisation = "zscore"', 'normalisation = "percentile"'),
    ],
)
def test_a_begun_run_keeps_its_plan(
    data: Path, tmp_path: Path, section: str, old: str, new: str
) -> None:
    run = tmp_path / "run"
    train(request(data, run, STEPS), should_stop=stop_after(0))
    state = (run / "resume" / "state.safetensors").read_bytes()
    text = (run / "plan.toml").read_text()
    assert text.count(old) == 1
    (run / "plan.toml").write_text(text.replace(old, new))
    # As a person would go on: by editing the plan, without options that say otherwise.
    again = replace(request(data, run), overrides={})
    with pytest.raises(UsageError, match=rf"plan\.toml: the plan's section {section} is not"):
        train(again)
    assert (run / "resume" / "state.safetensors").read_bytes() == state
    (run / "plan.toml").write_text(text)
    assert train(again).finished


def test_a_plan_edited_before_the_training_counts(data: Path, tmp_path: Path) -> None:
    first = request(data, tmp_path / "run")
    plan, _ = plan_for(first)
    from unetseg.config.toml import write_plan

    write_plan(plan, tmp_path / "run" / "plan.toml")
    text = (tmp_path / "run" / "plan.toml").read_text().replace("[4, 8]", "[6, 8]")
    (tmp_path / "run" / "plan.toml").write_text(text)
    run = train(replace(first, overrides={})).run
    assert any(tensor.shape[0] == 6 for tensor in weights(run).values())


def test_a_damaged_state_is_refused(data: Path, tmp_path: Path) -> None:
    run = train(request(data, tmp_path / "run", STEPS), should_stop=stop_after(0)).run
    path = run / "resume" / "state.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ModelError, match=r"state\.safetensors: the training's state cannot be"):
        train(request(data, run, STEPS))


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_loss_that_is_no_number_ends_the_training(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: int
) -> None:
    from unetseg.tasks.semantic import Semantic

    good = Semantic.loss
    calls = 0

    def loss(self: Semantic, *of: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        value = good(self, *of)
        return value * float("nan") if calls == 2 * epochs else value

    monkeypatch.setattr(Semantic, "loss", loss)
    settings = {"training.epochs": 2, "training.steps_per_epoch": 2}
    with pytest.raises(ModelError, match=r"the loss is no longer a number; lower") as caught:
        train(request(data, tmp_path / "run", settings))
    assert caught.value.exit_code == 4
    for path in (tmp_path / "run").rglob("*.safetensors"):
        assert all(tensor.isfinite().all() for tensor in load_file(path).values()), path


def test_a_time_budget_ends_the_training(data: Path, tmp_path: Path) -> None:
    shares: list[float] = []

    def listener(event: object) -> None:
        if isinstance(event, Progress):
            shares.append(event.share)

    from time import time

    settings = {"training.minutes": 0.05, "training.epochs": 100_000}
    begun = time()
    outcome = train(request(data, tmp_path / "run", settings, started=begun), listener)
    assert outcome.finished
    assert time() - begun < 9
    assert shares == sorted(shares)


def test_one_case_is_too_few(tmp_path: Path) -> None:
    data = write_cubes(tmp_path / "data", 1)
    with pytest.raises(DataError, match="at least 2 cases with a mask"):
        train(request(data, tmp_path / "run"))


def test_a_bad_case_stops_the_training_unless_it_may_be_skipped(tmp_path: Path) -> None:
    data = write_cubes(tmp_path / "data", 3)
    (data / "images" / "case_1.nii.gz").write_bytes(b"no gzip")
    with pytest.raises(DataError, match=r"case_1\.nii\.gz: not a NIfTI file [^;]*; [^;]*$"):
        train(request(data, tmp_path / "run"))
    outcome = train(request(data, tmp_path / "run2", skip_bad=True))
    assert checkpoint.load(outcome.run).facts["cases"] == [1, 1]


def test_stages_are_told_in_order(data: Path, tmp_path: Path) -> None:
    names: list[str] = []

    def listener(event: object) -> None:
        if isinstance(event, Stage):
            names.append(event.name)

    train(request(data, tmp_path / "run"), listener)
    assert names == ["inspecting", "preparing", "training", "validating"]


# --- batches ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plan(data: Path) -> Plan:
    return plan_for(request(data, data.parent / "none"))[0]


def prepared(folder: Path, image: np.ndarray, labels: np.ndarray) -> CachedCase:
    """A prepared case, written by hand."""
    folder.mkdir(parents=True)
    np.save(folder / "image.npy", image.astype(np.float32))
    np.save(folder / "labels.npy", labels.astype(np.int16))
    voxels = np.argwhere(labels > 0)
    classes = labels[labels > 0]
    np.save(folder / "locations.npy", np.column_stack([classes, voxels]).astype(np.int32))
    return CachedCase(Case(folder.name, (folder,)), folder)


def constant_cases(folder: Path, count: int, size: int = 8) -> list[CachedCase]:
    """Case k is k everywhere."""
    shape = (size,) * 3
    return [
        prepared(folder / f"c{k}", np.full((1, *shape), k), np.zeros(shape)) for k in range(count)
    ]


def cut(plan: Plan, size: int, batch: int, **training: Any) -> Plan:
    return replace(
        plan,
        patch=replace(plan.patch, size=(size,) * 3, batch=batch),
        training=replace(plan.training, **training),
    )


def test_batches_are_a_pure_function_of_seed_and_step(plan: Plan, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cases = [
        prepared(tmp_path / str(k), rng.normal(size=(2, 12, 12, 12)), rng.integers(0, 3, (12,) * 3))
        for k in range(3)
    ]
    small = cut(plan, 6, 4)
    forward = [Batches(cases, small, 10**9).make(step) for step in range(5)]
    one = Batches(cases, small, 10**9)
    backward = [one.make(step) for step in reversed(range(5))][::-1]
    mapped = Batches(cases, small, 0)
    assert (one.home, mapped.home) == ("memory", "disk")
    for step in range(5):
        for other in (backward[step], mapped.make(step)):
            assert torch.equal(forward[step][0], other[0])
            assert torch.equal(forward[step][1], other[1])
    assert forward[0][0].shape == (4, 2, 6, 6, 6)
    assert forward[0][1].shape == (4, 6, 6, 6)
    assert not torch.equal(forward[0][0], forward[1][0])
    other_seed = Batches(cases, cut(plan, 6, 4, seed=1), 10**9).make(0)
    assert not torch.equal(forward[0][0], other_seed[0])


def test_the_thread_that_works_ahead_hands_out_the_same_batches(plan: Plan, tmp_path: Path) -> None:
    cases = constant_cases(tmp_path, 5)
    small = cut(plan, 4, 2)
    batches = Batches(cases, small, 10**9)
    expected = [batches.make(step) for step in range(3, 9)]
    with Ahead(Batches(cases, small, 10**9), 3) as ahead:
        for images, labels in expected:
            found = ahead.next()
            assert torch.equal(found[0], images)
            assert torch.equal(found[1], labels)


def test_an_error_in_the_thread_reaches_the_training(plan: Plan, tmp_path: Path) -> None:
    cases = constant_cases(tmp_path, 2)
    batches = Batches(cases, cut(plan, 4, 2), 0)
    (cases[0].folder / "locations.npy").unlink()
    (cases[1].folder / "locations.npy").unlink()
    again = "can no longer be read .*locations.*; give the same command again"
    with Ahead(batches, 0) as ahead, pytest.raises(DataError, match=again):
        ahead.next()


@pytest.mark.parametrize(("cases", "batch"), [(5, 2), (3, 4), (1, 3)])
def test_every_case_is_seen_equally_often(
    plan: Plan, tmp_path: Path, cases: int, batch: int
) -> None:
    batches = Batches(constant_cases(tmp_path, cases), cut(plan, 4, batch), 10**9)
    seen = [
        int(value) for step in range(cases * 4) for value in batches.make(step)[0][:, 0, 0, 0, 0]
    ]
    # Exactly four times `batch` turns, and each turn holds every case once, in an order of its own.
    assert Counter(seen) == dict.fromkeys(range(cases), 4 * batch)
    turns = [tuple(seen[i : i + cases]) for i in range(0, len(seen), cases)]
    assert all(sorted(turn) == list(range(cases)) for turn in turns)
    assert cases == 1 or len(set(turns)) > 1


def test_a_round_has_as_many_voxels_as_the_cases(plan: Plan, tmp_path: Path) -> None:
    cases = constant_cases(tmp_path / "large", 3, 8) + constant_cases(tmp_path / "small", 2, 2)
    # Three of eight patches of 4 x 4 x 4, and two that are smaller than one.
    assert Batches(cases, cut(plan, 4, 2), 10**9).steps_per_round == (3 * 8 + 2) / 2
    assert Batches(cases, cut(plan, 8, 5), 10**9).steps_per_round == 1


@pytest.mark.parametrize(("share", "forced"), [(0.0, 0), (0.33, 1), (0.5, 2), (1.0, 4)])
def test_the_foreground_share_is_forced(
    plan: Plan, tmp_path: Path, share: float, forced: int
) -> None:
    labels = np.zeros((24, 24, 24))
    labels[23, 0, 11] = 1
    case = prepared(tmp_path / "one", np.zeros((1, 24, 24, 24)), labels)
    batches = Batches([case], cut(plan, 4, 4, foreground_share=share), 10**9)
    holds = torch.stack([(batches.make(s)[1] == 1).flatten(1).any(1) for s in range(20)])
    assert holds[:, 4 - forced :].all()
    # The corner voxel is in about one of 21 x 21 x 5 free patches.
    assert holds[:, : 4 - forced].sum() <= 2


def test_classes_are_drawn_equally_often_however_rare(plan: Plan, tmp_path: Path) -> None:
    labels = np.ones((16, 16, 16))
    labels[:, :, 8:] = 0
    labels[3, 3, 14] = 2
    case = prepared(tmp_path / "one", np.zeros((1, 16, 16, 16)), labels)
    batches = Batches([case], cut(plan, 1, 4, foreground_share=1.0), 10**9)
    drawn = Counter(int(v) for s in range(50) for v in batches.make(s)[1].flatten())
    assert set(drawn) == {1, 2}
    # 200 fair draws: 60 to 140 is more than five deviations either way.
    assert 60 < drawn[2] < 140


def test_a_scan_smaller_than_the_patch_is_padded_with_ignored(plan: Plan, tmp_path: Path) -> None:
    labels = np.ones((5, 12, 6))
    case = prepared(tmp_path / "one", np.full((1, 5, 12, 6), 7.0), labels)
    batches = Batches([case], cut(plan, 8, 2), 10**9)
    for step in range(4):
        images, truth = batches.make(step)
        for image, mask in zip(images[:, 0], truth, strict=True):
            inside = mask != IGNORED
            assert int(inside.sum()) == 5 * 8 * 6
            assert (mask[inside] == 1).all()
            assert (image[inside] == 7).all()
            assert (image[~inside] == 0).all()


def test_the_request_starts_now_if_nobody_says_when() -> None:
    from time import time

    assert abs(Request(Path("a"), Path("b")).started - time()) < 5
