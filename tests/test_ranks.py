"""Several processes learn what one learns: losses, gradients, weights, and who writes them."""

import csv
import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cubes import request, write_cubes
from hypothesis import given
from hypothesis import strategies as st
from ranks import learn, learn_apart, learn_less, together, variables
from safetensors.torch import load_file

from unetseg import augment
from unetseg.config import AugmentPlan
from unetseg.dataset import find_cases
from unetseg.errors import DataError, DeviceError, RankLost, UsageError
from unetseg.nets.unet import UNet
from unetseg.pipeline import cache
from unetseg.planning import make
from unetseg.planning.fingerprint import inspect
from unetseg.records import Case, Machine, Note, ignore_event
from unetseg.runs import read_run
from unetseg.training import joined, plan_for, train
from unetseg.training.batches import Batches
from unetseg.training.preparing import prepare_together
from unetseg.training.ranks import Ranks, _place, join

# A line of the history, with its loss, for every step.
STEPS = {"training.epochs": 3, "training.steps_per_epoch": 1, "patch.batch": 6}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cubes(tmp_path_factory.mktemp("ranks") / "data")


def losses(run: Path) -> list[float]:
    with (run / "history.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def validated(run: Path) -> list[str]:
    with (run / "validation.csv").open(newline="") as file:
        return [row["case"] for row in csv.DictReader(file)]


def tensors(run: Path, part: str) -> dict[str, torch.Tensor]:
    """Of the state: the network, or the means of the gradients that the optimiser keeps."""
    state = load_file(run / "resume" / "state.safetensors")
    starts, ends = ("optimiser.", ".exp_avg") if part == "gradients" else (f"{part}.", "")
    return {n: t for n, t in state.items() if n.startswith(starts) and n.endswith(ends)}


def steps(run: Path) -> int:
    return int(load_file(run / "resume" / "state.safetensors")["optimiser.0.step"])


def distance(one: Path, other: Path, part: str) -> float:
    """How far the two states are from one another, as a share of their size."""
    mine, theirs = tensors(one, part), tensors(other, part)
    assert mine.keys() == theirs.keys()
    ours = torch.cat([t.flatten() for t in mine.values()])
    return float((ours - torch.cat([t.flatten() for t in theirs.values()])).norm() / ours.norm())


# --- the same training --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(data: Path) -> Path:
    return train(request(data, data.parent / "alone", STEPS)).run


@pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_ranks_learn_what_one_learns(data: Path, alone: Path, tmp_path: Path, count: int) -> None:
    assert together(count, learn, data, tmp_path / "run", STEPS) == [0] * count
    assert losses(tmp_path / "run") == pytest.approx(losses(alone), rel=1e-5)
    assert distance(alone, tmp_path / "run", "network") < 1e-4
    # The means of the gradients: Adam would hide that all are twice as large.
    assert distance(alone, tmp_path / "run", "gradients") < 1e-3
    mine, theirs = read_run(tmp_path / "run"), read_run(alone)
    assert mine.masks.keys() == theirs.masks.keys() == set(validated(alone))
    assert mine.evidence is not None
    assert theirs.evidence is not None
    # Every rank's voxels are in the sums, once; weights that differ a little may turn a few.
    ours, counts = np.array(mine.evidence.confusion), np.array(theirs.evidence.confusion)
    assert np.array_equal(ours.sum(1), counts.sum(1))
    assert np.abs(ours - counts).max() <= 0.01 * counts.sum()
    assert sum(each.count for each in mine.evidence.calibration) == counts.sum()
    for one, other in zip(mine.evidence.cases, theirs.evidence.cases, strict=True):
        assert (one.name, one.mask, one.true) == (other.name, other.mask, other.true)


def test_but_not_without_the_sums_over_all_ranks(data: Path, alone: Path, tmp_path: Path) -> None:
    assert together(2, learn_apart, data, tmp_path / "apart", STEPS) == [0, 0]
    found, expected = losses(tmp_path / "apart"), losses(alone)
    assert min(abs(a / b - 1) for a, b in zip(found, expected, strict=True)) > 1e-4
    assert together(2, learn_less, data, tmp_path / "less", STEPS) == [0, 0]
    assert losses(tmp_path / "less")[0] == pytest.approx(expected[0], rel=1e-5)
    assert distance(alone, tmp_path / "less", "gradients") > 0.3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "settings"),
    [
        (3, {"patch.batch": 5}),
        (2, {"patch.batch": 5, "training.passes": 2}),
        (3, {"patch.batch": 12, "training.passes": 4}),
        # Beyond the scan nothing is known, and each turned patch has another share of it.
        (2, {"patch.size": (24, 24, 24), "training.augment.spatial_probability": 1.0}),
        (2, {"training.augment.intensity_probability": 1.0}),
        (
            2,
            {
                "network.levels": 3,
                "network.features": (4, 8, 8),
                "network.deep_supervision": True,
                "training.passes": 2,
            },
        ),
        (2, {"training.frozen_share": 0.6, "network.encoder": "residual"}),
        (2, {"network.encoder": "dense", "network.recompute": True}),
    ],
    ids=["uneven", "passes", "more passes", "unknown", "noise", "deep", "frozen", "recompute"],
)
def test_whatever_the_plan(data: Path, tmp_path: Path, count: int, settings: Any) -> None:
    whole = STEPS | settings
    expected = train(request(data, tmp_path / "one", whole)).run
    assert together(count, learn, data, tmp_path / "run", whole) == [0] * count
    mine, other = losses(tmp_path / "run"), losses(expected)
    # Before the weights have changed, and when rounding has gone through steps of the optimiser.
    assert mine[0] == pytest.approx(other[0], rel=1e-5)
    assert mine == pytest.approx(other, rel=1e-4)
    assert distance(expected, tmp_path / "run", "gradients") < 1e-3


