"""Objects in `evaluate`: when masks are taken for such, what is scored, table and command."""

import csv
import json
import subprocess
import sys
from math import isnan

import numpy as np
import pytest
import tifffile
from skimage.segmentation import expand_labels

import unetseg
from unetseg.config import DataPlan
from unetseg.console import print_object_scores
from unetseg.dataset.object_classes import class_table, object_classes
from unetseg.errors import DataError, UsageError
from unetseg.evaluation import evaluate, summarise, to_json, write_csv
from unetseg.evaluation.results import columns
from unetseg.formats import read_mask
from unetseg.metrics import METRICS
from unetseg.metrics.objects import matches, metric_names, pooled, score
from unetseg.planning.numbering import are_objects, number_objects, single_pieces
from unetseg.records import Label, Note, ignore_event
from unetseg.regions import Region


def grid(ids, size=4, columns=6):
    """Squares of 3 x 3 pixels with these ids, a pixel apart."""
    rows = -(-len(ids) // columns)
    image = np.zeros((rows * size + 1, columns * size + 1), np.uint16)
    for place, value in enumerate(ids):
        y, x = (size * k + 1 for k in divmod(place, columns))
        image[y : y + 3, x : x + 3] = value
    return image


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, array)
    return path


@pytest.fixture
def folders(tmp_path):
    """Three images of 10, 12 and 9 nuclei; of the second a third is missed, of the last nothing."""
    for number, count in enumerate((10, 12, 9)):
        truth = grid(range(1, count + 1))
        predicted = np.where(truth > 0, 100 - truth, 0)
        if number == 1:
            predicted[np.isin(truth, (3, 6, 9, 12))] = 0
            predicted[truth == 1] = predicted[truth == 2][0]
        if number == 2:
            predicted[:] = 0
        save(tmp_path / "truth" / f"c{number}.tif", truth)
        save(tmp_path / "predicted" / f"c{number}_seg.tif", predicted.astype(np.uint16))
    return tmp_path / "truth", tmp_path / "predicted"


def plan(task, **more):
    values = {
        "dimensions": 2,
        "channels": ("0",),
        "unit": "px",
        "orientation": "as_read",
        "normalisation": "percentile",
        "class_names": ("background", "cell"),
        "class_values": (0, 1),
    }
    return DataPlan(task=task, **(values | more))


def notes(said):
    return [event.text for event in said if isinstance(event, Note)]


class TestScores:
    def test_by_hand(self, folders):
        said = []
        found = evaluate(*folders, listener=said.append)
        assert found.are_objects and found.metrics == metric_names()
        (text,) = notes(said)
        assert text.startswith("scored as objects: the values differ from mask to mask")
        first, second, third = found.scores
        assert (first["tp"], first["fp"], first["fn"], first["pq"]) == (10, 0, 0, 1)
        # Of 8 objects left two are one, which has half of its voxels in common with either.
        assert (second["tp"], second["fp"], second["fn"]) == (6, 1, 6)
        assert (second["merges"], second["count_error"]) == (1, -5)
        assert (third["ap_0.5"], third["recall"]) == (0, 0)
        assert isnan(third["precision"])
        (together,) = found.pooled
        assert (together["tp"], together["fp"], together["fn"]) == (16, 1, 15)
        assert together["ap_0.5"] == 16 / 32

    def test_the_scores_are_those_of_the_metrics(self, folders):
        found = evaluate(*folders, thresholds=(0.3, 0.75))
        files = [
            [
                tifffile.imread(folder / name.format(number))
                for folder, name in zip(folders, ("c{}.tif", "c{}_seg.tif"), strict=True)
            ]
            for number in range(3)
        ]
        each = [matches(*pair) for pair in files]
        for one, other in zip(found.scores, each, strict=True):
            assert dict(one.values) == pytest.approx(dict(score(other, (0.3, 0.75))), nan_ok=True)
        assert found.pooled[0].values == score(pooled(each), (0.3, 0.75))

    def test_the_summary_tells_how_many_are_defined(self, folders):
        (summary,) = summarise(evaluate(*folders))
        assert summary["precision"].defined == 2
        assert summary["recall"].defined == summary["recall"].cases == 3
        assert summary["recall"].mean == pytest.approx((1 + 6 / 12 + 0) / 3)
        assert summary["recall"].worst == 0
        assert summary["merges"].worst == 1
        assert summary["count_error"].worst == -9

    def test_an_image_with_neither_leaves_the_pooled_alone(self, folders):
        before = evaluate(*folders).pooled
        for folder, name in zip(folders, ("d.tif", "d_seg.tif"), strict=True):
            save(folder / name, np.zeros((5, 5), np.uint16))
        after = evaluate(*folders)
        assert dict(after.pooled[0].values) == dict(before[0].values)
        assert isnan(after.scores[-1]["ap_mean"])

    def test_ignored_ground(self, tmp_path):
        truth, predicted = grid([1, 2, 255, 255]), grid([1, 2, 3, 4])
        files = save(tmp_path / "t.tif", truth), save(tmp_path / "p.tif", predicted)
        known = evaluate(*files, objects=True, ignore_value=255).scores[0]
        assert (known["tp"], known["fp"], known["fn"]) == (2, 0, 0)
        plain = evaluate(*files, objects=True).scores[0]
        assert (plain["fp"], plain["fn"], plain["splits"]) == (2, 1, 1)
        # In the predicted mask it is an id like any other.
        save(tmp_path / "p.tif", grid([255, 2]))
        (tmp_path / "t.tif").unlink()
        save(tmp_path / "t.tif", grid([1, 2]))
        assert evaluate(*files, objects=True, ignore_value=255).scores[0]["tp"] == 2

    def test_a_case_that_fails(self, folders):
        save(folders[1] / "c1_seg.tif", np.zeros((3, 3), np.uint16))
        found = evaluate(*folders, objects=True)
        assert [name for name, _ in found.failures] == ["c1"]
        assert "does not lie on its truth: shape" in str(found.failures[0][1])
        assert len(found.scores) == 2

    def test_nothing_at_all_is_said(self, tmp_path):
        path = save(tmp_path / "a.tif", np.zeros((5, 5), np.uint16))
        said = []
        found = evaluate(path, path, objects=True, listener=said.append)
        assert "no mask holds an object: nothing to score" in notes(said)
        assert isnan(found.pooled[0]["pq"])


