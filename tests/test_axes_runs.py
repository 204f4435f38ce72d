"""Named axes from the files to the masks: trainings and predictions on films, scenes, channels."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from cubes import LEARNED, TINY, cube, request
from test_gathering import counted

from unetseg.checkpoint import load_plan, read_facts
from unetseg.dataset.views import for_model
from unetseg.errors import DataError
from unetseg.formats import open_scan, read_mask, read_scan
from unetseg.prediction import Predictor, Request, predict
from unetseg.prediction.blocks import in_blocks
from unetseg.prediction.foreseen import foreseen
from unetseg.prediction.places import Job
from unetseg.prediction.reading import doubts
from unetseg.records import Case, FileDone, Note, View
from unetseg.training import plan_for, train

SIZE = 32
NAMES = ("DAPI", "GFP")


def field(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two channels (2, Y, X): a bright square, and noise beside it; and the square's mask."""
    image, labels = cube((SIZE, SIZE), seed)
    other = np.random.default_rng(seed).normal(500, 40, image.shape)
    return np.stack([image, other]).astype(np.uint16), labels


def ome(
    path: Path, array: np.ndarray, axes: str, channels: tuple[str, ...] = (), edge: float = 0.5
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata: dict[str, Any] = {"axes": axes, "PhysicalSizeX": edge, "PhysicalSizeY": edge}
    if channels:
        metadata["Channel"] = {"Name": list(channels)}
    tifffile.imwrite(path, array, ome=True, photometric="minisblack", metadata=metadata)
    return path


def write_fields(folder: Path, *, film: int = 0) -> Path:
    """Cases of two channels, one of them the other way round, and perhaps a film."""
    for seed in range(5):
        image, labels = field(seed)
        names = NAMES
        if seed == 3:
            image, names = image[::-1], NAMES[::-1]
        ome(folder / "images" / f"f{seed}.ome.tif", image, "CYX", names)
        ome(folder / "masks" / f"f{seed}.ome.tif", labels, "YX")
    if film:
        frames = [field(seed) for seed in range(20, 20 + film)]
        images = np.stack([image for image, _ in frames])
        ome(folder / "images" / "film.ome.tif", images, "TCYX", NAMES)
        labels = np.stack([labels for _, labels in frames])
        ome(folder / "masks" / "film.ome.tif", labels, "TYX")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fields")
    return train(request(write_fields(folder / "data", film=3), folder / "run", LEARNED)).run


def go(run: Path, output: Path, *inputs: Path, **more: Any) -> tuple[FileDone, ...]:
    return predict(Request(inputs, model=run, output=output, device="cpu", **more))


def labels_of(record: FileDone) -> np.ndarray:
    assert record.output is not None, record.message
    return read_mask(record.output, is_drawn=False).array


# --- training


def test_what_a_model_remembers(run: Path) -> None:
    plan = load_plan(run)
    assert (plan.data.channels, plan.data.dimensions, plan.data.unit) == (NAMES, 2, "um")
    assert read_facts(run)["scans"] == {"spacing": [0.5, 0.5], "unit": "um"}
    folds = json.loads((run / "folds.json").read_text())
    film = {f"film_t{k}" for k in range(3)}
    assert all(film <= set(fold["val"]) or not film & set(fold["val"]) for fold in folds)


def test_the_axes_are_said_before_anything_is_read(tmp_path: Path) -> None:
    told: list[str] = []
    data = write_fields(tmp_path / "data", film=3)
    asked = request(data, tmp_path / "run")
    plan_for(asked, lambda event: told.append(event.text) if isinstance(event, Note) else None)
    assert told[1:3] == [
        "  5 x TZCYX 1x1x2x32x32, 0.5 x 0.5 um, channels DAPI, GFP",
        "  1 x TCZYX 3x2x1x32x32, 0.5 x 0.5 um, channels DAPI, GFP",
    ]


def test_one_channel_is_learned_by_name(tmp_path: Path) -> None:
    data = write_fields(tmp_path / "data")
    view = View(channels=("dapi",))
    outcome = train(request(data, tmp_path / "run", TINY, view=view))
    assert load_plan(outcome.run).data.channels == ("DAPI",)
    # A run that goes on needs not be told again.
    plan, found = plan_for(request(data, tmp_path / "run"))
    assert {case.view.channels for case in found.cases} == {("dapi",)}
    assert plan.data.channels == ("DAPI",)
    # The file has more than the model takes: by name.
    (done,) = go(outcome.run, tmp_path / "out", data / "images" / "f3.ome.tif")
    alone = ome(tmp_path / "alone.ome.tif", field(3)[0][:1], "CYX", ("DAPI",))
    (same,) = go(outcome.run, tmp_path / "out", alone)
    assert np.array_equal(labels_of(done), labels_of(same))


def test_a_spacing_of_a_person_resamples_micrometres(tmp_path: Path) -> None:
    data = write_fields(tmp_path / "data")
    settings = TINY | {"data.spacing": (1.0, 1.0)}
    run = train(request(data, tmp_path / "run", settings)).run
    image, _ = field(7)
    fine = ome(tmp_path / "fine.ome.tif", image.repeat(2, 1).repeat(2, 2), "CYX", NAMES, 0.25)
    predictor = Predictor(run, device="cpu")
    prepared = predictor.prepare(read_scan(fine))
    assert prepared.placement.grid.shape == (SIZE // 2, SIZE // 2)
    (done,) = go(run, tmp_path / "out", fine)
    assert labels_of(done).shape == (2 * SIZE, 2 * SIZE)
    bare = tmp_path / "bare.tif"
    tifffile.imwrite(bare, image, photometric="minisblack")
    (failed,) = go(run, tmp_path / "out", bare)
    assert failed.status == "failed"
    assert "expected um, got px); give --pixel-size" in failed.message
    told = View(pixel_size=(0.5, 0.5))
    (done,) = go(run, tmp_path / "out", bare, view=told)
    assert read_scan(done.output or bare).geometry.spacing == (0.5, 0.5)


# --- prediction


def test_channels_are_found_by_name(run: Path, tmp_path: Path) -> None:
    image, _ = field(30)
    turned = ome(tmp_path / "turned.ome.tif", image[::-1], "CYX", NAMES[::-1])
    more = np.stack([image[1], 0 * image[0], image[0]])
    paths = [
        ome(tmp_path / "plain.ome.tif", image, "CYX", NAMES),
        turned,
        ome(tmp_path / "more.ome.tif", more, "CYX", ("gfp", "Cy5", "dapi")),
        ome(tmp_path / "numbers.ome.tif", image, "CYX"),
    ]
    masks = [labels_of(record) for record in go(run, tmp_path / "out", *paths)]
    assert masks[0].any()
    assert not masks[0].all()
    for mask in masks[1:]:
        assert np.array_equal(mask, masks[0])
    # By place on purpose, against the names.
    (wrong,) = go(run, tmp_path / "by_place", turned, view=View(channels=("0", "1")))
    assert not np.array_equal(labels_of(wrong), masks[0])
    (right,) = go(run, tmp_path / "chosen", turned, view=View(channels=("1", "0")))
    assert np.array_equal(labels_of(right), masks[0])


def test_a_missing_channel_is_refused(run: Path, tmp_path: Path) -> None:
    path = ome(tmp_path / "a.ome.tif", field(1)[0], "CYX", ("DAPI", "Cy5"))
    (failed,) = go(run, tmp_path / "out", path)
    assert failed.status == "failed"
    assert "channel GFP not in the scan" in failed.message
    assert "got 0 DAPI, 1 Cy5" in failed.message


def film_of(count: int) -> np.ndarray:
    return np.stack([field(40 + k)[0] for k in range(count)])


def write_ngff(path: Path, film: np.ndarray) -> Path:
    axes = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}]
    axes += [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    scale = [{"type": "scale", "scale": [30.0, 1.0, 0.5, 0.5]}]
    entry = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    attributes = {"ome": {"version": "0.5", "multiscales": [entry]}}
    zarr.create_group(path, attributes=attributes).create_array("0", data=film)
    return path


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("film.ome.tif", lambda path, film: ome(path, film, "TCYX", NAMES)),
        (
            "film.tif",
            lambda path, film: tifffile.imwrite(path, film, imagej=True, metadata={"axes": "TCYX"}),
        ),
        ("film.ome.zarr", write_ngff),
    ],
)
def test_a_film_is_predicted_time_point_by_time_point(
    run: Path, tmp_path: Path, name: str, write: Callable[[Path, np.ndarray], object]
) -> None:
    film = film_of(3)
    write(tmp_path / name, film)
    stills = [ome(tmp_path / f"s{k}.ome.tif", film[k], "CYX", NAMES) for k in range(3)]
    done, *each = go(run, tmp_path / "out", tmp_path / name, *stills)
    expected = np.stack([labels_of(record) for record in each])
    assert done.output is not None, done.message
    if name.endswith("zarr"):
        group = zarr.open_group(done.output)
        assert np.array_equal(np.asarray(group["0"]), expected)
        (scales,) = group.attrs["ome"]["multiscales"]
        assert [axis["name"] for axis in scales["axes"]] == ["t", "y", "x"]
        assert scales["datasets"][0]["coordinateTransformations"][0]["scale"] == [30, 0.5, 0.5]
    else:
        with tifffile.TiffFile(done.output) as tiff:
            assert tiff.series[0].axes == "TYX"
            assert np.array_equal(tiff.asarray(), expected)
    assert not np.array_equal(expected[0], expected[1])
    assert dict(done.counts)["label 1"] == np.count_nonzero(expected)
    # The mask is read as the truth of the film is.
    for time in range(3):
        mask = read_mask(done.output, is_drawn=False, view=View(time=time))
        assert np.array_equal(mask.array, expected[time])
    assert go(run, tmp_path / "out", tmp_path / name)[0].status == "skipped"


