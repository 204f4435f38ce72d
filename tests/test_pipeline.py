"""The mask lies on the scan: whatever the affine, the sizes and the number of axes."""

import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from whole import restored

from unetseg.config import IGNORED, DataPlan
from unetseg.errors import ModelError
from unetseg.formats import read_mask, read_scan, write_mask
from unetseg.geometry import Geometry
from unetseg.pipeline import class_indices, place, prepare, prepare_truth
from unetseg.pipeline.restoring import interpolated
from unetseg.records import Mask, Scan, Source

QUICK = settings(max_examples=40, deadline=None)
CLASSES = 4


def data_plan(axes, **changes):
    values = {
        "task": "semantic",
        "dimensions": axes,
        "channels": ("0",),
        "unit": "mm",
        "orientation": "canonical",
        "normalisation": "zscore",
        "class_names": ("background", "a", "b", "c"),
        "class_values": (0, 1, 2, 3),
    }
    return DataPlan(**{**values, **changes})


def scan_of(array, geometry, channels=("0",)):
    return Scan(array, geometry, channels, Source(Path("made-up.nii"), "nifti"))


def turn(axes, angles):
    matrix = np.eye(axes)
    for (a, b), angle in zip([(0, 1), (0, 2), (1, 2)], angles, strict=False):
        if b < axes:
            plane = np.eye(axes)
            plane[a, a] = plane[b, b] = np.cos(angle)
            plane[a, b], plane[b, a] = -np.sin(angle), np.sin(angle)
            matrix = matrix @ plane
    return matrix


@st.composite
def grids(draw, smallest=1, largest=9):
    """Oblique, flipped, permuted, anisotropic, of any size."""
    axes = draw(st.sampled_from([2, 3]))
    shape = draw(st.tuples(*[st.integers(smallest, largest)] * axes))
    edges = draw(st.tuples(*[st.floats(0.2, 6)] * axes))
    signs = draw(st.tuples(*[st.sampled_from([-1.0, 1.0])] * axes))
    order = list(draw(st.permutations(range(axes))))
    affine = np.eye(axes + 1)
    angles = draw(st.tuples(*[st.floats(-3, 3)] * 3))
    affine[:-1, :-1] = (turn(axes, angles) @ np.diag(signs) @ np.diag(edges))[:, order]
    affine[:-1, -1] = draw(st.tuples(*[st.floats(-300, 300)] * axes))
    return Geometry(shape, affine, "mm")


def random_labels(shape, seed):
    return np.random.default_rng(seed).integers(0, CLASSES, shape).astype(np.uint8)


def one_hot(indices):
    """What a network that is always right would say."""
    return torch.nn.functional.one_hot(indices, CLASSES).movedim(-1, 0).float()


def there_and_back(labels, grid, data):
    scan = scan_of(labels[None].astype(np.float32), grid)
    prepared = prepare(scan, data)
    truth = prepare_truth(Mask(labels, grid), data, prepared.placement)
    assert tuple(prepared.image.shape) == (1, *prepared.placement.grid.shape)
    assert tuple(truth.shape) == prepared.placement.grid.shape
    outputs = restored(one_hot(truth), prepared.placement)
    assert tuple(outputs.shape) == (CLASSES, *grid.shape)
    return outputs.argmax(0).numpy(), prepared


# --- the law ---


@pytest.mark.parametrize("orientation", ["canonical", "as_read"])
@pytest.mark.parametrize("own_spacing", [True, False], ids=["named spacing", "no spacing"])
@given(grid=grids(), seed=st.integers(0, 99))
@QUICK
def test_on_its_own_grid_every_label_comes_back_to_its_place(orientation, own_spacing, grid, seed):
    labels = random_labels(grid.shape, seed)
    data = data_plan(grid.ndim, orientation=orientation)
    if own_spacing:
        order = grid.canonical()[0] if orientation == "canonical" else range(grid.ndim)
        spacing = tuple(grid.spacing[axis] for axis in order)
        data = data_plan(grid.ndim, orientation=orientation, spacing=spacing)
    back, prepared = there_and_back(labels, grid, data)
    np.testing.assert_array_equal(back, labels)
    assert prepared.placement.scan.differences(grid) == ()


