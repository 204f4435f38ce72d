"""Codes and decoding: nothing is lost on the way, and the objects are those of a slow program."""

from dataclasses import replace
from itertools import product
from math import ceil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from objects_fields import coded, noisy
from scipy import ndimage

from unetseg.formats import read_mask, read_scan
from unetseg.metrics.objects import average_precision, matches
from unetseg.objects import codes
from unetseg.objects.codes import Maps, pack, unpack
from unetseg.objects.decoding import Objects, Rules, decode

QUICK = settings(max_examples=40, deadline=None)
LOOSE = Rules(0.25, 0.3, 0.3, 0.05)

# --- codes ----------------------------------------------------------------------------------------


@given(arrays.arrays(np.int32, (3, 5)))
@QUICK
def test_a_code_is_what_its_maps_are_packed_into(found: NDArray[np.int32]) -> None:
    assert np.array_equal(pack(unpack(found)), found)


@given(
    arrays.arrays(np.float32, (4, 7), elements=st.floats(0, 1, width=32)),
    st.integers(0, codes.MOST_CLASSES),
)
@QUICK
def test_maps_come_back_within_half_a_step(values: NDArray[np.float32], number: int) -> None:
    given = Maps(np.full((7,), number, np.uint8), values[0], values[1], values[2])
    back = unpack(pack(given))
    assert np.array_equal(back.classes, given.classes)
    assert np.abs(back.foreground - given.foreground).max() <= 0.5001 / codes.FOREGROUND_SCALE
    for name in ("depth", "centre"):
        away = np.abs(getattr(back, name) - getattr(given, name))
        assert away.max() <= 0.5001 / codes.SCALE


def test_a_code_fills_its_32_bits() -> None:
    bits = codes.CLASS_BITS + codes.FOREGROUND_BITS + codes.DEPTH_BITS + codes.CENTRE_BITS
    assert bits == 32
    one = np.ones(1, np.float32)
    assert pack(Maps(np.array([63], np.uint8), one, one, one)).tolist() == [-1]
    assert pack(Maps(np.array([0], np.uint8), 0 * one, -one, 0 * one)).tolist() == [0]


def test_a_class_that_has_no_room_is_refused() -> None:
    one = np.ones(1, np.float32)
    with pytest.raises(ValueError, match="class 64: a code has room for 63"):
        pack(Maps(np.array([64], np.uint8), one, one, one))


# --- decoding -------------------------------------------------------------------------------------


def slowly(maps: Maps, rules: Rules) -> NDArray[np.int32]:
    """The objects, voxel by voxel and pass by pass, without a shortcut."""
    mask = maps.foreground > np.float32(rules.foreground)
    heights = maps.depth + maps.centre
    if any(rules.smoothing):
        radius = [ceil(3 * sigma) for sigma in rules.smoothing]
        heights = ndimage.gaussian_filter(heights, rules.smoothing, mode="nearest", radius=radius)
    heights = np.rint(heights * 2**19).astype(int)
    around = list(product((-1, 0, 1), repeat=mask.ndim))
    voxels = [tuple(place) for place in np.argwhere(mask).tolist()]

    def near(voxel: tuple[int, ...]) -> list[tuple[int, ...]]:
        found = [tuple(a + b for a, b in zip(voxel, step, strict=True)) for step in around]
        return [
            other
            for other in found
            if all(0 <= a < n for a, n in zip(other, mask.shape, strict=True)) and mask[other]
        ]

    # Highest first; of ties the first voxel.
    up = {v: min(near(v), key=lambda other: (-heights[other], other)) for v in voxels}

    def climb(voxel: tuple[int, ...]) -> tuple[int, ...]:
        while up[voxel] != voxel:
            voxel = up[voxel]
        return voxel

    hill = {voxel: climb(voxel) for voxel in voxels}
    members = {top: {top} for top in hill.values()}
    group = {top: top for top in members}
    is_seed = (maps.depth > rules.seed_depth) & (maps.centre > rules.seed_centre)
    seeded = {top: any(is_seed[v] for v in voxels if hill[v] == top) for top in members}
    passes = sorted(
        (-min(heights[a], heights[b]), *sorted((hill[a], hill[b])))
        for a in voxels
        for b in near(a)
        if hill[a] != hill[b] and sum(x != y for x, y in zip(a, b, strict=True)) == 1
    )
    for minus, one, other in passes:
        one, other = group[one], group[other]
        if one == other:
            continue
        lower = min(max(heights[top] for top in members[each]) for each in (one, other))
        if seeded[one] and seeded[other] and lower + minus > rules.contrast * 2**20:
            continue
        members[one] |= members.pop(other)
        seeded[one] |= seeded.pop(other)
        group.update(dict.fromkeys(members[one], one))
    ids = np.zeros(mask.shape, np.int32)
    names: dict[tuple[int, ...], int] = {}
    sizes = {top: sum(group[hill[v]] == top for v in voxels) for top in members}
    for voxel in voxels:
        top = group[hill[voxel]]
        if seeded[top] and sizes[top] >= rules.min_voxels:
            ids[voxel] = names.setdefault(top, len(names) + 1)
    return ids


