"""The outline on the scan: where it is, how wide, and in which colour."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_erosion
from skimage.segmentation import expand_labels

from unetseg.formats import open_scan
from unetseg.geometry import Geometry, Unit
from unetseg.pages import thinning
from unetseg.pages.colouring import coloured
from unetseg.records import Case, Mask, Scan, Source
from unetseg.viewer.overlay import COLOURS, overlay, write_overlay

# Larger than the smallest edge, so that a voxel is a pixel.
SIZE = 400
CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=bool)


def flat_scan(geometry: Geometry) -> Scan:
    """A dark scan with a few bright voxels, grey everywhere."""
    array = np.zeros((1, *geometry.shape), dtype=np.float32)
    array[..., ::7] = 50
    return Scan(array, geometry, ("0",), Source(Path("x"), "none"))


def tinted(picture: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (picture == colour).all(-1)
    return found


def is_grey(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (picture == picture[..., :1]).all(-1)
    return found


def drawn(labels: NDArray[np.int_]) -> NDArray[np.uint8]:
    geometry = Geometry.from_spacing(labels.shape, (1.0,) * labels.ndim, "px")
    return overlay(flat_scan(geometry), Mask(labels, geometry))


def test_the_outline_is_the_inner_edge_one_pixel_wide() -> None:
    rows, columns = np.mgrid[:SIZE, :SIZE]
    disc = np.hypot(rows - 180, columns - 220) < 60
    picture = drawn(disc.astype(np.uint8))
    assert picture.shape == (SIZE, SIZE, 3)
    outline = tinted(picture, COLOURS[0])
    # By another library's morphology: the disc without its erosion is one pixel wide.
    np.testing.assert_array_equal(outline, disc & ~binary_erosion(disc, CROSS))
    np.testing.assert_array_equal(is_grey(picture), ~outline)


def test_a_square_of_known_length() -> None:
    labels = np.zeros((SIZE, SIZE), dtype=np.uint16)
    labels[100:150, 200:280] = 8
    # Two sides of 80, two of 50, the corners counted once.
    assert tinted(drawn(labels), COLOURS[0]).sum() == 2 * 80 + 2 * 50 - 4


def test_every_class_has_its_colour_whatever_else_is_there() -> None:
    labels = np.zeros((SIZE, SIZE), dtype=np.uint16)
    labels[50:100, 50:100] = 3
    labels[200:250, 50:100] = 255
    labels[200:250, 200:250] = 1000
    picture = drawn(labels)
    for value, colour in ((3, COLOURS[2]), (255, COLOURS[2]), (1000, COLOURS[5])):
        region = labels == value
        np.testing.assert_array_equal(
            tinted(picture, colour) & region, region & ~binary_erosion(region, CROSS)
        )
    assert len(set(COLOURS)) == len(COLOURS)
    assert not any(len(set(colour)) == 1 for colour in COLOURS)


def test_touching_classes_are_told_apart() -> None:
    labels = np.zeros((SIZE, SIZE), dtype=np.uint8)
    labels[100:200, 100:150], labels[100:200, 150:200] = 1, 2
    picture = drawn(labels)
    assert tinted(picture, COLOURS[0])[150, 149]
    assert tinted(picture, COLOURS[1])[150, 150]
    assert is_grey(picture)[150, [125, 148, 151, 175]].all()


def test_without_a_mask_there_is_no_outline() -> None:
    assert is_grey(drawn(np.zeros((SIZE, SIZE), dtype=np.uint8))).all()


def test_a_small_image_is_enlarged_and_its_outline_is_not() -> None:
    labels = np.zeros((40, 20), dtype=np.uint8)
    labels[10:20, 5:15] = 1
    picture = drawn(labels)
    # 384 / 40 is nearest to 10.
    assert picture.shape == (400, 200, 3)
    outline = tinted(picture, COLOURS[0])
    assert outline.sum() == 4 * 100 - 4
    rows, columns = np.nonzero(outline)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (100, 199, 50, 149)


def test_long_voxels_become_square_pixels() -> None:
    geometry = Geometry.from_spacing((200, 400), (2.0, 1.0), "um")
    labels = np.zeros(geometry.shape, dtype=np.uint8)
    labels[50:100, 100:200] = 1
    picture = overlay(flat_scan(geometry), Mask(labels, geometry))
    assert picture.shape == (400, 400, 3)
    assert tinted(picture, COLOURS[0]).sum() == 4 * 100 - 4


def test_a_colour_picture_keeps_its_colours() -> None:
    geometry = Geometry.from_spacing((SIZE, SIZE), (1.0, 1.0), "px")
    array = np.zeros((3, SIZE, SIZE), dtype=np.uint8)
    array[0] = 200
    array[1, :, :10] = 100
    source = Source(Path("x"), "none")
    scan = Scan(array, geometry, ("red", "green", "blue"), source, is_picture=True)
    picture = overlay(scan, Mask(np.zeros((SIZE, SIZE), dtype=np.uint8), geometry))
    assert (picture[..., 0] > picture[..., 1]).all()
    assert not is_grey(picture).any()


def test_a_volume_gives_three_slices_through_the_fullest_planes() -> None:
    labels = np.zeros((30, 390, 400), dtype=np.uint8)
    labels[10:22, 200:260, 300:370] = 1
    picture = drawn(labels)
    # Planes across axes 0, 1 and 2, side by side with gaps.
    assert picture.shape == (390, 400 + 400 + 390 + 2 * 6, 3)
    sides = 2 * (60 + 70) - 4, 2 * (12 + 70) - 4, 2 * (12 + 60) - 4
    assert tinted(picture, COLOURS[0]).sum() == sum(sides)


@pytest.mark.parametrize("flip", [(1, 1, 1), (-1, 1, 1), (-1, -1, 1), (1, 1, -1)])
def test_a_body_is_drawn_the_same_however_its_axes_are_stored(
    tmp_path: Path, flip: tuple[int, int, int]
) -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(size=(20, 24, 28)).astype(np.float32)
    labels = np.zeros(image.shape, dtype=np.uint8)
    labels[4:9, 3:11, 12:25] = 1

    def picture(signs: tuple[int, int, int], name: str) -> NDArray[np.uint8]:
        affine = np.diag([*signs, 1.0])
        axes = tuple(axis for axis in range(3) if signs[axis] < 0)
        for part, array in (("scan", image), ("mask", labels)):
            volume = nib.Nifti1Image(np.flip(array, axes).copy(), affine)
            volume.header.set_xyzt_units("mm")
            nib.save(volume, tmp_path / f"{name}_{part}.nii.gz")
        target = tmp_path / f"{name}.png"
        case = Case("case", (tmp_path / f"{name}_scan.nii.gz",))
        write_overlay(case, tmp_path / f"{name}_mask.nii.gz", target)
        with Image.open(target) as opened:
            assert opened.format == "PNG"
            return np.asarray(opened)

    straight, turned = picture((1, 1, 1), "straight"), picture(flip, "turned")
    np.testing.assert_array_equal(straight, turned)
    assert not np.array_equal(straight, straight[::-1])


def test_a_large_scan_is_shown_thinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every third voxel, read box by box: what is drawn is what the whole files would show."""
    rng = np.random.default_rng(0)
    scan = rng.integers(0, 200, (300, 400)).astype(np.uint8)
    mask = np.zeros((300, 400), np.uint8)
    mask[60:210, 90:300] = 1
    for name, array in (("scan", scan), ("mask", mask)):
        tifffile.imwrite(tmp_path / f"{name}.tif", array, tile=(16, 16), compression="deflate")
    opened = open_scan(tmp_path / "scan.tif")
    assert thinning.thinned(opened) is None
    monkeypatch.setattr(thinning, "_LONGEST_EDGE", 150)
    monkeypatch.setattr(thinning, "_AT_ONCE", 50)
    few = thinning.thinned(opened)
    assert few is not None
    np.testing.assert_array_equal(few.array[0], scan[::2, ::3])
    assert few.geometry.spacing == pytest.approx((2, 400 / 134))
    write_overlay(Case("scan", (tmp_path / "scan.tif",)), tmp_path / "mask.tif", tmp_path / "o.png")
    picture = np.asarray(Image.open(tmp_path / "o.png"))
    outline = tinted(picture, COLOURS[0])
    rows, columns = np.nonzero(outline)
    scale = picture.shape[0] / 300
    assert rows.min() == pytest.approx(60 * scale, abs=3 * scale)
    assert columns.max() == pytest.approx(299 * scale, abs=4 * scale)
    assert not outline[
        rows.min() + 20 : rows.max() - 20, columns.min() + 20 : columns.max() - 20
    ].any()


