"""Files of weights: what is read, what fits how, and that every tensor is accounted for."""

import pickle
from functools import partial

import pytest
import torch
from safetensors.torch import save_file

from unetseg.config import NetworkPlan
from unetseg.errors import ModelError
from unetseg.nets.weights import first_kernels, fit, fitted, read_tensors
from unetseg.registry import ENCODERS

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def reproducible():
    torch.manual_seed(0)


def network_plan(encoder, axes=2, levels=3, **changes):
    values = {
        "encoder": encoder,
        "skip": "concat",
        "levels": levels,
        "features": (4,) * levels,
        "strides": ((1,) * axes, *((2,) * axes,) * (levels - 1)),
        "kernels": ((3,) * axes,) * levels,
        "norm": "batch",
        "activation": "relu",
        "deep_supervision": False,
    }
    return NetworkPlan(**values | changes)


def make(encoder, channels=1, axes=2, **changes):
    plan = network_plan(encoder, axes, **changes)
    return ENCODERS.load(encoder)(channels, plan)


def published(encoder, head="fc"):
    """A state dict as torchvision or timm would save it: the encoder's, no stem, a classifier."""
    torch.manual_seed(1)
    tensors = {k: v.clone() for k, v in encoder.state_dict().items() if not k.startswith("stem.")}
    for name, value in tensors.items():
        if name.endswith(("running_mean", "running_var")):
            value.uniform_(0.5, 1.5)
    return tensors | {f"{head}.weight": torch.ones(5, 7), f"{head}.bias": torch.ones(5)}


@pytest.fixture(scope="module")
def resnet():
    """Three channels in, as published, and its tensors."""
    return published(make("resnet18", 3))


def accounted(loading, tensors, encoder):
    """Every tensor of the file and of the encoder has exactly one fate."""
    left, adapted, fresh = (
        [name for name, _ in fates] for fates in (loading.left_out, loading.adapted, loading.fresh)
    )
    used = [*loading.loaded, *adapted]
    assert sorted([*used, *fresh]) == sorted(encoder.state_dict())
    assert len(used) + len(left) == len(tensors)
    assert len(loading.rows()) == len(used) + len(left) + len(fresh)
    return True


def same(encoder, tensors, but=()):
    """The encoder has the file's tensors, but for counters and those named."""
    state = encoder.state_dict()
    return all(
        torch.equal(state[name], value)
        for name, value in tensors.items()
        if name in state and name not in but and not name.endswith("num_batches_tracked")
    )


# --- names ---


def test_a_residual_net_takes_all_but_the_classifier(resnet):
    encoder = make("resnet18", 3)
    stem = {k: v.clone() for k, v in encoder.state_dict().items() if k.startswith("stem.")}
    loading = fit(resnet, encoder)
    assert accounted(loading, resnet, encoder)
    assert same(encoder, resnet)
    assert not loading.adapted
    reasons = dict(loading.left_out)
    assert reasons["fc.weight"] == reasons["fc.bias"] == "of the classifier"
    # One counter per normalisation: 17 convolutions and 3 projections.
    assert list(reasons.values()).count("a counter of batches") == 20
    assert len(reasons) == 22
    assert same(encoder, stem)
    told = {name: reason for name, reason in loading.fresh if "num_batches" not in name}
    expected = "in the stem, which the published network lacks"
    assert told == dict.fromkeys((n for n in stem if "num_batches" not in n), expected)


@pytest.mark.parametrize("prefix", ["module.", "encoder.", "backbone.", "model.", "module.model."])
def test_what_all_names_begin_with_is_taken_off(resnet, prefix):
    tensors = {f"{prefix}{name}": value for name, value in resnet.items()}
    encoder = make("resnet18", 3)
    loading = fit(tensors, encoder)
    assert accounted(loading, tensors, encoder)
    assert same(encoder, resnet)


