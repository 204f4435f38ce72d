"""Addresses of stores that are no local folders: s3://, https:// and whatever fsspec knows."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from unetseg.errors import UsageError

if TYPE_CHECKING:
    from zarr.abc.store import Store

# A drive of Windows has one letter. Chains of fsspec join addresses by two colons.
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*::)*[a-z][a-z0-9+.-]+:/+")
_SCHEME = re.compile(r"(^|::)([a-z][a-z0-9+.-]+):/+")


def url_of(path: Path | str) -> str | None:
    """The address that a path was made from, or None if it names a local file.

    `Path` makes one slash of several, so that s3://bucket/x.zarr travels as s3:/bucket/x.zarr;
    here, and nowhere else, it becomes an address again.
    """
    text = path.as_posix() if isinstance(path, Path) else path
    if not _ADDRESS.match(text) or text.startswith("file:"):
        return None
    return _SCHEME.sub(r"\1\2://", text)


def local(path: Path) -> Path:
    """The path itself; for file:///folder/x.zarr the path that it names."""
    text = path.as_posix()
    return Path("/" + text.removeprefix("file:").lstrip("/")) if text[:5] == "file:" else path


def remote_store(url: str) -> "Store":
    """The store at an address, for reading.

    Raises UsageError if fsspec, or what it needs for this kind of address, is not installed.
    """
    try:
        from zarr.storage import FsspecStore

        return FsspecStore.from_url(url, read_only=True)
    except (ImportError, ValueError) as error:
        scheme = url.partition(":")[0]
        raise UsageError(
            f"addresses of the kind {scheme}:// cannot be read: {error}",
            where=url,
            hint="pip install 'unetseg[remote]'",
        ) from error
