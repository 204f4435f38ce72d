"""Objects: seconds of targets and of decoding, memory of images of any size; a table and JSON.

    python benchmarks/objects.py targets [DATA] [--count 400]
    python benchmarks/objects.py decode  [--size 1024] [--objects 500]
    python benchmarks/objects.py blocks  [--size 16384] [--edge 2048] [--halo 128] [--whole 16384]
    python benchmarks/objects.py balls   FOLDER [--count 24]

`targets`: distances in every object of 400 masks, those of DATA (images/, labels/) or made up.
`decode`: one image with 500 touching objects, from what a network might say of it, here and by
watersheds of scikit-image: from seeds where depth and centre are above a half, the same after
smoothing, and from h-maxima of the smoothed depth; with average precision against the truth.
`blocks`: codes of 16384 x 16384 in a file to ids in a file, block by block, and the same at once if
there is memory for it; the ids have to be the same, or the program ends with an error.
`balls`: not a measurement; writes stacks of touching balls with voxels of 4 x 1 x 1 um to train on
(FOLDER/train) and to test with (FOLDER/test).

What is measured runs in processes of its own. `--results FILE.json` keeps the rows; `--quick` makes
everything small.
"""

import argparse
import hashlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from apart import TIMES, Row, Stages, Work, in_turns, keep, measured, table
from fields import ideal, said, touching, write_balls
from numpy.typing import NDArray
from scipy import ndimage
from train import Results

from unetseg.formats import read_mask
from unetseg.formats.boxwise import Raw
from unetseg.geometry import whole_box
from unetseg.metrics.objects import average_precision, matches
from unetseg.objects.blockwise import Blocks, decode_blocks
from unetseg.objects.codes import Maps, pack, unpack
from unetseg.objects.decoding import BYTES_PER_VOXEL, Rules, decode
from unetseg.objects.distances import object_distances

RULES = Rules(smoothing=(0.7, 0.7))
TILE = 1024
# Objects of a tile, and of what sizes: about a third of it is foreground.
OBJECTS, RADII = 700, (6.0, 18.0)
THRESHOLDS = (0.5, 0.7, 0.9)


def field(size: int, objects: int, seed: int) -> tuple[NDArray[np.int32], Maps]:
    """An image of touching discs, ellipses and rods, and what a network might say of it."""
    ids, _ = touching((size, size), objects, RADII, seed, longest=2.5)
    return ids, said(ideal(ids), seed)


# --- targets -------------------------------------------------------------------------------------


def targets(given: argparse.Namespace, results: Results) -> None:
    count = 4 if given.quick else given.count
    settings = {"data": str(given.data) if given.data else None, "count": count}
    title = f"{count} masks of {given.data.name if given.data else 'touching ellipses'}"
    rows = in_turns({title: Work("objects:distances_of", settings)}, given.rounds)
    print("distances in every object")
    columns = [*TIMES, ("objects", "objects", "d"), ("megapixels", "megapixels", ".1f")]
    print(table(rows, columns, "masks"))
    keep(results, "targets", rows)


def distances_of(stages: Stages, data: str | None, count: int) -> Row:
    if data:
        paths = sorted((Path(data) / "labels").iterdir())[:count]
        masks: list[NDArray[Any]] = [read_mask(path).array for path in paths]
    else:
        masks = [field(256, 44, seed)[0] for seed in range(count)]
    objects = sum(len(np.unique(ids)) - 1 for ids in masks)
    with stages.of("distances"):
        for ids in masks:
            object_distances(ids, (1.0,) * ids.ndim)
    return {
        "objects": objects,
        "masks": len(masks),
        "megapixels": sum(ids.size for ids in masks) / 1e6,
    }


# --- one image -----------------------------------------------------------------------------------


