"""Where a training begins: at a file of weights, at another run; frozen at first, slower later."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cubes import cube, request, write_cubes, write_squares, write_tiff
from safetensors.torch import load_file

from unetseg import checkpoint
from unetseg.config import Plan
from unetseg.downloads import FAMILIES
from unetseg.errors import ModelError, UnetsegError, UsageError
from unetseg.records import Note, Stage
from unetseg.training import Request, plan_for, start, train
from unetseg.training.start import begin, carry_over, check_start, located
from unetseg.training.state import State

RESIDUAL: dict[str, Any] = {"network.encoder": "residual", "network.blocks": (1, 1)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Squares in two dimensions: the least that can be trained on."""
    return write_squares(tmp_path_factory.mktemp("start") / "data")


@pytest.fixture(scope="module")
def other(data: Path) -> Path:
    """A finished run with a residual encoder, one block per level."""
    return train(request(data, data.parent / "other", RESIDUAL)).run


@pytest.fixture(scope="module")
def file(data: Path, other: Path) -> Path:
    """The encoder of that run as a file of weights, with a classifier and three channels."""
    tensors = load_file(other / "model" / "weights.safetensors")
    encoder = {k.removeprefix("encoder."): v for k, v in tensors.items() if "encoder." in k}
    encoder["conv1.weight"] = encoder["conv1.weight"].expand(-1, 3, -1, -1) / 3
    path = data.parent / "encoder.pth"
    torch.save({"state_dict": encoder | {"fc.weight": torch.ones(2, 2)}}, path)
    return path


def with_two_classes(folder: Path) -> Path:
    """Squares whose names of classes are 1 and 2."""
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for number in range(6):
        image, labels = cube((32, 32), number, 1 + number % 2)
        labels[0, :2] = (1, 2)
        for part, array in (("images", image.astype(np.uint16)), ("labels", labels)):
            write_tiff(folder / part / f"cell_{number}.ome.tif", array)
    return folder


def listen() -> tuple[list[str], Callable[[object], None]]:
    notes: list[str] = []

    def listener(event: object) -> None:
        if isinstance(event, Note):
            notes.append(event.text)

    return notes, listener


def beginning(
    ask: Request, network_changes: dict[str, Any] | None = None
) -> tuple[Plan, torch.nn.Module, Any]:
    """The network that the request's training would begin with."""
    plan, _ = plan_for(ask)
    if network_changes:
        plan = replace(plan, network=replace(plan.network, **network_changes))
    torch.manual_seed(plan.training.seed)
    network = checkpoint.build(plan)
    return plan, network, begin(network, plan)


def fates(run: Path) -> dict[str, tuple[str, str]]:
    rows = json.loads((run / "weights.json").read_text())["tensors"]
    return {row["tensor"]: (row["fate"], row.get("how", "")) for row in rows}


# --- weights of a file -------------------------------------------------------------------------


def test_a_training_begins_with_the_weights_of_a_file(
    data: Path, file: Path, tmp_path: Path
) -> None:
    notes, listener = listen()
    settings = RESIDUAL | {"training.weights": str(file), "network.norm": "instance"}
    outcome = train(request(data, tmp_path / "run", settings), listener)
    assert outcome.finished
    (note,) = [note for note in notes if note.startswith("the encoder begins with")]
    assert f"{file}: " in note
    assert "1 adapted (1: the sum over the file's 3 channels)" in note
    assert note in (outcome.run / "log.txt").read_text()
    told = fates(outcome.run)
    assert told["conv1.weight"] == ("adapted", "the sum over the file's 3 channels")
    assert told["fc.weight"] == ("left out", "of the classifier")
    assert told["layer2.0.conv1.weight"] == ("loaded", "")
    source = json.loads((outcome.run / "weights.json").read_text())["source"]
    assert source["path"] == str(file)
    assert len(source["sha256"]) == 64


