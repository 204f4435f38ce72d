"""What is said about data before a training: findings, folds, what the images are like."""

from collections.abc import Sequence

from unetseg.config import TrainingPlan
from unetseg.console.display import STYLES, Display
from unetseg.dataset.folds import choose, make_folds
from unetseg.errors import one_line
from unetseg.planning.fingerprint import Fingerprint
from unetseg.records import Case, Finding


def show_findings(findings: Sequence[Finding], display: Display) -> None:
    """Errors first, each with what to do."""
    order = {"error": 0, "warning": 1, "note": 2}
    for finding in sorted(findings, key=lambda f: order[f.severity]):
        hint = f"; {finding.hint}" if finding.hint else ""
        display.line(
            f"{finding.severity}: {finding.where}: {finding.sentence}{hint}",
            STYLES[finding.severity],
        )


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