def test_a_prefix_of_some_names_only_is_left(resnet):
    tensors = {f"encoder.{name}": value for name, value in resnet.items()}
    with pytest.raises(ModelError, match=r"none of the tensors .*got encoder\.conv1\.weight"):
        fit(tensors | {"decoder.weight": torch.ones(2)}, make("resnet18", 3))


@pytest.mark.parametrize("style", ["today", "bare", "old"])
def test_dense_nets_bear_old_and_new_names(style):
    small = partial(make, "dense", blocks=(2, 2, 2), growth=4)
    tensors = published(small(3), "classifier")
    written = {
        "today": lambda name: name,
        "bare": lambda name: name.removeprefix("features."),
        # torch 0.3: denselayer1.norm.1.weight
        "old": lambda name: (
            name.replace("norm1.", "norm.1.", 1)
            .replace("norm2.", "norm.2.", 1)
            .replace("conv1.", "conv.1.", 1)
            .replace("conv2.", "conv.2.", 1)
            if "denselayer" in name
            else name
        ),
    }[style]
    renamed = {written(name): value for name, value in tensors.items()}
    assert style != "old" or "features.denseblock1.denselayer1.norm.1.weight" in renamed
    encoder = small(3)
    loading = fit(renamed, encoder)
    assert accounted(loading, renamed, encoder)
    assert same(encoder, tensors)
    assert dict(loading.left_out)["classifier.weight"] == "of the classifier"


def test_timm_and_torchvision_name_a_dense_net_as_the_encoder_does():
    names = set(make("densenet121", 3).state_dict())
    assert {
        "features.conv0.weight",
        "features.norm0.running_var",
        "features.denseblock4.denselayer16.conv2.weight",
        "features.transition3.conv.weight",
        "features.norm5.bias",
    } <= names


@pytest.mark.parametrize(
    ("encoder", "head", "count"),
    # As counted in torchvision's files of today.
    [("resnet18", "fc", 122), ("resnet50", "fc", 320), ("densenet121", "classifier", 727)],
)
def test_there_are_as_many_tensors_as_torchvision_has(encoder, head, count):
    assert len(published(make(encoder, 3), head)) == count


def test_a_net_of_medicalnet_fits_whole():
    """Names in a wrapper of several devices, one channel, and no projections in 18 layers."""
    medical = partial(make, "resnet18", axes=3, shortcut="padding")
    tensors = {f"module.{k}": v for k, v in published(medical()).items() if "fc." not in k}
    assert not any("downsample" in name for name in tensors)
    encoder = medical()
    loading = fit(tensors, encoder)
    assert accounted(loading, tensors, encoder)
    assert not loading.adapted
    assert {reason for _, reason in loading.left_out} == {"a counter of batches"}
    assert {n for n, _ in loading.fresh if "num_batches" not in n} == {
        name for name in encoder.state_dict() if "stem." in name and "num_batches" not in name
    }


def test_running_statistics_need_a_place(resnet):
    encoder = make("resnet18", 3, norm="instance")
    loading = fit(resnet, encoder)
    assert accounted(loading, resnet, encoder)
    reasons = dict(loading.left_out)
    assert reasons["bn1.running_mean"] == "the normalisation keeps no running statistics"
    assert "bn1.weight" in loading.loaded


def test_what_the_encoder_lacks_is_left_out_and_what_the_file_lacks_is_fresh(resnet):
    encoder = make("resnet18", 3)
    tensors = {k: v for k, v in resnet.items() if k != "layer4.1.conv2.weight"}
    tensors["layer4.2.conv1.weight"] = torch.ones(2)
    loading = fit(tensors, encoder)
    assert accounted(loading, tensors, encoder)
    assert dict(loading.left_out)["layer4.2.conv1.weight"] == "the encoder has no such tensor"
    assert dict(loading.fresh)["layer4.1.conv2.weight"] == "not in the file"


