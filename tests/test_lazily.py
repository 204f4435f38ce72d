"""Parts of a scan that stays in its file, against the scan prepared whole."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_pieces import SPACINGS, TURNED, plan, scan_of, segmenter_of  # noqa: F401

from unetseg.pipeline import prepare
from unetseg.pipeline.lazily import Unread
from unetseg.records import Opened


def opened_of(scan, block=(8, 8, 8), seen=None):
    def read(box):
        if seen is not None:
            seen.append(box)
        return scan.array[(slice(None), *box)]

    return Opened(scan.geometry, scan.channels, scan.array.dtype, scan.source, block, read)


KINDS = {
    "zscore": {},
    "zscore_nonzero": {},
    "percentile": {},
    "clip_zscore": {"clip": ((-1.0, 1.0),), "mean": (0.1,), "std": (0.7,)},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spacing", SPACINGS.values(), ids=SPACINGS)
def test_a_part_is_that_part_of_the_whole(plan, spacing, kind):  # noqa: F811
    data = replace(
        plan.data, spacing=spacing, orientation="canonical", normalisation=kind, **KINDS[kind]
    )
    scan = scan_of((21, 34, 18), TURNED)
    whole = prepare(scan, data)
    part = Unread(opened_of(scan), data)
    assert part.placement.grid.shape == whole.placement.grid.shape
    sizes = whole.placement.grid.shape
    box = tuple(slice(n // 4, n + 3) for n in sizes)
    loaded = part.load(box)
    torch.testing.assert_close(loaded.read(box), whole.read(box), rtol=0, atol=1e-4)
    inner = tuple(slice(p.start + 1, p.stop - 4) for p in box)
    assert torch.equal(loaded.read(inner), loaded.read(box)[:, 1:-4, 1:-4, 1:-4])
    elsewhere = tuple(slice(0, p.stop - p.start) for p in box)
    assert (whole.read(elsewhere) - loaded.read(box)).abs().max() > 0.5


def test_a_part_leaves_what_was_read_as_it_is(plan):  # noqa: F811
    """A file that is in memory may give what it holds, float32 on the plan's own grid too."""
    data = replace(plan.data, spacing=None, orientation="as_read")
    scan = scan_of((9, 8, 7), np.eye(4))
    before = scan.array.copy()
    unread = Unread(opened_of(scan, (9, 8, 7)), data)
    box = tuple(slice(0, n) for n in (9, 8, 7))
    first = unread.load(box).read(box)
    assert np.array_equal(scan.array, before)
    assert torch.equal(unread.load(box).read(box), first)
    assert not np.array_equal(first.numpy(), before)


def test_pieces_of_a_part_are_those_of_the_whole(plan):  # noqa: F811
    data = replace(plan.data, spacing=(0.8, 1.3, 1.0), orientation="canonical")
    segmenter = segmenter_of(replace(plan, data=data))
    scan = scan_of((21, 34, 18), TURNED)
    unread = Unread(opened_of(scan), data)
    everything = unread.load(tuple(slice(0, n) for n in unread.placement.grid.shape))
    whole = segmenter.mask(everything).array
    found = np.full(whole.shape, -1)
    for low in range(0, 34, 10):
        box = (slice(0, 21), slice(low, min(low + 10, 34)), slice(0, 18))
        part = unread.load(segmenter.reach(unread.placement, box))
        for piece in segmenter.pieces(part, box=box):
            found[piece.box] = piece.indices
    assert (found >= 0).all()
    assert (found != whole).mean() < 1e-3
    assert 0.02 < whole.mean() < 0.98


def test_a_large_scan_is_sampled_evenly_and_always_the_same(plan):  # noqa: F811
    shape = (2000, 2000, 5000)
    seen = []
    small = scan_of((4, 4, 4), np.eye(4))

    def read(box):
        seen.append(box)
        sizes = [p.stop - p.start for p in box]
        return np.full((1, *sizes), box[2].start, np.float32)

    geometry = replace(small.geometry, shape=shape)
    opened = Opened(geometry, ("0",), np.dtype("f4"), small.source, (128, 128, 128), read)
    data = replace(plan.data, normalisation="percentile", spacing=None)
    found = Unread(opened, data)._intensities
    voxels = sum(np.prod([p.stop - p.start for p in box]) for box in seen)
    assert (1 << 22) < voxels < (1 << 27)
    for axis in range(3):
        starts = {box[axis].start for box in seen}
        assert min(starts) < shape[axis] / 2 < max(starts)
    first = list(seen)
    seen.clear()
    assert Unread(opened, data)._intensities == found
    assert seen == first
