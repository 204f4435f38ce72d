"""Pairing by name, scores per case and class, summaries, and the files made of them."""

import csv
import dataclasses
import json
import math
import shutil
from pathlib import Path
from statistics import mean, median, stdev

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from unetseg.config import DataPlan
from unetseg.errors import DataError, DeviceError, UsageError
from unetseg.evaluation import (
    COLUMNS,
    Evaluation,
    classes,
    evaluate,
    pair,
    pairs,
    summarise,
    to_json,
    write_csv,
)
from unetseg.metrics import METRICS
from unetseg.records import Advance, CaseScore, Label, Note, Stage
from unetseg.regions import Region


def nifti(path, array, spacing=(1, 1, 1), origin=(0, 0, 0)):
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    image = nib.Nifti1Image(np.asarray(array, np.uint8), affine)
    image.header.set_xyzt_units("mm")
    path.parent.mkdir(exist_ok=True)
    nib.save(image, path)
    return path


def png(path, array):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.asarray(array, np.uint8)).save(path)
    return path


def bar(start, stop, value=1, along=20):
    """A 3 x 3 x `along` array with a 1 x 1 bar from start up to but without stop in its middle."""
    array = np.zeros((3, 3, along), np.uint8)
    array[1, 1, start:stop] = value
    return array


