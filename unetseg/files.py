"""Files that appear whole or not at all."""

import re
import secrets
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unetseg.errors import DataError

# The names below, and those that safetensors gives to what it has not finished.
_UNFINISHED = re.compile(r"\.[0-9a-f]{8}\.(?P<name>.+)|\.tmp\w{6}")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder, renamed to `path` when the block ends without error.

    The temporary name begins with a dot and ends with the whole name of `path`, so that writers
    which look at suffixes (.nii.gz) do the right thing. On an error it is removed.

    Raises DataError if the folder cannot be written to or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    try:
        with telling(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            temporary.replace(path)
    finally:
        # Where not even the folder could be made there is nothing to remove.
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def telling(path: Path) -> Iterator[None]:
    """What the system says against writing `path` as a DataError that says so."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"cannot be written: {error.strerror or error}",
            where=path,
            hint="check the folder's permissions and free space",
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically. Raises DataError if that is not possible.

    What UTF-8 cannot hold, the bytes of a file name in another encoding, is written as escapes.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def append_line(path: Path, line: str) -> None:
    """Append a line of UTF-8 text. Raises DataError if that is not possible."""
    with telling(path), path.open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(line + "\n")


def remove_unfinished(folder: Path, names: Container[str] | None = None) -> None:
    """Remove what writers that were killed have left in the folder, which may be missing.

    names : of the files that were to be written; where others may be at work, what is theirs stays
    """
    for path in folder.glob(".*"):
        found = _UNFINISHED.fullmatch(path.name)
        if found and (names is None or found["name"] in names) and path.is_file():
            # Whose file it is, or that someone else was faster, is no reason to stop.
            with suppress(OSError):
                path.unlink()
