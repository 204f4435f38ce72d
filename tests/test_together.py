"""One scan in blocks by several real processes, one of them killed: shares, and workers of Dask."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import zarr
from test_blocks import go, models, voxels, write_model, write_tiles  # noqa: F401

from unetseg.errors import UsageError
from unetseg.formats import read_mask
from unetseg.prediction import Request, predict
from unetseg.records import FileDone

PATIENCE = 180
SHAPE = (64, 24 * 1024 - 100)


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A strip of 24 blocks: NGFF 0.4, whose masks have blocks of 1024 pixels."""
    path = tmp_path_factory.mktemp("strip") / "strip.zarr"
    axes = [{"name": name, "type": "space"} for name in "yx"]
    scale = {"type": "scale", "scale": [1, 1]}
    level = {"path": "0", "coordinateTransformations": [scale]}
    entry = {"version": "0.4", "axes": axes, "datasets": [level]}
    group = zarr.create_group(path, zarr_format=2, attributes={"multiscales": [entry]})
    array = group.create_array("0", shape=SHAPE, dtype="u1", chunks=(64, 500))
    array[:] = np.random.default_rng(0).integers(0, 200, SHAPE).astype(np.uint8)
    return path


@pytest.fixture(scope="module")
def alone(
    models: dict[int, Path],  # noqa: F811
    scan: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> np.ndarray:
    """The mask of a single process."""
    (record,) = go(models[2], tmp_path_factory.mktemp("alone"), scan)
    assert record.status == "done", record.message
    return read_mask(record.output).array


def start(model: Path, scan: Path, out: Path, *words: str) -> "subprocess.Popen[str]":
    line = [sys.executable, "-m", "unetseg.cli", "predict", str(scan), "-o", str(out)]
    return subprocess.Popen(
        [*line, "--model", str(model), "--device", "cpu", *words],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def marks(out: Path) -> set[str]:
    folder = out / ".strip_seg.ome.zarr.unfinished" / "done"
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def wait_for_marks(out: Path, count: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while len(marks(out)) < count:
        assert time.monotonic() < deadline, "no block is written"
        time.sleep(0.002)


def left(out: Path) -> list[str]:
    return [path.name for path in out.iterdir() if path.name.startswith(".")]


@pytest.mark.slow
def test_blocks_of_a_share_that_is_killed_are_made_up_for(
    models: dict[int, Path],  # noqa: F811
    scan: Path,
    alone: np.ndarray,
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    killed = start(models[2], scan, out, "--shard", "1/3")
    wait_for_marks(out, 1)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=PATIENCE)
    before = marks(out)
    assert 0 < len(before) < 8
    others = [start(models[2], scan, out, "--shard", f"{index}/3", "--json") for index in (0, 2)]
    for process in others:
        output, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, errors
        assert json.loads(output)["status"] == "part"
    assert not (out / "strip_seg.ome.zarr").exists()
    assert marks(out) > before
    times = {
        name: (out / ".strip_seg.ome.zarr.unfinished" / "done" / name).stat().st_mtime_ns
        for name in before
    }
    assert max(times.values()) < time.time_ns()
    again = start(models[2], scan, out, "--shard", "1/3", "--json")
    output, errors = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0, errors
    row = json.loads(output)
    assert (row["status"], row["output"]) == ("done", str(out / "strip_seg.ome.zarr"))
    found = read_mask(out / "strip_seg.ome.zarr").array
    assert (found != alone).mean() < 1e-3
    assert sum(size["voxels"] for size in row["classes"].values()) == found.size
    assert left(out) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_blocks_of_a_lost_worker_are_done_by_another(
    models: dict[int, Path],  # noqa: F811
    scan: Path,
    alone: np.ndarray,
    tmp_path: Path,
) -> None:
    distributed = pytest.importorskip("distributed")
    out, told = tmp_path / "out", []
    small = write_tiles(tmp_path / "whole.tif", voxels(2)[:60, :70])
    damaged = tmp_path / "damaged.tif"
    damaged.write_bytes(small.read_bytes()[:200])
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, local_directory=tmp_path
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        pids = client.run(os.getpid)
        asked = Request(
            [scan, small, damaged],
            model=models[2],
            output=out,
            device="cpu",
            dask=cluster.scheduler_address,
        )
        victim = next(iter(pids.values()))
        # It takes its tasks and never ends them.
        os.kill(victim, signal.SIGSTOP)
        work = Thread(target=lambda: told.extend(predict(asked)))
        work.start()
        wait_for_marks(out, 3)
        assert work.is_alive()
        os.kill(victim, signal.SIGKILL)
        work.join(PATIENCE)
        assert not work.is_alive()
    by_name = {record.path.name: record for record in told}
    assert {name: record.status for name, record in by_name.items()} == {
        "strip.zarr": "done",
        "whole.tif": "done",
        "damaged.tif": "failed",
    }, told
    found = read_mask(out / "strip_seg.ome.zarr").array
    assert (found != alone).mean() < 1e-3
    assert (found != np.roll(alone, 1, 1)).mean() > 0.02
    assert sum(dict(by_name["strip.zarr"].counts).values()) == found.size
    assert "damaged.tif" in by_name["damaged.tif"].message
    assert left(out) == []
    manifest = json.loads((out / "manifest.json").read_text())
    assert set(manifest["files"]) == {"strip_seg.ome.zarr", "whole_seg.tif"}
    assert manifest["device"].startswith("tcp://")


def ask(model: Path, tmp_path: Path, **more: Any) -> tuple[FileDone, ...]:
    small = write_tiles(tmp_path / "whole.tif", voxels(2)[:60, :70])
    return go(model, tmp_path / "out", small, **more)


def test_without_dask_one_line_says_what_to_install(
    models: dict[int, Path],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"not installed; pip install 'unetseg\[dask\]'"):
        ask(models[2], tmp_path, dask="tcp://127.0.0.1:1")


@pytest.mark.filterwarnings("ignore")
def test_an_address_where_nobody_answers(
    models: dict[int, Path],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("distributed")
    from unetseg.prediction import cluster

    monkeypatch.setattr(cluster, "_CONNECT_SECONDS", 0.5)
    with pytest.raises(UsageError, match=r"--dask tcp://127\.0\.0\.1:9: no Dask scheduler answers"):
        ask(models[2], tmp_path, dask="tcp://127.0.0.1:9")
    with pytest.raises(UsageError, match="--dask nonsense://x: no Dask scheduler answers"):
        ask(models[2], tmp_path, dask="nonsense://x")


@pytest.mark.parametrize(
    ("more", "word"), [({"shard": "0/2"}, "--shard"), ({"devices": (0, 1)}, "--devices")]
)
def test_a_scheduler_divides_the_work_itself(
    models: dict[int, Path],  # noqa: F811
    tmp_path: Path,
    more: dict[str, Any],
    word: str,
) -> None:
    with pytest.raises(UsageError, match=f"the scheduler divides the work .got {word}"):
        ask(models[2], tmp_path, dask="tcp://127.0.0.1:9", **more)
