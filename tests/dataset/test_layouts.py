"""Folders of made-up files: nothing here is an image, for only names are read."""

import csv
import json
import os
import re
import unicodedata
from pathlib import Path

import pytest

from unetseg.dataset import Dataset, find_cases, find_scans
from unetseg.dataset.listing import natural
from unetseg.errors import DataError, UnetsegError
from unetseg.records import Case, Label


def plant(root: Path, *names: str) -> Path:
    """The folder with empty files of these names."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def pairs(data: Dataset, root: Path) -> list[tuple[str, str, str]]:
    """Name, images and mask of every case, as paths below `root`."""
    return [
        (
            case.name,
            " + ".join(path.relative_to(root).as_posix() for path in case.images),
            case.truth.relative_to(root).as_posix() if case.truth else "",
        )
        for case in data.cases
    ]


def sentences(data: Dataset, severity: str) -> str:
    return " | ".join(each.sentence for each in data.findings if each.severity == severity)


# files; layout; reason; name, image, mask of every case
TREES = {
    "folders of images and labels": (
        ["images/a.png", "images/b.png", "labels/a.png", "labels/b.png"],
        "image and mask folders",
        "images/ and labels/, paired by name: 2 cases",
        [("a", "images/a.png", "labels/a.png"), ("b", "images/b.png", "labels/b.png")],
    ),
    "upper case, mixed suffixes, mask words": (
        ["Images/a.TIF", "Images/b.NII.GZ", "MASKS/a_Mask.png", "MASKS/b_seg.nii"],
        "image and mask folders",
        "Images/ and MASKS/, paired by name: 2 cases",
        [("a", "Images/a.TIF", "MASKS/a_Mask.png"), ("b", "Images/b.NII.GZ", "MASKS/b_seg.nii")],
    ),
    "numbers are not prefixes of one another": (
        ["image/img_1.png", "image/img_10.png", "mask/img_10.png", "mask/img_1.png"],
        "image and mask folders",
        "image/ and mask/, paired by name: 2 cases",
        [
            ("img_1", "image/img_1.png", "mask/img_1.png"),
            ("img_10", "image/img_10.png", "mask/img_10.png"),
        ],
    ),
    "natural order": (
        [f"{d}/s{i}.png" for d in ("images", "gt") for i in (10, 9, 100)],
        "image and mask folders",
        "images/ and gt/, paired by name: 3 cases",
        [(f"s{i}", f"images/s{i}.png", f"gt/s{i}.png") for i in (9, 10, 100)],
    ),
    "images whose own names end in a mask word": (
        ["images/cell_seg.tif", "images/cell.tif", "labels/cell.tif", "labels/cell_seg.tif"],
        "image and mask folders",
        "images/ and labels/, paired by name: 2 cases",
        [
            ("cell", "images/cell.tif", "labels/cell.tif"),
            ("cell_seg", "images/cell_seg.tif", "labels/cell_seg.tif"),
        ],
    ),
    "below train, validation and Testing": (
        [
            f"{split}/{d}/{name}.png"
            for split, name in (("train", "a"), ("validation", "b"), ("Testing", "c"))
            for d in ("images", "masks")
        ],
        "image and mask folders",
        "images/ and masks/ below train/ and validation/ and Testing/, paired by name: "
        "3 cases (1 train, 1 val, 1 test)",
        [
            ("a", "train/images/a.png", "train/masks/a.png"),
            ("b", "validation/images/b.png", "validation/masks/b.png"),
            ("c", "Testing/images/c.png", "Testing/masks/c.png"),
        ],
    ),
    "the same name in two splits": (
        [f"{split}/{d}/0.png" for split in ("train", "val") for d in ("images", "masks")],
        "image and mask folders",
        "images/ and masks/ below train/ and val/, paired by name: 2 cases (1 train, 1 val)",
        [
            ("train/0", "train/images/0.png", "train/masks/0.png"),
            ("val/0", "val/images/0.png", "val/masks/0.png"),
        ],
    ),
    "mirrored sub-folders": (
        [f"{d}/{p}/1.png" for d in ("images", "labels") for p in ("anna", "bert")],
        "image and mask folders",
        "images/ and labels/, paired by name: 2 cases",
        [
            ("anna/1", "images/anna/1.png", "labels/anna/1.png"),
            ("bert/1", "images/bert/1.png", "labels/bert/1.png"),
        ],
    ),
    "splits below images": (
        [f"{d}/{s}.png" for d in ("images", "labels") for s in ("train/a", "val/b")],
        "image and mask folders",
        "images/ and labels/, paired by name: 2 cases (1 train, 1 val)",
        [
            ("a", "images/train/a.png", "labels/train/a.png"),
            ("b", "images/val/b.png", "labels/val/b.png"),
        ],
    ),
    "an empty images folder beside train": (
        ["images/readme.txt", "train/images/a.png", "train/masks/a.png"],
        "image and mask folders",
        "images/ and masks/ below train/, paired by name: 1 case",
        [("a", "train/images/a.png", "train/masks/a.png")],
    ),
    "Decathlon": (
        ["imagesTr/la_003.nii.gz", "imagesTr/._la_003.nii.gz", "labelsTr/la_003.nii.gz"],
        "Decathlon",
        "imagesTr/ and labelsTr/, paired by name: 1 case",
        [("la_003", "imagesTr/la_003.nii.gz", "labelsTr/la_003.nii.gz")],
    ),
    "Decathlon with four digits that are no channels": (
        [f"{d}/ct_{i}.nii.gz" for d in ("imagesTr", "labelsTr") for i in ("0000", "0001")],
        "Decathlon",
        "imagesTr/ and labelsTr/, paired by name: 2 cases",
        [
            (f"ct_000{i}", f"imagesTr/ct_000{i}.nii.gz", f"labelsTr/ct_000{i}.nii.gz")
            for i in (0, 1)
        ],
    ),
    "nnU-Net, two channels, with a test set": (
        [
            "imagesTr/b1_0001.nii.gz",
            "imagesTr/b1_0000.nii.gz",
            "labelsTr/b1.nii.gz",
            "imagesTs/b2_0000.nii.gz",
            "imagesTs/b2_0001.nii.gz",
            "labelsTs/b2.nii.gz",
        ],
        "nnU-Net",
        "imagesTr/ and labelsTr/, 2 channel files per case, paired by name: "
        "2 cases (1 train, 1 test)",
        [
            ("b1", "imagesTr/b1_0000.nii.gz + imagesTr/b1_0001.nii.gz", "labelsTr/b1.nii.gz"),
            ("b2", "imagesTs/b2_0000.nii.gz + imagesTs/b2_0001.nii.gz", "labelsTs/b2.nii.gz"),
        ],
    ),
    "frames in folders are no channels": (
        [f"{d}/film_000{i}.png" for d in ("images", "masks") for i in range(3)],
        "image and mask folders",
        "images/ and masks/, paired by name: 3 cases",
        [(f"film_000{i}", f"images/film_000{i}.png", f"masks/film_000{i}.png") for i in range(3)],
    ),
    "flat": (
        ["x.tif", "x_masks.tif", "y.tif", "y_SEG.png", "z.tif", "z_labels.tif"],
        "masks beside images",
        "masks beside their images in one folder, paired by name: 3 cases",
        [
            ("x", "x.tif", "x_masks.tif"),
            ("y", "y.tif", "y_SEG.png"),
            ("z", "z.tif", "z_labels.tif"),
        ],
    ),
    "flat, an image named like a mask": (
        ["cell.tif", "cell_mask.tif", "cell_seg.tif", "cell_seg_mask.tif"],
        "masks beside images",
        "masks beside their images in one folder, paired by name: 2 cases",
        [("cell", "cell.tif", "cell_mask.tif"), ("cell_seg", "cell_seg.tif", "cell_seg_mask.tif")],
    ),
    "flat with channel files": (
        ["p_0000.nii.gz", "p_0001.nii.gz", "p_seg.nii.gz"],
        "masks beside images",
        "masks beside their images in one folder, paired by name: 1 case",
        [("p", "p_0000.nii.gz + p_0001.nii.gz", "p_seg.nii.gz")],
    ),
    "flat below train and test": (
        ["train/x.tif", "train/x_mask.tif", "test/y.tif", "test/y_mask.tif"],
        "masks beside images",
        "masks beside their images in one folder, paired by name: 2 cases (1 train, 1 test)",
        [("x", "train/x.tif", "train/x_mask.tif"), ("y", "test/y.tif", "test/y_mask.tif")],
    ),
    "a folder per case": (
        ["p1/t1.nii.gz", "p1/t1_seg.nii.gz", "p2/t1.nii.gz", "p2/t1_seg.nii.gz"],
        "masks beside images",
        "masks beside their images in one folder per case, paired by name: 2 cases",
        [
            ("p1/t1", "p1/t1.nii.gz", "p1/t1_seg.nii.gz"),
            ("p2/t1", "p2/t1.nii.gz", "p2/t1_seg.nii.gz"),
        ],
    ),
    "a folder per case, named by their role": (
        ["p1/imaging.nii.gz", "p1/segmentation.nii.gz", "p2/ct.nii", "p2/Mask.nii"],
        "masks beside images",
        "masks beside their images in one folder per case, paired by name: 2 cases",
        [
            ("p1", "p1/imaging.nii.gz", "p1/segmentation.nii.gz"),
            ("p2", "p2/ct.nii", "p2/Mask.nii"),
        ],
    ),
    "names that are hard on shells": (
        [
            f"{d}/{name}.png"
            for d in ("images", "masks")
            for name in ("-x", "two words", "line\nbreak", "*[1]", "100%")
        ],
        "image and mask folders",
        "images/ and masks/, paired by name: 5 cases",
        [
            (name, f"images/{name}.png", f"masks/{name}.png")
            for name in ("*[1]", "-x", "100%", "line\nbreak", "two words")
        ],
    ),
    "what macOS leaves behind": (
        [
            "images/a.png",
            "images/._a.png",
            "images/.DS_Store",
            "masks/a.png",
            "masks/._a.png",
            "__MACOSX/images/a.png",
            ".Trash/images/z.png",
        ],
        "image and mask folders",
        "images/ and masks/, paired by name: 1 case",
        [("a", "images/a.png", "masks/a.png")],
    ),
    "a folder that is named like a file": (
        ["p1.nii/a.nii", "p1.nii/a_seg.nii"],
        "masks beside images",
        "masks beside their images in one folder per case, paired by name: 1 case",
        [("a", "p1.nii/a.nii", "p1.nii/a_seg.nii")],
    ),
    "images only": (
        ["a.png", "b_0001.png", "notes.txt"],
        "images only",
        "2 images without masks in 2 .png, 1 .txt",
        [("a", "a.png", ""), ("b_0001", "b_0001.png", "")],
    ),
    "images only, all named like masks": (
        ["a_seg.png", "b_seg.png"],
        "images only",
        "2 images without masks in 2 .png",
        [("a_seg", "a_seg.png", ""), ("b_seg", "b_seg.png", "")],
    ),
    "masks that no format reads": (
        ["images/a.png", "labels/a.json"],
        "images only",
        "1 image without masks in images/ (1 .png), labels/ (1 .json)",
        [("a", "images/a.png", "")],
    ),
}


@pytest.mark.parametrize("tree", TREES, ids=str)
def test_layout_is_recognised(tmp_path: Path, tree: str) -> None:
    names, layout, reason, expected = TREES[tree]
    data = find_cases(plant(tmp_path, *names))
    assert pairs(data, tmp_path) == expected
    assert (data.layout, data.reason) == (layout, reason)
    assert data.findings == ()


def test_splits_come_from_the_folders(tmp_path: Path) -> None:
    names, *_ = TREES["below train, validation and Testing"]
    data = find_cases(plant(tmp_path, *names))
    assert [(case.name, case.split) for case in data.cases] == [
        ("a", "train"),
        ("b", "val"),
        ("c", "test"),
    ]


def test_masks_shifted_by_one_are_not_paired_by_order(tmp_path: Path) -> None:
    plant(tmp_path, *(f"images/{x}.png" for x in "abc"), *(f"masks/{x}.png" for x in "bcd"))
    data = find_cases(tmp_path)
    assert pairs(data, tmp_path) == [
        ("b", "images/b.png", "masks/b.png"),
        ("c", "images/c.png", "masks/c.png"),
    ]
    assert sentences(data, "warning") == (
        "1 image has no mask of that name: a.png | 1 mask has no image of that name: d.png"
    )


def test_one_name_without_channel_number_makes_all_names_plain(tmp_path: Path) -> None:
    plant(tmp_path, "imagesTr/a_0000.nii", "imagesTr/b.nii", "labelsTr/a.nii", "labelsTr/b.nii")
    data = find_cases(tmp_path)
    assert pairs(data, tmp_path) == [("b", "imagesTr/b.nii", "labelsTr/b.nii")]
    assert sentences(data, "warning") == (
        "1 image has no mask of that name: a_0000.nii | 1 mask has no image of that name: a.nii"
    )


def test_a_mask_below_a_split_without_images_is_told(tmp_path: Path) -> None:
    plant(tmp_path, "images/train/a.png", "labels/train/a.png", "labels/test/b.png")
    data = find_cases(tmp_path)
    assert [case.name for case in data.cases] == ["a"]
    assert sentences(data, "warning") == "1 mask has no image of that name: b.png"


def test_three_names_and_a_count(tmp_path: Path) -> None:
    plant(tmp_path, *(f"images/{i}.png" for i in range(6)), "masks/5.png")
    assert sentences(find_cases(tmp_path), "warning") == (
        "5 images have no mask of that name: 0.png, 1.png, 2.png and 2 more"
    )


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (
            ["images/x.png", "images/x.tif", "masks/x.png", "images/y.png", "masks/y.png"],
            "2 images for the name x: x.png, x.tif",
        ),
        (
            ["images/x.png", "masks/x.png", "masks/x_mask.png", "images/y.png", "masks/y.png"],
            "2 masks for the name x: x.png, x_mask.png",
        ),
        (
            ["x.tif", "x_mask.tif", "x_seg.tif", "y.tif", "y_mask.tif"],
            "2 masks for the name x: x_mask.tif, x_seg.tif",
        ),
        (
            [
                "imagesTr/x_0000.nii.gz",
                "imagesTr/y_0000.nii.gz",
                "imagesTr/y_0001.nii.gz",
                "labelsTr/x.nii.gz",
                "labelsTr/y.nii.gz",
            ],
            "x lacks a file of its channels: x_0001.nii.gz",
        ),
        (
            [
                "imagesTr/x_0000.nii.gz",
                "imagesTr/x_0000.nii",
                "imagesTr/y_0000.nii.gz",
                "labelsTr/x.nii.gz",
                "labelsTr/y.nii.gz",
            ],
            "x has two files for one channel: x_0000.nii, x_0000.nii.gz",
        ),
    ],
)
def test_what_is_not_clear_is_an_error_and_left_out(
    tmp_path: Path, names: list[str], sentence: str
) -> None:
    data = find_cases(plant(tmp_path, *names))
    assert [case.name for case in data.cases] == ["y"]
    assert sentences(data, "error") == sentence


def test_a_link_that_leads_nowhere_is_an_error(tmp_path: Path) -> None:
    plant(tmp_path, "images/a.png", "masks/a.png", "masks/b.png")
    (tmp_path / "images/b.png").symlink_to(tmp_path / "annex/b.png")
    assert "b.png" in sentences(find_cases(tmp_path), "error")


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    plant(tmp_path, "store/a.png", "masks/a.png")
    (tmp_path / "images").symlink_to(tmp_path / "store")
    (tmp_path / "store/again").symlink_to(tmp_path / "store")
    assert pairs(find_cases(tmp_path), tmp_path) == [("a", "images/a.png", "masks/a.png")]


def test_composed_and_decomposed_names_pair(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Zölle") for form in ("NFC", "NFD"))
    assert composed != decomposed
    plant(tmp_path, f"images/{decomposed}.png", f"masks/{composed}.png")
    assert [case.name for case in find_cases(tmp_path).cases] == [composed]


def test_case_of_letters_matters(tmp_path: Path) -> None:
    plant(tmp_path, "images/A.png", "masks/a.png")
    with pytest.raises(DataError, match=r"no mask of that name: A\.png"):
        find_cases(tmp_path)


def test_two_mask_folders_are_told(tmp_path: Path) -> None:
    plant(tmp_path, "images/a.png", "masks/a.png", "labels/a.png")
    data = find_cases(tmp_path)
    assert pairs(data, tmp_path) == [("a", "images/a.png", "labels/a.png")]
    assert sentences(data, "warning") == "labels/ and masks/ could both be meant; labels/ was taken"


def test_test_images_without_masks_are_only_noted(tmp_path: Path) -> None:
    plant(tmp_path, "imagesTr/a.nii", "labelsTr/a.nii", "imagesTs/b.nii", "imagesTs/c.nii")
    data = find_cases(tmp_path)
    assert [case.name for case in data.cases] == ["a"]
    assert sentences(data, "note") == "2 scans without masks, left for predict"
    assert sentences(data, "warning") == ""


DECATHLON = {
    "modality": {"1": "T2", "0": "FLAIR"},
    "labels": {"0": "background", "1": "edema"},
    "numTraining": 1,
}
NNUNET = {
    "channel_names": {"0": "FLAIR", "1": "T2"},
    "labels": {"background": 0, "edema": 1, "ignore": 2},
    "file_ending": ".nii.gz",
}


def described(root: Path, content: object) -> Path:
    plant(root, "imagesTr/a.nii.gz", "labelsTr/a.nii.gz")
    text = content if isinstance(content, str) else json.dumps(content)
    (root / "dataset.json").write_text(text, encoding="utf-8-sig")
    return root


@pytest.mark.parametrize(("content", "ignore"), [(DECATHLON, None), (NNUNET, 2)])
def test_dataset_json(tmp_path: Path, content: object, ignore: int | None) -> None:
    data = find_cases(described(tmp_path, content))
    assert data.label_names == (Label(0, "background"), Label(1, "edema"))
    assert data.channel_names == ("FLAIR", "T2")
    assert data.ignore_value == ignore
    assert data.findings == ()


def test_dataset_json_is_optional_and_serves_other_layouts(tmp_path: Path) -> None:
    plant(tmp_path, "images/a.png", "labels/a.png")
    assert find_cases(tmp_path).label_names == ()
    (tmp_path / "dataset.json").write_text('{"labels": {"nucleus": 7}}')
    assert find_cases(tmp_path).label_names == (Label(7, "nucleus"),)


def test_channels_of_dataset_json_must_all_be_there(tmp_path: Path) -> None:
    plant(tmp_path, "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps(NNUNET))
    with pytest.raises(DataError, match=r"a lacks a file of its channels: a_0001\.nii\.gz"):
        find_cases(tmp_path)


def test_an_incomplete_copy_is_told(tmp_path: Path) -> None:
    data = find_cases(described(tmp_path, {"numTraining": 20}))
    assert sentences(data, "warning") == "dataset.json announces 20 training cases, 1 found"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"labels": {\n"a": 1,}}', r"dataset\.json: not valid JSON in line 2, column \d+"),
        ("[1]", r"not a description of a data set"),
        ({"labels": {"a": 1.5}}, r'label "a" is not understood'),
        ({"labels": {"a": True}}, r'label "a" is not understood'),
        ({"labels": ["a"]}, r'"labels" is not understood'),
        ({"labels": {"a": 1, "b": 1}}, r"label value 1 has 2 names: a, b"),
        ({"channel_names": {"0": "a", "2": "b"}}, r"not counted from 0 .*expected 0, 1, got 0, 2"),
        ({"modality": "MRI"}, r'"modality" is not understood'),
    ],
)
def test_dataset_json_that_cannot_be_used(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(DataError) as caught:
        find_cases(described(tmp_path, content))
    assert re.search(message, str(caught.value))


def test_dataset_json_in_another_encoding(tmp_path: Path) -> None:
    described(tmp_path, "{}")
    (tmp_path / "dataset.json").write_bytes('{"labels": {"Fläche": 1}}'.encode("latin-1"))
    with pytest.raises(DataError, match=r"dataset\.json: cannot be read: .*UTF-8"):
        find_cases(tmp_path)


TRAINING = {
    "training": [
        {"image": "./scans/a.nii.gz", "label": "./truth/a.nii.gz"},
        {"image": "./scans/b.nii.gz", "label": "./truth/b.nii.gz"},
    ]
}


def test_training_list_serves_where_the_folders_have_other_names(tmp_path: Path) -> None:
    plant(tmp_path, "scans/a.nii.gz", "truth/a.nii.gz", "scans/b.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps(TRAINING))
    data = find_cases(tmp_path)
    assert pairs(data, tmp_path) == [("a", "scans/a.nii.gz", "truth/a.nii.gz")]
    assert data.reason == 'the "training" list of dataset.json, paired by name: 1 case'
    assert sentences(data, "error") == ("dataset.json lists ./truth/b.nii.gz, which is not there")


def test_training_list_yields_to_the_folders(tmp_path: Path) -> None:
    plant(tmp_path, "scans/b.nii.gz", "truth/b.nii.gz")
    described(tmp_path, TRAINING)
    assert [case.name for case in find_cases(tmp_path).cases] == ["a"]


def table(path: Path, *rows: list[str], delimiter: str = ",", encoding: str = "utf-8") -> Path:
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("column", ["label", "Mask", " truth "])
def test_csv(tmp_path: Path, encoding: str, delimiter: str, column: str) -> None:
    plant(tmp_path, "in/ä.png", "in/ä-truth.png", "in/b1.tif", "in/b2.tif", "b.tif")
    path = table(
        tmp_path / "list.csv",
        ["id", "image", column, "split"],
        ["1", "in/ä.png", "in/ä-truth.png", ""],
        ["2", "in/b1.tif;in/b2.tif", str(tmp_path / "b.tif"), "Test"],
        delimiter=delimiter,
        encoding=encoding,
    )
    data = find_cases(path)
    assert pairs(data, tmp_path) == [
        ("b1", "in/b1.tif + in/b2.tif", "b.tif"),
        ("ä", "in/ä.png", "in/ä-truth.png"),
    ]
    assert [case.split for case in data.cases] == ["test", "train"]
    assert data.layout == "CSV"
    assert data.reason == "list.csv, a row per case, paired by name: 2 cases (1 train, 1 test)"
    assert data.findings == ()
    assert find_cases(tmp_path) == data


def test_csv_names_are_distinct(tmp_path: Path) -> None:
    plant(tmp_path, "a/x.png", "b/x.png", "b/x.tif", "t.png")
    rows = [["image", "mask"], ["a/x.png", "t.png"], ["b/x.png", "t.png"]]
    assert [c.name for c in find_cases(table(tmp_path / "l.csv", *rows)).cases] == ["a/x", "b/x"]
    rows.append(["b/x.tif", "t.png"])
    names = [c.name for c in find_cases(table(tmp_path / "l.csv", *rows)).cases]
    assert names == ["a/x.png", "b/x.png", "b/x.tif"]


def test_csv_faults_name_the_row_of_the_spreadsheet(tmp_path: Path) -> None:
    plant(tmp_path, "a.png", "b.png", "m.png", "a.npy")
    path = table(
        tmp_path / "l.csv",
        ["image", "label", "split"],
        ["a.png", "m.png", "train"],
        [],
        ["gone.png", "m.png", "train"],
        ["b.png", "m.png", "vall"],
        ["a.png", "m.png"],
        ["b.png", "b.png"],
        ["", "m.png"],
        ["a.npy", "m.png"],
        ["x" * 300 + ".png", "m.png"],
        ["b.png"],
        ["dir\\b.png", "m.png"],
    )
    data = find_cases(path)
    told = [each.sentence for each in data.findings if each.severity == "error"]
    assert [case.name for case in data.cases] == ["a"]
    assert told[0] == f"row 4: {tmp_path / 'gone.png'} is not there"
    assert told[1] == "row 5: the split vall is unknown; did you mean val?"
    assert told[2] == "row 6: is the same image as row 2"
    assert told[3] == f"row 7: {tmp_path / 'b.png'} is named both as image and as mask"
    assert told[4] == "row 8: no image is named"
    assert told[5] == f"row 9: {tmp_path / 'a.npy'} is of no known image format"
    assert told[6].startswith("row 10: ")
    assert told[7].startswith("row 12: ")
    assert told[7].endswith("write / for \\)")
    assert len(told) == 8
    assert sentences(data, "warning") == "1 image without a mask: row 11"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a table of images and masks .*got an empty file"),
        (b"image,split\na.png,train\n", "expected the columns image,label.*got image,split"),
        (b"image,label,mask\na.png,b.png,c.png\n", "got image,label,mask"),
        ("image,label\n\u00e4.png,b.png\n".encode("latin-1"), "not in UTF-8"),
        ("image,label\n".encode("utf-16"), "not in UTF-8"),
        (b'image,label\n"a.png,b.png\n', "not a CSV file"),
        (b"image,label\ngone.png,b.png\n", "no image finds its mask: row 2: .*gone.png"),
        (b"image,label\n", "no images found"),
    ],
)
def test_csv_that_cannot_be_used(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "l.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        find_cases(path)


def test_csv_in_a_folder_yields_to_folders_and_to_a_second_csv(tmp_path: Path) -> None:
    plant(tmp_path, "x.png", "y.png")
    table(tmp_path / "l.csv", ["image", "label"], ["x.png", "y.png"])
    (tmp_path / "other.csv").write_text("name,age\n")
    assert find_cases(tmp_path).layout == "CSV"
    table(tmp_path / "second.csv", ["image", "label"], ["x.png", "y.png"])
    assert find_cases(tmp_path).layout == "images only"
    plant(tmp_path, "images/a.png", "masks/a.png")
    assert find_cases(tmp_path).layout == "image and mask folders"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], r"no images found \(expected files in .*\.nii\.gz.*, got nothing\); what can be read"),
        (
            ["a.txt", "b/c.txt", "b/d.npy"],
            r"no images found .*got b/ \(1 \.npy, 1 \.txt\), 1 \.txt",
        ),
        (
            ["images/a.png", "images/b.png", "masks/x.tif"],
            r"no image finds its mask: 2 images have no mask of that name: a\.png, b\.png "
            r"\(expected masks named .*got images/ \(2 \.png\), masks/ \(1 \.tif\)\); "
            r"what can be read: imagesTr/",
        ),
        (["imagesTr/a_0000.nii", "labelsTr/b.nii"], "no image finds its mask"),
        (["a.png", "b_mask.png"], "no image finds its mask"),
    ],
)
def test_folders_without_pairs(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        find_cases(plant(tmp_path, *names))


def test_paths_that_are_no_folder(tmp_path: Path) -> None:
    plant(tmp_path, "a.png")
    with pytest.raises(DataError, match=r"gone: cannot be read: No such file"):
        find_cases(tmp_path / "gone")
    with pytest.raises(DataError, match=r"a\.png: neither a folder nor a CSV file"):
        find_cases(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"cannot be read"):
        find_cases(tmp_path / "a\0b")


def test_a_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"cannot be read: Permission denied"):
        find_cases(tmp_path)


def test_natural_order_is_total() -> None:
    assert sorted(["a10", "a2", "a02", "a", "b1", "A1"], key=natural) == [
        "A1",
        "a",
        "a02",
        "a2",
        "a10",
        "b1",
    ]


def shown(cases: tuple[Case, ...], root: Path) -> list[str]:
    return [" + ".join(path.relative_to(root).as_posix() for path in case.images) for case in cases]


@pytest.mark.parametrize(
    ("names", "asked", "expected"),
    [
        (["a.png", "b.tif"], ["b.tif", "a.png"], ["b.tif", "a.png"]),
        (["a.png", "b.png", "sub/c.png", "n.txt"], ["."], ["a.png", "b.png"]),
        (["a10.png", "a9.png", "n.txt"], ["a*"], ["a9.png", "a10.png"]),
        (["p/a.png", "p/q/b.png"], ["**/*.png"], ["p/a.png", "p/q/b.png"]),
        (["p1/a.png", "p2/b.png"], ["p?"], ["p1/a.png", "p2/b.png"]),
        (["a*.png", "ab.png", "x[1].png"], ["a*.png", "x[1].png"], ["a*.png", "x[1].png"]),
        (
            ["-x.png", "line\nbreak.png"],
            ["-x.png", "line\nbreak.png"],
            ["-x.png", "line\nbreak.png"],
        ),
        (["a.png", "b.png"], ["a.png", "./a.png", ".", "a*"], ["a.png", "b.png"]),
        (["imagesTr/a.nii", "labelsTr/a.nii", "imagesTs/b.nii"], ["."], ["imagesTs/b.nii"]),
        (["imagesTr/a.nii", "labelsTr/a.nii"], ["."], ["imagesTr/a.nii"]),
        (["images/p/a.png", "masks/p/a.png"], ["."], ["images/p/a.png"]),
        (["train/images/a.png", "test/images/b.png"], ["."], ["test/images/b.png"]),
        (["a.tif", "a_seg.tif", "b_seg.tif"], ["."], ["a.tif", "b_seg.tif"]),
        (["a.png", "a.tif"], ["."], ["a.png", "a.tif"]),
        (
            ["a_0000.nii", "a_0001.nii", "b_0000.nii", "b_0001.nii"],
            ["."],
            ["a_0000.nii + a_0001.nii", "b_0000.nii + b_0001.nii"],
        ),
        (["a_0000.nii", "a_0001.nii"], ["a_0001.nii", "a_0000.nii"], ["a_0000.nii + a_0001.nii"]),
        (["a_0000.nii", "a_0001.nii", "c.nii"], ["."], ["a_0000.nii", "a_0001.nii", "c.nii"]),
        (["a_0007.nii", "a_0008.nii"], ["."], ["a_0007.nii", "a_0008.nii"]),
    ],
)
def test_scans(tmp_path: Path, names: list[str], asked: list[str], expected: list[str]) -> None:
    plant(tmp_path, *names)
    found = find_scans([tmp_path / each for each in asked])
    assert shown(found.cases, tmp_path) == expected
    assert found.failures == ()
    assert all(case.truth is None for case in found.cases)
    assert len({case.name for case in found.cases}) == len(expected)


@pytest.mark.parametrize(
    ("channels", "count"),
    [(1, 3), (2, 3), (3, 1), (None, 1)],
)
def test_the_number_of_channels_tells_frames_from_channels(
    tmp_path: Path, channels: int | None, count: int
) -> None:
    plant(tmp_path, *(f"film_000{i}.png" for i in range(3)))
    assert len(find_scans([tmp_path], channels=channels).cases) == count


def test_a_missing_channel_fails_alone(tmp_path: Path) -> None:
    plant(tmp_path, "a_0000.nii", "b_0000.nii", "b_0001.nii")
    found = find_scans([tmp_path], channels=2)
    assert shown(found.cases, tmp_path) == ["b_0000.nii + b_0001.nii"]
    ((path, error),) = found.failures
    assert path == tmp_path
    assert "a lacks a file of its channels: a_0001.nii" in str(error)


def test_what_cannot_be_found_does_not_stop_the_others(tmp_path: Path) -> None:
    plant(tmp_path, "a.png", "n.txt", "empty/n.txt")
    asked = ["gone.png", "n.txt", "empty", "b*.png", "a.png", "a\0b.png"]
    found = find_scans([tmp_path / each for each in asked])
    assert shown(found.cases, tmp_path) == ["a.png"]
    assert [path.name for path, _ in found.failures] == [
        "gone.png",
        "n.txt",
        "empty",
        "b*.png",
        "a\0b.png",
    ]
    said = [error.what for _, error in found.failures]
    assert said[0].startswith("cannot be read: No such file")
    assert said[1:4] == [
        "no known image format",
        "no images in this folder",
        "no image matches this pattern",
    ]
    assert all(isinstance(error, UnetsegError) and error.where for _, error in found.failures)


def test_a_dead_link_is_a_scan_that_reading_will_refuse(tmp_path: Path) -> None:
    plant(tmp_path, "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
    assert shown(find_scans([tmp_path]).cases, tmp_path) == ["a.png", "b.png"]


def test_scans_from_two_folders_have_distinct_names(tmp_path: Path) -> None:
    plant(tmp_path, "p/x.png", "q/x.png")
    found = find_scans([tmp_path / "p", str(tmp_path / "q")])
    assert [case.name for case in found.cases] == ["p/x", "q/x"]


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("hippocampus", 200),
        ("nuclei_fluo", 406),
        ("nuclei_stained", 62),
        ("ms_lesion_4ch", 2),
        ("ct_spleen_crop", 1),
        ("ct_totalseg_example", 1),
        ("imc_5ch", 3),
        ("nuclei_sample_2d", 1),
        ("nuclei_sample_3d", 1),
    ],
)
def test_real_data(real_data: Path, name: str, count: int) -> None:
    data = find_cases(real_data / name)
    assert len(data.cases) == count
    assert data.layout == "image and mask folders"
    assert data.findings == ()
    # The README of the sets says: image and label bear the same name.
    for case in data.cases:
        assert case.truth == real_data / name / "labels" / case.images[0].name
