"""How files without named axes, with time points or with other channels are settled together."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from unetseg.config import DataPlan
from unetseg.dataset import Dataset, find_cases
from unetseg.dataset.loading import load_scan, load_truth, with_channels
from unetseg.dataset.views import for_model, of_set, summary
from unetseg.errors import DataError
from unetseg.geometry import Geometry
from unetseg.records import Case, Scan, Source, View


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).integers(0, 999, shape).astype(np.uint16)


def bare(path: Path, *shape: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, noise(*shape), photometric="minisblack")
    return path


def named(path: Path, axes: str, *shape: int, channels: tuple[str, ...] = ()) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata: dict[str, Any] = {"axes": axes}
    if channels:
        metadata["Channel"] = {"Name": list(channels)}
    tifffile.imwrite(path, noise(*shape), ome=True, photometric="minisblack", metadata=metadata)
    return path


def mask(path: Path, *shape: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, np.ones(shape, np.uint8), photometric="minisblack")
    return path


def alone(*cases: Case) -> Dataset:
    return Dataset(cases, "by hand", "")


def shapes(dataset: Dataset) -> list[tuple[int, ...]]:
    return [load_scan(case).array.shape for case in dataset.cases]


def plan(dimensions: Any = 2, channels: tuple[str, ...] = ("0",)) -> DataPlan:
    return DataPlan(
        task="semantic",
        dimensions=dimensions,
        channels=channels,
        unit="px",
        orientation="as_read",
        normalisation="percentile",
        class_names=("background", "cell"),
        class_values=(0, 1),
    )


# --- axes without names


@pytest.mark.parametrize(
    ("image", "truth", "expected"),
    [
        ((3, 40, 50), (40, 50), (3, 40, 50)),
        ((3, 40, 50), (3, 40, 50), (1, 3, 40, 50)),
        ((20, 40, 50), (40, 50), (20, 40, 50)),
        ((20, 40, 50), (20, 40, 50), (1, 20, 40, 50)),
        ((4, 5, 40, 50), (5, 40, 50), (4, 5, 40, 50)),
        ((4, 5, 40, 50), (4, 40, 50), (5, 4, 40, 50)),
        ((40, 50, 5), (40, 50), (5, 40, 50)),
        ((40, 50, 5), (40, 50, 5), (1, 40, 50, 5)),
    ],
)
def test_the_mask_settles_the_axes(
    tmp_path: Path, image: tuple[int, ...], truth: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    case = Case("a", (bare(tmp_path / "a.tif", *image),), mask(tmp_path / "a_mask.tif", *truth))
    found, _ = of_set(alone(case))
    scan = load_scan(found.cases[0])
    assert scan.array.shape == expected
    assert load_truth(found.cases[0], scan.geometry).array.shape == truth
    # By itself too, where nobody has looked at the set.
    assert load_scan(case).array.shape == expected


def test_the_rest_of_the_set_settles_the_axes(tmp_path: Path) -> None:
    colours = [named(tmp_path / f"c{k}.ome.tif", "CYX", 3, 40, 50) for k in range(3)]
    others = [named(tmp_path / f"z{k}.ome.tif", "ZYX", 3, 40, 50) for k in range(2)]
    odd = Case("odd", (bare(tmp_path / "odd.tif", 3, 40, 50),))
    cases = [Case(path.stem, (path,)) for path in colours + others]
    assert shapes(of_set(alone(*cases, odd))[0])[-1] == (3, 40, 50)
    assert shapes(of_set(alone(*cases[3:], odd))[0])[-1] == (1, 3, 40, 50)


@pytest.mark.parametrize("others", [[], ["YX"]])
def test_what_nothing_settles_is_refused(tmp_path: Path, others: list[str]) -> None:
    cases = [Case(axes, (named(tmp_path / f"{axes}.ome.tif", axes, 40, 50),)) for axes in others]
    odd = Case("odd", (bare(tmp_path / "odd.tif", 3, 40, 50),))
    found, lines = of_set(alone(*cases, odd))
    with pytest.raises(DataError, match=r"odd\.tif: .*--axes CYX \(channels\) or --axes ZYX"):
        load_scan(found.cases[-1])
    assert len(lines) == len(others)


def test_axes_of_a_person_settle_all(tmp_path: Path) -> None:
    cases = [Case(f"a{k}", (bare(tmp_path / f"a{k}.tif", 3, 40, 50 + k),)) for k in range(2)]
    found, lines = of_set(alone(*cases), View(axes="ZYX"))
    assert shapes(found) == [(1, 3, 40, 50), (1, 3, 40, 51)]
    assert lines == ("2 x ZYX 3x40x50..51, px",)


def test_a_channel_file_holds_no_channels(tmp_path: Path) -> None:
    files = tuple(bare(tmp_path / f"a_{k:04}.tif", 3, 40, 50) for k in range(2))
    (case,) = of_set(alone(Case("a", files)))[0].cases
    assert load_scan(case).array.shape == (2, 3, 40, 50)


@pytest.mark.parametrize(
    ("data", "shape", "expected"),
    [
        (plan(2, ("0", "1", "2")), (3, 40, 50), (3, 40, 50)),
        (plan(3), (3, 40, 50), (1, 3, 40, 50)),
        (plan(2, tuple(map(str, range(20)))), (20, 40, 50), (20, 40, 50)),
        (plan(3, ("0", "1", "2", "3")), (4, 5, 40, 50), (4, 5, 40, 50)),
        (plan(2), (3, 40, 50), None),
    ],
)
def test_the_model_settles_the_axes(
    tmp_path: Path, data: DataPlan, shape: tuple[int, ...], expected: tuple[int, ...] | None
) -> None:
    case = Case("a", (bare(tmp_path / "a.tif", *shape),))
    (seen,) = for_model([case], View(), data)
    if expected is None:
        assert seen.opened is None
        with pytest.raises(DataError, match="more than one way"):
            load_scan(seen.case)
    else:
        assert seen.opened is not None
        assert load_scan(seen.case).array.shape == expected


# --- time points and scenes


def test_a_film_becomes_a_case_for_each_time_point(tmp_path: Path) -> None:
    film = named(tmp_path / "images" / "film.ome.tif", "TCYX", 11, 2, 20, 30)
    labels = np.arange(11, dtype=np.uint8)[:, None, None] * np.ones((1, 20, 30), np.uint8)
    (tmp_path / "masks").mkdir()
    tifffile.imwrite(tmp_path / "masks" / "film.tif", labels, photometric="minisblack")
    named(tmp_path / "images" / "still.ome.tif", "CYX", 2, 20, 30)
    mask(tmp_path / "masks" / "still.tif", 20, 30)
    found, lines = of_set(find_cases(tmp_path))
    assert [case.name for case in found.cases] == [*(f"film_t{k:02}" for k in range(11)), "still"]
    assert {case.group for case in found.cases} == {"film", None}
    stored = tifffile.imread(film)
    for time, case in enumerate(found.cases[:-1]):
        scan = load_scan(case)
        assert np.array_equal(scan.array, stored[time])
        assert np.array_equal(load_truth(case, scan.geometry).array, labels[time])
    assert lines[0] == "1 x TCZYX 11x2x1x20x30, px, 2 channels"
    assert lines[1] == "1 x TZCYX 1x1x2x20x30, px, 2 channels"


def test_a_lone_film_may_be_divided(tmp_path: Path) -> None:
    film = named(tmp_path / "a.ome.tif", "TYX", 3, 20, 30)
    truth = named(tmp_path / "b.ome.tif", "TYX", 3, 20, 30)
    found, _ = of_set(alone(Case("film", (film,), truth)))
    assert [case.group for case in found.cases] == [None] * 3


def test_a_film_with_the_mask_of_one_time_point_is_refused(tmp_path: Path) -> None:
    film = named(tmp_path / "a.ome.tif", "TYX", 3, 20, 30)
    (case,) = of_set(alone(Case("film", (film,), mask(tmp_path / "m.tif", 20, 30))))[0].cases
    with pytest.raises(DataError, match=r"a\.ome\.tif: 3 time points in one file"):
        load_scan(case)


def test_a_file_of_scenes_is_predicted_scene_by_scene(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        for k in range(2):
            writer.write(noise(20, 30) + k, photometric="minisblack", metadata={"axes": "YX"})
    seen = for_model([Case("a", (path,))], View(), plan())
    assert [each.case.name for each in seen] == ["a_s0", "a_s1"]
    for k, each in enumerate(seen):
        assert np.array_equal(load_scan(each.case).array[0], noise(20, 30) + k)


# --- channels


def test_channels_are_those_of_most_files_by_name(tmp_path: Path) -> None:
    files = [("DAPI", "GFP"), ("DAPI", "GFP"), ("gfp", "Cy5", "dapi"), ("GFP", "DAPI")]
    cases = [
        Case(f"c{k}", (named(tmp_path / f"c{k}.ome.tif", "CYX", len(n), 20, 30, channels=n),))
        for k, n in enumerate(files)
    ]
    found, _ = of_set(alone(*cases))
    scans = [load_scan(case) for case in found.cases]
    assert {scan.channels for scan in scans} == {("DAPI", "GFP")}
    assert np.array_equal(scans[2].array, noise(3, 20, 30)[[2, 0]])
    assert np.array_equal(scans[3].array, noise(2, 20, 30)[::-1])
    lacks = named(tmp_path / "lacks.ome.tif", "CYX", 2, 20, 30, channels=("DAPI", "Cy5"))
    found, _ = of_set(alone(*cases, Case("lacks", (lacks,))))
    with pytest.raises(DataError, match=r"lacks.*no channel GFP \(expected DAPI, GFP, got 0 DAPI"):
        load_scan(found.cases[-1])


def test_channels_of_a_person(tmp_path: Path) -> None:
    names = ("DAPI", "GFP", "Cy5")
    paths = [named(tmp_path / "a.ome.tif", "CYX", 3, 20, 30, channels=names)]
    paths += [named(tmp_path / "b.ome.tif", "CYX", 3, 20, 30, channels=("x", "y", "dapi"))]
    cases = [Case(path.stem, (path,)) for path in paths]
    found, lines = of_set(alone(cases[0]), View(channels=("cy5", "0")))
    (scan,) = map(load_scan, found.cases)
    assert scan.channels == ("Cy5", "DAPI")
    assert np.array_equal(scan.array, noise(3, 20, 30)[[2, 0]])
    assert lines == ("1 x TZCYX 1x1x3x20x30, px, channels Cy5, DAPI",)
    # One name in every file, where it stands in each.
    found, _ = of_set(alone(*cases), View(channels=("DAPI",)))
    first, second = map(load_scan, found.cases)
    assert (first.channels, second.channels) == (("DAPI",), ("DAPI",))
    assert np.array_equal(second.array, noise(3, 20, 30)[[2]])
    found, _ = of_set(alone(*cases), View(channels=("GFP",)))
    with pytest.raises(DataError, match=r"b\.ome\.tif: no channel GFP.*got 0 x, 1 y, 2 dapi"):
        load_scan(found.cases[1])


def test_names_of_a_description_count_more_than_those_of_the_files(tmp_path: Path) -> None:
    path = named(tmp_path / "a.ome.tif", "CYX", 2, 20, 30, channels=("x", "y"))
    dataset = Dataset((Case("a", (path,)),), "by hand", "", channel_names=("DAPI", "GFP"))
    (case,) = of_set(dataset)[0].cases
    assert load_scan(case).channels == ("DAPI", "GFP")
    (case,) = of_set(dataset, View(channels=("gfp",)))[0].cases
    assert load_scan(case).channels == ("GFP",)
    assert np.array_equal(load_scan(case).array, noise(2, 20, 30)[[1]])


def test_channel_files_are_chosen_too(tmp_path: Path) -> None:
    files = tuple(bare(tmp_path / f"a_{k:04}.tif", 20, 30 + 0 * k) for k in range(3))
    (case,) = of_set(alone(Case("a", files)), View(channels=("2", "0")))[0].cases
    assert load_scan(case).channels == ("2", "0")


def scan_of(names: tuple[str, ...], *, is_picture: bool = False) -> Scan:
    array = np.arange(len(names))[:, None, None] * np.ones((1, 4, 5), int)
    geometry = Geometry.from_spacing((4, 5), (1, 1), "px")
    return Scan(array, geometry, names, Source(Path("a.tif"), "tiff"), is_picture)


@pytest.mark.parametrize(
    ("has", "wanted", "expected"),
    [
        (("DAPI", "GFP"), ("DAPI", "GFP"), [0, 1]),
        (("GFP", "dapi"), ("DAPI", "GFP"), [1, 0]),
        (("GFP", "DAPI", "mCherry"), ("DAPI", "GFP"), [1, 0]),
        (("0", "1"), ("DAPI", "GFP"), [0, 1]),
        (("DAPI", "GFP"), ("0", "1"), [0, 1]),
        (("Channel 0", "Channel 1"), ("DAPI", "GFP"), [0, 1]),
        (("GFP",), ("DAPI",), [0]),
        (("0", "1", "2"), ("1", "2"), [1, 2]),
    ],
)
def test_with_channels(has: tuple[str, ...], wanted: tuple[str, ...], expected: list[int]) -> None:
    found = with_channels(scan_of(has), wanted)
    assert found.array[:, 0, 0].tolist() == expected


@pytest.mark.parametrize(
    ("has", "wanted", "says"),
    [
        (("DAPI", "Cy5"), ("DAPI", "GFP"), "channel GFP not in the scan.*got 0 DAPI, 1 Cy5"),
        (("x", "y", "z"), ("DAPI", "GFP"), "channels DAPI, GFP not in the scan"),
        (("0", "1", "2"), ("DAPI", "GFP"), r"wrong number of channels \(expected 2 "),
        (("0", "1", "2"), ("0", "1"), r"wrong number of channels"),
        (("DAPI", "GFP"), ("0",), r"wrong number of channels \(expected 1 "),
    ],
)
def test_with_channels_refused(has: tuple[str, ...], wanted: tuple[str, ...], says: str) -> None:
    with pytest.raises(DataError, match=says):
        with_channels(scan_of(has), wanted)


def test_channels_for_a_model_are_as_many_as_it_takes(tmp_path: Path) -> None:
    case = Case("a", (named(tmp_path / "a.ome.tif", "CYX", 3, 20, 30, channels=("x", "y", "z")),))
    data = plan(2, ("DAPI", "GFP"))
    (seen,) = for_model([case], View(channels=("2", "x")), data)
    assert load_scan(seen.case).channels == ("DAPI", "GFP")
    assert np.array_equal(load_scan(seen.case).array, noise(3, 20, 30)[[2, 0]])
    with pytest.raises(DataError, match=r"--channels: not as many.*expected 2 \(DAPI, GFP\)"):
        for_model([case], View(channels=("2",)), data)


# --- what is said


def test_the_lines_are_distinct_ways_with_counts(tmp_path: Path) -> None:
    for k in range(3):
        array = np.zeros((20 + k, 30, 4), np.uint8)
        array[..., 0] = 9
        Image.fromarray(array).save(tmp_path / f"p{k}.png")
    cases = [Case(f"p{k}", (tmp_path / f"p{k}.png",)) for k in range(3)]
    cases.append(Case("g", (named(tmp_path / "g.ome.tif", "CYX", 2, 5, 6, channels=("a", "b")),)))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    cases.append(Case("broken", (tmp_path / "broken.png",)))
    assert of_set(alone(*cases))[1] == (
        "3 x YXS 20..22x30x4, px, channels red, green, blue, alpha left out",
        "1 x TZCYX 1x1x2x5x6, px, channels a, b",
    )


def test_many_ways_are_cut_short(tmp_path: Path) -> None:
    names = [(f"n{k}", "b") for k in range(15)]
    cases = [
        Case(str(k), (named(tmp_path / f"{k}.ome.tif", "CYX", 2, 5, 6, channels=pair),))
        for k, pair in enumerate(names)
    ]
    seen = for_model(cases, View(), plan(2, ("0", "1")))
    lines = summary(seen)
    assert len(lines) == 13
    assert lines[-1] == "3 more, read in 3 other ways"
