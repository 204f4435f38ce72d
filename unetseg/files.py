"""Files that appear whole or not at all."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unetseg.errors import DataError


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
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise DataError(
            f"cannot be written: {error.strerror or error}",
            where=path,
            hint="check the folder's permissions and free space",
        ) from error
    finally:
        # Where not even the folder could be made there is nothing to remove.
        with suppress(OSError):
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically. Raises DataError if that is not possible.

    What UTF-8 cannot hold, the bytes of a file name in another encoding, is written as escapes.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