def decode_(given: argparse.Namespace, results: Results) -> None:
    size, objects = (256, 40) if given.quick else (given.size, given.objects)
    settings = {"size": size, "objects": objects}
    works = {name: Work("objects:decoded", {"way": name, **settings}) for name in WAYS}
    rows = in_turns(works, given.rounds)
    print(f"{size} x {size} with {objects} objects, from codes to ids")
    columns = [("seconds", "seconds", ".3f"), ("objects", "objects", "d")]
    columns += [(f"AP {at:g}", f"ap_{at:g}", ".3f") for at in THRESHOLDS]
    print(table(rows, columns, "how"))
    keep(results, "decode", rows, size=size, true_objects=objects)


def decoded(stages: Stages, way: str, size: int, objects: int) -> Row:
    truth, maps = field(size, objects, 1)
    codes = pack(maps)
    # Once before: what is imported and compiled at the first call is not measured.
    WAYS[way](unpack(codes[:64, :64]))
    with stages.of("decode"):
        found = WAYS[way](unpack(codes))
    scores = average_precision([matches(truth, found)], THRESHOLDS)
    named = {f"ap_{at:g}": float(ap) for at, ap in zip(THRESHOLDS, scores, strict=True)}
    return {"objects": int(found.max()), **named}


def ours(maps: Maps, sigma: float) -> NDArray[np.int32]:
    return decode(maps, replace(RULES, smoothing=(sigma, sigma))).ids


def from_thresholds(maps: Maps, sigma: float) -> NDArray[np.int32]:
    from skimage.segmentation import watershed

    depth, centre = (ndimage.gaussian_filter(each, sigma) for each in (maps.depth, maps.centre))
    mask = maps.foreground > 0.5
    seeds, _ = ndimage.label(mask & (depth > 0.5) & (centre > 0.5))
    return watershed(-(depth + centre), seeds, mask=mask)


def from_maxima(maps: Maps, sigma: float, height: float) -> NDArray[np.int32]:
    from skimage.morphology import h_maxima
    from skimage.segmentation import watershed

    mask = maps.foreground > 0.5
    depth = np.where(mask, ndimage.gaussian_filter(maps.depth, sigma), 0)
    seeds, _ = ndimage.label(h_maxima(depth, height), np.ones((3, 3)))
    return watershed(-depth, seeds, mask=mask)


WAYS: dict[str, Callable[[Maps], NDArray[np.int32]]] = {
    "unetseg": partial(ours, sigma=0.7),
    "unetseg, not smoothed": partial(ours, sigma=0.0),
    "thresholds, watershed": partial(from_thresholds, sigma=0.0),
    "smoothed, thresholds, watershed": partial(from_thresholds, sigma=1.5),
    "smoothed, h-maxima, watershed": partial(from_maxima, sigma=1.5, height=0.1),
}


# --- any size ------------------------------------------------------------------------------------


def blocks(given: argparse.Namespace, results: Results) -> None:
    size, whole = (2048, 2048) if given.quick else (given.size, given.whole)
    edge = 512 if given.quick else given.edge
    free = psutil.virtual_memory().available
    while BYTES_PER_VOXEL * whole**2 > 0.9 * free:
        whole //= 2
        print(f"decoding at once is left to {whole} x {whole}: there is no more memory")
    with tempfile.TemporaryDirectory(dir=given.work) as folder:
        settings = {"folder": folder, "edge": edge, "halo": given.halo}
        rows: dict[str, Row] = {}
        for n in dict.fromkeys((size, whole)):
            print(f"making codes of {n} x {n} ...", flush=True)
            made = measured(Work("objects:write_codes", {"folder": folder, "size": n}))
            works = {f"{n}, in blocks of {edge}": Work("objects:in_blocks", settings | {"size": n})}
            if n == whole:
                works[f"{n}, at once"] = Work("objects:at_once", {"folder": folder, "size": n})
            found = in_turns(works, 1)
            if len({row["digest"] for row in found.values()}) > 1:
                raise SystemExit("the ids of blocks are not those of the whole image")
            rows |= {who: row | {"codes": made["codes"]} for who, row in found.items()}
    print("from codes in a file to ids in a file")
    print(table(rows, [*TIMES, ("objects", "objects", "d")], "image"))
    print("  the ids of blocks are those of the whole image where both are there")
    keep(results, "blocks", rows, halo=given.halo)