def test_the_summary_counts(resnet):
    text = fit(resnet, make("resnet18")).summary()
    assert text.startswith("99 tensors loaded as they are, 1 adapted (1: the sum over the file's 3")
    assert "22 left out (20: a counter of batches; 2: of the classifier)" in text
    assert "\n" not in text


# --- channels ---


def test_one_channel_sees_the_sum_of_the_files_kernels(resnet):
    encoder = make("resnet18", 1)
    loading = fit(resnet, encoder)
    assert dict(loading.adapted) == {"conv1.weight": "the sum over the file's 3 channels"}
    expected = resnet["conv1.weight"].sum(1, keepdim=True)
    assert torch.equal(encoder.conv1.weight, expected)
    # A grey image gives what the same picture in three equal colours would have given.
    grey = torch.randn(1, 1, 9, 9)
    coloured = torch.nn.functional.conv2d(grey.expand(1, 3, 9, 9), resnet["conv1.weight"])
    assert torch.allclose(torch.nn.functional.conv2d(grey, expected), coloured, atol=1e-5)


@pytest.mark.parametrize("channels", [2, 3, 4, 7])
def test_more_channels_see_the_files_kernels_in_turn(resnet, channels):
    encoder = make("resnet18", channels)
    loading = fit(resnet, encoder)
    kernel = resnet["conv1.weight"]
    for channel in range(channels):
        expected = kernel[:, channel % 3] * (3 / channels)
        assert torch.allclose(encoder.conv1.weight[:, channel], expected)
    assert [name for name, _ in loading.adapted] == ([] if channels == 3 else ["conv1.weight"])


def test_the_first_kernel_alone_takes_other_channels(resnet):
    tensors = dict(resnet)
    tensors["layer1.0.conv1.weight"] = torch.ones(64, 32, 3, 3)
    message = r"tensor layer1\.0\.conv1\.weight does not fit \(expected \(64, 64, 3, 3\), got \(64,"
    with pytest.raises(ModelError, match=message):
        fit(tensors, make("resnet18", 3))


@pytest.mark.parametrize(
    ("encoder", "names"),
    [
        ("resnet18", {"stem.block.0.weight", "conv1.weight"}),
        ("densenet121", {"stem.block.0.weight", "features.conv0.weight"}),
        ("residual", {"conv1.weight"}),
        ("dense", {"features.conv0.weight"}),
        ("plain", {"stages.0.0.weight"}),
        ("highway", {"stages.0.0.0.weight"}),
    ],
)
def test_the_kernels_that_see_the_image(encoder, names):
    made = make(encoder, 7)
    found = first_kernels(made)
    assert found == names
    wide = {k for k, v in made.state_dict().items() if v.ndim == 4 and v.shape[1] == 7}
    assert wide == names


# --- the third axis ---


@pytest.mark.parametrize("kernel", [(3, 3, 3), (1, 3, 3), (3, 3, 1), (5, 3, 3)])
def test_a_flat_kernel_answers_a_constant_stack_as_it_answers_the_slice(kernel):
    flat = torch.randn(4, 2, 3, 3)
    value, how = fitted(flat, torch.empty(4, 2, *kernel), is_first=False)
    assert "2-D kernel repeated" in how
    image = torch.randn(1, 2, 8, 8)
    axis = 2 if kernel[1:] == (3, 3) else 4
    stack = image.unsqueeze(axis)
    stack = stack.expand(*[7 if a == axis else n for a, n in enumerate(stack.shape)])
    deep = torch.nn.functional.conv3d(stack, value)
    expected = torch.nn.functional.conv2d(image, flat).unsqueeze(axis)
    assert torch.allclose(deep, expected.expand_as(deep), atol=1e-5)


def test_a_flat_pointwise_kernel_is_kept():
    flat = torch.randn(4, 2, 1, 1)
    value, _ = fitted(flat, torch.empty(4, 2, 1, 1, 1), is_first=False)
    assert torch.equal(value[..., 0], flat)


