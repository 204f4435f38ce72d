"""One contract for every encoder and skip that the registries name, in 2-D and 3-D."""

from dataclasses import replace
from itertools import product
from math import prod

import pytest
import torch

from unetseg.catalogue import read_catalogue
from unetseg.config import NetworkPlan
from unetseg.errors import UsageError
from unetseg.nets import Encoder, Skip
from unetseg.nets.layers import StochasticDepth
from unetseg.nets.unet import UNet, parameters
from unetseg.planning.architectures import architecture
from unetseg.registry import ENCODERS, SKIPS

IN_CHANNELS, OUTPUTS = 2, 3
# Axis 0 is coarse: it is halved once only and is looked along from the second level on.
STRIDES = {2: ((1, 1), (1, 2), (2, 2)), 3: ((1, 1, 1), (1, 2, 2), (2, 2, 2))}
KERNELS = {2: ((1, 3), (3, 3), (3, 3)), 3: ((1, 3, 3), (3, 3, 3), (3, 3, 3))}
# Multiples of the factors 2, 4, 4.
SIZE = {2: (8, 16), 3: (4, 16, 8)}
ODD = {2: (7, 13), 3: (5, 13, 9)}

# Encoders with more parameters than this run with the slow tests: under one skip, under the others,
# and where a test builds them several times without a skip.
MOST_CONCAT, MOST_OTHERS, MOST_ALONE = 25_000_000, 5_000_000, 12_000_000


def marks(encoder, axes, most):
    """What is not in the catalogue is small until a test proves too slow."""
    entry = read_catalogue().encoders.get(encoder)
    if entry is None or architecture(encoder).blocks:
        return []
    return [pytest.mark.slow] if entry.figures[axes].encoder_parameters > most else []


COMBINATIONS = [
    pytest.param(
        encoder,
        skip,
        axes,
        id=f"{encoder}-{skip}-{axes}d",
        marks=marks(encoder, axes, MOST_CONCAT if skip == "concat" else MOST_OTHERS),
    )
    for encoder, skip, axes in product(ENCODERS, SKIPS, (2, 3))
]
ENCODERS_ALONE = [
    pytest.param(encoder, axes, id=f"{encoder}-{axes}d", marks=marks(encoder, axes, MOST_CONCAT))
    for encoder, axes in product(ENCODERS, (2, 3))
]
SKIPS_ALONE = [pytest.param(skip, axes, id=f"{skip}-{axes}d") for skip in SKIPS for axes in (2, 3)]
# What the plan can say of an encoder beyond its levels.
FOR_BOTH = [{"norm": "batch"}, {"norm": "group"}, {"dropout": 0.25}, {"blocks": (1, 3, 2)}]
VARIANTS = {
    "residual": [
        *FOR_BOTH,
        {"stochastic_depth": 0.25},
        {"preactivation": True},
        {"block": "bottleneck"},
        {"preactivation": True, "block": "bottleneck"},
        {"shortcut": "padding"},
        {"shortcut": "padding", "preactivation": True, "norm": "batch"},
    ],
    "dense": [
        *FOR_BOTH,
        {"growth": 3},
        {"recompute": True},
        {"recompute": True, "norm": "batch", "dropout": 0.25},
    ],
}


def network_plan(axes, encoder="plain", skip="concat", **changes):
    values = {
        "encoder": encoder,
        "skip": skip,
        "levels": 3,
        "features": (4, 6, 8),
        "strides": STRIDES[axes],
        "kernels": KERNELS[axes],
        "deep_supervision": False,
    }
    return NetworkPlan(**{**values, **changes})


