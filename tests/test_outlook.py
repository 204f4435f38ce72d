"""What a prediction says it will need, and what it then needs."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
import torch
from cubes import cube, request, write_cubes, write_squares

from unetseg.arguments import memory_size
from unetseg.dataset.loading import open_case
from unetseg.errors import DeviceError, UsageError
from unetseg.geometry import Geometry
from unetseg.prediction import Predictor, blocks
from unetseg.prediction import Request as PredictRequest
from unetseg.prediction.outlook import (
    Foresight,
    Header,
    Limits,
    WindowCost,
    ring_bytes,
)
from unetseg.prediction.places import Job
from unetseg.records import Case
from unetseg.training import train
from unetseg.windows import Tiling, Walk


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outlook")
    train(request(write_cubes(folder / "data"), folder / "run"))
    return folder / "run"


@pytest.fixture(scope="module")
def predictor(run):
    return Predictor(run, device="cpu")


def write_volume(path, array):
    nib.save(nib.Nifti1Image(array, np.diag([1.0, 1.2, 0.9, 1])), path)
    return path


COST = WindowCost((16, 16, 16), 5_000_000, 0.02)


def foresight(predictor, limits=None, **more):
    return Foresight(predictor.segmenter, COST, limits or Limits(), 300_000_000, **more)


def header(*shape, itemsize=2):
    return Header(Geometry.from_spacing(shape, (1.0,) * 3, "mm"), 1, itemsize)


def test_the_ring_is_a_window_deep_and_as_wide_as_the_box():
    tiling = Tiling.of((100, 40, 50), (16, 16, 16), 0.5)
    box = (slice(0, 100), slice(0, 40), slice(10, 40))
    assert ring_bytes(tiling, Walk(0), box, 3) == 17 * 3 * 40 * 30 * 4
    assert ring_bytes(tiling, Walk(1, dtype=torch.float16), box, 3) == 17 * 3 * 100 * 30 * 2
    alone = Tiling.of((10, 10, 10), (16, 16, 16), 0.5)
    assert ring_bytes(alone, Walk(0), (slice(0, 10),) * 3, 3) == 0


def test_without_a_limit_nothing_is_given_up(predictor):
    found = foresight(predictor)(header(300, 300, 300))
    assert found.walk == predictor.segmenter.walk(found.grid)
    assert found.parts == ((slice(0, 300),) * 3,)
    assert found.windows == found.tiling.count
    assert found.seconds == pytest.approx(found.windows * COST.of(found.tiling.window).seconds)


def test_memory_does_not_grow_with_the_classes_times_the_scan(predictor):
    """Twice as long a scan: only what is as large as the scan itself is more."""
    one, two = (foresight(predictor)(header(200, 200, n)) for n in (400, 800))
    voxels = 200 * 200 * 400
    assert two.host_bytes - one.host_bytes < 16 * voxels
    assert two.host_bytes > one.host_bytes


def test_less_and_less_memory(predictor):
    ahead = replace(foresight(predictor), cost=replace(COST, size_bytes=2_000_000_000))
    plenty = ahead(header(400, 400, 400))
    seen, limit = [plenty], plenty.host_bytes
    while True:
        limit = seen[-1].host_bytes - 1
        try:
            seen.append(replace(ahead, limits=Limits(limit))(header(400, 400, 400)))
        except DeviceError as error:
            assert error.exit_code == 5
            assert re.search(r"does not fit .*expected at least .*, got .*--memory", str(error))
            break
        assert seen[-1].host_bytes <= limit
    assert len(seen) >= 2
    assert seen[-1].windows >= plenty.windows
    ways = list(ahead._ways(header(400, 400, 400)))
    assert [len(way.parts) for way in ways] == [1, 1, 1, 2, 4, 8, 16, 32, 64]
    for found in ways:
        filled = np.zeros((400, 400, 400), np.uint8)
        for part in found.parts:
            filled[part] += 1
        assert (filled == 1).all()


@pytest.mark.parametrize("walk", [Walk(2, 1, torch.float16), Walk(0, 3)])
def test_another_way_is_the_same_mask(predictor, tmp_path, walk):
    image = cube((30, 41, 33), 3)[0]
    scan = write_volume(tmp_path / "scan.nii.gz", image)
    plain = predictor(scan).array
    way = Predictor(predictor.path, device="cpu")
    parts = tuple((slice(0, 30), slice(a, b), slice(0, 33)) for a, b in ((0, 13), (13, 41)))
    way._way = lambda prepared, with_maps: (walk, parts)
    assert (way(scan).array != plain).mean() < 1e-3
    assert 0.001 < (plain == 1).mean() < 0.9


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GB", 2_000_000_000), ("1.5 GiB", 1610612736), ("800m", 800_000_000), ("4k", 4000)],
)
def test_amounts_of_memory(text, size):
    assert memory_size(text, where="--memory") == size


@pytest.mark.parametrize("text", ["", "2", "GB", "-1GB", "0MB", "2 cups", "1e9GB"])
def test_what_is_no_amount_of_memory(text):
    with pytest.raises(UsageError, match=r"--memory: not an amount of memory .*such as 2GB"):
        memory_size(text, where="--memory")


# The peak of the process itself: what wait4 says begins with that of the parent.
MEASURED = """
import atexit, re, sys
from pathlib import Path
from unetseg.cli import main
place = Path(sys.argv.pop())
status = Path("/proc/self/status")
atexit.register(lambda: place.write_text(re.search(r"VmHWM:\\s*(\\d+)", status.read_text())[1]))
main()
"""


def command(*words):
    """Exit code, stdout and stderr of a command."""
    done = subprocess.run(
        [sys.executable, "-m", "unetseg.cli", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    return done.returncode, done.stdout, done.stderr


def peak_of(place, *words):
    """Exit code, stderr and peak memory in bytes of a command."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *map(str, words), str(place)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    return done.returncode, done.stderr, 1024 * int(place.read_text())


