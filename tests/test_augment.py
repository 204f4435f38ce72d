"""Random changes of a batch: replayable, exact where nothing was drawn, image and labels as one."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from unetseg.augment import Draw, apply, draw, grown
from unetseg.config import IGNORED, AugmentPlan
from unetseg.objects.codes import SCALE
from unetseg.objects.distances import object_distances

QUICK = settings(max_examples=25, deadline=None)

NEUTRAL = AugmentPlan(
    mirror_axes=(),
    spatial_probability=0.0,
    rotation_degrees=(0.0,),
    scale=(1.0, 1.0),
    intensity_probability=0.0,
    brightness=(0.5, 2.0),
    contrast=(0.5, 2.0),
    gamma=(0.5, 2.0),
    noise=0.3,
    blur=1.5,
    elastic=0.4,
    low_resolution=0.5,
)
STRONG = replace(
    NEUTRAL,
    mirror_axes=(0, 1),
    spatial_probability=0.7,
    rotation_degrees=(180.0,),
    scale=(0.5, 2.0),
    intensity_probability=0.7,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(size=(8, 10), samples=4, channels=2, seed=0):
    images = torch.randn(samples, channels, *size, generator=seeded(seed))
    return images, torch.randint(0, 4, (samples, *size), generator=seeded(seed + 1))


def nothing(samples, axes):
    """A draw that changes nothing, made without `draw`."""
    return Draw(
        matrix=torch.eye(axes).repeat(samples, 1, 1),
        moved=torch.zeros(samples, dtype=torch.bool),
        shifts=torch.zeros(samples, axes, *(7,) * axes),
        flips=torch.zeros(samples, axes, dtype=torch.bool),
        brightness=torch.ones(samples, 1),
        contrast=torch.ones(samples, 1),
        gamma=torch.ones(samples, 1),
        noise=torch.zeros(samples),
        blur=torch.zeros(samples),
        noise_seeds=torch.arange(samples),
        resolution=torch.ones(samples),
    )


def second_only(**values):
    """A draw for two samples of two axes, neutral but for these values of the second."""
    drawn = nothing(2, 2)
    for name, value in values.items():
        getattr(drawn, name)[1] = value
    return drawn


# --- replay ---


def test_the_same_draw_gives_the_same_batch_twice():
    images, labels = batch()
    drawn = draw(4, STRONG, (1.0, 2.0), seeded())
    first, second = apply(images, labels, drawn), apply(images, labels, drawn)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    other = apply(images, labels, draw(4, STRONG, (1.0, 2.0), seeded(1)))
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[1], other[1])


def test_the_same_seed_gives_the_same_draw():
    one, same, other = (draw(4, STRONG, (1.0, 1.0), seeded(seed)) for seed in (5, 5, 6))
    assert torch.equal(one.matrix, same.matrix)
    assert torch.equal(one.noise_seeds, same.noise_seeds)
    assert not torch.equal(one.matrix, other.matrix)


def test_the_batch_that_was_given_stays_as_it_is():
    images, labels = batch()
    before = images.clone(), labels.clone()
    apply(images, labels, draw(4, STRONG, (1.0, 1.0), seeded()))
    assert torch.equal(images, before[0])
    assert torch.equal(labels, before[1])


@pytest.mark.parametrize("rows", [slice(1, 3), slice(0, None, 2), slice(1, None, 2)])
def test_some_samples_change_as_they_do_among_all(rows):
    images, labels = batch(samples=5)
    plan = replace(STRONG, intensity_probability=1.0)
    drawn = draw(5, plan, (1.0, 1.0), seeded())
    whole = apply(images, labels, drawn)
    part = apply(images[rows], labels[rows], drawn.part(rows))
    torch.testing.assert_close(part[0], whole[0][rows])
    assert torch.equal(part[1], whole[1][rows])
    # The noise of each is its own.
    noise = apply(0 * images, labels, replace(nothing(5, 2), noise=torch.ones(5)))[0]
    assert len(noise[:, 0, 0, 0].unique()) == 5


# --- nothing drawn, nothing changed ---


@pytest.mark.parametrize("size", [(8, 9), (5, 6, 7)])
def test_a_neutral_plan_changes_nothing_at_all(size):
    images, labels = batch(size)
    angles = (0.0,) * (1 if len(size) == 2 else 3)
    plan = replace(NEUTRAL, rotation_degrees=angles)
    changed, moved = apply(images, labels, draw(4, plan, (1.0,) * len(size), seeded()))
    assert torch.equal(changed, images)
    assert torch.equal(moved, labels)


CHANGES = {
    "brightness": 1.5,
    "contrast": 0.7,
    "gamma": 1.4,
    "noise": 0.2,
    "blur": 1.0,
    "resolution": 0.5,
    "moved": True,
    "shifts": 0.3,
    "flips": torch.tensor([True, False]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_sample_for_which_nothing_was_drawn_stays_exactly_as_it_is(name):
    images, labels = batch(samples=2)
    drawn = second_only(**{name: CHANGES[name]})
    drawn.matrix[1] *= 1.3
    changed, moved = apply(images, labels, drawn)
    assert torch.equal(changed[0], images[0])
    assert torch.equal(moved[0], labels[0])
    assert not torch.equal(changed[1], images[1])


@pytest.mark.parametrize("name", ["brightness", "contrast", "gamma", "noise", "blur", "resolution"])
def test_intensity_leaves_the_labels_alone(name):
    images, labels = batch(samples=2)
    assert torch.equal(apply(images, labels, second_only(**{name: CHANGES[name]}))[1], labels)


# --- space ---


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
def test_a_flip_is_exact(axes):
    images, labels = batch(samples=2)
    flips = torch.tensor([axis in axes for axis in (0, 1)])
    changed, moved = apply(images, labels, second_only(flips=flips))
    expected = np.flip(images[1].numpy(), [axis + 1 for axis in axes])
    np.testing.assert_array_equal(changed[1].numpy(), expected)
    np.testing.assert_array_equal(moved[1].numpy(), np.flip(labels[1].numpy(), axes))


def test_only_the_planned_axes_are_flipped_about_half_the_time():
    plan = replace(NEUTRAL, mirror_axes=(1,))
    drawn = draw(2000, plan, (1.0, 1.0), seeded())
    assert not drawn.flips[:, 0].any()
    # Three standard deviations of 2000 coins are 67.
    assert abs(int(drawn.flips[:, 1].sum()) - 1000) < 100


@pytest.mark.parametrize("size", [6, 7])
def test_a_quarter_turn_by_hand(size):
    """Output offset (a, b) takes from input offset (-b, a)."""
    images, labels = batch((size, size), samples=2)
    drawn = second_only(moved=True)
    drawn.matrix[1] = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    changed, moved = apply(images, labels, drawn)
    for i, j in np.ndindex(size, size):
        torch.testing.assert_close(changed[1, :, i, j], images[1, :, size - 1 - j, i])
        assert moved[1, i, j] == labels[1, size - 1 - j, i]


def test_a_quarter_turn_in_a_volume_of_unequal_sizes():
    """About axis 0, with axes 1 and 2 equally long: the slices stay."""
    images, labels = batch((3, 6, 6), samples=1)
    drawn = nothing(1, 3)
    drawn.moved[0] = True
    drawn.matrix[0] = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    changed, moved = apply(images, labels, drawn)
    for i, j in np.ndindex(6, 6):
        torch.testing.assert_close(changed[0, :, :, i, j], images[0, :, :, 5 - j, i])
        assert torch.equal(moved[0, :, i, j], labels[0, :, 5 - j, i])


def test_a_shrunken_sample_is_surrounded_by_nothing():
    """Twice the offset: the outer half of the output lies beyond the input."""
    images = torch.ones(1, 1, 8, 8)
    labels = torch.full((1, 8, 8), 2)
    drawn = nothing(1, 2)
    drawn.moved[0] = True
    drawn.matrix[0] *= 2
    changed, moved = apply(images, labels, drawn)
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[2:6, 2:6] = True
    assert (moved[0][inside] == 2).all()
    assert (moved[0][~inside] == IGNORED).all()
    assert (changed[0, 0][inside] == 1).all()
    assert (changed[0, 0][~inside] == 0).all()


def test_what_was_ignored_stays_ignored():
    images, labels = batch((9, 9), samples=1)
    labels[:] = IGNORED
    drawn = nothing(1, 2)
    drawn.moved[0] = True
    drawn.matrix[0] *= 0.8
    assert (apply(images, labels, drawn)[1] == IGNORED).all()


def test_labels_are_picked_and_never_mixed():
    images, labels = batch((9, 9), samples=1)
    labels = labels * 5
    plan = replace(STRONG, spatial_probability=1.0)
    moved = apply(images, labels, draw(1, plan, (1.0, 1.0), seeded()))[1]
    assert set(moved.unique().tolist()) <= {IGNORED, 0, 5, 10, 15}
    assert moved.dtype == labels.dtype


def centre(weights):
    grid = np.indices(weights.shape)
    return np.array([(axis * weights).sum() / weights.sum() for axis in grid])


@given(st.integers(0, 10**6), st.sampled_from([(33, 37), (17, 21, 19)]))
@QUICK
def test_labels_move_with_the_image(seed, size):
    rng = np.random.default_rng(seed)
    middle = np.array(size) / 2 + rng.uniform(-2, 2, len(size))
    grid = np.indices(size)
    apart = sum((axis - m) ** 2 for axis, m in zip(grid, middle, strict=True))
    ball = torch.from_numpy((apart <= 3.2**2).astype(np.float32))
    angles = (180.0,) if len(size) == 2 else (180.0, 30.0, 90.0)
    plan = replace(
        STRONG,
        mirror_axes=tuple(range(len(size))),
        rotation_degrees=angles,
        scale=(0.8, 1.25),
        elastic=0.0,
        spatial_probability=1.0,
        intensity_probability=0.0,
    )
    drawn = draw(1, plan, (1.0,) * len(size), seeded(seed))
    images, labels = apply(ball[None, None], ball[None].long(), drawn)
    seen, named = centre(images[0, 0].numpy()), centre((labels[0] == 1).numpy())
    assert np.abs(seen - named).max() < 0.4
    # Where it must be: out = inverse(matrix) @ in, about the middle, after the flips.
    offset = middle - (np.array(size) - 1) / 2
    offset[drawn.flips[0].numpy()] *= -1
    expected = np.linalg.solve(drawn.matrix[0].double().numpy(), offset)
    assert np.abs(seen - (np.array(size) - 1) / 2 - expected).max() < 0.4


@given(st.integers(0, 10**6))
@QUICK
def test_a_rotation_turns_space_and_not_the_voxel_grid(seed):
    edges = np.array([0.5, 1.0, 4.0])
    plan = replace(NEUTRAL, rotation_degrees=(30.0, 20.0, 10.0), spatial_probability=1.0)
    drawn = draw(3, plan, tuple(edges), seeded(seed))
    for matrix in drawn.matrix.double().numpy():
        # In millimetres: lengths and the handedness are kept.
        turn = np.diag(edges) @ matrix @ np.diag(1 / edges)
        np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-5)
        assert np.linalg.det(turn) == pytest.approx(1, abs=1e-5)
        # The three angles together turn by no more than their sum.
        assert np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))) <= 60.01


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_angle_belongs_to_its_axis(axis):
    angles = [0.0, 0.0, 0.0]
    angles[axis] = 90.0
    drawn = draw(3, replace(NEUTRAL, rotation_degrees=tuple(angles)), (1.0,) * 3, seeded())
    unit = torch.eye(3)[axis]
    for matrix in drawn.matrix:
        torch.testing.assert_close(matrix @ unit, unit)
        assert not torch.allclose(matrix, torch.eye(3))


def test_the_scale_enlarges_within_its_limits_evenly_in_its_logarithm():
    plan = replace(NEUTRAL, scale=(0.5, 2.0))
    matrices = draw(2000, plan, (1.0, 1.0), seeded()).matrix
    # A larger object takes from a smaller part of the input.
    scale = 1 / matrices[:, 0, 0]
    assert float(scale.min()) >= 0.4999
    assert float(scale.max()) <= 2.0001
    assert abs(float((scale > 1).float().mean()) - 0.5) < 0.05


def bent(shifts, size):
    """Images that hold their own places, bent: (n, *size), where every voxel came from."""
    samples = len(shifts)
    places = torch.stack(torch.meshgrid(*map(torch.arange, size), indexing="ij")).float()
    images = places.expand(samples, *places.shape)
    labels = torch.zeros(samples, *size, dtype=torch.long)
    return apply(images, labels, replace(nothing(samples, len(size)), shifts=shifts))


@pytest.mark.parametrize("size", [(40, 56), (24, 32, 28)])
def test_shifts_that_are_all_alike_move_the_image_by_as_much(size):
    """A quarter of the distance between control points is a 16th of a patch."""
    for axis, voxels in enumerate(size):
        shifts = torch.zeros(1, len(size), *(7,) * len(size))
        shifts[0, axis] = 0.25
        came, labels = bent(shifts, size)
        known = labels[0] == 0
        grid = np.indices(size)
        for other in range(len(size)):
            expected = grid[other] + (voxels / 16 if other == axis else 0)
            wrong = np.abs(came[0, other].numpy() - expected)[known.numpy()]
            # Half a voxel at the edge lies between the last voxel and nothing.
            inside = (grid[axis] < voxels - voxels / 16 - 1)[known.numpy()]
            assert wrong[inside].max() < 1e-3
        assert not known.all()


@pytest.mark.parametrize("axes", [2, 3])
def test_a_bend_against_scipys_splines(axes):
    size = (20, 24, 28)[:axes]
    shifts = torch.rand(1, axes, *(7,) * axes, generator=seeded()) * 0.2
    came, labels = bent(shifts, size)
    places = np.stack(np.meshgrid(*[(np.arange(n) + 0.5) * 4 / n + 1 for n in size], indexing="ij"))
    expected = np.indices(size) + np.stack(
        [
            # The numbers are the spline's own coefficients; none is sought.
            ndimage.map_coordinates(each.numpy(), places, order=3, prefilter=False) * n / 4
            for each, n in zip(shifts[0].double(), size, strict=True)
        ]
    )
    within = np.all([(e >= 0) & (e <= n - 1) for e, n in zip(expected, size, strict=True)], axis=0)
    assert within.mean() > 0.7
    np.testing.assert_allclose(came[0].numpy()[:, within], expected[:, within], atol=1e-3)
    assert np.abs(expected - np.indices(size)).max() > 0.5
    assert bool((labels[0].numpy()[within] == 0).all())


@given(st.integers(0, 10**6), st.sampled_from([(48, 64), (24, 32, 24)]))
@QUICK
def test_the_strongest_bend_does_not_fold(seed, size):
    """Neighbours stay in their order: the volume that a voxel came from is never negative."""
    axes = len(size)
    signs = torch.randint(0, 2, (1, axes, *(7,) * axes), generator=seeded(seed))
    came, _ = bent(0.4 * (2.0 * signs - 1), size)
    steps = [torch.diff(came[0], dim=axis + 1) for axis in range(axes)]
    # Nearer to the edge than the largest shift, a tenth of the patch, nothing may be there.
    inner = (slice(None), *(slice(n // 8 + 1, n - n // 8 - 1) for n in size))
    jacobian = torch.stack([step[inner] for step in steps], 1).movedim((0, 1), (-2, -1))
    volumes = torch.linalg.det(jacobian)
    assert float(volumes.std()) > 0.05
    assert float(volumes.min()) > 0


def test_labels_bend_with_the_image():
    ids = discs()
    image = torch.from_numpy((ids > 0).astype(np.float32))[None, None]
    plan = replace(NEUTRAL, spatial_probability=1.0, scale=(1.0, 1.0), intensity_probability=0.0)
    drawn = replace(draw(1, plan, (1.0, 1.0), seeded(2)), moved=torch.zeros(1, dtype=torch.bool))
    images, labels = apply(image, torch.from_numpy(ids)[None], drawn)
    named, seen = (labels[0] > 0).numpy(), images[0, 0].numpy()
    # The nearest of four pixels has a quarter of the weight at least.
    assert named[seen > 0.76].all()
    assert not named[seen < 0.24].any()
    assert (named != (ids > 0)).sum() > 100


# --- intensity ---


def test_larger_voxels_by_hand():
    images, labels = batch((6, 8), samples=2)
    changed = apply(images, labels, second_only(resolution=0.5))[0]
    # Of two voxels, the nearest to their middle is the second; then torch's own interpolation.
    coarse = images[1:, :, 1::2, 1::2]
    expected = torch.nn.functional.interpolate(coarse, (6, 8), mode="bilinear")
    torch.testing.assert_close(changed[1:], expected)
    assert torch.equal(changed[0], images[0])


def test_brightness_and_contrast_by_hand():
    images, labels = batch(samples=2)
    changed = apply(images, labels, second_only(brightness=1.5, contrast=0.7))[0]
    for channel in range(2):
        values = images[1, channel].double().numpy()
        expected = (values - values.mean()) * 0.7 + values.mean() * 1.5
        np.testing.assert_allclose(changed[1, channel].numpy(), expected, atol=1e-5)


def test_channels_change_alike_or_each_by_itself():
    images, labels = batch(channels=3)
    alike = replace(NEUTRAL, intensity_probability=1.0, noise=0.0, blur=0.0, low_resolution=1.0)
    drawn = draw(4, alike, (1.0, 1.0), seeded(), 3)
    # With one factor for all, the numbers do not depend on how many channels there are.
    assert torch.equal(drawn.gamma, draw(4, alike, (1.0, 1.0), seeded()).gamma)
    drawn = draw(4, replace(alike, intensity_per_channel=True), (1.0, 1.0), seeded(), 3)
    for values in (drawn.brightness, drawn.contrast, drawn.gamma):
        assert len(values.unique()) == 12
    changed = apply(images, labels, drawn)[0]
    for sample, channel in np.ndindex(4, 3):
        alone = replace(
            nothing(1, 2),
            **{
                name: getattr(drawn, name)[sample : sample + 1, channel : channel + 1]
                for name in ("brightness", "contrast", "gamma")
            },
        )
        image = images[sample : sample + 1, channel : channel + 1]
        expected = apply(image, labels[:1], alone)[0][0, 0]
        torch.testing.assert_close(changed[sample, channel], expected)


def test_some_samples_change_and_then_all_of_their_channels():
    plan = replace(STRONG, intensity_per_channel=True, intensity_probability=0.3)
    drawn = draw(2000, plan, (1.0, 1.0), seeded(), 2)
    happened = drawn.contrast != 1
    assert torch.equal(happened[:, 0], happened[:, 1])
    assert 0.25 < float(happened[:, 0].float().mean()) < 0.35


def test_gamma_by_hand_keeps_darkest_and_brightest():
    images, labels = batch(samples=2)
    changed = apply(images, labels, second_only(gamma=1.4))[0]
    for channel in range(2):
        values = images[1, channel].double().numpy()
        low, span = values.min(), np.ptp(values)
        expected = ((values - low) / span) ** 1.4 * span + low
        np.testing.assert_allclose(changed[1, channel].numpy(), expected, atol=1e-5)


def test_gamma_of_a_constant_image_is_finite():
    drawn = second_only(gamma=0.5)
    changed = apply(torch.ones(2, 1, 4, 4), torch.zeros(2, 4, 4, dtype=torch.long), drawn)[0]
    torch.testing.assert_close(changed, torch.ones(2, 1, 4, 4))


@pytest.mark.parametrize("size", [(12, 9), (7, 8, 9)])
@pytest.mark.parametrize("sigma", [0.4, 1.0])
def test_blur_against_scipy(size, sigma):
    images, labels = batch(size, samples=2)
    drawn = nothing(2, len(size))
    drawn.blur[1] = sigma
    changed = apply(images, labels, drawn)[0]
    for channel in range(2):
        expected = ndimage.gaussian_filter(
            images[1, channel].double().numpy(), sigma, mode="nearest", radius=3
        )
        np.testing.assert_allclose(changed[1, channel].numpy(), expected, atol=1e-5)


def test_each_sample_has_its_own_blur():
    images, labels = batch(samples=3)
    drawn = nothing(3, 2)
    drawn.blur[:] = torch.tensor([0.5, 0.0, 1.5])
    changed = apply(images, labels, drawn)[0]
    for sample, sigma in ((0, 0.5), (2, 1.5)):
        expected = ndimage.gaussian_filter(
            images[sample, 0].double().numpy(), sigma, mode="nearest", radius=3
        )
        np.testing.assert_allclose(changed[sample, 0].numpy(), expected, atol=1e-5)


def test_noise_has_the_drawn_deviation_and_no_mean():
    images = torch.zeros(2, 1, 100, 100)
    labels = torch.zeros(2, 100, 100, dtype=torch.long)
    changed = apply(images, labels, second_only(noise=0.2))[0][1]
    # Of 10 000 values: the deviation is within 3 %, the mean within 4 / 100 of it.
    assert float(changed.std()) == pytest.approx(0.2, rel=0.03)
    assert abs(float(changed.mean())) < 0.008


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_probabilities_are_per_sample_and_kind(probability):
    plan = replace(STRONG, spatial_probability=probability, intensity_probability=probability)
    drawn = draw(2000, plan, (1.0, 1.0), seeded())
    shares = {
        "moved": drawn.moved,
        "shifts": drawn.shifts.flatten(1).any(1),
        "resolution": drawn.resolution < 1,
        "brightness": drawn.brightness[:, 0] != 1,
        "contrast": drawn.contrast[:, 0] != 1,
        "gamma": drawn.gamma[:, 0] != 1,
        "noise": drawn.noise > 0,
        "blur": drawn.blur > 0,
    }
    for name, happened in shares.items():
        assert abs(float(happened.float().mean()) - probability) < 0.05, name


def test_drawn_values_lie_within_the_plan():
    drawn = draw(2000, replace(STRONG, intensity_probability=1.0), (1.0, 1.0), seeded())
    for values in (drawn.brightness, drawn.contrast, drawn.gamma):
        assert 0.4999 <= float(values.min()) < 0.55
        assert 1.9 < float(values.max()) <= 2.0001
    assert 0.29 < float(drawn.noise.max()) <= 0.3
    assert 1.45 < float(drawn.blur.max()) <= 1.5
    assert 0.5 <= float(drawn.resolution.min()) < 0.51
    assert 0.39 < float(drawn.shifts.abs().max()) <= 0.4


def test_a_large_batch_of_strong_changes_stays_finite():
    images, labels = batch((9, 7), samples=32)
    plan = replace(STRONG, spatial_probability=1.0, intensity_probability=1.0)
    changed, moved = apply(images, labels, draw(32, plan, (1.0, 3.0), seeded()))
    assert torch.isfinite(changed).all()
    assert changed.shape == images.shape
    assert moved.shape == labels.shape


# --- objects ---


def discs(size=96, seed=3):
    """(size, size) ids of discs that touch, none of them cut by the edge."""
    rows, columns = np.mgrid[:size, :size]
    ids = np.zeros((size, size), np.int64)
    for number, (row, column, radius) in enumerate(((34, 34, 14), (34, 62, 14), (62, 46, 16)), 1):
        ids[(ids == 0) & ((rows - row) ** 2 + (columns - column) ** 2 <= radius**2)] = number
    return ids


def object_batch(ids):
    distances = np.rint(object_distances(ids, (1.0, 1.0)) * SCALE)
    labels = torch.from_numpy(np.concatenate([(ids > 0)[None], distances]).astype(np.int16))
    return torch.zeros(1, 1, *ids.shape), labels[None]


TURNED = replace(
    NEUTRAL,
    spatial_probability=1.0,
    rotation_degrees=(180.0,),
    scale=(0.8, 1.2),
    elastic=0.0,
    mirror_axes=(0, 1),
)


@pytest.mark.parametrize("seed", range(5))
def test_moved_distances_are_those_of_the_moved_objects(seed):
    ids = discs()
    images, labels = object_batch(ids)
    drawn = draw(1, TURNED, (1.0, 1.0), seeded(seed))
    moved = apply(images, labels, drawn)[1][0].numpy()
    again = apply(images, torch.from_numpy(ids)[None], drawn)[1][0].numpy()
    inside = again > 0
    np.testing.assert_array_equal(moved[0] > 0, inside)
    # Not cut by the edge of the patch: such an object keeps the distances of the whole of it.
    cut = np.unique(np.concatenate([again[0], again[-1], again[:, 0], again[:, -1]]))
    inside &= ~np.isin(again, cut)
    assert inside.sum() > 200
    known = np.where(again == IGNORED, 0, again)
    error = np.abs(moved[1:] / SCALE - object_distances(known, (1.0, 1.0)))[:, inside]
    # Of a radius of about 14 voxels, half a voxel is 0.04 and the edge one step of two voxels.
    assert error.mean() < 0.03
    assert np.quantile(error, 0.99) < 0.12
    unmoved = np.abs(labels[0, 1:].numpy() / SCALE - object_distances(known, (1.0, 1.0)))
    assert unmoved[:, inside].mean() > 0.1


def test_class_indices_of_objects_are_moved_as_class_indices_are():
    images, classes = batch()
    labels = torch.stack([classes, 7 * classes, 3 * classes], 1)
    drawn = draw(4, STRONG, (1.0, 1.0), seeded(4))
    alone, together = apply(images, classes, drawn), apply(images, labels, drawn)
    assert torch.equal(alone[0], together[0])
    assert torch.equal(alone[1], together[1][:, 0])
    assert together[1].dtype == labels.dtype
    outside = together[1][:, 0] == IGNORED
    assert bool(outside.any())
    assert not torch.equal(together[1][:, 1], 7 * together[1][:, 0])


def test_objects_in_three_axes_are_mirrored_with_their_distances():
    images = torch.randn(2, 1, 4, 5, 6, generator=seeded())
    labels = torch.randint(0, 50, (2, 3, 4, 5, 6), generator=seeded(1)).to(torch.int16)
    drawn = replace(nothing(2, 3), flips=torch.tensor([[True, False, True], [False] * 3]))
    moved = apply(images, labels, drawn)[1]
    assert torch.equal(moved[0], labels[0].flip(1, 3))
    assert torch.equal(moved[1], labels[1])


# --- changes that grow ---

GROWING = replace(
    NEUTRAL, spatial_probability=0.3, rotation_degrees=(15.0, 20.0), scale=(0.8, 1.25), growth=100.0
)


@pytest.mark.parametrize(
    ("rounds", "probability", "angle", "exponent"),
    [
        (0, 0.3, 1, 1),
        (25, 0.3, 1, 1),
        (62.5, 0.55, 1.5, 1.3),
        (100, 0.8, 2, 1.6),
        (900, 0.8, 2, 1.6),
    ],
)
def test_changes_of_shape_grow_once_the_data_come_back(rounds, probability, angle, exponent):
    found = grown(GROWING, rounds)
    assert found.spatial_probability == pytest.approx(probability)
    assert found.rotation_degrees == pytest.approx((15 * angle, 20 * angle))
    assert found.scale == pytest.approx((0.8**exponent, 1.25**exponent))
    # Nothing else does.
    same = {"spatial_probability": 0.3, "rotation_degrees": (15.0, 20.0), "scale": (0.8, 1.25)}
    assert replace(found, **same) == GROWING


def test_changes_stay_as_they_are_without_growth():
    assert grown(STRONG, 1e6) == STRONG


def test_what_is_switched_off_stays_off():
    off = replace(GROWING, spatial_probability=0.0)
    assert grown(off, 1e6) == off


def test_what_is_strong_already_does_not_become_weaker_or_more_than_all():
    found = grown(replace(STRONG, spatial_probability=0.9, growth=10.0), 20)
    assert found.spatial_probability == pytest.approx(0.9)
    assert found.rotation_degrees == (180.0,)
