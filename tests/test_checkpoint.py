"""A model on disk: what was saved is what is loaded, and damage is named."""

import json
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cubes import request, write_cubes
from safetensors.torch import load_file, save_file

from unetseg import checkpoint
from unetseg.config import Plan
from unetseg.errors import DataError, ModelError
from unetseg.training import plan_for, train


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("checkpoint")
    return plan_for(request(write_cubes(folder / "data", 2), folder / "run"))[0]


@pytest.fixture
def model(plan: Plan, tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "one" / "model"
    torch.manual_seed(3)
    checkpoint.save(folder, checkpoint.build(plan), plan, {"finished": True, "step": 5})
    return folder


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "model.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_what_was_saved_is_what_is_loaded(plan: Plan, model: Path) -> None:
    torch.manual_seed(3)
    network = checkpoint.build(plan)
    loaded = checkpoint.load(model)
    assert loaded.plan == plan
    assert loaded.facts == {"finished": True, "step": 5}
    assert loaded.folder == model
    assert not loaded.network.training
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], tensor), name
    image = torch.randn(1, 1, 16, 16, 16)
    with torch.inference_mode():
        assert torch.equal(loaded.network(image)[0], network.eval()(image)[0])
        torch.manual_seed(4)
        other = checkpoint.build(plan).eval()
        assert not torch.equal(loaded.network(image)[0], other(image)[0])


def test_who_may_read_other_files_may_read_the_weights(plan: Plan, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        checkpoint.write_weights(tmp_path / "weights.safetensors", checkpoint.build(plan))
    finally:
        os.umask(before)
    assert (tmp_path / "weights.safetensors").stat().st_mode & 0o777 == 0o640


def test_weights_for_which_there_is_no_room_are_an_error_and_leave_the_old(
    plan: Plan, tmp_path: Path
) -> None:
    path, network = tmp_path / "weights.safetensors", checkpoint.build(plan)
    checkpoint.write_weights(path, network)
    old = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # As good as a full disk, and nobody has to fill one.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(DataError, match=r"weights\.safetensors: cannot be written: .* large"):
            checkpoint.write_weights(path, network)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == old
    assert [entry.name for entry in tmp_path.iterdir()] == ["weights.safetensors"]


def test_a_run_folder_stands_for_its_model(model: Path) -> None:
    assert checkpoint.load(model.parent).folder == model
    assert checkpoint.load_plan(model.parent) == checkpoint.load_plan(model)


def test_the_files_are_plain(model: Path) -> None:
    assert sorted(path.name for path in model.iterdir()) == ["model.json", "weights.safetensors"]
    content = json.loads((model / "model.json").read_text())
    assert content["schema"] == 1
    assert content["plan"]["network"]["features"] == [4, 8]
    # A reader of safetensors that knows nothing of this package finds the convolutions.
    assert (4, 1, 3, 3, 3) in {
        tuple(t.shape) for t in load_file(model / "weights.safetensors").values()
    }


def test_a_second_save_replaces_the_first(plan: Plan, model: Path) -> None:
    before = load_file(model / "weights.safetensors")
    torch.manual_seed(4)
    checkpoint.save(model, checkpoint.build(plan), plan, {"step": 9})
    after = load_file(model / "weights.safetensors")
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert checkpoint.load(model).facts == {"step": 9}


def test_no_model_at_all(tmp_path: Path) -> None:
    for call in (checkpoint.load, checkpoint.load_plan):
        with pytest.raises(ModelError, match=r"nothing: no trained model here .*--model RUN") as e:
            call(tmp_path / "nothing")
        assert e.value.exit_code == 4


def test_missing_weights(model: Path) -> None:
    (model / "weights.safetensors").unlink()
    with pytest.raises(ModelError, match=r"weights\.safetensors: weights cannot be read"):
        checkpoint.load(model)


@pytest.mark.parametrize("keep", [0, 4, 200, -10])
def test_damaged_weights(model: Path, keep: int) -> None:
    path = model / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelError, match=r"weights\.safetensors: weights cannot be read"):
        checkpoint.load(model)