class TestKind:
    def test_the_look_can_be_overruled(self, folders):
        assert evaluate(*folders, objects=False).metrics == METRICS
        assert len(evaluate(*folders, objects=False).labels) > 9
        merged = evaluate(*folders, merge_labels=True)
        assert [label.name for label in merged.labels] == ["foreground"]
        assert evaluate(*folders, labels=(Label(1, "a"),)).metrics == METRICS
        with pytest.raises(UsageError, match="objects are matched whatever their values"):
            evaluate(*folders, merge_labels=True, objects=True)
        with pytest.raises(UsageError, match="objects are matched"):
            evaluate(*folders, regions=(Region("a", (1,)),), objects=True)

    def test_classes_stay_classes(self, tmp_path):
        """The negative twin: three values in every mask are scored as ever, without a word."""
        for number in range(3):
            for folder, word in (("truth", ""), ("predicted", "_seg")):
                save(tmp_path / folder / f"c{number}{word}.tif", grid([1, 2, 3]))
        said = []
        found = evaluate(tmp_path / "truth", tmp_path / "predicted", listener=said.append)
        assert (found.metrics, found.are_objects, found.pooled) == (METRICS, False, ())
        assert notes(said) == []

    def test_one_image_is_asked_about(self, tmp_path):
        many = save(tmp_path / "a.tif", grid(range(1, 31)))
        said = []
        assert not evaluate(many, many, listener=said.append).are_objects
        (text,) = notes(said)
        assert text.startswith("30 values in the only mask are scored as classes; if they number")
        numbers = save(tmp_path / "b.tif", grid(range(1, 301)))
        assert evaluate(numbers, numbers).are_objects

    @pytest.mark.parametrize(
        ("task", "are"), [("instances", True), ("borders", True), ("semantic", False)]
    )
    def test_the_model_knows(self, folders, task, are):
        said = []
        found = evaluate(*folders, data=plan(task), listener=said.append)
        assert found.are_objects == are
        assert any(f"the model's task is {task}" in text for text in notes(said)) == are
        # Its objects as what they cover.
        classes = evaluate(*folders, data=plan(task), objects=False)
        assert [label.name for label in classes.labels] == ["foreground" if are else "cell"]

    def test_the_manifest_of_the_masks_knows(self, tmp_path):
        """One image with few objects: only who made the mask can tell."""
        truth, mask = (save(tmp_path / name, grid(range(1, 10))) for name in ("a.tif", "a_seg.tif"))
        manifest = tmp_path / "manifest.json"
        for content, are in (
            ({"task": "instances", "files": {"a_seg.tif": {}}}, True),
            ({"task": "semantic", "files": {"a_seg.tif": {}}}, False),
            ({"task": "instances", "files": {"b_seg.tif": {}}}, False),
            ({"files": {"a_seg.tif": {}}}, False),
            (["instances"], False),
        ):
            manifest.write_text(json.dumps(content))
            assert evaluate(truth, mask).are_objects == are, content
        manifest.write_text("{")
        assert not evaluate(truth, mask).are_objects

    def test_a_foreground_is_no_object(self, folders):
        for path in folders[1].iterdir():
            save(path, (tifffile.imread(path) > 0).astype(np.uint8))
        said = []
        evaluate(*folders, listener=said.append)
        assert any("give --merge-labels" in text for text in notes(said))

    def test_the_rule(self):
        assert number_objects([range(1, 12), range(1, 15)], [1.0, 0.9])
        assert not number_objects([range(1, 12), range(1, 15)], [0.5, 0.7])
        assert not number_objects([range(1, 12), range(1, 12)], [1.0])

    def test_as_many_objects_in_every_image(self):
        """Ids from 1 to the same number are objects if they are now large and now small."""
        rng = np.random.default_rng(0)
        ids, typical = [range(1, 13)] * 6, rng.integers(20, 2000, 12)
        cells = [rng.permutation(typical).tolist() for _ in ids]
        classes = [(typical * rng.uniform(0.8, 1.2, 12)).astype(int).tolist() for _ in ids]
        assert number_objects(ids, [1.0] * 6, cells)
        assert not number_objects(ids, [1.0] * 6, [[50] * 12] * 6)
        assert not number_objects(ids, [1.0] * 6, classes)
        # Of a few images sizes say nothing, and nothing is said without them.
        assert not number_objects(ids[:3], [1.0] * 3, cells[:3])
        assert not number_objects(ids, [1.0] * 6)
        # Parts are of classes all the same.
        assert not number_objects(ids, [0.5] * 6, cells)
        assert single_pieces(grid([1, 1, 2, 3])) == pytest.approx(2 / 3)

    def test_masks_that_cannot_be_read_say_nothing(self, folders, tmp_path):
        for path in folders[0].iterdir():
            path.write_bytes(b"no image")
        assert not are_objects(list(folders[0].iterdir()), [], "scored", None, ignore_event)

    @pytest.mark.parametrize("thresholds", [(), (0.5, 1.0), (-0.1,)])
    def test_thresholds_are_checked(self, folders, thresholds):
        with pytest.raises(UsageError, match="threshold"):
            evaluate(*folders, thresholds=thresholds)


