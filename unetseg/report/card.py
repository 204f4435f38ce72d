"""A model card: what a person who is given the model has to know, and may share."""

import math
import re
from collections.abc import Iterator, Sequence

from unetseg.dataset.listing import counted
from unetseg.pages.parts import Code, Facts, Notice, Part, Section
from unetseg.pages.words import moment, number, plain, quantity, unit_text
from unetseg.report.overview import channels, how_good, task, voxel
from unetseg.report.validation import Ranked, kept
from unetseg.runs import Evidence, RunRecord, mean_of
from unetseg.runs import Facts as RunFacts

# Fewer cases than this make a score that another draw of cases would change.
_FEW_CASES = 20
_TO_FILL_IN = (
    "To be filled in by the person who shares the model: what it is for, who is to use it, and what"
    " it must not be used for. Nothing in the run says so."
)
_LICENCE = "Unknown: nothing in the run says. The person who shares the model must state it."
Rows = Sequence[tuple[str, str]]


def card(record: RunRecord, cases: Ranked | None) -> Section:
    """The card, also as Markdown to take along."""
    if record.facts is None:
        return Section("Model card", (Notice(("There is no model yet.",)),), "card")
    rows = tuple(_rows(record, cases))
    limits = tuple(known_limits(record, cases))
    parts: list[Part] = [
        Notice(
            (
                "Intended use and licences are not known to unetseg: they are left for you to"
                " write before the card is shared.",
            ),
        ),
        Facts(rows),
        Section("Known limits", (Facts(limits),), "limits"),
        Code(markdown(record, rows, limits), "The card as Markdown", is_folded=True),
    ]
    return Section("Model card", tuple(parts), "card")


def _rows(record: RunRecord, cases: Ranked | None) -> Iterator[tuple[str, str]]:
    plan, facts = record.plan, record.facts
    if facts is None:
        return
    network = plan.network
    yield "intended use", _TO_FILL_IN
    yield (
        "model",
        (
            f"U-Net in {plan.data.dimensions}-D, encoder {network.encoder}, skip {network.skip},"
            f" {network.levels} levels"
            + (f"; an ensemble of {len(facts.folds)} networks" if facts.folds else "")
        ),
    )
    yield "gives", task(plan)
    yield "needs", channels(plan)
    trained = sum(facts.cases) if record.is_of_folds else (facts.cases or (0,))[0]
    what = f"{counted(trained, 'case')} of {record.data_name or 'an unnamed data set'}"
    if facts.spacing and facts.unit != "px":
        what += f", median voxel {voxel(facts.spacing, facts.unit)}"
    yield "learned from", what
    yield "hash of the data", record.digest or "not recorded"
    yield "licence of the data", _LICENCE
    yield "licence of the model", _LICENCE
    yield "score", _score(record, cases)
    versions = ", ".join(f"{name} {version}" for name, version in record.versions[:3])
    yield "made with", versions or "not recorded"
    yield "made", moment(facts.created)


def _score(record: RunRecord, cases: Ranked | None) -> str:
    text = f"mean {record.score} {number(how_good(record, cases))}"
    if cases is None:
        return text
    table = cases.table
    if table.score != "AP":
        columns = zip(table.columns, zip(*kept(table), strict=True), strict=True)
        text += f" ({', '.join(f'{name} {number(mean_of(v))}' for name, v in columns)})"
    text += f" on {counted(len(table.names), 'case')}"
    if record.is_of_folds:
        return f"{text}, each by a network that has not learned from it"
    return f"{text} that the network has not learned from"


def known_limits(record: RunRecord, cases: Ranked | None) -> Iterator[tuple[str, str]]:
    """What follows from the data, a sentence each with the word it is about."""
    data = record.plan.data
    yield (
        "same source",
        (
            "What was scored comes from the same data set as what it learned from. How good it is"
            " on scans of another scanner, site, stain or population was not measured."
        ),
    )
    if not record.is_of_folds:
        yield (
            "chosen on them",
            (
                "The model, and rules for masks, were chosen by the cases that were scored: an"
                " independent test may be a little worse."
            ),
        )
    if cases is not None and len(cases.table.names) < _FEW_CASES:
        yield (
            "few cases",
            (
                f"{counted(len(cases.table.names), 'case')} were scored: other cases would give"
                " another mean."
            ),
        )
    if record.facts is not None:
        yield from _of_scans(record.facts)
    if record.evidence is not None and record.evidence.kind != "objects":
        yield from _of_sizes(record.evidence)
    if cases is not None:
        yield from _of_scores(cases)
    yield (
        "input",
        (
            f"{counted(len(data.channels), 'channel')} ({', '.join(data.channels)}) in"
            f" {data.dimensions}-D; other channels are refused or, without names, taken for these."
        ),
    )


def _of_scans(facts: RunFacts) -> Iterator[tuple[str, str]]:
    if facts.unit == "px":
        yield (
            "scale",
            (
                "The files do not say how large a pixel is: images must show things about as large,"
                " in pixels, as those it learned from."
            ),
        )
    elif facts.spacing:
        yield (
            "voxels",
            (
                f"Learned from voxels of about {voxel(facts.spacing, facts.unit)}; much finer or"
                " coarser ones were not tried."
            ),
        )
    if facts.objects is not None:
        one, unit = facts.objects, unit_text(facts.objects.unit)
        yield (
            "objects",
            (
                f"Nine in ten had a diameter of {one.low:.3g} to {one.high:.3g} {unit}; smaller and"
                " larger ones are rare in what it knows."
            ),
        )


def _of_sizes(evidence: Evidence) -> Iterator[tuple[str, str]]:
    never_absent = []
    for place, name in enumerate(evidence.foreground):
        sizes = [case.true[place] for case in evidence.cases if case.true[place] > 0]
        if absent := len(evidence.cases) - len(sizes):
            where = f"and on {counted(absent, 'case')} without it"
        else:
            where = ""
            never_absent.append(name)
        if sizes:
            span = f"{quantity(min(sizes))} to {quantity(max(sizes), evidence.unit)}"
            yield name, f"Scored on sizes from {span}{f', {where}' if where else ''}."
        else:
            yield name, "In none of the scored cases: whether it is found was not measured."
    if never_absent:
        yield (
            "absence",
            (
                f"No scored case is without {', '.join(never_absent)}: how often it is found where"
                " there is none is not known."
            ),
        )


def _of_scores(cases: Ranked) -> Iterator[tuple[str, str]]:
    known = cases.scored
    missed = [place for place in known if cases.scores[place] == 0]
    if missed:
        yield "missed", f"{counted(len(missed), 'case')} of {len(cases.places)} got a score of 0."
    columns = zip(cases.table.columns, zip(*kept(cases.table), strict=True), strict=True)
    undefined = [name for name, values in columns if all(map(math.isnan, values))]
    if undefined:
        yield "no score", f"Not defined in any case: {', '.join(undefined)}."


def markdown(record: RunRecord, rows: Rows, limits: Rows) -> str:
    """The card as Markdown; what stands in names is text there, too."""
    name = _escaped(f"{record.name}, trained on {record.data_name or 'an unnamed data set'}")
    lines = [f"# {name}", ""]
    lines += [f"- **{_escaped(key)}**: {_escaped(value)}" for key, value in rows]
    lines += ["", "## Known limits", ""]
    lines += [f"- **{_escaped(key)}**: {_escaped(value)}" for key, value in limits]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>#|])", r"\\\1", plain(text))