# --- objects -----------------------------------------------------------------------------------


def shown(ids: NDArray[np.integer]) -> NDArray[np.uint8]:
    geometry = Geometry.from_spacing(ids.shape, (1.0,) * ids.ndim, "px")
    return overlay(flat_scan(geometry), Mask(ids, geometry), has_objects=True)


def crowd(seed: int, count: int, size: int = SIZE) -> NDArray[np.int32]:
    """Ids that fill the plane, as those of cells in a tissue."""
    rng = np.random.default_rng(seed)
    markers = np.zeros((size, size), np.int32)
    markers[tuple(rng.integers(0, size, (2, count)))] = np.arange(1, count + 1)
    return expand_labels(markers, size)


def touching(ids: NDArray[np.integer]) -> set[tuple[int, int]]:
    """Pairs that share an edge or a corner, voxel by voxel."""
    found = set()
    for (row, column), value in np.ndenumerate(ids):
        for other in ids[row : row + 2, max(0, column - 1) : column + 2].flat:
            if 0 < value != other > 0:
                found.add((min(value, other), max(value, other)))
    return found


def test_every_object_is_outlined_inside() -> None:
    ids = crowd(0, 60)
    ids[:, 300:] = 0
    picture = shown(ids)
    edge = np.zeros(ids.shape, bool)
    for value in np.unique(ids[ids > 0]):
        own = ids == value
        # By another library: an object without its erosion, the picture's rim being no edge.
        edge |= own & ~binary_erosion(own, CROSS, border_value=1)
    np.testing.assert_array_equal(is_grey(picture), ~edge)


