"""What predict.py predicts: synthetic scans and images, written part by part, and models for them.

Everything follows from a seed. The models are the U-Nets that a plan for a processor describes,
untrained but for one thing: a channel of the finest level carries the image, smoothed, over the
long skip to the head, which divides its values into as many classes as are asked for. So they cost
what a trained network costs, and their outputs are piecewise smooth as those of a trained one are.
"""

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from scipy.spatial import cKDTree

from unetseg import checkpoint
from unetseg.config import Plan
from unetseg.dataset.loading import load_scan, load_truth
from unetseg.devices import find_device, measure
from unetseg.geometry import Geometry
from unetseg.nets.layers import ConvBlock
from unetseg.nets.unet import UNet
from unetseg.planning import make
from unetseg.planning.fingerprint import Fingerprint, Intensity
from unetseg.records import Case, Machine

SEED = 0
# As the issue has them: the outputs' grid and the scan's, at an eighth of a whole CT.
EXPORT_GRID, EXPORT_SCAN = (200, 137, 137), (300, 256, 256)
CT_SIZE, CT_SPACING, CT_GRID_MM = (512, 512, 600), (0.8, 0.8, 1.0), 1.5
BRAIN = (182, 218, 182)
# A network of one level and one convolution: what is left of the time is not the network's.
STAND_IN = {"network.levels": 1, "network.features": [4], "network.blocks": [1]}
# Where the carried channel lies after its normalisation: positive, so that no activation bends it.
_SHIFT, _REACH = 3.0, 2.0
# Hounsfield units of air, and the range of what is inside the body.
_AIR, _BODY = -1000, (-200, 400)
# Of a CT, voxels along an edge that are decided together.
_CELL = 4


@dataclass(frozen=True)
class Kind:
    """What a plan has to know of a set: a CT, a volume such as hippocampus, or pictures."""

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    is_ct: bool = False

    @property
    def is_volume(self) -> bool:
        return len(self.shape) == 3


HIPPOCAMPUS = Kind((36, 50, 35), (1.0, 1.0, 1.0))
NUCLEI = Kind((256, 256), (1.0, 1.0))
CT = Kind((512, 512, 300), CT_SPACING, is_ct=True)


def plan_for(
    kind: Kind, outputs: int, overrides: Mapping[str, Any] | None = None, device: str = "cpu"
) -> Plan:
    """The plan that a training on a processor with two cores, or on that card, would have."""
    cases = 40
    found = Fingerprint(
        cases=cases,
        dimensions=len(kind.shape),
        unit="mm" if kind.is_volume else "px",
        channels=("0",) if kind.is_volume else ("grey",),
        is_picture=not kind.is_volume,
        shapes=(kind.shape,) * cases,
        spacings=(kind.spacing,) * cases,
        label_counts=tuple((value, 1000) for value in range(outputs)),
        label_names=(),
        ignore_value=None,
        looks_like_objects=False,
        looks_like_ct=kind.is_ct,
        intensity=(Intensity(*map(float, _BODY), 100.0, 150.0),),
        zero_share=0.0,
    )
    if device == "cpu":
        machine = Machine("cpu", 8 << 30, 2, bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()))
    else:
        machine = measure(find_device(device))
    chosen = {"data.spacing": (CT_GRID_MM,) * 3} if kind.is_ct else {}
    return make(found, machine, chosen | dict(overrides or {}))


def write_model(folder: Path, plan: Plan) -> Path:
    """A model folder with the plan's network and weights of the kind that is described above."""
    torch.manual_seed(SEED)
    network = checkpoint.build(plan)
    with torch.no_grad():
        _carry(network)
    checkpoint.save(folder, network, plan, {"finished": True, "trained": False})
    return folder


def _carry(network: UNet) -> None:
    """Let the first channel carry the smoothed image to the head, which divides its values."""
    stage: ConvBlock = network.get_submodule("encoder.stages.0")  # type: ignore[assignment]
    _through(stage, 0, smoothing=True)
    if len(network.blocks):
        block: ConvBlock = network.blocks[0]  # type: ignore[assignment]
        # The skip concat puts the decoder's channels first.
        _through(block, block[0].in_channels - network.encoder.channels[0], smoothing=False)
    head: Any = network.heads[0]
    outputs = len(head.weight)
    centres = torch.linspace(-_REACH, _REACH, outputs) + _SHIFT
    head.weight.zero_()
    # The largest of c v - c^2 / 2 over c is that of the centre nearest to v.
    head.weight[:, 0] = centres.reshape(-1, *(1,) * (head.weight.ndim - 2))
    head.bias.copy_(-centres.square() / 2)


