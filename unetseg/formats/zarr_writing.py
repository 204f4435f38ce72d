"""OME-Zarr stores that processes write together, block by block, without a coordinator."""

import json
import os
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unetseg.errors import DataError
from unetseg.files import telling
from unetseg.formats import ngff
from unetseg.formats.boxwise import check_box
from unetseg.formats.remote import url_of
from unetseg.geometry import Box, sizes_of, whole_box

if TYPE_CHECKING:
    from zarr import Array, Group

# A chunk of about a megabyte: what a viewer fetches for one look.
_PLANE, _CUBE = 1024, 128
# Shards hold this many chunks along an axis: few files, yet not all that large.
_CHUNKS_2D, _CHUNKS_3D = 4, 2
# Maps have no shards and are flat: they arrive in slabs, and a shard is written in one piece.
_SLAB = 32
_ZSTD_LEVEL = 3

_FACTS = {
    "shape": "of another shape",
    "dtype": "of another type",
    "block": "in other blocks",
    "metadata": "with other axes or labels",
    "made_by": "of another model or with other settings",
}


@dataclass(frozen=True, eq=False)
class Layout:
    """What a store will hold.

    axes : of the array, with sizes; `c` among them for maps
    stored : values of a box as the store holds them
    entries : attributes beside `multiscales`
    """

    version: ngff.Version
    axes: tuple[ngff.Axis, ...]
    dtype: np.dtype[Any]
    stored: Callable[[NDArray[Any]], NDArray[Any]]
    entries: Mapping[str, Any]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(axis.size for axis in self.axes)

    @property
    def is_mask(self) -> bool:
        return all(axis.name != "c" for axis in self.axes)

    @property
    def chunks(self) -> tuple[int, ...]:
        """Sizes of a chunk, along every axis of the array."""
        space = [k for k, axis in enumerate(self.axes) if axis.is_space]
        edges = [1] * len(self.axes)
        if sum(self.axes[k].size > 1 for k in space) < 3:
            limits = dict.fromkeys(space, _PLANE)
        elif self.is_mask:
            limits = dict.fromkeys(space, _CUBE)
        else:
            limits = dict(zip(space, (_SLAB, 2 * _CUBE, 2 * _CUBE), strict=True))
        for k in space:
            edges[k] = min(limits[k], self.axes[k].size)
        return tuple(edges)

    @property
    def shards(self) -> tuple[int, ...] | None:
        """Sizes of a shard; None where chunks are files of their own."""
        if self.version == "0.4" or not self.is_mask:
            return None
        is_flat = sum(axis.is_kept for axis in self.axes) < 3
        most = _CHUNKS_2D if is_flat else _CHUNKS_3D
        return tuple(
            edge * min(most, -(-axis.size // edge))
            for edge, axis in zip(self.chunks, self.axes, strict=True)
        )

    @property
    def steps(self) -> list[tuple[int, ...]]:
        """The pyramid of a mask; maps have none."""
        if not self.is_mask:
            return [(1,) * len(self.axes)]
        return ngff.pyramid_steps(self.axes, max(self.chunks))

    def attributes(self, name: str) -> dict[str, Any]:
        scales = ngff.multiscale(name, self.version, self.axes, self.steps)
        return ngff.stored_attributes(self.version, {"multiscales": [scales], **self.entries})


class Store:
    """An OME-Zarr that grows in a hidden folder beside its path, and moves there when finished.

    made_by : what the values come from, such as a model and its settings. An unfinished store of
        the same is gone on with, by whichever process, and one of anything else is refused. If
        empty, the store is this object's own, and others never see it
    becomes : what is there when others have finished, if it is not the store itself

    Boxes that consist of whole blocks may be written at once by threads and processes; others by
    the threads of one process. A marker file per box is made after its voxels are on disk, so
    that `done` tells what a killed process has left. Levels of the pyramid are made by `finish`,
    which many processes may call: one does it, the others wait for it.

    Raises DataError if the folder cannot be written to.
    """

    def __init__(
        self, path: Path, layout: Layout, *, made_by: str = "", becomes: Path | None = None
    ) -> None:
        if url_of(path) is not None:
            raise DataError("is not written to", where=path, hint="give a local folder")
        self._path = path
        self._becomes = becomes or path
        self._layout = layout
        self._kept = [k for k, axis in enumerate(layout.axes) if axis.is_kept]
        stored = layout.shards or layout.chunks
        self.block = tuple(stored[k] for k in self._kept)
        self._shape = tuple(layout.shape[k] for k in self._kept)
        own = f".{secrets.token_hex(4)}.{path.name}"
        self._folder = self.folder_of(path) if made_by else path.with_name(own)
        self._store = self._folder / "store"
        self._marks = self._folder / "done"
        self._lock = threading.Lock()
        self._facts = {
            "shape": list(layout.shape),
            "dtype": str(layout.dtype),
            "block": list(self.block),
            "metadata": json.loads(json.dumps(layout.attributes(_title(path)))),
            "made_by": made_by,
        }
        with telling(path):
            try:
                self._create()
                self._array = self._level(0)
            except FileNotFoundError as error:
                if not self._is_finished():
                    raise
                raise DataError(
                    "another process has just finished it", where=path, hint="take it as it is"
                ) from error

    @staticmethod
    def folder_of(path: Path) -> Path:
        """Where a store grows that processes write together."""
        return path.with_name(f".{path.name}.unfinished")

    def _create(self) -> None:
        if not self._folder.exists():
            draft = self._path.with_name(f".{secrets.token_hex(4)}.{self._path.name}")
            try:
                draft.mkdir(parents=True)
                (draft / "done").mkdir()
                (draft / "lock").touch()
                (draft / "facts.json").write_text(json.dumps(self._facts), encoding="utf-8")
                _create_arrays(draft / "store", _title(self._path), self._layout)
                draft.rename(self._folder)
            except OSError:
                # A faster process has made it: a folder that holds something is not replaced.
                if not self._folder.is_dir():
                    raise
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        facts = json.loads((self._folder / "facts.json").read_text(encoding="utf-8"))
        for key, noun in _FACTS.items():
            if facts.get(key) != self._facts[key]:
                is_short = key not in ("metadata", "made_by")
                raise DataError(
                    f"unfinished work {noun} is here",
                    where=self._path,
                    expected=self._facts[key] if is_short else "",
                    got=facts.get(key) if is_short else "",
                    hint=f"finish that first, or remove {self._folder}",
                )

    def _level(self, number: int) -> "Array[Any]":
        import zarr

        return zarr.open_array(self._store / str(number), mode="r+")

    def boxes(self) -> Iterator[Box]:
        """The blocks of the whole image, in order."""
        return _blocks(self._shape, self.block)

    def write(self, box: Box, values: NDArray[Any], time: int = 0) -> None:
        """Write (*box) of a time point, or (K, *box) for maps; then mark the box as done."""
        lead = tuple(axis.size for axis in self._layout.axes if axis.name == "c")
        check_box(values, (*lead, *self._shape), len(self._shape), box)
        full: list[Any] = list(whole_box(self._layout.shape))
        for k, axis in zip(self._kept, box, strict=True):
            full[k] = axis
        for k, each in enumerate(self._layout.axes):
            if each.name == "t":
                full[k] = slice(time, time + 1)
        sizes = sizes_of(tuple(full))
        if self._is_finished():
            return
        with telling(self._path):
            if self._is_aligned(box):
                self._write(tuple(full), values, sizes)
            else:
                # Chunks that boxes share are read, changed and written back.
                with self._lock:
                    self._write(tuple(full), values, sizes)
            corner = "_".join(str(axis.start) for axis in box)
            ends = "_".join(str(axis.stop) for axis in box)
            try:
                (self._marks / f"{corner}+{ends}").touch()
            except FileNotFoundError:
                if not self._becomes.is_dir():
                    raise
                # Another process did this box too and has finished: what was written here just
                # now went to nobody.
                self.discard()

    def _is_finished(self) -> bool:
        return self._becomes.is_dir() and not self._folder.is_dir()

    def _write(self, full: Box, values: NDArray[Any], sizes: tuple[int, ...]) -> None:
        if self._layout.is_mask:
            self._array[full] = self._layout.stored(values).reshape(sizes)
            return
        channel = next(k for k, axis in enumerate(self._layout.axes) if axis.name == "c")
        one = (*sizes[:channel], 1, *sizes[channel + 1 :])
        for index, each in enumerate(values):
            place = (*full[:channel], slice(index, index + 1), *full[channel + 1 :])
            self._array[place] = self._layout.stored(each).reshape(one)

    def _is_aligned(self, box: Box) -> bool:
        return all(
            axis.start % edge == 0 and (axis.stop % edge == 0 or axis.stop == n)
            for axis, edge, n in zip(box, self.block, self._shape, strict=True)
        )

    def read(self, box: Box) -> NDArray[Any]:
        """What is written in a box of a store without channels, 0 elsewhere."""
        full: list[Any] = [0] * len(self._layout.axes)
        for k, axis in zip(self._kept, box, strict=True):
            full[k] = axis
        return np.asarray(self._array[tuple(full)])

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While no other process is here or finishes it. Raises FileNotFoundError if it is gone."""
        with _alone(self._folder / "lock"):
            yield

    def done(self) -> frozenset[tuple[int, ...]]:
        """Where the boxes start that any process has written."""
        if not self._marks.is_dir():
            return frozenset()
        names = [mark.name.partition("+")[0] for mark in self._marks.iterdir()]
        return frozenset(tuple(map(int, name.split("_"))) for name in names)

    def finish(self) -> None:
        """Make the pyramid and let the store appear; quiet where another process has done so.

        A mask that is there already is replaced. Raises DataError if something else is there.
        """
        with telling(self._path):
            try:
                with _alone(self._folder / "lock"):
                    if self._store.is_dir():
                        self._fill_levels()
                        self._move()
            except FileNotFoundError:
                if not self._is_finished():
                    raise

    def _fill_levels(self) -> None:
        steps = self._layout.steps
        finer = self._array
        for number in range(1, len(steps)):
            coarser = self._level(number)
            ratio = [a // b for a, b in zip(steps[number], steps[number - 1], strict=True)]
            for box in _blocks(coarser.shape, coarser.shards or coarser.chunks):
                coarser[box] = _thinned(finer, box, ratio, coarser.chunks)
            finer = coarser

    def _move(self) -> None:
        if self._path.exists():
            if not any((self._path / name).is_file() for name in ("zarr.json", ".zgroup")):
                raise DataError(
                    "something else is here", where=self._path, hint="give another name"
                )
            self._path.rename(self._folder / "replaced")
        self._store.rename(self._path)
        self.discard()

    def discard(self) -> None:
        """Remove the unfinished store, for every process."""
        # All of it goes at once, or others would see half a folder.
        rest = self._path.with_name(f".{secrets.token_hex(4)}.{self._path.name}")
        with suppress(OSError):
            self._folder.rename(rest)
        shutil.rmtree(rest, ignore_errors=True)


def _title(path: Path) -> str:
    return path.name.removesuffix(".zarr").removesuffix(".ome")


def _create_arrays(folder: Path, name: str, layout: Layout) -> None:
    import zarr
    from numcodecs import Zstd
    from zarr.codecs import ZstdCodec

    is_old = layout.version == "0.4"
    group: Group = zarr.create_group(
        folder, zarr_format=2 if is_old else 3, attributes=layout.attributes(name)
    )
    chunks, shards = layout.chunks, layout.shards
    for level, steps in enumerate(layout.steps):
        shape = tuple(-(-n // step) for n, step in zip(layout.shape, steps, strict=True))
        options: dict[str, Any] = {"compressors": Zstd(_ZSTD_LEVEL)}
        if is_old:
            options["chunk_key_encoding"] = {"name": "v2", "separator": "/"}
        else:
            options["compressors"] = ZstdCodec(level=_ZSTD_LEVEL)
            options["dimension_names"] = [axis.name for axis in layout.axes]
        group.create_array(
            str(level),
            shape=shape,
            dtype=layout.dtype,
            chunks=chunks,
            shards=shards,
            fill_value=0,
            **options,
        )


def _blocks(shape: Sequence[int], block: Sequence[int]) -> Iterator[Box]:
    starts = (range(0, n, edge) for n, edge in zip(shape, block, strict=True))
    for corner in product(*starts):
        yield tuple(
            slice(a, min(a + edge, n)) for a, edge, n in zip(corner, block, shape, strict=True)
        )


def _thinned(
    finer: "Array[Any]", box: Box, ratio: Sequence[int], piece: Sequence[int]
) -> NDArray[Any]:
    """Every second voxel of the finer level, for a box of the coarser one, piece by piece."""
    out = np.empty(sizes_of(box), finer.dtype)
    for part in _blocks(out.shape, piece):
        source = tuple(
            slice((a.start + p.start) * r, min((a.start + p.stop) * r, n))
            for a, p, r, n in zip(box, part, ratio, finer.shape, strict=True)
        )
        values = np.asarray(finer[source])
        out[part] = values[tuple(slice(None, None, r) for r in ratio)]
    return out


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Wait until no other process is here. Raises FileNotFoundError if the lock is gone.

    The system lets go of the lock of a process that is killed. Where it has no such locks, a
    store must be finished by one process.
    """
    with lock.open("r+b") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        except (ImportError, OSError):
            yield
            return
        # Another store may lie in the folder by now, with a lock of its own.
        if os.fstat(file.fileno()).st_ino != lock.stat().st_ino:
            raise FileNotFoundError(lock)
        yield
