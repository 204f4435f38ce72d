"""Tasks that give every object an id: losses worked out in numpy, codes, masks, what is refused."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from discs import discs
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tasks import by_hand as classes_by_hand
from test_tasks import plan
from torch import Tensor

from unetseg.config import IGNORED, Plan
from unetseg.errors import DataError, UsageError
from unetseg.geometry import Geometry
from unetseg.objects.codes import SCALE, unpack
from unetseg.objects.distances import object_distances
from unetseg.pipeline.objects import BORDER, CORE, cores_and_borders
from unetseg.registry import TASKS
from unetseg.tasks import make_task
from unetseg.tasks.borders import Borders
from unetseg.tasks.instances import Instances
from unetseg.tasks.semantic import Semantic

QUICK = settings(max_examples=20, deadline=None)
NAMES = {1: ("background", "object"), 2: ("background", "dim", "bright")}


def object_plan(task: str = "instances", classes: int = 1, **overrides: Any) -> Plan:
    return plan(
        data__task=task,
        data__class_values=tuple(range(1 + classes)),
        data__class_names=NAMES[classes],
        **overrides,
    )


def grid(shape: tuple[int, ...] = (72, 72), spacing: tuple[float, ...] = (1.0, 1.0)) -> Geometry:
    return Geometry(shape, np.diag([*spacing, 1.0]), "px")


def problem(seed: int, size: tuple[int, ...] = (4, 5), classes: int = 1) -> tuple[Tensor, Tensor]:
    """Outputs and labels of a batch of two, with a row of which nothing is known."""
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(2, 1 + classes + 2, *size, generator=generator)
    labels = torch.randint(0, SCALE + 1, (2, 3, *size), generator=generator)
    labels[:, 0] = torch.randint(0, 1 + classes, (2, *size), generator=generator)
    labels[0, 0, 0] = IGNORED
    labels[:, 1:] *= labels[:, :1] > 0
    return outputs, labels.to(torch.int16)


def distances_by_hand(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Half the mean over objects, half that over the background, of both maps' smooth L1."""
    share = 1 / (1 + np.exp(-outputs[:, -2:]))
    sides: dict[bool, list[float]] = {True: [], False: []}
    for sample, *place in np.argwhere(labels[:, 0] != IGNORED):
        costs = []
        for k in range(2):
            error = abs(share[(sample, k, *place)] - labels[(sample, 1 + k, *place)] / SCALE)
            costs.append(error - 0.05 if error > 0.1 else error**2 / 0.2)
        sides[bool(labels[(sample, 0, *place)] > 0)].append(float(np.mean(costs)))
    return sum(0.5 * float(np.mean(costs)) for costs in sides.values() if costs)


# --- the loss ----------------------------------------------------------------------------------


@given(st.integers(0, 10**6), st.sampled_from([(4, 5), (3, 2, 4)]), st.sampled_from([1, 2]))
@QUICK
def test_the_loss_by_hand(seed: int, size: tuple[int, ...], classes: int) -> None:
    outputs, labels = problem(seed, size, classes)
    task = make_task(object_plan(classes=classes, training__distance_weight=2.0))
    found = float(task.loss([outputs], task.targets(labels)))
    maps, truth = outputs.double().numpy(), labels.numpy().astype(int)
    expected = classes_by_hand(maps[:, : 1 + classes], truth[:, 0])
    assert found == pytest.approx(expected + 2 * distances_by_hand(maps, truth), abs=1e-4)


def test_the_loss_of_the_classes_is_that_of_semantic_masks() -> None:
    outputs, labels = problem(1, classes=2)
    task = make_task(object_plan(classes=2, training__distance_weight=0.0))
    semantic = Semantic(plan())
    expected = semantic.loss([outputs[:, :3]], semantic.targets(labels[:, 0]))
    assert torch.equal(task.loss([outputs], task.targets(labels)), expected)
    weighted = make_task(object_plan(classes=2))
    assert not torch.equal(weighted.loss([outputs], weighted.targets(labels)), expected)


def test_what_is_not_known_has_no_say() -> None:
    outputs, labels = problem(2)
    task = make_task(object_plan())
    loss = task.loss([outputs], task.targets(labels))
    changed, other = outputs.clone(), labels.clone()
    changed[0, :, 0] += 3.0
    other[0, 1:, 0] = SCALE
    assert torch.equal(task.loss([changed], task.targets(other)), loss)
    changed[0, :, 1] += 3.0
    assert not torch.equal(task.loss([changed], task.targets(other)), loss)


@pytest.mark.parametrize("name", ["instances", "borders"])
def test_a_batch_without_a_known_voxel_has_no_loss(name: str) -> None:
    task = make_task(object_plan(name))
    outputs = torch.zeros(1, task.outputs, 3, 3, requires_grad=True)
    labels = torch.full((1, 3, 3, 3), IGNORED, dtype=torch.int16)
    loss = task.loss([outputs], task.targets(labels))
    assert loss.item() == pytest.approx(0.0, abs=1e-5)
    loss.backward()
    assert not outputs.grad.any()


