"""What a study leaves behind: results as JSON and CSV, and one page that needs nothing else."""

import base64
import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from math import isnan
from pathlib import Path
from typing import Any

from jinja2 import Environment

from unetseg.config.toml import describe
from unetseg.files import write_text
from unetseg.studies.trials import Done, Laboratory
from unetseg.version import __version__


@dataclass(frozen=True)
class Table:
    """Cells as text; the first column names the row."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A heading with a figure (its name below figures/), a table, or both."""

    title: str
    figure: str = ""
    table: Table | None = None


@dataclass(frozen=True)
class Report:
    """The title is a question, the conclusion the sentences that answer it."""

    title: str
    conclusion: tuple[str, ...]
    sections: tuple[Section, ...]


def write_report(
    laboratory: Laboratory,
    results: Sequence[Done],
    report: Report,
    *,
    columns: Sequence[Mapping[str, float]] = (),
    more: Mapping[str, Any] | None = None,
) -> None:
    """Write results.json, results.csv and index.html into the study's folder.

    columns : further numbers of each result
    more : further plain values for results.json
    """
    out = laboratory.request.out
    extra = columns or [{} for _ in results]
    rows = [_row(done) | dict(numbers) for done, numbers in zip(results, extra, strict=True)]
    content = {
        "unetseg": __version__,
        **laboratory.asked,
        "conclusion": list(report.conclusion),
        "trainings": [
            {**row, "history": {"step": list(done.steps), "loss": list(done.losses)}}
            for row, done in zip(rows, results, strict=True)
        ],
        **(more or {}),
    }
    write_json(out / "results.json", content)
    write_csv(out / "results.csv", rows)
    write_page(out, report, laboratory.asked, describe(laboratory.plan_of(results[0].trial)))


def _row(done: Done) -> dict[str, Any]:
    return {
        "training": done.trial.name,
        **done.trial.factors,
        "seed": done.trial.seed,
        "parameters": done.cost.parameters,
        "flops": done.cost.flops,
        "memory_bytes": done.cost.memory_bytes,
        "seconds_per_step": done.seconds_per_step,
        "loss": done.loss,
        "dice": done.dice,
    }


def write_json(path: Path, content: Any) -> None:
    """Plain values; NaN has no place in JSON and becomes null."""
    write_text(path, json.dumps(_plain(content), indent=1) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and isnan(value) else value


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """A row per mapping, all with the same keys; an undefined number is an empty cell."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(rows[0])
    for row in rows:
        cells = row.values()
        writer.writerow(["" if isinstance(c, float) and isnan(c) else c for c in cells])
    write_text(path, buffer.getvalue())


def write_page(out: Path, report: Report, asked: Mapping[str, Any], plan: str) -> None:
    """index.html with its figures inside."""
    pictures = {
        section.figure: base64.b64encode(
            (out / "figures" / f"{section.figure}.svg").read_bytes()
        ).decode()
        for section in report.sections
        if section.figure
    }
    template = files("unetseg.studies").joinpath("page.html").read_text(encoding="utf-8")
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template)
    text = page.render(
        report=report,
        pictures=pictures,
        asked=json.dumps(dict(asked), indent=1),
        plan=plan,
        version=__version__,
    )
    write_text(out / "index.html", text)
