"""predict --export: what lies beside a mask, when it is made, and what is told of it."""

import json
import shutil
from dataclasses import replace
from math import nan, pi
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from cubes import LEARNED, cube, request, write_tiff
from roifile import roiread
from typer.testing import CliRunner

from unetseg import predict
from unetseg.checkpoint import load_plan
from unetseg.cli import app
from unetseg.config import DataPlan
from unetseg.console import Display
from unetseg.errors import DataError, UsageError
from unetseg.exporting import table_path
from unetseg.exporting.tables import read_classes
from unetseg.geometry import Geometry
from unetseg.prediction import Predictor
from unetseg.prediction.counting import Tally
from unetseg.prediction.exports import object_classes, with_exports, write_object_classes
from unetseg.prediction.manifest import class_sizes
from unetseg.prediction.places import Job
from unetseg.records import Case, FileDone, Mask, ObjectCount
from unetseg.training import train


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    folder.mkdir()
    for number in range(2):
        image, _ = cube((32, 32), number)
        write_tiff(folder / f"s{number}.ome.tif", image.astype(np.uint16))
    return folder


def objects(names: tuple[str, ...] = ("background", "object")) -> DataPlan:
    return DataPlan(
        task="instances",
        dimensions=2,
        channels=("0",),
        unit="um",
        orientation="as_read",
        normalisation="zscore",
        class_names=names,
        class_values=tuple(range(len(names))),
    )


