"""What holds on a card: the same masks, the memory that was said, and ways out when it is full.

Run with `pytest -m cuda` on a machine with one; elsewhere they are skipped, visibly.
"""

import csv
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from cubes import LEARNED, cube, request, write_cubes, write_squares
from typer.testing import CliRunner

from unetseg.checkpoint import load_plan
from unetseg.cli import app
from unetseg.dataset.loading import load_scan
from unetseg.formats import read_mask
from unetseg.nets.unet import UNet
from unetseg.pipeline.cache import CachedCase
from unetseg.prediction import Predictor, Request, predict
from unetseg.prediction.outlook import Header, Limits
from unetseg.records import Case, Note
from unetseg.training import train
from unetseg.training.batches import Batches
from unetseg.training.cross_validation import cross_validate

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

QUICK = LEARNED | {"training.epochs": 8}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cubes(tmp_path_factory.mktemp("cuda") / "data", 8, size=24)


@pytest.fixture(scope="module")
def run(data: Path) -> Path:
    """A run whose every step was on the card, in the precision that is planned for one."""
    settings = QUICK | {"training.precision": "bfloat16"}
    return train(request(data, data.parent / "run", settings, device="cuda")).run


def history(run: Path) -> list[dict[str, str]]:
    with (run / "history.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def maps(predictor: Predictor, path: Path) -> np.ndarray:
    return predictor.segment(predictor.prepare(load_scan(Case("scan", (path,)))))[1]


def scan(folder: Path, *shape: int) -> Path:
    picture = nib.Nifti1Image(cube(shape, 5)[0], np.diag([1.0, 1.1, 0.9, 1]))
    path = folder / "scan.nii.gz"
    nib.save(picture, path)
    return path


def test_a_training_learns_and_hardly_waits(run: Path) -> None:
    rows = history(run)
    assert float(rows[-1]["mean_dice"]) > 0.5
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])


@pytest.mark.parametrize("home", ["device", "memory", "disk"])
def test_batches_are_the_same_wherever_the_cases_lie(run: Path, home: str) -> None:
    folders = sorted(path.parent for path in (run.parent / "cache").rglob("image.npy"))
    cases = [CachedCase(Case(folder.name, ()), folder) for folder in folders]
    plan, device = load_plan(run), torch.device("cuda:0")
    there = Batches(cases, plan, 1 << 34)
    here = Batches(
        cases, plan, 0 if home == "disk" else 1 << 34, device, 1 << 34 if home == "device" else 0
    )
    assert here.home == home
    for step in range(3):
        for one, other in zip(there.make(step), here.make(step), strict=True):
            assert other.is_cuda == (home == "device")
            assert home == "device" or other.is_pinned()
            assert torch.equal(one, other.cpu())


def test_what_a_card_says_is_what_a_processor_says(run: Path, tmp_path: Path) -> None:
    path = scan(tmp_path, 45, 61, 38)
    here, there = (maps(Predictor(run, device=device), path) for device in ("cuda", "cpu"))
    certain = np.abs(there[1] - there[0]) > 0.1
    assert certain.mean() > 0.9
    assert 0.001 < (there[1] > 0.5).mean() < 0.9
    # bfloat16 moves only what is hardly decided.
    np.testing.assert_array_equal((here > 0.5)[:, certain], (there > 0.5)[:, certain])
    assert ((np.roll(here, 2, 1) > 0.5) != (there > 0.5))[:, certain].any()


def test_a_card_resamples_as_a_processor_does(run: Path, tmp_path: Path) -> None:
    read = load_scan(Case("scan", (scan(tmp_path, 90, 75, 64),)))
    here, there = (Predictor(run, device=device).prepare(read).image for device in ("cuda", "cpu"))
    assert here.device.type == "cpu"
    assert here.shape != read.array.shape
    torch.testing.assert_close(here, there, rtol=0, atol=1e-4)


def test_float32_on_a_card_is_closer_still(run: Path, tmp_path: Path) -> None:
    path = scan(tmp_path, 45, 61, 38)
    found = []
    for device in ("cuda", "cpu"):
        predictor = Predictor(run, device=device)
        predictor.segmenter = replace(predictor.segmenter, precision="float32")
        found.append(maps(predictor, path))
    assert np.abs(found[0] - found[1]).max() < 0.02


@pytest.mark.parametrize("on_device", [True, False])
def test_the_memory_of_a_card_is_what_was_said(
    run: Path, tmp_path: Path, *, on_device: bool
) -> None:
    predictor = Predictor(run, device="cuda")
    path = scan(tmp_path, 150, 160, 170)
    prepared = predictor.prepare(load_scan(Case("scan", (path,))))
    predictor.limits = Limits(None, 1 << 36)
    outlook = predictor.foresee(Header(prepared.placement.scan, 1, 4))
    way = next(
        found
        for found in predictor._foresight(with_maps=False)._ways(
            Header(prepared.placement.scan, 1, 4)
        )
        if found.walk.on_device == on_device
    )
    assert outlook.walk.on_device
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    for _ in predictor.segmenter.pieces(prepared, way.walk, box=way.parts[0]):
        pass
    peak = torch.cuda.max_memory_allocated()
    assert peak <= 1.1 * way.device_bytes
    # Not only because too much was said.
    assert peak >= 0.2 * way.device_bytes


