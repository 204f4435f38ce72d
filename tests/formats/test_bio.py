"""CZI files written by Zeiss's library; ND2 and LIF through readers that stand for bioio's.

No library writes ND2 or LIF: their readers are replaced by one with the interface of bioio, so
that axes, names and sizes are tested, and the reading of a genuine file is not.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile

from unetseg.errors import DataError
from unetseg.formats import (
    contents,
    extras,
    format_of,
    open_scan,
    read_mask,
    read_scan,
    write_mask,
)
from unetseg.geometry import whole_box
from unetseg.records import Axes, Mask, View


def noise(shape: tuple[int, ...], dtype: str = "uint16", seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 251, shape).astype(dtype)


# --- CZI

czi = pytest.importorskip("pylibCZIrw.czi")


def save(
    path: Path,
    array: np.ndarray,
    *,
    scale: tuple[float, float, float] | None = (0.2, 0.3, 1.5),
    names: tuple[str, ...] = ("DAPI", "GFP"),
    tiles: tuple[tuple[int, int], ...] = ((0, 0),),
    scenes: int = 1,
    steps: int = 0,
) -> Path:
    """A CZI of an array (T, C, Z, Y, X) or (T, C, Z, Y, X, 3), cut into equal tiles of places.

    steps : by how much each scene is brighter than the one before
    """
    width = array.shape[4] // len(tiles)
    with czi.create_czi(str(path)) as file:
        for t, c, z in np.ndindex(array.shape[:3]):
            for scene in range(scenes):
                for k, (x, y) in enumerate(tiles):
                    part = array[t, c, z, :, k * width : (k + 1) * width]
                    file.write(
                        np.ascontiguousarray(part.reshape(*part.shape[:2], -1) + scene * steps),
                        plane={"T": t, "C": c, "Z": z},
                        location=(x + 1000 * scene, y),
                        scene=scene,
                    )
        sizes = {} if scale is None else {f"scale_{a}": s * 1e-6 for a, s in zip("xyz", scale)}  # noqa: B905
        channels = dict(enumerate(names[: array.shape[1]]))
        file.write_metadata("written for a test", channel_names=channels, **sizes)
    return path


def test_a_stack_with_two_channels(tmp_path: Path) -> None:
    array = noise((1, 2, 3, 40, 50))
    scan = read_scan(save(tmp_path / "a.czi", array))
    assert np.array_equal(scan.array, array[0])
    assert scan.channels == ("DAPI", "GFP")
    assert scan.geometry.spacing == pytest.approx((1.5, 0.3, 0.2))
    assert scan.geometry.unit == "um"
    assert not scan.is_picture


def test_a_plane_is_flat(tmp_path: Path) -> None:
    array = noise((1, 1, 1, 40, 50), "uint8")
    scan = read_scan(save(tmp_path / "a.czi", array))
    assert np.array_equal(scan.array, array[0, :, 0])
    assert scan.geometry.spacing == pytest.approx((0.3, 0.2))


def test_red_comes_first(tmp_path: Path) -> None:
    """A CZI holds blue, green, red."""
    array = noise((1, 1, 1, 40, 50, 3), "uint8")
    scan = read_scan(save(tmp_path / "a.czi", array))
    assert scan.is_picture
    assert scan.channels == ("red", "green", "blue")
    assert np.array_equal(scan.array, np.moveaxis(array[0, 0, 0, ..., ::-1], -1, 0))
    assert not np.array_equal(scan.array, np.moveaxis(array[0, 0, 0], -1, 0))


@pytest.mark.parametrize("colours", [(), (3,)])
def test_tiles_are_joined(tmp_path: Path, colours: tuple[int, ...]) -> None:
    array = noise((1, 1, 1, 40, 60, *colours), "uint8")
    # The third tile lies above the first: the image is 80 high and 40 wide.
    places = ((-7, 5), (13, 5), (-7, -35))
    path = save(tmp_path / "a.czi", array, tiles=places)
    parts = [array[0, 0, 0, :, k * 20 : k * 20 + 20] for k in range(3)]
    expected = np.zeros((80, 40, *colours), np.uint8)
    expected[40:, :20], expected[40:, 20:], expected[:40, :20] = parts
    scan, opened = read_scan(path), open_scan(path)
    stored = np.moveaxis(scan.array, 0, -1)[..., ::-1].reshape(expected.shape)
    seen = np.ones((80, 40), bool)
    # Nothing was written there; what it is filled with is the library's choice.
    seen[:40, 20:] = False
    assert np.array_equal(stored[seen], expected[seen])
    box = slice(30, 50), slice(10, 30)
    assert np.array_equal(opened.read(box), scan.array[(slice(None), *box)])


def test_any_box_is_the_same_box_of_the_whole(tmp_path: Path) -> None:
    path = save(tmp_path / "a.czi", noise((1, 2, 3, 40, 50)))
    opened, scan = open_scan(path), read_scan(path)
    assert opened.block == (1, 40, 50)
    assert opened.dtype == scan.array.dtype
    rng = np.random.default_rng(2)
    for _ in range(20):
        starts = [int(rng.integers(size)) for size in opened.geometry.shape]
        stops = [
            int(rng.integers(a + 1, n + 1))
            for a, n in zip(starts, opened.geometry.shape, strict=True)
        ]
        box = tuple(slice(a, b) for a, b in zip(starts, stops, strict=True))
        assert np.array_equal(opened.read(box), scan.array[(slice(None), *box)])


def test_without_metadata(tmp_path: Path) -> None:
    scan = read_scan(save(tmp_path / "a.czi", noise((1, 2, 3, 40, 50)), scale=None, names=()))
    assert (scan.geometry.spacing, scan.geometry.unit) == ((1, 1, 1), "px")
    assert len(set(scan.channels)) == 2


def test_a_mask_is_an_ome_tiff_with_the_pixel_size(tmp_path: Path) -> None:
    path = save(tmp_path / "a.czi", noise((1, 2, 3, 40, 50)))
    scan = read_scan(path)
    assert format_of(path).mask_suffix(path) == ".ome.tif"
    mask = Mask((scan.array[0] > 100).astype(np.uint8), scan.geometry)
    write_mask(mask, tmp_path / "m.ome.tif", scan)
    back = read_mask(tmp_path / "m.ome.tif")
    assert back.geometry.differences(scan.geometry) == ()
    with tifffile.TiffFile(tmp_path / "m.ome.tif") as tiff:
        assert 'PhysicalSizeX="0.2"' in (tiff.ome_metadata or "")
        assert np.array_equal(tiff.asarray(), mask.array)
    with pytest.raises(DataError, match=r"m\.czi: CZI, ND2 and LIF files are only read"):
        write_mask(mask, tmp_path / "m.czi", scan)


def test_time_points_and_scenes_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "t.czi", noise((2, 1, 1, 40, 50)))
    with pytest.raises(DataError, match=r"t\.czi: 2 time points in one file"):
        open_scan(tmp_path / "t.czi")
    save(tmp_path / "s.czi", noise((1, 1, 1, 40, 50)), scenes=2)
    with pytest.raises(DataError, match=r"s\.czi: 2 scenes in one file"):
        open_scan(tmp_path / "s.czi")


def test_time_points_and_scenes_can_be_chosen(tmp_path: Path) -> None:
    films, array = noise((2, 1, 3, 40, 50)), noise((1, 2, 1, 40, 50), seed=5)
    film = save(tmp_path / "t.czi", films)
    assert contents(film).likely == ("TZYX",)
    for time in range(2):
        scan = read_scan(film, View(time=time))
        assert np.array_equal(scan.array, films[time])
        assert scan.axes == Axes("TCZYX", (2, 1, 3, 40, 50))
    with pytest.raises(DataError, match=r"t\.czi: no time point 2"):
        open_scan(film, View(time=2))
    several = save(tmp_path / "s.czi", array, scenes=2, steps=7)
    assert contents(several).scenes == ("0", "1")
    for scene in range(2):
        scan = read_scan(several, View(scene=scene))
        assert np.array_equal(scan.array, array[0, :, 0] + 7 * scene)
    with pytest.raises(DataError, match=r"s\.czi: no scene 2 \(expected 0 to 1\)"):
        open_scan(several, View(scene=2))


def test_axes_are_those_of_the_file(tmp_path: Path) -> None:
    path = save(tmp_path / "a.czi", noise((1, 2, 3, 40, 50)))
    assert np.array_equal(read_scan(path, View(axes="CZYX")).array, read_scan(path).array)
    with pytest.raises(DataError, match="the axes of bio files are fixed"):
        open_scan(path, View(axes="ZCYX"))


@pytest.mark.parametrize(
    ("name", "library"), [("a.czi", "pylibCZIrw"), ("a.nd2", "bioio_nd2"), ("a.lif", "bioio_lif")]
)
def test_a_damaged_file(tmp_path: Path, name: str, library: str) -> None:
    pytest.importorskip(library)
    (tmp_path / name).write_bytes(b"GARBAGE" * 99)
    with pytest.raises(DataError, match=rf"a\.{name[2:]}: not a readable bio file"):
        open_scan(tmp_path / name)


# --- ND2 and LIF, by a reader with bioio's interface


class Reader:
    """What bioio's plugins offer of a file, as far as it is used."""

    def __init__(
        self,
        array: np.ndarray,
        axes: str,
        *,
        sizes: tuple[float | None, ...] = (1.5, 0.3, 0.2),
        names: list[str] | None = None,
        scenes: tuple[str, ...] = ("one",),
    ) -> None:
        dask_array, xarray = pytest.importorskip("dask.array"), pytest.importorskip("xarray")
        lazy = dask_array.from_array(array, chunks=(*(1,) * (array.ndim - 2), *array.shape[-2:]))
        self.xarray_dask_data = xarray.DataArray(lazy, dims=list(axes))
        self.mosaic_xarray_dask_data = self.xarray_dask_data
        self.dims = SimpleNamespace(order=axes)
        self.scene = 0
        self.channel_names = names
        self.physical_pixel_sizes = SimpleNamespace(**dict(zip("ZYX", sizes, strict=True)))
        self.scenes = scenes

    def set_scene(self, scene: int) -> None:
        self.xarray_dask_data = self.xarray_dask_data + 100 * (scene - self.scene)
        self.scene = scene