def test_the_network_and_its_average_begin_with_them(
    data: Path, file: Path, other: Path, tmp_path: Path
) -> None:
    settings = RESIDUAL | {"training.weights": str(file), "network.norm": "instance"}
    plan, network, found = beginning(request(data, tmp_path / "run", settings))
    assert found is not None
    expected = checkpoint.load(other).network.state_dict()
    state = State.fresh(network, plan, torch.device("cpu"))
    for part in (state.network, state.average):
        tensors = part.state_dict()
        encoder = [name for name in tensors if name.startswith("encoder.")]
        assert encoder
        for name in encoder:
            assert torch.allclose(tensors[name], expected[name], atol=1e-6), name
    # The decoder is another one: it was drawn anew.
    assert not torch.equal(network.state_dict()["ups.0.weight"], expected["ups.0.weight"])


def test_without_weights_nothing_is_told(other: Path) -> None:
    assert not (other / "weights.json").exists()
    assert begin(checkpoint.build(checkpoint.load_plan(other)), checkpoint.load_plan(other)) is None


def test_a_family_is_fetched_to_the_cache(
    data: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fetch(weights: Any, folder: Path | None, listener: Any) -> Path:
        asked.append((weights.name, folder))
        return file

    monkeypatch.setattr(start, "fetch", fetch)
    ask = request(data, tmp_path / "run", {"training.weights": "imagenet"})
    ask = replace(ask, overrides=ask.overrides | {"network.encoder": "resnet18"})
    # The file is of another net, which is told after it was fetched.
    with pytest.raises(ModelError, match=r"encoder\.pth: tensor bn1\.bias does not fit"):
        beginning(ask)
    assert asked == [("imagenet/resnet18", None)]


def test_a_network_that_does_not_fit_leaves_no_run(data: Path, file: Path, tmp_path: Path) -> None:
    settings = {"network.encoder": "plain", "training.weights": str(file)}
    stages: list[str] = []

    def listener(event: object) -> None:
        if isinstance(event, Stage):
            stages.append(event.name)

    with pytest.raises(ModelError, match=r"encoder\.pth: none of the tensors") as caught:
        train(request(data, tmp_path / "run", settings), listener)
    assert caught.value.exit_code == 4
    assert not (tmp_path / "run").exists()
    assert stages == ["inspecting"]


# --- what is said before any data are read -----------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "code", "message"),
    [
        (
            {"training.weights": "imagnet"},
            2,
            r"training\.weights: no such weights \(expected imagenet, medicalnet or a file, got"
            r" .*imagnet\); did you mean imagenet\?$",
        ),
        ({"training.weights": "no/such.pth"}, 2, r"no such weights .*got /.*no/such\.pth\)"),
        ({"training.weights": 3}, 2, r"plan: training\.weights: .*valid string \(got 3\)$"),
        ({"training.init": "no/such/run"}, 4, r"/no/such/run: no trained model here"),
        (
            {"training.init": "a", "training.weights": "imagenet"},
            2,
            r"begins with weights or with a run, not with both; give --weights or --init$",
        ),
    ],
)
def test_a_wrong_name_is_said_before_the_data_are_read(
    tmp_path: Path, settings: dict[str, Any], code: int, message: str
) -> None:
    with pytest.raises(UnetsegError, match=message) as caught:
        # There are no data at all, which would have been the next thing to be said.
        train(request(tmp_path / "none", tmp_path / "run", settings))
    assert caught.value.exit_code == code
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"training.weights": "imagenet", "network.encoder": "plain"},
            r"network\.encoder: there are no imagenet weights for this encoder \(expected"
            r" resnet18, .* or densenet201, got plain\); choose one of them",
        ),
        (
            {"training.weights": "medicalnet", "network.encoder": "resnet18"},
            r"medicalnet weights are for volumes \(expected data in 3-D, got 2-D\); use --weights",
        ),
        (
            {"training.weights": "imagenet", "network.encoder": "densenet201"},
            r"imagenet/densenet201: these weights have no pinned SHA-256",
        ),
    ],
)
def test_what_an_encoder_cannot_begin_with_is_said_when_it_is_planned(
    data: Path, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    ask = replace(request(data, tmp_path / "run"), overrides=settings)
    with pytest.raises(UsageError, match=message):
        plan_for(ask)


def test_paths_are_kept_as_absolute_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    values = {"training.weights": "a.pth", "training.init": Path("runs/b"), "patch.batch": 2}
    assert located(values) == {
        "training.weights": str(tmp_path / "a.pth"),
        "training.init": str(tmp_path / "runs" / "b"),
        "patch.batch": 2,
    }
    for family in FAMILIES:
        assert located({"training.weights": family}) == {"training.weights": family}


def test_a_plan_says_absolute_paths(
    data: Path, other: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(other.parent)
    ask = request(data, tmp_path / "run", {"training.init": other.name})
    assert plan_for(ask)[0].training.init == str(other)
    ask = request(data, tmp_path / "run", RESIDUAL | {"training.weights": file.name})
    assert plan_for(ask)[0].training.weights == str(file)


# --- a run to begin with -----------------------------------------------------------------------


def test_the_network_follows_the_run_it_begins_with(
    data: Path, other: Path, tmp_path: Path
) -> None:
    settings = {"training.init": str(other)}
    plan, _ = plan_for(replace(request(data, tmp_path / "run"), overrides=settings))
    assert plan.network == checkpoint.load_plan(other).network
    reasons = {key: why for key, why in plan.reasons.items() if key.startswith("network.")}
    assert set(reasons.values()) == {"as in the run it begins with"}
    assert plan.reasons["training.init"] == "set by you"
    changed = {"network.encoder": "plain", "network.dropout": 0.25}
    plan, _ = plan_for(replace(request(data, tmp_path / "run"), overrides=settings | changed))
    assert (plan.network.encoder, plan.network.dropout) == ("plain", 0.25)
    assert plan.network.features == (4, 8)
    assert plan.reasons["network.encoder"] == plan.reasons["network.dropout"] == "set by you"
    assert plan.reasons["network.features"] == "as in the run it begins with"


def test_the_same_classes_go_on_where_the_run_ended(
    data: Path, other: Path, tmp_path: Path
) -> None:
    notes, listener = listen()
    outcome = train(request(data, tmp_path / "run", {"training.init": str(other)}), listener)
    assert outcome.finished
    assert any(note.startswith(f"begins with the run {other}: ") for note in notes)
    told = fates(outcome.run)
    assert {fate for fate, _ in told.values()} == {"loaded"}
    assert told.keys() == checkpoint.load(other).network.state_dict().keys()
    _, network, _ = beginning(request(data, tmp_path / "new", {"training.init": str(other)}))
    expected = checkpoint.load(other).network.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())


def test_a_class_keeps_what_its_name_has_learned(other: Path, tmp_path: Path) -> None:
    trained = checkpoint.load(other)
    old = replace(trained.plan.data, class_names=("background", "cell"), class_values=(0, 255))
    trained = replace(trained, plan=replace(trained.plan, data=old))
    new = replace(old, class_names=("background", "edge", "cell"), class_values=(0, 1, 2))
    plan = replace(trained.plan, data=new)
    network = checkpoint.build(plan)
    drawn = network.state_dict()["heads.0.weight"][1].clone()
    loading = carry_over(trained, network, plan)
    before, after = (n.state_dict() for n in (trained.network, network))
    for part in ("weight", "bias"):
        mine, theirs = after[f"heads.0.{part}"], before[f"heads.0.{part}"]
        assert torch.equal(mine[[0, 2]], theirs)
    assert torch.equal(after["heads.0.weight"][1], drawn)
    reason = "rows kept: background, cell; the others are fresh"
    assert loading.adapted == (("heads.0.weight", reason), ("heads.0.bias", reason))
    assert len(loading.loaded) + 2 == len(after)


def test_heads_of_other_classes_begin_fresh(other: Path) -> None:
    trained = checkpoint.load(other)
    data = replace(trained.plan.data, class_names=("nothing", "nucleus"))
    plan = replace(trained.plan, data=data)
    network = checkpoint.build(plan)
    drawn = network.state_dict()["heads.0.weight"].clone()
    loading = carry_over(trained, network, plan)
    assert torch.equal(network.state_dict()["heads.0.weight"], drawn)
    assert loading.fresh == (
        ("heads.0.weight", "other classes"),
        ("heads.0.bias", "other classes"),
    )


def test_data_with_other_classes_can_be_learned_from(
    data: Path, other: Path, tmp_path: Path
) -> None:
    more = with_two_classes(tmp_path / "data")
    settings = {"training.init": str(other), "data.merge_labels": False}
    outcome = train(request(more, tmp_path / "run", settings))
    fate, how = fates(outcome.run)["heads.0.weight"]
    assert (fate, how) == ("adapted", "rows kept: background; the others are fresh")


def test_another_number_of_channels_is_taken(other: Path) -> None:
    trained = checkpoint.load(other)
    plan = replace(trained.plan, data=replace(trained.plan.data, channels=("a", "b")))
    network = checkpoint.build(plan)
    loading = carry_over(trained, network, plan)
    assert loading.adapted == (
        ("encoder.conv1.weight", "the file's 1 channels in turn, times 1/2"),
    )
    network.eval()
    image = torch.randn(1, 1, 16, 16)
    with torch.no_grad():
        # Two equal channels are the one channel.
        one, two = trained.network(image)[0], network(image.expand(1, 2, 16, 16))[0]
    assert torch.allclose(one, two, atol=1e-5)


@pytest.mark.parametrize("encoder", ["residual", "highway"])
def test_blocks_that_are_new_begin_as_the_identity(
    data: Path, other: Path, tmp_path: Path, encoder: str
) -> None:
    # A highway level of one block is its entry alone.
    settings = {"network.encoder": encoder, "network.blocks": (1, 1)}
    run = other if encoder == "residual" else train(request(data, tmp_path / encoder, settings)).run
    deeper = {"training.init": str(run), "network.blocks": (3, 2)}
    plan, network, found = beginning(request(data, tmp_path / "deeper", deeper))
    assert plan.network.encoder == encoder
    assert plan.network.blocks == (3, 2)
    old = checkpoint.load(run).network
    new = [name for name in network.state_dict() if name not in old.state_dict()]
    assert len(new) > 3
    reason = "in a new block, the identity at first"
    assert dict(found.loading.fresh) == dict.fromkeys(new, reason)
    image = torch.randn(2, 1, 32, 32)
    network.eval()
    with torch.no_grad():
        assert torch.equal(network(image)[0], old(image)[0])


def test_a_deeper_network_learns(data: Path, other: Path, tmp_path: Path) -> None:
    settings = {"training.init": str(other), "network.blocks": (2, 1)}
    outcome = train(request(data, tmp_path / "run", settings))
    assert outcome.finished
    assert "2: in a new block" not in (outcome.run / "log.txt").read_text()
    assert (
        "fresh (6: in a new block, the identity at first)" in (outcome.run / "log.txt").read_text()
    )


def test_a_block_that_cannot_be_the_identity_is_said_to_be_drawn(
    data: Path, other: Path, tmp_path: Path
) -> None:
    # After a leaky ReLU no sum with zero is the input.
    settings = {
        "training.init": str(other),
        "network.blocks": (2, 1),
        "network.activation": "leaky_relu",
    }
    _, _, found = beginning(request(data, tmp_path / "run", settings))
    reasons = {reason for _, reason in found.loading.fresh}
    assert reasons == {"in a new block, which cannot be the identity"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network.encoder": "plain"}, r"tensor encoder\.stages\.0\.0\.weight does not fit"),
        ({"network.features": (4, 6)}, r"tensor encoder\.layer2\.0\.\S+ does not fit \(expected"),
        ({"network.skip": "add"}, r"tensor blocks\.0\.0\.weight does not fit"),
        ({"network.norm": "batch"}, r"tensor encoder\.bn1\.running_mean does not fit"),
        ({"network.decoder_blocks": 2}, r"tensor blocks\.0\.\d\.\S+ does not fit .*no such tensor"),
    ],
)
def test_any_other_difference_names_the_tensor(
    data: Path, other: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        train(request(data, tmp_path / "run", {"training.init": str(other)} | changes))
    assert "the plan's network section must be the run's" in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_nothing_is_changed_by_a_run_that_does_not_fit(other: Path) -> None:
    trained = checkpoint.load(other)
    changed = replace(trained.plan.network, decoder_blocks=2, blocks=(2, 1))
    plan = replace(trained.plan, network=changed)
    network = checkpoint.build(plan)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(ModelError, match="does not fit"):
        carry_over(trained, network, plan)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_shallower_network_is_refused(data: Path, tmp_path: Path, other: Path) -> None:
    trained = checkpoint.load(other)
    deep = replace(trained.plan, network=replace(trained.plan.network, blocks=(2, 1)))
    old = replace(trained, plan=deep, networks=(checkpoint.build(deep),))
    with pytest.raises(ModelError, match=r"tensor encoder\.layer1\.1\.\S+ .*expected no such"):
        carry_over(old, checkpoint.build(trained.plan), trained.plan)


def test_heads_of_more_levels_come_and_go(other: Path) -> None:
    trained = checkpoint.load(other)
    # The coarsest of the decoder's levels is never supervised.
    four = replace(
        trained.plan.network,
        levels=4,
        features=(4, 8, 8, 8),
        strides=((1, 1), (2, 2), (2, 2), (2, 2)),
        kernels=((3, 3),) * 4,
        blocks=(1,) * 4,
    )
    plans = [
        replace(trained.plan, network=replace(four, deep_supervision=deep))
        for deep in (False, True)
    ]
    one, two = (replace(trained, plan=plan, networks=(checkpoint.build(plan),)) for plan in plans)
    fresh = carry_over(one, two.network, two.plan).fresh
    assert {name for name, _ in fresh} == {"heads.1.weight", "heads.1.bias"}
    left_out = carry_over(two, one.network, one.plan).left_out
    assert {name for name, _ in left_out} == {"heads.1.weight", "heads.1.bias"}


def test_a_run_of_other_axes_is_refused(other: Path, tmp_path: Path) -> None:
    volumes = write_cubes(tmp_path / "volumes")
    message = r"other: the run to begin with has another number .*\(expected 3-D, got 2-D\)$"
    with pytest.raises(UsageError, match=message):
        plan_for(request(volumes, tmp_path / "run", {"training.init": str(other)}))


def test_a_plan_that_was_edited_is_checked_too(other: Path, file: Path) -> None:
    plan = checkpoint.load_plan(other)
    both = replace(plan.training, init=str(other), weights=str(file))
    with pytest.raises(UsageError, match="not with both"):
        check_start(replace(plan, training=both))
    gone = replace(plan.training, weights="gone.pth")
    with pytest.raises(UsageError, match=r"no such weights .*got gone\.pth"):
        begin(checkpoint.build(plan), replace(plan, training=gone))


# --- going on ----------------------------------------------------------------------------------


def stop_after(steps: int) -> Callable[[], bool]:
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > steps

    return should_stop


def test_a_training_that_goes_on_needs_neither_file_nor_run(
    data: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy.pth"
    copy.write_bytes(file.read_bytes())
    settings = RESIDUAL | {"training.weights": str(copy), "network.norm": "instance"}
    settings["training.epochs"] = 2
    whole = train(request(data, tmp_path / "whole", settings)).run
    first = train(request(data, tmp_path / "run", settings), should_stop=stop_after(2))
    assert not first.finished
    told = (first.run / "weights.json").read_bytes()
    copy.unlink()
    monkeypatch.setattr(start, "fetch", None)
    again = train(request(data, tmp_path / "run", settings))
    assert again.finished
    assert (again.run / "weights.json").read_bytes() == told
    assert (again.run / "log.txt").read_text().count("the encoder begins with") == 1
    one, two = (load_file(run / "last" / "weights.safetensors") for run in (whole, again.run))
    assert all(torch.equal(one[name], two[name]) for name in one)


# --- frozen at first, and slower ---------------------------------------------------------------


class _Watch:
    """The encoder's and the decoder's tensors after every step, by way of the optimiser."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[dict[str, torch.Tensor]] = []
        self.rates: list[tuple[float, ...]] = []
        update = State.update_average
        watch = self

        def watched(state: State, decay: float) -> None:
            tensors = state.network.state_dict()
            watch.steps.append({name: value.clone() for name, value in tensors.items()})
            groups = state.optimiser.param_groups
            watch.rates.append(tuple(group["lr"] for group in groups))
            update(state, decay)

        monkeypatch.setattr(State, "update_average", watched)

    def changed(self, step: int, part: str) -> bool:
        """Whether any tensor of this part, counters aside, differs from the step before."""
        before, after = self.steps[step - 1], self.steps[step]
        names = [n for n in after if n.startswith(part) and "num_batches" not in n]
        assert names
        return any(not torch.equal(before[name], after[name]) for name in names)


FROZEN: dict[str, Any] = {
    "network.encoder": "residual",
    "network.blocks": (1, 1),
    "network.norm": "batch",
    "training.epochs": 2,
    "training.steps_per_epoch": 3,
    "training.frozen_share": 0.5,
    "training.encoder_rate": 0.25,
}


def test_a_frozen_encoder_stays_as_it_is_and_then_learns(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = _Watch(monkeypatch)
    train(request(data, tmp_path / "run", FROZEN))
    # Six steps, of which the first three are frozen.
    assert [watch.changed(step, "encoder.") for step in range(1, 6)] == [False] * 2 + [True] * 3
    assert [watch.changed(step, "ups.") for step in range(1, 6)] == [True] * 5
    statistics = [
        torch.cat([v for n, v in tensors.items() if "encoder." in n and "running" in n])
        for tensors in watch.steps
    ]
    assert torch.equal(statistics[0], statistics[2])
    assert not torch.equal(statistics[2], statistics[3])
    # Before the first step they were zeros and ones: a frozen encoder has not even looked.
    assert set(statistics[0].tolist()) == {0.0, 1.0}


def test_without_a_frozen_share_the_encoder_learns_from_the_first_step(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = _Watch(monkeypatch)
    train(request(data, tmp_path / "run", FROZEN | {"training.frozen_share": 0.0}))
    assert all(watch.changed(step, "encoder.") for step in range(1, 6))


def test_the_encoders_rate_is_a_factor_on_the_others(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = _Watch(monkeypatch)
    train(request(data, tmp_path / "run", FROZEN))
    assert len(watch.rates) == 6
    for encoder, others in watch.rates:
        assert encoder == pytest.approx(0.25 * others)
        assert others > 0


@pytest.mark.parametrize("steps", [1, 4])
def test_frozen_and_slower_resume_bit_for_bit(data: Path, tmp_path: Path, steps: int) -> None:
    whole = train(request(data, tmp_path / "whole", FROZEN)).run
    run = train(request(data, tmp_path / "run", FROZEN), should_stop=stop_after(steps)).run
    train(request(data, run, FROZEN))
    for part in ("last/weights.safetensors", "resume/state.safetensors"):
        one, two = load_file(whole / part), load_file(run / part)
        assert one.keys() == two.keys()
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_training_with_weights_is_planned_with_care(
    data: Path, file: Path, tmp_path: Path
) -> None:
    ask = replace(
        request(data, tmp_path / "run"),
        overrides={"training.weights": str(file), "network.encoder": "residual"},
    )
    plan, _ = plan_for(ask)
    assert (plan.training.encoder_rate, plan.training.frozen_share) == (0.1, 0.05)
    assert (plan.network.norm, plan.network.activation) == ("batch", "relu")


# --- the command line --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--weights", "imagnet"], 2, "did you mean imagenet?"),
        (["--init", "nowhere"], 4, "nowhere: no trained model here"),
        (["--init", "nowhere", "--weights", "imagenet"], 2, "not with both"),
    ],
)
def test_the_command_line_says_it_in_one_line(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    message: str,
) -> None:
    from unetseg import cli

    monkeypatch.chdir(tmp_path)
    for command in ("check", "train"):
        monkeypatch.setattr("sys.argv", ["unetseg", command, str(data), *words])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert caught.value.code == code
        shown = capsys.readouterr()
        assert shown.out == ""
        assert message in shown.err
        assert shown.err.count("\n") == 1


def test_weights_without_an_encoder_choose_one_that_has_them(data: Path, tmp_path: Path) -> None:
    ask = replace(request(data, tmp_path / "run"), overrides={"training.weights": "imagenet"})
    plan, _ = plan_for(ask)
    assert plan.network.encoder == "resnet34"
    assert plan.network.norm == "batch"
    assert plan.training.encoder_rate == 0.1
    bare = replace(ask, overrides={})
    assert plan_for(bare)[0].network.encoder == "plain"
