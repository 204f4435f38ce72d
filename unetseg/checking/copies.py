"""The same image twice: the same voxels, or nearly."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from unetseg.checking.coarse import coarse, unit_rows
from unetseg.checking.looks import CaseLook
from unetseg.dataset.listing import some
from unetseg.records import Finding

# Correlation of two images from afar, without what all images have in common.
_NEAR = 0.9
# The same over fewer places, by which the pairs are found that are worth a closer look.
_FIRST_NEAR = 0.7
_FIRST_GRIDS = {2: (24, 24), 3: (12, 12, 12)}
# So few images have nothing in common that could be taken off; they have to be more alike.
_FEW, _NEAR_OF_FEW = 5, 0.99
_ROWS = 1024

Parts = Mapping[str, str]


def on_copies(looks: Sequence[CaseLook], parts: Parts) -> Iterator[Finding]:
    """Images that are the same, or nearly, and masks that are.

    parts : what each case is for, by its name: "train", "test", "fold 2"
    """
    groups: dict[bytes, list[CaseLook]] = {}
    for look in looks:
        groups.setdefault(look.digests[0], []).append(look)
    same = [group for group in groups.values() if len(group) > 1]
    for group in same:
        yield _same(group, parts)
    firsts = [group[0] for group in groups.values()]
    near = list(_near(firsts, parts))
    yield from near
    told = {name for each in near for name in each.cases}
    yield from _masks([look for look in firsts if look.name not in told])


def _same(group: Sequence[CaseLook], parts: Parts) -> Finding:
    files = {_bytes_of(look) for look in group}
    what = "the same file" if len(files) == 1 and None not in files else "the same voxels"
    sentence = f"{what} as {some(look.image_file for look in group[1:])}"
    if len({look.digests[1] for look in group if look.digests[1]}) > 1:
        sentence += ", with another mask"
    names = tuple(look.name for look in group)
    return Finding(
        "warning",
        group[0].image_file,
        sentence + _across(names, parts),
        "keep one of them",
        "duplicate",
        names,
    )


def _bytes_of(look: CaseLook) -> bytes | None:
    """What its image files hold; None where they are folders, or too many bytes to compare."""
    try:
        if sum(path.stat().st_size for path in look.case.images) > 1 << 28:
            return None
        return b"".join(path.read_bytes() for path in look.case.images)
    except OSError:
        return None


def _across(names: Sequence[str], parts: Parts) -> str:
    found = dict.fromkeys(parts[name] for name in names if name in parts)
    return f"; they are in {' and '.join(found)}" if len(found) > 1 else ""


def _near(looks: Sequence[CaseLook], parts: Parts) -> Iterator[Finding]:
    for axes in (2, 3):
        alike = [look for look in looks if len(look.shape) == axes and look.image.any()]
        for group in _groups(alike):
            names = tuple(look.name for look in group)
            across = _across(names, parts)
            learned = any(look.case.split != "test" and look.case.truth for look in group)
            apart = len({look.case.group or look.name for look in group}) > 1
            yield Finding(
                "warning" if learned and apart else "note",
                group[0].image_file,
                f"nearly the same image as {some(look.image_file for look in group[1:])}" + across,
                "keep such images in one part: --group, or a split of your own",
                "near-duplicate",
                names,
            )


def _groups(looks: Sequence[CaseLook]) -> list[list[CaseLook]]:
    """Images that are nearly the same, directly or by way of others."""
    if len(looks) < 2:
        return []
    is_few = len(looks) < _FEW
    grid = looks[0].image.shape[1:]
    mean = np.zeros(grid, np.float32)
    if not is_few:
        mean = np.mean([look.image[0] for look in looks], axis=0, dtype=np.float32)
    small = _FIRST_GRIDS[len(grid)]
    first = unit_rows(np.stack([coarse(look.image[0] - mean, small).ravel() for look in looks]))
    least = _NEAR_OF_FEW if is_few else _NEAR
    # Each image points to an earlier one of its group, the first to itself.
    earlier = list(range(len(looks)))

    def first_of(index: int) -> int:
        while earlier[index] != index:
            earlier[index] = index = earlier[earlier[index]]
        return index

    for one, other in _candidates(first):
        low, high = sorted((first_of(one), first_of(other)))
        if low == high:
            continue
        rows = unit_rows(np.stack([(looks[k].image[0] - mean).ravel() for k in (one, other)]))
        if float(rows[0] @ rows[1]) > least:
            earlier[high] = low
    found: dict[int, list[CaseLook]] = {}
    for index, look in enumerate(looks):
        found.setdefault(first_of(index), []).append(look)
    return [group for group in found.values() if len(group) > 1]


def _candidates(rows: NDArray[np.float32]) -> Iterator[tuple[int, int]]:
    for start in range(0, len(rows), _ROWS):
        products = rows[start : start + _ROWS] @ rows.T
        for one, other in np.argwhere(products > _FIRST_NEAR).tolist():
            if start + one < other:
                yield start + one, other


def _masks(looks: Sequence[CaseLook]) -> Iterator[Finding]:
    """One mask under several images."""
    groups: dict[bytes, list[CaseLook]] = {}
    for look in looks:
        if look.has_foreground and len({value for value, _ in look.counts}) > 1:
            groups.setdefault(look.digests[1], []).append(look)
    for group in groups.values():
        if len(group) > 1:
            yield Finding(
                "warning",
                group[0].mask_file,
                f"the same mask as {some(look.mask_file for look in group[1:])}, of other images",
                "look which image it belongs to",
                "same-mask",
                tuple(look.name for look in group),
            )
