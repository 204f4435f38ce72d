"""One contract for every encoder and skip that the registries name, in 2-D and 3-D."""

from itertools import product
from math import prod

import pytest
import torch

from unetseg.config import NetworkPlan
from unetseg.nets import Encoder, Skip
from unetseg.nets.unet import UNet, is_finite, parameters
from unetseg.registry import ENCODERS, SKIPS

IN_CHANNELS, OUTPUTS = 2, 3
# Axis 0 is coarse: it is halved once only and is looked along from the second level on.
STRIDES = {2: ((1, 1), (1, 2), (2, 2)), 3: ((1, 1, 1), (1, 2, 2), (2, 2, 2))}
KERNELS = {2: ((1, 3), (3, 3), (3, 3)), 3: ((1, 3, 3), (3, 3, 3), (3, 3, 3))}
# Multiples of the factors 2, 4, 4.
SIZE = {2: (8, 16), 3: (4, 16, 8)}
ODD = {2: (7, 13), 3: (5, 13, 9)}

COMBINATIONS = [
    pytest.param(encoder, skip, axes, id=f"{encoder}-{skip}-{axes}d")
    for encoder, skip, axes in product(ENCODERS, SKIPS, (2, 3))
]
ENCODERS_ALONE = [
    pytest.param(encoder, axes, id=f"{encoder}-{axes}d")
    for encoder, axes in product(ENCODERS, (2, 3))
]
SKIPS_ALONE = [pytest.param(skip, axes, id=f"{skip}-{axes}d") for skip in SKIPS for axes in (2, 3)]


