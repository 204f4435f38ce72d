"""The page of an evaluation, and the command that writes it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scored import FAST, HOSTILE, make_cells, make_volumes, outcome, volume

from unetseg.errors import UsageError
from unetseg.evaluation import Outcome, evaluate
from unetseg.pages.parts import Gallery, Link, Picture, Section, Table
from unetseg.pages.writing import checked_page, write_page
from unetseg.report.scoring import page_of


def parts(sections: object, kind: type) -> list:
    found = []
    for each in sections:  # type: ignore[attr-defined]
        if isinstance(each, Section | Gallery):
            found += parts(each.parts if isinstance(each, Section) else each.pictures, kind)
        if isinstance(each, kind):
            found.append(each)
    return found


def table(sections: object, caption: str) -> Table:
    (found,) = [each for each in parts(sections, Table) if caption in each.caption]
    return found


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("volumes")
    make_volumes(folder, [f"case{number:02}" for number in range(15)])
    return folder


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cells")
    make_cells(folder)
    return folder


def test_what_the_page_holds(volumes: Path) -> None:
    made = outcome(volumes, against=True)
    sections = page_of(made, volumes / "images").sections
    titles = [section.title for section in sections]
    assert titles == [
        *("Summary", "Comparison", "Worst, median and best cases", "Cases"),
        *("Distribution", "Size against error"),
    ]
    summary = table(sections[:1], "Distances in mm")
    assert summary.columns[:3] == ("class", "metric", "mean (95 %)")
    dice = made.summaries[0]["dice"]
    first = summary.rows[0]
    assert first[2] == f"{dice.mean:.4f} ({dice.interval.low:.4f}\u2013{dice.interval.high:.4f})"
    assert first[6] == Link(dice.worst_case, f"case-{dice.worst_case}")
    cases = table(sections, "From the worst to the best")
    assert len(cases.rows) == 2 * 15
    assert cases.columns[:3] == ("case", "class", "dice")
    # The worst case comes first, and the sizes come last: 6 x 7 x 4 voxels of 2 mm^3 less a hole.
    assert float(cases.rows[0][2]) == min(float(row[2]) for row in cases.rows if row[1] == "1")
    assert cases.rows[0][-2:] == (f"{2 * (6 * 7 * 4 - 4 * 3 * 4)}",) * 2


def test_pictures_lie_over_the_scans_or_over_black(volumes: Path) -> None:
    made = outcome(volumes)
    over, bare = (
        parts(page_of(made, scans).sections, Picture) for scans in (volumes / "images", None)
    )
    assert len(over) == len(bare) == 12
    assert all(picture.pixels.any() for picture in over)
    assert not any(picture.pixels.any() for picture in bare)
    kinds = [[outline.kind for outline in pictures[0].outlines] for pictures in (over, bare)]
    assert kinds[0] == kinds[1] == ["truth", "truth", "predicted", "predicted"]
    assert over[0].unit == "mm"
    # A pair of one case lies on the same slice, so its truth is the same.
    compared = parts(page_of(outcome(volumes, against=True)).sections[1:2], Gallery)
    for gallery in compared:
        one, other = (
            [o.rings for o in picture.outlines if o.kind == "truth"] for picture in gallery.pictures
        )
        assert all(
            np.array_equal(a, b)
            for x, y in zip(one, other, strict=True)
            for a, b in zip(x, y, strict=True)
        )
    assert 1 <= len(compared) <= 6


def test_scans_that_are_not_there_are_told(volumes: Path, tmp_path: Path) -> None:
    (tmp_path / "case00.nii.gz").symlink_to(volumes / "images" / "case00.nii.gz")
    made = outcome(volumes)
    section = page_of(made, tmp_path).sections[1]
    (notice,) = [part for part in section.parts if type(part).__name__ == "Notice"]
    assert notice.sentences[0].startswith("No scan was found for case")
    # One that lies elsewhere is no ground to draw on.
    volume(tmp_path / "case03.nii.gz", np.zeros((5, 5, 5), np.float32))
    section = page_of(made, tmp_path).sections[1]
    (notice,) = [part for part in section.parts if type(part).__name__ == "Notice"]
    assert "the mask does not lie on its scan: shape (5, 5, 5) is not (12, 12, 6)" in str(notice)


def test_of_objects(cells: Path) -> None:
    made = outcome(cells, against=True, objects=True)
    sections = page_of(made).sections
    pooled = table(sections, "All images pooled")
    assert pooled.columns[0] == "metric"
    facts = dict(sections[0].parts[1].rows)  # type: ignore[union-attr]
    assert facts["objects"] == "54 true, 48 predicted, 48 TP (at an IoU of 0.5), 0 FP, 6 FN"
    assert "Objects per image" in {part.title for part in sections[-1].parts}  # type: ignore[union-attr]
    assert {"merges", "splits"} <= set(table(sections, "From the worst").columns)


def test_what_is_ignored_is_not_outlined(volumes: Path) -> None:
    sides = volumes / "truth", volumes / "predicted"
    for settings, classes in (
        ({"ignore_value": 2}, {"1"}),
        ({"merge_labels": True}, {"foreground"}),
    ):
        made = Outcome(*sides, evaluate(*sides, objects=False, **settings), FAST)
        drawn = parts(page_of(made).sections, Picture)
        assert {outline.name for each in drawn for outline in each.outlines} == classes


def test_the_same_bytes_again(volumes: Path, tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        write_page(page_of(outcome(volumes, against=True), volumes / "images"), tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_names_are_data(tmp_path: Path) -> None:
    make_volumes(tmp_path, list(HOSTILE))
    write_page(page_of(outcome(tmp_path, against=True), tmp_path / "images"), tmp_path / "e.html")
    text = (tmp_path / "e.html").read_text()
    assert len(re.findall("<script", text)) == 1
    assert "&lt;script&gt;alert(1)&lt;|script&gt;" in text
    assert '"onload' not in text and "\u202e" not in text
    assert "&amp;amp; " in text


def test_masks_without_anything(tmp_path: Path) -> None:
    for side in ("truth", "predicted"):
        volume(tmp_path / side / "a.nii.gz", np.zeros((5, 5, 5), np.uint8))
    sections = page_of(outcome(tmp_path)).sections
    assert [section.title for section in sections] == ["Summary"]


def test_only_such_a_page_is_overwritten(volumes: Path, tmp_path: Path) -> None:
    page = tmp_path / "e.html"
    write_page(page_of(outcome(volumes)), page)
    before = page.read_bytes()
    write_page(page_of(outcome(volumes)), page)
    assert page.read_bytes() == before
    others = {"mine.html": "<title>Scores of mine</title>", "empty.html": ""}
    for name, text in others.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(UsageError, match=f"{name}: is there already and is no page of unetseg"):
            write_page(page_of(outcome(volumes)), tmp_path / name)
        assert (tmp_path / name).read_text() == text
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(UsageError, match="is there already"):
        checked_page(tmp_path / "folder.html")
    with pytest.raises(UsageError, match=r"not a page \(expected a name that ends in \.html\)"):
        checked_page(tmp_path / "scores.csv")


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "unetseg.cli", "evaluate", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_command(volumes: Path, tmp_path: Path) -> None:
    sides = [str(volumes / side) for side in ("truth", "predicted", "other")]
    done = command(
        tmp_path,
        *(*sides[:2], "--against", sides[2], "--html", "--scans", str(volumes / "images")),
        *("--summary", "s.json", "--group", "case0?([0-9]+)", "-o", "s.csv"),
    )
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, "evaluating 15 ...")
    shown = done.stdout
    for text in (
        "95 % interval",
        "worst cases",
        "intervals: 95%, of the mean, by bootstrap (BCa) over groups, 9999 draws",
        f"A: {sides[1]}",
        f"B: {sides[2]}",
        "p: Wilcoxon signed-rank test over the means of groups",
        "win/tie/loss",
        "cases that changed most",
    ):
        assert text in shown
    assert shown.splitlines()[-1] == "evaluation.html"
    assert (tmp_path / "evaluation.html").read_text().startswith("<!doctype html>")
    summary = json.loads((tmp_path / "s.json").read_text())
    assert summary["intervals"]["over"] == "groups"
    row = next(line for line in shown.splitlines() if line.split()[:2] == ["1", "dice"])
    assert row.split()[2] == f"{summary['classes'][0]['metrics']['dice']['mean']:.4f}"
    # What is documented of these stays: a row per case and class.
    assert len((tmp_path / "s.csv").read_text().splitlines()) == 1 + 30


def test_the_command_with_json_prints_rows_only(volumes: Path, tmp_path: Path) -> None:
    sides = [str(volumes / side) for side in ("truth", "predicted")]
    done = command(tmp_path, *sides, "--json", "--page", "p.html")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [rows[0]["case"], rows[0]["label"], len(rows)] == ["case00", 1, 30]
    assert done.stderr.splitlines()[-1] == "p.html"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--scans", "images"], "error: --scans: scans are for the page; give --html as well"),
        (["--html", "--scans", "none"], "error: none: does not exist; check the path"),
        (["--page", "s.csv"], "error: s.csv: not a page (expected a name that ends in .html)"),
        (["--group", "case"], "error: --group: not a regular expression with one group (expected"),
        (["--against", "nowhere"], "error: nowhere: does not exist; check the path"),
    ],
)
def test_what_is_wrong_is_one_line(volumes: Path, words: list[str], says: str) -> None:
    done = command(volumes, "truth", "predicted", *words)
    assert done.returncode in (2, 3) and done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith(says)
    assert "Traceback" not in done.stderr


def test_few_cases_say_that_they_have_no_intervals(volumes: Path, tmp_path: Path) -> None:
    for side in ("truth", "predicted"):
        (tmp_path / side).mkdir()
        for number in range(3):
            name = f"case{number:02}.nii.gz"
            (tmp_path / side / name).symlink_to(volumes / side / name)
    shown = command(tmp_path, "truth", "predicted").stdout
    assert "95 % interval" not in shown
    assert "no intervals: they need at least 5 cases with a defined score" in shown


def test_a_case_that_fails_in_one_set(volumes: Path, tmp_path: Path) -> None:
    for side in ("truth", "predicted", "other"):
        (tmp_path / side).mkdir()
        for number in range(6):
            name = f"case{number:02}.nii.gz"
            (tmp_path / side / name).symlink_to(volumes / side / name)
    (tmp_path / "other" / "case02.nii.gz").unlink()
    (tmp_path / "other" / "case02.nii.gz").write_bytes(b"no mask")
    done = command(tmp_path, "truth", "predicted", "--against", "other")
    assert done.returncode == 1
    assert "scored in one set only: case02" in done.stdout
    assert done.stderr.splitlines()[-1].startswith("failed: case02: ")


@pytest.mark.slow
def test_a_page_of_200_cases_is_small(tmp_path: Path) -> None:
    make_volumes(tmp_path, [f"a case with a long name {number:03}" for number in range(200)], 40)
    write_page(page_of(outcome(tmp_path, against=True), tmp_path / "images"), tmp_path / "e.html")
    assert (tmp_path / "e.html").stat().st_size < 8e6
