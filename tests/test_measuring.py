"""Measurements against scikit-image's on whole images, by hand, in parts, and as a command."""

import csv
import json
import subprocess
import sys
from dataclasses import replace
from math import nan, pi, prod, sqrt
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from skimage.measure import marching_cubes, mesh_surface_area, regionprops

import unetseg
from unetseg import measuring
from unetseg.dataset import large as large_masks
from unetseg.errors import DataError, UsageError
from unetseg.formats import read_mask, read_scan
from unetseg.geometry import Geometry
from unetseg.measuring import measure, voxels
from unetseg.measuring.rows import rows_of
from unetseg.measuring.sums import Sums, sums_of, together
from unetseg.measuring.surfaces import cells_of
from unetseg.measuring.voxels import Voxels
from unetseg.planning import numbering
from unetseg.records import AS_IT_IS, Note

# An eccentricity is the root of what rounding leaves of nothing.
ROUND = 1e-6


def tiff(path, array, spacing=(0.5, 0.5), axes="YX", names=(), **options):
    """An OME-TIFF in micrometres; `spacing` of the axes in space."""
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"axes": axes}
    for letter, edge in zip([a for a in axes if a in "ZYX"], spacing, strict=True):
        metadata |= {f"PhysicalSize{letter}": edge, f"PhysicalSize{letter}Unit": "µm"}
    if names:
        metadata["Channel"] = {"Name": list(names)}
    tifffile.imwrite(path, array, ome=True, metadata=metadata, **options)
    return path


def nifti(path, array, affine):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path


def blobs(shape, seed=0, count=6):
    """Balls, some of them cut by the border and by one another."""
    rng = np.random.default_rng(seed)
    grid = np.indices(shape)
    ids = np.zeros(shape, np.uint16)
    for number in range(1, count + 1):
        centre = [rng.integers(0, n) for n in shape]
        distance = sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True))
        ids[distance < rng.uniform(2, min(shape) / 3) ** 2] = 7 * number
    return ids


def in_memory(labels, image, spacing, unit="um", block=None):
    return Voxels(
        Geometry.from_spacing(labels.shape, spacing, unit),
        tuple(map(str, range(len(image)))),
        "ZYX"[-labels.ndim :],
        lambda box: image[(slice(None), *box)],
        lambda box: labels[box],
        block or labels.shape,
    )


def measured(source, ignore_value=None):
    """The table of some voxels, by its columns."""
    sums, meshes = measuring._summed(source, ignore_value)
    table = rows_of([("id", sums.ids.tolist())], sums, meshes, source)
    return {name: np.array(table[name], float) for name in table.columns}


images = array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=7).flatmap(
    lambda shape: st.tuples(
        arrays(np.uint8, shape, elements=st.integers(0, 4)),
        arrays(np.int16, (2, *shape), elements=st.integers(-300, 3000)),
        st.tuples(*[st.sampled_from([0.25, 1.0, 3.5])] * len(shape)),
    )
)


