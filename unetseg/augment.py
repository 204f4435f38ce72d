"""Random changes of a batch, on its device: a draw makes numbers, an apply uses them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import log, pi

import torch
from torch import Tensor
from torch.nn import functional

from unetseg.config import IGNORED, AugmentPlan

# Along each axis of a patch; a cubic B-spline needs one control point before and two behind.
_INTERVALS = 4
_CONTROLS = _INTERVALS + 3


# What changes of shape become: the share of turned samples, the factor on angles, the exponent of
# scales. From the first share of `growth` on, so that a short training learns as fast as it can.
_GROWN_PROBABILITY, _GROWN_ANGLE, _GROWN_SCALE = 0.8, 2.0, 1.6
_GROWS_FROM = 0.25


def grown(plan: AugmentPlan, rounds: float) -> AugmentPlan:
    """The plan once the data have been seen so often: stronger changes of shape.

    Weak changes teach faster, strong ones for longer: which is better depends on how often the
    same cases come back, see docs/training.md.
    """
    # Who turns nothing, or nothing more, means it.
    if not (plan.growth and plan.spatial_probability):
        return plan
    share = (rounds / plan.growth - _GROWS_FROM) / (1 - _GROWS_FROM)
    share = min(1.0, max(0.0, share))
    more = max(0.0, _GROWN_PROBABILITY - plan.spatial_probability)
    angle, exponent = (1 + share * (most - 1) for most in (_GROWN_ANGLE, _GROWN_SCALE))
    low, high = (factor**exponent for factor in plan.scale)
    return replace(
        plan,
        spatial_probability=plan.spatial_probability + share * more,
        rotation_degrees=tuple(min(180.0, angle * degrees) for degrees in plan.rotation_degrees),
        scale=(low, high),
    )


@dataclass(frozen=True, eq=False)
class Draw:
    """The numbers of one augmentation; applying them twice gives the same batch twice.

    matrix : (B, n, n) output voxel offset -> input voxel offset, from the centre, in voxels
    moved : (B) whether the sample is resampled by the matrix
    shifts : (B, n, *controls) of the control points of a B-spline, in distances between them, zero
        where the sample is not bent
    flips : (B, n) whether the axis is mirrored
    brightness, contrast, gamma : (B, C), or (B, 1) for all channels alike; 1 where not drawn
    noise, blur : (B), 0 where not drawn
    noise_seeds : (B) of each sample's noise
    resolution : (B) share that is kept along each axis, 1 where not drawn
    """

    matrix: Tensor
    moved: Tensor
    shifts: Tensor
    flips: Tensor
    brightness: Tensor
    contrast: Tensor
    gamma: Tensor
    noise: Tensor
    blur: Tensor
    noise_seeds: Tensor
    resolution: Tensor

    def part(self, rows: slice) -> "Draw":
        """The same changes of some of the samples."""
        return Draw(**{name: value[rows] for name, value in vars(self).items()})


def draw(
    batch: int,
    plan: AugmentPlan,
    spacing: Sequence[float],
    generator: torch.Generator,
    channels: int = 1,
) -> Draw:
    """Draw the numbers for a batch, on the CPU.

    channels : of the images, which have changes of their own if the plan says so
    spacing : edge lengths per axis: a rotation turns space, not the voxel grid
    """
    axes = len(spacing)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(batch, *shape, generator=generator)

    def happens(probability: float, *shape: int) -> Tensor:
        return torch.rand(batch, *shape, generator=generator) < probability

    def around_one(limits: tuple[float, float], *shape: int) -> Tensor:
        # Halving and doubling are equally far from one.
        low, high = map(log, limits)
        return uniform(low, high, *shape).exp()

    planes = [(0, 1)] if axes == 2 else list(combinations(range(axes), 2))
    turn = torch.eye(axes).repeat(batch, 1, 1)
    # plan.rotation_degrees[k] turns about array axis k (in 2-D about the missing axis).
    for plane, degrees in zip(reversed(planes), plan.rotation_degrees, strict=True):
        angle = uniform(-degrees, degrees) * pi / 180
        one = torch.eye(axes).repeat(batch, 1, 1)
        a, b = plane
        one[:, a, a] = one[:, b, b] = angle.cos()
        one[:, a, b], one[:, b, a] = -angle.sin(), angle.sin()
        turn = turn @ one
    edges = torch.tensor(spacing, dtype=torch.float32)
    matrix = turn * edges[None, None, :] / edges[None, :, None]
    matrix = matrix / around_one(plan.scale)[:, None, None]
    mirrored = torch.zeros(axes, dtype=torch.bool)
    mirrored[list(plan.mirror_axes)] = True
    neutral = torch.ones(batch)

    def sometimes(values: Tensor, otherwise: Tensor) -> Tensor:
        happened = happens(plan.intensity_probability)
        return torch.where(happened if values.ndim == 1 else happened[:, None], values, otherwise)

    of_channels = torch.ones(batch, channels if plan.intensity_per_channel else 1)

    def factors(limits: tuple[float, float]) -> Tensor:
        return sometimes(around_one(limits, of_channels.shape[1]), of_channels)

    return Draw(
        matrix=matrix,
        moved=happens(plan.spatial_probability),
        flips=happens(0.5, axes) & mirrored,
        brightness=factors(plan.brightness),
        contrast=factors(plan.contrast),
        gamma=factors(plan.gamma),
        noise=sometimes(uniform(0, plan.noise), 0 * neutral),
        blur=sometimes(uniform(0, plan.blur), 0 * neutral),
        noise_seeds=torch.randint(2**31, (batch,), generator=generator),
        # Last, so that the other numbers of a seed and a step are those that they always were.
        shifts=happens(plan.spatial_probability, *(1,) * (1 + axes))
        * uniform(-plan.elastic, plan.elastic, axes, *(_CONTROLS,) * axes),
        resolution=sometimes(uniform(plan.low_resolution, 1), neutral),
    )


def apply(images: Tensor, labels: Tensor, drawn: Draw) -> tuple[Tensor, Tensor]:
    """The changed batch.

    images : (B, C, *S) float
    labels : (B, *S) integer class indices, or (B, L, *S): class indices, then whole numbers that
        change gradually (distances in an object), which are interpolated

    What a rotation brings in from outside is zero in the image, IGNORED in the class indices and
    zero in what comes after them.
    """
    images, labels = _spatial(images, labels, drawn)
    return _intensity(images, drawn), labels


def _beside(values: Tensor, images: Tensor) -> Tensor:
    """Few numbers on the images' device; nothing waits for what a card still computes."""
    return values.to(images.device, non_blocking=images.is_cuda)