@pytest.mark.parametrize("kernel", [(3, 3, 5), (5, 5, 5)])
def test_a_flat_kernel_of_another_size_does_not_fit(kernel):
    flat = torch.randn(4, 2, 3, 3)
    result = fitted(flat, torch.empty(4, 2, *kernel), is_first=False)
    assert (result is None) == (kernel == (5, 5, 5))


def test_a_whole_net_gets_its_third_axis(resnet):
    deep = make("resnet18", 1, axes=3)
    loading = fit(resnet, deep)
    assert accounted(loading, resnet, deep)
    how = dict(loading.adapted)
    assert how["conv1.weight"] == (
        "2-D kernel repeated 7 times and divided by 7; the sum over the file's 3 channels"
    )
    # 20 convolutions; scales, shifts and statistics are as they were.
    assert len(how) == 20
    flat = make("resnet18", 1)
    fit(resnet, flat)
    image = torch.randn(1, 1, 32, 32)
    stack = image.unsqueeze(2).expand(1, 1, 64, 32, 32)
    for encoder in (flat, deep):
        encoder.eval()
        encoder.stem.block = torch.nn.Identity()
    with torch.no_grad():
        level, deeper = flat(image)[1], deep(stack)[1]
    middle = deeper.shape[2] // 2
    # Away from the ends of the stack, where zeros are padded.
    assert torch.allclose(deeper[:, :, middle], level, atol=1e-4)


def test_a_volume_does_not_fit_a_flat_net():
    tensors = published(make("residual", 3, axes=3))
    message = r"expected \(4, 3, 3, 3\), got \(4, 3, 3, 3, 3\)"
    with pytest.raises(ModelError, match=message):
        fit(tensors, make("residual", 3))


# --- what does not fit ---


def test_nothing_is_changed_by_a_file_that_does_not_fit(resnet):
    encoder = make("resnet18", 3)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    tensors = dict(resnet)
    tensors["layer4.1.bn2.weight"] = torch.ones(3)
    message = (
        r"^a\.pth: tensor layer4\.1\.bn2\.weight does not fit \(expected \(512,\), got \(3,\)\);"
        r" choose the --encoder that the weights are of$"
    )
    with pytest.raises(ModelError, match=message):
        fit(tensors, encoder, where="a.pth")
    assert all(torch.equal(encoder.state_dict()[name], value) for name, value in before.items())


def test_a_bottleneck_net_does_not_fit_a_basic_one(resnet):
    # The same names, other kernels.
    residual = partial(make, "residual", 3)
    tensors = published(residual(block="bottleneck"))
    with pytest.raises(ModelError, match=r"tensor layer1\.0\.conv1\.weight does not fit"):
        fit(tensors, residual())