def test_a_small_device_memory_is_kept(run: Path, tmp_path: Path) -> None:
    path = scan(tmp_path, 150, 160, 170)
    plain = read_mask(
        predict(Request((path,), model=run, output=tmp_path / "a", device="cuda"))[0].output
    )
    predictor = Predictor(run, device="cuda")
    header = Header(plain.geometry, 1, 4)
    ways = list(predictor._foresight(with_maps=False)._ways(header))
    least = min(way.device_bytes for way in ways)
    assert least < ways[0].device_bytes
    limit = (least + ways[0].device_bytes) // 2
    wanted = Request(
        (path,), model=run, output=tmp_path / "b", device="cuda", limits=Limits(None, limit)
    )
    (done,) = predict(wanted)
    assert done.status == "done"
    assert (read_mask(done.output).array != plain.array).mean() < 1e-3


def test_a_card_that_is_full_is_left_for_the_processor(run: Path, tmp_path: Path) -> None:
    path = scan(tmp_path, 60, 60, 60)
    notes: list[str] = []

    def listen(event: object) -> None:
        if isinstance(event, Note):
            notes.append(event.text)

    plain = read_mask(
        predict(Request((path,), model=run, output=tmp_path / "a", device="cuda"))[0].output
    )
    predictor = Predictor(run, device="cuda")
    torch.cuda.empty_cache()
    held = torch.cuda.memory_allocated() + (1 << 20)
    torch.cuda.set_per_process_memory_fraction(held / torch.cuda.mem_get_info()[1])
    try:
        (done,) = predict(
            Request((path,), model=run, output=tmp_path / "b", device="cuda"), listener=listen
        )
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    del predictor
    assert done.status == "done", done.message
    assert any("memory" in note for note in notes), notes
    assert (read_mask(done.output).array != plain.array).mean() < 0.002


def test_a_batch_goes_in_passes_when_the_card_is_full(data: Path, tmp_path: Path) -> None:
    notes: list[str] = []

    def listen(event: object) -> None:
        if isinstance(event, Note):
            notes.append(event.text)

    settings = {
        "patch.size": (64, 64, 64),
        "patch.batch": 8,
        "network.features": (32, 64),
        "training.epochs": 1,
        "training.steps_per_epoch": 3,
    }
    wanted = request(data, tmp_path / "run", settings, device="cuda")
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((1500 << 20) / torch.cuda.mem_get_info()[1])
    try:
        train(wanted, listener=listen)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert any("at a time from here on" in note for note in notes), notes


def test_small_scans_go_through_a_card_together(
    data: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans = sorted((data / "images").iterdir())
    seen: list[int] = []
    honest = UNet.forward

    def forward(self: UNet, x: torch.Tensor, **more: bool) -> list[torch.Tensor]:
        seen.append(len(x))
        return honest(self, x, **more)

    monkeypatch.setattr(UNet, "forward", forward)
    found = []
    for name in ("together", "alone"):
        if name == "alone":
            monkeypatch.setattr(Predictor, "most_together", 1)
        seen.clear()
        done = predict(Request(scans, model=run, output=tmp_path / name, device="cuda"))
        assert sum(seen) == len(scans)
        assert (max(seen) > 1) == (name == "together")
        found.append([read_mask(record.output).array for record in done])
    for one, other in zip(*found, strict=True):
        assert (one != other).mean() < 1e-3
        assert other.any()


def test_folds_at_the_same_time_on_a_card(data: Path, tmp_path: Path) -> None:
    settings = QUICK | {"training.folds": 2}
    asked = request(data, tmp_path / "run", settings, device="cuda")
    outcome = cross_validate(asked, devices=("cuda:0", "cuda:0"))
    assert outcome.finished
    assert outcome.found.scores.mean > 0.5


def test_pictures_too(tmp_path: Path) -> None:
    data = write_squares(tmp_path / "data", 8, size=64)
    done = train(request(data, tmp_path / "run", QUICK, device="cuda"))
    words = ["predict", str(data / "images"), "--model", str(done.run), "-o", str(tmp_path / "out")]
    shown = CliRunner().invoke(app, [*words, "--device", "cuda", "--tta", "--probabilities"])
    assert shown.exit_code == 0, shown.output
    assert len(list((tmp_path / "out").glob("*_seg.ome.tif"))) == 8


def test_resuming_on_a_card(data: Path, tmp_path: Path) -> None:
    """Steps go on where they were; kernels of a card do not repeat every bit."""
    for epochs in (2, 4):
        settings = QUICK | {"training.epochs": epochs}
        train(request(data, tmp_path / "run", settings, device="cuda"))
    steps = [int(row["step"]) for row in history(tmp_path / "run")]
    assert steps == sorted(set(steps))
    assert steps[-1] == 4 * QUICK["training.steps_per_epoch"]