def deep_plan(axes, encoder, levels):
    """Halved along every axis from level to level."""
    return network_plan(
        axes,
        encoder,
        levels=levels,
        features=(4,) * levels,
        strides=((1,) * axes, *((2,) * axes,) * (levels - 1)),
        kernels=((3,) * axes,) * levels,
    )


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
    made = ENCODERS.load(encoder)(IN_CHANNELS, network_plan(axes, encoder)).eval()
    assert isinstance(made, Encoder)
    assert len(made.channels) == len(made.strides) >= 1
    assert set(made.strides[0]) == {1}
    factor = made.strides[-1]
    x = images([4 * f for f in factor])
    with torch.inference_mode():
        levels, others = made(x), made(x.flip(-1) + 1)
    assert len(levels) == len(made.channels)
    for level, channels, strides in zip(levels, made.channels, made.strides, strict=True):
        expected = [4 * f // s for f, s in zip(factor, strides, strict=True)]
        assert tuple(level.shape) == (2, channels, *expected)
        assert torch.isfinite(level).all()
    # No level is made of nothing but biases.
    assert not any(torch.allclose(*pair) for pair in zip(levels, others, strict=True))


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


def output(net, x):
    with torch.inference_mode():
        (finest,) = net(x)
    return finest


def made_with_seed(seed, *arguments, **changes):
    torch.manual_seed(seed)
    return build(*arguments, **changes)


def without_gradient(net):
    return [
        name
        for name, value in net.named_parameters()
        if value.grad is None or not torch.isfinite(value.grad).all() or not value.grad.any()
    ]


def check_the_seed_makes_the_network(net, same, other):
    states = [each.state_dict() for each in (net, same, other)]
    assert states[0].keys() == states[1].keys() == states[2].keys()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert any(not torch.equal(value, states[2][name]) for name, value in states[0].items())


def check_a_step_reaches_every_parameter(net, axes):
    """In training mode, which also moves running statistics where there are any."""
    outputs = net.train()(images(SIZE[axes]))
    assert tuple(outputs[0].shape) == (2, OUTPUTS, *SIZE[axes])
    sum(each.square().mean() for each in outputs).backward()
    assert without_gradient(net) == []


def check_an_odd_size_survives(net, axes):
    found = output(net, images(ODD[axes]))
    assert tuple(found.shape) == (2, OUTPUTS, *ODD[axes])
    assert torch.isfinite(found).all()


def check_batches_do_not_mix(net, x, expected):
    other = x.clone()
    other[0] += 1
    with torch.inference_mode():
        found = net(other)[0]
    assert not torch.equal(found[0], expected[0])
    assert torch.equal(found[1:], expected[1:]), "a sample saw its neighbour"


def check_the_state_makes_the_network(net, other, x, expected):
    assert not torch.equal(output(other, x), expected)
    other.load_state_dict(net.state_dict())
    assert torch.equal(output(other, x), expected)


def check_the_contract(axes, encoder, skip, **changes):
    made = (axes, encoder, skip)
    net, other = made_with_seed(1, *made, **changes), made_with_seed(2, *made, **changes)
    check_the_seed_makes_the_network(net, made_with_seed(1, *made, **changes), other)
    check_a_step_reaches_every_parameter(net, axes)
    net.eval()
    other.eval()
    check_an_odd_size_survives(net, axes)
    x = images(SIZE[axes])
    expected = output(net, x)
    check_batches_do_not_mix(net, x, expected)
    check_the_state_makes_the_network(net, other, x, expected)


@pytest.mark.parametrize(("encoder", "skip", "axes"), COMBINATIONS)
def test_every_network_keeps_the_contract(encoder, skip, axes):
    check_the_contract(axes, encoder, skip)


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize(
    ("encoder", "variant"),
    [
        pytest.param(encoder, variant, id="-".join((encoder, *variant)))
        for encoder, variants in VARIANTS.items()
        for variant in variants
    ],
)
def test_every_variant_keeps_the_contract(encoder, variant, axes):
    check_the_contract(axes, encoder, "concat", **variant)


@pytest.mark.parametrize(
    ("encoder", "change"),
    [
        ("residual", {"norm": "batch"}),
        ("residual", {"blocks": (1, 3, 2)}),
        ("residual", {"preactivation": True}),
        ("residual", {"block": "bottleneck"}),
        ("residual", {"shortcut": "padding"}),
        ("dense", {"norm": "batch"}),
        ("dense", {"blocks": (1, 3, 2)}),
        ("dense", {"growth": 3}),
    ],
    ids=str,
)
def test_a_variant_is_another_network(encoder, change):
    """The negative twin: the plan's key reaches the encoder that it is for."""
    shapes = [
        {name: value.shape for name, value in net.state_dict().items()}
        for net in (build(2, encoder), build(2, encoder), build(2, encoder, **change))
    ]
    assert shapes[0] == shapes[1] != shapes[2]


@pytest.mark.parametrize(
    ("encoder", "key"),
    [("residual", "dropout"), ("residual", "stochastic_depth"), ("dense", "dropout")],
)
def test_chance_is_at_work_in_training_only(encoder, key):
    net, x = build(2, encoder, **{key: 0.5}), images(SIZE[2], batch=8)
    assert not torch.equal(net.train()(x)[0], net(x)[0])
    assert torch.equal(output(net.eval(), x), output(net, x))
    still = build(2, encoder).train()
    assert torch.equal(still(x)[0], still(x)[0])


def test_leaving_out_branches_keeps_the_precision():
    made = StochasticDepth(0.5).train()
    assert made(torch.ones(4, 3, 2, 2, dtype=torch.bfloat16)).dtype == torch.bfloat16
    # Whole samples, the others scaled up.
    kept = made(torch.ones(64, 3, 2, 2)).flatten(1)
    assert set(kept.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(kept.amin(1), kept.amax(1))


def test_an_unused_parameter_would_be_found():
    """The negative twin: the coarser head learns nothing from the finest output."""
    net = four_levels(2, deep_supervision=True)
    net(images(SIZE[2]))[0].square().mean().backward()
    assert without_gradient(net) == ["heads.1.weight", "heads.1.bias"]


def test_batches_that_mix_would_be_found():
    """The negative twin: in training a batch norm looks at the whole batch."""
    net, x = build(2, norm="batch").train(), images(SIZE[2])
    with pytest.raises(AssertionError, match="a sample saw its neighbour"):
        check_batches_do_not_mix(net, x, net(x)[0])


# --- what the names of encoders say ---


NAMED = [name for name in ENCODERS if not architecture(name).blocks]
LIMITED = [name for name in ENCODERS if architecture(name).levels]
LIMITED_ALONE = [pytest.param(name, marks=marks(name, 2, MOST_ALONE)) for name in LIMITED]


@pytest.mark.parametrize("encoder", LIMITED_ALONE)
def test_an_encoder_has_as_many_levels_as_its_name_says(encoder):
    """With one only it has the same tensors, but for a stem; one level more is too many."""
    make, most = ENCODERS.load(encoder), architecture(encoder).levels
    shapes = []
    with torch.device("meta"):
        for levels in (most, 1):
            made = make(IN_CHANNELS, deep_plan(2, encoder, levels))
            assert [tuple(level.shape) for level in made(images((64, 128)))] == [
                (2, channels, 64 // 2**level, 128 // 2**level)
                for level, channels in enumerate(made.channels)
            ]
            assert made.strides == tuple((2**level,) * 2 for level in range(levels))
            state = made.state_dict().items()
            shapes.append({n: value.shape for n, value in state if not n.startswith("stem.")})
        with pytest.raises(UsageError, match=f"too many levels .*at most {most}, got {most + 1}"):
            make(IN_CHANNELS, deep_plan(2, encoder, most + 1))
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("encoder", sorted({*ENCODERS} - {*LIMITED}))
def test_the_others_have_as_many_as_the_plan_says(encoder):
    with torch.device("meta"):
        assert len(ENCODERS.load(encoder)(IN_CHANNELS, deep_plan(2, encoder, 8)).channels) == 8


@pytest.mark.parametrize("encoder", NAMED)
def test_an_encoder_with_a_name_takes_no_blocks_from_the_plan(encoder):
    with pytest.raises(UsageError, match=f"{encoder} has blocks of its own"):
        ENCODERS.load(encoder)(IN_CHANNELS, network_plan(2, encoder, blocks=(1, 2, 1)))


@pytest.mark.parametrize("encoder", ["plain", "highway", "residual", "dense"])
def test_the_plan_gives_the_others_their_blocks(encoder):
    usual, same, more = (
        parameters(build(2, encoder, blocks=blocks)) for blocks in ((), (2, 2, 2), (2, 3, 2))
    )
    assert usual == same < more


@pytest.mark.parametrize("axes", [2, 3])
def test_without_long_skips_there_is_no_stem(axes):
    plan = deep_plan(axes, "resnet18", 3)
    made = {
        skip: ENCODERS.load("resnet18")(IN_CHANNELS, replace(plan, skip=skip))
        for skip in ("concat", "none")
    }
    stems = {
        skip: [name for name, _ in encoder.named_parameters() if name.startswith("stem.")]
        for skip, encoder in made.items()
    }
    assert stems["concat"]
    assert not stems["none"]
    x = images(SIZE[axes])
    assert torch.equal(made["none"](x)[0], x)


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
