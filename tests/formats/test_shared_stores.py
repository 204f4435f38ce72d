"""Stores that processes write together: real processes, one of them killed."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from unetseg.errors import DataError, ShapeMismatch
from unetseg.formats import mask_file, open_scan, read_mask
from unetseg.formats.zarr_writing import Store
from unetseg.records import Label, Opened

SHAPE = (2100, 2500)


@pytest.fixture
def scan(tmp_path: Path) -> Opened:
    axes = [{"name": name, "type": "space"} for name in "yx"]
    scale = {"type": "scale", "scale": [1, 1]}
    datasets = [{"path": "0", "coordinateTransformations": [scale]}]
    entry = {"version": "0.4", "axes": axes, "datasets": datasets}
    group = zarr.create_group(
        tmp_path / "a.zarr", zarr_format=2, attributes={"multiscales": [entry]}
    )
    group.create_array("0", shape=SHAPE, dtype="u1", chunks=(512, 512))
    return open_scan(tmp_path / "a.zarr")


def expected() -> np.ndarray:
    rows, columns = np.ogrid[: SHAPE[0], : SHAPE[1]]
    return ((rows // 100 + columns // 90) % 9 + 1).astype(np.uint8)


def boxes(block: tuple[int, ...]) -> list[tuple[slice, slice]]:
    return [
        (slice(y, min(y + block[0], SHAPE[0])), slice(x, min(x + block[1], SHAPE[1])))
        for y in range(0, SHAPE[0], block[0])
        for x in range(0, SHAPE[1], block[1])
    ]


def share(folder: Path, number: int, total: int) -> int:
    """What a process does for its share: its boxes, then the finish if all is there."""
    file = mask_file(folder / "m.ome.zarr", open_scan(folder / "a.zarr"), np.uint8, made_by="model")
    mine = boxes(file.block)[number::total]
    for box in mine:
        file.write(box, expected()[box])
    if len(file.done()) == len(boxes(file.block)):
        file.finish()
    return len(mine)


def whole(folder: Path) -> bool:
    return np.array_equal(read_mask(folder / "m.ome.zarr").array, expected())


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_processes_that_know_nothing_of_one_another(tmp_path: Path, scan: Opened) -> None:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(3, mp_context=spawn) as pool:
        done = list(pool.map(share, [tmp_path] * 3, range(3), [3] * 3))
    assert sum(done) == 9
    assert whole(tmp_path)
    assert left(tmp_path) == []


def test_what_a_killed_process_has_left_is_gone_on_with(tmp_path: Path, scan: Opened) -> None:
    code = (
        "import time, sys; from pathlib import Path; import numpy as np\n"
        "from unetseg.formats import mask_file, open_scan\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_shared_stores import boxes, expected\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "scan = open_scan(folder / 'a.zarr')\n"
        "file = mask_file(folder / 'm.ome.zarr', scan, np.uint8, made_by='model')\n"
        "for box in boxes(file.block)[:4]:\n    file.write(box, expected()[box])\n"
        "print('there', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"there\n"
        child.send_signal(signal.SIGKILL)
    assert not (tmp_path / "m.ome.zarr").exists()
    file = mask_file(tmp_path / "m.ome.zarr", scan, np.uint8, made_by="model")
    assert file.done() == {(0, 0), (0, 1024), (0, 2048), (1024, 0)}
    for box in boxes(file.block):
        if tuple(axis.start for axis in box) not in file.done():
            file.write(box, expected()[box])
    file.finish()
    assert whole(tmp_path)
    assert left(tmp_path) == []


def test_a_process_killed_while_it_finishes(tmp_path: Path, scan: Opened) -> None:
    """The lock goes with the process: the next one makes the pyramid anew."""
    code = (
        "import time; from pathlib import Path; import numpy as np\n"
        "from unetseg.formats import mask_file, open_scan, zarr_writing\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "def hang(*_):\n    print('there', flush=True); time.sleep(60)\n"
        "zarr_writing._thinned = hang\n"
        "scan = open_scan(folder / 'a.zarr')\n"
        "mask_file(folder / 'm.ome.zarr', scan, np.uint8, made_by='model').finish()"
    )
    file = mask_file(tmp_path / "m.ome.zarr", scan, np.uint8, made_by="model")
    for box in boxes(file.block):
        file.write(box, expected()[box])
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"there\n"
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(file.finish)
            time.sleep(0.3)
            assert not waiting.done()
            child.send_signal(signal.SIGKILL)
            waiting.result(timeout=60)
    assert whole(tmp_path)
    assert left(tmp_path) == []


def test_several_finish_at_once(tmp_path: Path, scan: Opened) -> None:
    files = [mask_file(tmp_path / "m.ome.zarr", scan, np.uint8, made_by="model") for _ in range(4)]
    for box in boxes(files[0].block):
        files[0].write(box, expected()[box])
    with ThreadPoolExecutor(4) as pool:
        for each in [pool.submit(file.finish) for file in files]:
            each.result()
    files[0].finish()
    assert whole(tmp_path)
    assert left(tmp_path) == []


def test_who_comes_late_changes_nothing(tmp_path: Path, scan: Opened) -> None:
    """Two processes were given the same box; the faster one has finished."""
    one, late = (mask_file(tmp_path / "m.ome.zarr", scan, np.uint8, made_by="m") for _ in range(2))
    for box in boxes(one.block):
        one.write(box, expected()[box])
    one.finish()
    late.write(boxes(one.block)[0], np.zeros((1024, 1024), np.uint8))
    late.finish()
    assert whole(tmp_path)
    assert left(tmp_path) == []


def test_who_is_overtaken_while_writing_leaves_nothing(
    tmp_path: Path, scan: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, late = (mask_file(tmp_path / "m.ome.zarr", scan, np.uint8, made_by="m") for _ in range(2))
    for box in boxes(one.block):
        one.write(box, expected()[box])
    inner = Store._write

    def overtaken(self: Store, *args: Any) -> None:
        one.finish()
        inner(self, *args)

    monkeypatch.setattr(Store, "_write", overtaken)
    late.write(boxes(one.block)[0], np.zeros((1024, 1024), np.uint8))
    assert whole(tmp_path)
    assert left(tmp_path) == []


def test_a_store_that_is_finished_while_it_is_opened(
    tmp_path: Path, scan: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = mask_file(tmp_path / "m.ome.zarr", scan, np.uint8, made_by="m")
    inner = Store._create

    def overtaken(self: Store) -> None:
        one.finish()
        # What it sees if the folder goes between two looks at it.
        monkeypatch.setattr(Path, "exists", lambda _: True)
        inner(self)

    monkeypatch.setattr(Store, "_create", overtaken)
    with pytest.raises(DataError, match=r"m\.ome\.zarr: another process has just finished it"):
        mask_file(tmp_path / "m.ome.zarr", scan, np.uint8, made_by="m")


def test_many_may_begin_at_once(tmp_path: Path, scan: Opened) -> None:
    def begin(_: int) -> frozenset[Any]:
        return mask_file(tmp_path / "m.ome.zarr", scan, np.uint8, made_by="model").done()

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(begin, range(6))) == {frozenset()}
    assert left(tmp_path) == [".m.ome.zarr.unfinished"]


@pytest.mark.parametrize(
    ("dtype", "labels", "word"),
    [
        (np.uint16, (), r"of another type is here \(expected uint16, got uint8\)"),
        (np.uint8, (Label(1, "other"),), "with other axes or labels is here"),
    ],
)
def test_an_unfinished_store_of_another_kind_is_refused(
    tmp_path: Path, scan: Opened, dtype: Any, labels: Any, word: str
) -> None:
    file = mask_file(tmp_path / "m.ome.zarr", scan, np.uint8, made_by="model")
    with pytest.raises(DataError, match=rf"unfinished work {word}.*or remove /.*unf"):
        mask_file(tmp_path / "m.ome.zarr", scan, dtype, labels, made_by="model")
    file.discard()
    mask_file(tmp_path / "m.ome.zarr", scan, dtype, labels, made_by="model").discard()
    assert left(tmp_path) == []


def test_unfinished_work_of_another_model_is_refused(tmp_path: Path, scan: Opened) -> None:
    file = mask_file(tmp_path / "m.ome.zarr", scan, np.uint8, made_by="model 1")
    mask_file(tmp_path / "m.ome.zarr", scan, np.uint8, made_by="model 1")
    with pytest.raises(DataError, match="unfinished work of another model or with other settings"):
        mask_file(tmp_path / "m.ome.zarr", scan, np.uint8, made_by="model 2")
    file.discard()


def test_without_a_maker_a_store_is_its_own(tmp_path: Path, scan: Opened) -> None:
    one, other = (mask_file(tmp_path / "m.ome.zarr", scan, np.uint8) for _ in range(2))
    for box in boxes(one.block):
        one.write(box, expected()[box])
    assert len(one.done()) == 9
    assert other.done() == frozenset()
    other.discard()
    one.finish()
    assert whole(tmp_path)
    assert left(tmp_path) == []


def test_boxes_that_share_chunks_may_be_written_by_threads(tmp_path: Path, scan: Opened) -> None:
    file = mask_file(tmp_path / "m.ome.zarr", scan, np.uint8, made_by="model")
    with ThreadPoolExecutor(4) as pool:
        for each in [pool.submit(file.write, box, expected()[box]) for box in boxes((300, 700))]:
            each.result()
    file.finish()
    assert whole(tmp_path)


def test_values_and_boxes_that_do_not_fit(tmp_path: Path, scan: Opened) -> None:
    file = mask_file(tmp_path / "m.ome.zarr", scan, np.uint8, made_by="model")
    with pytest.raises(DataError, match="uint8 cannot hold"):
        file.write((slice(0, 1), slice(0, 1)), np.array([[256]]))
    with pytest.raises(ShapeMismatch, match="not in the scan"):
        file.write((slice(2090, 2110), slice(0, 1)), np.zeros((20, 1), np.uint8))
    assert file.done() == frozenset()
    file.discard()
    assert left(tmp_path) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_folder_that_cannot_be_written_to(tmp_path: Path, scan: Opened) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(DataError, match=r"m\.ome\.zarr: cannot be written: Permission denied"):
        mask_file(tmp_path / "locked" / "m.ome.zarr", scan, np.uint8, made_by="model")


def test_a_path_below_a_file(tmp_path: Path, scan: Opened) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"m\.ome\.zarr: cannot be written"):
        mask_file(tmp_path / "file" / "m.ome.zarr", scan, np.uint8, made_by="model")


def test_a_store_is_a_mask_file(tmp_path: Path, scan: Opened) -> None:
    file = mask_file(tmp_path / "m.ome.zarr", scan, np.uint8, made_by="model")
    assert isinstance(file, Store)
    assert file.block == (1024, 1024)
