"""A page as a file, in whose place nothing of somebody else's is lost."""

from pathlib import Path

from unetseg.errors import UsageError
from unetseg.files import write_text
from unetseg.pages.parts import Page
from unetseg.pages.rendering import render

# What page.html says of itself.
_MARK = b'<meta name="generator" content="unetseg '
_HEAD = 4096


def checked_page(path: Path) -> Path:
    """The path itself, if a page may be written there.

    Raises UsageError if it is no .html file, or what is there already is no page of unetseg.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        # A table or a picture must not be lost by a slip.
        raise UsageError("not a page", where=path, expected="a name that ends in .html")
    if path.exists() and _MARK not in _beginning(path):
        raise UsageError(
            "is there already and is no page of unetseg", where=path, hint="give another name"
        )
    return path


def _beginning(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD)
    except OSError:
        return b""


def write_page(page: Page, path: Path) -> None:
    """Write a page, whole or not at all; the same page gives the same bytes.

    Raises what `checked_page` raises, and DataError if it cannot be written.
    """
    write_text(checked_page(path), render(page))
