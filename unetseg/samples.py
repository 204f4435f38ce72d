"""Two small synthetic data sets: nested structures in oblique MR, and touching nuclei."""

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unetseg.files import replacing

Floats = NDArray[np.float64]

MR_TRAIN, MR_TEST = 14, 3
NUCLEI_TRAIN, NUCLEI_TEST = 10, 3
NUCLEI_SIZE = 160
PIXEL_UM = 0.65

# Storage orders that scanners and converters leave behind; slices stay the thick direction.
_ORIENTATIONS = ("LPS", "RAS", "LAS", "SLP", "PLS", "RPI", "ASR")
_MR_DTYPES = (np.int16, np.uint8, np.int16, np.float32)
_SEED_MR, _SEED_NUCLEI = 2718, 3141

# Voxels are drawn thinner than they are stored, and averaged: slices show partial volumes.
_SUBSLICES = 3


@dataclass(frozen=True)
class _Grid:
    """The fine grid on which a volume is drawn: shape and spacing per axis, in mm."""

    shape: tuple[int, ...]
    spacing: tuple[float, ...]

    @property
    def extent(self) -> Floats:
        return np.array(self.shape) * self.spacing

    def radius(self, centre: Floats, semi_axes: Floats) -> Floats:
        """Elliptical distance from `centre` (mm from the middle): 1 on the ellipsoid."""
        total = np.zeros(self.shape)
        for axis, (size, edge) in enumerate(zip(self.shape, self.spacing, strict=True)):
            along = (np.arange(size) - (size - 1) / 2) * edge - centre[axis]
            shape = [1] * len(self.shape)
            shape[axis] = size
            total += (along.reshape(shape) / semi_axes[axis]) ** 2
        distance: Floats = np.sqrt(total)
        return distance

    def smooth(self, rng: np.random.Generator, sigma: float) -> Floats:
        """Random field of mean 0 and deviation 1 whose features are about `sigma` mm wide."""
        from scipy.ndimage import gaussian_filter

        white = rng.standard_normal(self.shape)
        field: Floats = gaussian_filter(white, [sigma / edge for edge in self.spacing])
        field -= field.mean()
        field /= field.std()
        return field


def write_samples(folder: Path) -> tuple[Path, ...]:
    """Write both sample sets below `folder`: the same voxels each time, under 2 MB in all.

    `mr/{train,test}/{images,labels}/case_NN.nii.gz` : oblique 3-D volumes of about 0.8 mm by
    0.8 mm by 2.5 mm in several orientations and types; labels 1 (outer), 2 (middle), 3 (core).
    `nuclei/{train,test}/{images,masks}/img_NN.ome.tif` : uint16 2-D images with a pixel size of
    0.65 um; every nucleus has its own label. Files of these names are replaced.

    Returns the paths written. Raises DataError if the folder cannot be written to.
    """
    written = []
    for number in range(1, MR_TRAIN + MR_TEST + 1):
        part = Path(folder) / "mr" / ("train" if number <= MR_TRAIN else "test")
        written += _write_mr(part, number)
    for number in range(1, NUCLEI_TRAIN + NUCLEI_TEST + 1):
        part = Path(folder) / "nuclei" / ("train" if number <= NUCLEI_TRAIN else "test")
        written += _write_nuclei(part, number)
    return tuple(written)


def _write_mr(part: Path, number: int) -> list[Path]:
    import nibabel as nib
    from nibabel.orientations import axcodes2ornt, ornt_transform

    rng = np.random.default_rng([_SEED_MR, number])
    shape = (*rng.integers(50, 61, 2).tolist(), int(rng.integers(14, 19)))
    spacing = np.array([0.8, 0.8, 2.5]) * rng.uniform(0.93, 1.07, 3)
    scan, labels = _draw_mr(rng, shape, spacing)
    affine = _oblique(rng, shape, spacing)
    turn = ornt_transform(
        axcodes2ornt("RAS"), axcodes2ornt(_ORIENTATIONS[number % len(_ORIENTATIONS)])
    )
    dtype = _MR_DTYPES[number % len(_MR_DTYPES)]
    # Coarse steps below the noise cost nothing and let gzip halve the files.
    stored = np.round(scan * 64) / 64 if dtype == np.float32 else np.round(scan * 160)
    stored = np.clip(stored, 0, 255).astype(dtype)
    written = []
    for kind, array in (("images", stored), ("labels", labels)):
        image = nib.Nifti1Image(array, affine).as_reoriented(turn)
        image.header.set_xyzt_units("mm")
        image.set_qform(image.affine, code=1)
        image.set_sform(image.affine, code=1)
        path = part / kind / f"case_{number:02d}.nii.gz"
        with replacing(path) as temporary:
            temporary.write_bytes(gzip.compress(image.to_bytes(), 9, mtime=0))
        written.append(path)
    return written