@pytest.mark.parametrize("seed", range(3))
def test_neighbours_have_different_colours(seed: int) -> None:
    ids = crowd(seed, 300, 120)
    colours = coloured([ids], 300)
    pairs = touching(ids)
    assert len(pairs) > 700
    assert all(colours[a] != colours[b] for a, b in pairs)
    # Counted through, as classes are, some would share theirs.
    assert any(a % len(COLOURS) == b % len(COLOURS) for a, b in pairs)
    assert len(set(colours[1:].tolist())) == len(COLOURS)
    np.testing.assert_array_equal(coloured([ids], 300), colours)


def test_a_narrow_gap_does_not_make_strangers() -> None:
    ids = np.zeros((40, 40), np.int32)
    for number in range(64):
        row, column = divmod(number, 8)
        ids[5 * row : 5 * row + 3, 5 * column : 5 * column + 3] = number + 1
    colours = coloured([ids], 64)
    grid = colours[1:].reshape(8, 8)
    assert (grid[1:] != grid[:-1]).all()
    assert (grid[:, 1:] != grid[:, :-1]).all()


def test_an_object_has_one_colour_in_all_slices() -> None:
    ids = np.zeros((60, 390, 400), np.uint16)
    ids[10:30, 100:150, 100:150], ids[10:30, 150:200, 100:150] = 500, 80
    picture = shown(ids)
    found = {tuple(c) for c in picture[~is_grey(picture)].tolist()}
    assert len(found) == 2


def test_a_clique_shares_colours_only_where_they_do_not_suffice() -> None:
    """Eleven objects that all touch in one slice or another: seven colours, each taken."""
    pairs = [(a, b) for a in range(1, 12) for b in range(1, a)]
    slices = [np.array([[a, b]]) for a, b in pairs]
    colours = coloured(slices, 11)
    assert set(colours[1:].tolist()) == set(range(len(COLOURS)))


@pytest.mark.real
def test_the_overlay_of_objects_of_real_nuclei(real_data: Path, tmp_path: Path) -> None:
    for folder in ("nuclei_fluo", "nuclei_stained"):
        label = sorted((real_data / folder / "labels").iterdir())[4]
        image = real_data / folder / "images" / label.name
        target = tmp_path / f"{folder}.png"
        write_overlay(Case("a", (image,)), label, target, has_objects=True)
        again = tmp_path / "again.png"
        write_overlay(Case("a", (image,)), label, again, has_objects=True)
        assert target.read_bytes() == again.read_bytes()
        picture = np.asarray(Image.open(target))
        assert sum(tinted(picture, colour).any() for colour in COLOURS) > 3


@pytest.mark.parametrize(("unit", "edge", "words"), [("mm", 0.5, 50.0), ("um", 2.0, 200.0)])
def test_a_bar_of_a_round_length(unit: Unit, edge: float, words: float) -> None:
    """Of 400 pixels the bar takes a quarter at most."""
    geometry = Geometry.from_spacing((SIZE, SIZE), (edge, edge), unit)
    none = np.zeros((SIZE, SIZE), np.uint8)
    dark = Scan(np.zeros((1, SIZE, SIZE), np.uint8), geometry, ("0",), Source(Path("x"), "none"))
    picture = overlay(dark, Mask(none, geometry))
    (line,) = np.flatnonzero((picture == 255).all(-1).sum(1) > 40)
    row = np.flatnonzero((picture[line] == 255).all(-1))
    assert line == SIZE - 6
    assert (row[-1] - row[0]) * edge == pytest.approx(words)
    # Where the size of a pixel is not known, nothing claims to know it.
    unknown = Geometry.from_spacing((SIZE, SIZE), (1.0, 1.0), "px")
    bare = Scan(dark.array, unknown, ("0",), dark.source)
    assert not overlay(bare, Mask(none, unknown)).any()
