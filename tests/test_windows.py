"""Sliding windows against a slow loop, and against what needs no network to know."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unetseg.geometry import starts, voxels_computed, windows
from unetseg.pipeline import beyond
from unetseg.windows import Tiling, Walk, gaussian, slabs

QUICK = settings(max_examples=40, deadline=None)
CPU = torch.device("cpu")


def reader(image):
    return lambda box: beyond(image[(slice(None), *box)], box)


def slide(
    network, image, patch, overlap=0.5, batch=2, *, smallest=None, most=1.0, box=None, **walk
):
    """The outputs in a box, the whole image if not given, put together from the slabs."""
    size = image.shape[1:]
    box = box or tuple(slice(0, n) for n in size)
    walk = Walk(walk.pop("axis", 0), batch, **walk)
    tiling = Tiling.of(size, patch, overlap, smallest, most=most)
    result = None
    last = box[walk.axis].start
    parts = slabs(network, reader(image), tiling, walk, box=box, device=CPU, told=lambda text: None)
    for planes, outputs in parts:
        assert outputs.dtype == walk.dtype or tiling.count == 1
        if result is None:
            shape = [part.stop - part.start for part in box]
            result = torch.full((outputs.shape[-1], *shape), float("nan"))
            assert planes.start == last
        else:
            assert planes.start == last - 1
        part = slice(planes.start - box[walk.axis].start, planes.stop - box[walk.axis].start)
        target = result.movedim(0, -1).movedim(walk.axis, 0)[part]
        if planes.start == last - 1:
            # What is given twice is the same both times.
            assert torch.equal(target[0], outputs[0].float())
        target.copy_(outputs)
        last = planes.stop
    assert last == box[walk.axis].stop
    return result


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


@pytest.mark.parametrize("size", [9, 16])
def test_the_weights_are_the_bell_curve_and_never_zero(size):
    weights = gaussian(size).numpy()
    curve = np.exp(-0.5 * ((np.arange(size) - (size - 1) / 2) / (size / 8)) ** 2)
    np.testing.assert_allclose(weights, np.maximum(curve, 1e-3), rtol=1e-12)
    assert gaussian(200).min() == pytest.approx(1e-3)


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
    bells = [np.exp(-0.5 * ((np.arange(w) - (w - 1) / 2) / (w / 8)) ** 2) for w in window]
    curves = [np.maximum(bell, 1e-3) for bell in bells]
    grid = [starts(n, w, overlap) for n, w in zip(size, window, strict=True)]
    result = np.zeros((2, *size))
    for voxel in np.ndindex(*size):
        total = weights = 0.0
        for corner in product(*grid):
            inside = tuple(v - c for v, c in zip(voxel, corner, strict=True))
            if all(0 <= i < w for i, w in zip(inside, window, strict=True)):
                weight = np.prod([curve[i] for curve, i in zip(curves, inside, strict=True)])
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


@st.composite
def parts_of_problems(draw):
    size, patch, overlap, batch = draw(problems())
    box = []
    for n in size:
        start = draw(st.integers(0, n - 1))
        box.append(slice(start, draw(st.integers(start + 1, n))))
    return size, patch, overlap, batch, tuple(box), draw(st.integers(0, len(size) - 1))


@given(parts_of_problems())
@QUICK
def test_a_part_of_an_image_along_any_axis_is_that_part_of_the_whole(problem):
    size, patch, overlap, batch, box, axis = problem
    image = noise(1, size)
    whole = slide(ramp, image, patch, overlap, batch)
    part = slide(ramp, image, patch, overlap, batch, box=box, axis=axis)
    torch.testing.assert_close(part, whole[(slice(None), *box)], rtol=1e-5, atol=1e-4)


def test_windows_of_the_part_alone_would_give_something_else():
    """The negative twin: a part is not predicted as if it were an image."""
    image = noise(1, (20, 20))
    box = (slice(3, 14), slice(5, 18))
    whole = slide(ramp, image, (6, 6))
    alone = slide(ramp, image[(slice(None), *box)], (6, 6))
    assert (alone - whole[(slice(None), *box)]).abs().max() > 0.1


def test_outputs_that_wait_in_half_precision_are_nearly_the_same():
    image = noise(1, (30, 12))
    exact = slide(identity, image, (8, 8))
    half = slide(identity, image, (8, 8), dtype=torch.float16)
    assert 0 < (half - exact).abs().max() < 4e-3


def test_a_window_without_structure_goes_through_the_network_once():
    seen = []

    def network(x):
        seen.append(len(x))
        return torch.cat([x + 1, x * 2], 1)

    image = torch.zeros(2, 8, 40)
    image[1] = 3
    image[:, :, 30:] = noise(2, (8, 10))
    result = slide(network, image, (8, 8), overlap=0.0, batch=4)
    # Three of the five windows hold air only; the last two are not constant.
    assert sum(seen) == 3
    torch.testing.assert_close(result, network(image[None])[0], rtol=1e-6, atol=1e-6)


def test_air_of_another_value_has_another_answer():
    image = torch.zeros(1, 4, 12)
    image[..., 4:8] = 5
    result = slide(identity, image, (4, 4), overlap=0.0)
    torch.testing.assert_close(result, image)


def failing(most, message="DefaultCPUAllocator: can't allocate memory"):
    def network(x):
        if len(x) > most:
            raise RuntimeError(message)
        return x

    return network


def test_fewer_windows_at_a_time_when_memory_is_short():
    image = noise(1, (64, 4))
    said = []
    parts = slabs(
        failing(1),
        reader(image),
        Tiling.of((64, 4), (8, 4), 0.5),
        Walk(0, 8),
        box=(slice(0, 64), slice(0, 4)),
        device=CPU,
        told=said.append,
    )
    result = torch.zeros(1, 64, 4)
    for planes, outputs in parts:
        result[:, planes] = outputs.movedim(-1, 0)
    torch.testing.assert_close(result, image)
    ends = "at a time from here on"
    assert said == [f"out of memory: {n} {ends}" for n in ("4 windows", "2 windows", "one window")]


# Another device than "cpu" by its name, so that outputs can be moved away from it.
CARD = torch.device("cpu", 0)


def crowded(image, said, full=()):
    """The result on a card that is full at the calls of these numbers."""
    calls = []

    def network(x):
        calls.append(len(x))
        if len(calls) in full:
            raise RuntimeError("CUDA out of memory")
        return ramp(x)

    size = tuple(image.shape[1:])
    result = torch.zeros(2, *size)
    tiling = Tiling.of(size, (8, 4), 0.5)
    box = tuple(slice(0, n) for n in size)
    with torch.inference_mode():
        for planes, outputs in slabs(
            network,
            reader(image),
            tiling,
            Walk(0, 2, on_device=True),
            box=box,
            device=CARD,
            told=said.append,
        ):
            result[:, planes] = outputs.movedim(-1, 0)
    return result


def test_outputs_wait_in_host_memory_when_one_window_does_not_fit_beside_them():
    image = noise(1, (64, 4))
    said = []
    expected = crowded(image, said)
    assert said == []
    # The fifth call has two windows, the sixth one of them, and the next one again.
    result = crowded(image, said, full=(5, 6))
    assert torch.equal(result, expected)
    assert said == [
        "out of memory: one window at a time from here on",
        "out of memory: outputs wait in host memory from here on",
    ]


def test_outputs_wait_in_host_memory_when_there_is_no_room_for_any(monkeypatch):
    image = noise(1, (64, 4))
    said = []
    expected = crowded(image, said)
    honest = torch.zeros

    def zeros(*size, device=None, **more):
        if device == CARD:
            raise RuntimeError("CUDA out of memory")
        return honest(*size, device=device, **more)

    monkeypatch.setattr(torch, "zeros", zeros)
    result = crowded(image, said)
    assert torch.equal(result, expected)
    assert said == ["out of memory: outputs wait in host memory from here on"]


def test_a_window_that_nothing_makes_room_for_is_raised():
    said = []
    with pytest.raises(RuntimeError, match="CUDA out of memory"):
        crowded(noise(1, (64, 4)), said, full=range(5, 99))
    assert said == [
        "out of memory: one window at a time from here on",
        "out of memory: outputs wait in host memory from here on",
    ]


@pytest.mark.parametrize("message", ["CUDA out of memory", "size mismatch"])
def test_what_a_single_window_does_not_survive_is_raised(message):
    with pytest.raises(RuntimeError, match=message):
        slide(failing(0, message), noise(1, (9, 9)), (4, 4), batch=4)


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


@pytest.mark.parametrize("waiting", [torch.float32, torch.float16])
@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16])
def test_planes_are_added_one_by_one_as_they_are_together(monkeypatch, given, waiting):
    image = noise(1, (20, 12))

    def blended():
        return slide(lambda x: ramp(x).to(given), image, (8, 8), dtype=waiting)

    together = blended()
    monkeypatch.setattr("unetseg.windows._CACHED_VALUES", 1)
    assert torch.equal(blended(), together)


def test_the_image_itself_stays_untouched():
    image = noise(1, (9, 9))
    before = image.clone()
    slide(lambda x: x.mul_(2), image, (4, 4))
    slide(lambda x: x.mul_(2), image, (9, 9))
    assert torch.equal(image, before)


MOST = st.sampled_from([1.0, 1.3, 2.0, 3.0])


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(2, 12)), min_size=2, max_size=2),
    OVERLAPS,
    MOST,
)
@QUICK
def test_what_a_scan_costs_is_what_the_network_is_given(axes, overlap, most):
    size, patch = zip(*axes, strict=True)
    seen = 0

    def counting(x):
        nonlocal seen
        seen += x[:, 0].numel()
        return x

    slide(counting, noise(1, size), patch, overlap, most=most)
    # A scan smaller than a window costs as much as one: what is done around it takes time too.
    assert voxels_computed(size, patch, overlap, most) == max(seen, int(np.prod(patch)))


@given(st.integers(1, 300), st.integers(1, 64), OVERLAPS, MOST, st.sampled_from([1, 4, 16]))
def test_larger_windows_are_the_fewest_and_no_larger_than_needed(
    size, patch, overlap, most, multiple
):
    edge, first = windows(size, patch, overlap, most, multiple)
    longest = max(patch, int(most * patch + 1e-6))
    assert min(size, patch) <= edge <= min(size, longest)
    assert first[0] == 0
    assert first[-1] + edge == size
    steps = np.diff(first)
    # Rounding takes less than a voxel from the overlap.
    assert (steps < edge - overlap * patch + 1).all()
    # One less, however long, would overlap by less.
    if len(first) > 1:
        step = max(1, int(longest - overlap * patch + 1e-6))
        assert size > longest + (len(first) - 2) * step
    if len(first) > 1 and edge > max(patch, multiple):
        smaller = edge - multiple
        assert len(first) * smaller - (len(first) - 1) * overlap * patch < size + 1


@given(st.integers(1, 300), st.integers(1, 64), OVERLAPS, st.sampled_from([1, 4, 16]))
def test_windows_of_a_patch_are_as_they_were_learned(size, patch, overlap, multiple):
    assert windows(size, patch, overlap, 1.0, multiple) == (
        min(size, patch),
        starts(size, patch, overlap),
    )


def test_larger_windows_share_the_image_evenly():
    # 520 by windows of up to 512: two of 324, not two of 512 that are nearly the same.
    assert windows(520, 256, 0.5, 2.0, 4) == (324, (0, 196))
    assert windows(512, 256, 0.5, 2.0, 4) == (512, (0,))
    assert windows(520, 256, 0.5, 1.0, 4) == (256, (0, 88, 176, 264))
