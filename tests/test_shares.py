"""Processes that know nothing of one another divide the scans: each is done, and done once."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from itertools import chain
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from cubes import cube, request, write_cubes
from hypothesis import given
from hypothesis import strategies as st

from unetseg.errors import UsageError
from unetseg.prediction import Request, manifest, predict
from unetseg.prediction.shares import Share, share_of
from unetseg.training import train

PATIENCE = 120


def array(number: int, first: int, last: int, count: int | None = None) -> dict[str, str]:
    """The variables of a SLURM array task."""
    values = {"ID": number, "MIN": first, "MAX": last, "COUNT": count or last - first + 1}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


# --- which share -------------------------------------------------------------------------------


@given(st.lists(st.integers(), max_size=40), st.integers(1, 9))
def test_shares_are_the_whole_and_nothing_twice(things: list[int], count: int) -> None:
    parts = [share_of(f"{index}/{count}", {}).of(things) for index in range(count)]
    assert Counter(chain.from_iterable(parts)) == Counter(things)
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("text", "environment", "share"),
    [
        ("0/4", {}, Share(0, 4)),
        ("3/4", array(0, 0, 1), Share(3, 4)),
        ("auto", array(0, 0, 7), Share(0, 8)),
        ("auto", array(8, 1, 8), Share(7, 8)),
        ("auto", array(5, 5, 5), Share(0, 1)),
        # A part of the array given again.
        ("auto/8", array(5, 5, 5), Share(5, 8)),
        ("auto/8", array(5, 3, 5, 2), Share(5, 8)),
        ("auto", {"RANK": "2", "WORLD_SIZE": "3"}, Share(2, 3)),
        ("auto", {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}, Share(3, 4, card=1)),
        ("auto/4", {"RANK": "3", "WORLD_SIZE": "4"}, Share(3, 4)),
        ("auto/6", {"JOB_COMPLETION_INDEX": "5"}, Share(5, 6)),
    ],
)
def test_a_share_is_what_the_scheduler_says(
    text: str, environment: Mapping[str, str], share: Share
) -> None:
    assert share_of(text, environment) == share


@pytest.mark.parametrize(
    ("text", "environment", "message"),
    [
        ("4/4", {}, r"--shard 4/4: no such share \(expected a number from 0 to 3, got 4\)"),
        ("0/0", {}, "no such share .*shares of 1 or more"),
        ("-1/4", {}, "not a share .*0/4 to 3/4"),
        ("1", {}, "not a share"),
        ("auto/", {}, "not a share"),
        ("auto", {}, "no scheduler says which share this is .*got none of them.*--shard 0/4"),
        ("auto", array(0, 0, 1) | {"RANK": "0"}, "several schedulers say"),
        ("auto", {"JOB_COMPLETION_INDEX": "1"}, "does not say of how many; .*auto/8"),
        ("auto/4", {"JOB_COMPLETION_INDEX": "4"}, "no such share .*from 0 to 3, got 4"),
        # 1,3,9: one of the shares would never be done.
        ("auto", array(3, 1, 9, 3), "leave gaps .*3 numbers in a row, got 1 to 9"),
        ("auto", array(0, 0, 1) | {"SLURM_ARRAY_TASK_ID": "x"}, "_ID: not a number .got x"),
        ("auto", {"RANK": "0"}, "WORLD_SIZE: not a number .got nothing"),
        ("auto/3", {"RANK": "0", "WORLD_SIZE": "4"}, "not the number of torchrun's .*4, got 3"),
    ],
)
def test_what_is_no_share_is_one_line(
    text: str, environment: Mapping[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        share_of(text, environment)
    assert "\n" not in str(caught.value)


# --- files -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shares")
    return train(request(write_cubes(folder / "data", 3), folder / "run")).run


def write_scans(folder: Path, count: int, size: int = 16) -> Path:
    folder.mkdir()
    for number in range(count):
        picture = nib.Nifti1Image(cube((size,) * 3, number)[0], np.eye(4))
        picture.header.set_xyzt_units("mm")
        nib.save(picture, folder / f"s{number}.nii.gz")
    return folder


def manifests(folder: Path) -> dict[str, dict[str, str]]:
    """The status of each mask, by manifest."""
    found = {}
    for path in folder.glob("manifest*.json"):
        files = json.loads(path.read_text())["files"]
        found[path.name] = {name: entry["status"] for name, entry in files.items()}
    return found


def test_each_share_has_its_scans_and_its_manifest(run: Path, tmp_path: Path) -> None:
    scans, out = write_scans(tmp_path / "scans", 5), tmp_path / "out"
    parts = []
    for index in range(2):
        # In whichever order a shell lists them.
        listed = sorted(scans.iterdir(), reverse=index == 1)
        asked = Request(listed, model=run, output=out, device="cpu", shard=f"{index}/2")
        parts.append([record.path.name[:2] for record in predict(asked)])
    assert parts == [["s0", "s2", "s4"], ["s1", "s3"]]
    assert manifests(out) == {
        "manifest_0-of-2.json": {f"s{k}_seg.nii.gz": "done" for k in (0, 2, 4)},
        "manifest_1-of-2.json": {f"s{k}_seg.nii.gz": "done" for k in (1, 3)},
    }
    assert json.loads((out / "manifest_1-of-2.json").read_text())["shard"] == "1/2"
    # Another division finds all of it done, and tells nothing of it twice.
    asked = Request([scans], model=run, output=out, device="cpu", shard="0/1")
    assert [record.status for record in predict(asked)] == ["skipped"] * 5
    assert sum(len(files) for files in manifests(out).values()) == 5


def test_commands_at_once_keep_each_others_lines(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without shares: batch jobs that predict different scans into one folder."""
    scans, read = write_scans(tmp_path / "scans", 3), manifest._files

    def reading_takes_long(path: Path) -> dict[str, Any]:
        found = read(path)
        time.sleep(0.3)
        return found

    def go(out: Path) -> set[str]:
        with ThreadPoolExecutor(3) as pool:
            for number in range(3):
                asked = Request([scans / f"s{number}.nii.gz"], model=run, output=out, device="cpu")
                pool.submit(predict, asked)
        return set(manifests(out)["manifest.json"])

    monkeypatch.setattr(manifest, "_files", reading_takes_long)
    assert go(tmp_path / "out") == {f"s{k}_seg.nii.gz" for k in range(3)}
    monkeypatch.setattr(manifest, "_alone", lambda folder: nullcontext())
    assert len(go(tmp_path / "other")) < 3


