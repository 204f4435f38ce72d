"""Run folders as records: what they say in every state, and what is no run."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from math import isnan, nan
from pathlib import Path
from typing import Any

import pytest
from cubes import request, write_cubes

from unetseg.errors import DataError, ModelError
from unetseg.records import AS_IT_IS, EpochDone, Event, View
from unetseg.runs import (
    CaseTable,
    History,
    RunRecord,
    cases_of,
    find_runs,
    is_run,
    read_run,
)
from unetseg.runs.run_file import (
    NAME,
    Process,
    RunFile,
    held,
    is_running,
    read_data_path,
    read_run_file,
    write_run_file,
)
from unetseg.runs.tables import read_case_table, read_history
from unetseg.training import train
from unetseg.training.history import append_history
from unetseg.training.scores import AveragePrecision, Dice

STEPS = {"training.epochs": 2}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cubes(tmp_path_factory.mktemp("runs") / "data")


@pytest.fixture(scope="module")
def heard() -> list[tuple[Event, RunRecord]]:
    """What was told, and what the folder said at that moment."""
    return []


@pytest.fixture(scope="module")
def whole(data: Path, heard: list[tuple[Event, RunRecord]]) -> Path:
    run = data.parent / "runs" / "whole"

    def listen(event: Event) -> None:
        if is_run(run):
            heard.append((event, read_run(run)))

    asked = replace(request(data, run, STEPS), command="unetseg train data -o runs/whole")
    return train(asked, listen).run


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(whole, tmp_path / "run"))


# --- a run in every state ---


def test_a_finished_run(whole: Path, data: Path) -> None:
    record = read_run(whole)
    assert (record.name, record.state, record.score) == ("whole", "finished", "Dice")
    assert record.data == data
    assert record.data_name == "data"
    assert record.view == AS_IT_IS
    assert record.command == "unetseg train data -o runs/whole"
    assert dict(record.versions).keys() >= {"unetseg", "python", "torch", "numpy"}
    assert "core" in record.machine
    assert "GiB" in record.machine
    assert record.started.endswith("+00:00")
    assert record.plan.reasons["training.epochs"] == "set by you"
    assert record.facts is not None
    assert (record.facts.step, record.facts.cases, record.facts.folds) == (4, (4, 2), ())
    assert record.facts.plan.data == record.plan.data
    assert record.mean == record.facts.mean
    assert record.seconds >= record.history.rows[-1].seconds > 0
    assert record.folds == ()
    assert not record.is_of_folds


def test_the_history_is_what_was_told(whole: Path, heard: list[tuple[Event, RunRecord]]) -> None:
    history = read_run(whole).history
    told = [event for event, _ in heard if isinstance(event, EpochDone)]
    assert len(told) == 2
    assert (history.score, history.columns) == ("Dice", ("label 1",))
    for row, event in zip(history.rows, told, strict=True):
        assert (row.epoch, row.step, row.is_best) == (event.epoch, event.step, event.is_best)
        numbers = [
            (row.loss, event.loss),
            (row.mean, event.mean),
            (row.learning_rate, event.learning_rate),
            *zip(row.values, event.values, strict=True),
        ]
        assert all(one == pytest.approx(other, rel=1e-5) for one, other in numbers)
    assert history.validated == history.rows


def test_a_run_that_learns_is_running_and_lacks_what_comes_later(
    heard: list[tuple[Event, RunRecord]], whole: Path
) -> None:
    records = [record for _, record in heard]
    assert {record.state for record in records if record.history.rows} == {"running"}
    first = records[0]
    assert (first.facts, first.validation, first.evidence) == (None, None, None)
    assert first.history == History()
    assert first.seconds == 0
    assert isnan(first.mean)
    assert read_run(whole).state == "finished"
    assert read_run_file(whole).process is None


def test_a_stopped_run(data: Path, tmp_path: Path) -> None:
    asked = iter([False] * 3)
    cache = data.parent / "cache"
    outcome = train(
        request(data, tmp_path / "run", STEPS, cache=cache), should_stop=lambda: next(asked, True)
    )
    assert read_run(outcome.run).state == "stopped"


def test_what_an_earlier_release_wrote(run: Path, data: Path) -> None:
    (run / NAME).write_text(json.dumps({"data": str(data), "unetseg": "0.0.1"}))
    (run / "validation.json").unlink()
    record = read_run(run)
    assert (record.data, record.state, record.started) == (data, "finished", "")
    assert (record.command, record.versions, record.evidence) == ("", (), None)
    (run / NAME).unlink()
    assert read_run(run).data is None
    with pytest.raises(DataError, match=r"run\.json: the run does not say which data"):
        read_data_path(run)


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"view": 3, "versions": 1, "folds": "x"}'])
def test_a_damaged_run_file_says_nothing(run: Path, text: str) -> None:
    (run / NAME).write_text(text)
    assert read_run_file(run) == RunFile()


def test_a_run_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = RunFile(
        data=tmp_path / "data",
        view=View(axes="ZYX", channels=("1",)),
        folds=3,
        started="2026-01-02T03:04:05+00:00",
        command="unetseg train 'a b'",
        versions=(("unetseg", "1"), ("torch", "2")),
        machine="a card; a processor",
        digest="00ff",
        process=Process("host", 12, 3.5),
    )
    write_run_file(tmp_path, written)
    assert read_run_file(tmp_path) == written
    # What goes on has begun when it began.
    write_run_file(tmp_path, replace(written, started="", command="again"))
    assert read_run_file(tmp_path) == replace(written, command="again")


# --- whether it is running ---


def test_a_killed_training_is_stopped(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom unetseg.runs.run_file import held\n"
        "with held(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert is_running(tmp_path)
        process.kill()
        # Before its parent has fetched it, it still has a number.
        until = time.monotonic() + 10
        while is_running(tmp_path) and time.monotonic() < until:
            time.sleep(0.01)
        assert not is_running(tmp_path)
    assert not is_running(tmp_path)
    assert read_run_file(tmp_path).process is not None


def test_a_number_that_is_used_again_is_another_process(tmp_path: Path) -> None:
    own = Process.this()
    for process, lives in ((own, True), (replace(own, created=own.created - 60), False)):
        write_run_file(tmp_path, RunFile(process=process))
        assert is_running(tmp_path) == lives


def test_on_another_machine_the_word_of_a_process_holds_for_a_while(tmp_path: Path) -> None:
    write_run_file(tmp_path, RunFile(process=Process("elsewhere", os.getpid(), 1.0)))
    assert is_running(tmp_path)
    before = time.time() - 600
    os.utime(tmp_path / NAME, (before, before))
    assert not is_running(tmp_path)


def test_who_took_a_run_over_keeps_it(tmp_path: Path) -> None:
    other = Process("elsewhere", 1, 1.0)
    with held(tmp_path):
        assert read_run_file(tmp_path).process == Process.this()
        write_run_file(tmp_path, RunFile(process=other))
    assert read_run_file(tmp_path).process == other


def test_an_error_ends_the_holding(tmp_path: Path) -> None:
    with pytest.raises(KeyError), held(tmp_path):
        raise KeyError
    assert not is_running(tmp_path)


# --- tables ---


@pytest.mark.parametrize("score", [Dice(("liver, left", "dice of old")), AveragePrecision()])
def test_a_history_is_read_as_it_was_written(score: Any, tmp_path: Path) -> None:
    width = len(score.columns)
    written = (
        EpochDone(1, 5, 1.5, 0.25, 2.0, 3.0, 0.5, (nan,) * width, nan, False, score.name),
        EpochDone(2, 10, 3.0, 0.125, 1.0, nan, nan, (0.5,) * width, 0.5, True, score.name),
    )
    for row in written:
        append_history(tmp_path / "history.csv", row, score)
    found = read_history(tmp_path / "history.csv")
    assert found.columns == score.columns
    assert repr(found.rows) == repr(written)
    assert [row.epoch for row in found.validated] == [2]


def test_a_table_of_folds_with_cleaned_scores(tmp_path: Path) -> None:
    path = tmp_path / "out_of_fold.csv"
    path.write_text(
        "case,fold,dice a,dice b,cleaned dice a,cleaned dice b\n"
        'x/1,0,0.5,,0.6,\n"y,2",1,0.25,0.75,0.25,1.0\n'
    )
    found = read_case_table(path)
    assert found is not None
    assert (found.score, found.columns, found.names) == ("Dice", ("a", "b"), ("x/1", "y,2"))
    assert found.folds == (0, 1)
    assert repr(found.values) == repr(((0.5, nan), (0.25, 0.75)))
    assert repr(found.cleaned) == repr(((0.6, nan), (0.25, 1.0)))
    assert found.means == (0.5, 0.5)


def test_a_case_without_a_defined_score_has_no_mean() -> None:
    assert isnan(CaseTable("Dice", ("a",), ("x",), ((nan,),)).means[0])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("history.csv", "a,b\n1,2\n"),
        ("history.csv", "epoch,step\n"),
        ("history.csv", None),
        ("validation.csv", "case,dice a\nx,good\n"),
        ("validation.csv", "case,dice a\nx,0.5,0.5\n"),
        ("validation.csv", "case,hausdorff a\nx,0.5\n"),
        ("validation.csv", "case\nx\n"),
    ],
)
def test_a_table_that_is_another_is_one_line(run: Path, name: str, text: str | None) -> None:
    path = run / name
    # Half a line: no writer of ours leaves one.
    path.write_text(path.read_text()[:-30] + "x\n" if text is None else text)
    with pytest.raises(DataError, match=rf"{name}: not (the history|a table)"):
        read_run(run)


# --- what is no run ---


def test_what_is_no_run(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no run here .*expected a run folder"):
        read_run(tmp_path / "absent")
    with pytest.raises(ModelError, match=f"give the run folder, {run}"):
        read_run(run / "model")


def test_a_plan_or_a_model_that_is_broken(run: Path) -> None:
    model = run / "model" / "model.json"
    kept = model.read_text()
    model.write_text(kept[:100])
    with pytest.raises(ModelError, match=r"model\.json: not JSON"):
        read_run(run)
    model.write_text(kept)
    (run / "plan.toml").write_text("[data]\ntask = 3\n")
    with pytest.raises(ModelError, match=r"plan\.toml"):
        read_run(run)


# --- finding ---


def test_runs_are_found_newest_first_and_folds_are_part_of_theirs(
    whole: Path, tmp_path: Path
) -> None:
    places = ("old", "study/new", "a/b/middle")
    starts = ("2026-01-01", "2026-03-01", "2026-02-01")
    for place, start in zip(places, starts, strict=True):
        copy = Path(shutil.copytree(whole, tmp_path / place))
        content = json.loads((copy / NAME).read_text()) | {"started": f"{start}T00:00:00+00:00"}
        (copy / NAME).write_text(json.dumps(content))
    shutil.copytree(whole, tmp_path / "old" / "fold_0")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    expected = [tmp_path / place for place in ("study/new", "a/b/middle", "old")]
    assert list(find_runs(tmp_path)) == expected
    assert find_runs(tmp_path / "old") == (tmp_path / "old",)
    with pytest.raises(DataError, match="no such folder"):
        find_runs(tmp_path / "absent")


def test_the_cases_are_found_again(whole: Path, data: Path) -> None:
    found = cases_of(read_run(whole))
    assert [case.name for case in found.cases] == ["case_0", "case_3"]
    assert found["case_3"].truth == data / "labels" / "case_3.nii.gz"
    assert (found.gone, found.reason) == ((), "")


def test_cases_that_are_gone_are_named(run: Path, data: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(data, tmp_path / "data"))
    (moved / "images" / "case_0.nii.gz").unlink()
    record = replace(read_run(run), data=moved)
    found = cases_of(record)
    assert [case.name for case in found.cases] == ["case_3"]
    assert found.gone == ("case_0",)
    assert found.reason == f"1 case no longer in {moved}: case_0"
    nowhere = cases_of(replace(record, data=tmp_path / "absent"))
    assert nowhere.cases == ()
    assert nowhere.gone == ("case_0", "case_3")
    assert "cannot be read" in nowhere.reason
    assert "does not say" in cases_of(replace(record, data=None)).reason


def test_before_the_first_table_they_follow_from_the_folds(run: Path) -> None:
    (run / "validation.csv").unlink()
    assert [case.name for case in cases_of(read_run(run)).cases] == ["case_0", "case_3"]


# --- nothing heavy ---


@pytest.mark.parametrize(
    "work",
    ["", "from unetseg.runs import cases_of, read_run\ncases_of(read_run(sys.argv[1]))"],
)
def test_reading_runs_needs_no_torch(whole: Path, work: str) -> None:
    code = f"import sys, unetseg.runs\n{work}\nprint({{'torch', 'monai'}} & sys.modules.keys())"
    done = subprocess.run(
        [sys.executable, "-c", code, str(whole)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