class TestAgainstScikitImage:
    @given(images)
    @settings(max_examples=120, deadline=None)
    def test_sizes_places_and_intensities(self, drawn):
        labels, image, spacing = drawn
        found = measured(in_memory(labels, image, spacing))
        regions = regionprops(labels, np.moveaxis(image, 0, -1), spacing=spacing)
        assert found["id"].tolist() == [region.label for region in regions]
        ndim = labels.ndim
        letters, size = "zyx"[-ndim:], "area_um2" if ndim == 2 else "volume_um3"
        for row, region in enumerate(regions):
            got = {name: values[row] for name, values in found.items()}
            assert got[size] == pytest.approx(region.area)
            assert got["voxels"] == region.num_pixels
            assert got["extent"] == pytest.approx(region.num_pixels / prod(region.image.shape))
            diameter = region.equivalent_diameter_area
            assert got["equivalent_diameter_um"] == pytest.approx(diameter)
            place = [got[f"centroid_{letter}_um"] for letter in letters]
            assert place == pytest.approx(list(region.centroid), abs=1e-9)
            box = [got[f"box_{a}_{end}_index"] for end in ("start", "stop") for a in letters]
            assert box == list(region.bbox)
            for channel in range(2):
                numbers = [got[f"{what}_channel{channel}"] for what in ("mean", "sd", "min", "max")]
                inside = image[channel][labels == region.label].astype(float)
                expected = [inside.mean(), inside.std(), inside.min(), inside.max()]
                assert numbers == pytest.approx(expected, abs=1e-9)
                assert numbers[0] == pytest.approx(region.intensity_mean[channel])

    @given(images.filter(lambda drawn: drawn[0].ndim == 2))
    @settings(max_examples=80, deadline=None)
    def test_axes_and_eccentricity(self, drawn):
        labels, image, spacing = drawn
        found = measured(in_memory(labels, image, spacing))
        for row, region in enumerate(regionprops(labels, spacing=spacing)):
            major, minor = (found[f"{which}_axis_um"][row] for which in ("major", "minor"))
            assert major == pytest.approx(region.axis_major_length, abs=1e-6)
            assert minor == pytest.approx(region.axis_minor_length, abs=1e-5)
            assert found["eccentricity"][row] == pytest.approx(region.eccentricity, abs=1e-5)

    @given(images.filter(lambda drawn: drawn[0].ndim == 3))
    @settings(max_examples=40, deadline=None)
    def test_surfaces_are_those_of_the_whole_mesh(self, drawn):
        labels, image, spacing = drawn
        found = measured(in_memory(labels, image, spacing))
        for row, value in enumerate(found["id"]):
            solid = np.pad(labels == value, 1).astype(np.float32)
            points, faces, _, _ = marching_cubes(solid, 0.5, spacing=spacing)
            area = mesh_surface_area(points, faces)
            corners = points.astype(float)[faces]
            parts = np.cross(corners[:, 1], corners[:, 2]) * corners[:, 0]
            volume = abs(parts.sum()) / 6
            assert found["surface_um2"][row] == pytest.approx(area, rel=1e-4)
            sphericity = pi ** (1 / 3) * (6 * volume) ** (2 / 3) / area
            assert found["sphericity"][row] == pytest.approx(sphericity, rel=1e-3)
            assert 0 < found["sphericity"][row] <= 1

    def test_a_ball_is_round_and_a_rod_is_not(self):
        grid = np.indices((31, 31, 31)) - 15
        ball = ((grid**2).sum(axis=0) < 12**2).astype(np.uint8)
        rod = np.zeros_like(ball)
        rod[2:29, 14:17, 14:17] = 1
        image = np.zeros((1, *ball.shape))
        round_, long = (measured(in_memory(one, image, (1, 1, 1))) for one in (ball, rod))
        assert round_["sphericity"][0] > 0.9
        assert long["sphericity"][0] < 0.7
        # The mesh of voxels is rough: a few percent above the ball's own surface.
        assert round_["surface_um2"][0] == pytest.approx(4 * pi * 12**2, rel=0.1)

    def test_the_thickness_of_slices_counts(self):
        """The negative twin: with cubes instead of what the spacing says all of it is different."""
        labels = blobs((8, 20, 20))
        image = np.zeros((1, *labels.shape))
        flat, cubes = (measured(in_memory(labels, image, s)) for s in ((4, 1, 1), (1, 1, 1)))
        for name in ("volume_um3", "surface_um2", "sphericity", "equivalent_diameter_um"):
            assert not np.allclose(flat[name], cubes[name])
        assert np.allclose(flat["volume_um3"], 4 * cubes["volume_um3"])


