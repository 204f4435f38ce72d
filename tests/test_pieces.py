"""A scan piece by piece, whatever its orientation and spacing: against the slow way."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from cubes import request, write_cubes
from whole import scan_outputs

from unetseg import checkpoint
from unetseg.geometry import Geometry
from unetseg.pipeline import prepare
from unetseg.records import Note, Scan, Source
from unetseg.tasks import make_task
from unetseg.tasks.segmenting import Segmenter
from unetseg.training import plan_for
from unetseg.windows import Walk

SPACINGS = {"same": None, "coarser": (1.7, 1.4, 2.0), "finer": (0.6, 0.9, 0.7)}


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    data = write_cubes(folder / "data")
    made, _ = plan_for(request(data, folder / "run"))
    return replace(made, patch=replace(made.patch, size=(16, 16, 16)))


def segmenter_of(plan, seed=0):
    torch.manual_seed(seed)
    network = checkpoint.build(plan)
    # Untrained, one class may be above the other everywhere.
    with torch.no_grad():
        means = network.eval()(torch.randn(2, 1, 16, 16, 16))[0].mean((0, 2, 3, 4))
        network.heads[0].bias -= means
    return Segmenter(network, plan, make_task(plan), torch.device("cpu"), "float32")


def scan_of(shape, affine, seed=0):
    voxels = np.random.default_rng(seed).normal(size=(1, *shape)).astype(np.float32)
    return Scan(voxels, Geometry(shape, affine, "mm"), ("0",), Source("scan.nii", "nifti"))


TURNED = np.array(
    [[0, 0, 1.0, 5], [-1.0, 0, 0, 7], [0, 1.0, 0, -3], [0, 0, 0, 1]], dtype=np.float64
)


def problem(plan, spacing, shape=(21, 34, 18), affine=TURNED):
    data = replace(plan.data, spacing=spacing, orientation="canonical")
    segmenter = segmenter_of(replace(plan, data=data))
    return segmenter, prepare(scan_of(shape, affine), data)


def put_together(pieces, shape, count):
    indices = np.full(shape, -1, np.int16)
    maps = np.full((count, *shape), np.nan, np.float32)
    for piece in pieces:
        assert (indices[piece.box] == -1).all()
        indices[piece.box] = piece.indices
        if piece.probabilities is not None:
            maps[(slice(None), *piece.box)] = piece.probabilities
    return indices, maps


@pytest.mark.parametrize("spacing", SPACINGS.values(), ids=SPACINGS)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_pieces_are_the_largest_of_all_outputs(plan, spacing, axis):
    segmenter, image = problem(plan, spacing)
    outputs = scan_outputs(segmenter, image)
    shape = image.placement.scan.shape
    pieces = list(segmenter.pieces(image, Walk(axis, 2)))
    assert len(pieces) > 1 or image.placement.grid.shape[axis] <= 17
    indices, _ = put_together(pieces, shape, 2)
    best = outputs.max(0).values
    mine = outputs.gather(0, torch.from_numpy(indices).long()[None])[0]
    torch.testing.assert_close(mine, best, rtol=0, atol=1e-4)
    assert 0.05 < (indices == 1).mean() < 0.95
    # The negative twin: another way through the axes is seen.
    assert (indices != outputs.flip(1).argmax(0).numpy()).mean() > 0.05


@pytest.mark.parametrize("spacing", SPACINGS.values(), ids=SPACINGS)
def test_probabilities_are_those_of_the_interpolated_outputs(plan, spacing):
    segmenter, image = problem(plan, spacing)
    outputs = scan_outputs(segmenter, image)
    pieces = segmenter.pieces(image, probabilities=True)
    indices, maps = put_together(pieces, image.placement.scan.shape, 2)
    torch.testing.assert_close(torch.from_numpy(maps), outputs.softmax(0), rtol=0, atol=1e-4)
    assert (indices == maps.argmax(0)).all()


@pytest.mark.parametrize("spacing", SPACINGS.values(), ids=SPACINGS)
def test_a_box_is_that_part_of_the_whole_scan(plan, spacing):
    segmenter, image = problem(plan, spacing)
    whole = segmenter.mask(image).array
    box = (slice(3, 17), slice(10, 29), slice(0, 11))
    found = np.full(whole.shape, -1)
    for piece in segmenter.pieces(image, box=box):
        found[piece.box] = piece.indices
    inside = found[box]
    assert (inside >= 0).all()
    assert (np.delete(found.ravel(), np.flatnonzero(found.ravel() >= 0)) == -1).all()
    assert (found >= 0).sum() == inside.size
    # Sums in another order may tip a voxel that is a tie but for rounding.
    assert (
        segmenter.task.mask(
            inside, image.placement.scan.crop([p.start for p in box], [p.stop for p in box])
        ).array
        != whole[box]
    ).mean() < 1e-3


def of_many_classes(plan, *, mirror=False):
    """A plan for more outputs than its network has features, and images of 1.5 mm."""
    names = ("background", *(f"class {n}" for n in range(1, 30)))
    data = replace(
        plan.data, class_names=names, class_values=tuple(range(30)), spacing=SPACINGS["coarser"]
    )
    assert plan.network.features[0] < len(names)
    augment = replace(plan.training.augment, mirror_axes=(0, 2))
    return replace(
        plan,
        data=data,
        decode=replace(plan.decode, mirror=mirror),
        training=replace(plan.training, augment=augment),
    )


CARD = pytest.param(
    "cuda",
    marks=[
        pytest.mark.cuda,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    ],
)


@pytest.mark.parametrize("device", ["cpu", CARD])
@pytest.mark.parametrize("mirror", [False, True], ids=["plain", "mirrored"])
@pytest.mark.parametrize("members", [1, 2, 8])
def test_blended_features_become_what_blended_outputs_are(plan, members, mirror, device):
    made = of_many_classes(plan, mirror=mirror)
    where = torch.device(device)
    # The convolutions of a card round to 10 bits.
    close = 1e-5 if device == "cpu" else 5e-3
    segmenter, *others = (segmenter_of(made, seed) for seed in range(members))
    networks = [each.network.placed(where) for each in (segmenter, *others)]
    segmenter = replace(segmenter, network=networks[0], others=tuple(networks[1:]), device=where)
    features = made.network.features[0] * members
    assert segmenter.blended_maps == min(features, 30)
    image = prepare(scan_of((21, 34, 18), TURNED), made.data)
    outputs = scan_outputs(segmenter, image)
    shape = image.placement.scan.shape
    walk = replace(segmenter.walk(image.placement.grid.shape), on_device=device != "cpu")
    _, maps = put_together(segmenter.pieces(image, walk, probabilities=True), shape, 30)
    torch.testing.assert_close(torch.from_numpy(maps), outputs.softmax(0), rtol=0, atol=close)
    indices, _ = put_together(segmenter.pieces(image, walk), shape, 30)
    mine = outputs.gather(0, torch.from_numpy(indices).long()[None])[0]
    torch.testing.assert_close(mine, outputs.max(0).values, rtol=0, atol=10 * close)
    assert len(np.unique(indices)) > 3
    # The negative twin: the outputs are those of this head.
    with torch.no_grad():
        segmenter.network.heads[0].weight.mul_(-1)
    changed, _ = put_together(segmenter.pieces(image, walk), shape, 30)
    assert (changed != indices).mean() > 0.05


def test_memory_that_is_short_is_said(plan):
    segmenter, image = problem(plan, None)
    plain = segmenter.mask(image).array
    honest = segmenter.network.forward

    def short(x, **more):
        if len(x) > 1:
            raise RuntimeError("CUDA out of memory")
        return honest(x, **more)

    segmenter.network.forward = short
    notes = []
    mask = segmenter.mask(image, listener=notes.append)
    assert [note.text for note in notes if isinstance(note, Note)] == [
        "out of memory: one window at a time from here on"
    ]
    assert (mask.array == plain).all()