def _spatial(images: Tensor, labels: Tensor, drawn: Draw) -> tuple[Tensor, Tensor]:
    size = images.shape[2:]
    images, labels = images.clone(), labels.clone()
    for axis, flips in enumerate(drawn.flips.unbind(1)):
        if bool(flips.any()):
            # The whole batch at once: a few large operations instead of many small ones.
            mirrored = _beside(flips, images).reshape(-1, *(1,) * len(size))
            images = torch.where(mirrored[:, None], images.flip(axis + 2), images)
            is_mirrored = mirrored if labels.ndim == mirrored.ndim else mirrored[:, None]
            labels = torch.where(is_mirrored, labels.flip(axis - len(size)), labels)
    bent = drawn.shifts.flatten(1).any(1)
    changed = drawn.moved | bent
    chosen = _beside(changed.nonzero().flatten(), images)
    if len(chosen) == 0:
        return images, labels
    half = torch.tensor(size, dtype=torch.float32) / 2
    straight = torch.eye(len(size)).expand_as(drawn.matrix)
    matrix = torch.where(drawn.moved[:, None, None], drawn.matrix, straight)[changed]
    theta = matrix * half[None, None, :] / half[None, :, None]
    # torch orders coordinates from the last axis to the first.
    theta = theta.flip(1, 2)
    theta = _beside(functional.pad(theta, (0, 1)), images)
    grid = functional.affine_grid(theta, [len(chosen), 1, *size], align_corners=False)
    if bool(bent.any()):
        shifts = _beside(drawn.shifts[changed], images)
        grid = grid + _bending(shifts, size).flip(1).movedim(1, -1)
    images[chosen] = functional.grid_sample(
        images[chosen], grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )
    classes = labels if labels.ndim == len(size) + 1 else labels[:, 0]
    # Shifted by one, so that torch's zero outside becomes IGNORED.
    shifted = (classes[chosen] - IGNORED).float()[:, None]
    picked = functional.grid_sample(
        shifted, grid, mode="nearest", padding_mode="zeros", align_corners=False
    )
    classes[chosen] = picked[:, 0].round().to(labels.dtype) + IGNORED
    if labels.ndim > classes.ndim:
        moved = functional.grid_sample(
            labels[chosen, 1:].float(),
            grid,
            mode="bilinear",
            padding_mode="zeros",
            align_corners=False,
        )
        labels[chosen, 1:] = moved.round().to(labels.dtype)
    return images, labels


