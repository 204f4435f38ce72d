"""Objects of scans that are not decoded as a whole: the same, whoever does which blocks."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cubes import request, write_squares
from numpy.typing import NDArray
from test_blocks import (  # noqa: F401 - `small` is a fixture
    go,
    small,
    unfinished,
    voxels,
    write_model,
    write_tiles,
    write_zarr,
)

from unetseg.config import with_overrides
from unetseg.errors import DataError
from unetseg.formats import read_mask, read_scan
from unetseg.formats.zarr_writing import Store
from unetseg.objects.blockwise import decode_blocks
from unetseg.objects.decoding import BYTES_PER_VOXEL
from unetseg.prediction import Predictor, Request, blocks, coded, predict, room
from unetseg.prediction.coded import decoding_blocks
from unetseg.prediction.foreseen import foreseen
from unetseg.prediction.outlook import Limits
from unetseg.prediction.running import Work
from unetseg.training import plan_for


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network for objects, with windows of 16 pixels; it sees many small ones."""
    folder = tmp_path_factory.mktemp("model")
    data = write_squares(folder / "data")
    plan, _ = plan_for(request(data, folder / "run"))
    names = {"class_names": ("background", "object"), "class_values": (0, 1)}
    own = replace(
        plan.data, task="instances", spacing=(), unit="um", orientation="as_read", **names
    )
    rules = {"foreground": 0.5, "seed_depth": 0.5, "seed_centre": 0.5, "contrast": 0.15}
    plan = replace(plan, data=own, decode=replace(plan.decode, **rules, smoothing=1.0))
    plan = with_overrides(plan, {"patch.size": (16, 16)}, where="test")
    return write_model(folder / "model", plan)


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch, small: None) -> None:  # noqa: F811
    """Objects of noise may be as long as a window; they are decoded in many blocks."""
    monkeypatch.setattr(coded, "_HALO_PATCHES", 1.5)
    monkeypatch.setattr(blocks, "walk_bytes", lambda limit: BYTES_PER_VOXEL * 75 * 80)


def expected(model: Path, scan: Path, **settings: Any) -> NDArray[Any]:
    predictor = Predictor(model, device="cpu", settings=settings)
    found = predictor(read_scan(scan)).array
    assert found.max() > 30
    return found


def same(found: NDArray[Any], wanted: NDArray[Any]) -> bool:
    """Whether the objects are the same but for a few voxels.

    A network does not give the very same numbers for windows in other batches.
    """
    pairs, voxels = np.unique(np.stack([found.ravel(), wanted.ravel()]), axis=1, return_counts=True)
    sizes = [np.bincount(array.ravel()) for array in (found, wanted)]
    alike = sum(
        n
        for (one, other), n in zip(pairs.T, voxels, strict=True)
        if n > 0.9 * max(sizes[0][one], sizes[1][other])
    )
    return bool(alike > 0.99 * found.size)


