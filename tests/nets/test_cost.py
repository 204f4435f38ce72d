"""What a network costs, counted by hand."""

import pytest
import torch

from unetseg.config import NetworkPlan
from unetseg.nets.cost import Cost, cost
from unetseg.nets.unet import UNet, parameters


def build(**changes):
    """At one level: a 3 x 3 convolution from 2 to 4 maps, its norm, and a head to 3 maps."""
    values = {
        "encoder": "plain",
        "skip": "concat",
        "levels": 1,
        "features": (4,),
        "strides": ((1, 1),),
        "kernels": ((3, 3),),
        "blocks": (1,),
        "norm": "batch",
        "deep_supervision": False,
    }
    return UNet(2, 3, NetworkPlan(**values | changes))


def two_levels(**changes):
    return build(
        levels=2,
        features=(4, 6),
        strides=((1, 1), (2, 2)),
        kernels=((3, 3),) * 2,
        blocks=(),
        **changes,
    )


def test_one_level_by_hand():
    voxels, weights = 6 * 10, 2 * 4 * 9 + 2 * 4 + (4 * 3 + 3)
    found = cost(build(), 2, (6, 10))
    # Kept: the input (2 maps), what the norm sees (4), what the activation made of it in place
    # (4), which the head sees too; and the batch's mean and deviation per map.
    kept = 4 * (voxels * (2 + 4 + 4) + 2 * 4)
    assert found == Cost(weights, 2 * voxels * (2 * 4 * 9 + 4 * 3), kept + 16 * weights)


@pytest.mark.parametrize("size", [(8, 16), (16, 8)])
def test_a_patch_twice_the_size_costs_twice_as_much(size):
    small, large = cost(two_levels(), 2, (8, 8)), cost(two_levels(), 2, size)
    assert large.parameters == small.parameters
    assert large.flops == 2 * small.flops
    assert large.memory_bytes > small.memory_bytes


def test_a_wider_network_costs_more():
    """The negative twin."""
    narrow, wide = cost(two_levels(), 2, (8, 8)), cost(two_levels(decoder_blocks=3), 2, (8, 8))
    assert narrow.parameters < wide.parameters
    assert narrow.flops < wide.flops
    assert narrow.memory_bytes < wide.memory_bytes


def really_kept(net, x):
    """Bytes of the storages that a real pass keeps, the network's own not counted."""
    own = {value.data_ptr() for value in net.state_dict().values()}
    kept = {}

    def keep(saved):
        storage = saved.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return saved

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
        outputs = net(x)
    assert outputs
    return sum(size for place, size in kept.items() if place not in own)


@pytest.mark.parametrize("encoder", ["plain", "highway", "residual", "dense"])
@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_a_real_pass_keeps_what_was_worked_out(encoder, norm):
    net = two_levels(encoder=encoder, norm=norm)
    expected = cost(net, 2, (16, 16)).memory_bytes - 16 * parameters(net)
    assert really_kept(net, torch.randn(1, 2, 16, 16)) == expected
    assert really_kept(net, torch.randn(1, 2, 16, 32)) != expected


def test_where_the_network_is_makes_no_difference():
    with torch.device("meta"):
        abstract = two_levels()
    assert cost(abstract, 2, (8, 8)) == cost(two_levels(), 2, (8, 8))


@pytest.mark.parametrize("is_training", [False, True])
def test_the_network_stays_as_it_is(is_training):
    net = two_levels().train(is_training)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    cost(net, 2, (8, 8))
    assert net.training == is_training
    assert all(value.grad is None for value in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_it_counts_where_gradients_are_off():
    with torch.no_grad():
        inside = cost(two_levels(), 2, (8, 8))
    assert inside == cost(two_levels(), 2, (8, 8))


@pytest.mark.parametrize("axes", [2, 3])
def test_a_network_that_no_memory_could_hold_costs_nothing_to_measure(axes):
    plan = NetworkPlan(
        encoder="plain",
        skip="concat",
        levels=1,
        features=(4096,),
        strides=((1,) * axes,),
        kernels=((3,) * axes,),
        blocks=(8,),
        deep_supervision=False,
    )
    with torch.device("meta"):
        net = UNet(1, 2, plan)
    assert cost(net, 1, (4096,) * axes).memory_bytes > 10**12
