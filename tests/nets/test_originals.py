"""The networks of the papers: the same features as other people's code, the same names.

What they are compared with: MONAI's own networks, run here, and the list of torchvision's tensors
that tests/golden/torchvision_names.py wrote.
"""

import json
import re
from pathlib import Path

import pytest
import torch
from monai.networks.nets import DenseNet121, resnet18, resnet34, resnet50

from unetseg.config import NetworkPlan
from unetseg.registry import ENCODERS

GOLDEN = Path(__file__).parents[1] / "golden" / "torchvision_names.json"
LEVELS = 6
# At the last of six levels one or two voxels are left per axis; batch norm needs no more.
SIZE = {2: (64, 96), 3: (64, 32, 32)}
MONAI = {"resnet18": resnet18, "resnet34": resnet34, "resnet50": resnet50}
SHORTCUTS = {"A": "padding", "B": "projection"}


def ours(encoder, axes, in_channels, **changes):
    plan = NetworkPlan(
        encoder=encoder,
        skip="concat",
        levels=LEVELS,
        features=(4,) * LEVELS,
        strides=((1,) * axes, *((2,) * axes,) * (LEVELS - 1)),
        kernels=((3,) * axes,) * LEVELS,
        norm="batch",
        activation="relu",
        deep_supervision=False,
        **changes,
    )
    return ENCODERS.load(encoder)(in_channels, plan)


def as_if_trained(net):
    """No scale is one, no shift and no mean zero, no variance one: each of them matters."""
    for name, value in net.state_dict().items():
        if value.ndim == 1 and value.is_floating_point():
            is_positive = name.endswith(("running_var", "weight"))
            value.copy_(torch.rand_like(value) + 0.5 if is_positive else torch.randn_like(value))
    return net.eval()


def watched(net, names, x):
    """What the modules `names` returned when the net saw x."""
    seen = []
    handles = [
        net.get_submodule(name).register_forward_hook(lambda _, __, out: seen.append(out.clone()))
        for name in names
    ]
    net(x)
    for handle in handles:
        handle.remove()
    assert len(seen) == len(names)
    return seen


def copied(encoder, state):
    """The encoder with these weights; what it has more is its stem."""
    missing, unexpected = encoder.load_state_dict(state, strict=False)
    assert all(name.startswith("stem.") for name in missing)
    assert not unexpected
    return encoder.eval()


def differences(found, expected):
    """The largest difference per level, relative to the level's largest value."""
    return [
        ((one - other).abs().max() / other.abs().max()).item()
        for one, other in zip(found, expected, strict=True)
    ]


def resnet_pair(name, axes, shortcut):
    """Ours and MONAI's with the same weights, and what to watch of the latter."""
    original = as_if_trained(
        MONAI[name](
            spatial_dims=axes,
            n_input_channels=2,
            conv1_t_stride=2,
            shortcut_type=shortcut,
            # A shift before a batch norm would be taken away again; torchvision has none.
            bias_downsample=False,
            feed_forward=False,
        )
    )
    encoder = ours(name, axes, 2, shortcut=SHORTCUTS[shortcut])
    stages = ("act", "layer1", "layer2", "layer3", "layer4")
    return copied(encoder, original.state_dict()), original, stages


def densenet_pair(axes):
    original = as_if_trained(DenseNet121(spatial_dims=axes, in_channels=2, out_channels=1))
    state = {
        re.sub(r"(denselayer\d+)\.layers\.", r"\1.", name): value
        for name, value in original.state_dict().items()
        if not name.startswith("class_layers.")
    }
    transitions = (f"features.transition{number}.relu" for number in (1, 2, 3))
    stages = ("features.relu0", *transitions, "class_layers.relu")
    return copied(ours("densenet121", axes, 2), state), original, stages


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("shortcut", SHORTCUTS)
@pytest.mark.parametrize("name", MONAI)
def test_a_resnet_sees_what_monais_sees(name, shortcut, axes):
    encoder, original, stages = resnet_pair(name, axes, shortcut)
    x = torch.randn(2, 2, *SIZE[axes])
    with torch.inference_mode():
        _, *found = encoder(x)
        assert max(differences(found, watched(original, stages, x))) < 1e-5


@pytest.mark.parametrize("axes", [2, 3])
def test_a_densenet_sees_what_monais_sees(axes):
    encoder, original, stages = densenet_pair(axes)
    x = torch.randn(2, 2, *SIZE[axes])
    with torch.inference_mode():
        _, *found = encoder(x)
        assert max(differences(found, watched(original, stages, x))) < 1e-5


@pytest.mark.parametrize(
    ("make", "tensor"),
    [
        (lambda: resnet_pair("resnet18", 2, "B"), "layer3.1.bn2.running_var"),
        (lambda: resnet_pair("resnet18", 2, "B"), "layer3.0.downsample.0.weight"),
        (lambda: densenet_pair(2), "features.transition2.norm.running_mean"),
    ],
    ids=["variance", "projection", "mean"],
)
def test_a_changed_tensor_is_seen(make, tensor):
    """The negative twin: the stages up to it agree, the one that it stands in does not."""
    encoder, original, stages = make()
    encoder.state_dict()[tensor].add_(0.01)
    x = torch.randn(2, 2, *SIZE[2])
    with torch.inference_mode():
        _, *found = encoder(x)
        far = [value > 1e-5 for value in differences(found, watched(original, stages, x))]
    first = far.index(True)
    assert first > 0
    assert far == [False] * first + [True] * (len(far) - first)


def test_another_shortcut_is_seen():
    """The negative twin: where one network pads with zeros the other has a convolution."""
    names = [
        set(ours("resnet18", 2, 2, shortcut=shortcut).state_dict())
        for shortcut in ("padding", "projection")
    ]
    assert names[0] < names[1]
    assert all(".downsample." in name for name in names[1] - names[0])


# --- torchvision's names ---


def published():
    return json.loads(GOLDEN.read_text(encoding="utf-8"))["networks"]


def tensors(name, in_channels=3):
    with torch.device("meta"):
        state = ours(name, 2, in_channels).state_dict()
    return [
        f"{key} {'x'.join(map(str, value.shape))}"
        for key, value in state.items()
        if not key.startswith("stem.") and not key.endswith(".num_batches_tracked")
    ]


@pytest.mark.parametrize("name", published())
def test_the_tensors_bear_torchvisions_names(name):
    assert sorted(tensors(name)) == sorted(published()[name])


def test_other_tensors_are_seen():
    """The negative twin: another depth, or another number of channels, is another list."""
    expected = sorted(published()["resnet50"])
    assert sorted(tensors("resnet101")) != expected
    changed = set(tensors("resnet50", in_channels=1)) - set(expected)
    assert changed == {"conv1.weight 64x1x7x7"}
