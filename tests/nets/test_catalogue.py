"""The table of what encoders and skips cost, compared with the networks themselves."""

import runpy
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from unetseg.catalogue import parse_catalogue, read_catalogue
from unetseg.planning.architectures import architecture
from unetseg.registry import ENCODERS, SKIPS

# The script that wrote the table, not run as such.
SCRIPT = runpy.run_path(str(Path(__file__).parents[1] / "golden" / "catalogue.py"))
BUILTIN = {"encoders": SCRIPT["builtin"](ENCODERS), "skips": SCRIPT["builtin"](SKIPS)}
# Half a second and more each; together they would be half of what all other tests here take.
DEEP = ("resnet34", "resnet5", "resnet1", "densenet")


def is_deep(name):
    return name.startswith(DEEP) and name != "resnet18"


def measured(kind, name):
    """The table as if nothing but this stood in it, from the real modules."""
    entry = SCRIPT["encoder_entry" if kind == "encoders" else "skip_entry"](name)
    empty = {"patches": SCRIPT["PATCHES"], "encoders": {}, "skips": {}}
    return getattr(parse_catalogue(empty | {kind: {name: entry}}), kind)[name]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        pytest.param(kind, name, marks=[pytest.mark.slow] if is_deep(name) else [])
        for kind, names in BUILTIN.items()
        for name in names
    ],
)
def test_the_table_says_what_the_network_costs(kind, name):
    assert getattr(read_catalogue(), kind)[name] == measured(kind, name)


def test_another_network_is_seen():
    """The negative twin, in each of the figures."""
    plain, other = read_catalogue().encoders["plain"], measured("encoders", "highway")
    for axes in SCRIPT["PATCHES"]:
        one, two = plain.figures[axes], other.figures[axes]
        for field in ("parameters", "encoder_parameters", "flops", "memory_bytes"):
            assert getattr(one, field) != getattr(two, field)
    assert measured("skips", "add") != read_catalogue().skips["concat"]


def test_the_table_holds_every_builtin_name_and_no_other():
    table = read_catalogue()
    assert list(table.encoders) == BUILTIN["encoders"]
    assert list(table.skips) == BUILTIN["skips"]
    assert dict(table.patches) == SCRIPT["PATCHES"]


def test_an_installed_package_is_not_part_of_it():
    mine = EntryPoint("mine", "my_package:build", ENCODERS.group)
    assert SCRIPT["builtin"]({"plain": ENCODERS["plain"], "mine": mine}) == ["plain"]


@pytest.mark.parametrize("name", BUILTIN["encoders"])
def test_a_network_is_as_deep_as_its_name_says(name):
    for axes, figures in read_catalogue().encoders[name].figures.items():
        assert figures.levels == (architecture(name).levels or SCRIPT["LEVELS"])
        smallest = min(SCRIPT["PATCHES"][axes]) // 2 ** (figures.levels - 1)
        assert smallest >= 2
        assert figures.encoder_parameters < figures.parameters


def test_the_skip_concat_costs_what_the_encoder_plain_costs():
    """It is the same network, written down twice."""
    table = read_catalogue()
    assert table.skips["concat"].figures == table.encoders["plain"].figures
    assert table.skips["add"].figures != table.encoders["plain"].figures


def test_published_weights_are_those_of_originals():
    weights = {name: entry.weights for name, entry in read_catalogue().encoders.items()}
    assert weights["resnet50"] == ("imagenet", "medicalnet")
    assert weights["densenet121"] == ("imagenet",)
    assert not any(names for name, names in weights.items() if not architecture(name).is_original)
    assert not any(entry.weights for entry in read_catalogue().skips.values())
