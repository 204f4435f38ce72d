"""What normalisation and random changes are worth where microscopes misbehave.

    python benchmarks/disturbed.py DATA [--epochs 20] [--seed 0] [--results FILE.json]
        [--only VARIANT,VARIANT] [--cache FOLDER]

Trains one model per variant on the same images, for the same number of steps, and predicts every
second image of the validation fold as it is and disturbed: dim, with 12 bits, with dead pixels, on
an uneven background, at other magnifications, as a small crop, and all as one large mosaic. Every
fifth case (by name) is set apart as in accuracy.py and never looked at, so that defaults can be
chosen by what this prints. Scores are the average precision of objects, all images together. A row
is written as soon as it is there; rows in FILE.json are not made again.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from accuracy import run, split, surroundings
from numpy.typing import NDArray
from skimage.transform import resize

from unetseg.dataset import find_cases
from unetseg.dataset.loading import load_scan, load_truth

Image = NDArray[np.float64]
Ids = NDArray[np.integer[Any]]
Pair = tuple[Image, Ids]

AUGMENT = "training.augment."
VARIANTS: dict[str, tuple[str, ...]] = {
    "as planned": (),
    "z-score": ("data.normalisation=zscore",),
    "no changes of intensity": (f"{AUGMENT}intensity_probability=0",),
    "more changes of intensity": (f"{AUGMENT}intensity_probability=0.5",),
    "wider changes of intensity": (
        f"{AUGMENT}brightness=[0.5, 2.0]",
        f"{AUGMENT}contrast=[0.5, 2.0]",
        f"{AUGMENT}gamma=[0.5, 2.0]",
        f"{AUGMENT}noise=0.15",
    ),
    "no turning and scaling": (f"{AUGMENT}spatial_probability=0",),
    "scale 0.5 to 2": (f"{AUGMENT}scale=[0.5, 2.0]",),
}
# Images of the mosaic, along each axis; the edge of the crops; of how many images one is scored.
_TILES, _CROP, _EVERY = 6, 96, 2


def as_it_is(image: Image, ids: Ids, rng: np.random.Generator) -> Pair:
    del rng
    return image, ids


def dim(image: Image, ids: Ids, rng: np.random.Generator) -> Pair:
    """A sixteenth of the light: what is left of 256 grey values is 16, and shot noise."""
    return rng.poisson(image / 16).astype(np.float64), ids


def twelve_bits(image: Image, ids: Ids, rng: np.random.Generator) -> Pair:
    """4096 grey values above an offset, with the camera's read noise."""
    return image * 15 + 200 + rng.normal(0, 8, image.shape), ids


def dead_pixels(image: Image, ids: Ids, rng: np.random.Generator) -> Pair:
    """One pixel in 500 is hot, one in 500 dead."""
    drawn = rng.random(image.shape)
    return np.where(drawn < 0.002, 255.0, np.where(drawn > 0.998, 0.0, image)), ids


def uneven(image: Image, ids: Ids, rng: np.random.Generator) -> Pair:
    """Light that rises across the image by half of the image's range, and vignetting."""
    rows, columns = (np.linspace(-1, 1, n) for n in image.shape)
    angle = rng.uniform(0, 2 * np.pi)
    slope = (np.cos(angle) * rows[:, None] + np.sin(angle) * columns[None, :]) / 2.9 + 0.5
    vignette = 1 - 0.25 * (rows[:, None] ** 2 + columns[None, :] ** 2)
    low, high = np.percentile(image, [1, 99.8])
    return (image - low) * vignette + low + 0.5 * (high - low) * slope, ids


def magnified(factor: float) -> Callable[[Image, Ids, np.random.Generator], Pair]:
    def change(image: Image, ids: Ids, rng: np.random.Generator) -> Pair:
        del rng
        shape = [round(n * factor) for n in image.shape]
        smaller = factor < 1
        return (
            resize(image, shape, order=1, anti_aliasing=smaller, preserve_range=True),
            resize(ids, shape, order=0, anti_aliasing=False, preserve_range=True).astype(ids.dtype),
        )

    return change


