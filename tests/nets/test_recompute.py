"""Computing twice instead of keeping: the same training, in less memory."""

from contextlib import contextmanager

import pytest
import torch
from torch.utils.checkpoint import CheckpointError

from unetseg.config import NetworkPlan
from unetseg.nets import dense
from unetseg.nets.cost import cost
from unetseg.nets.unet import UNet, parameters

SIZE = {2: (16, 16), 3: (8, 8, 4)}


def build(axes, encoder, *, recompute, levels=3, **changes):
    values = {
        "skip": "concat",
        "features": (4,) * levels,
        "strides": ((1,) * axes, *((2,) * axes,) * (levels - 1)),
        "kernels": ((3,) * axes,) * levels,
        "norm": "batch",
        "activation": "relu",
        "deep_supervision": False,
    }
    plan = NetworkPlan(encoder=encoder, levels=levels, recompute=recompute, **values | changes)
    return UNet(1, 2, plan)


def pair(axes, encoder, **changes):
    """Two networks with the same weights, of which the second computes twice."""
    kept = build(axes, encoder, recompute=False, **changes)
    twice = build(axes, encoder, recompute=True, **changes)
    twice.load_state_dict(kept.state_dict())
    return kept, twice


def stepped(net, axes, *, seed=1):
    """The output of one step, from which the gradients are left in the network."""
    torch.manual_seed(seed)  # the images, and what dropout draws
    (output,) = net.train()(torch.randn(3, 1, *SIZE[axes]))
    output.square().mean().backward()
    return output


def check_the_steps_agree(kept, twice, axes, *, seed=1):
    assert torch.equal(stepped(kept, axes), stepped(twice, axes, seed=seed))
    gradients = {name: value.grad for name, value in twice.named_parameters()}
    for name, value in kept.named_parameters():
        scale = value.grad.abs().max()
        assert scale > 0
        assert (value.grad - gradients[name]).abs().max() <= 1e-5 * scale, name
    others = dict(twice.named_buffers())
    for name, value in kept.named_buffers():
        assert torch.equal(value, others[name]), name


@pytest.mark.parametrize("dropout", [0.0, 0.25])
@pytest.mark.parametrize("encoder", ["dense", "densenet121"])
@pytest.mark.parametrize("axes", [2, 3])
def test_computing_twice_changes_nothing(axes, encoder, dropout):
    kept, twice = pair(axes, encoder, dropout=dropout)
    counters = [name for name, _ in kept.named_buffers() if name.endswith("num_batches_tracked")]
    assert counters
    check_the_steps_agree(kept, twice, axes)
    assert {kept.get_buffer(name).item() for name in counters} == {1}


@pytest.mark.parametrize("norm", ["instance", "group"])
def test_computing_twice_changes_nothing_with_another_normalisation(norm):
    check_the_steps_agree(*pair(2, "dense", norm=norm), 2)


def test_another_draw_is_seen():
    """The negative twin: with other channels left out it is another step."""
    with pytest.raises(AssertionError):
        check_the_steps_agree(*pair(2, "dense", dropout=0.25), 2, seed=2)


def test_statistics_that_move_twice_are_seen(monkeypatch):
    """The negative twin: what the second pass would do to them, were they not put to rest."""
    monkeypatch.setattr(dense, "_statistics_at_rest", lambda module: dense.nullcontext())
    with pytest.raises(AssertionError, match="running_mean"):
        check_the_steps_agree(*pair(2, "dense"), 2)


def test_a_second_pass_that_keeps_something_else_is_seen(monkeypatch):
    """The negative twin: torch refuses a second pass without statistics to track."""

    @contextmanager
    def untracked(module):
        for norm in module.modules():
            norm.track_running_stats = False
        yield

    monkeypatch.setattr(dense, "_statistics_at_rest", untracked)
    with pytest.raises(CheckpointError, match="different number of tensors"):
        stepped(build(2, "dense", recompute=True), 2)


def test_the_statistics_stay_the_networks_own():
    """The second pass moves copies; the network's tensors are the ones that it had before."""
    net = build(2, "dense", recompute=True)
    before = {name: id(value) for name, value in net.named_buffers()}
    stepped(net, 2)
    assert {name: id(value) for name, value in net.named_buffers()} == before


@pytest.mark.parametrize("encoder", ["dense", "densenet121"])
def test_predicting_computes_once(encoder):
    kept, twice = (net.eval() for net in pair(2, encoder))
    x = torch.randn(1, 1, *SIZE[2])
    with torch.inference_mode():
        assert torch.equal(kept(x)[0], twice(x)[0])


def test_a_frozen_encoder_computes_once_more_for_nobody():
    """Nothing in it needs a gradient; the decoder's come out as without."""
    kept, twice = pair(2, "dense")
    for net in (kept, twice):
        net.train()
        net.freeze_encoder(frozen=True)
        net(torch.ones(2, 1, *SIZE[2]))[0].square().mean().backward()
        assert all(value.grad is None for value in net.encoder.parameters())
    for one, other in zip(kept.heads.parameters(), twice.heads.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


# --- memory ---


def kept_bytes(net, size):
    """What the forward pass keeps for the backward pass, the weights not counted."""
    return cost(net, 1, size).memory_bytes - 16 * parameters(net)


@pytest.mark.parametrize(
    ("encoder", "norm", "size"),
    [
        ("densenet121", "batch", (256, 256)),
        ("densenet121", "instance", (64, 64, 64)),
        ("dense", "instance", (256, 256)),
    ],
    ids=["densenet121-2d", "densenet121-3d", "dense-2d"],
)
def test_the_encoder_keeps_three_fifths_at_most(encoder, norm, size):
    """In a U-Net with a narrow decoder, which keeps everything."""
    with torch.device("meta"):
        kept, twice = (
            build(len(size), encoder, recompute=recompute, levels=6, norm=norm)
            for recompute in (False, True)
        )
    assert parameters(kept) == parameters(twice)
    assert kept_bytes(twice, size) <= 0.6 * kept_bytes(kept, size)