class TestParts:
    @pytest.mark.parametrize("shape", [(40, 37), (14, 17, 19)])
    @pytest.mark.parametrize("edge", [1, 3, 8])
    def test_boxes_of_any_size_give_the_same_table(self, shape, edge, monkeypatch):
        labels = blobs(shape)
        image = np.random.default_rng(1).normal(1e4, 1, (2, *shape))
        spacing = (0.7, 1.1, 2.0)[: len(shape)]
        whole = measured(in_memory(labels, image, spacing))
        monkeypatch.setattr(voxels, "AT_ONCE", edge ** len(shape))
        monkeypatch.setattr(measuring, "_WAITING", 5)
        block = (edge,) * len(shape)
        source = in_memory(labels, image, spacing, block=block)
        assert len(list(source.boxes())) > 10
        parts = measured(source)
        assert parts.keys() == whole.keys()
        for name, values in whole.items():
            assert np.allclose(parts[name], values, rtol=1e-9, atol=ROUND), name

    def test_boxes_cover_everything_once(self, monkeypatch):
        monkeypatch.setattr(voxels, "AT_ONCE", 50)
        source = in_memory(np.zeros((11, 23), int), np.zeros((1, 11, 23)), (1, 1), block=(4, 5))
        seen = np.zeros((11, 23), int)
        for box in source.boxes():
            assert all(part.start % size == 0 for part, size in zip(box, (4, 5), strict=True))
            seen[box] += 1
        assert (seen == 1).all()

    def test_an_object_far_from_the_corner_keeps_its_shape(self):
        small = blobs((30, 30), 3)
        image = np.full((1, 30, 30), 1e6) + small
        near = sums_of(small, image, (0, 0))
        far = sums_of(small, image, (10**7, 10**7))
        assert np.allclose(near.scatters, far.scatters, rtol=1e-12)
        half = [sums_of(small[:, k : k + 15], image[:, :, k : k + 15], (10**7, k)) for k in (0, 15)]
        assert np.allclose(together(half).scatters, near.scatters, rtol=1e-6)

    def test_the_sums_of_nothing(self):
        empty = sums_of(np.zeros((4, 4), int), np.zeros((3, 4, 4)), (0, 0))
        assert together([empty, empty]).ids.tolist() == []
        assert {getattr(empty, name).shape[0] for name in Sums.__dataclass_fields__} == {0}
        assert cells_of((1, 1, 1)).surfaces(np.zeros((3, 3, 3), int), 0).ids.tolist() == []


@pytest.fixture
def cells(tmp_path):
    """Two objects in an image of two channels, 0.5 um x 0.5 um, and their mask."""
    mask = np.zeros((20, 30), np.uint16)
    mask[2:6, 3:11] = 4
    mask[10:14, 20:24] = 9
    image = np.zeros((2, 20, 30), np.uint16)
    image[0] = 5
    image[1, 10:14, 20:22] = 100
    scan = tiff(tmp_path / "scans" / "cell.ome.tif", image, axes="CYX", names=("DAPI", "GFP"))
    return scan, tiff(tmp_path / "masks" / "cell_seg.ome.tif", mask)