@pytest.mark.parametrize("name", ["instances", "borders"])
def test_coarser_levels_count_half_as_much(name: str) -> None:
    task = make_task(object_plan(name))
    labels = problem(3, (8, 8))[1]
    fine = torch.randn(2, task.outputs, 8, 8, generator=torch.Generator().manual_seed(0))
    coarse = fine[..., ::2, ::2].contiguous()
    targets = task.targets(labels)
    # The nearest voxel of two alike: torch takes the later one.
    small = task.targets(labels[..., 1::2, 1::2])
    each = [float(task.loss([fine], targets)), float(task.loss([coarse], small))]
    both = float(task.loss([fine, coarse], targets))
    assert both == pytest.approx((each[0] + 0.5 * each[1]) / 1.5, abs=1e-5)


# --- from outputs to masks ---------------------------------------------------------------------


def perfect(ids: np.ndarray, classes: np.ndarray | None = None, count: int = 1) -> Tensor:
    """Outputs of a network that knows everything."""
    classes = (ids > 0).astype(int) if classes is None else classes
    sure = torch.nn.functional.one_hot(torch.from_numpy(classes), 1 + count).movedim(-1, 0)
    distances = torch.from_numpy(object_distances(ids, (1.0,) * ids.ndim)).clamp(1e-4, 1 - 1e-4)
    return torch.cat([20.0 * sure, distances.logit()])


def test_what_is_known_of_objects_gives_the_objects() -> None:
    ids = discs(0)[1]
    task = make_task(object_plan())
    mask = task.decode(perfect(ids), grid())
    assert mask.array.dtype == np.uint8
    assert mask.labels == ()
    np.testing.assert_array_equal(mask.array > 0, ids > 0)
    found = {tuple(np.unique(mask.array[ids == n])) for n in np.unique(ids) if n}
    assert len(found) == 8
    assert all(len(values) == 1 for values in found)


def test_codes_hold_the_probabilities_in_steps() -> None:
    outputs = torch.randn(5, 6, 7, generator=torch.Generator().manual_seed(0))
    task = make_task(object_plan(classes=2))
    shares, codes = task.probabilities(outputs), task.indices(outputs)
    assert codes.dtype == torch.int32
    assert bool(((shares >= 0) & (shares <= 1)).all())
    np.testing.assert_allclose(shares[:3].sum(0), 1, atol=1e-6)
    maps = unpack(codes.numpy())
    np.testing.assert_array_equal(maps.classes, 1 + shares[1:3].argmax(0).numpy())
    np.testing.assert_allclose(maps.foreground, 1 - shares[0].numpy(), atol=0.51 / 63)
    np.testing.assert_allclose(maps.depth, shares[3].numpy(), atol=0.51 / SCALE)
    np.testing.assert_allclose(maps.centre, shares[4].numpy(), atol=0.51 / SCALE)


def test_every_object_has_a_class() -> None:
    ids = discs(1)[1]
    classes = np.where(ids % 2 == 0, 1, 2) * (ids > 0)
    mask = make_task(object_plan(classes=2)).decode(perfect(ids, classes, 2), grid())
    assert len(mask.classes) == mask.array.max() == 8
    for number, own in enumerate(mask.classes, start=1):
        # Where two discs touch, a pixel may be the other one's.
        assert (classes[mask.array == number] == own).mean() > 0.95
    assert set(mask.classes) == {1, 2}


def test_small_objects_are_none_in_the_unit_of_the_plan() -> None:
    ids = np.zeros((24, 24), np.uint8)
    ids[2:12, 2:12], ids[16:20, 16:20] = 1, 2
    made = object_plan(decode__min_size=5.0)
    in_um = replace(made, data=replace(made.data, unit="um"))
    fine = Geometry((24, 24), np.diag([0.5, 0.5, 1.0]), "um")
    coarse = Geometry((24, 24), np.diag([1.0, 1.0, 1.0]), "um")
    task = make_task(in_um)
    assert task.decode(perfect(ids), fine).array.max() == 1
    assert task.decode(perfect(ids), coarse).array.max() == 2
    with pytest.raises(DataError, match="does not say how large its voxels are"):
        task.decode(perfect(ids), grid((24, 24)))


def test_rules_that_are_set_are_obeyed() -> None:
    outputs = perfect(discs(0)[1])
    none = make_task(object_plan(decode__seed_depth=1.0))
    assert none.decode(outputs, grid()).array.max() == 0
    rules = make_task(object_plan(decode__smoothing=2.0)).rules(grid(spacing=(4.0, 1.0)))
    assert rules.smoothing == (0.5, 2.0)


