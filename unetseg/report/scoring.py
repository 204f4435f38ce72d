"""evaluation.html: how good masks are, on one page that needs nothing else."""

from collections.abc import Collection, Iterator
from pathlib import Path

from unetseg.errors import one_line
from unetseg.evaluation import Evaluation, Outcome, Statistic
from unetseg.evaluation.comparison import LEADING
from unetseg.evaluation.wording import interval_text, label_text, number_text, of_intervals
from unetseg.metrics import DISTANCES
from unetseg.metrics.objects import COUNTS
from unetseg.metrics.resampling import Interval
from unetseg.pages.parts import (
    Cell,
    Facts,
    Link,
    Notice,
    Numbers,
    Page,
    Part,
    Prose,
    Section,
    Table,
)
from unetseg.pages.words import DASH, unit_text
from unetseg.report.score_charts import dashed, distributions, sizes
from unetseg.report.score_comparison import comparison
from unetseg.report.score_pictures import Pictured, pictures, ranked

# Numbers of objects that are told above the table: they have no mean worth reading.
_TOTALS = {
    "true": "true",
    "predicted": "predicted",
    "tp": "TP (at an IoU of 0.5)",
    "fp": "FP",
    "fn": "FN",
}
# Of objects, what a row of the table of cases has.
_OF_OBJECTS = ("ap_0.5", "ap_mean", "f1", "pq", "sq", "aji", "merges", "splits")
# Of a name in a table that is not of cases.
_LONGEST = 24
# Of more rows a browser makes heavy weather; the worst ones stay.
_MOST_ROWS = 3000
# What stands in large figures at the top: classes, objects.
_LARGE = ("dice", "surface_dice", "hd95"), ("ap_0.5", "f1", "pq")


def page_of(outcome: Outcome, scans: Path | None = None) -> Page:
    """The page of an evaluation."""
    found, shown = outcome.evaluation, Pictured(outcome, scans)
    gallery, names = pictures(shown)
    sections = [_summary(outcome, names)]
    if outcome.comparison is not None:
        sections.append(comparison(shown, outcome.comparison))
    if found.scores:
        sections += [*gallery, _cases(found, names), distributions(found), *sizes(found)]
    title = f"Scores of {outcome.predicted.name or outcome.predicted}"
    subtitle = f"truth: {outcome.truth.name or outcome.truth}"
    if outcome.against is not None:
        subtitle += f"; compared with {outcome.against.name or outcome.against}"
    return Page(title, subtitle, tuple(sections))


# --- the summary ---------------------------------------------------------------------------------


def _summary(outcome: Outcome, pictured: Collection[str]) -> Section:
    found = outcome.evaluation
    parts: list[Part] = []
    if found.scores:
        parts.append(Numbers(tuple(_numbers(outcome))))
    parts.append(Facts(tuple(_facts(outcome))))
    if outcome.failures:
        sentences = tuple(f"{one_line(name)}: {error}" for name, error in outcome.failures)
        parts.append(Notice(("These have no score.", *sentences), "error"))
    if found.scores:
        parts += [_table(outcome, pictured), Prose((_about(outcome),))]
    return Section("Summary", tuple(parts))


def _numbers(outcome: Outcome) -> Iterator[tuple[str, str]]:
    found, summaries = outcome.evaluation, outcome.summaries
    # Over all classes; of objects over all of them, whatever their class.
    whole = summaries[0] if found.are_objects else summaries[-1]
    known = {each.metric: each for each in whole.statistics}
    for metric in _LARGE[found.are_objects]:
        each = known.get(metric)
        if each is None:
            continue
        value, interval = each.mean, each.interval
        if found.are_objects:
            value, interval = each.pooled, each.pooled_interval
        unit = unit_text(found.unit) if metric in DISTANCES else ""
        name = f"{'pooled' if found.are_objects else 'mean'} {metric}"
        if interval is not None:
            name += f", 95 %: {interval_text(interval)}"
        yield name, f"{number_text(value)} {unit}".strip()
    yield "cases", str(len(found.pairs))