@pytest.fixture(autouse=True)
def reproducible():
    """Tiny tensors gain nothing from a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def network_plan(axes, encoder="plain", skip="concat", **changes):
    values = {
        "encoder": encoder,
        "skip": skip,
        "levels": 3,
        "features": (4, 6, 8),
        "strides": STRIDES[axes],
        "kernels": KERNELS[axes],
        "blocks": (1, 2, 1),
        "deep_supervision": False,
    }
    return NetworkPlan(**{**values, **changes})


def build(axes, encoder="plain", skip="concat", **changes):
    return UNet(IN_CHANNELS, OUTPUTS, network_plan(axes, encoder, skip, **changes))


def four_levels(axes, *, deep_supervision):
    return build(
        axes,
        levels=4,
        features=(4,) * 4,
        strides=(*STRIDES[axes], (2,) * axes),
        kernels=(*KERNELS[axes], (3,) * axes),
        blocks=(1,) * 4,
        deep_supervision=deep_supervision,
    )


def images(size, batch=2):
    return torch.randn(batch, IN_CHANNELS, *size)


# --- the two contracts by themselves ---


@pytest.mark.parametrize(("encoder", "axes"), ENCODERS_ALONE)
def test_declared_channels_and_strides_are_true(encoder, axes):
    plan = network_plan(axes, encoder)
    made = ENCODERS.load(encoder)(IN_CHANNELS, plan)
    assert isinstance(made, Encoder)
    assert len(made.channels) == len(made.strides) >= 1
    assert set(made.strides[0]) == {1}
    factor = made.strides[-1]
    x = images([4 * f for f in factor])
    levels = made(x)
    assert len(levels) == len(made.channels)
    for level, channels, strides in zip(levels, made.channels, made.strides, strict=True):
        expected = [4 * f // s for f, s in zip(factor, strides, strict=True)]
        assert tuple(level.shape) == (2, channels, *expected)
        assert torch.isfinite(level).all()


@pytest.mark.parametrize(("encoder", "axes"), ENCODERS_ALONE)
def test_every_level_depends_on_the_image(encoder, axes):
    made = ENCODERS.load(encoder)(IN_CHANNELS, network_plan(axes, encoder)).eval()
    x = images(SIZE[axes])
    for one, other in zip(made(x), made(x.flip(-1) + 1), strict=True):
        assert not torch.allclose(one, other)


@pytest.mark.parametrize(("skip", "axes"), SKIPS_ALONE)
def test_a_skip_returns_the_channels_it_declares(skip, axes):
    made = SKIPS.load(skip)(4, 6, axes)
    assert isinstance(made, Skip)
    size = SIZE[axes]
    out = made(torch.randn(2, 4, *size), torch.randn(2, 6, *size))
    assert tuple(out.shape) == (2, made.out_channels, *size)


@pytest.mark.parametrize(("skip", "axes"), SKIPS_ALONE)
def test_a_skip_passes_the_decoder_on(skip, axes):
    made = SKIPS.load(skip)(4, 6, axes).eval()
    size = SIZE[axes]
    decoder, encoder = torch.randn(2, 4, *size), torch.randn(2, 6, *size)
    assert not torch.allclose(made(decoder, encoder), made(decoder + 1, encoder))


# --- all of them inside the U-Net ---


@pytest.mark.parametrize(("encoder", "skip", "axes"), COMBINATIONS)
def test_the_output_covers_the_input(encoder, skip, axes):
    net = build(axes, encoder, skip).eval()
    outputs = net(images(SIZE[axes]))
    assert [tuple(output.shape) for output in outputs] == [(2, OUTPUTS, *SIZE[axes])]


@pytest.mark.parametrize(("encoder", "skip", "axes"), COMBINATIONS)
def test_every_parameter_gets_a_gradient(encoder, skip, axes):
    net = build(axes, encoder, skip, deep_supervision=True)
    loss = sum(output.square().sum() for output in net(images(SIZE[axes])))
    loss.backward()
    without = [
        name
        for name, value in net.named_parameters()
        if value.grad is None or not torch.isfinite(value.grad).all() or not value.grad.any()
    ]
    assert without == []


def test_an_unused_parameter_would_be_found():
    """The negative twin: the coarser head learns nothing from the finest output."""
    net = four_levels(2, deep_supervision=True)
    net(images(SIZE[2]))[0].sum().backward()
    assert [name for name, value in net.named_parameters() if value.grad is None] == [
        "heads.1.weight",
        "heads.1.bias",
    ]


@pytest.mark.parametrize(("encoder", "skip", "axes"), COMBINATIONS)
def test_odd_sizes_survive(encoder, skip, axes):
    net = build(axes, encoder, skip).eval()
    with torch.inference_mode():
        for size in (ODD[axes], SIZE[axes]):
            output = net(images(size))[0]
            assert tuple(output.shape) == (2, OUTPUTS, *size)
            assert torch.isfinite(output).all()


@pytest.mark.parametrize(("encoder", "skip", "axes"), COMBINATIONS)
def test_a_state_dict_makes_the_same_network(encoder, skip, axes):
    first, second = build(axes, encoder, skip).train(), build(axes, encoder, skip)
    first(images(SIZE[axes]))  # moves running statistics, where there are any
    first.eval()
    second.eval()
    x = images(SIZE[axes])
    with torch.inference_mode():
        assert not torch.equal(first(x)[0], second(x)[0])
        state = {name: value.clone() for name, value in first.state_dict().items()}
        second.load_state_dict(state, strict=True)
        assert torch.equal(first(x)[0], second(x)[0])


@pytest.mark.parametrize(("encoder", "skip", "axes"), COMBINATIONS)
def test_batches_do_not_mix_when_predicting(encoder, skip, axes):
    net = build(axes, encoder, skip).eval()
    x = images(SIZE[axes])
    with torch.inference_mode():
        torch.testing.assert_close(net(x)[0][1:], net(x[1:])[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("encoder", "skip", "axes"), COMBINATIONS)
def test_the_same_seed_gives_the_same_network(encoder, skip, axes):
    made = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        made.append(build(axes, encoder, skip).state_dict())
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])
    assert any(not torch.equal(made[0][name], made[2][name]) for name in made[0])


# --- what the plan says of the U-Net ---


@pytest.mark.parametrize("axes", [2, 3])
def test_deep_supervision_adds_coarser_outputs_in_training_only(axes):
    """All levels but the two coarsest: the plan's first two of four."""
    net = four_levels(axes, deep_supervision=True)
    x = images(SIZE[axes])
    half = tuple(n // s for n, s in zip(SIZE[axes], STRIDES[axes][1], strict=True))
    assert [tuple(output.shape) for output in net.train()(x)] == [
        (2, OUTPUTS, *SIZE[axes]),
        (2, OUTPUTS, *half),
    ]
    assert len(net.eval()(x)) == 1
    assert len(four_levels(axes, deep_supervision=False).train()(x)) == 1


def test_coarser_outputs_cover_an_odd_image_and_no_padding():
    """7 x 17 is padded to 8 x 24, which is 8 x 12 at strides (1, 2), of which 7 x 9 are image."""
    net = four_levels(2, deep_supervision=True)
    outputs = net.train()(images((7, 17)))
    assert [tuple(output.shape[2:]) for output in outputs] == [(7, 17), (7, 9)]


@pytest.mark.parametrize("norm", ["instance", "batch", "group"])
@pytest.mark.parametrize("axes", [2, 3])
def test_every_normalisation(norm, axes):
    net = build(axes, norm=norm)
    assert net(images(SIZE[axes]))[0].shape[1] == OUTPUTS
    kinds = {type(module).__name__ for module in net.modules()}
    name = {"instance": f"InstanceNorm{axes}d", "batch": f"BatchNorm{axes}d", "group": "GroupNorm"}
    assert name[norm] in kinds
    assert not kinds & (set(name.values()) - {name[norm]})


@pytest.mark.parametrize("axes", [2, 3])
def test_a_single_level_is_a_stack_of_convolutions(axes):
    net = build(
        axes,
        levels=1,
        features=(4,),
        strides=STRIDES[axes][:1],
        kernels=KERNELS[axes][:1],
        blocks=(1,),
    )
    assert tuple(net(images(ODD[axes]))[0].shape[2:]) == ODD[axes]


def test_a_kernel_of_one_does_not_look_along_its_axis():
    """At a single level with kernel (1, 3) a row is unaware of the rows beside it."""
    net = build(
        2,
        levels=1,
        features=(4,),
        strides=((1, 1),),
        kernels=((1, 3),),
        blocks=(1,),
        norm="batch",
    ).eval()
    x = images((6, 6), batch=1)
    other = x.clone()
    other[:, :, 3] += 1
    changed = (net(x)[0] != net(other)[0]).any(1)[0]
    assert changed[3].any()
    assert not changed[[0, 1, 2, 4, 5]].any()


def test_the_parameters_of_a_network_counted_by_hand():
    """One level: a 3 x 3 convolution from 2 to 4, its norm, and a head from 4 to 3 with bias."""
    net = build(2, levels=1, features=(4,), strides=((1, 1),), kernels=((3, 3),), blocks=(1,))
    assert parameters(net) == prod((2, 4, 9)) + 2 * 4 + (4 * 3 + 3)


def test_a_broken_value_is_seen():
    net = build(2)
    assert is_finite(net)
    with torch.no_grad():
        next(net.parameters()).view(-1)[0] = float("nan")
    assert not is_finite(net)
