"""Objects block by block: those of the whole image, whatever the blocks."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from objects_fields import noisy
from scipy import ndimage

from unetseg.objects import blockwise
from unetseg.objects.blockwise import Blocks, Found, decode_blocks
from unetseg.objects.codes import Maps, pack
from unetseg.objects.decoding import Objects, Rules, decode

RULES = Rules(0.35, 0.3, 0.3, 0.1)
SHAPES = {2: (61, 47), 3: (17, 23, 19)}


def longest(ids: NDArray[np.int32]) -> int:
    """Voxels along an axis of the object that has most."""
    boxes = [box for box in ndimage.find_objects(ids) if box is not None]
    return max((part.stop - part.start for box in boxes for part in box), default=0)


def in_blocks(
    maps: Maps, rules: Rules, edge: tuple[int, ...], halo: int
) -> tuple[NDArray[np.int32], Found]:
    codes = pack(maps)
    drafts = np.full(codes.shape, -1, np.int32)
    blocks = Blocks(codes.shape, edge, (halo,) * codes.ndim)
    seen = []

    def write(box: tuple[slice, ...], values: NDArray[np.int32]) -> None:
        assert (drafts[box] == -1).all()
        drafts[box] = values
        seen.append(box)

    found = decode_blocks(lambda box: codes[box], write, blocks, rules)
    assert seen == list(blocks)
    return found.ids[drafts], found


def check(whole: Objects, ids: NDArray[np.int32], found: Found) -> None:
    assert np.array_equal(ids, whole.ids)
    assert np.array_equal(found.classes, whole.classes)


@given(
    st.integers(0, 10**6),
    st.sampled_from([2, 3]),
    st.tuples(*[st.integers(1, 30)] * 3),
    st.sampled_from([0.0, 0.7]),
    st.sampled_from([0, 6]),
    st.sampled_from([2.0, 4.0]),
)
@settings(max_examples=120, deadline=None)
def test_blocks_give_the_objects_of_the_whole(
    seed: int, axes: int, edges: tuple[int, ...], sigma: float, least: int, size: float
) -> None:
    rules = replace(RULES, smoothing=(sigma,) * axes if sigma else (), min_voxels=least)
    maps = noisy(SHAPES[axes], seed, size)
    whole = decode(maps, rules)
    halo = longest(decode(maps, replace(rules, min_voxels=0)).ids) + rules.margin
    # Blocks of a few voxels are as many as voxels.
    edge = tuple(max(n, 5 if axes == 2 else 7) for n in edges[:axes])
    check(whole, *in_blocks(maps, rules, edge, halo))


@pytest.mark.parametrize("edge", [(1, 8), (8, 1), (1, 1)])
def test_blocks_may_be_as_small_as_a_voxel(edge: tuple[int, ...]) -> None:
    maps = noisy((14, 13), 5, 2.0)
    whole = decode(maps, RULES)
    assert len(whole) > 3
    check(whole, *in_blocks(maps, RULES, edge, longest(whole.ids) + RULES.margin))


def test_a_halo_that_is_too_small_gives_other_objects() -> None:
    different = 0
    for seed in range(5):
        maps = noisy(SHAPES[2], seed, 5.0)
        ids, _ = in_blocks(maps, RULES, (16, 16), 2)
        different += not np.array_equal(ids, decode(maps, RULES).ids)
    assert different >= 3


def test_an_object_larger_than_the_halo_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar through all blocks, with the seed in one of them and one below every block."""
    shape = (12, 120)
    maps = Maps(
        np.ones(shape, np.uint8),
        np.zeros(shape, np.float32),
        np.full(shape, 0.5, np.float32),
        np.full(shape, 0.5, np.float32),
    )
    maps.foreground[4:8] = 1
    ids, found = in_blocks(maps, RULES, (12, 20), 4)
    assert len(found) == 1
    assert np.array_equal(ids > 0, maps.foreground > 0)
    # If nothing is the same in two blocks, nothing is made one.
    monkeypatch.setattr(blockwise, "_SAME", 1.0)
    _, apart = in_blocks(maps, RULES, (12, 20), 4)
    assert len(apart) == 6


def test_blocks_that_do_not_see_one_another_are_refused() -> None:
    with pytest.raises(ValueError, match="must see one another"):
        Blocks((20, 20), (5, 5), (2, 0))


def test_objects_that_meet_in_a_corner_of_four_blocks_are_one() -> None:
    shape = (16, 16)
    high = np.zeros(shape, np.float32)
    for step in range(4, 12):
        high[step, step] = 0.9 - 0.05 * abs(step - 7)
    maps = Maps((high > 0).astype(np.uint8), (high > 0).astype(np.float32), high, high)
    assert len(decode(maps, RULES)) == 1
    check(decode(maps, RULES), *in_blocks(maps, RULES, (8, 8), 10))


def test_no_objects() -> None:
    shape = (9, 9)
    nothing = np.zeros(shape, np.float32)
    ids, found = in_blocks(
        Maps(nothing.astype(np.uint8), nothing, nothing, nothing), RULES, (4, 4), 2
    )
    assert len(found) == 0
    assert not ids.any()


def test_the_work_ends_when_it_is_told_to() -> None:
    asked = []

    def check_() -> None:
        asked.append(1)
        if len(asked) == 3:
            raise KeyboardInterrupt

    codes = pack(noisy((20, 20), 1))
    blocks = Blocks((20, 20), (5, 5), (2, 2))
    with pytest.raises(KeyboardInterrupt):
        decode_blocks(lambda box: codes[box], lambda box, ids: None, blocks, RULES, check=check_)
