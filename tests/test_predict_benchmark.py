"""What the benchmark of predictions measures with: processes, stand-ins, and proof of ties."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage.transform import resize

ROOT = Path(__file__).resolve().parents[1]
GRID, SCAN, OUTPUTS = (14, 12, 10), (21, 20, 15), 4
SMALL = {"patch.size": [8, 8, 8], "network.levels": 2}


@pytest.fixture(autouse=True)
def _programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")


def test_a_process_of_its_own_has_a_peak_of_its_own(tmp_path: Path) -> None:
    from apart import Work, measured
    from recompute import peak_bytes

    (tmp_path / "some_work.py").write_text(
        "def work(stages, megabytes):\n"
        "    with stages.of('much'):\n"
        "        x = bytearray(megabytes << 20)\n"
        "        x[::4096] = b'1' * len(x[::4096])\n"
        "    del x\n"
        "    with stages.of('nothing'):\n"
        "        pass\n"
        "    return {'said': megabytes}\n"
    )
    here = bytearray(600 << 20)
    here[::4096] = b"1" * len(here[::4096])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path))
        row = measured(Work("some_work:work", {"megabytes": 200}))
    assert peak_bytes() > 600 << 20
    assert 200 << 20 < row["peak_bytes"] < 400 << 20
    much, nothing = row["stages"]["much"], row["stages"]["nothing"]
    assert much["peak_bytes"] - much["before_bytes"] >= 200 << 20
    assert nothing["peak_bytes"] < much["before_bytes"] + (100 << 20)
    assert row["said"] == 200
    assert row["process_seconds"] > row["seconds"]


def test_a_work_that_fails_is_left_out_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from apart import Work, in_turns

    (tmp_path / "bad_work.py").write_text("def work(stages):\n    raise SystemExit('no luck')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert in_turns({"bad": Work("bad_work:work")}, 2) == {}
    assert capsys.readouterr().out == "  bad failed: no luck\n"


def written(tmp_path: Path) -> Path:
    from predict_cases import write_outputs

    path = tmp_path / "outputs.raw"
    write_outputs(path, OUTPUTS, GRID)
    np.save(path.with_suffix(".npy"), GRID)
    return path


def interpolated(path: Path) -> np.ndarray:
    """(K, *SCAN) float64, by an independent program, the one that nnU-Net calls."""
    values = np.fromfile(path, np.float16).reshape(OUTPUTS, *GRID).astype(np.float64)
    return np.stack([resize(v, SCAN, order=1, mode="edge", anti_aliasing=False) for v in values])


def test_exported_labels_are_those_of_the_whole_interpolation(tmp_path: Path) -> None:
    from apart import Stages
    from predict_cases import CT, plan_for, write_model
    from predict_ties import compare
    from predict_work import export

    path, stages = written(tmp_path), Stages()
    model = write_model(tmp_path / "model", plan_for(CT, OUTPUTS, SMALL))
    labels = tmp_path / "labels.npy"
    said = export(stages, str(model), str(path), SCAN, str(labels))
    # Windows of eight voxels that need not overlap.
    assert said["windows"] == 2 * 2 * 2
    found = np.load(labels)
    whole = interpolated(path)
    assert set(np.unique(found)) == set(range(OUTPUTS))
    naive = whole.argmax(0)
    ties = compare(path, OUTPUTS, GRID, found, naive)
    assert ties["equal"] > 0.999
    assert max(ties["ours_below"], ties["theirs_below"]) < 1e-3
    # A label that is not the largest is no tie.
    wrong = found.copy()
    wrong[0, 0, 0] = whole[:, 0, 0, 0].argmin()
    ties = compare(path, OUTPUTS, GRID, wrong, naive)
    assert ties["differing"] >= 1
    gap = whole[:, 0, 0, 0].max() - whole[:, 0, 0, 0].min()
    assert ties["ours_below"] == pytest.approx(gap, rel=1e-6)


@pytest.mark.parametrize("name", ["HIPPOCAMPUS", "NUCLEI"])
@pytest.mark.parametrize("levels", ["the plan's", "one"])
def test_the_head_divides_what_the_image_shows(tmp_path: Path, name: str, levels: str) -> None:
    import predict_cases

    from unetseg import checkpoint

    kind = getattr(predict_cases, name)
    overrides = predict_cases.STAND_IN if levels == "one" else {}
    plan = predict_cases.plan_for(kind, 5, overrides)
    predict_cases.write_model(tmp_path / "model", plan)
    network = checkpoint.load(tmp_path / "model").network
    size = (32,) * len(kind.shape)
    ramp = torch.linspace(-2, 2, 32).expand(1, 1, *size).contiguous()
    with torch.inference_mode():
        found = network(ramp)[0][0].argmax(0)
    inner = found[(16,) * (len(size) - 1)][2:-2]
    assert inner.tolist() == sorted(inner.tolist())
    assert set(range(1, 4)) <= set(inner.tolist())
    fresh = checkpoint.build(plan).eval()
    with torch.inference_mode():
        other = fresh(ramp)[0][0].argmax(0)[(16,) * (len(size) - 1)][2:-2]
    assert other.tolist() != inner.tolist()


def test_every_part_is_understood() -> None:
    import predict

    for part in predict.PARTS:
        assert predict.parse([part, "--quick"]).part == part
    with pytest.raises(SystemExit):
        predict.parse(["nothing"])


def test_an_interpreter_without_the_peer_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    import predict

    assert predict.peer_version(sys.executable) is None
    assert f"nnunetv2 is not installed for {sys.executable}: left out" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("part", ["export", "ct", "floor", "many"])
def test_a_small_run_writes_its_rows(tmp_path: Path, part: str) -> None:
    path = tmp_path / "results.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "predict.py"), part, "--quick"]
    done = subprocess.run(
        [*command, "--rounds", "1", "--results", str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    rows: list[dict[str, Any]] = json.loads(path.read_text())[part]
    assert rows
    for row in rows:
        assert row["commit"]
        assert row["versions"]["torch"]
        assert row["peak_bytes"] > 1 << 20
    assert "failed" not in done.stdout
