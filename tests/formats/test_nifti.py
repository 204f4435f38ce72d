"""NIfTI: expected values come from nibabel, from bytes packed by hand, or from arithmetic."""

import gzip
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unetseg.errors import DataError, ShapeMismatch
from unetseg.formats import Format, read_mask, read_scan, write_mask
from unetseg.formats.nifti import Nifti
from unetseg.geometry import Geometry, whole_box
from unetseg.records import Mask, Scan, Source

# Axes of the array along -y, x, z with edges 2, 3, 4: flipped and permuted, so that an
# assumption about orientation cannot go unnoticed.
AFFINE = np.array([[0.0, 3, 0, 10], [-2, 0, 0, 20], [0, 0, 4, -30], [0, 0, 0, 1]])
GEOMETRY_FIELDS = [
    "pixdim",
    "qform_code",
    "sform_code",
    "quatern_b",
    "quatern_c",
    "quatern_d",
    "qoffset_x",
    "qoffset_y",
    "qoffset_z",
    "srow_x",
    "srow_y",
    "srow_z",
    "xyzt_units",
]


def counting(shape: tuple[int, ...], dtype: str = "int16") -> np.ndarray:
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE, **fields: object) -> Path:
    image = nib.Nifti1Image(array, affine)
    for name, value in fields.items():
        image.header[name] = value
    nib.save(image, path)
    return path


def by_hand(
    dims: list[int],
    *,
    datatype: int = 4,
    bits: int = 16,
    units: int = 0,
    pixdim: tuple[float, ...] = (1, 1, 1, 1),
    qform: tuple[int, tuple[float, ...]] = (0, (0.0,) * 6),
    sform: tuple[int, tuple[float, ...]] = (0, (0.0,) * 12),
    scale: tuple[float, float] = (0, 0),
    magic: bytes = b"n+1\0",
    order: str = "<",
) -> bytes:
    """A NIfTI-1 header packed field by field as the standard lists them."""
    sizes = [len(dims), *dims, *[1] * (7 - len(dims))]
    edges = [*pixdim, *[1.0] * (8 - len(pixdim))]
    header = struct.pack(f"{order}i35xB", 348, 0).ljust(40, b"\0")
    header += struct.pack(f"{order}8h3f4h", *sizes, 0, 0, 0, 0, datatype, bits, 0)
    header += struct.pack(f"{order}8f3f", *edges, 352.0, *scale)
    header += struct.pack(f"{order}hBB4f2i", 0, 0, units, 0, 0, 0, 0, 0, 0)
    header += bytes(80 + 24)
    header += struct.pack(f"{order}2h6f12f", qform[0], sform[0], *qform[1], *sform[1])
    header += bytes(16) + magic
    assert len(header) == 348
    return header + bytes(4)


def test_it_is_a_format() -> None:
    made: Format = Nifti()
    assert made.name == "nifti"
    assert made.suffixes == (".nii.gz", ".nii")


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ((3, 4, 5), (1, 3, 4, 5)),
        ((3, 4, 5, 1), (1, 3, 4, 5)),
        ((3, 4, 5, 2), (2, 3, 4, 5)),
        ((3, 4, 5, 1, 2), (2, 3, 4, 5)),
        ((3, 4, 1), (1, 3, 4)),
        ((3, 4), (1, 3, 4)),
        ((3, 4, 1, 2), (2, 3, 4)),
        ((3, 4, 1, 1, 2), (2, 3, 4)),
        ((1, 4, 5), (1, 1, 4, 5)),
        ((3, 1, 5), (1, 3, 1, 5)),
    ],
)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_axes(
    tmp_path: Path, stored: tuple[int, ...], expected: tuple[int, ...], suffix: str
) -> None:
    array = counting(stored)
    scan = read_scan(save(tmp_path / f"a{suffix}", array))
    assert scan.array.shape == expected
    assert scan.geometry.shape == expected[1:]
    assert scan.channels == tuple("01"[: expected[0]])
    assert not scan.is_picture
    # The last voxel along x of the last channel, found without any reshaping.
    pick = (-1, *[0] * (len(stored) - 1))
    if expected[0] > 1:
        pick = (*pick[:-1], -1)
    assert scan.array[(-1, -1, *[0] * (len(expected) - 2))] == array[pick]
    assert np.array_equal(np.sort(scan.array, axis=None), array.ravel())