def test_exports_lie_beside_the_masks(images: Path, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = predict(scans, out, model=images, exports=["rois", "geojson"], device="cpu")
    assert [record.status for record in done] == ["done", "done"]
    for number, record in enumerate(done):
        assert [path.name for path in record.exports] == [
            f"s{number}_rois.zip",
            f"s{number}.geojson",
        ]
        features = json.loads((out / f"s{number}.geojson").read_text())["features"]
        area = sum(f["properties"]["measurements"]["Area px^2"] for f in features)
        assert area == np.count_nonzero(tifffile.imread(out / f"s{number}_seg.ome.tif")) > 0
        classes = {f["properties"]["classification"]["name"] for f in features}
        assert classes == {load_plan(images).data.class_names[1]}
    files = json.loads((out / "manifest.json").read_text())["files"]
    assert files["s0_seg.ome.tif"]["exports"] == ["s0.geojson", "s0_rois.zip"]
    without = predict(scans / "s0.ome.tif", tmp_path / "bare", model=images, device="cpu")
    assert without[0].exports == ()
    assert "exports" not in json.loads((tmp_path / "bare" / "manifest.json").read_text())["files"]


def test_what_is_missing_is_made_without_predicting(
    images: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    predict(scans, out, model=images, exports=["geojson"], device="cpu")
    first = (out / "s0.geojson").read_bytes()
    (out / "s0.geojson").unlink()
    monkeypatch.setattr(Predictor, "__init__", lambda *_, **__: pytest.fail("loads the model"))
    done = predict(scans, out, model=images, exports=["rois", "geojson"], device="cpu")
    assert [record.status for record in done] == ["skipped", "skipped"]
    assert [[p.name for p in record.exports] for record in done] == [
        ["s0_rois.zip", "s0.geojson"],
        ["s1_rois.zip"],
    ]
    assert (out / "s0.geojson").read_bytes() == first
    again = predict(scans, out, model=images, exports=["rois", "geojson"], device="cpu")
    assert [record.exports for record in again] == [(), ()]
    # A mask that was corrected by hand gives the outlines of what it holds now.
    corrected = np.zeros((32, 32), np.uint8)
    corrected[3:5, 3:6] = 255
    write_tiff(out / "s1_seg.ome.tif", corrected)
    (out / "s1.geojson").unlink()
    predict(scans, out, model=images, exports=["geojson"], device="cpu")
    (feature,) = json.loads((out / "s1.geojson").read_text())["features"]
    assert feature["properties"]["measurements"]["Area px^2"] == 6


def test_an_export_that_fails_is_told_and_the_mask_stays(
    images: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    def full(*_: object) -> None:
        raise DataError("cannot be written: no space left", where="s1.geojson")

    with monkeypatch.context() as patch:
        patch.setattr("unetseg.exporting.geojson.GeoJson.write", full)
        done = predict(scans, out, model=images, exports=["rois", "geojson"], device="cpu")
    assert [record.status for record in done] == ["failed", "failed"]
    assert done[1].message == "s1.geojson: cannot be written: no space left"
    assert sorted(path.suffix for path in out.glob("s1*")) == [".tif", ".zip"]
    again = predict(scans, out, model=images, exports=["rois", "geojson"], device="cpu")
    assert [path.name for record in again for path in record.exports] == [
        "s0.geojson",
        "s1.geojson",
    ]
    # So does one that cannot be made of a mask that is there.
    (out / "s1_rois.zip").unlink()
    (out / "s1_seg.ome.tif").write_text("no mask")
    done = predict(scans, out, model=images, exports=["rois"], device="cpu")
    assert [record.status for record in done] == ["skipped", "failed"]
    assert "s1_seg.ome.tif: not a readable tiff file" in done[1].message


def test_somebodys_outlines_are_no_place_for_others(
    images: Path, scans: Path, tmp_path: Path
) -> None:
    own = scans / "s0.geojson"
    own.write_text('{"type": "FeatureCollection", "features": []}')
    before = own.read_bytes()
    done = predict(scans, scans, model=images, exports=["geojson"], device="cpu")
    assert [record.status for record in done] == ["failed", "done"]
    assert "s0.geojson: a file that unetseg has not written is here" in done[0].message
    assert own.read_bytes() == before


def test_two_masks_do_not_share_an_export(images: Path, scans: Path, tmp_path: Path) -> None:
    shutil.copy(scans / "s0.ome.tif", scans / "s0.tif")
    done = predict(
        sorted(scans.glob("s0*")), tmp_path / "out", model=images, exports=["rois"], device="cpu"
    )
    assert sorted(record.status for record in done) == ["done", "failed"]
    (fault,) = [record.message for record in done if record.status == "failed"]
    assert "s0_rois.zip: two inputs would give the same export" in fault
    # Without exports they have names of their own.
    bare = predict(sorted(scans.glob("s0*")), tmp_path / "bare", model=images, device="cpu")
    assert [record.status for record in bare] == ["done", "done"]


def test_on_the_command_line(
    images: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["predict", str(scans), "-o", "out", "--model", str(images), "--device", "cpu"]
    done = CliRunner().invoke(app, [*words, "--export", "rois", "--export", "geojson", "--json"])
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows[0]["exports"] == ["out/s0_rois.zip", "out/s0.geojson"]
    assert set(rows[0]["classes"]["label 255"]) == {"voxels", "volume"}
    plain = CliRunner().invoke(app, [*words, "--overwrite", "--export", "rois,geojson"])
    assert plain.stdout.split()[:3] == ["out/s0_seg.ome.tif", "out/s0_rois.zip", "out/s0.geojson"]


def test_unknown_exports_are_refused(images: Path, scans: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no such export \(got geojsn\); did you mean geojson\?"):
        predict(scans, tmp_path / "out", model=images, exports=["geojsn"], device="cpu")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_objects_that_a_model_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From training to outlines: as many as the mask has ids, each where its id is."""
    for part in ("images", "masks"):
        (tmp_path / "data" / part).mkdir(parents=True)
    rows, columns = np.indices((64, 64))
    rng = np.random.default_rng(0)
    for number in range(6):
        ids = np.zeros((64, 64), np.uint16)
        for middle in rng.integers(5, 59, (30, 2)):
            disc = np.hypot(rows - middle[0], columns - middle[1]) < rng.uniform(4, 6)
            if not ids[disc].any():
                ids[disc] = ids.max() + 1
        image = rng.normal(100, 8, ids.shape) + 100 * (ids > 0)
        write_tiff(tmp_path / "data" / "images" / f"c{number}.ome.tif", image.astype(np.uint16))
        write_tiff(tmp_path / "data" / "masks" / f"c{number}.ome.tif", ids)
    settings = LEARNED | {
        "network.levels": 3,
        "network.features": (8, 16, 32),
        "patch.batch": 4,
        "training.epochs": 4,
        "training.steps_per_epoch": 20,
    }
    run = train(request(tmp_path / "data", tmp_path / "run", settings)).run
    assert load_plan(run).data.task == "instances"
    monkeypatch.chdir(tmp_path)
    words = ["predict", "data/images", "-o", "out", "--model", "run", "--device", "cpu", "--json"]
    done = CliRunner().invoke(app, [*words, "--export", "rois,geojson", "--overlay"])
    assert done.exit_code == 0, done.output
    for line in done.stdout.splitlines():
        row = json.loads(line)
        ids = tifffile.imread(row["output"])
        features = json.loads(Path(row["exports"][1]).read_text())["features"]
        sizes = {
            f["properties"]["measurements"]["Id"]: f["properties"]["measurements"] for f in features
        }
        values, counts = np.unique(ids[ids > 0], return_counts=True)
        assert {k: m["Area px^2"] for k, m in sizes.items()} == dict(
            zip(values, counts, strict=True)
        )
        assert len(roiread(row["exports"][0])) == len(values) > 3
        (told,) = [sizes for sizes in row["classes"].values() if "objects" in sizes]
        assert (told["objects"], told["voxels"]) == (len(values), counts.sum())
        assert (tmp_path / "out" / f"{Path(row['path']).name[:2]}_overlay.png").is_file()


# --- objects -----------------------------------------------------------------------------------


def test_objects_are_counted_and_measured() -> None:
    ids = np.zeros((20, 30), np.uint16)
    ids[:2, :2], ids[5:9, 5:9], ids[12:18, 10:16] = 1, 2, 3
    geometry = Geometry.from_spacing(ids.shape, (0.5, 0.5), "um")
    tally = Tally(objects())
    tally.add(ids[:10])
    tally.add(ids[10:])
    assert tally.counts == (("background", 600 - 56), ("object", 56))
    (found,) = tally.objects(geometry)
    assert (found.name, found.count) == ("object", 3)
    # The circle of 16 pixels of a quarter of a square micrometre.
    assert pi / 4 * found.median_diameter**2 == pytest.approx(4)


def test_balls_are_measured_as_balls() -> None:
    rows = np.indices((41, 41, 41))
    ball = (np.hypot(np.hypot(*(rows[:2] - 20)), rows[2] - 20) < 15).astype(np.uint8)
    geometry = Geometry.from_spacing(ball.shape, (2.0, 2.0, 2.0), "um")
    tally = Tally(objects())
    tally.add(ball)
    (found,) = tally.objects(geometry)
    assert found.median_diameter == pytest.approx(2 * 2 * 15, rel=0.01)


def test_objects_of_several_classes() -> None:
    ids = np.arange(70_000, dtype=np.int32).reshape(700, 100)
    tally = Tally(objects(("background", "a", "b", "c")))
    # The last one has none.
    tally.classes = (*(1 + (number % 2) for number in range(69_998)), 0)
    tally.add(ids)
    geometry = Geometry.from_spacing(ids.shape, (1.0, 1.0), "px")
    assert tally.counts == (("background", 1), ("a", 34_999), ("b", 34_999), ("c", 0))
    found = tally.objects(geometry)
    assert [(each.name, each.count) for each in found] == [("a", 34_999), ("b", 34_999), ("c", 0)]
    assert np.isnan(found[2].median_diameter)


def test_a_mask_of_classes_has_no_objects(images: Path) -> None:
    tally = Tally(load_plan(images).data)
    tally.add(np.array([[0, 255], [255, 0]], np.uint8))
    assert tally.objects(Geometry.from_spacing((2, 2), (1, 1), "px")) == ()
    assert tally.counts == (("background", 2), ("label 255", 2))


RECORD = FileDone(
    (Path("a.tif"),),
    Path("a_seg.tif"),
    "done",
    counts=(("background", 90), ("object", 10)),
    voxel_volume=0.5,
    unit="um^2",
    objects=(ObjectCount("object", 3, 1.23456),),
    exports=(Path("a_rois.zip"),),
)


def test_objects_for_programs() -> None:
    assert class_sizes(RECORD) == {
        "background": {"voxels": 90, "volume": 45.0},
        "object": {"voxels": 10, "volume": 5.0, "objects": 3, "median_diameter": 1.2346},
    }
    none = replace(RECORD, objects=(ObjectCount("object", 0, nan),))
    assert json.dumps(class_sizes(none)["object"]).endswith(
        '"objects": 0, "median_diameter": null}'
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, "a.tif -> a_seg.tif  0.00 s  3 objects of 1.23 um  + a_rois.zip"),
        ({"objects": (), "exports": ()}, "a.tif -> a_seg.tif  0.00 s"),
        ({"objects": (ObjectCount("object", 1, 2.0),), "exports": ()}, "1 object of 2 um"),
        (
            {"objects": (ObjectCount("a", 1, 2.0), ObjectCount("b", 0, nan)), "exports": ()},
            "  1 a of 2 um, 0 b",
        ),
        ({"status": "skipped", "message": "already there"}, "is already there  + a_rois.zip"),
    ],
)
def test_objects_for_a_person(
    change: dict[str, Any], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with Display() as display:
        display(replace(RECORD, **change))
    assert capsys.readouterr().err.rstrip("\n").endswith(told)


def test_the_table_of_classes_and_what_it_is_for(tmp_path: Path) -> None:
    data = objects(("background", "tumour", "stroma"))
    ids = np.zeros((9, 9), np.uint8)
    ids[:2, :2], ids[5:, 5:] = 1, 2
    path = tmp_path / "a_seg.tif"
    tifffile.imwrite(path, ids)
    job = Job(
        Case("a", (tmp_path / "a.tif",)), path, exports=(("geojson", tmp_path / "a.geojson"),)
    )
    write_object_classes((2, 1), job, data)
    assert read_classes(table_path(path))[0] == (1, 2)
    assert object_classes(job, data) == (2, 1)
    assert object_classes(job, objects()) == ()
    assert object_classes(replace(job, mask=tmp_path / "b_seg.tif"), data) == ()
    assert table_path(path).read_text() == "id,class\n1,stroma\n2,tumour\n"
    record = with_exports(job, FileDone(job.case.images, path, "done"), data)
    assert record.exports == (tmp_path / "a.geojson",)
    features = json.loads((tmp_path / "a.geojson").read_text())["features"]
    names = [feature["properties"]["classification"]["name"] for feature in features]
    assert names == ["stroma", "tumour"]
    # A part of a mask, or one that failed, is nothing to outline.
    (tmp_path / "a.geojson").unlink()
    part = with_exports(job, FileDone(job.case.images, None, "part"), data)
    assert part.exports == () and not (tmp_path / "a.geojson").exists()
    table_path(path).write_text("nonsense")
    failed = with_exports(job, FileDone(job.case.images, path, "done"), data)
    assert failed.status == "failed" and failed.output == path
    assert "a_objects.csv: not a table of the classes of objects" in failed.message


def test_one_class_needs_no_table(tmp_path: Path) -> None:
    ids = np.ones((3, 3), np.uint8)
    mask = Mask(ids, Geometry.from_spacing((3, 3), (1.0, 1.0), "px"))
    write_object_classes(mask.classes, Job(Case("a", ()), tmp_path / "a_seg.tif"), objects())
    assert list(tmp_path.iterdir()) == []