@pytest.fixture
def standing_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def put(suffix: str, reader: Reader) -> Path:
        """A file at whose place the reader is found."""

        def opened(path: str, **options: Any) -> Reader:
            assert path == str(tmp_path / f"a{suffix}")
            return reader

        plugin = SimpleNamespace(Reader=opened)
        monkeypatch.setattr(extras, "import_module", lambda name: plugin)
        (tmp_path / f"a{suffix}").write_bytes(b"not looked at")
        return tmp_path / f"a{suffix}"

    return put


@pytest.mark.parametrize("suffix", [".nd2", ".lif"])
@pytest.mark.parametrize(
    ("axes", "shape", "expected"),
    [
        ("TCZYX", (1, 2, 3, 4, 5), (2, 3, 4, 5)),
        ("TZCYX", (1, 3, 2, 4, 5), (2, 3, 4, 5)),
        ("ZYX", (3, 4, 5), (1, 3, 4, 5)),
        ("CYX", (2, 4, 5), (2, 4, 5)),
        ("YX", (4, 5), (1, 4, 5)),
        ("TCZYX", (1, 1, 1, 4, 5), (1, 4, 5)),
        ("TCZYXS", (1, 1, 1, 4, 5, 3), (3, 4, 5)),
        ("CYXS", (1, 4, 5, 4), (3, 4, 5)),
        ("RTCZYX", (1, 1, 2, 3, 4, 5), (2, 3, 4, 5)),
    ],
)
def test_axes_by_their_names(
    standing_in: Any, suffix: str, axes: str, shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    array = noise(shape)
    path = standing_in(suffix, Reader(array, axes))
    scan, opened = read_scan(path), open_scan(path)
    assert scan.array.shape == expected
    # numpy does the same by the letters.
    lead = "S" if "S" in axes else "C"
    wanted = [letter for letter in (lead, "Z", "Y", "X") if letter in axes]
    rest = [letter for letter in axes if letter not in wanted]
    ordered = array.transpose([axes.index(letter) for letter in (*rest, *wanted)])
    if lead == "S":
        ordered = np.moveaxis(ordered, wanted.index("S") + len(rest), 0)[:3]
    assert np.array_equal(scan.array, ordered.reshape(expected))
    assert scan.is_picture == ("S" in axes)
    assert np.array_equal(opened.read(whole_box(expected[1:])), scan.array)
    box = tuple(slice(1, n) for n in expected[1:])
    assert np.array_equal(opened.read(box), scan.array[(slice(None), *box)])


@pytest.mark.parametrize(
    ("suffix", "sizes", "spacing", "unit"),
    [
        (".lif", (1.5, 0.3, 0.2), (1.5, 0.3, 0.2), "um"),
        (".lif", (None, 0.3, 0.2), (0.2, 0.3, 0.2), "um"),
        (".lif", (None, None, None), (1, 1, 1), "px"),
        (".lif", (2.0, 0.0, 0.0), (1, 1, 1), "px"),
        (".lif", (2.0, None, 0.4), (2.0, 0.4, 0.4), "um"),
        (".lif", (2.0, 1.0, 1.0), (2.0, 1.0, 1.0), "um"),
        # nd2 says so of files that nobody calibrated.
        (".nd2", (1.0, 1.0, 1.0), (1, 1, 1), "px"),
        (".nd2", (1.0, 0.5, 0.5), (1.0, 0.5, 0.5), "um"),
    ],
)
def test_pixel_sizes(standing_in: Any, suffix: str, sizes: Any, spacing: Any, unit: str) -> None:
    path = standing_in(suffix, Reader(noise((3, 4, 5)), "ZYX", sizes=sizes))
    geometry = open_scan(path).geometry
    assert geometry.spacing == pytest.approx(spacing)
    assert geometry.unit == unit


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["DAPI", "GFP"], ("DAPI", "GFP")),
        (["DAPI", "DAPI"], ("0", "1")),
        (["DAPI"], ("0", "1")),
        (None, ("0", "1")),
        (["DAPI", " "], ("0", "1")),
    ],
)
def test_channel_names(
    standing_in: Any, names: list[str] | None, expected: tuple[str, ...]
) -> None:
    path = standing_in(".nd2", Reader(noise((2, 4, 5)), "CYX", names=names))
    assert open_scan(path).channels == expected


