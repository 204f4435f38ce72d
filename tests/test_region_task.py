"""The task of regions, and what all losses have in common, against numbers worked out in numpy."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tasks import plan, problem
from torch import Tensor

from unetseg.config import IGNORED
from unetseg.errors import UsageError
from unetseg.geometry import Geometry
from unetseg.records import Label
from unetseg.tasks import make_task
from unetseg.tasks.regions import Regions
from unetseg.tasks.semantic import Semantic

QUICK = settings(max_examples=25, deadline=None)
BRATS = {"whole": [1, 2, 3], "core": [2, 3], "enhancing": [3]}
# Of the class indices 0 to 3, which are in which region.
INSIDE = np.array([[0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1]])


def region_plan(regions: dict[str, Any] | None = None, values=(0, 1, 2, 3), **overrides):
    chosen = {"data__regions": regions or BRATS} | overrides
    # The names and values of the classes follow from the regions.
    return plan(values, data__class_values=None, data__class_names=None, **chosen)


def task(regions: dict[str, Any] | None = None, **overrides) -> Regions:
    made = make_task(region_plan(regions, **overrides))
    assert isinstance(made, Regions)
    return made


def outside_in(targets: np.ndarray) -> np.ndarray:
    """(B, *S) class indices -> (B, K, *S) membership, 0 where nobody knows."""
    return np.moveaxis(INSIDE.T[np.maximum(targets, 0)], -1, 1) * (targets != IGNORED)[:, None]


def by_hand(
    outputs: np.ndarray,
    targets: np.ndarray,
    *,
    weights: tuple[float, ...] = (1, 1, 1),
    over: str = "batch",
    entropy_weight: float = 1.0,
    dice_weight: float = 1.0,
) -> float:
    """Per region the weighted mean cross-entropy of two outcomes, and one minus the Dice."""
    share = 1 / (1 + np.exp(-outputs))
    truth, known = outside_in(targets), targets != IGNORED
    entropies, dices = [], []
    for k in range(outputs.shape[1]):
        p, t = share[:, k], truth[:, k]
        costs = -np.where(t == 1, np.log(p), np.log(1 - p))
        weight = np.where(t == 1, weights[k], 1.0)[known]
        entropies.append((weight * costs[known]).sum() / weight.sum() if known.any() else 0.0)
        groups = [slice(None)] if over == "batch" else [slice(b, b + 1) for b in range(len(p))]
        for group in groups:
            of_p, of_t = p[group][known[group]], t[group][known[group]]
            dices.append((2 * (of_p * of_t).sum() + 1e-5) / (of_p.sum() + of_t.sum() + 1e-5))
    return entropy_weight * np.mean(entropies) + dice_weight * (1 - np.mean(dices))


def region_problem(seed: int = 0, size: tuple[int, ...] = (4, 5)) -> tuple[Tensor, Tensor]:
    outputs, targets = problem(seed, size, classes=4)
    return outputs[:, :3], targets


def loss(outputs: Tensor, targets: Tensor, **overrides) -> float:
    return float(task(**overrides).loss([outputs], targets))


# --- the loss ----------------------------------------------------------------------------------


@given(st.integers(0, 10**6), st.sampled_from([(4, 5), (3, 2, 4)]), st.sampled_from([0, 3]))
@QUICK
def test_the_loss_by_hand(seed: int, size: tuple[int, ...], ignored: int) -> None:
    outputs, targets = region_problem(seed, size)
    targets[:, :ignored] = IGNORED
    expected = by_hand(outputs.double().numpy(), targets.numpy())
    assert loss(outputs, targets) == pytest.approx(expected, abs=1e-5)


def test_a_loss_that_needs_no_computer() -> None:
    """One voxel of class 1, even odds: entropy ln 2 in each region; Dice 2/3 in the one it is in,

    0 in the two others, where half a voxel is predicted and none is there.
    """
    outputs, targets = torch.zeros(1, 3, 1, 1), torch.ones(1, 1, 1, dtype=torch.long)
    expected = np.log(2) + 1 - (2 / 3 + 0 + 0) / 3
    assert loss(outputs, targets) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (5.0, 0.25, 40.0)])
@pytest.mark.parametrize("over", ["batch", "case"])
@pytest.mark.parametrize(("entropy", "dice"), [(1.0, 0.0), (0.0, 1.0), (0.3, 2.0)])
def test_weights_and_over_what_dice_is_taken(
    weights: tuple[float, ...], over: str, entropy: float, dice: float
) -> None:
    outputs, targets = region_problem()
    targets[0, 1:3] = IGNORED
    got = loss(
        outputs,
        targets,
        training__class_weights=weights,
        training__dice_over=over,
        training__cross_entropy_weight=entropy,
        training__dice_weight=dice,
    )
    expected = by_hand(
        outputs.double().numpy(),
        targets.numpy(),
        weights=weights,
        over=over,
        entropy_weight=entropy,
        dice_weight=dice,
    )
    assert got == pytest.approx(expected, abs=1e-5)


def test_nothing_weighs_as_much_as_weights_of_one() -> None:
    outputs, targets = region_problem()
    assert loss(outputs, targets, training__class_weights=(1, 1, 1)) == loss(outputs, targets)
    assert loss(outputs, targets, training__class_weights=(1, 1, 9)) != loss(outputs, targets)


@given(st.integers(0, 10**6), st.sampled_from([1.0, 7.5, 0.2]), st.sampled_from(["batch", "case"]))
@QUICK
def test_one_region_is_one_class_against_the_background(
    seed: int, weight: float, over: str
) -> None:
    """A sigmoid of z is a softmax of 0 and z, so both tasks ask for the same."""
    chosen = {"training__class_weights": (weight,), "training__dice_over": over}
    outputs, targets = problem(seed, classes=2)
    targets[0, 0] = IGNORED
    semantic = Semantic(plan((0, 1), **chosen))
    regions = task({"all": [1]}, values=(0, 1), **chosen)
    difference = outputs[:, 1:] - outputs[:, :1]
    assert float(regions.loss([difference], targets)) == pytest.approx(
        float(semantic.loss([outputs], targets)), abs=1e-5
    )


def test_ignored_voxels_get_no_gradient() -> None:
    outputs, targets = region_problem()
    targets[1] = IGNORED
    outputs.requires_grad_()
    task().loss([outputs], targets).backward()
    assert outputs.grad is not None
    assert not outputs.grad[1].any()
    assert outputs.grad[0].all()


@pytest.mark.parametrize("over", ["batch", "case"])
@pytest.mark.parametrize("weights", [(), (3.0, 0.001, 500.0)])
@pytest.mark.parametrize("name", ["regions", "semantic"])
def test_nothing_known_is_no_loss_and_no_gradient(
    name: str, weights: tuple[float, ...], over: str
) -> None:
    chosen = {"training__class_weights": weights, "training__dice_over": over}
    outputs, targets = region_problem()
    if name == "semantic":
        outputs = problem(classes=4)[0]
    made = task(**chosen) if name == "regions" else Semantic(plan((0, 1, 2, 3), **chosen))
    outputs.requires_grad_()
    value = made.loss([outputs, outputs[:, :, ::2]], torch.full_like(targets, IGNORED))
    value.backward()
    assert float(value.detach()) == 0.0
    assert outputs.grad is not None
    assert not outputs.grad.any()


def test_a_region_that_is_absent_makes_no_nan() -> None:
    outputs, targets = region_problem()
    outputs.requires_grad_()
    value = task().loss([outputs], torch.zeros_like(targets))
    value.backward()
    assert torch.isfinite(value)
    assert outputs.grad is not None
    assert torch.isfinite(outputs.grad).all()


def test_a_perfect_answer_costs_nothing_and_a_wrong_one_does() -> None:
    _, targets = region_problem()
    right = torch.from_numpy(outside_in(targets.numpy())).float() * 100 - 50
    assert loss(right, targets) == pytest.approx(0, abs=1e-4)
    assert loss(right, (targets + 1) % 4) > 10


def test_coarser_outputs_count_half_as_much_and_ignored_voxels_stay_ignored() -> None:
    fine, targets = region_problem(size=(4, 8))
    targets[:, :, 2:4] = IGNORED
    coarse = region_problem(1, (4, 4))[0]
    expected = (
        (
            by_hand(fine.double().numpy(), targets.numpy())
            # The nearest of two is the later one.
            + by_hand(coarse.double().numpy(), targets[:, :, 1::2].numpy()) / 2
        )
        / 1.5
    )
    assert (targets[:, :, 1::2] == IGNORED).any()
    assert float(task().loss([fine, coarse], targets)) == pytest.approx(expected, abs=1e-5)


# --- class weights and Dice of classes ---------------------------------------------------------


@pytest.mark.parametrize("weights", [(1.0, 1.0), (5.0, 0.25)])
@pytest.mark.parametrize("over", ["batch", "case"])
def test_the_semantic_loss_with_weights_by_hand(weights: tuple[float, ...], over: str) -> None:
    outputs, targets = problem()
    targets[0, 1:3] = IGNORED
    values, indices = outputs.double().numpy(), targets.numpy()
    share = np.exp(values) / np.exp(values).sum(1, keepdims=True)
    known = indices != IGNORED
    weight = np.array([1.0, *weights])[np.maximum(indices, 0)][known]
    picked = np.take_along_axis(share, np.maximum(indices, 0)[:, None], 1)[:, 0][known]
    entropy = (weight * -np.log(picked)).sum() / weight.sum()
    dices = []
    for group in [slice(None)] if over == "batch" else [slice(0, 1), slice(1, 2)]:
        for k in (1, 2):
            p = share[group, k][known[group]]
            t = (indices[group] == k)[known[group]]
            dices.append((2 * (p * t).sum() + 1e-5) / (p.sum() + t.sum() + 1e-5))
    made = Semantic(plan(training__class_weights=weights, training__dice_over=over))
    got = float(made.loss([outputs], targets))
    assert got == pytest.approx(entropy + 1 - np.mean(dices), abs=1e-5)


def test_a_rare_class_with_a_large_weight_pulls_harder() -> None:
    """One voxel in 20: unweighted its share of the entropy is 1/20, with weight 19 one half."""
    outputs = torch.zeros(1, 2, 4, 5, requires_grad=True)
    targets = torch.zeros(1, 4, 5, dtype=torch.long)
    targets[0, 0, 0] = 1
    pulls = []
    for weight in (1.0, 19.0):
        made = Semantic(plan((0, 1), training__class_weights=(weight,), training__dice_weight=0.0))
        (gradient,) = torch.autograd.grad(made.loss([outputs], targets), outputs)
        pulls.append(float(-gradient[0, 1, 0, 0]))
    assert pulls == pytest.approx([0.5 / 20, 0.5 * 19 / 38])


def test_dice_of_the_batch_is_not_the_mean_of_the_cases() -> None:
    """Ten voxels found of ten, none of one: 20/21 over all, (1 + 0) / 2 over cases."""
    outputs = torch.full((2, 1, 1, 10), -60.0)
    outputs[0] = 60.0
    targets = torch.zeros(2, 1, 10, dtype=torch.long)
    targets[0], targets[1, 0, 0] = 1, 1
    chosen = {"training__cross_entropy_weight": 0.0, "values": (0, 1)}
    made = [task({"all": [1]}, training__dice_over=over, **chosen) for over in ("batch", "case")]
    losses = [float(each.loss([outputs], targets)) for each in made]
    assert losses == pytest.approx([1 - 20 / 21, 0.5], abs=1e-4)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"training__class_weights": (1.0,)}, r"class_weights needs one entry .*\(3\), got 1"),
        ({"training__class_weights": (1.0, 0.0, 1.0)}, r"training\.class_weights\.1: .*greater"),
        ({"training__dice_over": "voxel"}, r"training\.dice_over: .*'batch' or 'case'"),
    ],
)
def test_weights_that_do_not_fit(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        region_plan(**values)


# --- what outputs mean -------------------------------------------------------------------------


def test_probabilities_are_independent() -> None:
    outputs = region_problem()[0][0]
    shares = task().probabilities(outputs).numpy()
    np.testing.assert_allclose(shares, 1 / (1 + np.exp(-outputs.double().numpy())), atol=1e-6)
    assert abs(shares.sum(0) - 1).max() > 0.1


def test_decode_writes_later_regions_over_earlier_ones() -> None:
    grid = Geometry.from_spacing((1, 6), (0.5, 2.0), "um")
    voxels = {
        "none": (-1, -1, -1),
        "whole": (1, -1, -1),
        "core": (1, 1, -1),
        "enhancing": (1, 1, 1),
        "core alone": (-1, 1, -1),
        "one half": (0, 0, 0),
    }
    outputs = torch.tensor(list(voxels.values()), dtype=torch.float32).T[:, None]
    mask = task().decode(outputs, grid)
    assert mask.array.tolist() == [[0, 1, 2, 3, 2, 0]]
    assert mask.array.dtype == np.uint8
    assert mask.geometry is grid
    names = ("background", "whole", "core", "enhancing")
    assert mask.labels == tuple(Label(value, name) for value, name in enumerate(names))


@pytest.mark.parametrize(
    ("regions", "values", "dtype"),
    [
        ({"whole": [1, 2, 4], "core": [1, 4], "enhancing": [4]}, (0, 1, 2, 4), np.uint8),
        ({"a": [1, 2], "b": [2, 3]}, (0, 1, 2, 3), np.uint8),
        ({"a": [1, 300], "b": [2, 300]}, (0, 1, 2, 300), np.uint16),
        ({"both": [-1, 1], "left": [-1], "right": [1]}, (0, -1, 1), np.int8),
    ],
)
def test_a_perfect_network_gives_back_the_truth(
    regions: dict[str, list[int]], values: tuple[int, ...], dtype: type
) -> None:
    """Each label value is in regions of its own here, so that the mask is the truth itself."""
    made = task(regions, values=values)
    truth = np.array([values, values[::-1]])
    inside = np.stack([np.isin(truth, found) for found in regions.values()])
    order = [region.name for region in region_plan(regions, values).data.regions]
    inside = inside[[list(regions).index(name) for name in order]]
    outputs = torch.from_numpy(np.where(inside, 2.0, -2.0))
    mask = made.decode(outputs, Geometry.from_spacing(truth.shape, (1, 1), "px"))
    assert mask.array.dtype == dtype
    np.testing.assert_array_equal(mask.array, truth)


def test_there_is_one_output_per_region() -> None:
    assert task().outputs == 3
    assert task({"core": [2, 3]}).outputs == 1
