"""RUN/report.html: all that a run folder says, on one page that needs nothing else."""

from pathlib import Path

from unetseg.pages.parts import Gallery, Page, Section
from unetseg.pages.writing import checked_page, write_page
from unetseg.report.card import card
from unetseg.report.cases import pictures
from unetseg.report.curves import curves
from unetseg.report.mistakes import mistakes
from unetseg.report.overview import folds, origin, plan, summary, task
from unetseg.report.validation import ranked, validation
from unetseg.runs import RunRecord, cases_of, read_run

NAME = "report.html"


def write_report(run: Path, output: Path | None = None) -> Path:
    """Write the report of a run, whatever state it is in; returns where it is.

    output : RUN/report.html if not given

    The same run gives the same bytes. What is missing is said on the page, with the reason.
    Raises ModelError if it is no run, DataError if a file in it is damaged or the page cannot be
    written, UsageError if `output` is no .html file or there is another file.
    """
    path = Path(output) if output is not None else Path(run) / NAME
    write_page(page_of(read_run(run)), checked_page(path))
    return path


def page_of(record: RunRecord) -> Page:
    """The page of a run."""
    cases = ranked(record)
    shown = pictures(record, cases, cases_of(record))
    pictured = [
        picture.anchor.removeprefix("case-")
        for section in shown
        for part in section.parts
        if isinstance(part, Gallery)
        for picture in part.pictures
    ]
    sections: list[Section] = [summary(record, cases)]
    if record.is_of_folds:
        sections.append(folds(record, cases))
    sections += [
        *shown,
        validation(record, cases, pictured),
        *mistakes(record),
        curves(record),
        plan(record),
        origin(record),
        card(record, cases),
    ]
    return Page(record.name, f"{task(record.plan)}; data: {record.data_name}", tuple(sections))