on_linux = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the peak is read from /proc"
)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("large") / "large.nii"
    image = rng.integers(0, 1000, (180, 190, 200), dtype=np.int16)
    nib.save(nib.Nifti1Image(image, np.eye(4)), path)
    return path


@pytest.mark.slow
@on_linux
def test_the_promise_is_kept(run, large, tmp_path):
    settings = ("--model", run, "--device", "cpu", "--set", "decode.overlap=0")
    masks = tmp_path / "masks"
    code, out, err = command("predict", large, "-o", masks, *settings, "--dry-run", "--json")
    assert code == 0, err
    said = json.loads(out)
    assert not masks.exists()
    assert said["shape"] == [180, 190, 200]
    code, err, peak = peak_of(tmp_path / "peak", "predict", large, "-o", masks, *settings)
    assert code == 0, err
    assert peak <= 1.1 * said["host_bytes"]
    # Not by saying far too much.
    assert peak >= 0.5 * said["host_bytes"]


@pytest.mark.slow
@on_linux
def test_a_limit_is_kept_to_or_refused(run, large, tmp_path):
    settings = ("--model", run, "--device", "cpu", "--set", "decode.overlap=0")
    words = ("predict", large, "-o", tmp_path, *settings, "--memory", "100MB")
    code, _, err = command(*words)
    assert code == 1
    assert "does not fit into the memory that may be used" in err
    assert "Traceback" not in err
    assert not list(tmp_path.glob("*.nii"))
    code, out, err = command(*words, "--dry-run")
    assert code == 1
    assert f"{large}: does not fit" in out
    code, err, peak = peak_of(tmp_path / "peak", *words[:-1], "1GB")
    assert code == 0, err
    assert peak <= 1_000_000_000
    assert nib.load(tmp_path / "large_seg.nii").shape == (180, 190, 200)


@pytest.mark.slow
def test_a_dry_run_reads_no_voxel(run, tmp_path):
    """The voxels are missing: only a real run can know."""
    whole = write_volume(tmp_path / "whole.nii.gz", cube((30, 30, 30), 1)[0])
    cut = tmp_path / "cut.nii.gz"
    content = Path(whole).read_bytes()
    cut.write_bytes(content[: len(content) // 2])
    words = ("predict", cut, "-o", tmp_path / "out", "--model", run, "--device", "cpu")
    code, out, err = command(*words, "--dry-run")
    assert code == 0, err
    assert "scan     30 x 30 x 30, the network sees" in out
    assert "windows" in out
    assert not (tmp_path / "out").exists()
    code, _, err = command(*words)
    assert code == 1
    assert "cut" in err


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    train(request(write_squares(folder / "data"), folder / "run"))
    return folder / "run"


def write_tiles(path, edge):
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        rng = np.random.default_rng(0)
        tiles = (
            rng.integers(0, 255, (256, 256), dtype=np.uint8) for _ in range((edge // 256) ** 2)
        )
        file.write(tiles, shape=(edge, edge), dtype=np.uint8, tile=(256, 256))
    return path


@pytest.mark.slow
@on_linux
def test_the_promise_is_kept_in_blocks(pictures, tmp_path):
    image = write_tiles(tmp_path / "wide.tif", 6144)
    masks = tmp_path / "masks"
    settings = ("--model", pictures, "--device", "cpu", "--set", "decode.overlap=0")
    words = ("predict", image, "-o", masks, *settings, "--memory", "500MB")
    code, out, err = command(*words, "--dry-run", "--json")
    said = json.loads(out)
    assert "at least" in said["fault"] or said["in_blocks"], err
    words = (*words[:-1], "900MB")
    code, out, err = command(*words, "--dry-run", "--json")
    assert code == 0, err + out
    said = json.loads(out)
    assert said["in_blocks"]
    assert said["host_bytes"] <= 900_000_000
    code, err, peak = peak_of(tmp_path / "peak", *words)
    assert code == 0, err
    assert peak <= 1.1 * said["host_bytes"]
    with tifffile.TiffFile(next(masks.glob("*.tif"))) as mask:
        assert mask.series[0].shape == (6144, 6144)


def test_a_scan_that_would_not_fit_as_a_whole_is_done_in_blocks(pictures, tmp_path, monkeypatch):
    image = write_tiles(tmp_path / "wide.tif", 2048)
    # By the sizes of the scan alone it is not too large.
    monkeypatch.setattr(blocks, "is_too_large", lambda *given: False)
    case = Case("wide", (image,))
    predictor = Predictor(pictures, device="cpu", settings={"decode.overlap": 0.0})
    opened = open_case(case)
    needed = predictor.foresee(Header(opened.geometry, 1, 1)).host_bytes
    ways = []
    for most in (needed // 2, 2 * needed):
        predictor.limits = Limits(host=most)
        asked = PredictRequest([image], model=pictures, limits=predictor.limits)
        ways.append(blocks.in_blocks(Job(case, tmp_path / "out.tif"), predictor, asked))
    assert ways[0] is not None
    assert ways[1] is None