class TestClasses:
    @pytest.fixture
    def told(self, folders):
        """Odd objects are neurons; of the predicted ones all of the first image are glia."""
        for number, count in enumerate((10, 12, 9)):
            rows = [f"{k},{'neuron' if k % 2 else 'glia'}" for k in range(1, count + 1)]
            (folders[0] / f"c{number}_objects.csv").write_text("\n".join(["id,class", *rows]))
            rows = [
                f"{100 - k},{'glia' if number == 0 or k % 2 == 0 else 'neuron'}"
                for k in range(1, count + 1)
            ]
            (folders[1] / f"c{number}_objects.csv").write_text("\n".join(["id,class", *rows]))
        return folders

    def test_each_class_is_matched_by_itself(self, told):
        found = evaluate(*told)
        assert [label.name for label in found.labels] == ["all", "glia", "neuron"]
        scores = {(one.case, one.label.name): one for one in found.scores}
        assert len(found.scores) == 9
        first = [scores["c0", name] for name in ("all", "glia", "neuron")]
        assert [(one["tp"], one["fp"], one["fn"]) for one in first] == [
            (10, 0, 0),
            (5, 5, 0),
            (0, 0, 5),
        ]
        assert found.pooled[0].values == evaluate(*told).pooled[0].values
        assert {row["class"] for row in to_json(found)} == {"all", "glia", "neuron"}
        sums = [sum(one["true"] for one in found.pooled[1:]), found.pooled[0]["true"]]
        assert sums == [31, 31]

    def test_numbers_get_the_names_of_the_model(self, told):
        for folder in told:
            for path in folder.glob("*.csv"):
                text = path.read_text().replace("neuron", "2").replace("glia", "10")
                path.write_text(text)
        assert [label.name for label in evaluate(*told).labels] == ["all", "2", "10"]
        data = plan("instances", class_names=("background", "n", "g"), class_values=(0, 2, 10))
        assert [label.name for label in evaluate(*told, data=data).labels] == ["all", "n", "g"]

    def test_a_table_on_one_side_is_no_use(self, told):
        (told[1] / "c1_objects.csv").unlink()
        said = []
        found = evaluate(*told, listener=said.append)
        assert any("only one of the masks has a table of classes" in text for text in notes(said))
        scores = {(one.case, one.label.name): one for one in found.scores}
        assert isnan(scores["c1", "glia"]["tp"]) and scores["c1", "all"]["tp"] == 6
        assert {(row["case"], row["true"]) for row in to_json(found) if row["class"] == "glia"} == {
            ("c0", 5),
            ("c1", None),
            ("c2", 4),
        }

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("number,class\n1,a\n", r"expected the columns id,class, got number,class"),
            ("", "got an empty file"),
            ("id,class\none,a\n", r"row 2: the id is no whole number above 0 \(got one\)"),
            ("id,class\n1,a\n1,b\n", "row 3: the object 1 has two classes"),
            ("id,class\n1,a\n", r"9 of 10 objects have no class .*: 2, 3, 4 and 6 more"),
            ("id,class\n1\n", "row 2: the object 1 has no class"),
        ],
    )
    def test_what_is_wrong_with_a_table(self, told, text, says):
        (told[0] / "c0_objects.csv").write_text(text)
        found = evaluate(*told)
        ((name, error),) = found.failures
        assert name == "c0"
        with pytest.raises(DataError, match=says):
            raise error

    def test_tables_are_found_by_the_name_of_the_scan(self, tmp_path):
        mask = tmp_path / "cell_seg.ome.tif"
        assert class_table(mask) is None
        assert object_classes(mask) is None
        (tmp_path / "cell_objects.csv").write_bytes("\ufeffid,class\n3, glia \n".encode())
        assert object_classes(mask) == object_classes(tmp_path / "cell.png") == {3: "glia"}
        assert object_classes(tmp_path / "cel.png") is None
        (tmp_path / "cell_objects.csv").write_text("name;Class;ID\nx;glia;4\n;;\n")
        assert object_classes(mask) == {4: "glia"}


