"""Regions from a folder of nnU-Net's to masks, channels and scores."""

import csv
import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import tifffile
from cubes import request, write_tiff
from test_cli import run, settings

from unetseg import checkpoint
from unetseg.api import evaluate
from unetseg.errors import UsageError
from unetseg.evaluation import evaluate as score
from unetseg.formats import read_mask
from unetseg.prediction import Predictor, Request, predict
from unetseg.records import FileDone
from unetseg.regions import Region
from unetseg.training import train
from unetseg.training.start import carry_over

REGIONS = (Region("whole", (1, 2, 3)), Region("core", (2, 3)), Region("enhancing", (3,)))
NAMES = [region.name for region in REGIONS]
LEARNED: dict[str, Any] = {
    "training.epochs": 2,
    "training.steps_per_epoch": 30,
    "training.learning_rate": 0.02,
    "training.average_decay": 0.9,
    "training.augment.spatial_probability": 0.0,
    "training.augment.intensity_probability": 0.0,
}


def nested(seed: int, axes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """A scan and its labels: 1 around 2 around 3, each brighter than the one outside of it."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((16,) * axes, np.uint8)
    corner = rng.integers(1, 6, axes)
    for value, (inset, size) in enumerate(((0, 9), (1, 7), (2, 5)), start=1):
        labels[tuple(slice(a + inset, a + inset + size) for a in corner)] = value
    return (rng.normal(100, 8, labels.shape) + 60.0 * labels).astype(np.float32), labels


def write_volume(path: Path, array: np.ndarray) -> Path:
    picture = nib.Nifti1Image(array, np.diag([1.0, 1.0, 1.5, 1.0]))
    picture.header.set_xyzt_units("mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(picture, path)
    return path


def write_nnunet(folder: Path, count: int = 6, tests: int = 2) -> Path:
    """Two modalities, and regions that a dataset.json names."""
    for number in range(count + tests):
        part = "Tr" if number < count else "Ts"
        image, labels = nested(number)
        for channel in range(2):
            name = f"brain_{number}_{channel:04d}.nii.gz"
            write_volume(folder / f"images{part}" / name, image * (1 + channel))
        write_volume(folder / f"labels{part}" / f"brain_{number}.nii.gz", labels)
    content = {
        "channel_names": {"0": "T1", "1": "FLAIR"},
        "labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3},
        "regions_class_order": [1, 2, 3],
        "numTraining": count,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def write_images(folder: Path, count: int = 6) -> Path:
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for number in range(count):
        image, labels = nested(number, 2)
        write_tiff(folder / "images" / f"cell_{number}.ome.tif", image.astype(np.uint16))
        write_tiff(folder / "labels" / f"cell_{number}.ome.tif", labels)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nnunet(tmp_path_factory.mktemp("regions") / "data")


@pytest.fixture(scope="module")
def learned(data: Path) -> Path:
    return train(request(data, data.parent / "run", LEARNED)).run


def go(model: Path, output: Path, *inputs: Path, **more: Any) -> tuple[FileDone, ...]:
    return predict(Request(inputs, model=model, output=output, device="cpu", **more))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def by_hand(truth: np.ndarray, predicted: np.ndarray) -> list[float]:
    """Dice of each region, from masks of label values."""
    pairs = [(np.isin(truth, r.values), np.isin(predicted, r.values)) for r in REGIONS]
    return [2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in pairs]


# --- the run -----------------------------------------------------------------------------------


def test_a_run_is_scored_by_region(learned: Path, data: Path) -> None:
    columns = [f"dice {name}" for name in NAMES]
    assert [name for name in rows(learned / "history.csv")[0] if name in columns] == columns
    table = rows(learned / "validation.csv")
    assert list(table[0]) == ["case", *columns]
    facts = checkpoint.read_facts(learned)
    assert list(facts["dice"]) == NAMES
    assert facts["mean_dice"] > 0.5
    predictor = Predictor(learned, device="cpu")
    for row in table:
        stem = row["case"].rpartition("/")[2]
        (record,) = go(
            learned,
            learned.parent / "again",
            *(data / "imagesTr" / f"{stem}_{channel:04d}.nii.gz" for channel in range(2)),
        )
        assert record.output is not None
        truth = read_mask(data / "labelsTr" / f"{stem}.nii.gz").array
        expected = by_hand(truth, read_mask(record.output).array)
        assert [float(row[name]) for name in columns] == pytest.approx(expected, abs=1e-5)
    assert [label.name for label in predictor.labels] == ["background", *NAMES]


def test_the_plan_of_the_run_holds_the_regions(learned: Path) -> None:
    plan = checkpoint.load_plan(learned)
    assert plan.data.regions == REGIONS
    assert plan.data.task == "regions"
    text = (learned / "plan.toml").read_text()
    assert "regions = {whole = [1, 2, 3], core = [2, 3], enhancing = [3]}" in text


def test_a_run_that_begins_with_it_keeps_the_regions_by_name(learned: Path) -> None:
    trained = checkpoint.load(learned)
    regions = (Region("enhancing", (3,)), Region("oedema", (1,)))
    names = ("background", "enhancing", "oedema")
    section = replace(trained.plan.data, regions=regions, class_names=names, class_values=(0, 3, 1))
    plan = replace(trained.plan, data=section)
    network = checkpoint.build(plan)
    drawn = network.state_dict()["heads.0.weight"][1].clone()
    loading = carry_over(trained, network, plan)
    mine, theirs = (n.state_dict()["heads.0.weight"] for n in (network, trained.network))
    assert mine[0].equal(theirs[2])
    assert mine[1].equal(drawn)
    assert dict(loading.adapted)["heads.0.weight"] == "rows kept: enhancing; the others are fresh"


# --- what is written ---------------------------------------------------------------------------


def test_volumes_in_the_manifest_are_those_of_the_regions(learned: Path, tmp_path: Path) -> None:
    scans = [write_volume(tmp_path / f"s_{c:04d}.nii.gz", nested(50)[0] * (1 + c)) for c in (0, 1)]
    (record,) = go(learned, tmp_path / "out", *scans)
    mask = read_mask(tmp_path / "out" / "s_seg.nii.gz").array
    counts = dict(record.counts)
    assert counts["background"] == (mask == 0).sum()
    for region in REGIONS:
        assert counts[region.name] == np.isin(mask, region.values).sum() > 0
    assert counts["whole"] > (mask == 1).sum()
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["regions"] == {region.name: list(region.values) for region in REGIONS}
    entry = manifest["files"]["s_seg.nii.gz"]["classes"]
    assert entry["core"]["volume"] == pytest.approx(1.5 * counts["core"])


def test_channels_and_probabilities_lie_on_the_scan(learned: Path, tmp_path: Path) -> None:
    image, labels = nested(51)
    scans = [write_volume(tmp_path / f"s_{c:04d}.nii.gz", image * (1 + c)) for c in (0, 1)]
    (record,) = go(learned, tmp_path / "out", *scans, probabilities=True, regions=True)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["manifest.json", "s_prob.nii.gz", "s_regions.nii.gz", "s_seg.nii.gz"]
    shares, channels = (nib.load(tmp_path / "out" / f"s_{k}.nii.gz") for k in ("prob", "regions"))
    for picture, kind in ((shares, np.float32), (channels, np.uint8)):
        assert picture.shape == (16, 16, 16, 3)
        assert picture.get_data_dtype() == kind
        np.testing.assert_array_equal(picture.affine, nib.load(scans[0]).affine)
    inside = np.asarray(channels.dataobj)
    np.testing.assert_array_equal(inside, np.asarray(shares.dataobj) > 0.5)
    assert set(np.unique(inside)) == {0, 1}
    # The mask is the channels, written one over the other.
    mask = np.asarray(nib.load(record.output).dataobj)
    expected = np.zeros_like(mask)
    for k, value in enumerate((1, 2, 3)):
        expected[inside[..., k] == 1] = value
    np.testing.assert_array_equal(mask, expected)
    assert min(by_hand(labels, mask)) > 0.5


def test_channels_of_an_image_bear_the_names_of_the_regions(tmp_path: Path) -> None:
    given = {"data.regions": {"core": [2, 3], "whole": [1, 2, 3]}}
    outcome = train(request(write_images(tmp_path / "data"), tmp_path / "run", given))
    scan = tmp_path / "data" / "images" / "cell_0.ome.tif"
    go(outcome.run, tmp_path / "out", scan, regions=True, probabilities=True)
    for kind, dtype in (("regions", np.uint8), ("prob", np.float32)):
        with tifffile.TiffFile(tmp_path / "out" / f"cell_0_{kind}.ome.tif") as tiff:
            maps = tiff.asarray()
            told = tiff.ome_metadata or ""
            assert tiff.series[0].axes == "CYX"
        assert (maps.shape, maps.dtype) == ((2, 16, 16), dtype)
        assert told.index('Name="whole"') < told.index('Name="core"')
        assert 'PhysicalSizeX="0.5"' in told


def test_a_model_without_regions_has_none_to_write(learned: Path, data: Path) -> None:
    semantic = train(request(data, data.parent / "semantic", {"data.task": "semantic"})).run
    names = checkpoint.load_plan(semantic).data.class_names
    assert names == ("background", "label 1", "label 2", "enhancing")
    with pytest.raises(UsageError, match="this model has no regions; --probabilities writes"):
        go(semantic, data.parent / "out", data / "imagesTs", regions=True)
    assert not (data.parent / "out").exists()


def test_what_predict_writes_beside_a_mask_is_no_mask(learned: Path, tmp_path: Path) -> None:
    image, labels = nested(52)
    scans = [write_volume(tmp_path / f"s_{c:04d}.nii.gz", image * (1 + c)) for c in (0, 1)]
    go(learned, tmp_path / "out", *scans, probabilities=True, uncertainty=True, regions=True)
    write_volume(tmp_path / "truth" / "s.nii.gz", labels)
    (tmp_path / "out" / "manifest.json").unlink()
    said: list[object] = []
    found = evaluate(tmp_path / "truth", tmp_path / "out", model=learned, listener=said.append)
    assert not [note for note in said if "have no truth" in str(note)]
    mask = read_mask(tmp_path / "out" / "s_seg.nii.gz").array
    assert [each["dice"] for each in found.scores] == pytest.approx(by_hand(labels, mask))
    assert [label.name for label in found.labels] == NAMES
    by_regions = score(tmp_path / "truth", tmp_path / "out", regions=REGIONS)
    assert by_regions.scores == found.scores
    by_value = evaluate(tmp_path / "truth", tmp_path / "out")
    assert [label.name for label in by_value.labels] == ["1", "2", "3"]


# --- the command line --------------------------------------------------------------------------


def good(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_from_nnunet_folder_to_scores(tmp_path: Path) -> None:
    write_nnunet(tmp_path / "data")
    words = [*settings(), "--device", "cpu", "--epochs", "1", "--cache", "cache"]
    table = good(run(tmp_path, "train", "data", "-o", "run", *words))
    assert all(name in table for name in NAMES)
    go_on = ["--model", "run", "--device", "cpu", "--regions", "--probabilities"]
    written = good(run(tmp_path, "predict", "data/imagesTs", "-o", "masks", *go_on)).split()
    assert written == [f"masks/brain_{number}_seg.nii.gz" for number in (6, 7)]
    for options in (["--model", "run"], ["--regions", "{whole=[1,2,3], core=[2,3], enhancing=3}"]):
        found = good(run(tmp_path, "evaluate", "data/labelsTs", "masks", "--json", *options))
        scored = [json.loads(line) for line in found.splitlines()]
        assert [(row["case"], row["name"]) for row in scored] == [
            (f"brain_{number}", name) for number in (6, 7) for name in NAMES
        ]
        for number, row in zip((6, 7), (scored[:3], scored[3:]), strict=True):
            truth = read_mask(tmp_path / "data" / "labelsTs" / f"brain_{number}.nii.gz").array
            mask = read_mask(tmp_path / "masks" / f"brain_{number}_seg.nii.gz").array
            assert [each["dice"] or 0.0 for each in row] == pytest.approx(by_hand(truth, mask))
    both = run(tmp_path, "evaluate", "data/labelsTs", "masks", "--merge-labels", "--model", "run")
    assert both.returncode == 2
    assert both.stderr.count("\n") == 1
    assert "merged labels have no classes of their own" in both.stderr
