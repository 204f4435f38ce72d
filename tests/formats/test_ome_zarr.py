"""OME-Zarr: input is written by zarr with metadata by hand; output is judged by ome-zarr-models."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import ome_zarr_models
import ome_zarr_models.v04.image
import ome_zarr_models.v04.image_label
import ome_zarr_models.v05.image
import ome_zarr_models.v05.image_label
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from unetseg.dataset import find_cases, find_scans
from unetseg.errors import DataError, UsageError
from unetseg.formats import (
    Format,
    is_store,
    maps_file,
    mask_file,
    open_scan,
    read_mask,
    read_scan,
    split_name,
    write_mask,
)
from unetseg.formats.ome_zarr import OmeZarr
from unetseg.formats.remote import url_of
from unetseg.geometry import Geometry, whole_box
from unetseg.records import Label, Mask, Scan, Source

LABELS = (Label(0, "background"), Label(1, "cell"), Label(5, "nucleus"))
VERSIONS = ["0.4", "0.5"]
UNITS = {"z": "micrometer", "y": "micrometer", "x": "micrometer"}
TYPES = {"t": "time", "c": "channel"}


def noise(shape: tuple[int, ...], dtype: str = "uint16") -> np.ndarray:
    return np.random.default_rng(7).integers(0, 251, shape).astype(dtype)


def save(
    path: Path | str,
    array: np.ndarray,
    axes: str = "zyx",
    version: str = "0.5",
    *,
    scale: tuple[float, ...] | None = None,
    shift: tuple[float, ...] | None = None,
    units: dict[str, str] = UNITS,
    channels: tuple[str, ...] = (),
    chunks: tuple[int, ...] | None = None,
    shards: tuple[int, ...] | None = None,
    change: Any = lambda multiscale: None,
    storage: dict[str, Any] | None = None,
) -> Path:
    """A store with a full level and a coarser one, the metadata as the specification shows."""
    moves = [{"type": "scale", "scale": list(scale or [1.0] * array.ndim)}]
    if shift:
        moves.append({"type": "translation", "translation": list(shift)})
    multiscale: dict[str, Any] = {
        "axes": [
            {"name": a, "type": TYPES.get(a, "space")} | ({"unit": units[a]} if a in units else {})
            for a in axes
        ],
        "datasets": [
            {"path": "full", "coordinateTransformations": moves},
            {
                "path": "half",
                "coordinateTransformations": [
                    {"type": "scale", "scale": [2.0 * n for n in scale or [1] * array.ndim]}
                ],
            },
        ],
    }
    entries: dict[str, Any] = {"multiscales": [multiscale]}
    if channels:
        entries["omero"] = {"channels": [{"label": name} for name in channels]}
    if version == "0.5":
        entries = {"ome": {"version": "0.5", **entries}}
    else:
        multiscale["version"] = version
    change(multiscale)
    group = zarr.open_group(
        path,
        mode="w",
        zarr_format=3 if version == "0.5" else 2,
        attributes=entries,
        storage_options=storage,
    )
    for name, values in (("full", array), ("half", array[..., ::2, ::2])):
        group.create_array(
            name,
            data=np.ascontiguousarray(values),
            chunks=chunks or "auto",
            shards=shards if name == "full" else None,
            dimension_names=list(axes) if version == "0.5" else None,
        )
    return Path(path)


def model_of(path: Path, version: str) -> Any:
    """What the models of the specification make of a label image; they raise if it is none."""
    module = ome_zarr_models.v05 if version == "0.5" else ome_zarr_models.v04
    return module.image_label.ImageLabel.from_zarr(zarr.open_group(path, mode="r"))


def test_it_is_a_format() -> None:
    made: Format = OmeZarr()
    assert made.name == "ome-zarr"
    assert list(made.suffixes) == sorted(made.suffixes, key=len, reverse=True)
    assert split_name(Path("a/b.ome.zarr")) == ("b", ".ome.zarr")


# --- reading


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("axes", "shape", "expected"),
    [
        ("yx", (40, 50), (1, 40, 50)),
        ("zyx", (6, 40, 50), (1, 6, 40, 50)),
        ("cyx", (3, 40, 50), (3, 40, 50)),
        ("czyx", (3, 6, 40, 50), (3, 6, 40, 50)),
        ("tczyx", (1, 3, 6, 40, 50), (3, 6, 40, 50)),
        ("tczyx", (1, 3, 1, 40, 50), (3, 40, 50)),
        ("tzyx", (1, 6, 40, 50), (1, 6, 40, 50)),
        ("zyxc", (6, 40, 50, 3), (3, 6, 40, 50)),
        ("zcyx", (6, 3, 40, 50), (3, 6, 40, 50)),
        ("zyx", (6, 1, 50), (1, 6, 1, 50)),
    ],
)
def test_axes(
    tmp_path: Path, version: str, axes: str, shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    array = noise(shape)
    scan = read_scan(save(tmp_path / "a.ome.zarr", array, axes, version))
    assert scan.array.shape == expected
    assert scan.array.dtype == array.dtype
    # One voxel found by the names of its axes, without any transposition.
    at = {"t": 0, "c": expected[0] - 1, "z": min(2, shape[axes.find("z")] - 1), "y": 0, "x": 7}
    stored = array[tuple(at[letter] for letter in axes)]
    kept = [at[letter] for letter in "zyx"[-(len(expected) - 1) :]]
    assert scan.array[(at["c"], *kept)] == stored
    assert np.array_equal(np.sort(scan.array, axis=None), np.sort(array, axis=None))
    assert not scan.is_picture


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("units", "expected", "unit"),
    [
        ("micrometer", (4.0, 0.5, 0.25), "um"),
        ("millimeter", (4.0, 0.5, 0.25), "mm"),
        ("nanometer", (0.004, 0.0005, 0.00025), "um"),
        ("meter", (4e6, 5e5, 2.5e5), "um"),
        ("angstrom", (4e-4, 5e-5, 2.5e-5), "um"),
        ("furlong", (4.0, 0.5, 0.25), "px"),
        ("", (4.0, 0.5, 0.25), "px"),
    ],
)
def test_spacing(
    tmp_path: Path, version: str, units: str, expected: tuple[float, ...], unit: str
) -> None:
    named = dict.fromkeys("zyx", units) if units else {}
    path = save(
        tmp_path / "a.zarr", noise((3, 4, 5)), "zyx", version, scale=(4, 0.5, 0.25), units=named
    )
    geometry = read_scan(path).geometry
    assert geometry.unit == unit
    assert geometry.spacing == pytest.approx(expected)


def test_units_that_differ_become_micrometres(tmp_path: Path) -> None:
    units = {"z": "millimeter", "y": "micrometer", "x": "nanometer"}
    path = save(tmp_path / "a.zarr", noise((3, 4, 5)), scale=(0.002, 1, 500), units=units)
    assert read_scan(path).geometry.spacing == pytest.approx((2, 1, 0.5))
    del units["x"]
    path = save(tmp_path / "b.zarr", noise((3, 4, 5)), scale=(0.002, 1, 500), units=units)
    assert read_scan(path).geometry.unit == "px"


def test_the_translation_is_the_place_of_the_first_voxel(tmp_path: Path) -> None:
    def shift_all(multiscale: dict[str, Any]) -> None:
        # Applied after those of the level: 2 * 10 + 5, 2 * 20 + 6.
        multiscale["coordinateTransformations"] = [
            {"type": "scale", "scale": [2, 2]},
            {"type": "translation", "translation": [5, 6]},
        ]

    path = save(
        tmp_path / "a.zarr", noise((4, 5)), "yx", scale=(0.5, 3), shift=(10, 20), change=shift_all
    )
    geometry = read_scan(path).geometry
    assert geometry.affine.tolist() == [[1, 0, 25], [0, 6, 46], [0, 0, 1]]


@pytest.mark.parametrize("version", VERSIONS)
def test_channel_names(tmp_path: Path, version: str) -> None:
    array = noise((2, 4, 5))
    path = save(tmp_path / "a.zarr", array, "cyx", version, channels=("DAPI", "GFP"))
    assert read_scan(path).channels == ("DAPI", "GFP")
    path = save(tmp_path / "b.zarr", array, "cyx", version, channels=("DAPI", "DAPI"))
    assert read_scan(path).channels == ("0", "1")
    path = save(tmp_path / "c.zarr", array, "cyx", version, channels=("DAPI",))
    assert read_scan(path).channels == ("0", "1")


def test_old_versions_have_five_axes_or_names_only(tmp_path: Path) -> None:
    def forget(multiscale: dict[str, Any]) -> None:
        del multiscale["axes"]
        for dataset in multiscale["datasets"]:
            del dataset["coordinateTransformations"]

    def name(multiscale: dict[str, Any]) -> None:
        forget(multiscale)
        multiscale["axes"] = ["c", "y", "x"]

    five = noise((1, 2, 3, 4, 5))
    scan = read_scan(save(tmp_path / "a.zarr", five, "tczyx", "0.2", change=forget))
    assert np.array_equal(scan.array, five[0])
    assert scan.geometry.unit == "px"
    three = noise((2, 4, 5))
    scan = read_scan(save(tmp_path / "b.zarr", three, "cyx", "0.3", change=name))
    assert np.array_equal(scan.array, three)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("axes", "shape", "chunks", "shards", "block"),
    [
        ("zyx", (9, 40, 50), (4, 16, 16), None, (4, 16, 16)),
        ("tczyx", (1, 3, 9, 40, 50), (1, 1, 4, 16, 16), None, (4, 16, 16)),
        ("zyxc", (9, 40, 50, 3), (4, 16, 16, 3), None, (4, 16, 16)),
        ("yx", (40, 50), (64, 16), None, (40, 16)),
        ("zyx", (9, 40, 50), (4, 16, 16), (8, 32, 32), (8, 32, 32)),
    ],
)
def test_any_box_is_the_same_box_of_the_whole(
    tmp_path: Path, version: str, axes: str, shape: Any, chunks: Any, shards: Any, block: Any
) -> None:
    if shards and version == "0.4":
        pytest.skip("Zarr 2 has no shards")
    path = save(tmp_path / "a.zarr", noise(shape), axes, version, chunks=chunks, shards=shards)
    opened, scan = open_scan(path), read_scan(path)
    assert opened.block == block
    assert opened.geometry.differences(scan.geometry, tolerance=0) == ()
    assert (opened.channels, opened.dtype) == (scan.channels, scan.array.dtype)

    @given(st.data())
    @settings(max_examples=15, deadline=None, database=None)
    def check(data: st.DataObject) -> None:
        box = []
        for size in opened.geometry.shape:
            start = data.draw(st.integers(0, size - 1))
            box.append(slice(start, data.draw(st.integers(start + 1, size))))
        assert np.array_equal(opened.read(tuple(box)), scan.array[(slice(None), *box)])

    check()


def test_opening_reads_no_chunk(tmp_path: Path) -> None:
    path = save(tmp_path / "a.zarr", noise((40, 50)), "yx", chunks=(16, 16))
    for chunk in (path / "full" / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"spoiled")
    opened = open_scan(path)
    assert opened.geometry.shape == (40, 50)
    with pytest.raises(DataError, match=r"a\.zarr: not a readable ome-zarr file"):
        opened.read(whole_box((40, 50)))


def test_a_place_below_a_store(tmp_path: Path) -> None:
    array = noise((4, 5))
    for name in ("A/1/0", "A/1/1"):
        save(tmp_path / "plate.zarr" / name, array + len(name), "yx")
    assert is_store(tmp_path / "plate.zarr" / "A" / "1" / "0")
    assert np.array_equal(read_scan(tmp_path / "plate.zarr/A/1/0").array[0], array + 5)


def packed(store: Path, path: Path, below: str = "") -> Path:
    """The files of a store in an archive as RFC 9 wants it, its metadata first."""
    files = sorted((f for f in store.rglob("*") if f.is_file()), key=lambda f: f.name[0] == "c")
    with zipfile.ZipFile(path, "w") as archive:
        for file in files:
            archive.write(file, Path(below) / file.relative_to(store))
    return path


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("name", "below"), [("a.ozx", ""), ("a.zarr.zip", "a.zarr"), ("a.ome.zarr.zip", "a.ome.zarr")]
)
def test_an_archive_is_read_as_the_store_in_it(
    tmp_path: Path, version: str, name: str, below: str
) -> None:
    array = noise((2, 5, 40, 50))
    units = {"z": "micrometer", "y": "micrometer", "x": "micrometer"}
    store = save(
        tmp_path / "plain.zarr",
        array,
        "czyx",
        version,
        scale=(1.0, 2.0, 0.5, 0.5),
        units=units,
        channels=("DAPI", "GFP"),
        chunks=(1, 2, 16, 16),
    )
    path = packed(store, tmp_path / name, below)
    scan, other = read_scan(path), read_scan(store)
    np.testing.assert_array_equal(scan.array, array)
    assert scan.channels == other.channels == ("DAPI", "GFP")
    np.testing.assert_array_equal(scan.geometry.affine, other.geometry.affine)
    opened = open_scan(path)
    assert opened.block == (2, 16, 16)
    box = (slice(1, 4), slice(7, 30), slice(20, 50))
    np.testing.assert_array_equal(opened.read(box), array[(slice(None), *box)])
    assert split_name(path) == ("a", name.removeprefix("a"))
    assert OmeZarr().mask_suffix(path) == ".ome.zarr"


def test_archives_are_found_as_scans(tmp_path: Path) -> None:
    store = save(tmp_path / "store" / "a.zarr", noise((40, 50)), "yx")
    path = packed(store, tmp_path / "a.ozx")
    assert [case.images for case in find_scans([tmp_path / "a.ozx"]).cases] == [(path,)]
    assert not is_store(path)


def test_refused_archives(tmp_path: Path) -> None:
    store = save(tmp_path / "a.zarr", noise((40, 50)), "yx")
    (tmp_path / "broken.ozx").write_bytes(b"PK no archive at all")
    with pytest.raises(DataError, match=r"broken\.ozx: not a readable ome-zarr file"):
        read_scan(tmp_path / "broken.ozx")
    with zipfile.ZipFile(tmp_path / "other.ozx", "w") as archive:
        archive.writestr("a.txt", "nothing")
        archive.writestr("b.txt", "nothing")
    with pytest.raises(DataError, match=r"other\.ozx: no OME-Zarr image"):
        read_scan(tmp_path / "other.ozx")
    packed(store / "full", tmp_path / "array.ozx")
    with pytest.raises(DataError, match=r"array\.ozx: a Zarr without the metadata of an image"):
        read_scan(tmp_path / "array.ozx")
    scan = read_scan(store)
    mask = Mask(np.zeros((40, 50), np.uint8), scan.geometry, LABELS)
    with pytest.raises(DataError, match=r"m\.ozx: archives are not written; call it \.ome\.zarr"):
        write_mask(mask, tmp_path / "m.ozx", scan)
    assert not (tmp_path / "m.ozx").exists()


def test_the_one_image_of_a_converter(tmp_path: Path) -> None:
    array = noise((4, 5))
    zarr.create_group(tmp_path / "a.zarr", zarr_format=2, attributes={"bioformats2raw.layout": 3})
    save(tmp_path / "a.zarr/0", array, "yx", "0.4")
    assert np.array_equal(read_scan(tmp_path / "a.zarr").array[0], array)
    save(tmp_path / "a.zarr/1", array, "yx", "0.4")
    with pytest.raises(DataError, match=r"several images in one store.*such as PATH/0"):
        read_scan(tmp_path / "a.zarr")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"axes": [{"name": "x"}, {"name": "y"}]}, r"do not make an image.*got x, y"),
        ({"axes": [{"name": "y"}]}, r"do not make an image.*got y"),
        ({"axes": [{"name": "z"}, {"name": "y"}, {"name": "x"}]}, r"expected 3 numbers"),
        ({"version": "0.9"}, r"OME-Zarr 0\.9 is not supported.*save it as OME-Zarr 0\.5"),
        ({"coordinateTransformations": [{"type": "scale", "scale": [1]}]}, "expected 2 numbers"),
        ({"coordinateTransformations": [{"type": "scale", "scale": [1, -1]}]}, "not positive"),
        ({"coordinateTransformations": [{"type": "scale", "scale": "a"}]}, "scale is not supp"),
        ({"coordinateTransformations": [{"type": "affine"}]}, "affine is not supported"),
        ({"datasets": [{"path": "gone"}]}, r"full resolution is missing \(expected gone\)"),
        ({"datasets": []}, "not a readable ome-zarr file"),
    ],
)
def test_refused_metadata(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = save(tmp_path / "a.zarr", noise((4, 5)), "yx", "0.4", change=lambda m: m.update(change))
    for read in (read_scan, open_scan):
        with pytest.raises(DataError, match=message) as caught:
            read(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_axes_that_the_array_does_not_have(tmp_path: Path) -> None:
    def add_z(multiscale: dict[str, Any]) -> None:
        multiscale["axes"].insert(0, {"name": "z"})
        multiscale["datasets"][0].pop("coordinateTransformations")

    path = save(tmp_path / "a.zarr", noise((4, 5)), "yx", "0.4", change=add_z)
    with pytest.raises(DataError, match=r"expected zyx, got \(4, 5\)"):
        open_scan(path)


def test_refused_stores(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"3 time points in one file"):
        read_scan(save(tmp_path / "t.zarr", noise((3, 4, 5)), "tyx"))
    with pytest.raises(DataError, match=r"axis q with 3 entries is neither"):
        read_scan(save(tmp_path / "q.zarr", noise((3, 4, 5)), "qyx"))
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(DataError, match=r"empty\.zarr: no OME-Zarr image"):
        read_scan(tmp_path / "empty.zarr")
    (tmp_path / "file.zarr").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"file\.zarr: not a folder, as an OME-Zarr is"):
        read_scan(tmp_path / "file.zarr")
    zarr.create_array(tmp_path / "array.zarr", shape=(4, 5), dtype="u1")
    with pytest.raises(DataError, match=r"array\.zarr: a Zarr without the metadata of an image"):
        read_scan(tmp_path / "array.zarr")
    zarr.create_group(tmp_path / "group.zarr")
    with pytest.raises(DataError, match=r"group\.zarr: a Zarr without the metadata"):
        read_scan(tmp_path / "group.zarr")
    plate = {"plate": {"wells": [{"path": "B/3"}]}}
    zarr.create_group(tmp_path / "plate.zarr", attributes={"ome": plate})
    with pytest.raises(DataError, match=r"a plate of many images; give one image.*PATH/B/3/0"):
        read_scan(tmp_path / "plate.zarr")
    with pytest.raises(DataError, match=r"no\.zarr: cannot be read: No such file"):
        read_scan(tmp_path / "no.zarr")
    with pytest.raises(DataError, match="1 of 6 values are NaN"):
        read_scan(save(tmp_path / "nan.zarr", np.array([[0, 1, 2], [3, 4, np.nan]]), "yx"))


# --- addresses


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("s3://bucket/a/x.zarr", "s3://bucket/a/x.zarr"),
        ("https://host:8080/x.zarr", "https://host:8080/x.zarr"),
        ("memory://x.zarr", "memory://x.zarr"),
        ("simplecache::s3://bucket/x.zarr", "simplecache::s3://bucket/x.zarr"),
        ("/data/x.zarr", None),
        ("data/x.zarr", None),
        ("C:/data/x.zarr", None),
        ("a:b/x.zarr", None),
        ("file:///data/x.zarr", None),
    ],
)
def test_an_address_survives_as_a_path(text: str, url: str | None) -> None:
    assert url_of(Path(text)) == url
    assert url_of(text) == url


def test_a_file_address_is_a_local_path(tmp_path: Path) -> None:
    array = noise((4, 5))
    save(tmp_path / "a.zarr", array, "yx")
    path = Path(f"file://{tmp_path}/a.zarr")
    assert np.array_equal(read_scan(path).array[0], array)
    assert find_scans([path]).cases[0].images == (tmp_path / "a.zarr",)


def test_other_formats_are_not_read_from_an_address(tmp_path: Path) -> None:
    for name in ("scan.nii.gz", "scan.tif", "scan.png"):
        with pytest.raises(DataError, match=rf"s3://bucket/{name}: .* is not read from an address"):
            open_scan(Path(f"s3://bucket/{name}"))
    tifffile.imwrite(tmp_path / "a.tif", noise((40, 50)))
    assert np.array_equal(read_scan(Path(f"file://{tmp_path}/a.tif")).array[0], noise((40, 50)))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_store_behind_an_address(version: str) -> None:
    array = noise((40, 50))
    save(f"memory://{version}/a.zarr", array, "yx", version, chunks=(16, 16), scale=(0.5, 0.25))
    path = Path(f"memory://{version}/a.zarr")
    (case,) = find_scans([str(path)]).cases
    opened = open_scan(case.images[0])
    assert opened.geometry.spacing == (0.5, 0.25)
    assert np.array_equal(opened.read((slice(3, 20), slice(30, 50)))[0], array[3:20, 30:])
    with pytest.raises(DataError, match="no OME-Zarr image"):
        open_scan(Path(f"memory://{version}/none.zarr"))


def test_an_address_that_nobody_can_read() -> None:
    with pytest.raises(UsageError, match=r"kind gopher://.*pip install 'unetseg\[remote\]'"):
        open_scan(Path("gopher://host/x.zarr"))


def test_without_fsspec_it_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['fsspec'] = None\n"
        "from pathlib import Path; from unetseg.formats import open_scan\n"
        "from unetseg.errors import UsageError\n"
        "try:\n    open_scan(Path('s3://bucket/x.zarr'))\n"
        "except UsageError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'unetseg[remote]'" in done.stdout


def test_masks_are_not_written_to_an_address(tmp_path: Path) -> None:
    path = save(tmp_path / "a.zarr", noise((4, 5)), "yx")
    with pytest.raises(DataError, match=r"is not written to; give a local folder"):
        mask_file(Path("s3://bucket/mask.zarr"), open_scan(path), np.uint8)


# --- as scans of a folder


def test_stores_are_found_as_scans(tmp_path: Path) -> None:
    for name in ("a.ome.zarr", "b.zarr"):
        save(tmp_path / name, noise((4, 5)), "yx")
    (tmp_path / "folder").mkdir()
    both = [tmp_path / "a.ome.zarr", tmp_path / "b.zarr"]
    for asked in ([tmp_path], [tmp_path / "*.zarr"], both):
        found = find_scans(asked)
        assert found.failures == ()
        assert [case.images[0].name for case in found.cases] == ["a.ome.zarr", "b.zarr"]
    inner = find_scans([tmp_path / "a.ome.zarr" / "full"])
    assert [case.images[0].name for case in inner.cases] == ["full"]


def test_stores_are_pairs_of_a_data_set(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(tmp_path / "images" / f"{name}.ome.zarr", noise((4, 5)), "yx")
        save(tmp_path / "labels" / f"{name}.zarr", noise((4, 5), "uint8") % 3, "yx")
    cases = find_cases(tmp_path).cases
    assert [(case.name, case.truth.name) for case in cases if case.truth] == [
        ("a", "a.zarr"),
        ("b", "b.zarr"),
    ]
    truth = read_mask(tmp_path / "labels" / "a.zarr")
    assert np.array_equal(truth.array, noise((4, 5), "uint8") % 3)


# --- masks


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("axes", "shape", "kept"),
    [
        ("yx", (40, 50), (40, 50)),
        ("czyx", (3, 6, 40, 50), (6, 40, 50)),
        ("tczyx", (1, 3, 6, 40, 50), (6, 40, 50)),
        ("tczyx", (1, 3, 1, 40, 50), (40, 50)),
    ],
)
def test_a_mask_is_a_label_image_on_the_scan(
    tmp_path: Path, version: str, axes: str, shape: Any, kept: Any
) -> None:
    scale = tuple(2.0 if letter == "z" else 1.0 if letter in "tc" else 650.0 for letter in axes)
    shift = tuple(0.0 if letter in "tc" else 30.0 for letter in axes)
    units = {"z": "micrometer", "y": "nanometer", "x": "nanometer"}
    source = tmp_path / "scans" / "a.ome.zarr"
    save(source, noise(shape), axes, version, scale=scale, shift=shift, units=units)
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    scan = read_scan(source)
    labels = np.random.default_rng(1).choice([0, 1, 5], kept).astype(np.int32)
    target = tmp_path / "out" / "a_seg.ome.zarr"
    write_mask(Mask(labels, scan.geometry, LABELS), target, scan)

    mask = read_mask(target)
    assert np.array_equal(mask.array, labels)
    assert mask.array.dtype == np.uint8
    assert mask.geometry.differences(scan.geometry) == ()

    attributes = model_of(target, version).attributes
    attributes = attributes.ome if version == "0.5" else attributes
    entry = attributes.multiscales[0]
    without = axes.replace("c", "")
    assert "".join(axis.name for axis in entry.axes) == without
    assert [axis.unit for axis in entry.axes] == [units.get(letter) for letter in without]
    moves = entry.datasets[0].coordinateTransformations
    assert tuple(moves[0].scale) == tuple(s for s, a in zip(scale, axes, strict=True) if a != "c")
    assert attributes.image_label.source.image == "../../scans/a.ome.zarr"
    # The words of viewers are not in the models.
    raw = zarr.open_group(target, mode="r").attrs.asdict()
    label = (raw["ome"] if version == "0.5" else raw)["image-label"]
    assert label["properties"] == [
        {"label-value": 0, "class": "background"},
        {"label-value": 1, "class": "cell"},
        {"label-value": 5, "class": "nucleus"},
    ]
    assert label["colors"][0]["rgba"] == [0, 0, 0, 0]
    assert len({tuple(each["rgba"]) for each in label["colors"]}) == 3
    assert label["version"] == version
    # Not a byte of the scan has changed.
    assert before == {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    assert sorted(path.name for path in target.parent.iterdir()) == ["a_seg.ome.zarr"]


def test_the_check_above_would_see_wrong_metadata(tmp_path: Path) -> None:
    scan = read_scan(save(tmp_path / "a.zarr", noise((40, 50)), "yx"))
    write_mask(Mask(np.ones((40, 50), int), scan.geometry, LABELS), tmp_path / "m.zarr", scan)
    model_of(tmp_path / "m.zarr", "0.5")
    metadata = tmp_path / "m.zarr" / "zarr.json"
    content = json.loads(metadata.read_text())
    content["attributes"]["ome"]["image-label"]["properties"].pop()
    metadata.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="Inconsistent"):
        model_of(tmp_path / "m.zarr", "0.5")


def test_the_mask_of_another_format_is_0_5(tmp_path: Path) -> None:
    geometry = Geometry.from_spacing((6, 40, 50), (2, 0.5, 0.5), "mm")
    scan = Scan(noise((1, 6, 40, 50)), geometry, ("0",), Source(tmp_path / "a.tif", "tiff"))
    write_mask(Mask(np.ones((6, 40, 50), int), geometry), tmp_path / "m.zarr", scan)
    attributes = model_of(tmp_path / "m.zarr", "0.5").attributes.ome
    assert [axis.unit for axis in attributes.multiscales[0].axes] == ["millimeter"] * 3
    assert read_mask(tmp_path / "m.zarr").geometry.differences(geometry) == ()
    flipped = geometry.flip([1])
    scan = Scan(noise((1, 6, 40, 50)), flipped, ("0",), Source(tmp_path / "a.tif", "tiff"))
    with pytest.raises(DataError, match=r"n\.zarr: an OME-Zarr cannot hold a flipped"):
        write_mask(Mask(np.ones((6, 40, 50), int), flipped), tmp_path / "n.zarr", scan)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_pyramid_keeps_every_second_voxel(tmp_path: Path, version: str) -> None:
    shape = (20, 300, 410)
    labels = np.random.default_rng(1).integers(0, 200, shape).astype(np.uint8)
    source = save(
        tmp_path / "a.zarr", np.zeros((3, 4, 5), "u1"), "zyx", version, scale=(4, 0.5, 0.5)
    )
    scan = read_scan(source)
    axes = tuple(
        type(axis)(axis.name, size, axis.scale, axis.translation, axis.unit)
        for axis, size in zip(scan.source.header.image.axes, shape, strict=True)
    )
    header = type(scan.source.header)(type(scan.source.header.image)(version, "full", axes, ()))
    geometry = Geometry.from_spacing(shape, (4, 0.5, 0.5), "um")
    like = Scan(labels[np.newaxis], geometry, ("0",), Source(source, "ome-zarr", header))
    write_mask(Mask(labels, geometry), tmp_path / "m.zarr", like)
    group = zarr.open_group(tmp_path / "m.zarr", mode="r")
    datasets = model_of(tmp_path / "m.zarr", version).attributes
    datasets = (datasets.ome if version == "0.5" else datasets).multiscales[0].datasets
    # Z waits: its edges of 4 um are longer than twice those of the others until 4 um are reached.
    steps = [(1, 1, 1), (1, 2, 2), (1, 4, 4)]
    assert [tuple(d.coordinateTransformations[0].scale) for d in datasets] == [
        (4.0 * a, 0.5 * b, 0.5 * c) for a, b, c in steps
    ]
    for dataset, (a, b, c) in zip(datasets, steps, strict=True):
        assert np.array_equal(group[dataset.path][:], labels[::a, ::b, ::c])


def test_chunks_are_shards_in_zarr_3_and_files_in_zarr_2(tmp_path: Path) -> None:
    for version, shards in (("0.4", None), ("0.5", (4096, 3072))):
        scan = open_scan(
            save(tmp_path / f"a{version}.zarr", np.zeros((5000, 3000), "u1"), "yx", version)
        )
        file = mask_file(tmp_path / f"m{version}.ome.zarr", scan, np.uint16, LABELS)
        assert file.block == (shards or (1024, 1024))
        file.write((slice(4096, 5000), slice(0, 3000)), np.full((904, 3000), 5))
        file.finish()
        array = zarr.open_array(tmp_path / f"m{version}.ome.zarr" / "0", mode="r")
        assert (array.chunks, array.shards) == ((1024, 1024), shards)
        assert array[4095:4097, 7].tolist() == [0, 5]
        found = zarr.open_group(tmp_path / f"m{version}.ome.zarr", mode="r")
        assert sorted(found.array_keys()) == ["0", "1", "2", "3"]
        assert found["3"].shape == (625, 375)


def test_a_mask_that_is_there_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    scan = read_scan(save(tmp_path / "a.zarr", noise((40, 50)), "yx"))
    for value in (1, 2):
        write_mask(Mask(np.full((40, 50), value), scan.geometry), tmp_path / "m.zarr", scan)
        assert (read_mask(tmp_path / "m.zarr").array == value).all()
    (tmp_path / "other.zarr").mkdir()
    (tmp_path / "other.zarr" / "thesis.docx").write_text("years of work")
    with pytest.raises(DataError, match=r"other\.zarr: something else is here"):
        write_mask(Mask(np.ones((40, 50), int), scan.geometry), tmp_path / "other.zarr", scan)
    assert (tmp_path / "other.zarr" / "thesis.docx").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zarr", "m.zarr", "other.zarr"]


# --- maps


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8", "bool"])
@pytest.mark.parametrize(("axes", "shape"), [("yx", (40, 50)), ("tczyx", (1, 2, 40, 20, 30))])
def test_maps_are_channels(tmp_path: Path, version: str, dtype: str, axes: str, shape: Any) -> None:
    scan = open_scan(
        save(tmp_path / "a.zarr", noise(shape), axes, version, scale=[0.5] * len(axes))
    )
    kept = scan.geometry.shape
    values = np.random.default_rng(3).random((3, *kept), dtype=np.float32)
    target = tmp_path / "maps.ome.zarr"
    file = maps_file(target, scan, ("a", "b", "c"), dtype)
    # Slabs that do not fit the chunks, as they come from a walk along an axis.
    for start in range(0, kept[0], 7):
        box = (slice(start, min(start + 7, kept[0])), *whole_box(kept)[1:])
        file.write(box, values[(slice(None), *box)])
    assert not target.exists()
    file.finish()
    found = read_scan(target)
    assert found.channels == ("a", "b", "c")
    assert found.geometry.differences(scan.geometry) == ()
    shown = found.array / (255 if dtype == "uint8" else 1)
    expected = values > 0.5 if dtype == "bool" else values
    tolerance = {"float32": 0, "float16": 5e-4, "uint8": 0.5 / 255 + 1e-6, "bool": 0}[dtype]
    assert np.abs(shown - expected).max() <= tolerance
    module = ome_zarr_models.v05 if version == "0.5" else ome_zarr_models.v04
    module.image.Image.from_zarr(zarr.open_group(target, mode="r"))


# --- the command line


def evaluated(truth: Path, predicted: Path) -> list[float]:
    """The Dice of every class, by the command line."""
    words = ["-m", "unetseg.cli", "evaluate", str(truth), str(predicted), "--json"]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return [row["dice"] for row in rows if "dice" in row]


def test_masks_are_evaluated_as_files_and_in_folders(tmp_path: Path) -> None:
    scan = read_scan(save(tmp_path / "a.zarr", noise((40, 50)), "yx", scale=(0.5, 0.5)))
    truth = np.zeros((40, 50), np.uint8)
    truth[10:20, 10:20] = 1
    shifted = np.roll(truth, 5, axis=1)
    write_mask(Mask(truth, scan.geometry), tmp_path / "truth" / "a.ome.zarr", scan)
    write_mask(Mask(shifted, scan.geometry), tmp_path / "masks" / "a_seg.ome.zarr", scan)
    # Half of the hundred pixels overlap: 2 * 50 / 200.
    assert evaluated(tmp_path / "truth", tmp_path / "masks") == [0.5]
    one = tmp_path / "truth" / "a.ome.zarr", tmp_path / "masks" / "a_seg.ome.zarr"
    assert evaluated(*one) == [0.5]
    assert evaluated(one[0], one[0]) == [1.0]
