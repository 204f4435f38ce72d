"""The command as a person calls it: text, JSON, the page, exit codes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made import volume, write_pictures, write_volume, write_volumes
from typer.testing import CliRunner

from unetseg.cli import app
from unetseg.errors import UsageError

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def call(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "unetseg.cli", "check", *map(str, words), "--device", "cpu"],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=ENVIRONMENT,
    )


def test_json_and_page_of_a_set_with_a_fault(tmp_path: Path) -> None:
    data = write_volumes(tmp_path / "data")
    image, labels = volume(4)
    write_volume(data, "case_4<b>", image, labels[:, :, ::-1])
    (data / "imagesTr" / "case_4.nii").unlink()
    (data / "labelsTr" / "case_4.nii").unlink()
    done = call(tmp_path, data, "--json", "--html")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    (finding,) = [row["finding"] for row in rows if "finding" in row]
    assert finding["kind"] == "mask-flip"
    assert finding["severity"] == "warning"
    assert finding["where"] == str(data / "labelsTr" / "case_4<b>.nii")
    assert finding["cases"] == ["case_4<b>"]
    assert [next(iter(row)) for row in rows] == ["finding", "data", "estimates", "plan"]
    assert len(rows[1]["data"]["digest"]) == 32
    assert rows[3]["plan"]["data"]["dimensions"] == 3
    page = (tmp_path / "check.html").read_text()
    assert "case_4<b>" not in page
    assert "case_4&lt;b&gt;" in page
    links = set(re.findall(r'href="#(case-\d+)"', page))
    assert len(links) == 1
    assert links <= set(re.findall(r'id="(case-\d+)"', page))
    assert page.count("data:image/") == 12
    assert re.search(r"src=|href=", re.sub(r'(src="data:|href="(#|data:,))', "", page)) is None


def test_errors_are_all_told_with_exit_code_3(tmp_path: Path) -> None:
    data = write_volumes(tmp_path / "data", 3)
    (data / "imagesTr" / "case_0.nii").write_bytes(b"no scan")
    image, labels = volume(1)
    write_volume(data, "case_1", image, (labels / 2).astype(np.float32))
    write_volume(data, "case_2", volume(2)[0], np.zeros_like(labels))
    done = CliRunner().invoke(app, ["check", str(data), "--json", "--device", "cpu"])
    assert done.exit_code == 3, done.output
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    kinds = {row["finding"]["kind"] for row in rows if "finding" in row}
    assert {"unreadable", "mask-values", "empty-mask"} <= kinds


def test_a_page_replaces_a_page_and_nothing_else(tmp_path: Path) -> None:
    data, mine = write_pictures(tmp_path / "data", 3), tmp_path / "mine.html"
    mine.write_text("my own")
    call = ["check", str(data), "--device", "cpu", "--page"]
    done = CliRunner().invoke(app, [*call, str(mine)])
    assert isinstance(done.exception, UsageError)
    assert re.fullmatch(
        r".*mine\.html: is there already and is no page of unetseg; .*", str(done.exception)
    )
    assert mine.read_text() == "my own"
    page = tmp_path / "page.html"
    for _ in range(2):
        done = CliRunner().invoke(app, [*call, str(page)])
        assert done.exit_code == 0, done.output
    assert "<title>Check of data</title>" in page.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "mine.html", "page.html"]
    assert "network: " in done.stdout


@pytest.mark.real
def test_a_real_set_is_sound_and_its_page_small(real_data: Path, tmp_path: Path) -> None:
    done = call(tmp_path, real_data / "hippocampus", "--json", "--html")
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith('{"finding"')] == []
    assert (tmp_path / "check.html").stat().st_size < 6_000_000
