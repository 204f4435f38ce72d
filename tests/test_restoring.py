"""Decisions on the scan's grid without the outputs there: against interpolating every output."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch.nn import functional

from unetseg.geometry import Geometry
from unetseg.pipeline import Placement, on_grid
from unetseg.pipeline.deciding import largest
from unetseg.pipeline.resampling import all_taps, needed, resampled, resize, taps
from unetseg.pipeline.restoring import Head, interpolated, planes_on_scan

QUICK = settings(max_examples=60, deadline=None)
LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
SIZES = st.integers(1, 24)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def full(shape):
    return tuple(slice(0, n) for n in shape)


@st.composite
def changes(draw, axes=(2, 3)):
    """Sizes before and after, and a box of the sizes after."""
    count = draw(st.sampled_from(axes))
    before, after = (draw(st.tuples(*[SIZES] * count)) for _ in range(2))
    box = []
    for size in after:
        start = draw(st.integers(0, size - 1))
        box.append(slice(start, draw(st.integers(start + 1, size))))
    return before, after, tuple(box)


@given(changes((1, 2, 3)))
@QUICK
def test_resizing_is_that_of_torch(change):
    before, after, _ = change
    x = noise(2, *before)
    expected = functional.interpolate(x[None], after, mode=LINEAR[len(after)])[0]
    torch.testing.assert_close(resize(x, after, smooth=False), expected, rtol=1e-4, atol=1e-5)


@given(changes((2,)))
@QUICK
def test_smooth_resizing_is_that_of_torch_in_two_dimensions(change):
    # torch takes an image with an axis of one voxel for another layout of the memory.
    before, after = ([size + 1 for size in sizes] for sizes in change[:2])
    x = noise(2, *before)
    expected = functional.interpolate(x[None], after, mode="bilinear", antialias=True)[0]
    torch.testing.assert_close(resize(x, after, smooth=True), expected, rtol=1e-4, atol=1e-5)


def test_smoothing_makes_a_difference():
    x = noise(1, 40, 40)
    assert (resize(x, (10, 10), smooth=True) - resize(x, (10, 10), smooth=False)).abs().max() > 0.3


@given(SIZES, SIZES, st.booleans())
@QUICK
def test_weights_add_up_to_one_and_stay_inside(size, new, smooth):
    found = taps(size, new, smooth=smooth)
    assert len(found.first) == new
    torch.testing.assert_close(found.weights.sum(1), torch.ones(new))
    assert (found.weights >= 0).all()
    assert found.first.min() >= 0
    assert int(found.first.max()) + found.weights.shape[1] <= size
    assert (found.first.diff() >= 0).all()


@given(changes(), st.booleans())
@QUICK
def test_a_box_is_that_part_of_the_whole(change, smooth):
    before, after, box = change
    x = noise(2, *before)
    axes = all_taps(before, after, smooth=smooth)
    inner = needed(axes, box)
    part = resampled(x[(slice(None), *inner)], axes, box, [p.start for p in inner])
    assert torch.equal(part, resize(x, after, smooth=smooth)[(slice(None), *box)])


@given(st.integers(1, 24), st.integers(1, 24), st.data())
@QUICK
def test_what_is_ready_is_what_needs_no_more(size, new, data):
    along = taps(size, new, smooth=False)
    start = data.draw(st.integers(0, size - 1))
    stop = data.draw(st.integers(start + 1, size))
    ready = along.ready(start, stop)
    for output in range(new):
        needs = along.needed(output, output + 1)
        inside = start <= needs.start and needs.stop <= stop
        assert (ready.start <= output < ready.stop) == inside


def rough_outputs(classes, shape, seed):
    return noise(classes, *shape, seed=seed)


def trained_outputs(classes, shape, seed):
    """Piecewise smooth, as after a training: one class far above the others, edges between."""
    rng = np.random.default_rng(seed)
    fields = rng.normal(size=(classes, *shape))
    smooth = ndimage.gaussian_filter(fields, (0, *(1.5,) * len(shape)), mode="nearest")
    return torch.from_numpy((smooth / smooth.std() * 4).astype(np.float32))


@given(changes(), st.sampled_from([2, 3, 5, 40, 300]), st.integers(0, 5), st.booleans())
@QUICK
def test_the_largest_is_that_of_all_interpolated_outputs(change, classes, seed, rough):
    before, after, box = change
    make = rough_outputs if rough else trained_outputs
    outputs = make(classes, before, seed)
    fine = functional.interpolate(outputs[None], after, mode=LINEAR[len(after)])[0]
    fine = fine[(slice(None), *box)]
    axes = all_taps(before, after, smooth=False)
    found = largest(outputs.movedim(0, -1), full(before), axes, box).long()
    best = fine.max(0).values
    mine = fine.gather(0, found[None])[0]
    # Where it is another class, it is one that is as large but for rounding.
    torch.testing.assert_close(mine, best, rtol=0, atol=1e-5)
    assert (found == fine.argmax(0)).float().mean() > 0.99 or fine[0].numel() < 200


def test_deciding_first_would_give_another_mask():
    """The negative twin: the nearest class is not the largest of the interpolated outputs."""
    outputs = trained_outputs(5, (12, 12, 12), 0)
    axes = all_taps((12,) * 3, (30,) * 3, smooth=False)
    found = largest(outputs.movedim(0, -1), full((12,) * 3), axes, full((30,) * 3)).float()
    nearest = functional.interpolate(
        outputs.argmax(0)[None, None].float(), (30,) * 3, mode="nearest-exact"
    )[0, 0]
    assert (found != nearest).float().mean() > 0.02


def test_a_class_that_wins_at_no_voxel_may_win_between_them():
    """Second everywhere, first in the middle: it must not be ruled out."""
    outputs = torch.tensor([[10.0, 0.0], [0.0, 10.0], [9.0, 9.0], [0.0, 0.0], [1.0, 1.0]])
    outputs = outputs[:, :, None].expand(5, 2, 2)
    axes = all_taps((2, 2), (8, 2), smooth=False)
    found = largest(outputs.movedim(0, -1), full((2, 2)), axes, full((8, 2)))
    assert found[:, 0].tolist() == [0, 0, 2, 2, 2, 2, 1, 1]


def test_values_beyond_all_numbers_rule_nothing_out():
    outputs = noise(6, 6, 4, 4, seed=0).movedim(0, -1)
    outputs[:3, ..., 2], outputs[:3, ..., 4] = torch.inf, -torch.inf
    axes = all_taps((6, 4, 4), (6, 8, 4), smooth=False)
    found = largest(outputs, full((6, 4, 4)), axes, full((6, 8, 4)))
    assert (found[:3] == 2).all()


@given(
    changes(),
    st.booleans(),
    st.sampled_from([40, 300]),
    st.sampled_from([torch.float32, torch.float16]),
)
@QUICK
def test_a_head_may_come_after_what_is_linear(change, rough, classes, waiting):
    before, after, box = change
    make = rough_outputs if rough else trained_outputs
    features = make(4, before, 0).movedim(0, -1).to(waiting)
    head = Head(noise(classes, 4, seed=1), noise(classes, seed=2))
    outputs = features.float() @ head.weight.T + head.bias
    axes = all_taps(before, after, smooth=False)
    expected = interpolated(outputs, full(before), axes, box)
    found = interpolated(features, full(before), axes, box, head)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    decided = largest(features, full(before), axes, box, head).long()
    mine = expected.gather(0, decided[None])[0]
    torch.testing.assert_close(mine, expected.max(0).values, rtol=0, atol=1e-4)
    # The negative twin: without its bias others are the largest.
    without = Head(head.weight, torch.zeros(classes))
    assert not torch.allclose(interpolated(features, full(before), axes, box, without), expected)


@given(changes(), st.data())
@QUICK
def test_planes_come_in_order_and_each_once(change, data):
    before, after, box = change
    axis = data.draw(st.integers(0, len(box) - 1))
    outputs = noise(2, *before)
    axes = all_taps(before, after, smooth=False)
    inner = needed(axes, box)
    given_planes = outputs[(slice(None), *inner)].movedim(0, -1).movedim(axis, 0)

    def slabs():
        start, stop = inner[axis].start, inner[axis].stop
        first = start
        while start < stop:
            end = data.draw(st.integers(start + 1, stop))
            part = given_planes[first - inner[axis].start : end - inner[axis].start]
            yield slice(first, end), part
            first, start = end - 1, end

    expected = resize(outputs, after, smooth=False)
    at = box[axis].start
    for part, some, where in planes_on_scan(slabs(), axes, box, axis):
        assert part[axis].start == at
        at = part[axis].stop
        fine = interpolated(some, where, axes, part)
        assert torch.equal(fine, expected[(slice(None), *part)])
    assert at == box[axis].stop


@pytest.mark.parametrize("flips", [(), (0,), (1, 2)])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_boxes_turn_with_the_voxels(order, flips):
    scan = Geometry.from_spacing((5, 6, 7), (1, 1, 1), "mm")
    placement = Placement(scan, order, flips, scan.permute(order).flip(flips))
    voxels = np.arange(210.0).reshape(5, 6, 7)
    turned = placement.turn(torch.from_numpy(voxels))
    assert np.array_equal(placement.turn_back(turned).numpy(), voxels)
    box = (slice(1, 4), slice(0, 5), slice(2, 7))
    inside = turned[placement.on_turned(box)]
    assert np.array_equal(placement.turn_back(inside).numpy(), voxels[box])
    assert placement.on_scan(placement.on_turned(box)) == box
    there = placement.on_turned(box)
    grid = on_grid(lambda part: voxels[None][(slice(None), *part)], placement, there)
    assert np.array_equal(grid[0].numpy(), inside.numpy())