def touched(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


@pytest.fixture
def folders(tmp_path):
    """Bars of 10 voxels, shifted by 1 to 3 voxels of 2 mm: Dice 0.9, 0.8 and 0.7."""
    for shift in (1, 2, 3):
        nifti(tmp_path / "truth" / f"case{shift}.nii.gz", bar(2, 12), (5, 4, 2))
        shifted = bar(2 + shift, 12 + shift)
        nifti(tmp_path / "predicted" / f"case{shift}_seg.nii.gz", shifted, (5, 4, 2))
    return tmp_path / "truth", tmp_path / "predicted"


def dices(found):
    return [one["dice"] for one in found.scores]


class TestPair:
    def test_two_files_need_no_common_name(self, tmp_path):
        touched(tmp_path, "left_mask.png", "right.png")
        files = tmp_path / "left_mask.png", tmp_path / "right.png"
        assert pair(*files) == (("left", *files),)

    @pytest.mark.parametrize("of_truth", ["", "_mask", "_masks", "_seg", "_label"])
    @pytest.mark.parametrize("of_predicted", ["", "_seg"])
    def test_words_for_masks_are_no_part_of_a_name(self, tmp_path, of_truth, of_predicted):
        truth = touched(tmp_path / "t", f"a{of_truth}.nii.gz", f"b{of_truth}.tif")
        predicted = touched(tmp_path / "p", f"b{of_predicted}.ome.tif", f"a{of_predicted}.nii")
        assert pair(truth, predicted) == (
            ("a", truth / f"a{of_truth}.nii.gz", predicted / f"a{of_predicted}.nii"),
            ("b", truth / f"b{of_truth}.tif", predicted / f"b{of_predicted}.ome.tif"),
        )

    def test_one_letter_in_two_encodings(self, tmp_path):
        # macOS writes an umlaut as letter and mark, Linux as one character.
        truth = touched(tmp_path / "t", "M\u00fcller.png")
        predicted = touched(tmp_path / "p", "Mu\u0308ller_seg.png")
        assert [name for name, _, _ in pair(truth, predicted)] == ["M\u00fcller"]

    def test_what_predict_makes_of_a_scan_named_seg(self, tmp_path):
        truth = touched(tmp_path / "t", "lung_seg.nii.gz")
        predicted = touched(tmp_path / "p", "lung_seg_seg.nii.gz")
        assert [name for name, _, _ in pair(truth, predicted)] == ["lung"]

    def test_the_only_channel_of_nnunet_needs_no_number_in_the_truth(self, tmp_path):
        truth = touched(tmp_path / "t", "a.nii.gz", "b_0000.nii.gz")
        predicted = touched(tmp_path / "p", "a_0000_seg.nii.gz", "b_0000_seg.nii.gz")
        said = []
        found = pair(truth, predicted, listener=said.append)
        assert [(name, p.name) for name, _, p in found] == [
            ("a", "a_0000_seg.nii.gz"),
            ("b_0000", "b_0000_seg.nii.gz"),
        ]
        assert said == []
        (predicted / "a_0000_seg.nii.gz").rename(predicted / "a_0001_seg.nii.gz")
        with pytest.raises(DataError, match=r"no predicted mask for 1 of 2 truths: a\.nii\.gz"):
            pair(truth, predicted)

    def test_the_place_in_the_folder_is_not_a_name(self, tmp_path):
        truth = touched(tmp_path / "t", "img2.png", "img10.png")
        # In the order of their names, img1 and img10 would be given to img2 and img10.
        predicted = touched(tmp_path / "p", "img1.png", "img10.png", "img2.png")
        found = pair(truth, predicted)
        assert [(t.name, p.name) for _, t, p in found] == [
            ("img2.png", "img2.png"),
            ("img10.png", "img10.png"),
        ]

    def test_a_predicted_mask_too_many_is_a_note(self, tmp_path):
        truth = touched(tmp_path / "t", "a.png")
        predicted = touched(tmp_path / "p", "a.png", "b_seg.png")
        said = []
        assert len(pair(truth, predicted, listener=said.append)) == 1
        assert said == [Note("1 of 2 predicted masks have no truth: b_seg.png")]

    def test_a_truth_too_many_is_an_error(self, tmp_path):
        truth = touched(tmp_path / "t", *(f"{letter}.png" for letter in "abcdef"))
        predicted = touched(tmp_path / "p", "b_seg.png", "aa.png")
        with pytest.raises(
            DataError,
            match=r"p: no predicted mask for 5 of 6 truths: a\.png, c\.png, d\.png and 2 more;",
        ):
            pair(truth, predicted)

    def test_hidden_and_other_files_are_left_out(self, tmp_path):
        truth = touched(tmp_path / "t", "a.nii.gz", "._a.nii.gz", ".b.nii.gz", "notes.txt")
        predicted = touched(tmp_path / "p", "a_seg.nii.gz", "._a_seg.nii.gz", "log.csv")
        assert [name for name, _, _ in pair(truth, predicted)] == ["a"]

    @pytest.mark.parametrize("names", [("a.nii.gz", "a.nii"), ("a_mask.png", "a_label.png")])
    @pytest.mark.parametrize("side", ["truth", "predicted"])
    def test_two_files_with_one_name(self, tmp_path, names, side):
        sides = {"truth": ("a.nii.gz",), "predicted": ("a.nii.gz",), side: names}
        truth, predicted = (touched(tmp_path / key, *sides[key]) for key in sides)
        with pytest.raises(DataError, match=rf"{side}: 2 masks for the name a: .*; give a folder"):
            pair(truth, predicted)

    def test_a_file_and_a_folder(self, tmp_path):
        folder = touched(tmp_path / "t", "a.png")
        with pytest.raises(UsageError, match=r"expected two files or two folders"):
            pair(folder, folder / "a.png")

    def test_no_such_path(self, tmp_path):
        with pytest.raises(DataError, match=r"nowhere: does not exist"):
            pair(touched(tmp_path / "t", "a.png"), tmp_path / "nowhere")

    @pytest.mark.parametrize("names", [(), ("notes.txt",)])
    def test_a_folder_without_masks(self, tmp_path, names):
        predicted = touched(tmp_path / "p", "a.png")
        with pytest.raises(DataError, match=r"t: no masks in this folder"):
            pair(touched(tmp_path / "t", *names), predicted)


class TestEvaluate:
    def test_numbers_by_hand(self, folders):
        found = evaluate(*folders)
        assert [one.case for one in found.scores] == ["case1", "case2", "case3"]
        assert found.labels == (Label(1, "1"),)
        assert not found.failures
        assert dices(found) == pytest.approx([0.9, 0.8, 0.7])
        # All voxels of a bar are surface; a shift of n leaves n of them 1 to n steps away.
        steps = [[1], [1, 2], [1, 2, 3]]
        expected = [sum(2 * n for n in case) / 10 for case in steps]
        assert [one["assd"] for one in found.scores] == pytest.approx(expected)
        assert (found.unit, found.tolerance) == ("mm", 2)
        # The shortest edge is 2 mm: one step of each bar is within it.
        expected = [1, 0.9, 0.8]
        assert [one["surface_dice"] for one in found.scores] == pytest.approx(expected)

    def test_a_wider_tolerance(self, folders):
        found = evaluate(*folders, tolerance=4)
        assert [one["surface_dice"] for one in found.scores] == pytest.approx([1, 1, 0.9])
        assert found.tolerances == (4, 4, 4)

    def test_the_default_tolerance_follows_each_truth(self, tmp_path):
        for name, edge in (("a", 0.5), ("b", 3)):
            for folder in ("truth", "predicted"):
                nifti(tmp_path / folder / f"{name}.nii.gz", bar(2, 9), (7, edge, 4))
        found = evaluate(tmp_path / "truth", tmp_path / "predicted")
        assert found.tolerances == (0.5, 3)
        assert found.tolerance is None

    def test_pictures_are_measured_in_pixels(self, tmp_path):
        array = np.zeros((8, 9))
        array[2:5, 3:6] = 1
        path = png(tmp_path / "a.png", array)
        found = evaluate(path, path)
        assert (found.unit, found.tolerance, dices(found)) == ("px", 1, [1.0])

    def test_every_class_is_scored_in_every_case(self, tmp_path):
        nifti(tmp_path / "t" / "a.nii", bar(0, 4, value=3))
        nifti(tmp_path / "p" / "a.nii", bar(0, 4, value=3))
        nifti(tmp_path / "t" / "b.nii", bar(0, 4, value=3))
        nifti(tmp_path / "p" / "b.nii", bar(0, 4, value=2))
        found = evaluate(tmp_path / "t", tmp_path / "p")
        assert [(one.case, one.label.value) for one in found.scores] == [
            ("a", 2),
            ("a", 3),
            ("b", 2),
            ("b", 3),
        ]
        assert dices(found) == pytest.approx([math.nan, 1, 0, 0], nan_ok=True)
        assert all(math.isnan(found.scores[0][metric]) for metric in METRICS)

    def test_labels_say_what_is_scored(self, tmp_path):
        truth = bar(0, 4, value=1) + bar(4, 8, value=2) + bar(8, 9, value=7)
        path = nifti(tmp_path / "a.nii", truth)
        said = []
        labels = (Label(0, "background"), Label(2, "tumour"), Label(5, "cyst"))
        found = evaluate(path, path, labels=labels, listener=said.append)
        assert [one.label for one in found.scores] == [Label(2, "tumour"), Label(5, "cyst")]
        assert dices(found) == pytest.approx([1, math.nan], nan_ok=True)
        text = "values that are not among the labels are not scored: 1, 7"
        assert Note(text, "warning") in said

    def test_only_the_labels_are_computed(self, tmp_path, monkeypatch):
        path = nifti(tmp_path / "a.nii", bar(0, 4, value=1) + bar(4, 8, value=2))
        calls = []
        scorer = classes.score

        def counting(*args, **options):
            calls.append(args)
            return scorer(*args, **options)

        monkeypatch.setattr(classes, "score", counting)
        evaluate(path, path, labels=(Label(2, "tumour"),))
        assert len(calls) == 1
        evaluate(path, path)
        assert len(calls) == 3

    def test_names_come_from_the_labels_the_truth_the_first_case(self, folders, monkeypatch):
        truth, predicted = folders
        reader = pairs.read_mask

        def named(path, **options):
            return dataclasses.replace(reader(path, **options), labels=(Label(1, path.name),))

        monkeypatch.setattr(pairs, "read_mask", named)
        assert evaluate(truth, predicted).labels == (Label(1, "case1.nii.gz"),)
        assert evaluate(truth, predicted, labels=(Label(1, "a"),)).labels == (Label(1, "a"),)

    def test_regions_are_scored_by_the_values_in_them(self, tmp_path):
        # Truth 1 1 2 2 3 3 and predicted 1 2 2 2 2 3: whole 6 of 6 and 6, core 4 of 4 and 5,
        # enhancing 1 of 2 and 1.
        truth = bar(2, 8) + bar(4, 8) + bar(6, 8)
        predicted = bar(2, 8) + bar(3, 8) + bar(7, 8)
        files = nifti(tmp_path / "t.nii", truth), nifti(tmp_path / "p.nii", predicted)
        regions = Region("whole", (1, 2, 3)), Region("core", (2, 3)), Region("enhancing", (3,))
        found = evaluate(*files, regions=regions)
        assert found.labels == (Label(1, "whole"), Label(2, "core"), Label(3, "enhancing"))
        assert dices(found) == pytest.approx([1, 8 / 9, 2 / 3])
        # By value: 1 of 2 and 1, 2 of 2 and 4, 1 of 2 and 1.
        assert dices(evaluate(*files)) == pytest.approx([2 / 3, 2 / 3, 2 / 3])
        assert [row["name"] for row in to_json(found)] == ["whole", "core", "enhancing"]
        # The cores' ends differ at one side only, by one voxel of 1 mm.
        assert found.scores[1]["surface_dice"] == 1.0
        assert evaluate(*files, regions=regions, tolerance=0.5).scores[1]["surface_dice"] < 1

    def test_a_region_that_is_nowhere_is_undefined(self, tmp_path):
        path = nifti(tmp_path / "a.nii", bar(2, 8) + bar(4, 8) * 8)
        said = []
        regions = Region("all", (1, 2)), Region("none", (2, 5))
        found = evaluate(path, path, regions=regions, listener=said.append)
        assert dices(found) == pytest.approx([1, math.nan], nan_ok=True)
        text = "values that are not among the labels are not scored: 9"
        assert Note(text, "warning") in said

    def test_regions_leave_out_what_is_ignored(self, tmp_path):
        truth = nifti(tmp_path / "t.nii", bar(2, 6) + bar(6, 10, value=9))
        predicted = nifti(tmp_path / "p.nii", bar(2, 10) + bar(4, 10))
        regions = (Region("whole", (1, 2)),)
        assert dices(evaluate(truth, predicted, regions=regions, ignore_value=9)) == [1]
        assert dices(evaluate(truth, predicted, regions=regions)) == pytest.approx([8 / 12])

    @pytest.mark.parametrize(
        ("changes", "names", "expected"),
        [
            ({}, ["a", "b"], [2 / 3, 6 / 7]),
            ({"ignore_value": 2, "class_values": (0, 1, 5)}, ["a", "b"], [2 / 3, math.nan]),
            ({"merge_labels": True}, ["foreground"], [1]),
            (
                {
                    "task": "regions",
                    "regions": (Region("all", (1, 2)), Region("part", (2,))),
                    "class_names": ("background", "all", "part"),
                },
                ["all", "part"],
                [1, 6 / 7],
            ),
        ],
        ids=["classes", "ignored", "merged", "regions"],
    )
    def test_a_model_says_what_is_scored(self, tmp_path, changes, names, expected):
        # Truth 1 1 2 2 2, predicted 1 2 2 2 2.
        truth = nifti(tmp_path / "t.nii", bar(2, 7) + bar(4, 7))
        predicted = nifti(tmp_path / "p.nii", bar(2, 7) + bar(3, 7))
        data = DataPlan(
            **{
                "task": "semantic",
                "dimensions": 3,
                "channels": ("T1",),
                "unit": "mm",
                "orientation": "canonical",
                "normalisation": "zscore",
                "class_names": ("background", "a", "b"),
                "class_values": (0, 1, 2),
                **changes,
            }
        )
        found = evaluate(truth, predicted, data=data)
        assert [label.name for label in found.labels] == names
        assert dices(found) == pytest.approx(expected, nan_ok=True)
        with pytest.raises(UsageError, match="give one of them"):
            evaluate(truth, predicted, data=data, labels=(Label(1, "b"),))

    @pytest.mark.parametrize(
        ("asked", "message"),
        [
            ({"regions": (Region("a", (1, 2)),), "merge_labels": True}, "no classes of their own"),
            ({"regions": (Region("a", (1,)),), "labels": (Label(1, "b"),)}, "give one of them"),
            ({"regions": (Region("a", (0, 1)),)}, "regions: the region a has the value 0"),
            ({"regions": (Region("a", (1,)), Region("b", (1,)))}, "have the same values"),
        ],
    )
    def test_regions_that_cannot_be_scored(self, folders, asked, message):
        with pytest.raises(UsageError, match=message):
            evaluate(*folders, **asked)

    def test_ignored_voxels_belong_to_no_class(self, tmp_path):
        # Truth 2..9 with 255 from 10 on; predicted 4..13, of which 10..13 do not count.
        truth = nifti(tmp_path / "t.nii", bar(2, 10) + bar(10, 20, value=255))
        predicted = nifti(tmp_path / "p.nii", bar(4, 14))
        found = evaluate(truth, predicted, ignore_value=255)
        assert [one.label.value for one in found.scores] == [1]
        assert found.scores[0]["dice"] == pytest.approx(2 * 6 / (8 + 6))
        assert found.scores[0]["precision"] == 1
        counted = evaluate(truth, predicted)
        assert counted.scores[0]["dice"] == pytest.approx(2 * 6 / (8 + 10))
        assert [one.label.value for one in counted.scores] == [1, 255]

    def test_a_predicted_ignore_value_is_background(self, tmp_path):
        truth = nifti(tmp_path / "t.nii", bar(2, 10))
        predicted = nifti(tmp_path / "p.nii", bar(2, 6) + bar(6, 10, value=9))
        found = evaluate(truth, predicted, ignore_value=9, merge_labels=True)
        assert dices(found) == pytest.approx([2 * 4 / (8 + 4)])

    def test_merged_labels_are_one_class(self, tmp_path):
        truth = nifti(tmp_path / "t.nii", bar(0, 3, value=4) + bar(3, 6, value=9))
        predicted = nifti(tmp_path / "p.nii", bar(1, 7))
        found = evaluate(truth, predicted, merge_labels=True)
        assert [one.label for one in found.scores] == [Label(1, "foreground")]
        assert dices(found) == pytest.approx([10 / 12])
        assert len(evaluate(truth, predicted).scores) == 3

    def test_masks_on_different_grids_are_refused(self, tmp_path):
        truth = nifti(tmp_path / "t.nii", bar(2, 9), (1, 1, 1))
        predicted = nifti(tmp_path / "p.nii", bar(2, 9, along=21), (1, 1, 1.5))
        found = evaluate(truth, predicted)
        assert not found.scores
        ((name, error),) = found.failures
        assert (name, type(error)) == ("t", DataError)
        assert str(error) == (
            f"{predicted}: does not lie on its truth: shape (3, 3, 20) is not (3, 3, 21); "
            "spacing (1, 1, 1) is not (1, 1, 1.5); compare masks of the same grid as t.nii"
        )

    def test_the_grid_may_miss_by_the_geometry_tolerance(self, tmp_path):
        truth = nifti(tmp_path / "t.nii", bar(2, 9))
        predicted = nifti(tmp_path / "p.nii", bar(2, 9), origin=(0.2, 0, 0))
        assert evaluate(truth, predicted).failures
        assert dices(evaluate(truth, predicted, geometry_tolerance=0.3)) == [1]

    def test_one_bad_file_costs_one_case(self, folders):
        truth, predicted = folders
        (predicted / "case2_seg.nii.gz").write_bytes(b"not a NIfTI file")
        found = evaluate(truth, predicted)
        assert dices(found) == pytest.approx([0.9, 0.7])
        ((name, error),) = found.failures
        assert name == "case2"
        assert isinstance(error, DataError)
        assert "case2_seg.nii.gz" in str(error)

    def test_a_link_that_leads_nowhere_is_a_failed_case(self, folders):
        truth, predicted = folders
        (truth / "case9.nii.gz").symlink_to(truth / "gone.nii.gz")
        nifti(predicted / "case9.nii.gz", bar(2, 9))
        found = evaluate(truth, predicted)
        assert [name for name, _ in found.failures] == ["case9"]
        assert len(found.scores) == 3

    def test_a_case_too_large_is_a_failed_case(self, folders, monkeypatch):
        def exhausted(*args, **options):
            raise MemoryError

        monkeypatch.setattr(classes, "score", exhausted)
        found = evaluate(*folders)
        assert {type(error) for _, error in found.failures} == {DeviceError}
        assert len(found.failures) == 3

    def test_events_come_in_the_order_of_the_cases(self, folders):
        events = []
        evaluate(*folders, listener=events.append)
        names = ("case1", "case2", "case3")
        assert events == [Stage("evaluating", 3), *(Advance(name) for name in names)]

    def test_a_listener_that_raises_stops_the_work(self, folders, monkeypatch):
        truth, predicted = folders
        for number in range(10, 60):
            shutil.copy(truth / "case1.nii.gz", truth / f"case{number}.nii.gz")
            shutil.copy(predicted / "case1_seg.nii.gz", predicted / f"case{number}_seg.nii.gz")
        read = []
        reader = pairs.read_mask

        def counting(path, **options):
            read.append(path)
            return reader(path, **options)

        def interrupted(event):
            if isinstance(event, Advance):
                raise KeyboardInterrupt

        monkeypatch.setattr(pairs, "read_mask", counting)
        monkeypatch.setattr(pairs, "usable_cores", lambda: 1)
        # Holds the traceback, as a command line that shows it does, and with it the frames.
        with pytest.raises(KeyboardInterrupt) as caught:
            evaluate(truth, predicted, listener=interrupted)
        assert caught.traceback
        done = len(read)
        assert done < 2 * 53
        evaluate(truth, predicted)
        assert len(read) - done == 2 * 53

    def test_masks_without_classes(self, tmp_path):
        path = nifti(tmp_path / "a.nii", bar(0, 0))
        said = []
        found = evaluate(path, path, listener=said.append)
        assert (found.scores, found.unit, found.tolerance) == ((), "", None)
        assert Note("no mask holds a value other than 0: nothing to score", "warning") in said
        merged = evaluate(path, path, merge_labels=True)
        assert dices(merged) == pytest.approx([math.nan], nan_ok=True)

    @pytest.mark.parametrize("tolerance", [-1, math.nan, math.inf])
    def test_a_tolerance_is_a_length(self, folders, tolerance):
        with pytest.raises(UsageError, match="not a surface tolerance"):
            evaluate(*folders, tolerance=tolerance)

    def test_merged_labels_have_no_names(self, folders):
        with pytest.raises(UsageError, match="give labels or merge them"):
            evaluate(*folders, labels=(Label(1, "a"),), merge_labels=True)


def scored(case, label, unit="mm", **values):
    filled = dict.fromkeys(METRICS, math.nan) | values
    return CaseScore(case, label, unit, tuple(filled.items()))


A, B = Label(1, "a"), Label(2, "b")


class TestSummarise:
    def test_only_defined_scores_count(self):
        dice = {"x": 0.5, "y": 0.75, "z": 1.0}
        scores = [
            one
            for case, value in dice.items()
            for one in (
                scored(case, A, dice=value, hd95=4 * value),
                scored(case, B, dice=0.25 if case == "y" else math.nan),
            )
        ]
        of_a, of_b, of_all = summarise(Evaluation(tuple(scores), (1.0,) * 6, (A, B)))
        assert (of_a.label, of_b.label, of_all.label) == (A, B, None)
        found = of_a["dice"]
        assert (found.mean, found.sd, found.median) == pytest.approx((0.75, 0.25, 0.75))
        assert (found.minimum, found.maximum, found.defined, found.cases) == (0.5, 1, 3, 3)
        assert of_a["hd95"].mean == pytest.approx(3)
        found = of_b["dice"]
        assert (found.mean, found.median, found.minimum, found.maximum) == (0.25,) * 4
        assert math.isnan(found.sd)
        assert (found.defined, found.cases) == (1, 3)
        found = of_all["dice"]
        every = [0.5, 0.75, 1.0, 0.25]
        expected = (mean(every), stdev(every), median(every))
        assert (found.mean, found.sd, found.median) == pytest.approx(expected)
        assert (found.defined, found.cases) == (4, 6)

    def test_nothing_defined(self):
        (of_a, _) = summarise(Evaluation((scored("x", A),), (1.0,), (A,)))
        found = of_a["dice"]
        numbers = (found.mean, found.sd, found.median, found.minimum, found.maximum)
        assert all(math.isnan(number) for number in numbers)
        assert (found.defined, found.cases) == (0, 1)

    def test_millimetres_and_pixels_have_no_mean(self):
        scores = (scored("x", A, dice=0.5, hd95=2), scored("y", A, "px", dice=0.7, hd95=4))
        found = Evaluation(scores, (1.0, 1.0), (A,))
        assert found.unit == ""
        (of_a, _) = summarise(found)
        assert of_a["dice"].mean == pytest.approx(0.6)
        assert math.isnan(of_a["hd95"].mean)
        assert (of_a["hd95"].defined, of_a["hd95"].cases) == (0, 2)

    def test_no_scores_at_all(self):
        (of_all,) = summarise(Evaluation((), (), ()))
        assert (of_all.label, of_all["dice"].cases) == (None, 0)


class TestRows:
    SCORES = Evaluation(
        (scored('x, "1"', A, dice=0.5, hd95=2.25), scored("y\ud800", B)), (1.5, 2.0), (A, B)
    )

    def test_json_is_strict(self):
        rows = to_json(self.SCORES)
        assert [tuple(row) for row in rows] == [COLUMNS] * 2
        text = "\n".join(json.dumps(row, allow_nan=False) for row in rows)
        first, second = map(json.loads, text.split("\n"))
        assert first == dict.fromkeys(METRICS) | {
            "case": 'x, "1"',
            "label": 1,
            "name": "a",
            "unit": "mm",
            "tolerance": 1.5,
            "dice": 0.5,
            "hd95": 2.25,
        }
        assert second["dice"] is None

    def test_csv_has_one_row_per_case_and_class(self, tmp_path):
        path = tmp_path / "new" / "scores.csv"
        write_csv(self.SCORES, path)
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.reader(stream))
        assert rows == [
            list(COLUMNS),
            ['x, "1"', "1", "a", "mm", "1.5", "0.5", "", "", "", "2.25", "", ""],
            [r"y\ud800", "2", "b", "mm", "2.0", "", "", "", "", "", "", ""],
        ]
        assert [file.name for file in path.parent.iterdir()] == ["scores.csv"]

    def test_a_csv_that_cannot_be_written(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(DataError, match=r"cannot be written"):
            write_csv(self.SCORES, tmp_path / "file" / "scores.csv")


@pytest.fixture
def hippocampus(real_data, tmp_path):
    """Ten label files, as they are and moved by one voxel along the first axis."""
    truth, moved = tmp_path / "truth", tmp_path / "moved"
    truth.mkdir()
    for path in sorted((real_data / "hippocampus" / "labels").iterdir())[:10]:
        shutil.copy(path, truth)
        image = nib.load(path)
        labels = np.asarray(image.dataobj).astype(np.uint8)
        shifted = nib.Nifti1Image(np.roll(labels, 1, 0), image.affine, image.header)
        shifted.set_data_dtype(np.uint8)
        moved.mkdir(exist_ok=True)
        nib.save(shifted, moved / path.name.replace(".nii.gz", "_seg.nii.gz"))
    return truth, moved


@pytest.mark.real
def test_real_labels_against_themselves(hippocampus):
    found = evaluate(hippocampus[0], hippocampus[0])
    assert not found.failures
    assert len(found.scores) == 20
    assert dices(found) == [1.0] * 20
    assert {one["hd95"] for one in found.scores} == {0.0}


@pytest.mark.real
def test_real_labels_against_moved_ones(hippocampus):
    found = evaluate(*hippocampus)
    assert len(found.scores) == 20
    assert all(0.5 < one["dice"] < 1 for one in found.scores)
    assert all(0 < one["hd95"] <= 1 for one in found.scores)
    assert found.unit == "mm"
    (_, _, of_all) = summarise(found)
    assert of_all["dice"].mean == pytest.approx(mean(dices(found)))


def test_the_input_is_not_touched(folders):
    before = {path: path.read_bytes() for folder in folders for path in Path(folder).iterdir()}
    evaluate(*folders)
    after = {path: path.read_bytes() for folder in folders for path in Path(folder).iterdir()}
    assert after == before