def test_labels_in_another_place_would_be_seen():
    """The negative twin: restoring by the placement of the mirrored scan."""
    labels = random_labels((5, 6, 7), 0)
    grid = Geometry.from_spacing((5, 6, 7), (1, 2, 3), "mm")
    data = data_plan(3)
    right, wrong = place(grid, data), place(grid.flip([1]), data)
    outputs = one_hot(prepare_truth(Mask(labels, grid), data, right))
    assert (restored(outputs, right).argmax(0).numpy() == labels).all()
    assert not (restored(outputs, wrong).argmax(0).numpy() == labels).all()


@given(grid=grids(), seed=st.integers(0, 99))
@QUICK
def test_every_voxel_of_the_plans_grid_lies_where_it_lay(grid, seed):
    """By position in space, computed here: the value there is the value that the scan has there."""
    values = np.random.default_rng(seed).uniform(0, 200, grid.shape).astype(np.float32)
    data = data_plan(
        grid.ndim,
        normalisation="clip_zscore",
        clip=((0.0, 255.0),),
        mean=(0.0,),
        std=(1.0,),
    )
    prepared = prepare(scan_of(values[None], grid), data)
    placed = prepared.placement.grid
    inverse = np.linalg.inv(grid.affine)
    for index in list(np.ndindex(*placed.shape))[::5]:
        voxel = inverse @ placed.affine @ np.array([*index, 1.0])
        nearest = tuple(np.round(voxel[:-1]).astype(int))
        np.testing.assert_allclose(voxel[:-1], nearest, atol=1e-6)
        assert float(prepared.image[(0, *index)]) == pytest.approx(values[nearest], abs=1e-3)


@given(grid=grids(smallest=4), finer=st.floats(0.4, 0.95))
@QUICK
def test_a_slope_in_space_stays_that_slope_after_resampling(grid, finer):
    """Half a voxel of shift would show: interpolating a linear function is exact."""
    direction = np.array([1.0, -2.0, 0.5])[: grid.ndim]
    index = np.indices(grid.shape).reshape(grid.ndim, -1)
    position = grid.affine[:-1, :-1] @ index + grid.affine[:-1, -1:]
    height = (direction @ position).reshape(grid.shape)
    low, high = height.min() - 1, height.max() + 1
    order = grid.canonical()[0]
    data = data_plan(
        grid.ndim,
        spacing=tuple(grid.spacing[axis] * finer for axis in order),
        normalisation="clip_zscore",
        clip=((low, high),),
        mean=(0.0,),
        std=(1.0,),
    )
    prepared = prepare(scan_of(height[None], grid), data)
    placed = prepared.placement.grid
    inverse = np.linalg.inv(grid.affine)
    checked = 0
    for index in np.ndindex(*placed.shape):
        place_ = placed.affine @ np.array([*index, 1.0])
        voxel = (inverse @ place_)[:-1]
        if (voxel >= 0).all() and (voxel <= np.array(grid.shape) - 1).all():
            expected = float(direction @ place_[:-1])
            assert float(prepared.image[(0, *index)]) == pytest.approx(
                expected, abs=1e-4 * (high - low)
            )
            checked += 1
    assert checked > 0


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


