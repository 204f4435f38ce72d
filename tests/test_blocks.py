"""Scans in blocks: the mask does not depend on the blocks, nor on who does which of them."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import zarr
from cubes import request, write_cubes, write_squares
from hypothesis import given, settings
from hypothesis import strategies as st

from unetseg import checkpoint
from unetseg.config import Plan, with_overrides
from unetseg.formats import open_scan, read_mask, read_scan
from unetseg.prediction import Predictor, Request, blocks, predict, room
from unetseg.prediction.shares import Share
from unetseg.prediction.units import Units, portion
from unetseg.records import FileDone, Note
from unetseg.training import plan_for

SHAPES = {2: (90, 130), 3: (16, 29, 25)}


def write_zarr(path: Path, array: np.ndarray, chunk: int, spacing: float = 1.0) -> Path:
    """An OME-Zarr of (*S), NGFF 0.5, in micrometres."""
    axes = [{"name": n, "type": "space", "unit": "micrometer"} for n in "zyx"[-array.ndim :]]
    scale = {"type": "scale", "scale": [spacing] * array.ndim}
    level = {"path": "0", "coordinateTransformations": [scale]}
    ome = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [level]}]}
    group = zarr.create_group(path, attributes={"ome": ome})
    chunks = tuple(min(chunk, n) for n in array.shape)
    group.create_array("0", shape=array.shape, chunks=chunks, dtype=array.dtype)[:] = array
    return path


def write_tiles(path: Path, array: np.ndarray, tile: int = 16) -> Path:
    tifffile.imwrite(path, array, bigtiff=True, tile=(tile, tile), compression="deflate")
    return path


def voxels(dimensions: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 200, SHAPES[dimensions]).astype(np.uint8)


def write_model(folder: Path, plan: Plan) -> Path:
    """An untrained network whose classes are about as frequent as one another."""
    torch.manual_seed(0)
    network = checkpoint.build(plan)
    with torch.no_grad():
        size = (2, 1, *plan.patch.size)
        means = network.eval()(torch.randn(size))[0].flatten(2).mean((0, 2))
        network.heads[0].bias -= means
    checkpoint.save(folder, network, plan, {"finished": True})
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Models by number of axes, with windows of 16 voxels and no spacing of their own."""
    folder = tmp_path_factory.mktemp("models")
    found = {}
    for axes, write in ((2, write_squares), (3, write_cubes)):
        data = write(folder / f"data{axes}")
        plan, _ = plan_for(request(data, folder / f"run{axes}"))
        values = {"patch.size": (16,) * axes}
        plan = with_overrides(plan, values, where="test")
        plan = replace(plan, data=replace(plan.data, spacing=(), unit="um", orientation="as_read"))
        found[axes] = write_model(folder / f"model{axes}", plan)
    return found


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few windows, and walks that need several of them side by side."""
    from unetseg.formats import zarr_writing

    monkeypatch.setattr(zarr_writing, "_PLANE", 32)
    monkeypatch.setattr(zarr_writing, "_CUBE", 8)
    monkeypatch.setattr(zarr_writing, "_CHUNKS_2D", 1)
    monkeypatch.setattr(zarr_writing, "_CHUNKS_3D", 1)
    monkeypatch.setattr(blocks, "_PLANE", 32)
    monkeypatch.setattr(blocks, "_CUBE", 8)


def go(model: Path, output: Path, *inputs: Path, **more: Any) -> tuple[FileDone, ...]:
    return predict(Request(inputs, model=model, output=output, device="cpu", **more))


def whole(model: Path, path: Path) -> np.ndarray:
    predictor = Predictor(model, device="cpu")
    return predictor(read_scan(path)).array


@pytest.mark.parametrize("bytes_", [20_000, 200_000, 1 << 29])
@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("kind", ["zarr", "tiff"])
def test_the_mask_does_not_depend_on_the_blocks(
    models: dict[int, Path],
    tmp_path: Path,
    small: None,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    dimensions: int,
    bytes_: int,
) -> None:
    monkeypatch.setattr(room, "_WALK_BYTES", bytes_)
    monkeypatch.setattr(room, "_WHOLE_SHARE", 0.0)
    array = voxels(dimensions)
    if kind == "zarr":
        scan = write_zarr(tmp_path / "scan.ome.zarr", array, 20)
    else:
        scan = write_tiles(tmp_path / "scan.tif", array)
    (record,) = go(models[dimensions], tmp_path / "out", scan)
    assert record.status == "done", record.message
    expected = whole(models[dimensions], scan)
    found = read_mask(record.output).array
    assert found.shape == expected.shape
    assert (found != expected).mean() < 1e-3
    assert 0.02 < (expected > 0).mean() < 0.98
    shifted = np.roll(expected, 1, axis=0)
    assert (found != shifted).mean() > 0.02
    assert dict(record.counts) == {"background": (found == 0).sum()} | {
        name: (found > 0).sum() for name, _ in record.counts[1:]
    }
    assert [path.name for path in (tmp_path / "out").iterdir() if path.name.startswith(".")] == []


# --- which blocks are whose --------------------------------------------------------------------


@given(st.integers(0, 40), st.integers(1, 9))
def test_portions_are_the_whole_and_nothing_twice(count: int, shares: int) -> None:
    things = list(range(count))
    parts = [portion(things, Share(index, shares)) for index in range(shares)]
    assert [thing for part in parts for thing in part] == things
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    # A lone block is the first share's.
    assert count == 0 or parts[0]


@settings(max_examples=60)
@given(st.data(), st.integers(0, 2))
def test_joined_blocks_are_those_blocks(data: st.DataObject, axis: int) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, 20)] * 3))
    edge = data.draw(st.tuples(*[st.integers(1, 9)] * 3))
    units = Units(shape, edge, axis)
    some = data.draw(st.sets(st.sampled_from(units.all)))
    most = data.draw(st.integers(1, 400))

    def across(box: tuple[slice, ...]) -> int:
        return prod(p.stop - p.start for k, p in enumerate(box) if k != axis)

    boxes = units.joined(some, lambda box: across(box) <= most)
    found = Counter(number for box in boxes for number in units.numbers(box))
    assert found == Counter(some)
    smallest = prod(n for k, n in enumerate(edge) if k != axis)
    assert all(across(box) <= max(most, smallest) for box in boxes)
    # Without a limit, all blocks are one box.
    assert len(units.joined(units.all, lambda box: True)) == 1


def test_blocks_behind_one_another_come_first() -> None:
    units = Units((40, 30), (10, 10), 0)
    assert units.all[:5] == [(0, 0), (1, 0), (2, 0), (3, 0), (0, 1)]
    assert [units.corner(number) for number in units.all[-2:]] == [(20, 20), (30, 20)]


# --- shares ------------------------------------------------------------------------------------


def unfinished(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


@pytest.mark.parametrize("maps", [{}, {"probabilities": True, "uncertainty": True}])
def test_the_blocks_of_one_scan_are_divided(
    models: dict[int, Path], tmp_path: Path, small: None, maps: dict[str, bool]
) -> None:
    scan = write_zarr(tmp_path / "scan.ome.zarr", voxels(2), 20)
    (alone,) = go(models[2], tmp_path / "alone", scan, **maps)
    told = []
    for index in (2, 0, 1):
        assert not (tmp_path / "out" / "scan_seg.ome.zarr").exists()
        told += go(models[2], tmp_path / "out", scan, shard=f"{index}/3", **maps)
    assert [record.status for record in told] == ["part", "part", "done"]
    assert told[0].message == "5 of 15 blocks are done; others do the rest"
    for name in ("seg", "prob", "uncertainty")[: 1 + len(maps)]:
        pair = [tmp_path / part / f"scan_{name}.ome.zarr" for part in ("alone", "out")]
        expected, found = (open_scan(path).read(whole_of(path)) for path in pair)
        assert np.abs(found.astype(float) - expected).mean() < 1e-3
        assert expected.std() > 0
    assert sum(dict(told[2].counts).values()) == prod(SHAPES[2])
    assert np.abs(np.subtract(*[[n for _, n in r.counts] for r in (alone, told[2])])).max() < 30
    assert unfinished(tmp_path / "out") == []
    again = go(models[2], tmp_path / "out", scan, shard="1/3", **maps)
    assert [record.status for record in again] == ["skipped"]


def whole_of(path: Path) -> tuple[slice, ...]:
    return tuple(slice(0, n) for n in open_scan(path).geometry.shape)


def test_as_many_scans_as_shares_are_not_divided(models: dict[int, Path], tmp_path: Path) -> None:
    for name in "ab":
        write_zarr(tmp_path / "scans" / f"{name}.ome.zarr", voxels(2)[:40, :40], 20)
    for index, name in enumerate("ab"):
        (record,) = go(models[2], tmp_path / "out", tmp_path / "scans", shard=f"{index}/2")
        assert (record.status, record.path.name) == ("done", f"{name}.ome.zarr")


def test_blocks_of_other_settings_are_not_gone_on_with(
    models: dict[int, Path], tmp_path: Path, small: None
) -> None:
    scan = write_zarr(tmp_path / "scan.ome.zarr", voxels(2), 20)
    go(models[2], tmp_path / "out", scan, shard="0/2")
    (record,) = go(models[2], tmp_path / "out", scan, settings={"decode.overlap": 0.1})
    assert record.status == "failed"
    assert "of another model or with other settings" in record.message
    (record,) = go(models[2], tmp_path / "out", scan)
    assert record.status == "done"


# --- what needs the whole mask -----------------------------------------------------------------


def test_a_mask_in_blocks_is_cleaned_as_a_whole(
    models: dict[int, Path], tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = write_zarr(tmp_path / "scan.ome.zarr", voxels(2), 20)
    cleaned = {"settings": {"decode.min_size": (30.0,)}}
    (record,) = go(models[2], tmp_path / "out", scan, **cleaned)
    predictor = Predictor(models[2], device="cpu", settings=cleaned["settings"])
    expected = predictor(read_scan(scan)).array
    assert (read_mask(record.output).array != expected).mean() < 2e-3
    assert (expected != whole(models[2], scan)).any()
    monkeypatch.setattr(room, "free_bytes", lambda limit: 1000)
    (record,) = go(models[2], tmp_path / "small", scan, **cleaned)
    assert record.status == "failed"
    assert "too large to be cleaned" in record.message
    assert "--set decode.min_size=0" in record.message


def test_a_device_without_memory_keeps_what_is_done(
    models: dict[int, Path], tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unetseg.errors import DeviceError

    scan = write_zarr(tmp_path / "scan.ome.zarr", voxels(2), 20)
    original, notes, computed = Predictor.part, [], []

    def part(self: Predictor, image: Any, box: Any, **more: Any) -> Iterator[Any]:
        for number, piece in enumerate(original(self, image, box, **more)):
            if self.machine.kind != "cpu" and number == 4:
                raise DeviceError("out of memory", where="cuda")
            computed.append((self.machine.kind, piece.box))
            yield piece

    monkeypatch.setattr(Predictor, "part", part)
    first = Predictor.__init__

    def init(self: Predictor, *args: Any, **more: Any) -> None:
        first(self, *args, **more)
        if not notes and not computed:
            self.machine = replace(self.machine, device="cuda:0")

    monkeypatch.setattr(Predictor, "__init__", init)

    def hear(event: Any) -> None:
        if isinstance(event, Note) and event.level == "warning":
            notes.append(event.text)

    request = Request([scan], model=models[2], output=tmp_path / "out", device="cpu")
    (record,) = predict(request, hear)
    assert record.status == "done", record.message
    assert notes == [f"{scan}: out of memory on cuda; what is left of it on the processor"]
    assert {kind for kind, _ in computed} == {"cuda", "cpu"}
    assert (read_mask(record.output).array != whole(models[2], scan)).mean() < 1e-3


def test_a_damaged_scan_is_told_and_nothing_is_left(
    models: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_WHOLE_SHARE", 0.0)
    scan = write_tiles(tmp_path / "scan.tif", voxels(2))
    data = bytearray(scan.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 300] = b"\xff" * 300
    scan.write_bytes(data)
    (record,) = go(models[2], tmp_path / "out", scan)
    assert record.status == "failed"
    assert f"{scan}: not a readable tiff file" in record.message
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["scan.tif"]
