"""Every kind of finding: the fault is named, and nothing is said of the same set without it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made import (
    SHAPE,
    alarms,
    check,
    picture,
    volume,
    write_picture,
    write_pictures,
    write_volume,
    write_volumes,
)

from unetseg.dataset import find_cases


def test_nothing_is_said_of_sound_volumes(tmp_path: Path) -> None:
    assert check(write_volumes(tmp_path)).findings == ()


def test_nothing_is_said_of_sound_pictures(tmp_path: Path) -> None:
    found = check(write_pictures(tmp_path))
    assert found.inspection.fingerprint.looks_like_objects
    assert alarms(found) == {}


# --- volumes -------------------------------------------------------------------------------------


def copied(root: Path) -> None:
    write_volume(root, "other", *volume(3))


def saved_anew(root: Path) -> None:
    image, _ = volume(3)
    write_volume(root, "other", image.astype(np.float64), None, part="Ts")


def nearly_copied(root: Path) -> None:
    image, labels = volume(3)
    noise = np.random.default_rng(0).normal(0, 1, SHAPE).astype(np.float32)
    write_volume(root, "other", 2 * image + noise, np.roll(labels, 1, 0))


def same_mask(root: Path) -> None:
    write_volume(root, "case_4", volume(4)[0], volume(3)[1])


def flipped_mask(root: Path) -> None:
    image, labels = volume(4)
    write_volume(root, "case_4", image, labels[:, :, ::-1])


def turned(root: Path) -> None:
    image, labels = volume(4)
    write_volume(root, "case_4", image[:, ::-1], labels[:, ::-1])


def negative(root: Path) -> None:
    image, labels = volume(4)
    write_volume(root, "case_4", image.max() - image, labels)


def flat(root: Path) -> None:
    noise = np.random.default_rng(0).normal(100, 0.01, SHAPE).astype(np.float32)
    write_volume(root, "case_4", noise, volume(4)[1])


def constant(root: Path) -> None:
    write_volume(root, "case_4", np.full(SHAPE, 7, np.float32), volume(4)[1])


def saturated(root: Path) -> None:
    image, labels = volume(4)
    write_volume(root, "case_4", np.minimum(image, np.percentile(image, 80)), labels)


def on_another_scale(root: Path) -> None:
    image, labels = volume(4)
    write_volume(root, "case_4", 1000 * image, labels)


def of_another_spacing(root: Path) -> None:
    write_volume(root, "case_4", *volume(4), affine=np.diag([10.0, 10, 10, 1]))


def longer(root: Path) -> None:
    image, labels = volume(4)
    pads = [(0, 2 * SHAPE[0]), (0, 0), (0, 0)]
    write_volume(root, "case_4", np.pad(image, pads, "symmetric"), np.pad(labels, pads))


def empty(root: Path) -> None:
    write_volume(root, "case_4", volume(4)[0], np.zeros(SHAPE, np.uint8))


def full(root: Path) -> None:
    image, labels = volume(4)
    write_volume(root, "case_4", image, np.maximum(labels, 1))


def clicked(root: Path) -> None:
    image, labels = volume(4)
    labels[tuple(np.argwhere(labels == 1)[0])] = 3
    write_volume(root, "case_4", image, labels)


def stray(root: Path) -> None:
    image, labels = volume(4)
    labels[-1, -1, -1] = 1
    write_volume(root, "case_4", image, labels)


def tiny(root: Path) -> None:
    image, labels = volume(4)
    inside = np.argwhere(labels)
    low, high = np.percentile(inside, [40, 60], axis=0).astype(int)
    only = np.zeros_like(labels)
    box = tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))
    only[box] = labels[box]
    only[low[0], 4:18, low[2]] = labels[low[0], 4:18, low[2]]
    write_volume(root, "case_4", image, only)


def aside(root: Path) -> None:
    moved = np.eye(4)
    moved[0, 3] = 5
    write_volume(root, "case_4", *volume(4), mask_affine=moved)


def fractional(root: Path) -> None:
    image, labels = volume(4)
    write_volume(root, "case_4", image, (labels / 2).astype(np.float32))


def torn(root: Path) -> None:
    path = root / "imagesTr" / "case_4.nii"
    path.write_bytes(path.read_bytes()[:2000])


def without_mask(root: Path) -> None:
    (root / "labelsTr" / "case_4.nii").unlink()


def without_image(root: Path) -> None:
    (root / "imagesTr" / "case_4.nii").unlink()


def of_a_patient(root: Path) -> None:
    write_volume(root, "patient7_left", *volume(50))
    write_volume(root, "Patient-7_right", *volume(51), part="Va")


def of_two_channels(root: Path) -> None:
    image, labels = volume(4)
    write_volume(root, "case_4", np.stack([image, image], -1), labels)


FAULTS: list[tuple[Callable[[Path], None], str, set[str]]] = [
    (copied, "duplicate", {"case_3", "other"}),
    (saved_anew, "duplicate", {"case_3", "other"}),
    (nearly_copied, "near-duplicate", {"case_3", "other"}),
    (same_mask, "same-mask", {"case_3", "case_4"}),
    (flipped_mask, "mask-flip", {"case_4"}),
    (turned, "orientation", {"case_4"}),
    (negative, "inverted", {"case_4"}),
    (flat, "flat", {"case_4"}),
    (constant, "flat", {"case_4"}),
    (saturated, "saturated", {"case_4"}),
    (on_another_scale, "intensity", {"case_4"}),
    (of_another_spacing, "spacing", {"case_4"}),
    (longer, "size", {"case_4"}),
    (empty, "empty-mask", {"case_4"}),
    (full, "full-mask", {"case_4"}),
    (clicked, "rare-label", {"case_4"}),
    (stray, "stray", {"case_4"}),
    (tiny, "mask-size", {"case_4"}),
    (aside, "grid", {"case_4"}),
    (fractional, "mask-values", {"case_4"}),
    (torn, "unreadable", {"case_4"}),
    (without_mask, "unpaired", {"case_4"}),
    (without_image, "unpaired", {"case_4"}),
    (of_a_patient, "leak", {"patient7_left", "Patient-7_right"}),
    (of_two_channels, "channels", {"case_4"}),
]


@pytest.mark.parametrize(
    ("plant", "kind", "cases"), FAULTS, ids=[f"{kind}-{p.__name__}" for p, kind, _ in FAULTS]
)
def test_a_fault_is_named(
    tmp_path: Path, plant: Callable[[Path], None], kind: str, cases: set[str]
) -> None:
    root = write_volumes(tmp_path)
    plant(root)
    found = check(root)
    assert alarms(found).get(kind) == cases
    told = next(each for each in found.findings if each.kind == kind)
    assert told.where and told.sentence and told.hint


def test_masks_that_were_exchanged(tmp_path: Path) -> None:
    root = write_volumes(tmp_path)
    for image, mask in ((2, 9), (9, 2)):
        write_volume(root, f"case_{image}", volume(image)[0], volume(mask)[1])
    assert alarms(check(root)) == {"mismatch": {"case_2", "case_9"}}


def test_a_copy_among_the_tests_says_so(tmp_path: Path) -> None:
    root = write_volumes(tmp_path)
    saved_anew(root)
    (finding,) = [each for each in check(root).findings if each.kind == "duplicate"]
    assert finding.sentence.startswith("the same voxels as")
    assert finding.sentence.endswith("they are in train and test")


def test_a_value_that_is_missing_is_a_note(tmp_path: Path) -> None:
    root = write_volumes(tmp_path)
    image, labels = volume(4)
    write_volume(root, "case_4", image, np.where(labels == 2, 0, labels).astype(np.uint8))
    found = check(root)
    assert [(e.severity, e.kind, e.cases) for e in found.findings if e.kind == "missing-label"] == [
        ("note", "missing-label", ("case_4",))
    ]


def test_few_cases_say_nothing_of_one_another(tmp_path: Path) -> None:
    root = write_volumes(tmp_path, 4)
    of_another_spacing(root)
    flipped = volume(3)[1][::-1]
    write_volume(root, "case_3", volume(3)[0], flipped)
    assert alarms(check(root)) == {}


# --- pictures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("turn", "words"),
    [
        (lambda ids: ids[::-1], "flipped vertically:"),
        (lambda ids: ids[:, ::-1], "flipped horizontally:"),
        (lambda ids: ids.T, "with axes exchanged:"),
        (lambda ids: np.rot90(ids), "with axes exchanged and flipped"),
    ],
    ids=["up", "left", "transposed", "quarter"],
)
def test_a_mask_of_another_orientation(
    tmp_path: Path, turn: Callable[[np.ndarray], np.ndarray], words: str
) -> None:
    root = write_pictures(tmp_path)
    image, ids = picture(4)
    write_picture(root, "cell_4", image, np.ascontiguousarray(turn(ids)))
    found = check(root)
    assert alarms(found) == {"mask-flip": {"cell_4"}}
    assert words in found.findings[0].sentence


def test_a_negative_among_pictures(tmp_path: Path) -> None:
    root = write_pictures(tmp_path)
    image, ids = picture(4)
    write_picture(root, "cell_4", 255 - image, ids)
    assert alarms(check(root)) == {"inverted": {"cell_4"}}


def test_a_click_among_objects(tmp_path: Path) -> None:
    root = write_pictures(tmp_path)
    image, ids = picture(4)
    row, column = np.argwhere(ids == 0)[0]
    ids[row, column] = 400
    write_picture(root, "cell_4", image, ids)
    assert alarms(check(root)) == {"stray": {"cell_4"}}


def test_a_mask_drawn_in_colour(tmp_path: Path) -> None:
    root = write_pictures(tmp_path)
    image, ids = picture(4)
    red = np.stack([255 * (ids > 0), 0 * ids, 0 * ids], -1).astype(np.uint8)
    write_picture(root, "cell_4", image, red)
    assert alarms(check(root)) == {"mask-values": {"cell_4"}}


# --- what stays as it was ------------------------------------------------------------------------


def test_images_without_a_mask_are_not_cases(tmp_path: Path) -> None:
    root = write_volumes(tmp_path)
    write_volume(root, "test", volume(50)[0], None, part="Ts")
    dataset = find_cases(root)
    assert len(dataset.cases) == 12
    assert [case.name for case in dataset.unmasked] == ["imagesTs/test"]
    found = check(root)
    assert [look.name for look in found.others] == ["test"]
    assert alarms(found) == {}


def test_a_test_image_that_cannot_be_read_is_a_warning(tmp_path: Path) -> None:
    root = write_volumes(tmp_path)
    write_volume(root, "test", volume(50)[0], None, part="Ts")
    (root / "imagesTs" / "test.nii").write_bytes(b"no scan")
    assert alarms(check(root)) == {"unreadable": {"test"}}
    assert not check(root).has_errors