@given(
    st.integers(0, 10**6),
    st.sampled_from([(17, 12), (5, 7, 6), (9, 1), (1, 6, 7)]),
    st.sampled_from([0.0, 0.05, 0.2]),
    st.sampled_from([(), 0.7]),
    st.sampled_from([0, 4]),
    st.sampled_from([0.0, 0.2]),
)
@settings(max_examples=60, deadline=None)
def test_objects_are_those_of_a_slow_program(
    seed: int,
    shape: tuple[int, ...],
    contrast: float,
    sigma: float,
    least: int,
    noise: float,
) -> None:
    smoothing = (sigma,) * len(shape) if sigma else ()
    rules = replace(LOOSE, contrast=contrast, smoothing=smoothing, min_voxels=least)
    maps = noisy(shape, seed, noise=noise)
    assert np.array_equal(decode(maps, rules).ids, slowly(maps, rules))


def test_plateaus_are_one_hill() -> None:
    """A hill with a flat top has no single highest voxel; its parts have no pass between them."""
    flat = np.full((9, 9), 0.5, np.float32)
    flat[3:6, 3:6] = 0.2
    maps = Maps(np.ones((9, 9), np.uint8), np.ones((9, 9), np.float32), flat, flat)
    assert len(decode(maps, Rules(contrast=0.0))) == 1
    assert np.array_equal(decode(maps, LOOSE).ids, slowly(maps, LOOSE))


@given(st.integers(0, 10**6), st.sampled_from([(40, 33), (9, 14, 12)]))
@QUICK
def test_ids_are_consecutive_in_the_order_of_first_voxels(
    seed: int, shape: tuple[int, ...]
) -> None:
    maps = noisy(shape, seed)
    found = decode(maps, LOOSE)
    present, first = np.unique(found.ids, return_index=True)
    present, first = present[present > 0], first[present > 0]
    assert present.tolist() == list(range(1, len(found) + 1))
    assert (np.diff(first) > 0).all()
    assert not found.ids[maps.foreground <= np.float32(LOOSE.foreground)].any()
    for number in present:
        _, parts = ndimage.label(found.ids == number, np.ones((3,) * len(shape)))
        assert parts == 1


@given(st.integers(0, 10**6))
@QUICK
def test_small_objects_go_and_leave_the_others_alone(seed: int) -> None:
    maps = noisy((40, 33), seed)
    every = decode(maps, LOOSE)
    sizes = np.bincount(every.ids.ravel(), minlength=len(every) + 1)
    limit = int(np.median(sizes[1:])) if len(every) else 1
    found = decode(maps, replace(LOOSE, min_voxels=limit))
    stays = sizes >= limit
    stays[0] = False
    assert np.array_equal(found.ids > 0, stays[every.ids])
    assert len(found) == stays.sum()
    assert np.array_equal(found.classes, every.classes[stays[1:]])


@given(st.integers(0, 10**6))
@QUICK
def test_the_class_of_an_object_is_the_one_of_most_of_its_voxels(seed: int) -> None:
    maps = noisy((40, 33), seed)
    found = decode(maps, LOOSE)
    for number, own in enumerate(found.classes, start=1):
        here = maps.classes[found.ids == number]
        assert (here == own).sum() >= len(here) / 2


def test_nothing_is_found_in_nothing() -> None:
    empty = np.zeros((4, 5), np.int32)
    found = decode(unpack(empty), Rules())
    assert isinstance(found, Objects)
    assert len(found) == 0
    assert np.array_equal(found.ids, empty)


def test_axes_may_lie_in_any_order_in_memory() -> None:
    maps = noisy((20, 31), 3)
    turned = Maps(*(np.asfortranarray(each) for each in vars(maps).values()))
    assert np.array_equal(decode(maps, LOOSE).ids, decode(turned, LOOSE).ids)


@pytest.mark.parametrize("seed", range(3))
def test_touching_balls_in_a_stack_of_thick_slices_come_back(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anisotropy 4:1; of ideal maps, objects that touch are told apart."""
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[1] / "benchmarks")
    from fields import RADIUS, SPACING, STACK, ideal, touching

    truth, _ = touching(STACK, 60, (0.6 * RADIUS, RADIUS), seed, spacing=SPACING)
    found = decode(coded(ideal(truth, SPACING)), Rules())
    assert average_precision([matches(truth, found.ids)])[0] >= 0.99
    # They do touch: components of the foreground are far fewer.
    assert ndimage.label(truth > 0)[1] < 0.7 * truth.max()


def test_stacks_to_train_on_have_the_size_of_their_voxels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[1] / "benchmarks")
    from fields import SPACING, STACK, write_balls

    write_balls(tmp_path, 1, 7)
    (image,), (mask,) = (list((tmp_path / name).iterdir()) for name in ("images", "masks"))
    scan, truth = read_scan(image), read_mask(mask)
    assert scan.geometry.spacing == SPACING
    assert scan.geometry.unit == "um"
    assert truth.geometry.differences(scan.geometry) == ()
    assert truth.array.shape == STACK
    assert truth.array.max() > 20
    inside = truth.array > 0
    assert scan.array[0][inside].mean() > 3 * scan.array[0][~inside].mean()


def test_a_pass_must_be_deep_enough() -> None:
    """Two tops of 0.9 with a pass at 0.6 between them."""
    line = np.array([0.2, 0.5, 0.9, 0.6, 0.9, 0.5, 0.2], np.float32)
    high = np.stack([line] * 3)
    maps = Maps(np.ones(high.shape, np.uint8), np.ones_like(high), high, high)
    assert len(decode(maps, Rules(contrast=0.29))) == 2
    assert len(decode(maps, Rules(contrast=0.31))) == 1
    assert len(decode(maps, Rules(contrast=0.29, seed_depth=0.95))) == 0