def _oblique(rng: np.random.Generator, shape: tuple[int, ...], spacing: Floats) -> Floats:
    """Affine (4, 4) in mm, 5 to 20 degrees off the axes, about as far as a table moves."""
    from scipy.spatial.transform import Rotation

    axis = rng.standard_normal(3)
    angle = np.deg2rad(rng.uniform(5, 20))
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_rotvec(angle * axis / np.linalg.norm(axis)).as_matrix() * spacing
    affine[:3, 3] = rng.uniform(-40, 40, 3) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def _draw_mr(
    rng: np.random.Generator, shape: tuple[int, ...], spacing: Floats
) -> tuple[Floats, NDArray[np.uint8]]:
    """Scan (*S) with values of about 0 to 1.5, and labels (*S) 0 to 3."""
    from scipy.ndimage import gaussian_filter

    grid = _Grid(
        (shape[0], shape[1], shape[2] * _SUBSLICES),
        (float(spacing[0]), float(spacing[1]), float(spacing[2]) / _SUBSLICES),
    )
    outer, middle, core, near = _nested(rng, grid)
    low, plain, mild, high = np.array([0.22, 0.42, 0.60, 0.85]) * rng.uniform(0.94, 1.06, 4)

    tissue = plain * (1 + 0.13 * grid.smooth(rng, 1.5))
    # Everything that follows takes its brightness from the structures, but not their nesting.
    tissue[grid.smooth(rng, 3.5) > 1.0] = mild
    bumps = 0.25 * grid.smooth(rng, 2.0)
    for level in (low, mild, high) * 3:
        centre = rng.uniform(-0.45, 0.45, 3) * grid.extent
        tissue[(grid.radius(centre, rng.uniform(2.0, 5.5, 3)) + bumps < 1) & ~near] = level
    semi_axes = np.array([*(grid.extent[:2] * rng.uniform(0.47, 0.56, 2)), 1e6])
    skin = grid.radius(np.zeros(3), semi_axes) + 0.03 * grid.smooth(rng, 6.0)
    tissue[(skin > 0.90) & ~outer] = high
    tissue[(skin > 0.985) & ~outer] = 0.0
    grain = 1 + 0.07 * grid.smooth(rng, 1.0)
    for structure, level in ((outer, mild), (middle, high), (core, low)):
        tissue[structure] = level * grain[structure]

    signal = tissue ** rng.uniform(0.75, 1.3) * np.exp(0.22 * grid.smooth(rng, 14.0))
    slices = gaussian_filter(signal, (0.6, 0.6, 0)).reshape(*shape, _SUBSLICES).mean(-1)
    # Magnitude of a complex signal with noise in both parts: Rician, Rayleigh in air.
    noise = rng.uniform(0.03, 0.05) * rng.standard_normal((2, *shape))
    scan = rng.uniform(0.8, 1.2) * np.hypot(slices + noise[0], noise[1])
    labels = outer.astype(np.uint8) + middle + core
    return scan, labels[:, :, _SUBSLICES // 2 :: _SUBSLICES]


def _nested(rng: np.random.Generator, grid: _Grid) -> list[NDArray[np.bool_]]:
    """Three irregular regions (*S), each inside the one before, and the surroundings of all."""
    centre = rng.uniform(-0.2, 0.2, 3) * grid.extent
    radius = grid.radius(centre, rng.uniform(7.5, 11.0, 3))
    near = radius < 1.45
    regions = []
    limit = near
    for size, bump, width in ((1.0, 0.20, 3.0), (0.74, 0.17, 2.4), (0.46, 0.15, 1.9)):
        # Each border wanders on its own, so that shells are thick here and thin there; the
        # limit leaves some of the shell everywhere.
        border = radius + bump * grid.smooth(rng, width)
        regions.append(limit & (border < size))
        limit = regions[-1] & (border < size - 0.2)
    return [*regions, near]


def _write_nuclei(part: Path, number: int) -> list[Path]:
    import tifffile

    rng = np.random.default_rng([_SEED_NUCLEI, number])
    counts, labels = _draw_nuclei(rng)
    written = []
    for kind, array in (("images", counts), ("masks", labels)):
        path = part / kind / f"img_{number:02d}.ome.tif"
        metadata = {
            "axes": "YX",
            "PhysicalSizeX": PIXEL_UM,
            "PhysicalSizeXUnit": "µm",
            "PhysicalSizeY": PIXEL_UM,
            "PhysicalSizeYUnit": "µm",
            # A fresh identifier for each write would make equal files differ.
            "UUID": f"00000000-0000-4000-8000-{number:010d}{len(kind):02d}",
        }
        with replacing(path) as temporary:
            tifffile.imwrite(
                temporary,
                array,
                ome=True,
                metadata=metadata,
                photometric="minisblack",
                compression="zlib",
                compressionargs={"level": 9},
            )
        written.append(path)
    return written


def _draw_nuclei(rng: np.random.Generator) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Photon counts (*S) and instance labels (*S), 1 to the number of nuclei."""
    from scipy.ndimage import gaussian_filter

    size = NUCLEI_SIZE
    rows, columns = np.mgrid[:size, :size].astype(np.float64)
    grid = _Grid((size, size), (1.0, 1.0))
    nearest = np.ones((size, size))
    owner = np.zeros((size, size), dtype=np.uint16)
    light = np.zeros((size, size))
    chromatin = np.exp(0.22 * grid.smooth(rng, 1.6))
    for number, (y, x, radius) in enumerate(_clusters(rng, size), start=1):
        depth = _outline(rng, rows - y, columns - x, radius)
        # Where two nuclei meet, each pixel goes to the one in which it lies deeper.
        owner[depth < nearest] = number
        nearest = np.minimum(nearest, depth)
        brightness = 85.0 if rng.random() < 0.7 else 26.0
        dome = np.clip(1 - 0.45 * depth**2, 0, None) * (depth < 1)
        light += brightness * rng.lognormal(0.0, 0.25) * dome * chromatin
    labels = _whole(owner)

    haze = 10 + 8 * grid.smooth(rng, 45.0) + 0.35 * gaussian_filter(light, 12.0)
    for y, x in rng.uniform(0, size, (7, 2)):
        blob = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * rng.uniform(7, 14) ** 2))
        haze += rng.uniform(12, 38) * blob
    seen = np.clip(gaussian_filter(light, rng.uniform(0.9, 1.7)) + haze, 4, None)
    # Shot noise as the normal limit of Poisson's law, which replays alike on every platform.
    shot, read = rng.standard_normal((2, size, size))
    counts = np.clip(np.round(seen + np.sqrt(seen) * shot + 1.5 * read), 0, None)
    return counts.astype(np.uint16), labels


def _clusters(rng: np.random.Generator, size: int) -> list[tuple[float, float, float]]:
    """Row, column and radius in pixels of each nucleus: some alone, most touching others."""
    placed: list[tuple[float, float, float]] = []
    for _ in range(int(rng.integers(9, 14))):
        members: list[tuple[float, float, float]] = []
        for _ in range(int(rng.choice([1, 2, 3, 4, 6], p=[0.25, 0.25, 0.2, 0.2, 0.1]))):
            for _ in range(30):
                radius = rng.uniform(6.0, 9.5)
                y, x = rng.uniform(0, size, 2)
                if members:
                    beside = members[rng.integers(len(members))]
                    angle = rng.uniform(0, 2 * np.pi)
                    reach = rng.uniform(0.82, 0.95) * (radius + beside[2])
                    y, x = beside[0] + reach * np.sin(angle), beside[1] + reach * np.cos(angle)
                # Members of a cluster press against each other; clusters keep apart.
                crowded = any(
                    np.hypot(y - v, x - u) < 0.8 * (radius + r) for v, u, r in members
                ) or any(np.hypot(y - v, x - u) < 1.15 * (radius + r) for v, u, r in placed)
                if not crowded and 0 <= y < size and 0 <= x < size:
                    members.append((float(y), float(x), radius))
                    break
        placed += members
    return placed


def _outline(rng: np.random.Generator, dy: Floats, dx: Floats, radius: float) -> Floats:
    """Distance from the centre as a share of a wobbly ellipse's radius: 1 on the outline."""
    turn = rng.uniform(0, np.pi)
    stretch = rng.uniform(1.0, 1.3)
    along = (dx * np.cos(turn) + dy * np.sin(turn)) / stretch
    across = (dy * np.cos(turn) - dx * np.sin(turn)) * stretch
    angle = np.arctan2(across, along)
    wobble = np.ones_like(angle)
    for wave in (2, 3, 4, 5):
        wobble += rng.normal(0, 0.16 / wave) * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    outline: Floats = np.hypot(along, across) / (radius * wobble)
    return outline


def _whole(owner: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """The largest piece of each nucleus, numbered anew; slivers are left out."""
    from scipy.ndimage import label

    labels = np.zeros_like(owner)
    for number in range(1, int(owner.max()) + 1):
        pieces, count = label(owner == number)
        sizes = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
        if sizes.max(initial=0) >= 25:
            labels[pieces == 1 + sizes.argmax()] = labels.max() + 1
    return labels
