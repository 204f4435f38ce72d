"""A deeper network that begins as the shallower one: added blocks that are the identity.

Source: He et al. 2015, arXiv:1512.03385, section 1: a deeper network need not be worse, because
the layers that it has more could be the identity.
"""

import pytest
import torch

from unetseg.config import NetworkPlan
from unetseg.nets.unet import UNet

SIZE = {2: (16, 12), 3: (8, 8, 4)}
SHALLOW, DEEP = (1, 2), (3, 4)
KINDS = {
    "post-activation": {"encoder": "residual", "activation": "relu"},
    "post-activation, bottleneck": {
        "encoder": "residual",
        "activation": "relu",
        "block": "bottleneck",
    },
    "pre-activation": {"encoder": "residual", "preactivation": True},
    "pre-activation, bottleneck": {
        "encoder": "residual",
        "preactivation": True,
        "block": "bottleneck",
    },
    "highway": {"encoder": "highway"},
}


def build(axes, blocks, **changes):
    values = {
        "skip": "concat",
        "levels": 2,
        "features": (4, 6),
        "strides": ((1,) * axes, (2,) * axes),
        "kernels": ((3,) * axes,) * 2,
        "blocks": blocks,
        "norm": "batch",
        "deep_supervision": False,
    }
    return UNet(1, 2, NetworkPlan(**values | changes))


def stepped(net, axes):
    """After some steps on noise: no weight, no statistic is what it was at first."""
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05)
    for _ in range(3):
        optimiser.zero_grad()
        net(torch.randn(2, 1, *SIZE[axes]))[0].square().mean().backward()
        optimiser.step()
    return net


def added_blocks(shallow, deep):
    """The outermost of the deeper network's blocks whose names the shallower one lacks."""
    known = {name for name, _ in shallow.named_modules()}
    return [
        module
        for name, module in deep.named_modules()
        if name not in known and hasattr(module, "become_identity")
    ]


def pair(axes, **changes):
    """A network, and a deeper one with the same tensors under the same names."""
    shallow = stepped(build(axes, SHALLOW, **changes), axes)
    deep = build(axes, DEEP, **changes)
    missing, unexpected = deep.load_state_dict(shallow.state_dict(), strict=False)
    assert missing
    assert not unexpected
    return shallow, deep


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("axes", [2, 3])
def test_a_deeper_network_begins_as_the_shallower_one(kind, norm, axes):
    shallow, deep = pair(axes, norm=norm, **KINDS[kind])
    added = added_blocks(shallow, deep)
    assert len(added) == sum(DEEP) - sum(SHALLOW)
    assert all(block.become_identity() for block in added)
    x = torch.randn(2, 1, *SIZE[axes])
    # Evaluating first: a step in training mode moves what it is measured by.
    for is_training in (False, True):
        for net in (shallow, deep):
            net.train(is_training)
        assert torch.equal(deep(x)[0], shallow(x)[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_training", [False, True])
def test_without_it_a_deeper_network_is_another(kind, is_training):
    shallow, deep = (net.train(is_training) for net in pair(2, **KINDS[kind]))
    *added, last = added_blocks(shallow, deep)
    x = torch.randn(2, 1, *SIZE[2])
    assert not torch.allclose(deep(x)[0], shallow(x)[0])
    # Nor is it enough that all but one are the identity.
    assert all(block.become_identity() for block in added)
    assert not torch.allclose(deep(x)[0], shallow(x)[0])
    assert last.become_identity()
    assert torch.equal(deep(x)[0], shallow(x)[0])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "highway"])
def test_a_block_that_became_the_identity_still_learns(kind):
    """A shut gate of a highway layer does not: there the layer is carried past for good."""
    shallow, deep = pair(2, **KINDS[kind])
    assert all(block.become_identity() for block in added_blocks(shallow, deep))
    x = torch.randn(2, 1, *SIZE[2])
    before = deep.train()(x)[0]
    assert not torch.equal(stepped(deep, 2)(x)[0], before)
    touched = [
        any(value.abs().max() > 0 for value in block_end(block))
        for block in added_blocks(shallow, deep)
    ]
    assert all(touched)


def block_end(block):
    """The parameters that were zero."""
    last = "conv" if block.preactivation else "bn"
    return getattr(block, f"{last}{block.layers}").parameters()


@pytest.mark.parametrize("activation", ["leaky_relu", "elu", "silu"])
def test_what_ends_with_another_activation_cannot_be_the_identity(activation):
    """None of these returns the negative values that it returned as they are."""
    shallow, deep = pair(2, encoder="residual", activation=activation)
    before = {name: value.clone() for name, value in deep.state_dict().items()}
    assert [block.become_identity() for block in added_blocks(shallow, deep)] == [False] * 4
    # A refusal leaves no trace.
    assert all(torch.equal(value, before[name]) for name, value in deep.state_dict().items())


@pytest.mark.parametrize("preactivation", [False, True])
@pytest.mark.parametrize("shortcut", ["projection", "padding"])
def test_a_block_that_changes_size_cannot_be_the_identity(preactivation, shortcut):
    net = build(
        2,
        SHALLOW,
        encoder="residual",
        activation="relu",
        preactivation=preactivation,
        shortcut=shortcut,
    )
    stages = net.encoder
    assert stages.layer1[0].become_identity()
    assert not stages.layer2[0].become_identity()
