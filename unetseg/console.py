"""What a person sees while work goes on: a progress bar on a terminal, plain lines elsewhere."""

from collections.abc import Sequence
from math import isnan
from time import monotonic
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
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
from rich.table import Table

from unetseg.config import TrainingPlan
from unetseg.dataset.folds import choose, make_folds
from unetseg.errors import one_line
from unetseg.evaluation import Summary
from unetseg.metrics import DISTANCES
from unetseg.planning.fingerprint import Fingerprint
from unetseg.records import (
    Advance,
    Case,
    EpochDone,
    Event,
    FileDone,
    Finding,
    Note,
    Progress,
    Stage,
)

# Where there is no terminal a log wants a line now and then, not one per step.
_PLAIN_SECONDS = 15.0
_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan", "info": "default"}


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
                self.line(event.text, _STYLES[event.level])
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
            self.line(f"{event.path} -> {event.output}  {event.seconds:.2f} s")
        elif event.status == "part":
            self.line(f"{event.path}: {event.message}  {event.seconds:.2f} s", "cyan")
        elif event.status == "skipped":
            self.line(f"{event.path}: skipped, {event.output} is {event.message}", "cyan")
        else:
            self.line(f"failed: {event.message}", "red")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _epoch(event: EpochDone) -> str:
    text = f"epoch {event.epoch}  step {event.step}  {_clock(event.seconds)}  loss {event.loss:.3f}"
    if not isnan(event.steps_per_second):
        text += f"  {event.steps_per_second:.2f} steps/s  waiting {event.waiting:.1%}"
    if not isnan(event.mean_dice):
        per_class = " ".join(f"{value:.3f}" for value in event.dice)
        text += f"  Dice {event.mean_dice:.3f} ({per_class}){' best' if event.is_best else ''}"
    return text


def show_findings(findings: Sequence[Finding], display: Display) -> None:
    """Errors first, each with what to do."""
    order = {"error": 0, "warning": 1, "note": 2}
    for finding in sorted(findings, key=lambda f: order[f.severity]):
        hint = f"; {finding.hint}" if finding.hint else ""
        display.line(
            f"{finding.severity}: {finding.where}: {finding.sentence}{hint}",
            _STYLES[finding.severity],
        )


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout."""
    table = Table(title=title or None, title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(escape(column), justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*(escape(one_line(cell)) for cell in row))
    Console(highlight=False, emoji=False).print(table)


def print_scores(summaries: Sequence[Summary], unit: str) -> None:
    """The table of an evaluation, one row per class and metric."""
    rows = []
    for summary in summaries:
        label = summary.label
        name = "all" if label is None else str(label.value)
        if label is not None and label.name not in ("", name):
            name += f" {label.name}"
        for statistic in summary.statistics:
            is_distance = statistic.metric in DISTANCES
            worst = statistic.maximum if is_distance else statistic.minimum
            numbers = (statistic.mean, statistic.sd, statistic.median, worst)
            defined = f"{statistic.defined} / {statistic.cases}"
            rows.append([name, statistic.metric, *(f"{n:.4f}" for n in numbers), defined])
    columns = ["class", "metric", "mean", "sd", "median", "worst", "defined / cases"]
    print_table(f"distances in {unit}" if unit else "", columns, rows)


def describe_division(cases: Sequence[Case], training: TrainingPlan, *, every: bool) -> str:
    """Which cases a training validates with; of `every` fold if all are asked for."""
    division = choose(cases, training.fold, training.folds, training.seed)
    if not every:
        return division.reason
    made = make_folds(cases, training.folds, training.seed)
    group_of = {case.name: case.group for case in cases if case.group is not None}
    head = f"{len(made)} folds, seed {training.seed}"
    if group_of:
        head += f", {len(set(group_of.values()))} groups by {training.group}"
    lines = [f"{head}; the cases that validate in each:"]
    for number, fold in enumerate(made):
        groups = len({group_of[name] for name in fold.val if name in group_of})
        of = f" of {groups} {'group' if groups == 1 else 'groups'}" if groups else ""
        lines.append(f"fold {number}: {len(fold.val)}{of}: {one_line(', '.join(fold.val))}")
    return "\n".join(lines)


def describe_fingerprint(found: Fingerprint) -> str:
    """What the data are like, in two lines."""
    total = sum(count for _, count in found.label_counts) or 1
    shapes = sorted(found.shapes)
    spacing = tuple(round(edge, 4) for edge in found.median_spacing)
    head = (
        f"{found.cases} {'case' if found.cases == 1 else 'cases'}, {found.dimensions}-D,"
        f" channels: {', '.join(found.channels)}, shapes {shapes[0]} to {shapes[-1]},"
        f" median spacing {spacing} {found.unit}"
    )
    unknown = f"; not known: {found.ignored_share:.2%}" if found.ignored_share else ""
    if found.looks_like_objects:
        share = 1 - dict(found.label_counts).get(0, 0) / total
        ids = len([value for value, _ in found.label_counts if value])
        return f"{head}\nlabels: {ids} object ids on {share:.2%} of the voxels{unknown}"
    names = {label.value: f"{label.name} " for label in found.label_names}
    shown = [f"{v} {names.get(v, '')}({n / total:.2%})" for v, n in found.label_counts]
    return f"{head}\nlabels: {', '.join(shown)}{unknown}"
