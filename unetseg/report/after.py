"""The page that a training leaves."""

from pathlib import Path

from unetseg.errors import one_line
from unetseg.records import Listener, Note
from unetseg.report.run import NAME, write_report


def report_after(run: Path, listener: Listener) -> None:
    """Write RUN/report.html at the end of a training; what fails costs one line, nothing more."""
    try:
        page = write_report(run)
    # Whatever is wrong with the page, the training is done and stays so.
    except Exception as error:  # noqa: BLE001
        listener(Note(f"{NAME} was not written: {one_line(error)}", "warning"))
    else:
        listener(Note(f"report {page}"))
