"""Studies that train, on squares: what they write, and that they go on where they stopped."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from cubes import write_squares

from unetseg.errors import UsageError
from unetseg.nets.cost import Cost
from unetseg.records import Advance, Case, Event, Note, Stage
from unetseg.studies import degradation, skips, trials
from unetseg.studies.degradation import conclusions
from unetseg.studies.skips import Scores, conclusion
from unetseg.studies.trials import Done, StudyRequest, Trial, chosen_cases

SMALL = {
    "patch.size": (16, 16),
    "patch.batch": 2,
    "network.features": (4, 8, 8),
    "network.growth": 4,
    "training.precision": "float32",
}


def request(folder: Path, **more) -> StudyRequest:
    if not (folder / "data").is_dir():
        write_squares(folder / "data", 6)
    values = {"seeds": 1, "steps": 4, "device": "cpu", "settings": SMALL} | more
    return StudyRequest(folder / "data", folder / "study", **values)


def done(encoder: str, depth: int, loss: float, seed: int = 0) -> Done:
    trial = Trial({"encoder": encoder, "depth": str(depth)}, seed, {})
    return Done(trial, Path("run"), (1,), (loss,), 0.9, 0.1, Cost(1, 1, 1))


# --- degradation ---


def test_the_study_leaves_a_folder_that_explains_itself(tmp_path):
    asked = request(tmp_path)
    events: list[Event] = []
    found = degradation.study(
        asked, depths=(14, 8), encoders=("plain", "residual"), listener=events.append
    )
    names = [
        "plain-8-seed0",
        "plain-14-seed0",
        "residual-8-seed0",
        "residual-14-seed0",
    ]
    assert [each.trial.name for each in found.results] == names
    assert sorted(path.name for path in (asked.out / "runs").iterdir()) == sorted(names)
    for name in ("study.json", "data.csv", "results.json", "results.csv", "index.html"):
        assert (asked.out / name).is_file()
    for suffix in ("png", "svg"):
        assert (asked.out / "figures" / f"losses.{suffix}").stat().st_size > 1000
    content = json.loads((asked.out / "results.json").read_text())
    assert [each["training"] for each in content["trainings"]] == names
    assert content["conclusion"] == list(found.conclusion)
    assert content["trainings"][0]["history"]["step"] == [4]
    rows = list(csv.DictReader((asked.out / "results.csv").read_text().splitlines()))
    assert [row["depth"] for row in rows] == ["8", "14", "8", "14"]
    assert float(rows[0]["loss"]) == found.results[0].loss
    assert Stage("trainings", 4) in events
    assert sum(isinstance(event, Advance) and event.name in names for event in events) == 4
    assert any(isinstance(e, Note) and e.text.startswith("4 of 4: residual-14") for e in events)


def test_the_page_needs_nothing_else(tmp_path):
    asked = request(tmp_path)
    found = degradation.study(asked, depths=(8,), encoders=("plain",))
    page = (asked.out / "index.html").read_text()
    assert found.conclusion == ()
    assert "data:image/svg+xml;base64," in page
    assert "http://" not in page
    assert "https://" not in page
    assert 'src="figures' not in page


def test_a_deeper_network_has_more_layers_of_its_own_kind(tmp_path):
    """20 layers are 18 besides the first convolution and the classifier, a third per level."""
    for encoder, blocks in (("plain", 6), ("highway", 6), ("residual", 3), ("dense", 3)):
        assert degradation._settings(encoder, 20)["network.blocks"] == (blocks,) * 3


def test_all_trainings_see_the_same_data_in_the_same_order(tmp_path):
    asked = request(tmp_path)
    found = degradation.study(asked, depths=(8,), encoders=("plain", "residual"))
    plans = [
        json.loads((d.run / "model" / "model.json").read_text())["plan"] for d in found.results
    ]
    assert plans[0]["data"] == plans[1]["data"]
    assert plans[0]["patch"] == plans[1]["patch"]
    assert plans[0]["training"] == plans[1]["training"]
    assert plans[0]["network"] != plans[1]["network"]
    folds = [(d.run / "folds.json").read_text() for d in found.results]
    assert folds[0] == folds[1]


def test_a_finished_study_trains_nothing_again(tmp_path, monkeypatch):
    asked = request(tmp_path)
    first = degradation.study(asked, depths=(8,), encoders=("plain",))

    def refuse(*args, **more):
        raise AssertionError("trained again")

    monkeypatch.setattr(trials, "train", refuse)
    assert degradation.study(asked, depths=(8,), encoders=("plain",)) == first
    (asked.out / "study.json").unlink()
    with pytest.raises(AssertionError, match="trained again"):
        degradation.study(asked, depths=(8, 14), encoders=("plain",))


def test_a_stopped_study_goes_on(tmp_path):
    asked = request(tmp_path)
    calls = iter([False] * 3 + [True] * 100)
    stopped = degradation.study(
        asked, depths=(8,), encoders=("plain", "residual"), should_stop=lambda: next(calls)
    )
    assert stopped is None
    assert not (asked.out / "index.html").exists()
    whole = degradation.study(asked, depths=(8,), encoders=("plain", "residual"))
    assert len(whole.results) == 2
    other = request(tmp_path / "other")
    straight = degradation.study(other, depths=(8,), encoders=("plain", "residual"))
    assert whole.results[1].dice == straight.results[1].dice


def test_another_study_in_the_same_folder_is_refused(tmp_path):
    asked = request(tmp_path)
    degradation.study(asked, depths=(8,), encoders=("plain",))
    with pytest.raises(UsageError, match="another study stands here, it differs in depths"):
        degradation.study(asked, depths=(14,), encoders=("plain",))
    with pytest.raises(UsageError, match="it differs in steps"):
        degradation.study(request(tmp_path, steps=6), depths=(8,), encoders=("plain",))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"depths": (21,)}, r"--depths: not a depth of this family \(expected 6n \+ 2, got 21\)"),
        ({"depths": (2,)}, "--depths: not a depth"),
        ({"encoders": ("resnet18",)}, "--encoders: not an encoder of any depth .*got resnet18"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path, choice, message):
    with pytest.raises(UsageError, match=message):
        degradation.study(request(tmp_path), **choice)
    assert not (tmp_path / "study").exists()


def test_no_seeds_are_no_study(tmp_path):
    with pytest.raises(UsageError, match="--seeds: too few"):
        request(tmp_path, seeds=0)


def pairs(encoder: str, *losses: tuple[float, float]) -> list[Done]:
    """Training losses of 20 and 56 layers, a pair per seed."""
    return [
        done(encoder, depth, loss, seed)
        for seed, pair in enumerate(losses)
        for depth, loss in zip((20, 56), pair, strict=True)
    ]


def test_the_sentence_says_what_the_numbers_say():
    (worse,) = conclusions(pairs("plain", (0.3, 0.35), (0.4, 0.43)))
    assert worse == (
        "plain: the training loss of 56 layers minus that of 20 is +0.040, +0.030 to +0.050 over 2"
        " seeds: the deeper network learns worse, which is degradation."
    )
    assert "learns better" in conclusions(pairs("residual", (0.5, 0.4), (0.4, 0.39)))[0]
    assert "learns no worse" in conclusions(pairs("residual", (0.5, 0.4), (0.4, 0.41)))[0]
    assert "nothing is shown" in conclusions(pairs("dense", (0.5, 0.6), (0.4, 0.39)))[0]
    assert "with one seed" in conclusions(pairs("plain", (0.3, 0.4)))[0]
    both = conclusions(pairs("plain", (0.3, 0.4)) + pairs("residual", (0.3, 0.2)))
    assert [sentence.partition(":")[0] for sentence in both] == ["plain", "residual"]


# --- long skips ---


def test_the_long_skips_are_compared_case_by_case(tmp_path):
    asked = request(tmp_path)
    found = skips.study(asked, skips=("none", "concat"))
    assert [s.done.trial.name for s in found.scores] == ["plain-none-seed0", "plain-concat-seed0"]
    assert len(found.conclusion) == 1
    assert "none" in found.conclusion[0]
    assert "concat" in found.conclusion[0]
    content = json.loads((asked.out / "results.json").read_text())
    per_case = content["per_case"]["plain-concat-seed0"]
    assert set(per_case) == {"dice", "surface_dice"}
    assert len(per_case["dice"]) == 2
    rows = list(csv.DictReader((asked.out / "results.csv").read_text().splitlines()))
    assert int(rows[0]["parameters"]) < int(rows[1]["parameters"])
    validated = (found.scores[1].done.run / "validation.csv").read_text().splitlines()[1:]
    dice = [float(line.rsplit(",", 1)[1]) for line in validated]
    assert found.scores[1].values["dice"] == pytest.approx(dice, abs=1e-5)


def scored(*dice: tuple[float, ...]) -> list[Scores]:
    """Scores of one training per seed."""
    return [Scores(done("plain", 20, 0.3, seed), {"dice": row}) for seed, row in enumerate(dice)]


def test_better_means_over_the_cases_and_with_every_seed():
    cases = (0.8, 0.7, 0.9, 0.75, 0.85)
    base = scored(cases, cases)
    names = ("add", "concat")

    def moved(*by: float) -> tuple[float, ...]:
        return tuple(dice + change for dice, change in zip(cases, by, strict=True))

    gains = moved(0.02, 0.01, 0.03, 0.02, 0.01), moved(0.01, 0.02, 0.02, 0.02, 0.02)
    better = conclusion(names, scored(*gains), base)
    assert better.startswith("add is better than concat (Dice +0.018, 95 % interval +0.01")
    down = moved(*[-0.1] * 5)
    assert conclusion(names, scored(down, down), base).startswith("add is worse than concat")
    # The mean over the seeds rises in every case, but one seed falls.
    divided = conclusion(names, scored(moved(*[0.1] * 5), moved(*[-0.02] * 5)), base)
    assert divided.startswith("add is not told apart from concat")
    assert divided.endswith("-0.020 to +0.100 over 2 seeds).")
    mixed = moved(0.1, -0.1, 0.0, 0.05, -0.05)
    assert "not told apart" in conclusion(names, scored(mixed, mixed), base)


def test_few_cases_tell_nothing():
    told = conclusion(("add", "concat"), scored((0.9, 0.8, 0.9)), scored((0.8, 0.7, 0.8)))
    assert told.startswith("add is not told apart from concat (Dice +0.100 over 3 cases, too few")


def test_networks_of_equal_size(tmp_path):
    asked = request(tmp_path, steps=2)
    found = skips.study(asked, skips=("concat", "none"), match_params=True)
    sizes = [s.done.cost.parameters for s in found.scores]
    assert sizes[0] != sizes[1]
    assert abs(sizes[0] - sizes[1]) < 0.1 * max(sizes)


def test_one_skip_is_no_comparison(tmp_path):
    with pytest.raises(UsageError, match="--skips: nothing to compare"):
        skips.study(request(tmp_path), skips=("add",))
    with pytest.raises(UsageError, match=r"no such skip .*did you mean concat"):
        skips.study(request(tmp_path), skips=("add", "concat2"))


# --- which cases ---


def test_the_chosen_cases_are_spread_over_the_smaller_half():
    cases = [Case(f"c{i}", (Path(f"{i}.tif"),)) for i in range(10)]
    shapes = [(10 * (i + 1), 10) for i in range(10)]
    picked = chosen_cases(cases, shapes, 3)
    assert [case.name for case in picked] == ["c0", "c2", "c4"]
    assert chosen_cases(cases, shapes, None) == tuple(cases)
    assert chosen_cases(cases, shapes, 10) == tuple(cases)
    assert len(chosen_cases(cases, [], 4)) == 4


def test_the_loss_of_a_training_is_that_of_its_end():
    losses = tuple(np.arange(8, 0, -1).astype(float))
    trial = Trial({"encoder": "plain"}, 0, {})
    end = Done(trial, Path("run"), tuple(range(8)), losses, 0.9, 0.1, Cost(1, 1, 1))
    assert end.loss == 1.5
