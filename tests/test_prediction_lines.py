"""Cases on their way: what happens at once, in which order, and what becomes of failures."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Barrier, Event, Lock
from typing import Any, cast

import nibabel as nib
import numpy as np
import pytest
from cubes import cube, request, write_cubes

from unetseg import prediction
from unetseg.errors import DataError, DeviceError, UsageError
from unetseg.prediction import Predictor, Request, cases, predict
from unetseg.prediction.cases import Turn, WholeMask
from unetseg.prediction.devices import device_names
from unetseg.prediction.places import Job
from unetseg.prediction.running import Work, run
from unetseg.prediction.shares import Share
from unetseg.records import Advance, Case, FileDone, Listener, Machine, Note
from unetseg.training import train

PATIENCE = 60.0


# --- steps without a network -------------------------------------------------------------------


@dataclass
class Steps:
    """Stands for reading, computing and writing; each does what a test wants at a case's name."""

    read: Callable[[str], None] = lambda name: None
    compute: Callable[[str, str], None] = lambda name, device: None
    write: Callable[[str], None] = lambda name: None
    log: list[str] = field(default_factory=list)
    heard: list[object] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)

    def note(self, text: str) -> None:
        with self.lock:
            self.log.append(text)

    def go(
        self, monkeypatch: pytest.MonkeyPatch, names: str, *devices: str, hear: Any = None
    ) -> list[tuple[str, str]]:
        """Do a case for each letter; its status and message."""
        monkeypatch.setattr(cases, "read", self._read)
        jobs = [Job(Case(name, (Path(name),)), Path(f"{name}_seg")) for name in names]
        work = Work(Request([]), iter(enumerate(jobs)), hear or self.heard.append)
        found = [Device(device) for device in devices or ("cpu",)]
        try:
            run(cast("list[Predictor]", found), work)
        finally:
            self.done = [work.done[place] for place in sorted(work.done)]
        return [(record.status, record.message) for record in self.done]

    def _read(self, job: Job, predictor: Any, asked: Request) -> "Fake":
        self.note(f"read {job.case.name}")
        self.read(job.case.name)
        return Fake(self, job)


@dataclass
class Device:
    name: str
    most_together: int = 1

    @property
    def machine(self) -> Machine:
        return Machine(self.name, 0, 1)

    @property
    def on_processor(self) -> "Device":
        return Device("cpu")

    def answers(self, scans: Sequence[object], listener: Listener) -> list[None]:
        del listener
        return [None] * len(scans)


@dataclass
class Fake:
    steps: Steps
    job: Job

    def compute(self, turn: Turn) -> "Fake":
        turn.check()
        self.steps.note(f"compute {self.job.case.name}")
        self.steps.compute(self.job.case.name, turn.predictor.machine.device)
        return self

    def write(self) -> FileDone:
        self.steps.write(self.job.case.name)
        self.steps.note(f"written {self.job.case.name}")
        return FileDone(self.job.case.images, self.job.mask, "done")


def waiting(event: Event) -> None:
    assert event.wait(PATIENCE), "it does not happen at once"


