"""Names that can be chosen: listed without torch, extended without a fork."""

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from unetseg import registry
from unetseg.errors import UsageError
from unetseg.registry import ENCODERS, FORMATS, SKIPS, TASKS, Registry

ALL = [ENCODERS, SKIPS, TASKS, FORMATS]


def run(code):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )


def command(*words):
    """Code that runs a command in its process."""
    return (
        f"import sys; sys.argv = {['unetseg', *words]}\nfrom unetseg.cli import app\n"
        "try:\n    app()\nexcept SystemExit as end:\n    assert not end.code"
    )


@pytest.mark.parametrize(
    "code",
    [
        "import unetseg",
        "import unetseg.registry as r; print([list(x) for x in (r.ENCODERS, r.SKIPS, r.TASKS)])",
        "import unetseg.formats; print(unetseg.formats.suffixes())",
        "import unetseg.planning",
        command("--help"),
        command("list", "encoders"),
        command("list", "skips", "--json"),
    ],
    ids=["package", "listing", "formats", "planning", "help", "encoders", "skips"],
)
def test_torch_and_monai_are_not_loaded_for(code):
    done = run(code + "\nimport sys\nassert not {'torch', 'monai'} & sys.modules.keys()")
    assert done.returncode == 0, done.stderr


def test_the_check_above_would_see_torch():
    done = run("import torch, sys\nassert not {'torch', 'monai'} & sys.modules.keys()")
    assert "AssertionError" in done.stderr


@pytest.mark.parametrize("names", ALL, ids=lambda names: names.noun)
def test_every_name_loads_something_that_can_be_called(names):
    assert len(names) == len(list(names)) > 0
    for name in names:
        assert callable(names.load(name))
        assert names[name].group == names.group


@pytest.fixture
def installed(monkeypatch):
    """What a third-party package would declare, without installing one."""
    entries = [
        EntryPoint("mine", "collections:OrderedDict", "unetseg.encoders"),
        EntryPoint("plain", "collections:deque", "unetseg.encoders"),
        EntryPoint("broken", "collections:NoSuchThing", "unetseg.encoders"),
        EntryPoint("absent", "no_such_package_anywhere:build", "unetseg.encoders"),
        EntryPoint("elsewhere", "collections:Counter", "unetseg.skips"),
    ]
    monkeypatch.setattr(
        registry, "entry_points", lambda *, group: [e for e in entries if e.group == group]
    )


def test_an_installed_package_adds_a_name(installed):
    from collections import OrderedDict

    assert "mine" in ENCODERS
    assert "mine" not in SKIPS
    assert ENCODERS.load("mine") is OrderedDict


def test_without_it_the_name_is_unknown():
    assert "mine" not in ENCODERS


def test_a_package_cannot_replace_a_builtin_name(installed):
    from unetseg.nets.plain import PlainEncoder

    assert ENCODERS.load("plain") is PlainEncoder
    assert list(ENCODERS).count("plain") == 1


@pytest.mark.parametrize(
    ("name", "reason"), [("broken", "NoSuchThing"), ("absent", "no_such_package_anywhere")]
)
def test_a_name_whose_package_is_broken_is_named(installed, name, reason):
    with pytest.raises(UsageError, match=f"{name}: the encoder cannot be loaded: .*{reason}"):
        ENCODERS.load(name)


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(UsageError, match=r"no such encoder \(got plane\); did you mean plain\?"):
        ENCODERS.load("plane")


def test_an_unknown_name_far_from_all_gets_the_list():
    names = Registry("thing", "unetseg.things", {"b": "collections:deque", "a": "collections:abc"})
    with pytest.raises(UsageError, match=r"no such thing \(got zzz\); known: a, b"):
        names.load("zzz")


def test_an_unknown_key_is_a_key_error_as_in_any_mapping():
    with pytest.raises(KeyError):
        ENCODERS["plane"]
    assert ENCODERS.get("plane") is None