@pytest.mark.parametrize("name", ["instances", "borders"])
def test_more_than_a_byte_of_objects(name: str) -> None:
    ids = np.zeros((90, 90), np.int32)
    rows, columns = np.mgrid[:18, :18] * 5
    for number, (row, column) in enumerate(zip(rows.ravel(), columns.ravel(), strict=True), 1):
        ids[row : row + 4, column : column + 4] = number
    task = make_task(object_plan(name))
    outputs = perfect(ids) if name == "instances" else sure_of(ids)
    mask = task.decode(outputs, grid((90, 90)))
    assert mask.array.dtype == np.uint16
    np.testing.assert_array_equal(mask.array, ids)


# --- borders -----------------------------------------------------------------------------------


def sure_of(ids: np.ndarray) -> Tensor:
    depth = object_distances(ids, (1.0,) * ids.ndim)[0]
    classes = torch.from_numpy(cores_and_borders(ids, depth))
    return 20.0 * torch.nn.functional.one_hot(classes, 3).movedim(-1, 0).float()


def test_a_border_lies_inside_and_not_along_the_edge_of_the_image() -> None:
    rows = ["011112222", "011112222", "011112222", "011112222", "000000000", "003000000"]
    expected = ["021122112", "021122112", "021122112", "022222222", "000000000", "001000000"]
    ids, classes = (np.array([list(map(int, row)) for row in lines]) for lines in (rows, expected))
    # The last column touches the edge of the image: nothing ends there.
    classes[:3, 8] = CORE
    found = cores_and_borders(ids, object_distances(ids, (1.0, 1.0))[0])
    np.testing.assert_array_equal(found, classes)
    assert (found == BORDER).any()


def test_cores_grow_into_their_borders() -> None:
    ids = discs(0)[1]
    mask = make_task(object_plan("borders")).decode(sure_of(ids), grid())
    np.testing.assert_array_equal(mask.array > 0, ids > 0)
    assert mask.array.max() == 8
    for number in range(1, 9):
        own, counts = np.unique(ids[mask.array == number], return_counts=True)
        assert counts.max() / counts.sum() > 0.95, own


def test_core_and_border_weigh_what_the_class_does() -> None:
    task = make_task(object_plan("borders", training__class_weights=(3.0,)))
    semantic = Semantic(plan(training__class_weights=(3.0, 3.0)))
    outputs, labels = problem(5)[0][:, :3], problem(5)[1]
    labels[:, 0][labels[:, 0] > 0] = 2
    expected = semantic.loss([outputs], semantic.targets(labels[:, 0]))
    assert torch.equal(task.loss([outputs], task.targets(labels)), expected)
    alike = make_task(object_plan("borders"))
    assert not torch.equal(alike.loss([outputs], alike.targets(labels)), expected)


# --- what all tasks have in common ---------------------------------------------------------------


@pytest.mark.parametrize("name", TASKS)
def test_a_task_keeps_its_contract(name: str) -> None:
    regions = {"data__regions": {"whole": [1, 2], "core": [2]}} if name == "regions" else {}
    if name in ("instances", "borders"):
        made = object_plan(name)
    elif name == "regions":
        made = plan(data__class_values=None, data__class_names=None, **regions)
    else:
        made = plan(data__task=name)
    task = make_task(made)
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(1, task.outputs, 8, 8, generator=generator, requires_grad=True)
    labels = torch.randint(0, 2, (1, 3, 8, 8) if made.data.has_objects else (1, 8, 8))
    task.loss([outputs], task.targets(labels.to(torch.int16))).backward()
    assert bool(outputs.grad.abs().sum((0, 2, 3)).all())
    shares = task.probabilities(outputs[0].detach())
    assert shares.shape == (task.outputs, 8, 8)
    assert bool(((shares >= 0) & (shares <= 1)).all())
    indices = task.indices(outputs[0].detach())
    assert indices.shape == (8, 8)
    mask = task.mask(indices.numpy(), grid((8, 8)))
    assert mask.array.shape == (8, 8)
    assert task.score in ("Dice", "AP")


@pytest.mark.parametrize(
    ("setting", "match"),
    [
        ({"decode__largest_component": "object"}, "masks of objects are not cleaned"),
        ({"decode__fill_holes": "object"}, "masks of objects are not cleaned"),
        ({"data__merge_labels": True}, "needs ids as they are"),
    ],
)
def test_what_means_nothing_for_objects_is_refused(setting: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        make_task(object_plan(**setting))


def test_several_least_sizes_are_refused() -> None:
    with pytest.raises(UsageError, match="it is the same for all objects"):
        object_plan(classes=2, decode__min_size=(3.0, 4.0))


@pytest.mark.parametrize("rule", ["foreground", "seed_depth", "contrast", "smoothing"])
def test_rules_for_objects_are_refused_elsewhere(rule: str) -> None:
    with pytest.raises(UsageError, match=rf"decode.{rule} is for instances and borders only"):
        plan(**{f"decode__{rule}": 0.4})


def test_names_of_the_tasks() -> None:
    assert isinstance(make_task(object_plan()), Instances)
    assert isinstance(make_task(object_plan("borders")), Borders)