def test_every_voxel_stays_where_nibabel_puts_it(tmp_path: Path) -> None:
    array = counting((3, 4, 5, 2))
    scan = read_scan(save(tmp_path / "a.nii.gz", array))
    for x, y, z, c in np.ndindex(array.shape):
        assert scan.array[c, x, y, z] == array[x, y, z, c]
    assert np.array_equal(scan.geometry.affine, AFFINE)
    assert scan.geometry.unit == "mm"


@pytest.mark.parametrize("order", ["<", ">"])
def test_bytes_packed_by_hand(tmp_path: Path, order: str) -> None:
    voxels = struct.pack(f"{order}6h", 1, -2, 3, 4, 5, 600)
    path = tmp_path / "a.nii"
    sform = (2, (0.5, 0, 0, 7, 0, 0.25, 0, 8, 0, 0, 2, 9))
    path.write_bytes(by_hand([3, 2, 1, 1], units=2, sform=sform, order=order) + voxels)
    # One slice: 2-D, x fastest in the file.
    scan = read_scan(path)
    assert scan.array.tolist() == [[[1, 4], [-2, 5], [3, 600]]]
    assert scan.array.dtype == np.int16
    assert scan.array.dtype.isnative
    assert scan.array.flags.writeable
    assert scan.geometry.spacing == (0.5, 0.25)
    assert scan.geometry.affine[:2, 2].tolist() == [0, 0]


SFORM = (1, (2.0, 0, 0, 5, 0, 3, 0, 6, 0, 0, 4, 7))
QFORM = (1, (0.0, 0, 0, 11, 12, 13))


@pytest.mark.parametrize(
    ("sform", "qform", "pixdim", "expected"),
    [
        (SFORM, QFORM, (1, 9, 9, 9), [[2, 0, 0, 5], [0, 3, 0, 6], [0, 0, 4, 7]]),
        ((0, SFORM[1]), QFORM, (1, 8, 9, 10), [[8, 0, 0, 11], [0, 9, 0, 12], [0, 0, 10, 13]]),
        ((0, SFORM[1]), QFORM, (-1, 8, 9, 10), [[8, 0, 0, 11], [0, 9, 0, 12], [0, 0, -10, 13]]),
        (SFORM, (0, QFORM[1]), (1, 0, 0, 0), [[2, 0, 0, 5], [0, 3, 0, 6], [0, 0, 4, 7]]),
        (SFORM, (0, QFORM[1]), (1, np.nan, 1, 1), [[2, 0, 0, 5], [0, 3, 0, 6], [0, 0, 4, 7]]),
    ],
    ids=["sform first", "then qform", "left-handed qform", "zero edges", "edges not finite"],
)
def test_which_transform_counts(
    tmp_path: Path,
    sform: tuple[int, tuple[float, ...]],
    qform: tuple[int, tuple[float, ...]],
    pixdim: tuple[float, ...],
    expected: list[list[float]],
) -> None:
    path = tmp_path / "a.nii"
    header = by_hand([2, 2, 2], sform=sform, qform=qform, pixdim=pixdim)
    path.write_bytes(header + bytes(16))
    assert read_scan(path).geometry.affine[:3].tolist() == expected


@pytest.mark.parametrize(
    ("pixdim", "spacing"), [((1, 2, 3, 4), (2, 3, 4)), ((0, 2, 0, 4), (2, 1, 4))]
)
def test_without_transforms_the_edges_count(
    tmp_path: Path, pixdim: tuple[float, ...], spacing: tuple[float, ...]
) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(by_hand([2, 2, 2], pixdim=pixdim) + bytes(16))
    assert read_scan(path).geometry.spacing == spacing


@pytest.mark.parametrize(
    ("code", "unit", "edge"),
    [(0, "mm", 2), (1, "mm", 2000), (2, "mm", 2), (3, "um", 2), (2 + 8, "mm", 2), (3 + 8, "um", 2)],
)
def test_units(tmp_path: Path, code: int, unit: str, edge: float) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(by_hand([2, 2, 2], units=code, pixdim=(1, 2, 2, 2)) + bytes(16))
    geometry = read_scan(path).geometry
    assert (geometry.unit, geometry.spacing) == (unit, (edge,) * 3)