class TestFiles:
    def test_one_row_per_image_with_all_metrics(self, folders, tmp_path):
        found = evaluate(*folders)
        write_csv(found, tmp_path / "s.csv")
        with (tmp_path / "s.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert tuple(rows[0]) == columns(found) == ("case", "class", *metric_names())
        assert [row["case"] for row in rows] == ["c0", "c1", "c2"]
        assert (rows[1]["tp"], rows[1]["count_error"], rows[2]["precision"]) == ("6", "-5", "")

    def test_the_table_on_the_screen(self, folders, capsys):
        print_object_scores(evaluate(*folders))
        shown = capsys.readouterr().out
        assert "31 true and 17 predicted objects; at an IoU of 0.5 TP 16, FP 1, FN 15" in shown
        (line,) = [line for line in shown.splitlines() if "precision" in line]
        assert line.split()[1:3] == ["0.9412", "0.9286"]
        assert "2 / 3" in line

    def test_the_python_face(self, folders):
        found = unetseg.evaluate(*map(str, folders), thresholds=(0.5,))
        assert found.metrics[5:7] == ("ap_0.5", "ap_mean")
        assert not unetseg.evaluate(*folders, objects=False).are_objects


def command(folder, *words):
    return subprocess.run(
        [sys.executable, "-m", "unetseg.cli", "evaluate", *map(str, words)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_command(folders, tmp_path):
    done = command(
        tmp_path, "truth", "predicted", "--json", "--thresholds", "0.5,0.75", "-o", "s.csv"
    )
    assert done.returncode == 0
    assert "scored as objects: the values differ from mask to mask" in done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["tp"] for row in rows] == [10, 6, 0]
    assert rows[2]["precision"] is None
    assert "ap_0.75" in (tmp_path / "s.csv").read_text().splitlines()[0]
    forced = command(tmp_path, "truth", "predicted", "--no-objects", "--json")
    assert "dice" in json.loads(forced.stdout.splitlines()[0])
    merged = command(tmp_path, "truth", "predicted", "--merge-labels", "--json")
    assert {json.loads(line)["name"] for line in merged.stdout.splitlines()} == {"foreground"}
    for wrong in ("half", "1.5"):
        refused = command(tmp_path, "truth", "predicted", "--thresholds", wrong)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert len(refused.stderr.splitlines()) == 1


@pytest.mark.real
def test_real_nuclei_against_themselves_and_against_grown_ones(real_data, tmp_path):
    truth = tmp_path / "truth"
    truth.mkdir()
    for path in sorted((real_data / "nuclei_fluo" / "labels").iterdir())[:12]:
        (truth / path.name).symlink_to(path)
        save(
            tmp_path / "grown" / f"{path.stem}_seg.tif",
            expand_labels(read_mask(path).array, 1).astype(np.uint16),
        )
    same = evaluate(truth, truth)
    assert same.are_objects
    assert same.pooled[0]["ap_mean"] == same.pooled[0]["pq"] == same.pooled[0]["aji"] == 1
    grown = evaluate(truth, tmp_path / "grown")
    assert not grown.failures
    assert grown.pooled[0]["count_error"] == grown.pooled[0]["merges"] == 0
    assert 0.5 < grown.pooled[0]["sq"] < 1
    assert grown.pooled[0]["ap_0.9"] < grown.pooled[0]["ap_0.5"]