@pytest.mark.parametrize("kind", ["zarr", "tiff"])
def test_a_scan_that_does_not_fit_has_the_objects_of_one_that_does(
    model: Path, tmp_path: Path, wide: None, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    write: Callable[..., Path] = write_zarr if kind == "zarr" else write_tiles
    name = "scan.ome.zarr" if kind == "zarr" else "scan.tif"
    scan = write(tmp_path / name, voxels(2), 16)
    wanted = expected(model, scan)
    (whole,) = go(model, tmp_path / "whole", scan)
    monkeypatch.setattr(room, "_WHOLE_SHARE", 0.0)
    parts = []
    monkeypatch.setattr(
        coded, "decode_blocks", lambda *a, **k: parts.append(a[2]) or decode_blocks(*a, **k)
    )
    (record,) = go(model, tmp_path / "out", scan)
    assert record.status == whole.status == "done", record.message
    assert len(parts) == 1
    assert len(list(parts[0])) > 3
    found = read_mask(record.output).array
    assert found.dtype == np.min_scalar_type(found.max())
    assert same(found, wanted)
    assert same(read_mask(whole.output).array, wanted)
    assert sorted(np.unique(found)) == list(range(found.max() + 1))
    assert dict(record.counts) == {"background": (found == 0).sum(), "object": (found > 0).sum()}
    assert [each.count for each in record.objects] == [found.max()]
    assert unfinished(tmp_path / "out") == []


def test_a_halo_that_is_too_small_gives_other_objects(
    model: Path, tmp_path: Path, wide: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = write_zarr(tmp_path / "scan.ome.zarr", voxels(2), 16)
    monkeypatch.setattr(room, "_WHOLE_SHARE", 0.0)
    monkeypatch.setattr(coded, "_HALO_PATCHES", 0.01)
    monkeypatch.setattr(blocks, "walk_bytes", lambda limit: BYTES_PER_VOXEL * 30 * 30)
    (record,) = go(model, tmp_path / "out", scan)
    assert record.status == "done", record.message
    assert not same(read_mask(record.output).array, expected(model, scan))


def test_shares_write_codes_and_the_last_one_finds_the_objects(
    model: Path, tmp_path: Path, wide: None
) -> None:
    scan = write_zarr(tmp_path / "scan.ome.zarr", voxels(2), 20)
    told = []
    for index in (2, 0, 1):
        assert not (tmp_path / "out" / "scan_seg.ome.zarr").exists()
        told += go(model, tmp_path / "out", scan, shard=f"{index}/3")
    assert [record.status for record in told] == ["part", "part", "done"]
    assert told[0].message == "5 of 15 blocks are done; others do the rest"
    assert same(read_mask(told[2].output).array, expected(model, scan))
    assert unfinished(tmp_path / "out") == []
    (again,) = go(model, tmp_path / "out", scan, shard="1/3")
    assert again.status == "skipped"


def test_what_shares_have_left_is_gone_on_with(model: Path, tmp_path: Path, wide: None) -> None:
    scan = write_zarr(tmp_path / "scan.ome.zarr", voxels(2), 20)
    go(model, tmp_path / "out", scan, shard="0/3")
    (folder,) = (path for path in (tmp_path / "out").iterdir() if path.name.startswith("."))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    other = go(model, tmp_path / "out", scan, settings={"decode.contrast": 0.2})
    assert "of another model or with other settings" in other[0].message
    seen: dict[Path, int] = {}
    discard = Store.discard

    def remember(store: Store) -> None:
        if not seen:
            seen.update({path: path.stat().st_mtime_ns for path in before if path.exists()})
        discard(store)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "discard", remember)
        (record,) = go(model, tmp_path / "out", scan)
    assert record.status == "done", record.message
    marks = [path for path in before if path.parent.name == "done"]
    assert len(marks) == 5
    assert all(seen[path] == before[path] for path in marks)
    assert same(read_mask(record.output).array, expected(model, scan))


class Killed(BaseException):
    """As if the process had ended."""


@pytest.mark.parametrize("where", ["decode_blocks", "write_object_classes"])
def test_a_process_that_is_killed_while_it_decodes_loses_no_codes(
    model: Path, tmp_path: Path, wide: None, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    scan = write_zarr(tmp_path / "scan.ome.zarr", voxels(2), 20)
    for index in (0, 1):
        go(model, tmp_path / "out", scan, shard=f"{index}/3")

    def killed(*args: Any, **more: Any) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coded, where, killed)
        with pytest.raises(Killed):
            go(model, tmp_path / "out", scan, shard="2/3")
    assert not (tmp_path / "out" / "scan_seg.ome.zarr").exists()
    monkeypatch.setattr(Predictor, "part", killed)
    (record,) = go(model, tmp_path / "out", scan, shard="2/3")
    assert record.status == "done", record.message
    assert same(read_mask(record.output).array, expected(model, scan))
    assert unfinished(tmp_path / "out") == []


def test_a_tiff_leaves_nothing_of_what_fails(
    model: Path, tmp_path: Path, wide: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = write_tiles(tmp_path / "scan.tif", voxels(2))
    monkeypatch.setattr(room, "_WHOLE_SHARE", 0.0)

    def full(*args: Any, **more: Any) -> None:
        raise DataError("the disk is full", where="there")

    monkeypatch.setattr(coded, "decode_blocks", full)
    (record,) = go(model, tmp_path / "out", scan)
    assert record.status == "failed"
    assert "the disk is full" in record.message
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["scan.tif"]


def test_decoding_ends_when_the_work_is_to_end(
    model: Path, tmp_path: Path, wide: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interruption does not wait for all blocks of a large scan."""
    scan = write_zarr(tmp_path / "scan.ome.zarr", voxels(2), 20)
    go(model, tmp_path / "out", scan, shard="0/2")
    asked: list[int] = []

    def check(work: Work) -> None:
        if asked:
            raise Killed

    def decode(*args: Any, check: Callable[[], None], **more: Any) -> None:
        asked.append(1)
        check()

    monkeypatch.setattr(Work, "check", check)
    monkeypatch.setattr(coded, "decode_blocks", decode)
    with pytest.raises(Killed):
        go(model, tmp_path / "out", scan, shard="1/2")
    assert asked == [1]


# --- what is said before ------------------------------------------------------------------------


def test_blocks_keep_to_their_memory(model: Path, tmp_path: Path) -> None:
    scan = write_zarr(tmp_path / "scan.ome.zarr", np.zeros((400, 300), np.uint8), 64)
    predictor = Predictor(model, device="cpu")
    placement = predictor.prepare(read_scan(scan)).placement
    for voxel_count in (10**6, 20_000, 5_000, 0):
        found = decoding_blocks(predictor.segmenter, placement, 3, BYTES_PER_VOXEL * voxel_count)
        assert found.halo == (11, 11)
        assert found.most_voxels <= max(voxel_count, 33**2)
    assert found.edge == (10, 10) or max(found.edge) <= 11
    assert decoding_blocks(predictor.segmenter, placement, 3, 10**9).edge == (400, 300)


def test_the_outlook_knows_how_objects_are_found(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large, small_ = (
        write_zarr(tmp_path / f"{edge}.ome.zarr", np.zeros((edge, edge), np.uint8), 512)
        for edge in (6000, 256)
    )

    def of(scan: Path, **more: Any) -> int:
        asked = Request([scan], model=model, output=tmp_path / "out", device="cpu", **more)
        (found,) = foreseen(asked)
        assert found.outlook is not None, found.fault
        return found.outlook.host_bytes

    whole, less = of(large), of(small_)
    # A small one takes what a walk takes.
    assert whole - less > BYTES_PER_VOXEL * 6000**2 - 600e6
    assert not (tmp_path / "out").exists()
    # In blocks it is a part of that, and of the limit; what is said is kept to.
    monkeypatch.setattr(room, "_WHOLE_SHARE", 0.0)
    monkeypatch.setattr(room, "_WALK_BYTES", 32 << 20)
    assert of(large) < whole - 1e9
    (record,) = foreseen(
        Request(
            [large], model=model, output=tmp_path / "out", device="cpu", limits=Limits(host=10**6)
        )
    )
    assert "does not fit into the memory that may be used" in record.fault


def test_the_manifest_counts_objects(
    model: Path, tmp_path: Path, wide: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = write_zarr(tmp_path / "scan.ome.zarr", voxels(2), 20)
    monkeypatch.setattr(room, "_WHOLE_SHARE", 0.0)
    (record,) = predict(Request([scan], model=model, output=tmp_path / "out", device="cpu"))
    files = json.loads((tmp_path / "out" / "manifest.json").read_text())["files"]
    told = files["scan_seg.ome.zarr"]["classes"]["object"]
    assert told["objects"] == read_mask(record.output).array.max()
