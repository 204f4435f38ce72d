"""Small scans that go through the network together, and those that do not."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cubes import LEARNED, cube, request, write_cubes

from unetseg.dataset.loading import load_scan
from unetseg.nets.unet import UNet
from unetseg.prediction import Predictor, Request, predict
from unetseg.prediction.outlook import Limits
from unetseg.records import Case, FileDone, Note
from unetseg.training import train

MOST = 3


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gathering")
    settings = LEARNED | {"patch.size": (16, 16, 16), "patch.batch": MOST}
    return train(request(write_cubes(folder / "data", 4), folder / "run", settings)).run


@pytest.fixture
def gathers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that does what is done for cards."""
    monkeypatch.setattr(Predictor, "most_together", property(lambda self: self.plan.patch.batch))


def write_scans(folder: Path, *sizes: int) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"s{number}.nii.gz" for number in range(len(sizes))]
    for number, (path, size) in enumerate(zip(paths, sizes, strict=True)):
        picture = nib.Nifti1Image(cube((size,) * 3, number)[0], np.eye(4))
        picture.header.set_xyzt_units("mm")
        nib.save(picture, path)
    return paths


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch, most: int = 99) -> Iterator[list[int]]:
    """How many windows went through the network at a time; more than `most` do not fit."""
    seen: list[int] = []
    honest = UNet.forward

    def forward(self: UNet, x, **more):  # type: ignore[no-untyped-def]
        if len(x) > most:
            raise RuntimeError("CUDA out of memory")
        seen.append(len(x))
        return honest(self, x, **more)

    with monkeypatch.context() as patched:
        patched.setattr(UNet, "forward", forward)
        yield seen


def masks(done: tuple[FileDone, ...]) -> list[np.ndarray]:
    return [np.asarray(nib.load(record.output).dataobj) for record in done if record.output]


def ask(scans: list[Path], model: Path, output: Path, **more) -> Request:  # type: ignore[no-untyped-def]
    return Request(scans, model=model, output=output, device="cpu", **more)


def test_a_processor_takes_scans_one_by_one(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans = write_scans(tmp_path / "scans", 16, 16)
    with counted(monkeypatch) as seen:
        predict(ask(scans, model, tmp_path / "masks"))
    assert seen == [1, 1]


@pytest.mark.usefixtures("gathers")
def test_small_scans_go_together_and_have_the_masks_of_each_alone(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The fifth is smaller than a window, the sixth is larger, the others are one each.
    scans = write_scans(tmp_path / "scans", 16, 16, 16, 16, 13, 20, 16, 16)
    with counted(monkeypatch) as seen:
        together = predict(ask(scans, model, tmp_path / "together"))
    # Eight windows of the large one, three at a time.
    assert seen == [3, 1, 1, 3, 3, 2, 2]
    with monkeypatch.context() as patched:
        patched.setattr(Predictor, "most_together", 1)
        alone = predict(ask(scans, model, tmp_path / "alone"))
    assert [record.status for record in together] == ["done"] * len(scans)
    assert [record.path for record in together] == scans
    for found, expected in zip(masks(together), masks(alone), strict=True):
        # A batch rounds otherwise than a single window.
        assert (found != expected).mean() < 1e-3
        assert expected.any()
    # The negative twin: the masks are not all the same.
    assert not np.array_equal(masks(together)[0], masks(together)[1])


@pytest.mark.usefixtures("gathers")
def test_maps_of_scans_that_go_together_are_their_own(model: Path, tmp_path: Path) -> None:
    scans = write_scans(tmp_path / "scans", 16, 16)
    predict(ask(scans, model, tmp_path / "masks", probabilities=True))
    for scan in scans:
        stem = scan.name.removesuffix(".nii.gz")
        maps = np.asarray(nib.load(tmp_path / "masks" / f"{stem}_prob.nii.gz").dataobj)
        mask = np.asarray(nib.load(tmp_path / "masks" / f"{stem}_seg.nii.gz").dataobj)
        assert np.array_equal(maps.argmax(-1), mask)


@pytest.mark.usefixtures("gathers")
def test_a_scan_that_cannot_be_read_ends_a_group_and_nothing_else(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans = write_scans(tmp_path / "scans", 16, 16, 16, 16)
    scans[1].write_bytes(scans[1].read_bytes()[:2000])
    with counted(monkeypatch) as seen:
        done = predict(ask(scans, model, tmp_path / "masks"))
    assert [record.status for record in done] == ["done", "failed", "done", "done"]
    assert seen == [1, 2]


@pytest.mark.usefixtures("gathers")
def test_fewer_go_together_when_memory_is_short(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans, heard = write_scans(tmp_path / "scans", 16, 16, 16), list[object]()
    with counted(monkeypatch, most=1) as seen:
        done = predict(ask(scans, model, tmp_path / "masks"), heard.append)
    assert [record.status for record in done] == ["done"] * 3
    assert seen == [1, 1, 1]
    notes = [event.text for event in heard if isinstance(event, Note)]
    assert "out of memory: one window at a time from here on" in notes


@pytest.mark.usefixtures("gathers")
def test_each_is_told_of_when_nothing_fits(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans = write_scans(tmp_path / "scans", 16, 16)
    with counted(monkeypatch, most=0):
        done = predict(ask(scans, model, tmp_path / "masks"))
    assert [record.status for record in done] == ["failed"] * 2
    assert all("out of memory" in record.message for record in done)


def test_limits_and_large_outputs_keep_scans_apart(model: Path, tmp_path: Path) -> None:
    card = Predictor(model, device="cpu")
    card.machine = replace(card.machine, device="cuda:0")
    assert card.most_together == MOST
    card.limits = Limits(host=1 << 32)
    assert card.most_together == 1
    small, large = (
        card.prepare(load_scan(Case("scan", (path,))))
        for path in write_scans(tmp_path / "scans", 16, 17)
    )
    assert card.lone_window(small) == (16, 16, 16)
    assert card.lone_window(large) is None
    card.plan = replace(card.plan, patch=replace(card.plan.patch, batch=1 << 13))
    assert card.lone_window(small) is None
