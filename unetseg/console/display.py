"""What a person sees while work goes on: a progress bar on a terminal, plain lines elsewhere."""

from math import isnan
from time import monotonic
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar

from unetseg.errors import one_line
from unetseg.records import Advance, EpochDone, Event, FileDone, Note, Progress, Stage

# Where there is no terminal a log wants a line now and then, not one per step.
_PLAIN_SECONDS = 15.0
STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan", "info": "default"}


class Display:
    """Shows events on stderr; stdout is kept for results."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._stage: Stage | None = None
        self._count = 0
        self._shown = 0.0

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._bar = Bar(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[detail]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self.console,
                transient=True,
            )
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def line(self, text: str, style: str = "default") -> None:
        """One line, whatever characters the text holds."""
        self.console.print(one_line(text), style=style, markup=False, emoji=False)

    def __call__(self, event: Event) -> None:
        match event:
            case Stage():
                self._begin(event)
            case Advance():
                self._advance()
            case Note():
                self.line(event.text, STYLES[event.level])
            case Progress():
                self._progress(event)
            case EpochDone():
                self.line(_epoch(event))
            case FileDone():
                self._file(event)

    def _begin(self, stage: Stage) -> None:
        self._stage, self._count, self._shown = stage, 0, monotonic()
        if self._bar is not None:
            if self._task is not None:
                self._bar.remove_task(self._task)
            total = 1000 if stage.total is None else stage.total
            self._task = self._bar.add_task(stage.name, total=total, detail="")
        elif stage.total != 0:
            of = f" {stage.total}" if stage.total else ""
            self.line(f"{stage.name}{of} ...")

    def _advance(self) -> None:
        self._count += 1
        if self._stage is None or self._stage.total is None:
            return
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._count)
        elif monotonic() - self._shown > _PLAIN_SECONDS:
            self._shown = monotonic()
            self.line(f"{self._stage.name} {self._count} of {self._stage.total}")

    def _progress(self, event: Progress) -> None:
        text = (
            f"loss {event.loss:.3f}  {event.steps_per_second:.2f} steps/s "
            f" waiting {event.waiting:.1%}  {_clock(event.seconds_left)} left"
        )
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=round(1000 * event.share), detail=text)
        elif monotonic() - self._shown > _PLAIN_SECONDS:
            self._shown = monotonic()
            self.line(f"step {event.step}  {text}")

    def _file(self, event: FileDone) -> None:
        if event.status == "done":
            text = f"{event.path} -> {event.output}  {event.seconds:.2f} s"
            self.line(text + _objects(event) + _exports(event))
        elif event.status == "part":
            self.line(f"{event.path}: {event.message}  {event.seconds:.2f} s", "cyan")
        elif event.status == "skipped":
            text = f"{event.path}: skipped, {event.output} is {event.message}"
            self.line(text + _exports(event), "cyan")
        else:
            self.line(f"failed: {event.message}", "red")


def _objects(event: FileDone) -> str:
    """How many objects there are, and how large."""
    unit = event.unit.partition("^")[0]
    told = []
    for each in event.objects:
        noun = each.name
        if len(event.objects) == 1:
            noun = "object" if each.count == 1 else "objects"
        size = "" if isnan(each.median_diameter) else f" of {each.median_diameter:.3g} {unit}"
        told.append(f"{each.count} {noun}{size}")
    return f"  {', '.join(told)}" if told else ""


def _exports(event: FileDone) -> str:
    return "".join(f"  + {path.name}" for path in event.exports)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _epoch(event: EpochDone) -> str:
    text = f"{event.training}: " if event.training else ""
    text += (
        f"epoch {event.epoch}  step {event.step}  {_clock(event.seconds)}  loss {event.loss:.3f}"
    )
    if not isnan(event.steps_per_second):
        text += f"  {event.steps_per_second:.2f} steps/s  waiting {event.waiting:.1%}"
    if not isnan(event.mean):
        values = " ".join(f"{value:.3f}" for value in event.values)
        text += f"  {event.score} {event.mean:.3f} ({values}){' best' if event.is_best else ''}"
    return text
