"""Trainings on discs that touch: what the run says, what the model keeps, what predict writes."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from cubes import request
from discs import LEARNED, of_case, write_discs
from test_cli import run, settings

from unetseg import checkpoint
from unetseg.config import RULES
from unetseg.config.toml import read_plan
from unetseg.errors import UsageError
from unetseg.formats import read_mask, read_scan
from unetseg.metrics.objects import average_precision, matches
from unetseg.prediction import Predictor, Request, predict
from unetseg.prediction.reading import size_notes
from unetseg.records import (
    EpochDone,
    Event,
    FileDone,
    Note,
    ObjectCount,
    Stage,
    View,
    ignore_event,
)
from unetseg.studies.trials import Laboratory, StudyRequest
from unetseg.training import Outcome, train
from unetseg.training.cross_validation import cross_validate

MICROMETRES = {
    "PhysicalSizeX": 0.5,
    "PhysicalSizeXUnit": "µm",
    "PhysicalSizeY": 0.5,
    "PhysicalSizeYUnit": "µm",
}
THRESHOLDS = ("0.5", "0.6", "0.7", "0.8", "0.9")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_discs(tmp_path_factory.mktemp("instances") / "data")


@pytest.fixture(scope="module")
def told() -> list[Event]:
    return []


@pytest.fixture(scope="module")
def outcome(data: Path, told: list[Event]) -> Outcome:
    return train(request(data, data.parent / "run", LEARNED), told.append)


def test_discs_are_told_apart(outcome: Outcome, data: Path) -> None:
    assert outcome.validation.score.name == "AP"
    assert outcome.validation.values[0] > 0.8
    predictor = Predictor(outcome.run, device="cpu")
    found = []
    for case in range(6):
        mask = predictor(data / "images" / f"cell_{case}.ome.tif")
        assert mask.array.max() == len(np.unique(mask.array)) - 1
        found.append(matches(of_case(case)[1], mask.array))
    assert average_precision(found)[0] > 0.8


def test_a_run_is_judged_by_average_precision(outcome: Outcome, told: list[Event]) -> None:
    columns = ["mean_ap", *(f"ap {t}" for t in THRESHOLDS)]
    history = rows(outcome.run / "history.csv")
    assert [name for name in history[0] if "ap" in name] == columns
    assert not [name for name in history[0] if "dice" in name]
    epochs = [event for event in told if isinstance(event, EpochDone)]
    assert {event.score for event in epochs} == {"AP"}
    assert len(epochs[0].values) == 5
    table = rows(outcome.run / "validation.csv")
    assert list(table[0]) == ["case", *columns[1:]]
    facts = checkpoint.read_facts(outcome.run)
    assert list(facts["ap"]) == list(THRESHOLDS)
    assert facts["mean_ap"] == pytest.approx(outcome.validation.mean, abs=1e-5)
    assert "mean_dice" not in facts
    last = [event.text for event in told if isinstance(event, Note)][-1]
    assert f"mean AP {outcome.validation.mean:.4f} on" in last


def test_what_the_table_says_is_what_the_model_does(outcome: Outcome, data: Path) -> None:
    predictor = Predictor(outcome.run, device="cpu")
    for row in rows(outcome.run / "validation.csv"):
        number = int(row["case"].rpartition("_")[2])
        mask = predictor(data / "images" / f"cell_{number}.ome.tif")
        expected = average_precision([matches(of_case(number)[1], mask.array)])
        assert [float(row[f"ap {t}"]) for t in THRESHOLDS] == pytest.approx(expected, abs=1e-5)


def test_rules_are_found_and_kept_in_the_model(outcome: Outcome, told: list[Event]) -> None:
    kept, asked = checkpoint.load_plan(outcome.run), read_plan(outcome.run / "plan.toml")
    assert all(getattr(asked.decode, rule) is None for rule in RULES)
    assert all(getattr(kept.decode, rule) is not None for rule in RULES)
    sentence = checkpoint.read_facts(outcome.run)["rules"]
    assert sentence.startswith("rules for objects, tried on")
    assert sentence in [event.text for event in told if isinstance(event, Note)]
    assert sentence in (outcome.run / "log.txt").read_text()
    assert not list(outcome.run.glob(".codes*"))


def test_the_model_knows_how_large_its_objects_were(outcome: Outcome) -> None:
    facts = checkpoint.read_facts(outcome.run)["objects"]
    # 81 pixels of half a micrometre.
    assert facts["diameter"] == pytest.approx(5.08, abs=0.01)
    assert facts == {
        "per_image": 10.0,
        "unit": "um",
        "diameter": facts["diameter"],
        "diameter_5th": facts["diameter"],
        "diameter_95th": facts["diameter"],
    }


def test_rules_can_be_set_at_prediction(outcome: Outcome, data: Path) -> None:
    scan = data / "images" / "cell_0.ome.tif"
    strict = Predictor(outcome.run, device="cpu", settings={"decode.min_size": 1000.0})
    assert strict(scan).array.max() == 0
    assert Predictor(outcome.run, device="cpu")(scan).array.max() > 0
    with pytest.raises(UsageError, match="masks of objects are not cleaned"):
        Predictor(outcome.run, device="cpu", settings={"decode.fill_holes": "object"})


def test_borders_are_learned_as_well(data: Path, tmp_path: Path) -> None:
    given = LEARNED | {"data.task": "borders"}
    found = train(request(data, tmp_path / "run", given)).validation
    assert found.values[0] > 0.5


def test_a_resumed_run_keeps_the_same_model(data: Path, tmp_path: Path) -> None:
    quick = {"training.epochs": 2, "training.steps_per_epoch": 4, "patch.size": (72, 72)}
    whole = train(request(data, tmp_path / "whole", quick))
    steps = iter(range(100))
    (tmp_path / "broken" / ".codes-killed").mkdir(parents=True)
    broken = train(request(data, tmp_path / "broken", quick), should_stop=lambda: next(steps) >= 5)
    assert not broken.finished
    resumed = train(request(data, tmp_path / "broken", quick))
    assert resumed.finished
    models = [checkpoint.load(each.run) for each in (whole, resumed)]
    assert models[0].plan.decode == models[1].plan.decode
    for name, tensor in models[0].network.state_dict().items():
        assert tensor.equal(models[1].network.state_dict()[name]), name
    assert whole.validation == resumed.validation
    assert not list(resumed.run.glob(".codes*"))


def test_all_folds_make_an_ensemble_with_rules(data: Path, tmp_path: Path) -> None:
    quick = {
        "training.epochs": 1,
        "training.steps_per_epoch": 10,
        "training.learning_rate": 0.02,
        "training.folds": 2,
        "patch.size": (72, 72),
    }
    notes: list[Event] = []
    outcome = cross_validate(request(data, tmp_path / "run", quick), notes.append)
    assert outcome.found is not None
    assert outcome.found.cleaned is None
    assert outcome.decisions == ()
    assert outcome.found.scores.score.name == "AP"
    table = rows(outcome.run / "out_of_fold.csv")
    assert list(table[0]) == ["case", "fold", *(f"ap {t}" for t in THRESHOLDS)]
    folds = [checkpoint.load_plan(outcome.run / f"fold_{n}").decode for n in range(2)]
    kept = checkpoint.load_plan(outcome.run).decode
    contrasts = [decode.contrast for decode in folds]
    assert kept.contrast == pytest.approx(np.median(contrasts))
    facts = checkpoint.read_facts(outcome.run)
    assert facts["objects"]["per_image"] == 10
    assert facts["mean_ap"] == pytest.approx(outcome.found.scores.mean, abs=1e-5)
    again = cross_validate(request(data, tmp_path / "run", quick))
    assert again.found is not None
    assert again.found.scores == outcome.found.scores
    # What the validation of a fold has left is what its network would make again.
    shutil.rmtree(outcome.run / "out_of_fold")
    shutil.rmtree(outcome.run / "fold_1" / "validation")
    made = cross_validate(request(data, tmp_path / "run", quick), notes.append)
    assert made.found is not None
    assert made.found.scores == outcome.found.scores
    stages = [event.name for event in notes if isinstance(event, Stage)]
    assert [name for name in stages if name in ("segmenting", "taking over masks")] == [
        "taking over masks",
        "taking over masks",
        "taking over masks",
        "segmenting",
    ]
    texts = [event.text for event in notes if isinstance(event, Note)]
    assert any("mean AP" in text for text in texts)
    assert not any("mean Dice" in text for text in texts)


def test_objects_of_several_classes(tmp_path: Path) -> None:
    data = write_discs(tmp_path / "data", classes=True)
    outcome = train(request(data, tmp_path / "run", LEARNED | {"training.epochs": 8}))
    assert outcome.validation.values[0] > 0.6
    predictor = Predictor(outcome.run, device="cpu")
    mask = predictor(data / "images" / "cell_0.ome.tif")
    ids = of_case(0)[1]
    assert len(mask.classes) == mask.array.max()
    right = [
        own == (2 if np.median(ids[mask.array == number]) % 2 == 0 else 1)
        for number, own in enumerate(mask.classes, start=1)
    ]
    assert np.mean(right) > 0.8


@pytest.mark.slow
def test_from_folder_to_ids_on_the_command_line(tmp_path: Path) -> None:
    write_discs(tmp_path / "data")
    given = {key: value for key, value in LEARNED.items() if key != "training.epochs"}
    words = [*settings(**given), "--device", "cpu", "--epochs", f"{LEARNED['training.epochs']}"]
    words += ["--cache", "cache"]
    check = run(tmp_path, "check", "data", *words[:-4])
    assert "10 in an image, diameter 5.08 um" in check.stdout
    done = run(tmp_path, "train", "data", "-o", "run", *words)
    assert done.returncode == 0, done.stderr
    assert "AP on" in done.stdout
    assert "IoU" in done.stdout
    assert "rules for objects" in done.stderr
    go_on = ["--model", "run", "--device", "cpu"]
    done = run(tmp_path, "predict", "data/images", "-o", "masks", *go_on)
    assert done.returncode == 0, done.stderr
    found = [
        matches(of_case(n)[1], read_mask(tmp_path / "masks" / f"cell_{n}_seg.ome.tif").array)
        for n in range(6)
    ]
    assert average_precision(found)[0] > 0.8
    refused = run(tmp_path, "train", "data", "--set", "decode.fill_holes=object", *words)
    assert refused.returncode == 2
    assert refused.stderr.strip().splitlines()[-1].endswith("least size of an object")
    description = json.loads((tmp_path / "run" / "model" / "model.json").read_text())
    assert description["plan"]["data"]["task"] == "instances"


# --- beside masks --------------------------------------------------------------------------------


def test_maps_have_the_names_of_what_is_learned(
    outcome: Outcome, data: Path, tmp_path: Path
) -> None:
    scan = data / "images" / "cell_0.ome.tif"
    wanted = Request(
        (scan,),
        model=outcome.run,
        output=tmp_path,
        device="cpu",
        probabilities=True,
        uncertainty=True,
        map_type="float32",
    )
    (record,) = predict(wanted)
    assert record.status == "done", record.message
    found = read_scan(tmp_path / "cell_0_prob.ome.tif")
    assert found.channels == ("background", "object", "depth", "centre")
    background, foreground, depth, _ = found.array
    np.testing.assert_allclose(background + foreground, 1, atol=1e-5)
    assert 0 <= depth.min() < depth.max() <= 1
    # The entropy of two classes, whatever the distances say.
    share = np.clip(foreground, 1e-7, 1 - 1e-7)
    entropy = -(share * np.log2(share) + (1 - share) * np.log2(1 - share))
    uncertain = read_scan(tmp_path / "cell_0_uncertainty.ome.tif").array[0]
    np.testing.assert_allclose(uncertain, entropy, atol=1e-3)


def test_the_ids_of_a_film_go_on(outcome: Outcome, tmp_path: Path) -> None:
    frames = np.stack([of_case(case)[0].astype(np.uint16) for case in range(3)])
    alone = [Predictor(outcome.run, device="cpu")(frame).array for frame in frames]
    film = tmp_path / "film.ome.tif"
    tifffile.imwrite(film, frames, ome=True, metadata={"axes": "TYX", **MICROMETRES})
    (record,) = predict(Request((film,), model=outcome.run, output=tmp_path / "out", device="cpu"))
    assert record.status == "done", record.message
    assert record.output is not None
    found = tifffile.imread(record.output)
    assert found.shape == frames.shape
    counts = [int(mask.max()) for mask in alone]
    first = np.concatenate([[0], np.cumsum(counts)])
    for frame, mask, before in zip(found, alone, first, strict=False):
        np.testing.assert_array_equal(frame, np.where(mask, mask + before.astype(np.int32), 0))
    assert [each.count for each in record.objects] == [sum(counts)]
    exported = Request(
        (film,), model=outcome.run, output=tmp_path / "b", device="cpu", exports=("geojson",)
    )
    (failed,) = predict(exported)
    assert failed.status == "failed"
    assert "masks of 3 time points are not exported" in failed.message


@pytest.mark.parametrize(("edge", "is_told"), [(0.5, False), (1.5, True)])
def test_objects_of_another_size_are_told(
    outcome: Outcome, data: Path, tmp_path: Path, *, edge: float, is_told: bool
) -> None:
    wanted = Request(
        (data / "images" / "cell_0.ome.tif",),
        model=outcome.run,
        output=tmp_path,
        device="cpu",
        view=View(pixel_size=(edge, edge)),
    )
    notes: list[str] = []
    predict(wanted, lambda event: notes.append(event.text) if isinstance(event, Note) else None)
    told = [note for note in notes if "the model learned from 5" in note and "diameter" in note]
    assert bool(told) == is_told, notes


def test_a_model_that_does_not_say_how_large_objects_were() -> None:
    record = FileDone((Path("a.tif"),), Path("a_seg.tif"), "done", unit="um^2")
    record = replace(record, objects=(ObjectCount("object", 3, 50.0),))
    sizes = {"diameter": 5.0, "diameter_5th": 4.0, "diameter_95th": 6.0, "unit": "um"}
    (note,) = size_notes([record], {"objects": sizes})
    assert note.text.startswith("objects of 50 um (median diameter), the model learned from 5 um")
    assert size_notes([record], {"objects": {**sizes, "diameter_95th": 60.0}}) == ()
    # In pixels, nobody can compare.
    assert size_notes([record], {"objects": {**sizes, "unit": "px"}}) == ()
    assert size_notes([record], {}) == ()


def test_a_study_compares_the_foreground(data: Path, tmp_path: Path) -> None:
    asked = StudyRequest(data, tmp_path / "study", device="cpu")
    laboratory = Laboratory("skips", asked, {}, ignore_event)
    assert laboratory.plan.data.task == "semantic"
    assert laboratory.plan.data.merge_labels
    wanted = StudyRequest(
        data, tmp_path / "other", device="cpu", settings={"data.task": "instances"}
    )
    assert Laboratory("skips", wanted, {}, ignore_event).plan.data.task == "instances"
