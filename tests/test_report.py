"""The report of a run, whatever state the run is in."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unetseg.errors import DataError, ModelError, UsageError
from unetseg.geometry import Geometry
from unetseg.pages.rendering import render
from unetseg.records import Mask
from unetseg.report.card import card, known_limits
from unetseg.report.cases import _of_objects, choose
from unetseg.report.mistakes import calibration_error
from unetseg.report.run import page_of, write_report
from unetseg.report.validation import Ranked, per_class, ranked, size_error
from unetseg.runs import Bin, CaseTable, read_run

ROOT = Path(__file__).resolve().parents[1]
Maker = Callable[..., Path]


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The maker of run folders that benchmarks use, and a function that calls it here."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import made_run

    return made_run


def html_of(run: Path) -> str:
    return write_report(run).read_text(encoding="utf-8")


def text_of(html: str) -> str:
    body = re.sub(r"<(style|script)>.*?</\1>", " ", html, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


def pictures_in(html: str) -> int:
    return html.count("data:image/webp")


def headings(html: str) -> list[str]:
    return re.findall(r"<h2[^>]*>(.*?)</h2>", html)


def test_a_finished_run_has_everything(made: Any, tmp_path: Path) -> None:
    run = made.make_run(tmp_path, made.Made(cases=5))
    html = html_of(run)
    assert (run / "report.html").is_file()
    assert headings(html) == [
        "Summary",
        "Worst, median and best cases",
        "Cases",
        "Mistakes",
        "Training",
        "Plan",
        "How it was made",
        "Model card",
    ]
    text = text_of(html)
    record = read_run(run)
    assert record.facts is not None
    assert f"{record.facts.mean:.3f} " in text
    assert pictures_in(html) == 5
    for what in (
        "unetseg train",
        "10 min",
        "20 + 5",
        "0123456789abcdef0123456789abcdef",
        "a processor, 8 cores, 32 GiB",
        "torch 2.8.0",
        "median of the scans",
        "Expected calibration error 0.04",
        "mm\u00b3",
    ):
        assert what in text, what
    charts = re.findall(r'aria-label="([^"(.]*)[(.]', html)
    for name in ("Dice of each case", "Confusion", "Calibration", "Predicted and true volume",
                 "Error of the volume", "Loss", "Validation Dice", "Learning rate", "Speed",
                 "Waiting for data"):  # fmt: skip
        assert any(chart.strip() == name for chart in charts), (name, charts)


def test_the_table_goes_from_worst_to_best_and_leads_to_the_pictures(
    made: Any, tmp_path: Path
) -> None:
    run = made.make_run(tmp_path, made.Made(cases=16))
    html = html_of(run)
    record = read_run(run)
    assert record.validation is not None
    means = dict(zip(record.validation.names, record.validation.means, strict=True))
    rows = re.findall(r'<th scope="row">(?:<a href="#([^"]+)">)?(case_\d+)', html)
    assert [name for _, name in rows] == sorted(means, key=lambda name: means[name])
    linked = {name for target, name in rows if target}
    assert len(linked) == pictures_in(html) == 12
    for target, _ in rows:
        assert not target or f'id="{target}"' in html
    order = sorted(means, key=lambda name: means[name])
    assert {*order[:6], *order[-3:]} <= linked


@pytest.mark.parametrize("kind", ["regions", "objects"])
def test_other_kinds_of_masks(made: Any, tmp_path: Path, kind: str) -> None:
    shape = (72, 72) if kind == "objects" else (24, 32, 28)
    classes = ("whole", "core")
    run = made.make_run(tmp_path, made.Made(cases=4, kind=kind, shape=shape, classes=classes))
    html = html_of(run)
    text = text_of(html)
    assert pictures_in(html) == 4
    evidence = read_run(run).evidence
    assert evidence is not None
    if kind == "regions":
        assert "regions: whole, core" in text
        (_, wrong), (missed, right) = evidence.regions[1]
        assert f"core {right / (right + missed):.3f} {right / (right + wrong):.3f}" in text
        assert "Confusion" not in text
    else:
        assert "Objects" in headings(html)
        at = evidence.objects[0]
        ap = at.tp / (at.tp + at.fp + at.fn)
        assert f"0.5 {at.tp:,} {at.fp:,} {at.fn:,} {ap:.3f}" in text
        counts = [case.objects for case in evidence.cases if case.objects is not None]
        assert f"merges {sum(one.merges for one in counts):,}:" in text
        assert f"splits {sum(one.splits for one in counts):,}:" in text


def test_all_folds_together(made: Any, tmp_path: Path) -> None:
    run = made.make_folds(tmp_path, made.Made(cases=9), 3)
    html = html_of(run)
    text = text_of(html)
    assert headings(html)[:3] == ["Summary", "Folds", "Worst, median and best cases"]
    assert "cases, each validated once 9" in text or "9 cases, each validated once" in text
    assert "the largest component alone" in text
    table = read_run(run).validation
    assert table is not None
    own = [v for v, fold in zip(table.means, table.folds, strict=True) if fold == 2]
    assert f"2 finished 3 {np.mean(own):.3f}" in text
    assert "an ensemble of 3 networks" in text
    # A fold is a run of its own.
    assert "Folds" not in headings(html_of(run / "fold_1"))
    shutil.rmtree(run / "fold_2")
    assert "1 fold of 3 not begun yet" in text_of(html_of(run))


# --- what is not there -------------------------------------------------------------------------


def test_a_run_that_has_just_begun(made: Any, tmp_path: Path) -> None:
    run = made.make_run(tmp_path, made.Made(is_done=False))
    (run / "history.csv").unlink()
    html = html_of(run)
    text = text_of(html)
    assert "no epoch is done yet" in text
    assert "nothing to draw" in text
    assert "There is no model yet" in text
    assert "written at the end of a training" in text
    assert pictures_in(html) == 0
    assert "median of the scans" in text


def test_a_run_on_its_way(made: Any, tmp_path: Path) -> None:
    run = made.make_run(tmp_path, made.Made(is_done=False))
    text = text_of(html_of(run))
    assert "25 steps are done" in text
    assert "stopped before its end" in text
    assert "Loss" in text


def test_a_training_that_goes_on_is_said_to(made: Any, tmp_path: Path) -> None:
    record = read_run(made.make_run(tmp_path, made.Made(is_done=False)))
    text = text_of(render(page_of(replace(record, state="running"))))
    assert "The training goes on: 25 steps are done" in text
    assert "stopped" not in text


@pytest.mark.parametrize("left", [0, 1])
def test_all_folds_on_their_way(made: Any, tmp_path: Path, left: int) -> None:
    run = made.make_folds(tmp_path, made.Made(cases=6), 3)
    for fold in range(left, 3):
        shutil.rmtree(run / f"fold_{fold}")
    shutil.rmtree(run / "model")
    (run / "out_of_fold.csv").unlink()
    text = text_of(html_of(run))
    assert f"{left} of 3 folds are trained" in text
    assert "written when all folds are trained" in text
    assert ("nothing to draw" in text) == (left == 0)


def test_data_that_are_gone(made: Any, tmp_path: Path) -> None:
    run = made.make_run(tmp_path, made.Made(cases=4))
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    html = html_of(run)
    assert pictures_in(html) == 0
    assert "Images are missing" in text_of(html)
    assert "case_003" in html


def test_one_image_that_is_gone_and_one_that_is_damaged(made: Any, tmp_path: Path) -> None:
    run = made.make_run(tmp_path, made.Made(cases=4))
    (tmp_path / "data" / "labels" / "case_001.nii.gz").unlink()
    (tmp_path / "data" / "images" / "case_002.nii.gz").write_bytes(b"no picture")
    html = html_of(run)
    assert pictures_in(html) == 2
    text = text_of(html)
    assert "case_001" in text[text.index("Images are missing") :][:200]
    assert "No picture: " in text


def test_masks_that_are_gone(made: Any, tmp_path: Path) -> None:
    run = made.make_run(tmp_path, made.Made(cases=4))
    shutil.rmtree(run / "validation")
    html = html_of(run)
    assert pictures_in(html) == 4
    assert 'class="predicted"' not in html
    assert "only the truth is outlined" in text_of(html)


def test_no_evidence(made: Any, tmp_path: Path) -> None:
    run = made.make_run(tmp_path, made.Made(cases=4))
    (run / "validation.json").unlink()
    text = text_of(html_of(run))
    assert "Masks of the validation cases, confusion, calibration and sizes are not here" in text


def test_cases_without_a_score_come_last_and_are_counted(made: Any, tmp_path: Path) -> None:
    run = made.make_run(tmp_path, made.Made(cases=4))
    table = run / "validation.csv"
    lines = table.read_text().splitlines()
    lines[2] = "case_001,,"
    table.write_text("\n".join(lines) + "\n")
    html = html_of(run)
    assert "3 / 4" in text_of(html)
    rows = re.findall(r'<th scope="row">(?:<a[^>]*>)?(case_\d+)', html)
    assert rows[-1] == "case_001"


def test_what_is_no_run_or_no_page(made: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no run here"):
        write_report(tmp_path)
    run = made.make_run(tmp_path, made.Made(cases=2))
    before = (run / "plan.toml").read_bytes()
    with pytest.raises(UsageError, match=r"not a page.*ends in \.html"):
        write_report(run, run / "plan.toml")
    assert (run / "plan.toml").read_bytes() == before
    (run / "history.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="not the history"):
        write_report(run)


def test_the_same_run_gives_the_same_bytes(made: Any, tmp_path: Path) -> None:
    run = made.make_run(tmp_path, made.Made(cases=3))
    one = write_report(run).read_bytes()
    assert write_report(run, tmp_path / "again.html").read_bytes() == one


# --- names -------------------------------------------------------------------------------------


def test_names_from_files_are_data(made: Any, tmp_path: Path) -> None:
    names = ["<script>alert(1)<|script>", '"onload=alert(2)', "\u202eabc", "x" * 180, "$a_b$"]
    run = made.make_run(
        tmp_path,
        made.Made(cases=5, name=names.__getitem__, classes=("<img src=x>", '"><b>two')),
    )
    html = html_of(run)
    assert pictures_in(html) == 5
    assert len(re.findall(r"<script", html)) == 1
    assert "<img src=x>" not in html
    assert "<b>" not in html
    assert "\u202e" not in html
    assert r"\u202eabc" in html
    assert not re.search(r"<[^>]*\sonload=", html)


# --- numbers -----------------------------------------------------------------------------------


def test_the_calibration_error_of_known_bins() -> None:
    bins = [Bin(0.5, 0.75, 30, 0.6, 0.5), Bin(0.75, 1.0, 10, 0.9, 1.0)]
    assert calibration_error(bins) == pytest.approx(0.1)
    assert calibration_error([Bin(0.5, 1.0, 9, 0.8, 0.8)]) == 0
    assert np.isnan(calibration_error([]))


@pytest.mark.parametrize(
    ("true", "predicted", "text"),
    [(100, 90, "-10.0%"), (9, 9, "+0.0%"), (2, 30, "+1,400%"), (0, 5, "\u2013"),
     (5, 0, "-100.0%")],
)  # fmt: skip
def test_errors_of_sizes(true: float, predicted: float, text: str) -> None:
    assert size_error(true, predicted) == text


def table_of(scores: list[float]) -> Ranked:
    names = tuple(f"c{k}" for k in range(len(scores)))
    table = CaseTable("Dice", ("a",), names, tuple((score,) for score in scores))
    order = sorted(range(len(scores)), key=lambda k: (np.isnan(scores[k]), scores[k]))
    return Ranked(table, tuple(order), tuple(scores))


@pytest.mark.parametrize("count", [0, 1, 2, 12, 13, 40])
def test_worst_median_and_best_are_chosen_once_each(count: int) -> None:
    scores = [float(k) for k in range(count)] + [float("nan")]
    chosen = choose(table_of(scores))
    places = [one.place for one in chosen]
    assert len(set(places)) == len(places) == min(count, 12)
    assert places == sorted(places)
    assert count not in places
    if count > 12:
        why = {one.place: one.why for one in chosen}
        assert (why[0], why[count - 1], why[count // 2]) == ("worst", "best", "median")


def test_limits_follow_from_the_data(made: Any, tmp_path: Path) -> None:
    run = made.make_run(tmp_path, made.Made(cases=4))
    record = read_run(run)
    limits = dict(known_limits(record, ranked(record)))
    assert "4 cases were scored" in limits["few cases"]
    assert "1 \u00d7 1 \u00d7 1 mm" in limits["voxels"]
    assert "core, rim" in limits["absence"]
    evidence = record.evidence
    assert evidence is not None
    smallest = min(case.true[0] for case in evidence.cases)
    assert f"{smallest:,.4g}".split(".")[0] in limits["core"]
    many = made.make_run(tmp_path / "many", made.Made(cases=20, shape=(8, 9, 8)))
    assert "few cases" not in dict(known_limits(read_run(many), ranked(read_run(many))))


def test_the_card_leaves_to_people_what_only_they_know(made: Any, tmp_path: Path) -> None:
    record = read_run(made.make_run(tmp_path, made.Made(cases=3, classes=("a*b", "[x](y)"))))
    facts = dict(card(record, ranked(record)).parts[1].rows)
    assert "filled in by the person" in facts["intended use"]
    assert facts["licence of the data"].startswith("Unknown")
    assert facts["licence of the model"].startswith("Unknown")
    (code,) = [p for p in card(record, ranked(record)).parts if type(p).__name__ == "Code"]
    assert r"a\*b" in code.text
    assert r"\[x\](y)" in code.text


def test_the_title_is_the_runs_name(made: Any, tmp_path: Path) -> None:
    run = made.make_run(tmp_path, made.Made(cases=2))
    assert page_of(read_run(run)).title == "run"


def test_objects_get_their_classes_from_the_table_beside_their_mask(
    made: Any, tmp_path: Path
) -> None:
    record = read_run(made.make_run(tmp_path, made.Made(cases=2, kind="objects", shape=(48, 48))))
    data = replace(
        record.plan.data,
        class_names=("background", "round", "long"),
        class_values=(0, 1, 5),
        ignore_value=9,
    )
    (tmp_path / "a_objects.csv").write_text("id,class\n1,long\n3,round\n")
    ids = np.array([[1, 2, 3, 9]])
    mask = Mask(ids, Geometry.from_spacing(ids.shape, (1, 1), "px"))
    found = _of_objects(mask, tmp_path / "a_seg.tif", data)
    assert found.classes == (5, 0, 1)
    assert found.array.tolist() == [[1, 2, 3, 0]]
    assert _of_objects(mask, tmp_path / "b_seg.tif", data).classes == ()
    assert ids[0, 3] == 9


def test_cases_that_are_equally_bad_are_counted(made: Any, tmp_path: Path) -> None:
    run = made.make_run(tmp_path, made.Made(cases=4))
    lines = (run / "validation.csv").read_text().splitlines()
    lines[2:4] = ["case_001,0,0.5", "case_002,0,0.25"]
    (run / "validation.csv").write_text("\n".join(lines) + "\n")
    record = read_run(run)
    cases = ranked(record)
    assert cases is not None
    core, rim = per_class(record, cases).rows
    assert "case_001 and 1 more" in core
    assert "case_002" in rim


# --- the command -------------------------------------------------------------------------------


def command(*words: object) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "unetseg.cli", *map(str, words)]
    return subprocess.run(program, capture_output=True, text=True, check=False)


def test_the_command_says_where_the_page_is(made: Any, tmp_path: Path) -> None:
    run = made.make_run(tmp_path, made.Made(cases=2))
    target = tmp_path / "pages" / "one.html"
    done = command("report", run, "-o", target)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, str(target), "")
    assert target.read_text().startswith("<!doctype html>")
    failed = command("report", tmp_path)
    assert failed.returncode == 4
    assert len(failed.stderr.strip().splitlines()) == 1
    assert "no run here" in failed.stderr


def test_no_torch_is_needed(made: Any, tmp_path: Path) -> None:
    run = made.make_run(tmp_path, made.Made(cases=2))
    program = (
        "import sys; from unetseg.report.run import write_report;"
        f"write_report({str(run)!r});"
        "print(sorted({'torch', 'monai'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout.replace("'", '"')) == []
