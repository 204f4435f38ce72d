"""Files appear whole or not at all."""

from pathlib import Path

import pytest

from unetseg.errors import DataError
from unetseg.files import append_line, remove_unfinished, replacing, write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_file_appears_at_the_end_of_the_block_only(tmp_path):
    path = tmp_path / "mask.nii.gz"
    with replacing(path) as temporary:
        temporary.write_bytes(b"new")
        assert not path.exists()
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".")
        assert temporary.name.endswith("mask.nii.gz")
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["mask.nii.gz"]


@pytest.mark.parametrize("failure", [RuntimeError("broken"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_no_rest(tmp_path, failure):
    path = tmp_path / "plan.toml"
    path.write_text("old")
    with pytest.raises(type(failure)), replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise failure
    assert path.read_text() == "old"
    assert names(tmp_path) == ["plan.toml"]


def test_missing_folders_are_made(tmp_path):
    write_text(tmp_path / "a" / "b" / "c.txt", "µm\n")
    assert (tmp_path / "a" / "b" / "c.txt").read_bytes() == "µm\n".encode()


def test_an_existing_file_is_replaced(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("a longer text than the new one")
    write_text(path, "new")
    assert path.read_text() == "new"


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file/a\.txt: cannot be written: .*; check the folder"):
        write_text(tmp_path / "file" / "a.txt", "text")


def test_a_target_that_is_a_folder_leaves_no_rest(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="out: cannot be written"):
        write_text(tmp_path / "out", "text")
    assert names(tmp_path) == ["out"]


def test_a_full_disk_is_named(tmp_path):
    path = tmp_path / "a.txt"
    with pytest.raises(DataError, match="No space left on device"), replacing(path):
        raise OSError(28, "No space left on device")
    assert names(tmp_path) == []


def test_lines_are_appended(tmp_path):
    path = tmp_path / "log.txt"
    for line in ("one µm", "two \udce4"):
        append_line(path, line)
    assert path.read_bytes() == "one µm\ntwo \\udce4\n".encode()


def test_a_line_for_a_full_disk_is_an_error_that_names_the_file():
    if not Path("/dev/full").exists():
        pytest.skip("no device that is always full")
    with pytest.raises(DataError, match=r"^/dev/full: cannot be written: No space left on device;"):
        append_line(Path("/dev/full"), "line")


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path):
    left = [".0123abcd.plan.toml", ".ffffffff.state.safetensors", ".tmpIQt1UB"]
    others = [".git", ".0123abcd", ".0123abcg.plan.toml", ".tmpfolders", "plan.toml", ".tmp.nii.gz"]
    for name in (*left, *others):
        (tmp_path / name).write_text("")
    (tmp_path / ".01234567.masks").mkdir()
    remove_unfinished(tmp_path)
    assert names(tmp_path) == sorted([*others, ".01234567.masks"])
    remove_unfinished(tmp_path / "nowhere")