def _through(block: ConvBlock, source: int, *, smoothing: bool) -> None:
    """Make the block's first channel that of `source`, smoothed by the first convolution."""
    for layer in block:
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Conv3d):
            kernel = layer.weight[0]
            kernel.zero_()
            if smoothing:
                kernel[source] = 1 / kernel[source].numel()
            else:
                kernel[(source, *(size // 2 for size in kernel.shape[1:]))] = 1
            source, smoothing = 0, False
        elif getattr(layer, "bias", None) is not None:
            layer.weight[0], layer.bias[0] = 1.0, _SHIFT  # type: ignore[index]


def model_for(
    folder: Path,
    name: str,
    kind: Kind,
    outputs: int,
    overrides: dict[str, Any] | None = None,
    device: str = "cpu",
) -> str:
    """An untrained model under the folder, made if it is not there."""
    path = folder / f"{name}_{outputs}{'' if device == 'cpu' else '_card'}"
    if not (path / checkpoint.DESCRIPTION).is_file():
        write_model(path, plan_for(kind, outputs, overrides, device))
    return str(path)


@contextmanager
def place_for(given: argparse.Namespace) -> Iterator[Path]:
    """Where the files of a benchmark lie: kept, or gone afterwards."""
    if given.work:
        folder = given.work / ("quick" if given.quick else "full")
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    else:
        with tempfile.TemporaryDirectory() as name:
            yield Path(name)


# --- outputs on a grid ---------------------------------------------------------------------------


def write_outputs(path: Path, outputs: int, grid: Sequence[int]) -> None:
    """(outputs, *grid) float16 as a trained network gives them, class by class, raw.

    Bodies of every class but the first lie around seeds; a class's output is high inside of its
    body, falls over a few voxels, and varies slowly and a little from voxel to voxel. float16, as
    nnU-Net's predictor holds them.
    """
    rng = np.random.default_rng(SEED)
    truth = bodies(rng, outputs, grid)
    coarse = [max(2, n // 16) for n in grid]
    zoom = [n / c for n, c in zip(grid, coarse, strict=True)]
    with path.open("wb") as file:
        for index in range(outputs):
            inside = ndimage.gaussian_filter((truth == index).astype(np.float32), 1.5, truncate=3)
            slow = ndimage.zoom(rng.normal(0, 1, coarse).astype(np.float32), zoom, order=1)
            values = 16 * inside - 8 + slow + rng.normal(0, 0.1, grid).astype(np.float32)
            file.write(values.astype(np.float16).tobytes())


def bodies(
    rng: np.random.Generator, classes: int, shape: Sequence[int], cell: int = 2
) -> NDArray[np.int16]:
    """(*shape): round bodies of the classes 1 and above, one each, side by side in an ellipse.

    cell : voxels along an edge that are decided together
    """
    small = [max(8, n // cell) for n in shape]
    centre = (np.array(small) - 1) / 2
    seeds = centre + rng.uniform(-0.6, 0.6, (max(1, classes - 1), len(shape))) * centre
    points = np.indices(small).reshape(len(shape), -1).T
    # So that about half of the space is nobody's, as in a body.
    reach = 0.45 * (np.prod(small) / max(1, classes - 1)) ** (1 / len(shape))
    distance, nearest = cKDTree(seeds).query(points, distance_upper_bound=reach)
    inside = (((points - centre) / (0.9 * centre)) ** 2).sum(1) < 1
    labels = np.where(np.isfinite(distance) & inside, nearest + 1, 0).reshape(small)
    places = [np.arange(n) * m // n for n, m in zip(shape, small, strict=True)]
    return labels[np.ix_(*places)].astype(np.int16)


# --- scans ---------------------------------------------------------------------------------------


def write_ct(path: Path, size: Sequence[int], classes: int) -> None:
    """A CT as int16 NIfTI: air, a body, and as many organs less one."""
    rng = np.random.default_rng(SEED)
    organs = bodies(rng, classes, size, _CELL)
    low, high = _BODY
    values = np.linspace(low, high, classes)
    rng.shuffle(values[1:])
    # Seen from above the body is an ellipse, all the way through.
    across = [(np.arange(n) - (n - 1) / 2) / (0.48 * n) for n in size[:2]]
    inside = across[0][:, None] ** 2 + across[1][None] ** 2 < 1
    # In the order of the file, whose first axis is the fastest.
    volume = np.empty(size, np.int16, order="F")
    for k in range(size[2]):
        plane = np.where(inside, values[organs[:, :, k]], _AIR)
        volume[:, :, k] = plane + rng.normal(0, 12, inside.shape)
    affine = np.diag([-CT_SPACING[0], -CT_SPACING[1], CT_SPACING[2], 1.0])
    with nib.openers.Opener(str(path), "wb", compresslevel=1) as file:
        image = nib.Nifti1Image(volume, affine)
        image.header.set_xyzt_units("mm")
        image.to_stream(file)


def write_mosaic(cases: Sequence[Case], size: Sequence[int], folder: Path) -> None:
    """Scans with truths, side by side until they fill one scan of that size: images/, labels/.

    Each is first brought to mean 0 and deviation 1, as the scale of MR images says nothing.
    """
    scan, labels = np.zeros(size, np.float32), np.zeros(size, np.uint8)
    loaded = []
    for case in cases:
        image = load_scan(case)
        voxels = image.array[0].astype(np.float32)
        truth = load_truth(case, image.geometry).array
        loaded.append(((voxels - voxels.mean()) / (voxels.std() or 1), truth))
    step = np.max([truth.shape for _, truth in loaded], axis=0)
    corners = np.ndindex(*(-(-n // s) for n, s in zip(size, step, strict=True)))
    for number, corner in enumerate(corners):
        voxels, truth = loaded[number % len(loaded)]
        start = np.array(corner) * step
        target = tuple(slice(a, a + n) for a, n in zip(start, truth.shape, strict=True))
        fits = tuple(slice(0, n) for n in scan[target].shape)
        scan[target], labels[target] = voxels[fits], truth[fits]
    for name, array in (("images", scan), ("labels", labels)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(array, np.eye(4)), folder / name / "mosaic.nii.gz")


def smooth_scan(size: Sequence[int], classes: int) -> NDArray[np.float32]:
    """(*size) bodies with noise, mean 0 and deviation 1: a scan that is on the grid already."""
    rng = np.random.default_rng(SEED)
    values = rng.permutation(np.linspace(-1.5, 1.5, classes))
    scan = values[bodies(rng, classes * 8, size) % classes] + rng.normal(0, 0.2, size)
    return ((scan - scan.mean()) / scan.std()).astype(np.float32)


def geometry_of(shape: Sequence[int], edges: Sequence[float]) -> Geometry:
    return Geometry(tuple(shape), np.diag([*edges, 1.0]), "mm" if len(shape) == 3 else "px")


# --- pictures ------------------------------------------------------------------------------------


def tiles(size: int, tile: int, dtype: str) -> Iterator[tuple[tuple[int, int], NDArray[Any]]]:
    """A square picture of cells on a dark ground: (row, column) and the (tile, tile) voxels."""
    rng = np.random.default_rng(SEED)
    offset = np.arange(tile) % 64 - 31.5
    cell = 150 * np.exp(-(((offset[:, None] ** 2 + offset[None] ** 2) / 2 / 14**2) ** 2))
    scale = np.iinfo(dtype).max / 255
    for row in range(0, size, tile):
        for column in range(0, size, tile):
            noise = rng.normal(40, 8, (tile, tile))
            turned = np.roll(cell, rng.integers(0, 64, 2), (0, 1))
            values = np.clip((turned + noise) * scale, 0, np.iinfo(dtype).max).astype(dtype)
            yield (row, column), values[: size - row, : size - column]


def write_bigtiff(path: Path, size: int, tile: int, dtype: str) -> None:
    """A tiled BigTIFF, compressed as microscopes do, tile by tile."""
    import tifffile

    def padded() -> Iterator[NDArray[Any]]:
        for _, values in tiles(size, tile, dtype):
            full = np.zeros((tile, tile), dtype)
            full[: values.shape[0], : values.shape[1]] = values
            yield full

    with tifffile.TiffWriter(path, bigtiff=True, ome=False) as writer:
        writer.write(
            padded(),
            shape=(size, size),
            dtype=dtype,
            tile=(tile, tile),
            compression="deflate",
            photometric="minisblack",
        )


def write_ome_zarr(path: Path, size: int, tile: int, dtype: str) -> None:
    """An OME-Zarr image (NGFF 0.5) of two axes with one resolution, chunk by chunk."""
    import zarr

    scale = {"type": "scale", "scale": [1.0, 1.0]}
    axes = [{"name": name, "type": "space"} for name in "yx"]
    level = {"path": "0", "coordinateTransformations": [scale]}
    described = {"axes": axes, "datasets": [level], "name": path.name}
    group = zarr.open_group(path, mode="w", zarr_format=3)
    group.attrs["ome"] = {"version": "0.5", "multiscales": [described]}
    array = group.create_array("0", shape=(size, size), chunks=(tile, tile), dtype=dtype)
    for (row, column), values in tiles(size, tile, dtype):
        array[row : row + values.shape[0], column : column + values.shape[1]] = values


def write_pictures(folder: Path, count: int, size: int) -> None:
    """Pictures as PNG, no two alike."""
    folder.mkdir(parents=True, exist_ok=True)
    side = -(-int(np.ceil(np.sqrt(count))) * size // size) * size
    for number, (_, values) in zip(range(count), tiles(side, size, "uint8"), strict=False):
        Image.fromarray(values).save(folder / f"picture_{number:04d}.png")