@given(grid=grids(smallest=18, largest=26), data=st.data())
@settings(max_examples=25, deadline=None)
def test_large_structures_survive_resampling(grid, data):
    factors = [data.draw(st.floats(0.6, 1.3)) for _ in grid.shape]
    index = np.indices(grid.shape)
    apart = sum(
        ((axis - 0.55 * n) / (0.33 * n)) ** 2 for axis, n in zip(index, grid.shape, strict=True)
    )
    labels = (apart <= 1).astype(np.uint8)
    order = grid.canonical()[0]
    spacing = tuple(
        grid.spacing[axis] * factor for axis, factor in zip(order, factors, strict=True)
    )
    back, prepared = there_and_back(labels, grid, data_plan(grid.ndim, spacing=spacing))
    there = dice(back == 1, labels == 1)
    assert there > 0.9
    # Mirrored, the off-centre body would not fit.
    assert dice(np.flip(back == 1), labels == 1) < there
    placed = prepared.placement.grid
    edges = np.array(placed.spacing) * placed.shape
    np.testing.assert_allclose(edges, [grid.spacing[a] * grid.shape[a] for a in order])


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@given(grid=grids(largest=6), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_the_law_through_files(tmp_path_factory, suffix, grid, seed):
    folder = tmp_path_factory.mktemp("law")
    if grid.ndim == 2:
        # A single slice in space, as a scanner exports it.
        affine = np.eye(4)
        affine[:2, :2], affine[:2, 3], affine[2, 2] = grid.affine[:2, :2], grid.affine[:2, 2], 2.0
        shape = (*grid.shape, 1)
    else:
        affine, shape = grid.affine, grid.shape
    labels = random_labels(shape, seed)
    image = nib.Nifti1Image(labels.astype(np.float32), affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(None, 0)
    nib.save(image, folder / f"scan{suffix}")

    scan = read_scan(folder / f"scan{suffix}")
    data = data_plan(scan.geometry.ndim)
    drawn = labels.reshape(scan.geometry.shape)
    back, prepared = there_and_back(drawn, scan.geometry, data)
    mask = Mask(back.astype(np.uint8), prepared.placement.scan)
    assert scan.geometry.differences(mask.geometry) == ()
    write_mask(mask, folder / f"mask{suffix}", scan)

    again = read_mask(folder / f"mask{suffix}")
    assert scan.geometry.differences(again.geometry) == ()
    np.testing.assert_array_equal(again.array, drawn)
    # And as nibabel sees the two files.
    one, other = nib.load(folder / f"scan{suffix}"), nib.load(folder / f"mask{suffix}")
    np.testing.assert_array_equal(one.affine, other.affine)
    assert one.shape == other.shape
    np.testing.assert_array_equal(np.asarray(other.dataobj), labels)


def test_a_scan_of_another_dimension_is_refused():
    grid = Geometry.from_spacing((5, 6), (1, 1), "mm")
    with pytest.raises(ModelError, match=r"another number of axes .*expected 3, got 2, shape"):
        place(grid, data_plan(3))


def test_thin_scans_keep_a_voxel():
    grid = Geometry.from_spacing((5, 6, 1), (1, 1, 0.5), "mm")
    assert place(grid, data_plan(3, spacing=(1.0, 1.0, 9.0))).grid.shape == (5, 6, 1)


# --- outputs go back before any argmax ---


def test_outputs_are_interpolated_on_the_way_back():
    """Two voxels with 0 and 1, restored to four: 0, 0.25, 0.75, 1 at the new centres."""
    grid = Geometry.from_spacing((4, 3), (1.0, 1.0), "mm")
    data = data_plan(2, spacing=(2.0, 1.0))
    placement = place(grid, data)
    outputs = torch.tensor([0.0, 1.0])[None, :, None].expand(1, 2, 3)
    box = tuple(slice(0, size) for size in grid.shape)
    where = tuple(slice(0, size) for size in placement.grid.shape)
    fine = interpolated(outputs.movedim(0, -1), where, placement.to_turned, box)
    expected = torch.tensor([0.0, 0.25, 0.75, 1.0])[:, None].expand(4, 3)
    torch.testing.assert_close(fine[0], expected)


# --- intensity ---


def prepared_image(array, **changes):
    array = np.asarray(array)
    axes = array.ndim - 1
    grid = Geometry.from_spacing(array.shape[1:], (1.0,) * axes, "mm")
    channels = tuple(str(i) for i in range(len(array)))
    data = data_plan(axes, orientation="as_read", channels=channels, **changes)
    image = prepare(scan_of(array, grid, channels), data).image
    assert image.dtype == torch.float32
    return image.numpy()


VALUES = np.random.default_rng(0).normal(30, 10, (2, 12, 11))
VALUES[1] = VALUES[1] * 4 - 70
VALUES[0, :6] = 0


def test_zscore_is_per_channel():
    expected = [(c - c.mean()) / c.std() for c in VALUES]
    np.testing.assert_allclose(prepared_image(VALUES, normalisation="zscore"), expected, atol=1e-4)


def test_zscore_nonzero_counts_and_changes_only_what_is_not_zero():
    expected = np.zeros_like(VALUES)
    for channel, result in zip(VALUES, expected, strict=True):
        inside = channel != 0
        result[inside] = (channel[inside] - channel[inside].mean()) / channel[inside].std()
    got = prepared_image(VALUES, normalisation="zscore_nonzero")
    np.testing.assert_allclose(got, expected, atol=1e-4)
    assert not got[0, :6].any()
    assert not np.allclose(got, prepared_image(VALUES, normalisation="zscore"))


def test_clip_zscore_uses_the_plans_numbers():
    clip, mean, std = ((5.0, 40.0), (-50.0, 60.0)), (20.0, 3.0), (8.0, 50.0)
    expected = [
        (np.clip(c, low, high) - m) / s
        for c, (low, high), m, s in zip(VALUES, clip, mean, std, strict=True)
    ]
    got = prepared_image(VALUES, normalisation="clip_zscore", clip=clip, mean=mean, std=std)
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_clip_zscore_with_equal_limits():
    """A foreground of one value: everything becomes that value, and no warning is given."""
    got = prepared_image(
        VALUES[1:], normalisation="clip_zscore", clip=((7.0, 7.0),), mean=(7.0,), std=(1.0,)
    )
    assert not got.any()


def test_percentile_makes_dark_0_and_bright_1_and_cuts_nothing_off():
    expected = []
    for channel in VALUES:
        low, high = np.percentile(channel, [1.0, 99.8])
        expected.append((channel - low) / (high - low))
    got = prepared_image(VALUES, normalisation="percentile")
    np.testing.assert_allclose(got, expected, atol=1e-4)
    assert got.max() > 1


def test_percentile_of_an_image_with_few_specks_uses_the_full_range():
    array = np.zeros((1, 100, 100))
    array[0, 5, 5], array[0, 6, 6] = 10, 20
    got = prepared_image(array, normalisation="percentile")
    np.testing.assert_allclose(got, array / 20, atol=1e-6)


@pytest.mark.parametrize("value", [0, 7, -3])
@pytest.mark.parametrize("kind", ["zscore", "zscore_nonzero", "percentile"])
def test_a_constant_channel_becomes_zero_and_spoils_no_other(kind, value):
    array = np.stack([np.full((12, 11), value), VALUES[1]])
    got = prepared_image(array, normalisation=kind)
    np.testing.assert_allclose(got[0], 0, atol=1e-6)
    np.testing.assert_allclose(got[1], prepared_image(VALUES[1:], normalisation=kind)[0], atol=1e-6)
    assert got[1].std() > 0.1
    np.testing.assert_allclose(prepared_image(array[:1], normalisation=kind), 0, atol=1e-6)


@pytest.mark.parametrize(
    "dtype", ["u1", "i1", "<u2", ">u2", "<i2", ">i2", "<u4", ">i4", "<i8", "<u8", ">f4", "<f8", "?"]
)
def test_every_type_that_a_file_may_have(dtype):
    array = (np.random.default_rng(0).integers(0, 2, (1, 5, 6, 7)) * 100).astype(dtype)
    plain = array.astype(np.float64)
    expected = (plain - plain.mean()) / plain.std()
    np.testing.assert_allclose(prepared_image(array), expected, atol=1e-4)


@pytest.mark.parametrize("writable", [True, False])
def test_the_scan_stays_as_it_is(writable):
    array = VALUES.astype(np.float32)
    array.setflags(write=writable)
    before = array.copy()
    prepared_image(array, normalisation="zscore")
    prepared_image(array, normalisation="zscore_nonzero")
    prepared_image(array, normalisation="percentile")
    prepared_image(
        array,
        normalisation="clip_zscore",
        clip=((0.0, 1.0),) * 2,
        mean=(0.0,) * 2,
        std=(1.0,) * 2,
    )
    np.testing.assert_array_equal(array, before)


def test_shrinking_smooths_first():
    """A checkerboard is grey from afar; picking voxels would keep its black and white."""
    array = (np.indices((32, 32)).sum(0) % 2).astype(np.float32)[None]
    grid = Geometry.from_spacing((32, 32), (1.0, 1.0), "mm")
    data = data_plan(
        2,
        spacing=(3.2, 3.2),
        normalisation="clip_zscore",
        clip=((0.0, 1.0),),
        mean=(0.0,),
        std=(1.0,),
    )
    image = prepare(scan_of(array, grid), data).image[0, 2:-2, 2:-2].numpy()
    assert image.shape == (6, 6)
    np.testing.assert_allclose(image, 0.5, atol=0.05)


# --- truth ---


def test_values_with_gaps_become_indices():
    data = data_plan(2, class_values=(0, 255, -3, 7))
    array = np.array([[0, 255, -3], [7, 5, 0]])
    assert class_indices(array, data).tolist() == [[0, 1, 2], [3, 0, 0]]


def test_the_ignored_value_becomes_ignored():
    data = data_plan(2, ignore_value=9)
    array = np.array([[0, 1, 9], [2, 9, 3]], np.uint8)
    assert class_indices(array, data).tolist() == [[0, 1, IGNORED], [2, IGNORED, 3]]
    assert class_indices(array, data_plan(2)).tolist() == [[0, 1, 0], [2, 0, 3]]


def test_merged_labels_are_one_class_but_for_the_ignored():
    data = data_plan(
        2, class_values=(0, 1), class_names=("a", "b"), merge_labels=True, ignore_value=-1
    )
    array = np.array([[0, 17, 900], [-1, 1, -2]])
    assert class_indices(array, data).tolist() == [[0, 1, 1], [IGNORED, 1, 1]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, ">i2", np.uint64])
def test_masks_of_any_integer_type(dtype):
    array = np.array([[0, 1], [3, 2]]).astype(dtype)
    assert class_indices(array, data_plan(2)).tolist() == [[0, 1], [3, 2]]


def test_truth_on_a_coarser_grid_is_the_class_with_the_largest_share():
    grid = Geometry.from_spacing((8, 3), (1.0, 1.0), "mm")
    labels = np.repeat([[0], [0], [0], [0], [2], [2], [2], [2]], 3, axis=1)
    data = data_plan(2, spacing=(2.0, 1.0))
    truth = prepare_truth(Mask(labels, grid), data, place(grid, data))
    assert truth.tolist() == [[0] * 3] * 2 + [[2] * 3] * 2


def test_ignored_voxels_stay_ignored_on_another_grid():
    grid = Geometry.from_spacing((4, 3), (1.0, 1.0), "mm")
    labels = np.repeat([[1], [1], [9], [9]], 3, axis=1)
    data = data_plan(2, spacing=(0.5, 1.0), ignore_value=9)
    truth = prepare_truth(Mask(labels, grid), data, place(grid, data))
    assert truth[:, 0].tolist()[:3] == [1, 1, 1]
    assert truth[:, 0].tolist()[-3:] == [IGNORED] * 3
    # Between classes 1 and -1 a mixture would make a 0 that nobody drew.
    assert set(truth.unique().tolist()) == {1, IGNORED}


def test_threads_may_be_the_first_to_normalise():
    """In a new process, where the first use imports what it needs."""
    code = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "import torch\n"
        "from unetseg.pipeline.intensity import Intensity\n"
        "def work(_): return float(Intensity(1, 2).apply(torch.full((2, 2), 5.0)).mean())\n"
        "with ThreadPoolExecutor(8) as pool: print(*pool.map(work, range(8)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["2.0"] * 8, done.stderr