@pytest.mark.parametrize("text", ["", "{", "\N{REPLACEMENT CHARACTER}"])
def test_a_description_that_is_no_json(model: Path, text: str) -> None:
    (model / "model.json").write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=r"model\.json: not JSON"):
        checkpoint.load(model)


@pytest.mark.parametrize("text", ["[]", "{}", '"model"'])
def test_a_description_of_something_else(model: Path, text: str) -> None:
    (model / "model.json").write_text(text)
    with pytest.raises(ModelError, match=r"model\.json: not a model description of unetseg"):
        checkpoint.load(model)


def test_a_schema_of_tomorrow(model: Path) -> None:
    edit(model, lambda content: content.update(schema=99))
    with pytest.raises(
        ModelError, match=r"another schema \(expected 1 or 2, got 99\); update unetseg"
    ):
        checkpoint.load(model)


def test_a_description_that_lost_its_plan(model: Path) -> None:
    edit(model, lambda content: content.pop("plan"))
    with pytest.raises(ModelError, match=r"model\.json: "):
        checkpoint.load(model)


def test_a_plan_with_an_unknown_key_is_the_models_fault(model: Path) -> None:
    edit(model, lambda content: content["plan"]["network"].update(depth=3))
    with pytest.raises(ModelError, match=r"model\.json: network\.depth"):
        checkpoint.load(model)


def test_a_tensor_of_another_shape_is_named(model: Path) -> None:
    path = model / "weights.safetensors"
    tensors = load_file(path)
    name = next(name for name in sorted(tensors) if tensors[name].shape == (4, 1, 3, 3, 3))
    tensors[name] = torch.zeros(4, 2, 3, 3, 3)
    save_file(tensors, path)
    expected = rf"tensor {name} does not fit \(expected \(4, 1, 3, 3, 3\), got \(4, 2, 3, 3, 3\)\)"
    with pytest.raises(ModelError, match=expected):
        checkpoint.load(model)


@pytest.mark.parametrize("lost", [True, False])
def test_a_tensor_too_few_or_too_many_is_named(model: Path, lost: bool) -> None:
    path = model / "weights.safetensors"
    tensors = load_file(path)
    if lost:
        name = sorted(tensors)[0]
        del tensors[name]
        expected = rf"tensor {name} does not fit \(expected \([^)]*\), got nothing\)"
    else:
        tensors["stranger"] = torch.zeros(2)
        expected = r"tensor stranger does not fit \(expected no such tensor, got \(2,\)\)"
    save_file(tensors, path)
    with pytest.raises(ModelError, match=expected):
        checkpoint.load(model)


def test_the_newest_finished_run(model: Path) -> None:
    runs = model.parent.parent
    for number, name in enumerate(("older", "newest", "unfinished")):
        shutil.copytree(model.parent, runs / name)
        os.utime(runs / name / "model" / "model.json", (1_000_000 + number,) * 2)
    edit(runs / "unfinished" / "model", lambda c: c["facts"].update(finished=False))
    os.utime(model / "model.json", (999_999,) * 2)
    assert checkpoint.newest_run(runs) == runs / "newest"
    edit(runs / "unfinished" / "model", lambda c: c["facts"].update(finished=True))
    assert checkpoint.newest_run(runs) == runs / "unfinished"


def test_a_damaged_run_does_not_hide_the_others(model: Path) -> None:
    runs = model.parent.parent
    shutil.copytree(model.parent, runs / "damaged")
    (runs / "damaged" / "model" / "model.json").write_text("{")
    assert checkpoint.newest_run(runs) == model.parent
    (model / "model.json").write_text("{")
    with pytest.raises(ModelError, match="no finished run"):
        checkpoint.newest_run(runs)


def test_no_finished_run(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"absent: no finished run; train one"):
        checkpoint.newest_run(tmp_path / "absent")
    edit(model, lambda content: content["facts"].update(finished=False))
    with pytest.raises(ModelError, match="no finished run"):
        checkpoint.newest_run(model.parent.parent)


def test_a_trained_model_can_be_loaded(tmp_path: Path) -> None:
    run = train(request(write_cubes(tmp_path / "data", 2), tmp_path / "run")).run
    loaded = checkpoint.load(run)
    assert loaded.facts["finished"] is True
    assert loaded.plan.data.class_values == (0, 1)