@pytest.mark.parametrize(
    ("scale", "expected", "dtype"),
    [
        ((0, 5), [1, 2], np.int16),
        ((1, 0), [1, 2], np.int16),
        ((0.5, -1024), [-1023.5, -1023], np.float32),
        ((np.nan, 1), [1, 2], np.int16),
    ],
)
def test_rescaling(
    tmp_path: Path, scale: tuple[float, float], expected: list[float], dtype: type
) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(by_hand([2, 1, 1], scale=scale) + struct.pack("<2h", 1, 2))
    array = read_scan(path).array
    assert array.ravel().tolist() == expected
    assert array.dtype == dtype


def test_large_integers_are_rescaled_in_double_precision(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    voxels = struct.pack("<2i", 2**24 + 1, 0)
    path.write_bytes(by_hand([2, 1, 1], datatype=8, bits=32, scale=(1, 1)) + voxels)
    assert read_scan(path).array.ravel().tolist() == [2**24 + 2, 1]


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "i8", "f4", "f8"])
def test_types_are_kept(tmp_path: Path, dtype: str) -> None:
    image = nib.Nifti1Image(counting((2, 3, 4), dtype), AFFINE, dtype=np.dtype(dtype))
    nib.save(image, tmp_path / "a.nii")
    assert read_scan(tmp_path / "a.nii").array.dtype == np.dtype(dtype)


def test_nifti_2(tmp_path: Path) -> None:
    nib.save(nib.Nifti2Image(counting((2, 3, 4)), AFFINE), tmp_path / "a.nii.gz")
    scan = read_scan(tmp_path / "a.nii.gz")
    assert np.array_equal(scan.array[0], counting((2, 3, 4)))
    mask = Mask(np.ones((2, 3, 4), np.uint8), scan.geometry)
    write_mask(mask, tmp_path / "m.nii.gz", scan)
    assert isinstance(nib.load(tmp_path / "m.nii.gz"), nib.Nifti2Image)


def test_the_content_says_whether_it_is_gzipped(tmp_path: Path) -> None:
    save(tmp_path / "a.nii", counting((2, 3, 4)))
    (tmp_path / "a.nii").rename(tmp_path / "b.nii.gz")
    assert read_scan(tmp_path / "b.nii.gz").array.shape == (1, 2, 3, 4)


def plain(dims: list[int], voxels: int = 16, **fields: object) -> bytes:
    return by_hand(dims, **fields) + bytes(voxels)  # type: ignore[arg-type]


def by_message(value: bytes | str) -> str:
    """A test is named by its message: gzip notes the time, and workers must see the same names."""
    return value if isinstance(value, str) else "file"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"this is a text file, not a scan\n" * 30, "not a NIfTI file"),
        (b"short", "not a NIfTI file"),
        (plain([2, 2, 2])[:300], "not a NIfTI file"),
        (plain([2, 2, 2], magic=b"abcd"), "magic string"),
        (plain([2, 2, 2], magic=b"ni1\0"), "pair of files"),
        (plain([2, 0, 2]), "no voxels.*2, 0, 2"),
        (plain([2, -2, 2]), "no voxels"),
        (plain([4]), "wrong number of axes"),
        (plain([2, 2, 1, 2, 2]), r"more than four axes.*\(2, 2, 1, 2, 2\)"),
        (plain([2, 2, 2], datatype=32, bits=64, voxels=64), "complex"),
        (plain([2, 2, 2], datatype=128, bits=24, voxels=24), "RGB"),
        (plain([2, 2, 2], datatype=2304, bits=32, voxels=32), "RGB"),
        (plain([2, 2, 2], datatype=1, bits=1), "data code 1"),
        (plain([2, 2, 2], sform=(1, (0.0,) * 12)), "singular"),
        (plain([2, 2, 2], sform=(1, (np.nan,) * 12)), "not finite"),
        (plain([2, 2, 2], voxels=15), "header promises 16 bytes.*367 bytes"),
        (plain([30000, 30000, 5555]), "header promises 10 TB"),
    ],
    ids=by_message,
)
def test_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_scan(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(plain([20, 20, 20], 16000))[:-10], "cut short"),
        (gzip.compress(plain([20, 20, 20], 15999)), "cut short.*15999"),
        (gzip.compress(plain([30000, 30000, 5555])), "header promises 10 TB"),
        (b"\x1f\x8b" + b"no gzip at all" * 50, "gzip stream is damaged"),
        (b"text called .nii.gz" * 50, "not a NIfTI file"),
    ],
    ids=by_message,
)
def test_damaged_gzip(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_scan(path)


def test_a_wrong_check_sum_is_noticed(tmp_path: Path) -> None:
    # Large enough that the check sum is not in the buffer together with the voxels.
    voxels = np.random.default_rng(0).bytes(2 * 50 * 60 * 70)
    content = bytearray(gzip.compress(by_hand([50, 60, 70]) + voxels))
    path = tmp_path / "a.nii.gz"
    path.write_bytes(content)
    assert read_scan(path).array.tobytes("F") == voxels
    content[-8] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="CRC"):
        read_scan(path)


