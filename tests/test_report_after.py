"""A page that cannot be written costs a line, and nothing else."""

from pathlib import Path

import pytest
from cubes import TINY, write_cubes
from run_folders import plan, write_run

from unetseg import train
from unetseg.records import Event, Note
from unetseg.report import after
from unetseg.report.after import report_after
from unetseg.runs import read_run


def test_where_the_page_is(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", plan(), {"a": (0.5, 0.5)})
    told: list[Event] = []
    report_after(run, told.append)
    assert told == [Note(f"report {run / 'report.html'}")]
    assert (run / "report.html").is_file()


@pytest.mark.parametrize("error", [RuntimeError("a\nb"), MemoryError("a\nb"), OSError("a\nb")])
def test_a_page_that_fails_is_a_warning(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(run: Path) -> Path:
        raise error

    monkeypatch.setattr(after, "write_report", fail)
    told: list[Event] = []
    data = write_cubes(tmp_path / "data", 2)
    monkeypatch.setattr("unetseg.training.request.user_cache_path", lambda name: tmp_path / name)
    outcome = train(data, tmp_path / "run", settings=TINY, device="cpu", listener=told.append)
    assert outcome.finished
    assert told[-1] == Note(r"report.html was not written: a\nb", "warning")
    assert read_run(outcome.run).state == "finished"
    assert not (outcome.run / "report.html").exists()


def test_a_person_can_break_it_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(run: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(after, "write_report", fail)
    with pytest.raises(KeyboardInterrupt):
        report_after(tmp_path, lambda event: None)