class TestMeasure:
    def test_by_hand(self, cells):
        table = measure(*cells, objects=True).table
        first, second = (dict(zip(table.columns, row, strict=True)) for row in table.rows)
        assert (first["id"], second["id"]) == (4, 9)
        assert first["case"] == "cell"
        assert first["area_um2"] == 32 * 0.25
        assert first["voxels"] == 32
        assert first["equivalent_diameter_um"] == pytest.approx(sqrt(4 * 8 / pi))
        assert (first["centroid_y_um"], first["centroid_x_um"]) == (1.75, 3.25)
        assert (first["centroid_y_index"], first["centroid_x_index"]) == (3.5, 6.5)
        box = [f"box_{axis}_{end}_index" for axis in "yx" for end in ("start", "stop")]
        assert [first[name] for name in box] == [2, 6, 3, 11]
        # Of n points in a row at distances of 1 the variance is (n^2 - 1) / 12.
        assert first["major_axis_um"] == pytest.approx(4 * 0.5 * sqrt(63 / 12))
        assert first["minor_axis_um"] == pytest.approx(4 * 0.5 * sqrt(15 / 12))
        assert first["eccentricity"] == pytest.approx(sqrt(1 - 15 / 63))
        assert second["eccentricity"] == pytest.approx(0, abs=1e-6)
        assert first["extent"] == second["extent"] == 1
        assert [second[f"{what}_GFP"] for what in ("mean", "sd", "min", "max")] == [50, 50, 0, 100]
        assert [second[f"{what}_DAPI"] for what in ("mean", "sd", "min", "max")] == [5, 0, 5, 5]

    def test_classes_have_names_instead_of_ids(self, cells):
        table = measure(*cells, objects=False).table
        assert table.columns[:3] == ("case", "label", "name")
        assert table["label"] == [4, 9]
        assert measure(*cells).table == table

    def test_a_table_of_classes_beside_the_mask(self, cells):
        scan, mask = cells
        mask.with_name("cell_objects.csv").write_text("id,class\n4,neuron\n9,glia\n")
        said = []
        table = measure(scan, mask, listener=said.append).table
        assert table.columns[1:3] == ("id", "class")
        assert table["class"] == ["neuron", "glia"]
        assert any("measured as objects" in e.text for e in said if isinstance(e, Note))

    def test_an_ignored_value_has_no_row(self, cells):
        assert measure(*cells, objects=True, ignore_value=9).table["id"] == [4]

    def test_pixels_have_no_unit(self, tmp_path):
        mask = np.zeros((8, 8), np.uint8)
        mask[2:5, 2:6] = 1
        for name in ("a.png", "a_seg.png"):
            Image.fromarray(mask).save(tmp_path / name)
        table = measure(tmp_path / "a.png", tmp_path / "a_seg.png").table
        assert table["area_px"] == [12]
        assert table["mean_grey"] == [1]
        assert not any("um" in name or "mm" in name for name in table.columns)

    def test_a_turned_volume_is_measured_in_its_own_space(self, tmp_path):
        """NIfTI: axes x, y, z; positions are those of the affine, sizes those of the voxels."""
        c, s = np.cos(0.3), np.sin(0.3)
        turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        affine = np.eye(4)
        affine[:3, :3] = turn @ np.diag([-1, 2, 3])
        affine[:3, 3] = (10, 20, 30)
        mask = np.zeros((6, 7, 8), np.uint8)
        mask[1:4, 2:4, 3:7] = 2
        scan = nifti(tmp_path / "s.nii.gz", mask.astype(np.float32) * 1.5, affine)
        table = measure(scan, nifti(tmp_path / "m.nii.gz", mask, affine)).table
        assert table["volume_mm3"] == pytest.approx([24 * 6])
        place = [table[f"centroid_{axis}_mm"][0] for axis in "xyz"]
        assert place == pytest.approx((affine @ [2, 2.5, 4.5, 1])[:3], abs=1e-4)
        assert [table[f"centroid_{axis}_index"][0] for axis in "xyz"] == [2, 2.5, 4.5]
        assert table["mean_channel0"] == [3]

    def test_a_mask_without_objects_gives_a_header(self, tmp_path):
        nothing = np.zeros((5, 5), np.uint8)
        scan = tiff(tmp_path / "a.ome.tif", nothing)
        table = measure(scan, tiff(tmp_path / "a_seg.ome.tif", nothing)).table
        assert table.rows == ()
        assert "area_um2" in table.columns

    def test_folders_are_paired_by_name_and_make_one_table(self, cells):
        scan, mask = cells
        other = np.zeros((9, 9), np.uint16)
        other[:3, :3] = 1
        tiff(scan.with_name("b.ome.tif"), np.stack([other, other]), axes="CYX", names=("GFP", "X"))
        tiff(mask.with_name("b_seg.ome.tif"), other)
        tiff(mask.with_name("c_seg.ome.tif"), other)
        said = []
        found = measure(scan.parent, mask.parent, listener=said.append)
        assert found.failures == ()
        assert found.table["case"] == ["b", "cell", "cell"]
        assert found.table["mean_X"] == [1, None, None]
        assert found.table["mean_GFP"] == [1, 0, 50]
        assert Note("1 masks have no scan: c_seg.ome.tif") in said

    def test_one_that_fails_costs_only_itself(self, cells):
        scan, mask = cells
        tiff(scan.with_name("b.ome.tif"), np.zeros((9, 9), np.uint16))
        tiff(mask.with_name("b_seg.ome.tif"), np.zeros((9, 8), np.uint16), spacing=(0.5, 0.6))
        tiff(scan.with_name("c.ome.tif"), np.zeros((9, 9), np.uint16))
        found = measure(scan.parent, mask.parent)
        assert found.table["case"] == ["cell", "cell"]
        (first, missing), (second, other) = found.failures
        assert (first, second) == ("c", "b")
        assert "no mask for c.ome.tif" in str(missing)
        assert "shape (9, 9) is not (9, 8); spacing (0.5, 0.5) is not (0.5, 0.6)" in str(other)

    def test_channels_in_files_of_their_own(self, tmp_path):
        mask = np.ones((6, 6), np.uint8)
        for number in range(2):
            tiff(tmp_path / "s" / f"x_000{number}.ome.tif", np.full((6, 6), number + 3, np.uint8))
        tiff(tmp_path / "m" / "x_seg.ome.tif", mask)
        table = measure(tmp_path / "s", tmp_path / "m").table
        assert (table["mean_channel0"], table["mean_channel1"]) == ([3], [4])

    def test_what_is_refused(self, cells, tmp_path):
        with pytest.raises(UsageError, match="a file and a folder cannot be measured"):
            measure(cells[0], cells[1].parent)
        with pytest.raises(DataError, match="nowhere: does not exist"):
            measure(tmp_path / "nowhere", cells[1])

    def test_the_python_face(self, cells):
        assert unetseg.measure(*map(str, cells), objects=True).table["id"] == [4, 9]