def test_reading_computing_and_writing_happen_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of three steps on three cases waits for the other two."""
    together = Barrier(3, timeout=PATIENCE)

    def meet(name: str, wanted: str) -> None:
        if name == wanted:
            together.wait()

    steps = Steps(
        read=lambda name: meet(name, "c"),
        compute=lambda name, device: meet(name, "b"),
        write=lambda name: meet(name, "a"),
    )
    assert steps.go(monkeypatch, "abcd") == [("done", "")] * 4


def test_no_more_than_one_scan_is_ahead_and_one_mask_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def compute(name: str, device: str) -> None:
        if name == "a":
            # Long enough for a reader that does not stop after the next one.
            time.sleep(0.3)
            with steps.lock:
                seen.append([line for line in steps.log if line.startswith("read")])

    def write(name: str) -> None:
        if name == "a":
            time.sleep(0.3)
            with steps.lock:
                seen.append([line for line in steps.log if line.startswith("compute")])

    seen: list[list[str]] = []
    steps = Steps(compute=compute, write=write)
    steps.go(monkeypatch, "abcdef")
    assert seen == [["read a", "read b"], ["compute a", "compute b"]]


@pytest.mark.parametrize("step", ["read", "compute", "write"])
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (DataError("is damaged"), "b: is damaged"),
        (OSError(28, "No space left on device"), "b: cannot be read or written: No space left"),
        (MemoryError(), "b: does not fit in memory"),
        (RuntimeError("can't allocate memory: you tried"), "b: does not fit in memory"),
    ],
)
def test_what_fails_is_told_of_its_file_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch, step: str, error: Exception, message: str
) -> None:
    def fail(name: str, device: str = "") -> None:
        if name == "b":
            raise error

    steps = Steps(**{step: fail})
    told = steps.go(monkeypatch, "abcd")
    assert [status for status, _ in told] == ["done", "failed", "done", "done"]
    assert told[1][1].startswith(message)
    records = [event for event in steps.heard if isinstance(event, FileDone)]
    assert [record.path.name for record in records] == list("abcd")


@pytest.mark.parametrize("step", ["read", "compute", "write"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
@pytest.mark.parametrize("devices", [["cpu"], ["cpu", "cpu"]])
def test_what_is_no_fault_of_a_file_ends_the_work_after_what_is_being_written(
    monkeypatch: pytest.MonkeyPatch, step: str, error: type[BaseException], devices: list[str]
) -> None:
    def fail(name: str, device: str = "") -> None:
        if name == "c":
            raise error
        time.sleep(0.01)

    steps = Steps(**{step: fail})
    with pytest.raises(error):
        steps.go(monkeypatch, "abcdefghijklmnopqrstuvwxyz", *devices)
    done = [record.path.name for record in steps.done]
    # Beside another line, "a" may still be on its way when "c" fails.
    assert "a" in done or len(devices) > 1
    assert "c" not in done
    assert "z" not in done
    # Whatever was said to be done was written.
    assert {f"written {name}" for name in done} <= set(steps.log)


def test_a_listener_that_fails_ends_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def hear(event: object) -> None:
        if isinstance(event, FileDone) and event.path.name == "b":
            raise BrokenPipeError

    steps = Steps()
    with pytest.raises(BrokenPipeError):
        steps.go(monkeypatch, "abcdefgh", hear=hear)
    assert [record.path.name for record in steps.done] in (list("ab"), list("abc"))


def test_devices_take_the_next_case_when_they_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one is held up by its first case until the other has done all that it had not taken."""
    free = Event()
    by: dict[str, str] = {}

    def compute(name: str, device: str) -> None:
        by[name] = device
        if name == "a":
            waiting(free)
        if len(by) == 5:
            free.set()

    steps = Steps(compute=compute)
    assert steps.go(monkeypatch, "abcdef", "cuda:0", "cuda:1") == [("done", "")] * 6
    assert [record.path.name for record in steps.done] == list("abcdef")
    counts = {device: list(by.values()).count(device) for device in by.values()}
    assert sorted(counts.values()) == [2, 4]


# --- a device that is short of memory ----------------------------------------------------------


def test_a_scan_that_a_device_has_no_memory_for_is_done_on_the_processor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[tuple[str, str]] = []

    def compute(name: str, device: str) -> None:
        tried.append((name, device))
        if name == "b" and device != "cpu":
            raise DeviceError("out of memory", where=device)

    steps = Steps(compute=compute)
    assert steps.go(monkeypatch, "abc", "cuda:0") == [("done", "")] * 3
    # The next one has a size of its own: it begins on the device again.
    assert tried == [("a", "cuda:0"), ("b", "cuda:0"), ("b", "cpu"), ("c", "cuda:0")]
    notes = [event for event in steps.heard if isinstance(event, Note)]
    assert notes == [Note("b: out of memory on cuda:0; once more on the processor", "warning")]


def test_a_scan_that_nothing_has_memory_for_is_told_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def compute(name: str, device: str) -> None:
        if name == "a":
            raise DeviceError("out of memory", where=device)

    told = Steps(compute=compute).go(monkeypatch, "ab", "cuda:0")
    assert told == [("failed", "cpu: out of memory"), ("done", "")]