def test_values_that_are_not_numbers(tmp_path: Path) -> None:
    array = np.zeros((2, 3, 4), np.float32)
    array[0, 0, :2] = np.nan
    array[1, 1, 1] = -np.inf
    with pytest.raises(DataError, match="3 of 24 values are NaN or infinite; replace them"):
        read_scan(save(tmp_path / "a.nii.gz", array))


def test_four_gigabytes_of_zeros_are_not_unpacked(tmp_path: Path) -> None:
    # A gzip of 1 MB at most could hold 1.1 GB: the header asks for 4.
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(by_hand([2000, 2000, 500]) + bytes(1_000_000)))
    with pytest.raises(DataError, match="header promises 4 GB"):
        read_scan(path)


# --- writing


def sheared_free(angles: tuple[float, float, float], spacing: tuple[float, ...]) -> np.ndarray:
    """A rotation times edge lengths: what both sform and qform can hold."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        i, j = [k for k in range(3) if k != axis]
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix * np.array(spacing)


edge = st.floats(0.05, 12).map(lambda x: round(x, 3))


@settings(max_examples=40, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-3.1, 3.1)] * 3),
    spacing=st.tuples(edge, edge, edge),
    flips=st.tuples(*[st.sampled_from([1, -1])] * 3),
    order=st.permutations([0, 1, 2]),
    origin=st.tuples(*[st.floats(-500, 500)] * 3),
    codes=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    shape=st.tuples(*[st.integers(1, 6)] * 2, st.integers(2, 6)),
    units=st.sampled_from(["mm", "micron", "meter", "unknown"]),
)
def test_the_mask_lies_on_the_scan(
    tmp_path_factory: pytest.TempPathFactory,
    angles: tuple[float, float, float],
    spacing: tuple[float, float, float],
    flips: tuple[int, int, int],
    order: list[int],
    origin: tuple[float, float, float],
    codes: tuple[int, int],
    shape: tuple[int, int, int],
    units: str,
) -> None:
    folder = tmp_path_factory.mktemp("nifti")
    affine = np.eye(4)
    affine[:3, :3] = (sheared_free(angles, spacing) * flips)[:, order]
    affine[:3, 3] = origin
    image = nib.Nifti1Image(np.zeros(shape, np.int16), affine)
    # The two transforms disagree on purpose.
    image.header.set_sform(affine, code=codes[0])
    affine[:3, 3] += 1
    image.header.set_qform(affine, code=codes[1])
    image.header.set_xyzt_units(units)
    nib.save(image, folder / "scan.nii.gz")
    # nibabel changes codes while saving: what counts is what lies on disk.
    scan = read_scan(folder / "scan.nii.gz")
    labels = np.random.default_rng(0).integers(0, 3, shape)
    write_mask(Mask(labels, scan.geometry), folder / "mask.nii.gz", scan)

    before, after = nib.load(folder / "scan.nii.gz"), nib.load(folder / "mask.nii.gz")
    for field in GEOMETRY_FIELDS:
        assert before.header[field].tobytes() == after.header[field].tobytes(), field
    assert np.array_equal(before.affine, after.affine)
    assert np.array_equal(np.asarray(after.dataobj), labels)
    again = read_mask(folder / "mask.nii.gz")
    assert again.geometry.differences(scan.geometry) == ()
    assert np.array_equal(again.array, labels)


def test_a_mask_beside_the_scan_is_refused(tmp_path: Path) -> None:
    scan = read_scan(save(tmp_path / "a.nii", counting((4, 5, 6))))
    shifted = scan.geometry.pad((1, 0, 0), (0, 0, 0)).crop((0, 0, 0), (4, 5, 6))
    with pytest.raises(ShapeMismatch, match="does not lie on the scan: origin"):
        write_mask(Mask(np.zeros((4, 5, 6), int), shifted), tmp_path / "m.nii", scan)
    with pytest.raises(ShapeMismatch, match=r"expected \(4, 5, 6\), got \(4, 5, 5\)"):
        write_mask(Mask(np.zeros((4, 5, 5), int), scan.geometry), tmp_path / "m.nii", scan)
    assert not (tmp_path / "m.nii").exists()


@pytest.mark.parametrize(
    ("stored", "written"),
    [
        ((3, 4), (3, 4)),
        ((3, 4, 1), (3, 4, 1)),
        ((3, 4, 1, 2), (3, 4, 1)),
        ((3, 4, 5, 2), (3, 4, 5)),
    ],
)
def test_the_shape_of_a_mask_is_that_of_the_file(
    tmp_path: Path, stored: tuple[int, ...], written: tuple[int, ...]
) -> None:
    path = tmp_path / "a.nii.gz"
    image = nib.Nifti1Image(counting(stored), AFFINE)
    image.header.set_intent("vector")
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"private"))
    nib.save(image, path)
    scan = read_scan(path)
    write_mask(Mask(np.ones(scan.geometry.shape, int), scan.geometry), tmp_path / "m.nii.gz", scan)
    mask = nib.load(tmp_path / "m.nii.gz")
    assert mask.shape == written
    assert np.array_equal(mask.affine, AFFINE)
    assert mask.header["descrip"].item() == b"unetseg"
    assert mask.header["intent_code"] == 0
    assert not mask.header.extensions
    assert read_mask(tmp_path / "m.nii.gz").geometry.differences(scan.geometry) == ()


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([0, 255], "u1"),
        ([0, 256], "u2"),
        ([0, 65536], "u4"),
        ([-1, 127], "i1"),
        ([-1, 128], "i2"),
        ([-1, 32768], "i4"),
    ],
)
def test_the_smallest_type(tmp_path: Path, values: list[int], dtype: str) -> None:
    scan = read_scan(save(tmp_path / "a.nii", counting((2, 1, 3))))
    labels = np.array([[values] * 3]).reshape(2, 1, 3)
    write_mask(Mask(labels, scan.geometry), tmp_path / "m.nii", scan)
    stored = nib.load(tmp_path / "m.nii")
    assert stored.get_data_dtype() == np.dtype(dtype)
    # nibabel hides the slope; it lies at byte 112 of the header.
    assert struct.unpack("<2f", (tmp_path / "m.nii").read_bytes()[112:120]) == (1, 0)
    assert np.array_equal(np.asarray(stored.dataobj), labels)


def test_more_than_32_bits(tmp_path: Path) -> None:
    scan = read_scan(save(tmp_path / "a.nii", counting((2, 1, 3))))
    with pytest.raises(DataError, match="more than 32 bits"):
        write_mask(Mask(np.full((2, 1, 3), 2**32), scan.geometry), tmp_path / "m.nii", scan)


def test_big_endian_stays_big_endian(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(by_hand([2, 1, 2], order=">", sform=SFORM) + struct.pack(">4h", 1, 2, 3, 4))
    scan = read_scan(path)
    labels = np.array([[[0, 300]], [[1, 2]]])
    write_mask(Mask(labels, scan.geometry), tmp_path / "m.nii", scan)
    stored = nib.load(tmp_path / "m.nii")
    assert stored.header.endianness == ">"
    assert np.array_equal(np.asarray(stored.dataobj), labels)
    assert np.array_equal(read_mask(tmp_path / "m.nii").array, labels)


def test_the_same_mask_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = read_scan(save(tmp_path / "a.nii", counting((4, 5, 6))))
    labels = counting((4, 5, 6)) % 3
    for name, now in (("one", 1e9), ("two", 2e9)):
        monkeypatch.setattr("time.time", lambda now=now: now)
        write_mask(Mask(labels, scan.geometry), tmp_path / f"{name}.nii.gz", scan)
    write_mask(Mask(labels + 1, scan.geometry), tmp_path / "other.nii.gz", scan)
    one, two, other = ((tmp_path / f"{n}.nii.gz").read_bytes() for n in ("one", "two", "other"))
    assert one == two != other


@pytest.mark.parametrize(("stored", "written"), [((3, 4, 5), (3, 4, 5, 2)), ((3, 4), (3, 4, 1, 2))])
def test_maps(tmp_path: Path, stored: tuple[int, ...], written: tuple[int, ...]) -> None:
    scan = read_scan(save(tmp_path / "a.nii.gz", counting(stored)))
    maps = counting((2, *stored), "float32") / 7
    file = Nifti().maps_file(tmp_path / "p.nii.gz", scan, ("a", "b"))
    file.write(whole_box(stored), maps)
    file.finish()
    image = nib.load(tmp_path / "p.nii.gz")
    assert image.shape == written
    assert image.get_data_dtype() == np.float32
    assert np.array_equal(image.affine, AFFINE)
    again = read_scan(tmp_path / "p.nii.gz")
    assert np.array_equal(again.array, maps)
    file = Nifti().maps_file(tmp_path / "q.nii.gz", scan, ("a",))
    with pytest.raises(ShapeMismatch, match="values do not fill"):
        file.write(whole_box(stored), maps)
    file.discard()


@pytest.mark.parametrize(("unit", "code"), [("mm", 2), ("um", 3), ("px", 0)])
@pytest.mark.parametrize("ndim", [2, 3])
def test_a_mask_like_a_scan_of_another_format(
    tmp_path: Path, unit: str, code: int, ndim: int
) -> None:
    shape, spacing = (4, 5, 6)[:ndim], (0.5, 2.0, 3.0)[:ndim]
    geometry = Geometry.from_spacing(shape, spacing, unit)  # type: ignore[arg-type]
    scan = Scan(np.zeros((1, *shape)), geometry, ("0",), Source(Path("a.tif"), "tiff"))
    write_mask(Mask(np.ones(shape, int), geometry), tmp_path / "m.nii.gz", scan)
    image = nib.load(tmp_path / "m.nii.gz")
    assert image.header["xyzt_units"] == code
    assert image.header.get_zooms()[:ndim] == spacing
    if unit != "px":
        assert read_mask(tmp_path / "m.nii.gz").geometry.differences(geometry) == ()


def test_suffixes_of_masks() -> None:
    made = Nifti()
    assert made.mask_suffix(Path("A.NII.GZ")) == ".nii.gz"
    assert made.mask_suffix(Path("a.nii")) == ".nii"
    assert made.maps_suffix(Path("a.nii")) == ".nii"


@pytest.mark.real
def test_real_files_as_nibabel_reads_them(real_data: Path) -> None:
    names = [
        "hippocampus/images/hippocampus_001.nii.gz",
        "hippocampus/labels/hippocampus_001.nii.gz",
        "ct_spleen_crop/images/sub-spleen2_ct.nii.gz",
        "ct_totalseg_example/images/example_ct_sm.nii.gz",
        "ms_lesion_4ch/images/patient07.nii.gz",
    ]
    for name in names:
        scan, image = read_scan(real_data / name), nib.load(real_data / name)
        expected = np.asanyarray(image.dataobj)
        expected = np.moveaxis(expected, -1, 0) if expected.ndim == 4 else expected[None]
        assert scan.array.dtype == expected.dtype
        assert np.array_equal(scan.array, expected)
        assert np.allclose(scan.geometry.affine, image.affine)