def test_time_points_go_through_the_network_together(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ome(tmp_path / "film.ome.tif", film_of(5), "TCYX", NAMES)
    masks = []
    for most, passes in ((1, [1, 1, 1, 1, 1]), (2, [2, 2, 1])):
        monkeypatch.setattr(Predictor, "most_together", most)
        with counted(monkeypatch) as seen:
            (done,) = go(run, tmp_path / str(most), path)
        assert seen == passes
        assert done.output is not None, done.message
        masks.append(tifffile.imread(done.output))
    # A batch rounds otherwise than a single image.
    assert (masks[0] != masks[1]).mean() < 1e-3
    assert not np.array_equal(masks[0][0], masks[0][1])


def test_maps_of_a_film_are_refused(run: Path, tmp_path: Path) -> None:
    path = ome(tmp_path / "film.ome.tif", film_of(2), "TCYX", NAMES)
    (failed,) = go(run, tmp_path / "out", path, probabilities=True)
    assert "maps of 2 time points are not written" in failed.message
    assert [each.name for each in (tmp_path / "out").glob("*.tif")] == []


def test_scenes_are_predicted_one_by_one(run: Path, tmp_path: Path) -> None:
    film = film_of(2)
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        for image in film:
            metadata = {"axes": "CYX", "Channel": {"Name": list(NAMES)}}
            writer.write(image, photometric="minisblack", metadata=metadata)
    stills = [ome(tmp_path / f"s{k}.ome.tif", film[k], "CYX", NAMES) for k in range(2)]
    *scenes, first, second = go(run, tmp_path / "out", path, *stills)
    names = [record.output and record.output.name for record in scenes]
    assert names == ["a_s0_seg.ome.tif", "a_s1_seg.ome.tif"]
    for scene, still in zip(scenes, (first, second), strict=True):
        assert np.array_equal(labels_of(scene), labels_of(still))


def test_axes_of_a_person_make_a_stack_a_film(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, film_of(3), imagej=True, metadata={"axes": "ZCYX"})
    (failed,) = go(run, tmp_path / "out", path)
    assert "another number of axes" in failed.message
    assert "give --axes with T in place of Z" in failed.message
    (done,) = go(run, tmp_path / "out", path, view=View(axes="TCYX"))
    assert done.output is not None
    assert tifffile.imread(done.output).shape == (3, SIZE, SIZE)


def notes(run: Path, output: Path, *inputs: Path, **more: Any) -> list[str]:
    told: list[str] = []

    def hear(event: object) -> None:
        if isinstance(event, Note):
            told.append(event.text)

    predict(Request(inputs, model=run, output=output, device="cpu", **more), hear)
    return told[1:]


@pytest.mark.parametrize(
    ("edge", "is_told"), [(0.5, False), (0.74, False), (0.76, True), (0.34, False), (0.33, True)]
)
def test_other_pixel_sizes_are_told(run: Path, tmp_path: Path, edge: float, is_told: bool) -> None:
    path = ome(tmp_path / "a.ome.tif", field(1)[0], "CYX", NAMES, edge)
    told = notes(run, tmp_path / "out", path)
    assert told[0] == f"read as 1 x TZCYX 1x1x2x32x32, {edge} x {edge} um, channels DAPI, GFP"
    expected = f"a.ome.tif: pixels of {edge} x {edge} um, the model learned from 0.5 x 0.5 um"
    assert [text.startswith(expected) for text in told[1:]] == [True] * is_told
    # A person's word counts more than the file's.
    view = View(pixel_size=(0.5, 0.5))
    assert len(notes(run, tmp_path / "again", path, view=view)) == 1


def test_no_pixel_size_is_told(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, field(1)[0], photometric="minisblack")
    told = notes(run, tmp_path / "out", path)
    assert told[0] == "read as 1 x CYX 2x32x32, px, 2 channels"
    assert told[1].startswith("a.tif: no pixel size in the file, the model learned from 0.5 x 0.5")


def test_a_lone_channel_of_another_name_is_told(run: Path, tmp_path: Path) -> None:
    data = replace(load_plan(run).data, channels=("DAPI",))
    paths = {name: ome(tmp_path / f"{name}.ome.tif", field(1)[0][:1], "CYX", (name,))
             for name in ("GFP", "dapi", "Channel 0")}  # fmt: skip
    told = {name: doubts(open_scan(path), data, {}) for name, path in paths.items()}
    expected = ("its only channel GFP stands for DAPI",)
    assert told == {"GFP": expected, "dapi": (), "Channel 0": ()}


def test_other_channels_do_not_go_on_with_unfinished_blocks(run: Path, tmp_path: Path) -> None:
    write_ngff(tmp_path / "a.ome.zarr", film_of(1))
    predictor = Predictor(run, device="cpu")

    def made_by(view: View) -> str:
        asked = Request([tmp_path / "a.ome.zarr"], model=run, output=tmp_path, view=view)
        (seen,) = for_model([Case("a", (tmp_path / "a.ome.zarr",))], view, predictor.plan.data)
        blocks = in_blocks(Job(seen.case, tmp_path / "out.ome.zarr"), predictor, asked)
        assert blocks is not None
        return blocks._made_by(predictor)

    views = [View(), View(channels=("1", "0")), View(channels=("0", "1"))]
    assert len({made_by(view) for view in views}) == 3
    assert made_by(views[0]).strip() == predictor.digest


def test_what_is_foreseen_of_a_film(run: Path, tmp_path: Path) -> None:
    path = ome(tmp_path / "film.ome.tif", film_of(3), "TCYX", NAMES, 2.0)
    (found,) = foreseen(Request([path], model=run, output=tmp_path / "out", device="cpu"))
    lines = found.lines()
    assert lines[1] == "  axes     TCZYX 3x2x1x32x32, 2.0 x 2.0 um, channels DAPI, GFP"
    assert lines[2].startswith("  warning  pixels of 2.0 x 2.0 um")
    assert lines[-1].endswith("for 3 time points")


def test_the_python_face_reads_by_the_model(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, field(1)[0], photometric="minisblack")
    assert Predictor(run, device="cpu")(path).array.shape == (SIZE, SIZE)
    film = ome(tmp_path / "film.ome.tif", film_of(2), "TCYX", NAMES)
    with pytest.raises(DataError, match="2 time points in one file"):
        Predictor(run, device="cpu")(film)


def test_axes_that_do_not_fit_are_refused(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, film_of(2), photometric="minisblack")
    (failed,) = go(run, tmp_path / "out", path)
    hint = "give --axes CZYX (channels, slices) or --axes ZCYX (slices, channels)"
    assert failed.message.endswith(hint)
    (failed,) = go(run, tmp_path / "out", path, view=View(axes="CYX"))
    assert "expected 4 letters for 2x2x32x32, got CYX, 3 letters" in failed.message


def test_the_command_line(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, film_of(2), photometric="minisblack")
    line = [sys.executable, "-m", "unetseg.cli", "predict", str(path), "--model", str(run)]
    line += ["--device", "cpu", "-o", str(tmp_path / "out")]
    line += ["--axes", "tcyx", "--channels", "0,1", "--pixel-size", "500nm"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "read as 1 x TCYX 2x2x32x32, 0.5 x 0.5 um, channels DAPI, GFP" in done.stderr
    assert tifffile.imread(tmp_path / "out" / "stack_seg.tif").shape == (2, SIZE, SIZE)