# --- real ones ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lines")
    return train(request(write_cubes(folder / "data", 3), folder / "run")).run


def write_scans(folder: Path, count: int, size: int = 16) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"s{number}.nii.gz" for number in range(count)]
    for number, path in enumerate(paths):
        picture = nib.Nifti1Image(cube((size,) * 3, number)[0], np.eye(4))
        picture.header.set_xyzt_units("mm")
        nib.save(picture, path)
    return paths


def masks(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.nii.gz")}


def test_two_devices_give_the_masks_of_one(model: Path, tmp_path: Path) -> None:
    scans = write_scans(tmp_path / "scans", 5)
    for folder, devices in (("one", ()), ("two", (0, 1))):
        asked = Request(scans, model=model, output=tmp_path / folder, device="cpu", devices=devices)
        done = predict(asked)
        assert [record.path for record in done] == scans
        assert [record.status for record in done] == ["done"] * 5
    assert masks(tmp_path / "one") == masks(tmp_path / "two")
    assert len(masks(tmp_path / "two")) == 5


@pytest.mark.parametrize(
    ("device", "cards", "share", "names"),
    [
        ("auto", (), None, ("auto",)),
        ("cpu", (), Share(0, 2, card=1), ("cpu",)),
        ("cpu", (0, 1), None, ("cpu", "cpu")),
        ("cuda", (0, 2), None, ("cuda:0", "cuda:2")),
        ("cuda", (), Share(1, 4, card=1), ("cuda:1",)),
        ("cuda", (), Share(1, 4), ("cuda",)),
        ("cuda:3", (), Share(1, 4, card=1), ("cuda:3",)),
    ],
)
def test_names_of_devices(
    device: str, cards: tuple[int, ...], share: Share | None, names: tuple[str, ...]
) -> None:
    assert device_names(device, cards, share) == names


def test_several_devices_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(DeviceError, match=r"--devices: no such devices .*give --device cpu"):
        device_names("auto", (0, 1), None)
    with pytest.raises(UsageError, match=r"--device: several devices of one kind .*got mps"):
        device_names("mps", (0, 1), None)


def test_an_interruption_leaves_whole_files_and_their_manifest(model: Path, tmp_path: Path) -> None:
    scans, out = write_scans(tmp_path / "scans", 8), tmp_path / "out"

    def hear(event: object) -> None:
        if isinstance(event, FileDone) and event.path == scans[1]:
            raise KeyboardInterrupt

    asked = Request(scans, model=model, output=out, device="cpu", probabilities=True)
    with pytest.raises(KeyboardInterrupt):
        predict(asked, hear)
    names = sorted(path.name for path in out.iterdir())
    stems = [name.removesuffix("_seg.nii.gz") for name in names if "_seg" in name]
    assert stems[:2] == ["s0", "s1"]
    assert len(stems) < 8
    assert names == sorted(
        [f"{s}_{k}.nii.gz" for s in stems for k in ("prob", "seg")] + ["manifest.json"]
    )
    statuses = [record.status for record in predict(asked)]
    assert statuses == ["skipped"] * len(stems) + ["done"] * (8 - len(stems))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_command_at_once(model: Path, tmp_path: Path, number: int) -> None:
    write_scans(tmp_path / "scans", 12, 48)
    out = tmp_path / "out"
    words = ["predict", "scans", "-o", "out", "--model", str(model), "--device", "cpu", "--tta"]
    # Where the tests run in the background, a child would take over that Ctrl-C is ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-m", "unetseg.cli", *words],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    signal.signal(signal.SIGINT, before)
    deadline = time.monotonic() + 2 * PATIENCE
    while not list(out.glob("s*_seg.nii.gz")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    asked = time.monotonic()
    _, errors = process.communicate(timeout=PATIENCE)
    assert time.monotonic() - asked < 30
    assert process.returncode == 130, errors
    assert errors.endswith("interrupted\n")
    assert errors.count("interrupted") == 1
    assert "Traceback" not in errors
    names = sorted(path.name for path in out.iterdir())
    assert names[0] == "manifest.json"
    assert 1 <= len(names) - 1 < 12
    for name in names[1:]:
        assert re.fullmatch(r"s\d+_seg\.nii\.gz", name)
        assert np.asarray(nib.load(out / name).dataobj).shape == (48, 48, 48)


def test_a_full_disk_is_one_line_for_its_file(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans, out = write_scans(tmp_path / "scans", 3), tmp_path / "out"
    write = cases.write_mask

    def full(mask: Any, path: Path, like: Any) -> None:
        if path.name.startswith("s1"):
            with_half = path.with_name(f".01234567.{path.name}")
            with_half.write_bytes(b"half")
            with_half.unlink()
            raise OSError(28, "No space left on device", str(path))
        write(mask, path, like)

    monkeypatch.setattr(cases, "write_mask", full)
    done = predict(Request(scans, model=model, output=out, device="cpu", probabilities=True))
    assert [record.status for record in done] == ["done", "failed", "done"]
    assert re.search(r"s1_seg.*cannot be read or written: No space left", done[1].message)
    assert "\n" not in done[1].message
    # Where there is no mask nothing counts as done.
    monkeypatch.undo()
    done = predict(Request(scans, model=model, output=out, device="cpu", probabilities=True))
    assert [record.status for record in done] == ["skipped", "skipped", "done"]


def test_an_output_that_cannot_be_written_is_told_before_anything_is_computed(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("mine")
    scans = write_scans(tmp_path / "scans", 1)
    monkeypatch.setattr(Predictor, "pieces", None)
    with pytest.raises(DataError, match=r"file/out: cannot be written: Not a directory.*-o"):
        predict(Request(scans, model=model, output=tmp_path / "file" / "out", device="cpu"))


def test_what_a_killed_writer_has_left_goes_and_what_another_writes_stays(
    model: Path, tmp_path: Path
) -> None:
    scans, out = write_scans(tmp_path / "scans", 1), tmp_path / "out"
    out.mkdir()
    (out / ".0123abcd.s0_seg.nii.gz").write_bytes(b"half")
    (out / ".0123abcd.other_seg.nii.gz").write_bytes(b"half")
    predict(Request(scans, model=model, output=out, device="cpu"))
    names = sorted(path.name for path in out.iterdir())
    assert names == [".0123abcd.other_seg.nii.gz", "manifest.json", "s0_seg.nii.gz"]


def test_a_scan_does_not_stay_in_memory_while_it_is_written(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its voxels as they were read nor as the network took them."""
    read, write = cases.read, WholeMask.write
    kept: dict[Path, weakref.ref[Any]] = {}
    seen: list[tuple[int, bool]] = []

    def remember(job: Job, *given: Any) -> Any:
        ready = read(job, *given)
        kept[job.image] = weakref.ref(ready)
        return ready

    def look(self: WholeMask) -> FileDone:
        array = self.like.array
        held = array.nbytes if array.base is None else array.base.nbytes
        seen.append((held, kept[self.job.image]() is None))
        return write(self)

    monkeypatch.setattr(cases, "read", remember)
    monkeypatch.setattr(WholeMask, "write", look)
    scans = write_scans(tmp_path / "scans", 3)
    predict(Request(scans, model=model, output=tmp_path / "out", device="cpu"))
    # One voxel, and nothing of what was prepared.
    assert seen == [(4, True)] * 3


def test_what_a_killed_command_has_done_is_in_the_manifest(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between masks too, now and then."""
    monkeypatch.setattr(prediction, "_MANIFEST_SECONDS", 0.0)
    scans, out = write_scans(tmp_path / "scans", 3), tmp_path / "out"
    told: list[list[str]] = []

    def hear(event: object) -> None:
        if isinstance(event, Advance):
            told.append(sorted(json.loads((out / "manifest.json").read_text())["files"]))

    predict(Request(scans, model=model, output=out, device="cpu"), hear)
    names = [f"s{number}_seg.nii.gz" for number in range(3)]
    assert told == [names[:1], names[:2], names]
