"""What a person sees: one line per event, results apart from progress, nothing interpreted."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from unetseg.console import Display, display, print_table, show_findings
from unetseg.records import Advance, EpochDone, Event, FileDone, Finding, Note, Progress, Stage

NAN = float("nan")


def plain(*events: Event, width: int = 40) -> str:
    """What a display that is no terminal shows."""
    stream = io.StringIO()
    with Display(Console(file=stream, width=width, soft_wrap=True, highlight=False)) as display:
        for event in events:
            display(event)
    return stream.getvalue()


def epoch(**more: object) -> EpochDone:
    values: dict[str, object] = {
        "epoch": 3,
        "step": 150,
        "seconds": 3725.4,
        "learning_rate": 0.001,
        "loss": 0.4567,
        "steps_per_second": 2.5,
        "waiting": 0.012,
        "values": (0.9, 0.75),
        "mean": 0.825,
        "is_best": True,
    }
    return EpochDone(**(values | more))  # type: ignore[arg-type]


def test_an_epoch_is_one_line_with_its_numbers() -> None:
    text = plain(epoch())
    assert text.count("\n") == 1
    for part in ("epoch 3", "step 150", "1:02:05", "loss 0.457", "2.50 steps/s", "waiting 1.2%"):
        assert part in text
    assert text.endswith("Dice 0.825 (0.900 0.750) best\n")
    assert "best" not in plain(epoch(is_best=False))


def test_an_epoch_that_was_not_validated_claims_no_dice() -> None:
    assert "Dice" not in plain(epoch(values=(NAN, NAN), mean=NAN, is_best=False))


def test_an_epoch_whose_steps_nobody_timed_claims_no_speed() -> None:
    text = plain(epoch(steps_per_second=NAN, waiting=NAN))
    assert "loss 0.457  Dice 0.825" in text
    assert "nan" not in text


def test_a_class_that_is_undefined_is_shown_as_such() -> None:
    assert "(0.900 nan)" in plain(epoch(values=(0.9, NAN), mean=0.9))


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (Note("a sentence"), "a sentence\n"),
        (Note("file [bold]x[/bold]\nnext"), "file [bold]x[/bold]\\nnext\n"),
        (Note("[/]", "warning"), "[/]\n"),
        (Stage("preparing", 12), "preparing 12 ...\n"),
        (Stage("training"), "training ...\n"),
        (Stage("preparing", 0), ""),
        (
            FileDone((Path("a.nii"),), Path("out/a_seg.nii"), "done", seconds=1.234),
            "a.nii -> out/a_seg.nii  1.23 s\n",
        ),
        (
            FileDone((Path("a.nii"),), Path("a_seg.nii"), "skipped", message="already there"),
            "a.nii: skipped, a_seg.nii is already there\n",
        ),
        (
            FileDone((Path("a.nii"),), None, "failed", message="a.nii: [red]odd"),
            "failed: a.nii: [red]odd\n",
        ),
    ],
)
def test_lines(event: Event, line: str) -> None:
    assert plain(event) == line


def test_long_lines_are_not_broken() -> None:
    assert plain(Note("x" * 300)) == "x" * 300 + "\n"


def steady(monkeypatch: pytest.MonkeyPatch, step: float) -> None:
    now = 0.0

    def monotonic() -> float:
        nonlocal now
        now += step
        return now

    monkeypatch.setattr(display, "monotonic", monotonic)


def progress(step: int) -> Progress:
    return Progress(step / 100, step, 0.5, 4.0, 0.25, 61.0)


@pytest.mark.parametrize(
    ("make", "first"),
    [
        (progress, "step 1  loss 0.500  4.00 steps/s  waiting 25.0%  1:01 left"),
        (lambda step: Advance(), "training 1 of 30"),
    ],
)
def test_a_log_gets_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[int], Event], first: str
) -> None:
    events = [Stage("training", 30), *(make(step) for step in range(1, 31))]
    steady(monkeypatch, 1.0)
    often = plain(*events).splitlines()
    # Thirty seconds go by: far fewer than thirty lines.
    assert 1 <= len(often[1:]) <= 2
    steady(monkeypatch, 100.0)
    slow = plain(*events).splitlines()
    assert len(slow) == 31
    assert slow[1] == first


def test_a_terminal_gets_a_bar_that_leaves_the_notes() -> None:
    stream = io.StringIO()
    terminal = Console(file=stream, width=100, force_terminal=True, color_system=None)
    with Display(terminal) as display:
        for event in (Stage("predicting", 2), Advance(), Note("a note"), Stage("training")):
            display(event)
        display(progress(50))
        display._bar.refresh()  # type: ignore[union-attr]
    text = stream.getvalue()
    assert "predicting" in text
    assert "a note" in text
    assert "500/1000" in text
    assert "loss 0.500" in text


def test_progress_goes_to_stderr_and_tables_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    with Display() as display:
        display(Note("for the person"))
    print_table("title", ["class", "Dice"], [["[b]liver", "0.9000"], ["a\nb", "1"]])
    shown = capsys.readouterr()
    assert shown.err == "for the person\n"
    assert "for the person" not in shown.out
    for part in ("title", "Dice", "[b]liver", "0.9000", "a\\nb"):
        assert part in shown.out


def test_findings_come_errors_first_each_with_what_to_do() -> None:
    stream = io.StringIO()
    display = Display(Console(file=stream, soft_wrap=True))
    findings = [
        Finding("note", "masks", "something"),
        Finding("error", "a.png", "is bad", "mend it"),
        Finding("warning", "b.png", "is odd", "look"),
    ]
    show_findings(findings, display)
    assert stream.getvalue().splitlines() == [
        "error: a.png: is bad; mend it",
        "warning: b.png: is odd; look",
        "note: masks: something",
    ]