def _facts(outcome: Outcome) -> Iterator[tuple[str, Cell]]:
    found = outcome.evaluation
    yield "truth", str(outcome.truth)
    yield "predicted", str(outcome.predicted)
    if outcome.against is not None:
        yield "compared with", str(outcome.against)
    scored = "objects, matched one to one" if found.are_objects else "classes"
    names = (label_text(label, are_objects=found.are_objects) for label in found.labels)
    yield "scored", f"{scored}: {', '.join(names)}"
    for pooled in found.pooled:
        counts = dict(pooled.values)
        told = [f"{counts[metric]:.0f} {word}" for metric, word in _TOTALS.items()]
        name = "objects" if not pooled.label.value else f"objects of class {pooled.label.name}"
        yield name, ", ".join(told)
    if found.tolerance is not None:
        unit = unit_text(found.unit)
        yield "tolerance of the surface Dice", f"{found.tolerance:g} {unit}".strip()
    elif found.tolerances:
        yield "tolerance of the surface Dice", "a voxel's shortest edge, of each case"
    if found.ignore_value is not None:
        yield "left out", f"voxels where the truth is {found.ignore_value}"
    if groups := outcome.resampling.group_of:
        yield "groups", str(len(set(groups.values())))


def _table(outcome: Outcome, pictured: Collection[str]) -> Table:
    found = outcome.evaluation
    has_classes = len(found.labels) > 1
    columns = [*(["class"] if has_classes else []), "metric"]
    columns += ["pooled (95 %)"] if found.are_objects else []
    columns += ["mean (95 %)", "sd", "median", "worst", "worst case", "defined / cases"]
    rows = []
    for summary in outcome.summaries:
        # With one class, all classes are no other thing.
        if summary.label is None and not has_classes:
            continue
        name = label_text(summary.label, are_objects=found.are_objects)
        for each in summary.statistics:
            if each.metric not in _TOTALS:
                row: list[Cell] = [name] if has_classes else []
                row += [each.metric, *([_pooled(each)] if found.are_objects else [])]
                rows.append((*row, *_cells(each, pictured)))
    caption = f"Distances in {unit_text(found.unit)}." if found.unit else ""
    return Table(tuple(columns), tuple(rows), caption)


def _pooled(each: Statistic) -> str:
    if each.metric in COUNTS:
        return f"{each.pooled:.0f}"
    return dashed(number_text(each.pooled)) + _around(each.pooled_interval)


def _around(interval: Interval | None, metric: str = "") -> str:
    return "" if interval is None else f" ({interval_text(interval, metric)})"


def _cells(each: Statistic, pictured: Collection[str]) -> Iterator[Cell]:
    metric, case = each.metric, each.worst_case
    yield dashed(number_text(each.mean, metric)) + _around(each.interval, metric)
    for value in (each.sd, each.median, each.worst):
        yield dashed(number_text(value, metric))
    yield _named(case, pictured, _LONGEST) if case and each.cases > 1 else DASH
    yield f"{each.defined} / {each.cases}"


def _named(case: str, pictured: Collection[str], longest: int = 1000) -> Cell:
    """The case's name, which leads to its picture where there is one."""
    text = case if len(case) <= longest else f"{case[: longest - 1]}\u2026"
    return Link(text, f"case-{case}") if case in pictured else text


def _about(outcome: Outcome) -> str:
    text = of_intervals(outcome.summaries, outcome.resampling)
    return (
        f"{text[0].upper()}{text[1:]}. An undefined score counts in no mean. How each metric is"
        " defined is told in the documentation, scores.md."
    )


# --- the cases -----------------------------------------------------------------------------------


def _cases(found: Evaluation, pictured: Collection[str]) -> Section:
    """A row per case and class, the worst cases first."""
    order = {name: place for place, name in enumerate(ranked(found))}
    places = sorted(range(len(found.scores)), key=lambda place: order[found.scores[place].case])
    has_classes = len(found.labels) > 1
    metrics = [m for m in found.metrics if not found.are_objects or m in (*_TOTALS, *_OF_OBJECTS)]
    columns = ["case", *(["class"] if has_classes else []), *metrics]
    if found.sizes:
        columns += ["true size", "predicted size"]
    rows = []
    for place in places[:_MOST_ROWS]:
        score = found.scores[place]
        row = [_named(score.case, pictured)]
        row += [label_text(score.label, are_objects=found.are_objects)] if has_classes else []
        row += [_value(metric, score[metric]) for metric in metrics]
        row += [f"{size:.5g}" for size in found.sizes[place]] if found.sizes else []
        rows.append(tuple(row))
    leading = LEADING[found.are_objects]
    caption = (
        f"From the worst to the best mean {leading}. A name that is a link leads to a picture."
    )
    if len(places) > _MOST_ROWS:
        caption += f" The worst {_MOST_ROWS} of {len(places)} rows; the CSV file has all."
    return Section("Cases", (Table(tuple(columns), tuple(rows), caption),), "cases")


def _value(metric: str, value: float) -> str:
    if metric in COUNTS and value == value:
        return f"{value:.0f}"
    return dashed(number_text(value))
