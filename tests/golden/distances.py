"""Write distances.json: small masks of objects and the two distances of every voxel, the slow way.

    python tests/golden/distances.py

Nothing but loops over pairs of voxels: no distance transform, no bounding box. Half of the masks
are drawn by hand and half are random; they are stored, because random numbers may change.
"""

import json
from itertools import product
from math import dist
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent

PICTURES = {
    "touching": "111222 111222 111222 000222",
    "a line and a dot": "000000 011110 000000 000002",
    "in two pieces": "110011 110011 000000 222222",
    "at the edge": "111110 111110 000000 333303",
    "fills the image": "111 111",
    "ring around another": "11111 12221 12321 12221 11111",
}


def picture(text):
    return np.array([[int(cell) for cell in row] for row in text.split()])


def scattered(shape, ids, seed):
    rng = np.random.default_rng(seed)
    mask = np.zeros(shape, dtype=np.int64)
    for number in ids:
        centre, radius = rng.uniform(0, shape), rng.uniform(1, 4)
        for voxel in product(*map(range, shape)):
            if dist(voxel, centre) <= radius:
                mask[voxel] = number
    return mask


def distances(mask, spacing):
    places = {
        v: tuple(i * s for i, s in zip(v, spacing, strict=True)) for v in np.ndindex(mask.shape)
    }
    depth, centre = np.zeros(mask.shape), np.zeros(mask.shape)
    for number in sorted(set(mask.ravel().tolist()) - {0}):
        inside = [v for v in places if mask[v] == number]
        outside = [v for v in places if mask[v] != number]
        deep = {v: min((dist(places[v], places[o]) for o in outside), default=1.0) for v in inside}
        count = len(inside)
        centroid = [sum(places[v][k] for v in inside) / count for k in range(mask.ndim)]
        middle = min(inside, key=lambda v: (round(dist(places[v], centroid), 9), v))
        far = {v: dist(places[v], places[middle]) for v in inside}
        farthest = max(far.values())
        for v in inside:
            depth[v] = deep[v] / max(deep.values())
            centre[v] = 1 - far[v] / farthest if farthest else 1.0
    return depth, centre


def case(name, mask, spacing):
    depth, centre = distances(mask, spacing)
    return {
        "name": name,
        "spacing": spacing,
        "mask": mask.tolist(),
        "depth": depth.round(6).tolist(),
        "centre": centre.round(6).tolist(),
    }


def main():
    cases = [case(name, picture(text), (1.0, 1.0)) for name, text in PICTURES.items()]
    cases.append(case("oblong pixels", scattered((12, 14), (1, 2, 5), 0), (0.5, 2.0)))
    cases.append(case("large numbers", scattered((14, 12), (70000, 65536, 9), 1), (1.0, 1.0)))
    cases.append(case("thick slices", scattered((6, 10, 10), (1, 2, 3), 2), (4.0, 1.0, 1.0)))
    (HERE / "distances.json").write_text(json.dumps(cases) + "\n")


if __name__ == "__main__":
    main()
