"""Sliding windows against a slow loop, and against what needs no network to know."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unetseg.geometry import starts, voxels_computed
from unetseg.windows import gaussian, sliding

QUICK = settings(max_examples=40, deadline=None)
CPU = torch.device("cpu")


def slide(network, image, patch, overlap=0.5, batch=2, **more):
    return sliding(network, image, patch=patch, overlap=overlap, batch=batch, device=CPU, **more)


def identity(x):
    return x


OVERLAPS = st.sampled_from([0.0, 0.25, 0.5, 0.6, 0.75, 0.9])


@given(st.integers(1, 200), st.integers(1, 64), OVERLAPS)
@QUICK
def test_windows_cover_everything_and_overlap_enough(size, window, overlap):
    found = starts(size, window, overlap)
    if size <= window:
        assert found == (0,)
        return
    assert found[0] == 0
    assert found[-1] == size - window
    gaps = np.diff(found)
    assert (gaps >= 1).all()
    # The most whole voxels that leave the overlap; at least one, or nothing would move.
    assert (gaps <= max(1, np.floor(round(window * (1 - overlap), 9)))).all()


@given(st.integers(1, 200), st.integers(1, 64), OVERLAPS)
@QUICK
def test_there_are_no_more_windows_than_needed(size, window, overlap):
    """Counted by walking: each next window as far on as the overlap allows."""
    step = max(1, int(np.floor(round(window * (1 - overlap), 9))))
    count, at = 1, 0
    while at + window < size:
        at += step
        count += 1
    assert len(starts(size, window, overlap)) == count


@pytest.mark.parametrize(
    ("size", "window", "overlap", "expected"),
    [
        (10, 4, 0.5, (0, 2, 4, 6)),
        (10, 5, 0.0, (0, 5)),
        (10, 10, 0.5, (0,)),
        (3, 10, 0.5, (0,)),
        (11, 10, 0.5, (0, 1)),
        (10, 5, 0.5, (0, 2, 3, 5)),
    ],
)
def test_known_starts(size, window, overlap, expected):
    assert starts(size, window, overlap) == expected


def test_the_weights_are_the_bell_curve_and_never_zero():
    weights = gaussian((9, 16)).numpy()
    assert weights.shape == (9, 16)
    a = np.exp(-0.5 * ((np.arange(9) - 4) / (9 / 8)) ** 2)
    b = np.exp(-0.5 * ((np.arange(16) - 7.5) / 2) ** 2)
    np.testing.assert_allclose(weights, np.maximum(np.outer(a, b), 1e-3), rtol=1e-5)
    assert weights.min() == pytest.approx(1e-3)


@st.composite
def problems(draw):
    axes = draw(st.sampled_from([2, 3]))
    size = draw(st.tuples(*[st.integers(1, 15)] * axes))
    patch = draw(st.tuples(*[st.integers(1, 9)] * axes))
    return size, patch, draw(st.sampled_from([0.0, 0.5, 0.7])), draw(st.integers(1, 5))


def noise(channels, size, seed=0):
    return torch.randn(channels, *size, generator=torch.Generator().manual_seed(seed))


@given(problems())
@QUICK
def test_a_network_that_does_nothing_gives_the_image(problem):
    size, patch, overlap, batch = problem
    image = noise(2, size)
    result = slide(identity, image, patch, overlap, batch)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, image, rtol=1e-6, atol=1e-6)


@given(problems())
@QUICK
def test_a_constant_stays_constant(problem):
    size, patch, overlap, batch = problem
    result = slide(lambda x: torch.full_like(x, 3.7), noise(1, size), patch, overlap, batch)
    torch.testing.assert_close(result, torch.full((1, *size), 3.7), rtol=1e-5, atol=0)


def ramp(x):
    """Says where a voxel lies in its window, and what it holds."""
    place = torch.arange(float(x[0, 0].numel())).reshape(x.shape[2:])
    return torch.cat([x[:, :1] * 2 + place, place.expand(x.shape[0], 1, *x.shape[2:])], dim=1)


def slow_ramp(image, patch, overlap):
    """The weighted mean voxel by voxel, in double precision and without torch."""
    size = image.shape[1:]
    window = [min(p, n) for p, n in zip(patch, size, strict=True)]
    place = np.arange(float(np.prod(window))).reshape(window)
    curves = [np.exp(-0.5 * ((np.arange(w) - (w - 1) / 2) / (w / 8)) ** 2) for w in window]
    grid = [starts(n, w, overlap) for n, w in zip(size, window, strict=True)]
    result = np.zeros((2, *size))
    for voxel in np.ndindex(*size):
        total = weights = 0.0
        for corner in product(*grid):
            inside = tuple(v - c for v, c in zip(voxel, corner, strict=True))
            if all(0 <= i < w for i, w in zip(inside, window, strict=True)):
                weight = np.prod([curve[i] for curve, i in zip(curves, inside, strict=True)])
                weight = max(weight, 1e-3)
                value = np.array([image[0][voxel] * 2 + place[inside], place[inside]])
                total, weights = total + weight * value, weights + weight
        result[(slice(None), *voxel)] = total / weights
    return result


CASES = [((9, 7), (4, 5), 0.5), ((5, 12), (8, 3), 0.25), ((5, 6, 4), (3, 6, 3), 0.5)]


@pytest.mark.parametrize(("size", "patch", "overlap"), CASES)
@pytest.mark.parametrize("batch", [1, 4, 100])
def test_overlapping_windows_are_a_weighted_mean(size, patch, overlap, batch):
    image = noise(1, size)
    expected = slow_ramp(image.double().numpy(), patch, overlap)
    result = slide(ramp, image, patch, overlap, batch)
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-4, atol=1e-4)


def test_another_overlap_gives_another_mean():
    """The negative twin: the comparison above sees where the windows lie."""
    image = noise(1, (9, 7))
    expected = slow_ramp(image.double().numpy(), (4, 5), 0.75)
    assert np.abs(slide(ramp, image, (4, 5), 0.5).numpy() - expected).max() > 0.1


def test_no_window_is_larger_than_the_patch_and_none_is_computed_twice():
    seen = []

    def network(x):
        seen.append(tuple(x.shape))
        return x

    slide(network, noise(1, (10, 3)), (4, 5), overlap=0.5, batch=3)
    # Four windows along the first axis, the second is taken whole.
    assert seen == [(3, 1, 4, 3), (1, 1, 4, 3)]


def test_an_image_smaller_than_the_least_size_is_padded_with_zeros():
    seen = []

    def network(x):
        seen.append(x.clone())
        return x + 1

    image = noise(1, (3, 10))
    result = slide(network, image, (8, 8), batch=9, smallest=(6, 4))
    assert tuple(seen[0].shape[2:]) == (6, 8)
    assert not seen[0][:, :, 3:].any()
    assert tuple(result.shape) == (1, 3, 10)
    torch.testing.assert_close(result, image + 1, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [(4, 4), (9, 4)])
def test_half_precision_outputs_are_averaged_in_single(size):
    image = noise(1, size)
    result = slide(lambda x: x.to(torch.bfloat16), image, (4, 4), batch=9)
    assert result.dtype == torch.float32
    rounded = image.to(torch.bfloat16).float()
    torch.testing.assert_close(result, rounded, rtol=1e-6, atol=1e-6)


def test_the_image_itself_stays_untouched():
    image = noise(1, (9, 9))
    before = image.clone()
    slide(lambda x: x.mul_(2), image, (4, 4))
    slide(lambda x: x.mul_(2), image, (9, 9))
    assert torch.equal(image, before)


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(2, 12)), min_size=2, max_size=2), OVERLAPS
)
@QUICK
def test_what_a_scan_costs_is_what_the_network_is_given(axes, overlap):
    size, patch = zip(*axes, strict=True)
    seen = 0

    def counting(x):
        nonlocal seen
        seen += x[:, 0].numel()
        return x

    slide(counting, torch.zeros(1, *size), patch, overlap)
    # A scan smaller than a window costs as much as one: what is done around it takes time too.
    assert voxels_computed(size, patch, overlap) == max(seen, int(np.prod(patch)))
