"""The plan in TOML: complete, readable, and strict about typing errors."""

import json
import tomllib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unetseg.config import (
    Plan,
    check_keys,
    check_values,
    from_values,
    make_plan,
    parse_settings,
    plan_keys,
    to_values,
)
from unetseg.config.toml import describe, read_plan, write_plan
from unetseg.errors import UsageError

QUICK = settings(max_examples=40, deadline=None)

VALUES = {
    "data.task": "semantic",
    "data.dimensions": 3,
    "data.channels": ("CT",),
    "data.unit": "mm",
    "data.spacing": (0.8, 0.8, 2.5),
    "data.orientation": "canonical",
    "data.normalisation": "clip_zscore",
    "data.clip": ((-100.0, 240.5),),
    "data.mean": (40.25,),
    "data.std": (17.0,),
    "data.class_names": ("background", "liver"),
    "data.class_values": (0, 255),
    "patch.size": (32, 32, 16),
    "patch.batch": 2,
    "network.encoder": "plain",
    "network.skip": "concat",
    "network.levels": 2,
    "network.features": (8, 16),
    "network.strides": ((1, 1, 1), (2, 2, 1)),
    "network.kernels": ((3, 3, 1), (3, 3, 3)),
    "network.blocks": (2, 1),
    "network.deep_supervision": False,
    "training.seed": 0,
    "training.fold": 0,
    "training.folds": 5,
    "training.epochs": 10,
    "training.steps_per_epoch": 25,
    "training.learning_rate": 1e-05,
    "training.weight_decay": 0.0,
    "training.warmup_steps": 0,
    "training.gradient_clip": 12.0,
    "training.average_decay": 0.99,
    "training.foreground_share": 0.33,
    "training.dice_weight": 1.0,
    "training.cross_entropy_weight": 1.0,
    "training.precision": "float32",
    "training.validation_cases": 4,
    "training.augment.mirror_axes": (1, 2),
    "training.augment.spatial_probability": 0.3,
    "training.augment.rotation_degrees": (15.0, 0.0, 0.0),
    "training.augment.scale": (0.8, 1.25),
    "training.augment.intensity_probability": 0.2,
    "training.augment.brightness": (0.75, 1.25),
    "training.augment.contrast": (0.75, 1.25),
    "training.augment.gamma": (0.7, 1.5),
    "training.augment.noise": 0.1,
    "training.augment.blur": 1.0,
    "decode.overlap": 0.5,
}


def plan(reasons=None, **changes):
    named = {name.replace("__", "."): value for name, value in changes.items()}
    return make_plan({**VALUES, **named}, reasons or {})


def lines(text, name):
    return [line for line in text.splitlines() if line.startswith(f"{name} =")]


def test_a_plan_survives_its_file_with_its_reasons(tmp_path):
    reasons = {
        "data.spacing": "median of the scans",
        "network.deep_supervision": "costs more than it is worth",
        "training.augment.mirror_axes": "classes are named left or right",
        "decode.mirror": "slower # twice",
    }
    before = plan(reasons, data__merge_labels=True)
    write_plan(before, tmp_path / "plan.toml")
    after = read_plan(tmp_path / "plan.toml")
    assert after == before
    assert dict(after.reasons) == reasons


def test_the_file_is_toml_that_another_reader_understands():
    text = describe(plan({"network.deep_supervision": "too slow"}))
    tree = tomllib.loads(text)
    assert list(tree) == ["data", "patch", "network", "training", "decode"]
    assert tree["data"]["spacing"] == [0.8, 0.8, 2.5]
    assert tree["data"]["class_values"] == [0, 255]
    assert tree["network"]["strides"] == [[1, 1, 1], [2, 2, 1]]
    assert tree["network"]["deep_supervision"] is False
    assert tree["training"]["learning_rate"] == 1e-5
    assert tree["training"]["augment"]["mirror_axes"] == [1, 2]
    assert lines(text, "deep_supervision") == ["deep_supervision = false # too slow"]


def test_an_absent_value_is_an_absent_key(tmp_path):
    assert not lines(describe(plan()), "minutes")
    assert not lines(describe(plan()), "ignore_value")
    given_ = plan(training__minutes=2.5, data__ignore_value=-1)
    assert lines(describe(given_), "minutes") == ["minutes = 2.5"]
    write_plan(given_, tmp_path / "plan.toml")
    again = read_plan(tmp_path / "plan.toml")
    assert (again.training.minutes, again.data.ignore_value) == (2.5, -1)
    assert again != plan()


def test_reasons_are_no_part_of_the_plan():
    assert plan({"data.task": "because"}) == plan()
    assert plan(training__seed=1) != plan()


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1)