def cropped(image: Image, ids: Ids, rng: np.random.Generator) -> Pair:
    """Much smaller than the patch."""
    del rng
    box = tuple(slice((n - _CROP) // 2, (n - _CROP) // 2 + _CROP) for n in image.shape)
    return image[box], ids[box]


DISTURBED: dict[str, Callable[[Image, Ids, np.random.Generator], Pair]] = {
    "as it is": as_it_is,
    "dim": dim,
    "12 bits": twelve_bits,
    "dead pixels": dead_pixels,
    "uneven": uneven,
    "twice as large": magnified(2.0),
    "half as large": magnified(0.5),
    "96 x 96": cropped,
}


def mosaic(pairs: list[Pair]) -> Pair:
    """One image, much larger than the patch, of the first that have the commonest shape."""
    shapes = [image.shape for image, _ in pairs]
    usual = max(set(shapes), key=shapes.count)
    picked = [pair for pair in pairs if pair[0].shape == usual]
    rows_of_images, rows_of_ids, last = [], [], 0
    for row in range(_TILES):
        images, ids = [], []
        for column in range(_TILES):
            image, own = picked[(row * _TILES + column) % len(picked)]
            images.append(image)
            ids.append(np.where(own > 0, own + last, 0))
            last += int(own.max())
        rows_of_images.append(np.hstack(images))
        rows_of_ids.append(np.hstack(ids))
    return np.vstack(rows_of_images), np.vstack(rows_of_ids)


def write_disturbed(cases: list[Any], folder: Path, seed: int) -> None:
    """A folder with images and labels for each disturbance, as 16-bit TIFF."""
    clean: list[Pair] = []
    for case in cases:
        scan = load_scan(case)
        clean.append((scan.array[0].astype(np.float64), load_truth(case, scan.geometry).array))
    for name, change in DISTURBED.items():
        rng = np.random.default_rng(seed)
        pairs = [change(image, ids, rng) for image, ids in clean]
        write_pairs(pairs, folder / name)
    write_pairs([mosaic(clean)], folder / "mosaic")


def write_pairs(pairs: list[Pair], folder: Path) -> None:
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for number, (image, ids) in enumerate(pairs):
        written = np.clip(np.round(image), 0, 65535).astype(np.uint16)
        tifffile.imwrite(folder / "images" / f"{number:03}.tif", written)
        tifffile.imwrite(folder / "labels" / f"{number:03}.tif", ids.astype(np.int32))


def measure(trial: argparse.Namespace, variant: str, folder: Path) -> dict[str, Any]:
    """Train one variant and score it on everything in `folder / disturbed`."""
    from unetseg.evaluation import evaluate

    settings = [part for value in VARIANTS[variant] for part in ("--set", value)]
    target = folder / variant.replace(" ", "_")
    train = ["train", folder / "train.csv", "-o", target, "--epochs", str(trial.epochs)]
    _, seconds = run(*train, "--seed", str(trial.seed), *settings, *trial.options)
    disturbed = folder / "disturbed"
    if not disturbed.is_dir():
        # The same division for every variant: it follows from the seed.
        folds = json.loads((target / "folds.json").read_text())
        held = set(folds[0]["val"])
        cases = [case for case in find_cases(folder / "train.csv").cases if case.name in held]
        write_disturbed(cases[::_EVERY], disturbed, trial.seed)
    scores = {}
    for each in sorted(disturbed.iterdir()):
        masks = target / "masks" / each.name
        run("predict", each / "images", "-o", masks, "--model", target)
        (pooled,) = evaluate(each / "labels", masks, objects=True).pooled
        values = dict(pooled.values)
        scores[each.name] = {key: values[key] for key in ("ap_0.5", "ap_0.7", "true", "predicted")}
    return {"variant": variant, "seconds": round(seconds, 1), "scores": scores, **surroundings()}


def show(rows: list[dict[str, Any]]) -> None:
    names = [*DISTURBED, "mosaic"]
    print(f"{'variant':28}" + "".join(f"{name:>15}" for name in names))
    for row in rows:
        cells = [row["scores"][name]["ap_0.5"] for name in names]
        print(f"{row['variant']:28}" + "".join(f"{cell:15.3f}" for cell in cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(VARIANTS))
    parser.add_argument("--results", type=Path)
    parser.add_argument("--cache", type=Path)
    given = parser.parse_args()
    given.options = ["--cache", str(given.cache)] if given.cache else []
    rows: list[dict[str, Any]] = []
    if given.results and given.results.is_file():
        rows = json.loads(given.results.read_text())
    with tempfile.TemporaryDirectory() as name:
        split(given.data, Path(name))
        for variant in given.only.split(","):
            if variant in {row["variant"] for row in rows}:
                continue
            found = measure(given, variant, Path(name))
            rows.append(found | {"epochs": given.epochs, "seed": given.seed})
            if given.results:
                given.results.write_text(json.dumps(rows, indent=1) + "\n")
    show(rows)


if __name__ == "__main__":
    main()
