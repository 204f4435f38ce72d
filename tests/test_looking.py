"""The commands runs and compare, and the page of a comparison."""

import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from math import isnan, nan
from pathlib import Path

import numpy as np
import pytest
from run_folders import plan, write_run
from test_cli import run

from unetseg.errors import UsageError
from unetseg.pages.parts import Figure, Notice, Table
from unetseg.pages.rendering import render
from unetseg.report.comparing import page_of
from unetseg.runs import read_run
from unetseg.runs.comparing import Comparison, compare, labels, plan_differences, value_text

FIRST = {"a": (0.8, 0.6), "b": (0.9, 0.7), "c": (0.5, nan), "d": (0.4, 0.2)}
SECOND = {"d": (0.5, 0.4), "c": (0.75, 0.5), "b": (0.8, 0.7), "e": (0.1, 0.1)}
EVIL = '<script>alert("x")</script>'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("looking")
    write_run(base / "runs" / "one", plan(), FIRST, digest="aa")
    changes = {"network.skip": "none", "training.learning_rate": 0.25, "training.minutes": 4.0}
    later = "2026-02-02T03:04:05+00:00"
    write_run(base / "runs" / "two", plan(), SECOND, changes=changes, started=later, digest="bb")
    return base


@pytest.fixture(scope="module")
def found(folder: Path) -> Comparison:
    return compare([read_run(folder / "runs" / name) for name in ("one", "two")])


# --- the comparison ---


def test_scores_are_of_the_cases_that_all_validated(found: Comparison) -> None:
    assert found.score == "Dice"
    assert found.cases == ("b", "c", "d")
    one, two = found.runs
    assert [run.own for run in found.runs] == [4, 4]
    assert two.values == ((0.8, 0.7), (0.75, 0.5), (0.5, 0.4))
    assert one.column(0) == (0.9, 0.5, 0.4)
    # By hand: (0.9 + 0.5 + 0.4) / 3 and, of the two that are defined, (0.7 + 0.2) / 2.
    assert [one.mean(place).mean for place in (0, 1)] == pytest.approx([0.6, 0.45])
    assert one.mean(1).defined == 2
    assert one.overall == pytest.approx(0.525)
    assert two.overall == pytest.approx((2.05 / 3 + 1.6 / 3) / 2)


def test_differences_are_paired(found: Comparison) -> None:
    one, two = found.runs
    first = found.difference(two, 0)
    assert first.mean == pytest.approx((-0.1 + 0.25 + 0.1) / 3)
    # Three cases are too few for an interval.
    assert math.isnan(first.low)
    # A case without a score in one of the runs is in no pair.
    assert found.difference(two, 1).defined == 2
    assert found.difference(one).mean == 0


def test_the_plans_differ_where_they_do(found: Comparison) -> None:
    assert dict(found.differences) == {
        "network.skip": ("concat", "none"),
        "training.minutes": (None, 4.0),
        "training.learning_rate": (1e-5, 0.25),
    }
    assert plan_differences([plan(), plan(), plan()]) == ()


def test_what_has_to_be_said_before(found: Comparison, folder: Path) -> None:
    said = "\n".join(found.remarks())
    assert "the 3 cases that all runs validated; each has its own: one 4, two 4" in said
    assert "differ in names or voxels" in said
    one = read_run(folder / "runs" / "one")
    assert compare([one, one]).remarks() == ()
    running = compare([one, replace(one, state="running")])
    assert running.remarks() == ("one (2) is still running: its scores are those so far.",)
    others = replace(one, validation=None)
    assert "No case was validated" not in "\n".join(compare([one, others]).remarks())
    assert compare([one, others]).cases == ()


def test_runs_without_a_common_case_or_score(folder: Path, tmp_path: Path) -> None:
    one = read_run(folder / "runs" / "one")
    apart = read_run(write_run(tmp_path / "apart", plan(), {"x": (0.5, 0.5)}))
    found = compare([one, apart])
    assert found.remarks()[0].startswith("No case was validated by all")
    assert isnan(found.runs[0].overall)
    sections = [section.title for section in page_of(found).sections]
    assert sections == ["Runs", "Curves", "Plans"]


def test_one_run_is_nothing_to_compare(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"2 runs or more, got 1"):
        compare([read_run(folder / "runs" / "one")])


def test_labels_are_as_short_as_tells_them_apart() -> None:
    paths = [Path("/x/a/run"), Path("/x/b/run"), Path("/x/b/other")]
    assert labels(paths) == ("a/run", "b/run", "b/other")
    assert labels([Path("/x/a"), Path("/y/b")]) == ("a", "b")
    assert labels([Path("/x/a"), Path("/x/a")]) == ("a (1)", "a (2)")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "true"),
        (0.001, "0.001"),
        (((1, 2), (3, 4)), "[[1, 2], [3, 4]]"),
        ("plain", "plain"),
        ({"name": "core", "values": (1,)}, "name = core, values = [1]"),
    ],
)
def test_values_as_a_person_writes_them(value: object, text: str) -> None:
    assert value_text(value) == text


# --- the page ---