@given(
    channels=st.lists(texts, min_size=1, max_size=3),
    values=st.lists(st.integers(-(2**31), 2**31).filter(bool), min_size=1, unique=True),
    names=texts,
    rate=st.floats(1e-12, 1e6, exclude_min=True),
    merged=st.booleans(),
)
@QUICK
def test_any_plan_survives_its_file(tmp_path_factory, channels, values, names, rate, merged):
    before = plan(
        data__channels=tuple(channels),
        data__class_values=(0, *values),
        data__class_names=("background", *[f"{names}{value}" for value in values]),
        data__merge_labels=merged,
        training__learning_rate=rate,
    )
    path = tmp_path_factory.mktemp("plan") / "plan.toml"
    write_plan(before, path)
    assert read_plan(path) == before
    assert from_values(json.loads(json.dumps(to_values(before))), where="x") == before


def test_values_and_back():
    before = plan()
    values = to_values(before)
    assert "reasons" not in values
    assert values["training"]["augment"]["gamma"] == (0.7, 1.5)
    assert from_values(values, where="model.json") == before
    values["patch"]["batch"] = 3
    assert from_values(values, where="model.json") != before


def test_a_plan_cannot_be_changed():
    with pytest.raises(AttributeError, match="cannot assign"):
        plan().patch.batch = 4


def test_the_keys_of_a_plan():
    keys = plan_keys()
    network = (
        "decoder_blocks block preactivation shortcut growth gate_bias norm activation dropout"
        " stochastic_depth recompute"
    )
    training = (
        "group minutes anneal_share patience passes weights init encoder_rate frozen_share"
        " validation_every snapshots dice_over class_weights distance_weight"
    )
    decode = (
        "window mirror largest_component min_size fill_holes"
        " foreground seed_depth seed_centre contrast smoothing"
    )
    augment = "elastic intensity_per_channel low_resolution growth"
    optional = {
        "data.merge_labels",
        "data.ignore_value",
        "data.regions",
        *(f"network.{name}" for name in network.split()),
        *(f"training.{name}" for name in training.split()),
        *(f"training.augment.{name}" for name in augment.split()),
        *(f"decode.{name}" for name in decode.split()),
    }
    assert set(keys) == {*VALUES, *optional}
    assert len(keys) == len(set(keys))


# --- what is wrong is named ---


def test_without_a_budget_there_is_a_steady_rate_to_watch_the_score_at():
    values = {key: value for key, value in VALUES.items() if key != "training.epochs"}
    assert make_plan(values | {"training.anneal_share": 0.3}, {}).training.epochs is None
    with pytest.raises(UsageError, match=r"anneal_share must be below 1 without training\.minutes"):
        make_plan(values, {})


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("training.epoch", r"did you mean training\.epochs\?"),
        ("patch.sise", r"did you mean patch\.size\?"),
        ("trainng.augment.gama", r"did you mean training\.augment\.gamma\?"),
    ],
)
def test_an_unknown_key_gets_the_nearest(key, hint):
    with pytest.raises(UsageError, match=f"plan: no such plan key .got {key}.; {hint}"):
        check_keys({key: 1}, where="plan")


def test_known_keys_pass():
    check_keys(dict.fromkeys(plan_keys(), 1), where="plan")


WRONG = [
    ("data.dimensions", 4, "data.dimensions: Input should be 2 or 3"),
    ("data.unit", "cm", "data.unit: Input should be 'mm', 'um' or 'px'"),
    ("data.spacing", (1.0, 0.0, 1.0), r"data\.spacing\.1: Input should be greater than 0"),
    ("data.normalisation", "zscor", "data.normalisation: Input should be"),
    ("patch.batch", 0, "patch.batch: Input should be greater than or equal to 1"),
    ("patch.batch", "two", r"patch\.batch: .*valid integer.* \(got two\)"),
    ("patch.size", 64, r"patch\.size: .*valid tuple"),
    ("network.levels", "many", r"network\.levels: .*valid integer.* \(got many\)"),
    ("network.deep_supervision", "maybe", r"network\.deep_supervision: .*valid boolean"),
    ("training.learning_rate", float("inf"), r"training\.learning_rate: .*finite number"),
    ("training.foreground_share", 1.5, r"training\.foreground_share: .*less than or equal to 1"),
    ("training.precision", "float8", r"training\.precision: Input should be 'float32'"),
    ("training.augment.scale", (0.5, 1.0, 2.0), r"training\.augment\.scale"),
    ("training.augment.mirror_axes", (3,), r"training\.augment\.mirror_axes\.0"),
    ("decode.overlap", 1.0, r"decode\.overlap: Input should be less than 1"),
]


@pytest.mark.parametrize(("key", "value", "message"), WRONG)
def test_a_wrong_value_is_named_by_its_key(key, value, message):
    with pytest.raises(UsageError, match=f"plan: {message}"):
        make_plan({**VALUES, key: value}, {})
    with pytest.raises(UsageError, match=f"--set: {message}"):
        check_values({key: value}, where="--set")