@pytest.mark.parametrize(
    ("axes", "shape", "scenes", "message"),
    [
        ("TYX", (3, 4, 5), ("one",), r"3 time points in one file are not one image"),
        ("YX", (4, 5), ("A1", "A2", "A3", "A4", "A5"), r"5 scenes .*: A1, A2, A3, A4 and 1 more"),
        ("HYX", (3, 4, 5), ("one",), r"axes that are not those of an image .*got H of 3, Y of 4"),
        ("CYXS", (2, 4, 5, 3), ("one",), r"2 channels of 3 colours"),
    ],
)
def test_what_is_no_single_image_is_refused(
    standing_in: Any, axes: str, shape: tuple[int, ...], scenes: tuple[str, ...], message: str
) -> None:
    path = standing_in(".nd2", Reader(noise(shape), axes, scenes=scenes))
    with pytest.raises(DataError, match=rf"a\.nd2: {message}"):
        open_scan(path)


@pytest.mark.parametrize("suffix", [".nd2", ".lif"])
def test_a_scene_and_a_time_point_of_many(standing_in: Any, suffix: str) -> None:
    array = noise((3, 4, 5))
    path = standing_in(suffix, Reader(array, "TYX", scenes=("A1", "A2")))
    found = contents(path)
    assert (found.shape, found.likely, found.scenes) == ((3, 4, 5), ("TYX",), ("A1", "A2"))
    path = standing_in(suffix, Reader(array, "TYX", scenes=("A1", "A2")))
    scan = read_scan(path, View(time=2, scene=1))
    assert np.array_equal(scan.array[0], array[2] + 100)