def test_the_page_shows_all_of_it(found: Comparison) -> None:
    page = page_of(found)
    assert page.title == "one and two"
    assert page.subtitle == "2 runs on data; 3 cases validated by all"
    parts = {section.title: section.parts for section in page.sections}
    assert list(parts) == ["Runs", "Scores", "Curves", "Case by case", "Plans"]
    assert isinstance(parts["Runs"][0], Notice)
    curves = [part.title for part in parts["Curves"] if isinstance(part, Figure)]
    assert curves == ["Loss over steps", "Loss over time", "Dice over steps", "Dice over time"]
    (cases,) = (part for part in parts["Case by case"] if isinstance(part, Table))
    # The case that lost the most comes first: its means are 0.8 and 0.75.
    assert cases.rows[0] == ("b", "0.8000", "0.7500", "-0.0500")
    assert render(page) == render(page)


def test_names_are_data_and_never_markup(folder: Path, tmp_path: Path) -> None:
    evil = read_run(write_run(tmp_path / "one", plan(), {EVIL: (0.5, 0.5), "b": (0.5, 0.5)}))
    page = render(page_of(compare([evil, replace(evil, path=tmp_path / EVIL)])))
    assert EVIL not in page
    assert "&lt;script&gt;alert" in page


# --- the commands ---


def test_runs_lists_them_newest_first(folder: Path) -> None:
    done = run(folder, "runs")
    assert done.returncode == 0
    lines = [line for line in done.stdout.splitlines() if "Dice" in line]
    assert [line.split()[1] for line in lines] == ["two", "one"]
    assert "none" in lines[0]
    assert "finished" in lines[0]


def test_runs_as_json(folder: Path) -> None:
    done = run(folder, "runs", "runs", "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["run"] for row in rows] == ["runs/two", "runs/one"]
    assert rows[1] == {
        "run": "runs/one",
        "data": "data",
        "score": "Dice",
        "mean": pytest.approx(np.mean([0.65, 0.5])),
        "cases": 4,
        "seconds": 31.0,
        "encoder": "plain",
        "skip": "concat",
        "task": "semantic",
        "state": "finished",
        "folds": None,
        "started": "2026-01-02T03:04:05+00:00",
    }


def test_a_broken_run_does_not_hide_the_others(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "runs" / "one", tmp_path / "runs" / "one")
    shutil.copytree(folder / "runs" / "two", tmp_path / "runs" / "broken")
    (tmp_path / "runs" / "broken" / "plan.toml").write_text("[")
    done = run(tmp_path, "runs")
    assert done.returncode == 1
    assert "one" in done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("failed: runs/broken/plan.toml: not TOML")
    shutil.rmtree(tmp_path / "runs" / "one")
    assert run(tmp_path, "runs").returncode == 4


def test_no_runs_and_no_folder(tmp_path: Path) -> None:
    done = run(tmp_path, "runs")
    assert done.returncode == 3
    assert done.stderr.startswith("error: runs: no such folder")
    (tmp_path / "runs").mkdir()
    done = run(tmp_path, "runs")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "no runs in runs\n")


def test_compare_in_the_terminal(folder: Path) -> None:
    done = run(folder, "compare", "runs/one", "runs/two")
    assert done.returncode == 0, done.stderr
    assert "Dice, mean over 3 cases" in done.stdout
    assert "0.6000" in done.stdout
    assert "+0.0833" in done.stdout
    assert "network.skip" in done.stdout
    assert not (folder / "compare.html").exists()


def test_compare_writes_a_page(folder: Path, tmp_path: Path) -> None:
    one, two = (folder / "runs" / name for name in ("one", "two"))
    done = run(tmp_path, "compare", one, two, "--html")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "compare.html"
    assert (tmp_path / "compare.html").read_text().startswith("<!doctype html>")
    done = run(tmp_path, "compare", one, two, "--page", "other.html", "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["run"], row["cases"], row["defined"]) for row in rows] == [
        (str(one), 3, 3),
        (str(one), 3, 2),
        (str(two), 3, 3),
        (str(two), 3, 3),
    ]
    assert rows[0]["difference"] == 0
    assert rows[2]["difference"] == pytest.approx(0.083333)
    assert (tmp_path / "other.html").is_file()


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("runs/one",), 2, "nothing to compare with"),
        (("runs/one", "runs"), 4, "no run here"),
        (("runs/one", "runs/two", "--page", "runs/one/plan.toml/x.html"), 3, "cannot be written"),
        (("runs/one", "runs/two", "--page", "runs/one/validation.csv"), 2, "not a page"),
    ],
)
def test_what_compare_refuses(words: tuple[str, ...], code: int, text: str, folder: Path) -> None:
    done = run(folder, "compare", *words)
    assert done.returncode == code
    assert text in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("words", [["runs"], ["compare", "runs/one", "runs/two", "--html"]])
def test_looking_at_runs_needs_no_torch(words: list[str], folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "runs", tmp_path / "runs")
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom unetseg.cli import app\n"
        f"assert CliRunner().invoke(app, {words!r}).exit_code == 0\n"
        "print({'torch', 'monai'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