def test_a_run_goes_on_with_other_ranks(data: Path, alone: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert together(3, learn, data, run, STEPS, 1) == [0, 0, 0]
    assert steps(run) == 1
    assert together(2, learn, data, run, STEPS, 1) == [0, 0]
    assert steps(run) == 2
    assert train(request(data, run, STEPS)).finished
    assert "resuming at step 2" in (run / "log.txt").read_text()
    assert losses(run) == pytest.approx(losses(alone), rel=1e-5)
    assert distance(alone, run, "network") < 1e-4


def learn_for_a_while(data: Path, run: Path, budget: str) -> None:
    """By a clock that every rank reads differently, or until the score no longer rises."""
    settings = {"training.minutes": 0.1} if budget == "time" else {}
    # A rate so high that the score is soon as good as it gets.
    asked = request(data, run, settings | {"patch.batch": 3, "training.learning_rate": 0.05})
    del asked.overrides["training.epochs"]  # type: ignore[attr-defined]  # a dict here
    late = replace(asked, started=asked.started + 3 * int(os.environ["RANK"]))
    with joined(late) as mine:
        assert train(mine).finished


@pytest.mark.slow
@pytest.mark.parametrize("budget", ["time", "none"])
def test_the_first_alone_says_when_it_ends(data: Path, tmp_path: Path, budget: str) -> None:
    assert together(3, learn_for_a_while, data, tmp_path / "run", budget) == [0, 0, 0]
    assert "finished after" in (tmp_path / "run" / "log.txt").read_text()


def learn_elsewhere(data: Path, run: Path) -> None:
    """Only the first rank is told where the run folder is."""
    is_first = os.environ["RANK"] == "0"
    notes: list[str] = []

    def listener(event: object) -> None:
        notes.append(str(event))

    asked = request(data, run if is_first else run / "of another", STEPS, cache=run / "cache")
    with joined(asked) as mine:
        outcome = train(mine, listener)
    assert bool(notes) == is_first
    assert outcome.finished
    assert outcome.validation.names
    assert not math.isnan(outcome.validation.mean)


def test_only_the_first_writes_and_speaks(data: Path, alone: Path, tmp_path: Path) -> None:
    assert together(2, learn_elsewhere, data, tmp_path / "run") == [0, 0]
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {path.name for path in alone.iterdir()} | {"cache"}
    # Prepared once each, by one or the other.
    assert len(list((tmp_path / "run" / "cache").iterdir())) == 4
    assert "2 x cpu" in (tmp_path / "run" / "log.txt").read_text()
    facts = json.loads((tmp_path / "run" / "model" / "model.json").read_text())["facts"]
    assert facts["device"] == "2 x cpu"
    assert validated(tmp_path / "run") == validated(alone)
    # The other's masks were nowhere to be put; what they show came over.
    record = read_run(tmp_path / "run")
    assert list(record.masks) == validated(alone)[:1]
    assert record.evidence is not None
    assert np.sum(record.evidence.confusion) == 2 * 16**3
    text = "1 of 2 masks of the validation were not kept: a process does not see the run folder"
    assert text in (tmp_path / "run" / "log.txt").read_text()


# --- prepared cases -------------------------------------------------------------------------------


def prepare_apart(data: Path, folder: Path, bad: str) -> None:
    """Two machines, each with a cache of its own; `bad` can be read by some of them."""
    os.environ |= {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    index = os.environ["RANK"]
    notes: list[str] = []
    load = cache.load_scan

    def failing(case: Case) -> Any:
        if f"{index}:{case.name}" in bad.split():
            raise DataError("bad", where=case.name)
        return load(case)

    cache.load_scan = failing
    plan, found = plan_for(request(data, folder / "none", STEPS))
    with join("cpu") as (ranks, _):
        done = prepare_together(
            found.cases,
            plan,
            folder / index,
            ranks,
            cores=4,
            skip_bad=bool(bad),
            listener=lambda event: notes.append(event.text) if isinstance(event, Note) else None,
        )
    assert len(list((folder / index).iterdir())) == len(done)
    names = [cached.case.name for cached in done]
    left_out = [name for name in (f"case_{n}" for n in range(6)) if f"{index}:{name}" in bad]
    assert names == [f"case_{n}" for n in range(6) if f"case_{n}" not in left_out]
    # Once, though it was tried more often.
    assert [note.partition(":")[0] for note in notes] == [f"left out {name}" for name in left_out]


@pytest.mark.parametrize("bad", ["", "0:case_3 1:case_3 0:case_4 1:case_4"])
def test_machines_without_a_common_cache_prepare_all(data: Path, tmp_path: Path, bad: str) -> None:
    assert together(2, prepare_apart, data, tmp_path, bad) == [0, 0]


def prepare_differently(data: Path, folder: Path) -> None:
    is_first = os.environ["RANK"] == "0"
    message = r"^rank 1 of 2: cannot be prepared here, though the first rank could: case_2;"
    with pytest.raises(
        RankLost if is_first else DataError, match="another process" if is_first else message
    ):
        prepare_apart(data, folder, "1:case_2")
    # Its connections close with the process.
    os._exit(0)


@pytest.mark.slow
def test_a_case_that_one_machine_lacks_is_no_secret(data: Path, tmp_path: Path) -> None:
    assert together(2, prepare_differently, data, tmp_path) == [0, 0]


# --- what goes wrong -----------------------------------------------------------------------------


def learn_until_one_fails(data: Path, run: Path, fails: int) -> None:
    """Rank 1 cannot make its batch of a later step; what the others see of that."""
    make = Batches.make

    def failing(self: Batches, step: int) -> Any:
        if step >= 4 and int(os.environ["RANK"]) == fails:
            raise DataError("a prepared case can no longer be read")
        return make(self, step)

    Batches.make = failing  # type: ignore[method-assign]
    expected = DataError if int(os.environ["RANK"]) == fails else RankLost
    with pytest.raises(expected) as caught:
        learn(data, run, STEPS | {"training.epochs": 9})
    if expected is RankLost:
        assert "of 3: another process of this training has ended" in str(caught.value)


@pytest.mark.parametrize("fails", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_when_a_rank_fails_the_others_end_and_the_state_is_saved(
    data: Path, tmp_path: Path, fails: int
) -> None:
    run = tmp_path / "run"
    assert together(3, learn_until_one_fails, data, run, fails) == [0, 0, 0]
    if fails:
        # Exactly where it was, not where it was last saved on the way.
        assert steps(run) == 4
        assert "step 4 is saved" in (run / "log.txt").read_text()
    assert train(request(data, run, STEPS | {"training.epochs": 5})).finished


def learn_with_little_memory(data: Path, run: Path, passes: int) -> None:
    forward = UNet.forward

    def limited(self: UNet, x: torch.Tensor, **more: bool) -> list[torch.Tensor]:
        if self.training and len(x) > 1 and os.environ["RANK"] == "1":
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 99 bytes")
        return forward(self, x, **more)

    UNet.forward = limited  # type: ignore[method-assign]
    settings = STEPS | {"training.passes": passes}
    if passes == 3:
        learn(data, run, settings)
    else:
        with pytest.raises(DeviceError if os.environ["RANK"] == "1" else RankLost) as caught:
            learn(data, run, settings)
        more = f"training.passes={min(2 * passes, 3)}"
        assert os.environ["RANK"] == "0" or more in str(caught.value)


@pytest.mark.slow
def test_memory_that_does_not_suffice_is_said_with_the_passes_that_would(
    data: Path, tmp_path: Path
) -> None:
    for passes in (1, 2, 3):
        run = tmp_path / "run"
        assert together(2, learn_with_little_memory, data, run, passes) == [0, 0]


def learn_with_too_many(data: Path, run: Path) -> None:
    settings = STEPS | {"patch.batch": 2}
    if os.environ["RANK"] == "0":
        with pytest.raises(UsageError, match=r"^patch\.batch: more processes than patches in a"):
            learn(data, run, settings)
    else:
        with pytest.raises(RankLost):
            learn(data, run, settings)


def test_more_ranks_than_patches_are_refused_before_anything_is_written(
    data: Path, tmp_path: Path
) -> None:
    assert together(3, learn_with_too_many, data, tmp_path / "run") == [0, 0, 0]
    assert not (tmp_path / "run").exists()


def test_a_plan_has_a_patch_for_each_device(data: Path, tmp_path: Path) -> None:
    asked = request(data, tmp_path / "run")
    del asked.overrides["patch.batch"]  # type: ignore[attr-defined]  # a dict here
    usual = plan_for(asked)[0].patch.batch
    found = inspect(find_cases(data), ignore_value=None, skip_bad=False, cores=1)
    machine = Machine("cpu", 10**9, 2)
    assert make(found.fingerprint, machine, asked.overrides).patch.batch == usual
    many = make(found.fingerprint, replace(machine, devices=50), asked.overrides)
    assert many.patch.batch == 50
    assert many.reasons["patch.batch"] == "a patch for each device"


def learn_with_batch_norm(data: Path, run: Path) -> None:
    notes: list[str] = []

    def listener(event: object) -> None:
        if isinstance(event, Note):
            notes.append(event.text)

    with joined(request(data, run, STEPS | {"network.norm": "batch"})) as mine:
        train(mine, listener)
    assert sum("takes the statistics of its own" in note for note in notes) == (
        os.environ["RANK"] == "0"
    )


@pytest.mark.slow
def test_batch_statistics_on_the_processor_are_of_each_rank_and_that_is_said(
    data: Path, tmp_path: Path
) -> None:
    assert together(2, learn_with_batch_norm, data, tmp_path / "run") == [0, 0]


# --- what ranks tell one another -----------------------------------------------------------------


def talk() -> None:
    with join("cpu") as (ranks, device):
        assert device == "cpu"
        index = int(os.environ["RANK"])
        assert (ranks.index, ranks.count, ranks.is_first) == (index, 3, index == 0)
        # A name that is not in UTF-8, numbers that JSON does not know, records inside records.
        cases = (Case("a\udcff", (Path("b\udcff.nii"), Path("c")), None, "val"),)
        value = (cases, np.float32("nan"), {"a": 1e-300})

        def make() -> Any:
            assert ranks.is_first
            return value

        told = ranks.told(tuple[tuple[Case, ...], float, dict[str, float]], make)
        assert told[0] == cases
        assert math.isnan(told[1])
        assert told[2] == value[2]
        given_ = {"x": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(7)}
        got = ranks.told_tensors(given_ if ranks.is_first else {})
        assert got.keys() == given_.keys()
        assert all(torch.equal(got[name], given_[name]) for name in given_)
        assert ranks.agreed(index + 0.5) == 0.5
        assert ranks.highest(index, -index) == (2, 0)
        layer = torch.nn.BatchNorm1d(2)
        layer.weight.data.fill_(index + 5)
        layer.running_mean.fill_(index + 5)  # type: ignore[union-attr]
        ranks.same(layer)
        assert layer.weight.tolist() == layer.running_mean.tolist() == [5, 5]  # type: ignore[union-attr]
        rows = [[float(n), float("nan")] for n in range(5)]
        table = ranks.gathered(rows[ranks.rows], (5, 2))
        np.testing.assert_array_equal(table, rows)
        assert ranks.gathered([], (0, 2)).shape == (0, 2)
        part = torch.tensor([float(index)], requires_grad=True)
        first, second = ranks.total([part * 2, torch.ones((), dtype=torch.int64)])
        assert (first.item(), second.item()) == (6, 3)
        # d(6 + x)^2 with x of this rank: 12, twice, for the three that are averaged later.
        (first**2).backward()
        assert part.grad is not None
        assert part.grad.item() == 12 * 2 * 3


def test_what_the_first_knows_all_know() -> None:
    assert together(3, talk) == [0, 0, 0]


def test_alone_nothing_is_changed() -> None:
    alone = Ranks()
    part = torch.ones(2, requires_grad=True)
    assert alone.total([part])[0] is part
    assert alone.highest(1.5, 2) == (1.5, 2)
    assert alone.told(int, lambda: 7) == 7
    assert list("abc"[alone.rows]) == ["a", "b", "c"]


# --- torchrun's variables ------------------------------------------------------------------------


def test_the_variables_of_torchrun() -> None:
    given_ = variables(2, 4, 1) | {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}
    assert Ranks.of(given_) == Ranks(2, 4, 0, 2)
    assert Ranks.of({}) == Ranks()
    # Other programs set WORLD_SIZE too.
    assert Ranks.of({"WORLD_SIZE": "4"}) == Ranks()
    assert Ranks.of(variables(0, 1, 1)) == Ranks()


@pytest.mark.parametrize(
    ("name", "value"),
    [("RANK", "4"), ("RANK", "-1"), ("WORLD_SIZE", "two"), ("LOCAL_RANK", "4")],
)
def test_variables_that_do_not_go_together(name: str, value: str) -> None:
    with pytest.raises(UsageError, match=r"^RANK, .*: not the variables of torchrun .*got"):
        Ranks.of(variables(1, 4, 1) | {name: value})


@pytest.mark.parametrize(
    ("device", "error", "message"),
    [
        ("auto", DeviceError, "rank 1 of 2: no device for each process .*--device cpu"),
        ("cuda", DeviceError, "rank 1 of 2: no device for each process .*--device cpu"),
        ("cuda:1", UsageError, "--device: not a device of several processes .*got cuda:1"),
        ("mps", UsageError, "--device: not a device of several processes .*got mps"),
    ],
)
def test_devices_that_ranks_cannot_have(
    monkeypatch: pytest.MonkeyPatch, device: str, error: type[Exception], message: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name, value in variables(1, 2, 1).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(error, match=message), join(device):
        pass


def test_each_rank_of_a_machine_has_the_card_of_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for device in ("auto", "cuda"):
        assert _place(device, Ranks(5, 8, 1, 4)) == "cuda:1"
    assert _place("cpu", Ranks(5, 8, 1, 4)) == "cpu"


# --- who has which samples -----------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 8))
def test_every_pass_is_the_same_samples_however_many_ranks(
    batch: int, passes: int, count: int
) -> None:
    if count > batch:
        count = batch
    ranks = [Ranks(index, count) for index in range(count)]
    samples = [np.arange(batch)[each.rows] for each in ranks]
    divided = [each.divided(batch, passes) for each in ranks]
    # As one rank would divide it, if it is not asked for more than the ranks can.
    expected = Ranks().divided(batch, min(passes, batch // count))
    for number, (rows, share) in enumerate(expected):
        parts = [own[each[number][0]] for own, each in zip(samples, divided, strict=True)]
        assert all(len(part) for part in parts)
        assert sorted(np.concatenate(parts)) == list(range(batch))[rows]
        assert [each[number][1] for each in divided] == [share] * count
    assert sum(share for _, share in expected) == pytest.approx(1)
    assert {len(each) for each in divided} == {len(expected)}


STRONG = AugmentPlan(
    mirror_axes=(0, 1),
    spatial_probability=0.7,
    rotation_degrees=(180.0,),
    scale=(0.5, 2.0),
    intensity_probability=0.7,
    brightness=(0.5, 2.0),
    contrast=(0.5, 2.0),
    gamma=(0.5, 2.0),
    noise=0.3,
    blur=1.5,
)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_part_of_a_batch_is_changed_as_in_the_whole(count: int) -> None:
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(5, 2, 8, 10, generator=generator)
    labels = torch.randint(0, 4, (5, 8, 10), generator=generator)
    drawn = augment.draw(5, STRONG, (1.0, 2.0), torch.Generator().manual_seed(1))
    assert bool((drawn.noise > 0).any())
    expected = augment.apply(images, labels, drawn)
    for index in range(count):
        rows = Ranks(index, count).rows
        found = augment.apply(images[rows], labels[rows], drawn.part(rows))
        torch.testing.assert_close(found[0], expected[0][rows])
        assert torch.equal(found[1], expected[1][rows])
    # Changed as if they were the first of the batch they are something else.
    first = augment.apply(images[1:], labels[1:], drawn.part(slice(0, 4)))
    assert not torch.allclose(first[0], expected[0][1:])


def test_ranks_cut_the_samples_of_one_batch(data: Path, alone: Path, tmp_path: Path) -> None:
    plan, found = plan_for(request(data, alone, STEPS))
    cached = cache.prepare_cases(
        found.cases, plan, tmp_path, cores=1, skip_bad=False, listener=ignore_event
    )
    images, labels = Batches(cached, plan, 10**9).make(5)
    for index in range(4):
        ranks = Ranks(index, 4, index, 4)
        part = Batches(cached, plan, 10**9, ranks=ranks).make(5)
        assert torch.equal(part[0], images[ranks.rows])
        assert torch.equal(part[1], labels[ranks.rows])
    # They share the memory of their machine.
    size = sum(case.image.nbytes + case.labels.nbytes for case in cached)
    assert Batches(cached, plan, 3 * size).home == "memory"
    assert Batches(cached, plan, 3 * size, ranks=Ranks(0, 4, 0, 4)).home == "disk"
    assert Batches(cached, plan, 3 * size, ranks=Ranks(0, 4, 0, 1)).home == "memory"
