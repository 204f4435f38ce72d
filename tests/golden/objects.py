"""Write objects.json: random label images, and what sets of voxels, StarDist and MONAI say.

Needs monai and stardist, which is no dependency of the project; run it as

    python tests/golden/objects.py

Everything under "sets" is worked out here in pure Python on sets of voxels, by the definitions in
the papers and by trying every assignment; nothing of the project is imported. MONAI counts a pair
as matched above the threshold, as the project does, and computes in float32 with 1e-6 in its
denominators. StarDist, in float32 too, counts a pair at the threshold as well, so it is asked a
little above it; its accuracy is what the project calls average precision.

The arrays are stored as zlib-compressed bytes, because random numbers may change between versions.
"""

import base64
import json
import zlib
from functools import cache
from itertools import product
from math import inf
from pathlib import Path

import numpy as np
import torch
from monai.metrics.panoptic_quality import compute_panoptic_quality
from stardist.matching import matching

# name, shape, number of objects, how far the second image's are shifted at most, what is done to it
CASES = (
    ("shifted a little", (40, 44), 9, 1, ()),
    ("shifted far", (40, 44), 9, 3, ()),
    ("missed and invented", (48, 40), 10, 1, ("miss", "miss", "invent")),
    ("merged", (48, 48), 11, 1, ("merge", "merge")),
    ("split", (48, 48), 11, 1, ("split", "split", "split")),
    ("all of it", (56, 56), 12, 2, ("merge", "split", "miss", "invent", "invent")),
    ("in space", (14, 22, 24), 8, 1, ("merge", "split", "miss")),
    ("hardly related", (30, 30), 6, 8, ("invent",)),
    ("nothing predicted", (16, 16), 2, 0, ("miss", "miss")),
)
THRESHOLDS = (0.0, 0.1, 0.25, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def balls(rng, shape, count, shift):
    """Two label images of the same balls, later ones over earlier ones, shifted in the second."""
    grid = np.indices(shape)
    images = np.zeros((2, *shape), np.uint8)
    for number in range(1, count + 1):
        centre = [rng.integers(2, size - 2) for size in shape]
        radius = rng.uniform(2.5, 6.5)
        for image, reach in zip(images, (0, shift), strict=True):
            moved = [c + rng.integers(-reach, reach + 1) for c in centre]
            apart = sum((axis - c) ** 2 for axis, c in zip(grid, moved, strict=True))
            image[apart < radius**2] = number
    return images


def changed(rng, image, deeds):
    ids = [int(i) for i in np.unique(image) if i]
    for number, deed in enumerate(deeds):
        if deed == "miss":
            image[image == ids.pop()] = 0
        elif deed == "merge":
            # With the one whose voxels lie nearest.
            one = ids.pop(0)
            places = {i: np.argwhere(image == i).mean(axis=0) for i in ids}
            mine = np.argwhere(image == one).mean(axis=0)
            image[image == one] = min(ids, key=lambda i: ((places[i] - mine) ** 2).sum())
        elif deed == "split":
            one = ids[number]
            where = np.argwhere(image == one)
            half = where[where[:, 0] > where[:, 0].mean() + rng.uniform(-1, 1)]
            image[tuple(half.T)] = 100 + number
        else:
            where = tuple(slice(s, s + 4) for s in (rng.integers(0, n - 4) for n in image.shape))
            image[where] = 200 + number
    return image


def as_sets(image):
    objects = {}
    for place in product(*map(range, image.shape)):
        if value := int(image[place]):
            objects.setdefault(value, set()).add(place)
    return [objects[value] for value in sorted(objects)]


def iou(one, other):
    return len(one & other) / len(one | other)


def most_pairs(truth, predicted, threshold):
    """The number of pairs and the sum of their IoU, over all ways to pair."""
    ious = [[iou(t, p) for p in predicted] for t in truth]

    @cache
    def best(index, taken):
        if index == len(truth):
            return 0, 0.0
        found = best(index + 1, taken)
        for number, value in enumerate(ious[index]):
            if value > threshold and not taken >> number & 1:
                pairs, total = best(index + 1, taken | 1 << number)
                found = max(found, (pairs + 1, total + value))
        return found

    return best(0, 0)


def aji(truth, predicted):
    """Algorithm 1 of Kumar et al.; a true object without any overlap counts in the union alone."""
    shared = united = 0
    used = set()
    for one in truth:
        best, chosen = (-inf, -inf), None
        for number, other in enumerate(predicted):
            if one & other and (iou(one, other), len(one & other)) > best:
                best, chosen = (iou(one, other), len(one & other)), number
        if chosen is None:
            united += len(one)
        else:
            shared += len(one & predicted[chosen])
            united += len(one | predicted[chosen])
            used.add(chosen)
    united += sum(len(p) for number, p in enumerate(predicted) if number not in used)
    return shared / united


def holders(inner, outer):
    """How many of the outer objects hold half or more of two inner ones."""
    return sum(sum(2 * len(i & o) >= len(i) for i in inner) >= 2 for o in outer)


def by_monai(truth, predicted):
    pair = (torch.from_numpy(predicted.astype(np.int64)), torch.from_numpy(truth.astype(np.int64)))
    return {
        name: compute_panoptic_quality(*pair, metric_name=name).item()
        for name in ("pq", "sq", "rq")
    }


def by_stardist(truth, predicted):
    found = {}
    for threshold in THRESHOLDS:
        match = matching(
            truth.astype(np.int32), predicted.astype(np.int32), thresh=threshold + 1e-6
        )
        found[str(threshold)] = {
            "counts": list(map(int, (match.tp, match.fp, match.fn))),
            "ap": float(match.accuracy),
            "f1": float(match.f1),
            "precision": float(match.precision),
            "recall": float(match.recall),
            "pq": float(match.panoptic_quality),
            "sq": float(match.mean_matched_score),
        }
    return found


def by_sets(truth, predicted):
    true, found = as_sets(truth), as_sets(predicted)
    counts = {}
    for threshold in THRESHOLDS:
        pairs, total = most_pairs(true, found, threshold)
        counts[str(threshold)] = [pairs, len(found) - pairs, len(true) - pairs, total]
    return {
        "counts": counts,
        "aji": aji(true, found),
        "merges": holders(true, found),
        "splits": holders(found, true),
    }


def check_by_hand():
    """Three true pixels in a row, and a predicted pair on the last two of them: IoU 2/3."""
    truth, predicted = np.zeros((2, 3, 5), np.uint8)
    truth[1, 0:3] = 1
    predicted[1, 1:3] = 7
    predicted[0, 0] = 9
    found = by_sets(truth, predicted)
    if found["counts"]["0.6"] != [1, 1, 0, 2 / 3] or found["aji"] != 2 / 4:
        raise SystemExit(f"not what the hand finds: {found}")


def packed(image):
    return base64.b64encode(zlib.compress(image.tobytes(), 9)).decode()


def main():
    check_by_hand()
    rows = []
    for seed, (name, shape, count, shift, deeds) in enumerate(CASES):
        rng = np.random.default_rng(seed)
        truth, predicted = balls(rng, shape, count, shift)
        predicted = changed(rng, predicted, deeds)
        rows.append(
            {
                "name": name,
                "shape": shape,
                "truth": packed(truth),
                "predicted": packed(predicted),
                "sets": by_sets(truth, predicted),
                "StarDist": by_stardist(truth, predicted),
                "MONAI": by_monai(truth, predicted),
            }
        )
    lines = ",\n".join(map(json.dumps, rows))
    Path(__file__).with_suffix(".json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
