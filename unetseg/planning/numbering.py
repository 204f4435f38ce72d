"""Whether the values of masks number objects or name classes."""

import json
import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unetseg.config import OBJECT_TASKS
from unetseg.dataset.large import open_mask
from unetseg.dataset.object_classes import class_table
from unetseg.errors import UnetsegError
from unetseg.geometry import Box
from unetseg.records import Listener, Note

# Masks that are looked at, spread over all of them, and objects of each.
_MOST_MASKS = 16
_MOST_OBJECTS = 100
# Of a mask with more voxels, the middle is looked at.
WHOLE = 1 << 24
# In fewer images than this, sizes agree by chance; of what classes are, more than this is size.
_LEAST_IMAGES, _EXPLAINED = 4, 0.5
# So many classes in one image are rare enough to ask.
_SUSPICIOUS = 20


def number_objects(
    ids: Sequence[Collection[int]],
    pieces: Sequence[float],
    sizes: Sequence[Sequence[int]] = (),
) -> bool:
    """Whether the ids differ from image to image and nearly each is one piece.

    ids : per image, the values other than 0
    pieces : of the images with many ids, the share of these that are in one piece
    sizes : per image, the voxels of each value, where these may tell: in images of cells
    """
    each = [set(found) for found in ids if found]
    union = set().union(*each)
    if len(each) < 2:
        # One image cannot tell numbers from names; more ids than a byte holds are numbers.
        return len(union) > 255
    if len(union) < 8:
        return False
    if pieces and float(np.median(pieces)) <= 0.8:
        return False
    differ = float(np.mean([len(found) / len(union) for found in each])) < 0.5
    # Objects are often counted from 1 in each image, however many there are; classes are not.
    counted = np.mean([found == set(range(1, len(found) + 1)) for found in each]) > 0.9
    if differ or not counted:
        return differ
    return len({len(found) for found in each}) > 1 or _are_any(sizes)


def _are_any(sizes: Sequence[Sequence[int]]) -> bool:
    """Whether how large an id is in some images says nothing of it in others; of classes it does.

    sizes : per image, the voxels of each id, the same ids in all
    """
    if len(sizes) < _LEAST_IMAGES:
        return False
    table = np.log(np.array(sizes, dtype=float))
    total = float(table.var())
    # Of ids that are given at random, about one over the number of images. Where all are as large
    # as one another, sizes say nothing.
    return total > 1e-9 and float(table.mean(axis=0).var()) / total < _EXPLAINED


def single_pieces(labels: NDArray[np.integer[Any]]) -> float:
    """The share of the positive ids, or of a hundred of them, that are in one piece."""
    boxes = ndimage.find_objects(labels.astype(np.int32, copy=False))
    numbers = [
        ndimage.label(labels[box] == value)[1]
        for value, box in enumerate(boxes, start=1)
        if box is not None
    ][:_MOST_OBJECTS]
    return float(np.mean([number == 1 for number in numbers]))


def are_objects(
    masks: Sequence[Path],
    predicted: Sequence[Path],
    done: str,
    ignore_value: int | None,
    listener: Listener,
) -> bool:
    """Whether the values in these masks number objects; says why, if they do.

    masks : some of them are read; those that cannot be read say nothing
    predicted : those that predict may have written, and said so in a manifest beside them
    done : what is done with the masks, in one word
    """
    task = _task_behind(predicted[0]) if predicted else ""
    if task in OBJECT_TASKS:
        why = f"by their manifest the task was {task}"
    elif any(map(class_table, [*masks, *predicted])):
        why = "a table beside a mask tells the classes of its objects"
    else:
        ids = _looked_at(masks, ignore_value)
        why = _reason(ids)
        if not why and len(masks) == 1 and len(ids) == 1 and len(ids[0][0]) > _SUSPICIOUS:
            text = f"{len(ids[0][0])} values in the only mask are {done} as classes"
            listener(Note(f"{text}; if they number objects, give --objects"))
    if why:
        listener(Note(f"{done} as objects: {why}; if the values name classes, give --no-objects"))
    return bool(why)


def _task_behind(mask: Path) -> str:
    """The task of the model that wrote the mask, if a manifest beside it tells; else empty."""
    for path in mask.parent.glob("manifest*.json"):
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(told, dict) and mask.name in (told.get("files") or ()):
            return str(told.get("task") or "")
    return ""


def _looked_at(masks: Sequence[Path], ignore_value: int | None) -> list[tuple[list[int], float]]:
    """Per mask its values, and the share of them that are in one piece; NaN if they are few.

    Empty where somebody has given the values names.
    """
    step = max(1, -(-len(masks) // _MOST_MASKS))
    found = []
    for path in masks[::step]:
        try:
            mask = open_mask(path)
            labels = mask.read(_middle(mask.geometry.shape))
        except UnetsegError:
            continue
        if any(label.value for label in mask.names):
            return []
        values = [v for v in np.unique(labels).tolist() if v not in (0, ignore_value)]
        is_many = len(values) >= 8 and values[-1] < 1 << 31
        found.append((values, single_pieces(labels) if is_many else math.nan))
    return found


def _middle(shape: Sequence[int]) -> Box:
    """All of a mask, or the middle of one that is too large to be looked at."""
    share = min(1.0, (WHOLE / math.prod(shape)) ** (1 / len(shape)))
    sizes = [max(1, math.floor(n * share)) for n in shape]
    starts = [(n - size) // 2 for n, size in zip(shape, sizes, strict=True)]
    return tuple(slice(a, a + size) for a, size in zip(starts, sizes, strict=True))


def _reason(found: Sequence[tuple[list[int], float]]) -> str:
    ids = [values for values, _ in found if values]
    if not number_objects(ids, [share for _, share in found if not math.isnan(share)]):
        return ""
    if len(ids) < 2:
        return f"{len(ids[0])} values in one mask"
    return "the values differ from mask to mask, each in one piece"
