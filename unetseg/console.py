"""What a person sees while work goes on: a progress bar on a terminal, plain lines elsewhere."""

from collections.abc import Sequence
from math import isnan
from time import monotonic
from types import TracebackType
from typing import Literal, Self

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
from unetseg.evaluation import Evaluation, Statistic, Summary, summarise
from unetseg.metrics.objects import COUNTS
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
# Told above the table: they have no mean worth reading.
_OBJECT_COUNTS = ("true", "predicted", "tp", "fp", "fn")
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
    text = f"epoch {event.epoch}  step {event.step}  {_clock(event.seconds)}  loss {event.loss:.3f}"
    if not isnan(event.steps_per_second):
        text += f"  {event.steps_per_second:.2f} steps/s  waiting {event.waiting:.1%}"
    if not isnan(event.mean):
        values = " ".join(f"{value:.3f}" for value in event.values)
        text += f"  {event.score} {event.mean:.3f} ({values}){' best' if event.is_best else ''}"
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
        # A word too long for a narrow screen goes on in the next line, whole.
        justify: Literal["left", "right"] = "left" if index == 0 else "right"
        table.add_column(escape(column), justify=justify, overflow="fold")
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
        rows += [[name, found.metric, *_statistic_cells(found)] for found in summary.statistics]
    columns = ["class", "metric", "mean", "sd", "median", "worst", "defined / cases"]
    print_table(f"distances in {unit}" if unit else "", columns, rows)


def print_object_scores(found: Evaluation) -> None:
    """The table of an evaluation of objects, one row per class and metric, and the counts."""
    rows, titles = [], []
    has_classes = len(found.labels) > 1
    for summary, pooled in zip(summarise(found), found.pooled, strict=True):
        name = [summary.label.name] if has_classes and summary.label is not None else []
        values = dict(pooled.values)
        true, predicted, tp, fp, fn = (round(values.pop(metric)) for metric in _OBJECT_COUNTS)
        titles.append(
            f"{''.join(f'{word}: ' for word in name)}{true} true and {predicted} predicted objects;"
            f" at an IoU of 0.5 TP {tp}, FP {fp}, FN {fn}"
        )
        for metric, value in values.items():
            shown = f"{value:.0f}" if metric in COUNTS else f"{value:.4f}"
            rows.append([*name, metric, shown, *_statistic_cells(summary[metric])])
    columns = ["metric", "pooled", "mean", "sd", "median", "worst", "defined / cases"]
    title = "\n".join(map(one_line, titles))
    print_table(title, ["class", *columns] if has_classes else columns, rows)


def _statistic_cells(statistic: Statistic) -> list[str]:
    numbers = (statistic.mean, statistic.sd, statistic.median, statistic.worst)
    digits = 2 if statistic.metric in COUNTS else 4
    return [*(f"{n:.{digits}f}" for n in numbers), f"{statistic.defined} / {statistic.cases}"]


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
        sizes = f"; {found.objects.sentence(found.unit)}" if found.objects else ""
        return f"{head}\nlabels: {ids} object ids on {share:.2%} of the voxels{sizes}{unknown}"
    names = {label.value: f"{label.name} " for label in found.label_names}
    shown = [f"{v} {names.get(v, '')}({n / total:.2%})" for v, n in found.label_counts]
    return f"{head}\nlabels: {', '.join(shown)}{unknown}"