def start(
    run: Path, scans: Path, out: Path, *words: str, **variables: str
) -> "subprocess.Popen[str]":
    line = [sys.executable, "-m", "unetseg.cli", "predict", str(scans), "-o", str(out)]
    return subprocess.Popen(
        [*line, "--model", str(run), "--device", "cpu", *words],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_masks(out: Path, count: int) -> list[Path]:
    deadline = time.monotonic() + PATIENCE
    while len(found := sorted(out.glob("s*_seg.nii.gz"))) < count:
        assert time.monotonic() < deadline, "no mask appears"
        time.sleep(0.005)
    return found


@pytest.mark.slow
def test_a_share_that_is_killed_is_made_up_for(run: Path, tmp_path: Path) -> None:
    """Two tasks of an array, the second killed between masks or in the middle of one."""
    scans, out = write_scans(tmp_path / "scans", 10, 48), tmp_path / "out"
    # Mirrored windows: long enough for a kill between the first mask and the last.
    words = ["--shard", "auto", "--probabilities", "--tta"]
    second = start(run, scans, out, *words, **array(1, 0, 1))
    wait_for_masks(out, 1)
    second.send_signal(signal.SIGKILL)
    second.communicate(timeout=PATIENCE)
    before = {path.name: path.stat() for path in out.glob("s*_seg.nii.gz")}
    assert 0 < len(before) < 5
    assert set(before) <= {f"s{k}_seg.nii.gz" for k in range(10)}
    both = [start(run, scans, out, *words, **array(k, 0, 1)) for k in range(2)]
    told = []
    for process in both:
        output, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, errors
        told.append(re.findall(r"s\d+_seg\.nii\.gz", output))
    assert sorted(chain.from_iterable(told)) == sorted(f"s{k}_seg.nii.gz" for k in range(10))
    # Whole files only, and nothing that the killed one has left.
    names = sorted(path.name for path in out.iterdir())
    kinds = Counter(re.sub(r"^s\d+|_[01]-of-2", "", name) for name in names)
    assert kinds == {"_seg.nii.gz": 10, "_prob.nii.gz": 10, "manifest.json": 2}
    for path in out.glob("*.nii.gz"):
        assert np.asarray(nib.load(path).dataobj).shape[:3] == (48, 48, 48)
    # What was done was not done again.
    for name, stat in before.items():
        now = (out / name).stat()
        assert (now.st_mtime_ns, now.st_ino) == (stat.st_mtime_ns, stat.st_ino)