def test_a_file_of_something_else_is_refused(resnet):
    with pytest.raises(
        ModelError, match=r"none of the tensors in this file fits .*expected names such as stages"
    ):
        fit(resnet, make("plain"))
    with pytest.raises(ModelError, match="a run is given by --init"):
        fit({"fc.weight": torch.ones(3, 3)}, make("plain"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_are_refused(resnet, value):
    tensors = resnet | {"bn1.weight": torch.full((64,), value)}
    with pytest.raises(ModelError, match=r"tensor bn1\.weight holds values that are no numbers"):
        fit(tensors, make("resnet18", 3))


def test_half_precision_is_widened_and_integers_are_not():
    encoder = make("residual", 1)
    tensors = {name: value.half() for name, value in published(encoder).items()}
    loading = fit(tensors, encoder)
    assert dict(loading.adapted)["bn1.weight"] == "float16 to float32"
    assert encoder.bn1.weight.dtype == torch.float32
    tensors["bn1.weight"] = torch.ones(4, dtype=torch.int8)
    with pytest.raises(ModelError, match=r"expected \(4,\), got \(4,\) int8"):
        fit(tensors, encoder)


# --- files ---


def test_tensors_come_from_each_kind_of_file(tmp_path):
    tensors = {"a": torch.randn(2, 3), "b": torch.arange(4)}
    save_file(tensors, tmp_path / "a.safetensors")
    torch.save(tensors, tmp_path / "a.pth")
    torch.save(tensors, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    # As MedicalNet has it: the optimiser's state lies beside.
    beside = {"epoch": 3, "state_dict": tensors, "optimizer": {"lr": 0.1, "state": {}}}
    torch.save(beside, tmp_path / "a.pt")
    torch.save({"model": tensors, "args": None}, tmp_path / "b.PTH")
    torch.save({**tensors, "epoch": 3}, tmp_path / "c.bin")
    for path in tmp_path.iterdir():
        found = read_tensors(path)
        assert found.keys() == tensors.keys(), path
        assert all(torch.equal(found[name], tensors[name]) for name in tensors)


class Anything:
    """What no weights file should hold."""


def test_a_pickle_with_more_than_tensors_is_refused(tmp_path):
    for name, content in (
        ("object.pth", {"a": Anything()}),
        ("module.pth", torch.nn.Linear(2, 2)),
        ("code.pth", {"a": print}),
    ):
        torch.save(content, tmp_path / name)
        with pytest.raises(ModelError, match=rf"{name}: a pickle that would run code") as caught:
            read_tensors(tmp_path / name)
        assert "weights_only" not in str(caught.value)
    with pytest.raises(ModelError, match=r"got test_weights\.Anything\)"):
        read_tensors(tmp_path / "object.pth")


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
@pytest.mark.parametrize(
    "content",
    [b"", b"hello world\n", b"<html>404</html>", bytes(1000), b"\x80\x02}q\x00.", b"PK\x03\x04"],
)
def test_a_file_of_anything_is_refused_in_one_line(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        read_tensors(path)
    text = str(caught.value)
    assert text.startswith(str(path))
    assert "expected" in text
    assert "weights_only" not in text


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path, share):
    tensors = {f"layer{n}.weight": torch.randn(40, 40) for n in range(4)}
    save_file(tensors, tmp_path / "a.safetensors")
    torch.save(tensors, tmp_path / "a.pth")
    torch.save(tensors, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    for path in list(tmp_path.iterdir()):
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(ModelError, match="weights cannot be read"):
            read_tensors(path)


def test_files_without_tensors_are_refused(tmp_path):
    for number, content in enumerate([{}, {"epoch": 3}, {"state_dict": {}}, {"model": {"a": 1}}]):
        path = tmp_path / f"{number}.pth"
        torch.save(content, path)
        with pytest.raises(ModelError, match="there are no tensors in this file"):
            read_tensors(path)
    torch.save([torch.ones(2)], tmp_path / "list.pth")
    with pytest.raises(ModelError, match=r"not a state dict \(expected tensors by name, got list"):
        read_tensors(tmp_path / "list.pth")


def test_a_missing_file_and_a_folder_are_told(tmp_path):
    for name in ("none.pth", "none.safetensors"):
        with pytest.raises(ModelError, match="weights cannot be read: No such file"):
            read_tensors(tmp_path / name)
    (tmp_path / "folder.pth").mkdir()
    with pytest.raises(ModelError, match="weights cannot be read: Is a directory"):
        read_tensors(tmp_path / "folder.pth")


def test_a_pickle_does_not_run(tmp_path):
    marker = tmp_path / "ran"

    class Runs:
        def __reduce__(self):
            return (exec, (f"open({str(marker)!r}, 'w').close()",))

    for name, write in (
        ("a.pth", lambda path: torch.save({"a": Runs()}, path)),
        ("b.pth", lambda path: path.write_bytes(pickle.dumps({"a": Runs()}, protocol=2))),
        ("c.pth", lambda path: path.write_bytes(pickle.dumps({"a": Runs()}))),
    ):
        write(tmp_path / name)
        with pytest.raises(ModelError):
            read_tensors(tmp_path / name)
    assert not marker.exists()
