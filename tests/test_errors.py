"""One line per failure: what, where, expected, got, what to do."""

import pytest

from unetseg import errors
from unetseg.errors import DataError, UnetsegError, UsageError, nearest, one_line


def test_all_parts_stand_in_one_line_in_order():
    error = DataError("wrong shape", where="a.nii", expected=(2, 3), got=(2, 4), hint="crop it")
    assert str(error) == "a.nii: wrong shape (expected (2, 3), got (2, 4)); crop it"


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        ({}, "wrong"),
        ({"where": "a.nii"}, "a.nii: wrong"),
        ({"expected": 3}, "wrong (expected 3)"),
        ({"got": 0}, "wrong (got 0)"),
        ({"hint": "mend it"}, "wrong; mend it"),
    ],
)
def test_parts_that_were_not_given_leave_no_trace(parts, line):
    assert str(UnetsegError("wrong", **parts)) == line


@pytest.mark.parametrize("character", ["\n", "\r", "\t", "\x1b", "\x7f", "\x85", "\x9b", "\u2028"])
def test_control_characters_become_escapes(character):
    text = one_line(f"a{character}b")
    assert text == "a" + repr(character)[1:-1] + "b"
    assert character not in str(DataError("wrong", where=f"x{character}y"))


def test_other_characters_stay():
    assert one_line("Größe 5 µm, 脳") == "Größe 5 µm, 脳"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("UsageError", 2),
        ("DataError", 3),
        ("ShapeMismatch", 3),
        ("ModelError", 4),
        ("DeviceError", 5),
    ],
)
def test_exit_codes(name, code):
    kind = getattr(errors, name)
    assert kind.exit_code == code
    assert issubclass(kind, UnetsegError)


def test_a_shape_mismatch_is_a_data_error_but_no_usage_error():
    assert issubclass(errors.ShapeMismatch, DataError)
    assert not issubclass(errors.ShapeMismatch, UsageError)


def test_nearest_names_the_closest_word():
    assert nearest("concta", ["add", "concat", "none"]) == "did you mean concat?"


def test_nearest_lists_all_when_none_is_close():
    assert nearest("zzz", ["none", "add"]) == "known: add, none"
