"""The semantic task against numbers worked out in numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unetseg.config import IGNORED
from unetseg.errors import UsageError
from unetseg.geometry import Geometry
from unetseg.metrics import METRICS
from unetseg.planning import make
from unetseg.planning.fingerprint import Fingerprint
from unetseg.records import Label, Machine
from unetseg.tasks import make_task
from unetseg.tasks.semantic import Semantic

QUICK = settings(max_examples=25, deadline=None)


def plan(values=(0, 1, 2), **overrides):
    found = Fingerprint(
        cases=2,
        dimensions=2,
        unit="px",
        channels=("grey",),
        is_picture=True,
        shapes=((32, 32),) * 2,
        spacings=((1.0, 1.0),) * 2,
        label_counts=tuple((value, 9) for value in sorted(values)),
        label_names=(),
        ignore_value=None,
        looks_like_objects=False,
        looks_like_ct=False,
        intensity=(),
        zero_share=0.0,
    )
    settings_ = {
        "data.class_values": values,
        "data.class_names": tuple(f"class {value}" for value in values),
        "training.cross_entropy_weight": 1.0,
        "training.dice_weight": 1.0,
    }
    named = {name.replace("__", "."): value for name, value in overrides.items()}
    chosen = {key: value for key, value in {**settings_, **named}.items() if value is not None}
    return make(found, Machine("cpu", 10**9, 2), chosen)


def by_hand(outputs, targets, entropy_weight=1.0, dice_weight=1.0):
    """Mean cross-entropy over known voxels plus one minus the mean foreground Dice of the batch."""
    exponents = np.exp(outputs - outputs.max(1, keepdims=True))
    shares = exponents / exponents.sum(1, keepdims=True)
    known = targets != IGNORED
    entropies = []
    overlap = np.zeros(outputs.shape[1])
    total = np.zeros(outputs.shape[1])
    for place in np.argwhere(known):
        share = shares[(place[0], slice(None), *place[1:])]
        truth = np.eye(outputs.shape[1])[targets[tuple(place)]]
        entropies.append(-np.log(share @ truth))
        overlap += share * truth
        total += share + truth
    dice = (2 * overlap + 1e-5) / (total + 1e-5)
    entropy = np.mean(entropies) if entropies else 0.0
    return entropy_weight * entropy + dice_weight * (1 - dice[1:].mean())


def problem(seed=0, size=(4, 5), samples=2, classes=3):
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(samples, classes, *size, generator=generator)
    return outputs, torch.randint(0, classes, (samples, *size), generator=generator)


def loss(outputs, targets, **overrides):
    return float(Semantic(plan(**overrides)).loss([outputs], targets))


# --- the loss ---


@given(st.integers(0, 10**6), st.sampled_from([(4, 5), (3, 2, 4)]))
@QUICK
def test_the_loss_by_hand(seed, size):
    outputs, targets = problem(seed, size)
    targets[0, 0] = IGNORED
    expected = by_hand(outputs.double().numpy(), targets.numpy())
    assert loss(outputs, targets) == pytest.approx(expected, abs=1e-5)


def test_a_loss_that_needs_no_computer():
    """One known voxel, even odds: entropy ln 2, Dice 2 * 0.5 / (0.5 + 1) = 2/3."""
    outputs, targets = torch.zeros(1, 2, 1, 1), torch.ones(1, 1, 1, dtype=torch.long)
    task = Semantic(plan((0, 1)))
    assert float(task.loss([outputs], targets)) == pytest.approx(np.log(2) + 1 / 3, abs=1e-4)


@pytest.mark.parametrize(("entropy", "dice"), [(1.0, 0.0), (0.0, 1.0), (0.3, 2.0)])
def test_the_weights_of_the_two_parts(entropy, dice):
    outputs, targets = problem()
    got = loss(
        outputs,
        targets,
        training__cross_entropy_weight=entropy,
        training__dice_weight=dice,
    )
    expected = by_hand(outputs.double().numpy(), targets.numpy(), entropy, dice)
    assert got == pytest.approx(expected, abs=1e-5)


def test_ignored_voxels_do_not_count():
    outputs, targets = problem()
    targets[0, 1:3, 2:] = IGNORED
    other = outputs.clone()
    other[:, :, 1:3, 2:] = torch.where(
        (targets == IGNORED)[:, None, 1:3, 2:], 17.0 * torch.arange(3.0)[:, None, None], 0.0
    ) + torch.where((targets == IGNORED)[:, None, 1:3, 2:], 0.0, outputs[:, :, 1:3, 2:])
    assert not torch.equal(other, outputs)
    assert loss(other, targets) == pytest.approx(loss(outputs, targets), abs=1e-6)


def test_but_all_others_do():
    outputs, targets = problem()
    targets[0, 1:3, 2:] = IGNORED
    other = outputs.clone()
    other[0, 1, 0, 0] += 5.0
    assert abs(loss(other, targets) - loss(outputs, targets)) > 1e-3


def test_ignored_voxels_get_no_gradient():
    outputs, targets = problem()
    targets[1] = IGNORED
    outputs.requires_grad_()
    Semantic(plan()).loss([outputs], targets).backward()
    assert not outputs.grad[1].any()
    assert outputs.grad[0].any()


def test_nothing_known_is_no_loss():
    outputs, targets = problem()
    assert loss(outputs, torch.full_like(targets, IGNORED)) == 0.0


def test_a_class_that_is_absent_makes_no_nan():
    outputs, _ = problem()
    outputs.requires_grad_()
    value = Semantic(plan()).loss([outputs], torch.zeros(2, 4, 5, dtype=torch.long))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(outputs.grad).all()


def test_a_perfect_answer_costs_nothing_and_a_wrong_one_does():
    _, targets = problem()
    right = torch.nn.functional.one_hot(targets, 3).movedim(-1, 1) * 50.0
    assert loss(right, targets) == pytest.approx(0, abs=1e-4)
    assert loss(right, (targets + 1) % 3) > 10


def test_the_loss_of_half_precision_outputs_is_computed_in_single():
    outputs, targets = problem()
    rounded = outputs.to(torch.bfloat16)
    value = Semantic(plan()).loss([rounded], targets)
    assert value.dtype == torch.float32
    assert float(value) == pytest.approx(loss(rounded.float(), targets), abs=1e-6)


def test_coarser_outputs_count_half_as_much_each():
    task = Semantic(plan())
    fine, targets = problem(size=(4, 8))
    middle, coarse = problem(1, (4, 4))[0], problem(2, (2, 2))[0]
    # Between two centres the nearest is the later one: voxel 2k + 1 for a step of two.
    half = targets[:, :, 1::2]
    quarter = targets[:, 1::2, 2::4]
    parts = [
        by_hand(o.double().numpy(), t.numpy())
        for o, t in ((fine, targets), (middle, half), (coarse, quarter))
    ]
    expected = (parts[0] + parts[1] / 2 + parts[2] / 4) / 1.75
    assert float(task.loss([fine, middle, coarse], targets)) == pytest.approx(expected, abs=1e-5)


def test_ignored_voxels_are_ignored_at_coarser_levels_too():
    task = Semantic(plan())
    fine, targets = problem(size=(4, 8))
    targets[:, :, :4] = IGNORED
    coarse = problem(1, (4, 4))[0]
    other = coarse.clone()
    other[:, :, :, :2] += torch.arange(3.0)[:, None, None] * 9
    assert float(task.loss([fine, other], targets)) == pytest.approx(
        float(task.loss([fine, coarse], targets)), abs=1e-6
    )


def test_targets_are_class_indices():
    labels = torch.tensor([[0, 2, IGNORED]], dtype=torch.int16)
    targets = Semantic(plan()).targets(labels)
    assert targets.dtype == torch.int64
    assert targets.tolist() == labels.tolist()


# --- what outputs mean ---


def test_probabilities_sum_to_one_per_voxel():
    outputs = problem()[0][0]
    shares = Semantic(plan()).probabilities(outputs)
    exponents = np.exp(outputs.double().numpy())
    np.testing.assert_allclose(shares.numpy(), exponents / exponents.sum(0), atol=1e-6)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ((0, 1, 2), np.uint8),
        ((0, 255), np.uint8),
        ((0, 256), np.uint16),
        ((0, 7, 1000), np.uint16),
        ((0, 65535), np.uint16),
        ((0, 65536), np.uint32),
        ((0, -1, 5), np.int8),
        ((0, -1, 127), np.int8),
        ((0, -1, 128), np.int16),
        ((0, -1, 200), np.int16),
        ((0, -129), np.int16),
        ((0, -1, 40000), np.int32),
    ],
)
def test_decode_gives_the_original_values_in_the_smallest_type(values, dtype):
    task = Semantic(plan(values))
    assert task.outputs == len(values)
    grid = Geometry.from_spacing((2, len(values)), (0.5, 2.0), "um")
    indices = torch.arange(len(values)).expand(2, -1).clone()
    indices[1] = indices[1].flip(0)
    outputs = torch.nn.functional.one_hot(indices, len(values)).movedim(-1, 0) * 3.0 - 1
    mask = task.decode(outputs, grid)
    assert mask.array.tolist() == [list(values), list(reversed(values))]
    assert mask.array.dtype == dtype
    assert mask.geometry is grid
    assert mask.labels == tuple(Label(value, f"class {value}") for value in values)


def test_decode_takes_the_largest_output():
    task = Semantic(plan((0, 10, 20)))
    outputs = torch.tensor([[[0.1, -5.0]], [[0.3, -7.0]], [[0.2, -6.0]]])
    grid = Geometry.from_spacing((1, 2), (1, 1), "px")
    assert task.decode(outputs, grid).array.tolist() == [[10, 0]]


def test_the_plan_names_the_task():
    task = make_task(plan())
    assert isinstance(task, Semantic)
    assert set(task.metrics) <= set(METRICS)


def test_an_unknown_task_gets_the_nearest():
    with pytest.raises(UsageError, match=r"no such task .got semantik.; did you mean semantic\?"):
        plan(data__task="semantik")