def _bending(shifts: Tensor, size: Sequence[int]) -> Tensor:
    """(B, n, *S) by how much every voxel takes its value from elsewhere, in half patches."""
    field = shifts * (2 / _INTERVALS)
    for axis, voxels in enumerate(size, 2):
        place = (torch.arange(voxels) + 0.5) * (_INTERVALS / voxels)
        # Distance from each control point, the first of which lies one interval before the patch.
        away = (place[:, None] - torch.arange(-1, _CONTROLS - 1)).abs()
        inner = 2 / 3 - away**2 + away**3 / 2
        weights = torch.where(away < 1, inner, (2 - away).clamp_min(0) ** 3 / 6)
        field = torch.tensordot(field, _beside(weights, field), dims=([axis], [1]))
        field = field.movedim(-1, axis)
    return field


def _intensity(images: Tensor, drawn: Draw) -> Tensor:
    """The images, changed in place; only samples that something was drawn for cost anything."""

    def drawn_for(*values: Tensor) -> Iterator[tuple[Tensor, Tensor, list[Tensor]]]:
        """Where they are, if there are any; the samples, and their values beside them."""
        chosen = torch.stack([(value != 1).any(1) for value in values]).any(0).nonzero().flatten()
        if len(chosen):
            there, ones = _beside(chosen, images), (1,) * (images.ndim - 2)
            own = [_beside(value[chosen], images) for value in values]
            yield there, images[there], [value.reshape(*value.shape, *ones) for value in own]

    axes = list(range(2, images.ndim))
    _blur(images, drawn.blur)
    for there, part, (gamma,) in drawn_for(drawn.gamma):
        low, high = part.amin(axes, keepdim=True), part.amax(axes, keepdim=True)
        span = (high - low).clamp_min(1e-6)
        images[there] = ((part - low) / span) ** gamma * span + low
    for there, part, (contrast, brightness) in drawn_for(drawn.contrast, drawn.brightness):
        mean = part.mean(axes, keepdim=True)
        images[there] = (part - mean) * contrast + mean * brightness
    generator = torch.Generator(images.device)
    for sample in (drawn.noise > 0).nonzero().flatten().tolist():
        generator.manual_seed(int(drawn.noise_seeds[sample]))
        noise = torch.randn(images.shape[1:], generator=generator, device=images.device)
        images[sample] += noise * float(drawn.noise[sample])
    _coarsen(images, drawn.resolution)
    return images


def _blur(images: Tensor, sigma: Tensor) -> None:
    chosen = (sigma > 0).nonzero().flatten()
    if len(chosen) == 0:
        return
    there = _beside(chosen, images)
    part = images[there]
    samples, channels, *size = part.shape
    radius = 3
    offset = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offset[None] / sigma[chosen, None].clamp_min(1e-3)) ** 2)
    kernel = _beside(kernel / kernel.sum(1, keepdim=True), images).to(images.dtype)
    kernel = kernel.repeat_interleave(channels, 0)
    flat = part.reshape(samples * channels, 1, *size)
    flat = flat.transpose(0, 1)
    convolve = functional.conv2d if len(size) == 2 else functional.conv3d
    for axis in range(len(size)):
        shape = [1] * len(size)
        shape[axis] = kernel.shape[1]
        pad = [0, 0] * len(size)
        pad[2 * (len(size) - 1 - axis)] = pad[2 * (len(size) - 1 - axis) + 1] = radius
        padded = functional.pad(flat, pad, mode="replicate")
        flat = convolve(padded, kernel.reshape(-1, 1, *shape), groups=samples * channels)
    images[there] = flat.transpose(0, 1).reshape(part.shape)


def _coarsen(images: Tensor, resolution: Tensor) -> None:
    """As if a sample had been taken with larger voxels: the nearest ones, then interpolated."""
    size = list(images.shape[2:])
    mode = "bilinear" if len(size) == 2 else "trilinear"
    for sample in (resolution < 1).nonzero().flatten().tolist():
        coarse = [max(1, round(float(resolution[sample]) * voxels)) for voxels in size]
        part = functional.interpolate(images[sample : sample + 1], coarse, mode="nearest-exact")
        images[sample] = functional.interpolate(part, size, mode=mode)[0]