def stored_zarr(path, array, axes, chunk):
    group = zarr.open_group(path, mode="w", zarr_format=2)
    group.create_array("0", data=array, chunks=(1,) * (len(axes) - 2) + chunk)
    kinds = {"c": "channel"}
    group.attrs["multiscales"] = [
        {
            "version": "0.4",
            "axes": [
                {"name": a, "type": kinds.get(a, "space")}
                | ({} if a == "c" else {"unit": "micrometer"})
                for a in axes
            ],
            "datasets": [
                {
                    "path": "0",
                    "coordinateTransformations": [
                        {"type": "scale", "scale": [1.0 if a == "c" else 0.5 for a in axes]}
                    ],
                }
            ],
        }
    ]
    return path


class TestLargerThanMemory:
    """No box that is read may be larger than what was promised."""

    @pytest.fixture(params=["tiff", "zarr"])
    def large(self, request, tmp_path):
        labels = blobs((160, 192), 5, 20)
        labels[100:140, 10:180] = 999
        image = np.random.default_rng(0).integers(0, 999, (2, 160, 192), dtype=np.uint16)
        if request.param == "tiff":
            options = {"tile": (16, 32), "compression": "zlib"}
            return (
                tiff(tmp_path / "a.ome.tif", image, axes="CYX", **options),
                tiff(tmp_path / "a_seg.ome.tif", labels, **options),
            )
        return (
            stored_zarr(tmp_path / "a.ome.zarr", image, "cyx", (16, 32)),
            stored_zarr(tmp_path / "a_seg.ome.zarr", labels, "yx", (16, 32)),
        )

    @pytest.mark.parametrize("objects", [True, None])
    def test_read_box_by_box_the_table_is_the_same(self, large, objects, monkeypatch):
        whole = measure(*large, objects=True).table
        monkeypatch.setattr(large_masks, "WHOLE", 1000)
        monkeypatch.setattr(numbering, "WHOLE", 1024)
        monkeypatch.setattr(voxels, "AT_ONCE", 1024)
        read, opener = [], voxels.open_scan

        def watched(path, view=AS_IT_IS):
            opened = opener(path, view)

            def reading(box):
                read.append(prod(part.stop - part.start for part in box))
                return opened.read(box)

            return replace(opened, read=reading)

        def forbidden(*args, **options):
            raise AssertionError("all of it was read at once")

        monkeypatch.setattr(voxels, "open_scan", watched)
        monkeypatch.setattr(large_masks, "open_scan", watched)
        monkeypatch.setattr(voxels, "load_scan", forbidden)
        monkeypatch.setattr(large_masks, "read_mask", forbidden)
        parts = measure(*large, objects=objects).table
        assert max(read) <= 1024
        # Each voxel once, and a look at the middle if nobody says what the values are.
        assert 0 <= sum(read) - 2 * 160 * 192 <= 1024 * (objects is None)
        assert parts.columns[1] == ("id" if objects else "label")
        assert len(parts.rows) == len(whole.rows) > 10
        for column in whole.columns[2:]:
            assert parts[column] == pytest.approx(whole[column], rel=1e-9, abs=ROUND)

    def test_the_watch_would_see_a_whole_reading(self, large, monkeypatch):
        """The negative twin: below the limit it is read at once."""

        def forbidden(*args, **options):
            raise RuntimeError("at once")

        monkeypatch.setattr(voxels, "load_scan", forbidden)
        with pytest.raises(RuntimeError, match="at once"):
            measure(*large, objects=True)

    def test_labels_must_be_whole_numbers_in_every_box(self, tmp_path, monkeypatch):
        half = np.zeros((64, 64), np.float32)
        half[40, 40] = 0.5
        scan = tiff(tmp_path / "a.ome.tif", half, tile=(16, 16))
        mask = tiff(tmp_path / "a_seg.ome.tif", half, tile=(16, 16))
        for limit in (1 << 26, 100):
            monkeypatch.setattr(large_masks, "WHOLE", limit)
            monkeypatch.setattr(voxels, "AT_ONCE", 256)
            ((_, error),) = measure(scan, mask, objects=True).failures
            assert "fractional values" in str(error)