def stored(folder: str, name: str, size: int) -> Path:
    return Path(folder) / f"{name}_{size}.raw"


class Stored(Raw):
    """A raw file of a name that other processes find."""

    def __init__(self, path: Path, size: int) -> None:
        super().__init__(path, (size, size), np.dtype(np.int32), ndim=2)
        if path.exists():
            self.path.unlink()
        else:
            self.path.rename(path)
        self.path = path


def write_codes(stages: Stages, folder: str, size: int) -> Row:
    """Tiles of eight images, turned and mirrored, so that no two neighbours are the same."""
    rng = np.random.default_rng(0)
    edge = min(TILE, size)
    few = [pack(field(edge, OBJECTS * edge**2 // TILE**2, seed)[1]) for seed in range(8)]
    with stages.of("write"):
        file = Stored(stored(folder, "codes", size), size)
        for box in Blocks((size, size), (edge, edge), (1, 1)):
            tile = np.rot90(few[rng.integers(len(few))], rng.integers(4))
            tile = tile[:, ::-1] if rng.integers(2) else tile
            file.write(box, tile[tuple(slice(0, p.stop - p.start) for p in box)])
    return {"codes": f"{len(few)} tiles of {edge}"}


def in_blocks(stages: Stages, folder: str, size: int, edge: int, halo: int) -> Row:
    codes, drafts = (Stored(stored(folder, name, size), size) for name in ("codes", "drafts"))
    digest = hashlib.blake2b()
    with stages.of("decode"):
        cut = Blocks((size, size), (edge, edge), (halo, halo))
        found = decode_blocks(codes.read, drafts.write, cut, RULES)
    with stages.of("number"):
        for box in cut:
            drafts.write(box, found.ids[drafts.read(box)])
    rows = Blocks((size, size), (min(size, 256), size), (1, 1))
    for box in rows:
        digest.update(drafts.read(box))
    drafts.discard()
    return {"objects": len(found), "digest": digest.hexdigest()}


def at_once(stages: Stages, folder: str, size: int) -> Row:
    codes = Stored(stored(folder, "codes", size), size)
    with stages.of("decode"):
        found = decode(unpack(codes.read(whole_box((size, size)))), RULES)
    return {"objects": len(found), "digest": hashlib.blake2b(found.ids).hexdigest()}


# --- stacks to train on --------------------------------------------------------------------------


def balls(given: argparse.Namespace, _: Results) -> None:
    write_balls(given.folder / "train", 2 if given.quick else given.count, 0)
    write_balls(given.folder / "test", 1 if given.quick else max(1, given.count // 4), 1000)
    print(f"unetseg train {given.folder / 'train'} -o {given.folder / 'run'}")


PARTS = {"targets": targets, "decode": decode_, "blocks": blocks, "balls": balls}


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = parser.add_subparsers(dest="part", required=True)
    of = {name: parts.add_parser(name) for name in PARTS}
    for part in of.values():
        part.add_argument("--quick", action="store_true", help="small, to see that it works")
        part.add_argument("--results", type=Path)
        part.add_argument("--rounds", type=int, default=3)
    of["targets"].add_argument("data", type=Path, nargs="?")
    of["targets"].add_argument("--count", type=int, default=400)
    of["decode"].add_argument("--size", type=int, default=1024)
    of["decode"].add_argument("--objects", type=int, default=500)
    of["blocks"].add_argument("--size", type=int, default=16384)
    of["blocks"].add_argument("--edge", type=int, default=2048)
    of["blocks"].add_argument("--halo", type=int, default=128)
    of["blocks"].add_argument("--whole", type=int, default=16384)
    of["blocks"].add_argument("--work", type=Path, help="a folder with room for some gigabytes")
    of["balls"].add_argument("folder", type=Path)
    of["balls"].add_argument("--count", type=int, default=24)
    return parser.parse_args(words)


def main() -> None:
    given = parse()
    PARTS[given.part](given, Results(given.results))


if __name__ == "__main__":
    main()
