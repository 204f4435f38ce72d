"""Faults planted into copies of sound sets; for check.py.

Each fault is one that somebody has made before: a file copied under a second name, a mask saved
after a flip, a click with the wrong label. What is planted where follows from the seed alone.
"""

import gzip
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage


@dataclass(frozen=True)
class Planted:
    """A fault, and the names of the cases that a finding of this kind has to name one of."""

    kind: str
    cases: tuple[str, ...]
    what: str


class Volumes:
    """A set as of the Decathlon: imagesTr with labelsTr, imagesVa with labelsVa, imagesTs."""

    suffix = ".nii.gz"

    def __init__(self, source: Path, folder: Path, seed: int, count: int) -> None:
        self.folder = folder
        self.rng = np.random.default_rng(seed)
        names = sorted(path.name for path in (source / "images").iterdir())
        picked = self.rng.permutation(names)[:count].tolist()
        parts = {"Tr": picked[: -count // 4], "Va": picked[-count // 4 : -count // 8]}
        for part, members in (*parts.items(), ("Ts", picked[-count // 8 :])):
            for kind in ("images", "labels") if part != "Ts" else ("images",):
                (folder / f"{kind}{part}").mkdir(parents=True)
                for name in members:
                    shutil.copy(source / kind / name, folder / f"{kind}{part}" / name)
        self.free = self.rng.permutation(sorted(parts["Tr"])).tolist()

    def take(self) -> str:
        """A training case that is still sound."""
        return str(self.free.pop())

    def path(self, kind: str, name: str, part: str = "Tr") -> Path:
        return self.folder / f"{kind}{part}" / name

    def change(
        self, kind: str, name: str, change: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    ) -> None:
        path = self.path(kind, name)
        file = nib.load(path)
        array = change(np.asarray(file.dataobj).astype(np.float64))
        dtype = np.float32 if kind == "images" or (array % 1).any() else np.uint8
        self.save(path, array.astype(dtype), file)

    def save(self, path: Path, array: NDArray[np.generic], like: nib.Nifti1Image) -> None:
        made = nib.Nifti1Image(array, like.affine)
        made.header.set_xyzt_units("mm")
        # Written beside and renamed: nibabel reads lazily from the file it is to replace.
        beside = path.with_name(f"new_{path.name}")
        nib.save(made, beside)
        beside.replace(path)

    def copy(self, name: str, new: str, part: str = "Tr") -> None:
        for kind in ("images", "labels"):
            shutil.copy(self.path(kind, name), self.path(kind, new, part))

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(nib.load(self.path("images", name)).shape)


def stem(name: str) -> str:
    return name.removesuffix(".nii.gz").removesuffix(".png")


def plant_volumes(data: Volumes) -> list[Planted]:
    """Twenty faults and more, one a case."""
    done: list[Planted] = []

    def planted(kind: str, what: str, *names: str) -> None:
        done.append(Planted(kind, tuple(stem(name) for name in names), what))

    rng = data.rng
    if pair := _of_one_shape(data):
        _exchange_masks(data, *pair)
        planted("mismatch", "the masks of two cases exchanged", *pair)

    name = data.take()
    data.copy(name, "hippocampus_900.nii.gz")
    planted("duplicate", "a case copied under another name", "hippocampus_900", name)

    name = data.take()
    file = nib.load(data.path("images", name))
    made = nib.Nifti1Image(np.asarray(file.dataobj).astype(np.float64), file.affine)
    made.header.set_xyzt_units("mm")
    nib.save(made, data.folder / "imagesTs" / "hippocampus_901.nii.gz")
    planted("duplicate", "an image among the tests too, of another type", "hippocampus_901", name)

    name = data.take()
    data.copy(name, "hippocampus_902.nii.gz", "Va")
    path = data.path("images", "hippocampus_902.nii.gz", "Va")
    file = nib.load(path)
    array = np.asarray(file.dataobj).astype(np.float64)
    noise = rng.normal(0, 0.03 * array.std(), array.shape)
    data.save(path, (1.1 * array + noise).astype(np.float32), file)
    planted("near-duplicate", "a copy with noise among the validation", "hippocampus_902", name)

    for axis in (0, 1, 2):
        name = data.take()
        data.change("labels", name, lambda a, axis=axis: np.flip(a, axis))
        planted("mask-flip", f"a mask flipped along axis {axis}", name)
    for axis in (1, 2):
        name = data.take()
        for kind in ("images", "labels"):
            data.change(kind, name, lambda a, axis=axis: np.flip(a, axis))
        planted("orientation", f"image and mask flipped along axis {axis}", name)

    name = data.take()
    data.change("images", name, lambda a: 100 + rng.normal(0, 0.01, a.shape))
    planted("flat", "an image that is constant but for a little noise", name)
    name = data.take()
    data.change("images", name, lambda a: np.minimum(a, np.percentile(a, 70)))
    planted("saturated", "an image clipped at its 70th percentile", name)
    name = data.take()
    data.change("labels", name, lambda a: 0 * a)
    planted("empty-mask", "a mask without foreground", name)

    name = data.take()
    data.change("labels", name, lambda a: _click(a, 3, rng))
    planted("rare-label", "one voxel of the value 3", name)
    name = data.take()
    data.change("labels", name, lambda a: _far_speck(a, 1))
    planted("stray", "three voxels of class 1 in a far corner", name)

    name = data.take()
    for kind in ("images", "labels"):
        path = data.path(kind, name)
        file = nib.load(path)
        wider = nib.Nifti1Image(np.asarray(file.dataobj), np.diag([10, 10, 10, 1]) @ file.affine)
        wider.header.set_xyzt_units("mm")
        nib.save(wider, path.with_name(f"new_{name}"))
        path.with_name(f"new_{name}").replace(path)
    planted("spacing", "centimetres taken for millimetres", name)
    name = data.take()
    for kind in ("images", "labels"):
        mode = "reflect" if kind == "images" else "constant"
        data.change(kind, name, lambda a, mode=mode: _longer(a, mode))
    planted("size", "two and a half times as long along an axis", name)
    name = data.take()
    data.change("images", name, lambda a: a * (1e9 / a.max()))
    planted("intensity", "a wrong slope in the header: up to 1e9", name)
    name = data.take()
    data.change("images", name, lambda a: a.max() + a.min() - a)
    planted("inverted", "dark for bright", name)

    name = data.take()
    path = data.path("labels", name)
    file = nib.load(path)
    moved = file.affine.copy()
    moved[0, 3] += 5
    made = nib.Nifti1Image(np.asarray(file.dataobj).astype(np.uint8), moved)
    made.header.set_xyzt_units("mm")
    nib.save(made, path.with_name(f"new_{name}"))
    path.with_name(f"new_{name}").replace(path)
    planted("grid", "a mask that lies 5 mm aside", name)
    name = data.take()
    data.change(
        "labels",
        name,
        lambda a: ndimage.zoom(
            ndimage.zoom(a, 0.5, order=1),
            np.array(a.shape) / np.array([round(n * 0.5) for n in a.shape]),
            order=1,
        ),
    )
    planted("mask-values", "a mask that was resized linearly", name)
    name = data.take()
    data.path("labels", name).rename(data.path("labels", f"other_{name}"))
    planted("unpaired", "a mask under another name", name, f"other_{name}")
    one, other = data.take(), data.take()
    for kind in ("images", "labels"):
        data.path(kind, one).rename(data.path(kind, "patient07_left.nii.gz"))
        data.path(kind, other).rename(data.path(kind, "patient07_right.nii.gz", "Va"))
    planted("leak", "a patient in training and validation", "patient07_left", "patient07_right")
    name = data.take()
    path = data.path("images", name)
    packed = gzip.compress(gzip.decompress(path.read_bytes()))
    path.write_bytes(packed[: len(packed) // 2])
    planted("unreadable", "half a file", name)
    return done


def _of_one_shape(data: Volumes) -> tuple[str, str] | None:
    """Two sound cases of one shape, both taken, if there are any."""
    seen: dict[tuple[int, ...], str] = {}
    for name in list(data.free):
        other = seen.setdefault(data.shape(name), name)
        if other != name:
            data.free = [each for each in data.free if each not in (name, other)]
            return other, name
    return None


def _exchange_masks(data: Volumes, one: str, other: str) -> None:
    """Each mask takes the grid of its new image."""
    masks = [np.asarray(nib.load(data.path("labels", name)).dataobj) for name in (one, other)]
    for name, mask in zip((other, one), masks, strict=True):
        like = nib.load(data.path("images", name))
        data.save(data.path("labels", name), mask.astype(np.uint8), like)


def _click(mask: NDArray[np.float64], value: int, rng: np.random.Generator) -> NDArray[np.float64]:
    mask = mask.copy()
    places = np.flatnonzero(mask)
    mask.flat[places[rng.integers(len(places))]] = value
    return mask


def _far_speck(mask: NDArray[np.float64], value: int) -> NDArray[np.float64]:
    """Three voxels in the corner that lies farthest from the foreground."""
    mask = mask.copy()
    centre = np.mean(np.nonzero(mask), axis=1)
    corner = [2 if 2 * c > n else n - 3 for c, n in zip(centre, mask.shape, strict=True)]
    mask[corner[0] : corner[0] + 1, corner[1] : corner[1] + 1, corner[2] - 1 : corner[2] + 2] = (
        value
    )
    return mask


def _longer(array: NDArray[np.float64], mode: str) -> NDArray[np.float64]:
    more = int(1.5 * array.shape[0])
    while more:
        step = min(more, array.shape[0] - 1)
        array = np.pad(array, [(0, step), (0, 0), (0, 0)], mode=mode)
        more -= step
    return array


class Pictures:
    """A set in images/ and labels/."""

    def __init__(self, source: Path, folder: Path, seed: int, count: int) -> None:
        self.folder = folder
        self.rng = np.random.default_rng(seed)
        names = sorted(path.name for path in (source / "images").iterdir())
        picked = self.rng.permutation(names)[:count].tolist()
        for kind in ("images", "labels"):
            (folder / kind).mkdir(parents=True)
            for name in picked:
                shutil.copy(source / kind / name, folder / kind / name)
        # A fault in a mask is one where there is something to see.
        drawn = [name for name in picked if len(np.unique(self.read("labels", name))) > 10]
        self.free = drawn

    def take(self) -> str:
        return str(self.free.pop())

    def path(self, kind: str, name: str) -> Path:
        return self.folder / kind / name

    def read(self, kind: str, name: str) -> NDArray[np.generic]:
        return np.asarray(Image.open(self.path(kind, name)))

    def write(self, kind: str, name: str, array: NDArray[np.generic]) -> None:
        Image.fromarray(array).save(self.path(kind, name))


def plant_pictures(data: Pictures) -> list[Planted]:
    """Faults of pictures with objects."""
    done: list[Planted] = []

    def planted(kind: str, what: str, *names: str) -> None:
        done.append(Planted(kind, tuple(stem(name) for name in names), what))

    shapes: dict[tuple[int, ...], str] = {}
    for name in list(data.free):
        shape = data.read("labels", name).shape
        if shape in shapes:
            other = shapes[shape]
            masks = data.read("labels", name), data.read("labels", other)
            data.write("labels", name, masks[1]), data.write("labels", other, masks[0])
            data.free.remove(name), data.free.remove(other)
            planted("mismatch", "the masks of two images exchanged", name, other)
            break
        shapes[shape] = name
    for axis, word in ((0, "upside down"), (1, "left for right")):
        name = data.take()
        data.write("labels", name, np.ascontiguousarray(np.flip(data.read("labels", name), axis)))
        planted("mask-flip", f"a mask {word}", name)
    name = data.take()
    ids = data.read("labels", name)
    shades = ndimage.gaussian_filter(255.0 * (ids > 0), 1.0).astype(np.uint8)
    data.write("labels", name, np.stack([shades, 0 * shades, 0 * shades], axis=-1))
    planted("mask-values", "a mask drawn in red, with smooth edges", name)
    name = data.take()
    data.write("labels", name, 0 * data.read("labels", name))
    planted("empty-mask", "a mask without objects", name)
    name = data.take()
    picture = data.read("images", name).copy()
    picture[..., :3] = np.minimum(
        255, picture[..., :3].astype(int) * 255 // max(1, int(np.percentile(picture[..., :3], 80)))
    )
    data.write("images", name, picture)
    planted("saturated", "exposed until a fifth of the pixels is white", name)
    name = data.take()
    picture = data.read("images", name).copy()
    picture[..., :3] = 7
    data.write("images", name, picture)
    planted("flat", "one grey", name)
    name = data.take()
    picture = data.read("images", name).astype(int)
    noisy = np.clip(picture + data.rng.integers(-1, 2, picture.shape), 0, 255).astype(np.uint8)
    noisy[..., 3:] = 255
    data.write("images", "copy.png", noisy)
    data.write("labels", "copy.png", data.read("labels", name))
    planted("near-duplicate", "an image saved again with a little noise", name, "copy")
    name = data.take()
    for kind in ("images", "labels"):
        shutil.copy(data.path(kind, name), data.path(kind, "second.png"))
    planted("duplicate", "an image under two names", name, "second")
    name = data.take()
    picture = data.read("images", name).copy()
    picture[..., :3] = 255 - picture[..., :3]
    data.write("images", name, picture)
    planted("inverted", "dark nuclei on white among bright ones on black", name)
    return done