def command(folder, *words):
    return subprocess.run(
        [sys.executable, "-m", "unetseg.cli", "measure", *map(str, words)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


class TestCommand:
    def test_a_table_for_a_spreadsheet(self, cells, tmp_path):
        done = command(tmp_path, "scans", "masks", "-o", "table.csv", "--objects")
        assert (done.returncode, done.stdout) == (0, "")
        with (tmp_path / "table.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["id"] for row in rows] == ["4", "9"]
        assert rows[0]["area_um2"] == "8.0"
        shown = command(tmp_path, *cells, "--objects")
        assert shown.stdout == (tmp_path / "table.csv").read_text()
        lines = command(tmp_path, "scans", "masks", "--json", "--objects").stdout.splitlines()
        assert [json.loads(line)["max_GFP"] for line in lines] == [0, 100]

    def test_what_fails_is_one_line_and_the_exit_code(self, cells, tmp_path):
        scan, _ = cells
        wrong = tiff(tmp_path / "wrong.ome.tif", np.zeros((3, 3), np.uint8))
        done = command(tmp_path, scan, wrong)
        assert done.returncode == 3
        assert done.stderr.splitlines()[-1].startswith(f"failed: cell: {wrong}: does not lie on")
        assert command(tmp_path, scan, "nowhere.tif").returncode == 3
        assert command(tmp_path, scan, tmp_path).returncode == 2


def test_names_beyond_ascii_are_marked_for_spreadsheets(tmp_path):
    plain = measuring.Table(("case", "mean_DAPI"), (("a", 1.5), ("b", None)))
    measuring.write_csv(plain, tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_bytes() == b"case,mean_DAPI\na,1.5\nb,\n"
    measuring.write_csv(
        measuring.Table(("case", "mean_\N{GREEK SMALL LETTER BETA}"), (("a", nan),)),
        tmp_path / "b.csv",
    )
    assert (tmp_path / "b.csv").read_bytes().startswith(b"\xef\xbb\xbfcase")


def test_memory_that_does_not_suffice_is_a_failed_case(cells, monkeypatch):
    def exhausted(*args):
        raise MemoryError

    monkeypatch.setattr(measuring, "open_voxels", exhausted)
    ((name, error),) = measure(*cells).failures
    assert (name, error.what) == ("cell", "too large to be measured in the free memory")
    assert Path(error.where) == cells[1]


@pytest.mark.real
def test_real_nuclei_are_measured_as_scikit_image_does(real_data):
    folder = real_data / "nuclei_fluo"
    scan = sorted((folder / "images").iterdir())[0]
    mask = folder / "labels" / scan.name
    found = measure(scan, mask, objects=True)
    assert found.failures == ()
    regions = regionprops(read_mask(mask).array, read_scan(scan).array[0])
    assert found.table["id"] == [region.label for region in regions]
    for column, name in (
        ("area_px", "area"),
        ("eccentricity", "eccentricity"),
        ("mean_grey", "intensity_mean"),
        ("max_grey", "intensity_max"),
    ):
        expected = [getattr(region, name) for region in regions]
        assert found.table[column] == pytest.approx(expected, abs=ROUND)


@pytest.mark.real
def test_a_real_stack_is_measured_in_parts(real_data, monkeypatch):
    stack = real_data / "nuclei_sample_3d"
    pair = [
        next(path for path in sorted((stack / kind).iterdir())) for kind in ("images", "labels")
    ]
    whole = measure(*pair, objects=True).table
    assert len(whole.rows) > 10
    monkeypatch.setattr(voxels, "AT_ONCE", 100_000)
    parts = measure(*pair, objects=True).table
    for column in whole.columns[1:]:
        assert parts[column] == pytest.approx(whole[column], abs=ROUND)
    assert all(0 < value <= 1 for value in whole["sphericity"])