def test_values_that_are_right_by_themselves_pass():
    assert check_values(VALUES, where="--set") == VALUES
    assert check_values({"patch.size": [8, 8, 8]}, where="--set") == {"patch.size": (8, 8, 8)}
    assert check_values({"training.minutes": None}, where="--set") == {"training.minutes": None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network.features": (8,)}, r"network\.features needs one entry per level \(2\), got 1"),
        ({"network.blocks": (1, 1, 1)}, r"network\.blocks needs one entry per level"),
        ({"patch.size": (8, 8)}, r"patch\.size needs one entry per axis \(3\), got 2"),
        ({"data.spacing": (1.0,)}, r"data\.spacing needs one entry per axis"),
        ({"network.strides": ((1, 1, 1), (2, 2))}, r"network\.strides\[1\] needs one entry"),
        ({"network.kernels": ((3, 3), (3, 3, 3))}, r"network\.kernels\[0\] needs one entry"),
        ({"network.strides": ((2, 1, 1), (2, 2, 1))}, r"network\.strides\[0\] must be all ones"),
        ({"network.kernels": ((3, 3, 2), (3, 3, 3))}, r"network\.kernels must be odd"),
        ({"data.class_names": ("background",)}, r"class_names and data\.class_values differ"),
        ({"data.class_values": (1, 2)}, r"data\.class_values must begin with 0"),
        (
            {"data.class_values": (0,), "data.class_names": ("background",)},
            r"data\.class_values must begin with 0 and hold one class more",
        ),
        ({"training.fold": 5}, r"training\.fold must be below training\.folds \(5\)"),
        ({"data.dimensions": 2}, r"needs one entry per axis \(2\), got 3"),
    ],
)
def test_values_that_do_not_fit_together(changes, message):
    with pytest.raises(UsageError, match=message):
        make_plan({**VALUES, **changes}, {})


def test_a_missing_value_is_named():
    without = {key: value for key, value in VALUES.items() if key != "patch.batch"}
    with pytest.raises(UsageError, match=r"plan: patch\.batch: Field required"):
        make_plan(without, {})


def edited(tmp_path, old, new):
    path = tmp_path / "plan.toml"
    text = describe(plan())
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    return path


def test_an_edit_is_read(tmp_path):
    path = edited(tmp_path, "epochs = 10", "epochs = 11  # by me")
    again = read_plan(path)
    assert again == replace(plan(), training=replace(plan().training, epochs=11))
    assert again.reasons["training.epochs"] == "by me"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("epochs = 10", "epoch = 10", r"plan\.toml: no such plan key .*training\.epochs\?"),
        ("epochs = 10", "epochs = 0", r"plan\.toml: training\.epochs: .*greater than"),
        ("epochs = 10", "epochs = ", r"plan\.toml: not TOML: .*"),
        ("epochs = 10", "epochs = 10\nepochs = 11", r"plan\.toml: not TOML: .*epochs"),
        ("[decode]", "[decod]", r"plan\.toml: no such plan key .*decode\.overlap\?"),
    ],
)
def test_a_wrong_edit_is_named_with_its_file(tmp_path, old, new, message):
    with pytest.raises(UsageError, match=message):
        read_plan(edited(tmp_path, old, new))


def test_files_that_are_no_plan(tmp_path):
    with pytest.raises(UsageError, match=r"none\.toml: cannot be read: No such file"):
        read_plan(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"binary\.toml: not TOML"):
        read_plan(tmp_path / "binary.toml")
    (tmp_path / "empty.toml").write_text("")
    with pytest.raises(UsageError, match=r"empty\.toml: data: Field required"):
        read_plan(tmp_path / "empty.toml")


# --- settings from the command line ---


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("training.epochs=8", 8),
        ("training.learning_rate = 1e-3", 1e-3),
        ("patch.size=[64, 64, 32]", [64, 64, 32]),
        ("decode.mirror=true", True),
        ("network.encoder=plain", "plain"),
        ('network.encoder="plain"', "plain"),
        ("data.class_names=['a', 'b=c']", ["a", "b=c"]),
    ],
)
def test_a_setting_is_read_as_toml_and_else_as_text(setting, value):
    parsed = parse_settings((setting,))
    assert list(parsed.values()) == [value]
    assert type(next(iter(parsed.values()))) is type(value)


def test_several_settings():
    assert parse_settings(("training.epochs=8", "training.seed=1", "training.epochs=9")) == {
        "training.epochs": 9,
        "training.seed": 1,
    }
    assert parse_settings(()) == {}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.epochs", r"--set: not a setting \(expected key=value, got training\.epochs\)"),
        ("training.epohs=3", r"--set: no such plan key .*did you mean training\.epochs\?"),
        ("=3", "--set: no such plan key"),
    ],
)
def test_settings_that_are_wrong(setting, message):
    with pytest.raises(UsageError, match=message):
        parse_settings((setting,))


def test_make_plan_makes_a_plan():
    assert isinstance(plan(), Plan)
    assert plan().network.norm == "instance"
