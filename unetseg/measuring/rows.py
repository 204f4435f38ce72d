"""The table of measurements: a column per quantity with its unit in its name."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from math import pi
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unetseg.files import replacing
from unetseg.measuring.sums import Sums
from unetseg.measuring.surfaces import Surfaces
from unetseg.measuring.voxels import Voxels

Cell = str | int | float | None
Column = tuple[str, list[Cell]]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Table:
    """Rows of cells under a header; None where a quantity is not defined."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def __getitem__(self, column: str) -> list[Cell]:
        index = self.columns.index(column)
        return [row[index] for row in self.rows]


def rows_of(first: Sequence[Column], sums: Sums, meshes: Surfaces | None, voxels: Voxels) -> Table:
    """One row per object.

    first : columns that tell which object it is
    """
    columns = [
        *first,
        *_sizes(sums, voxels),
        *_places(sums, voxels),
        *_shapes(sums, meshes, voxels),
        *_intensities(sums, voxels.channels),
    ]
    names = tuple(name for name, _ in columns)
    return Table(names, tuple(zip(*(cells for _, cells in columns), strict=True)))


def union(tables: Sequence[Table]) -> Table:
    """The rows of several tables under one header; cells are empty where a table has no such."""
    columns = tuple(dict.fromkeys(name for table in tables for name in table.columns))
    rows = []
    for table in tables:
        index = {name: place for place, name in enumerate(table.columns)}
        places = [index.get(name) for name in columns]
        rows += [tuple(None if k is None else row[k] for k in places) for row in table.rows]
    return Table(columns, tuple(rows))


def write_csv(table: Table, path: Path) -> None:
    """Write the table, atomically, in UTF-8.

    Where there is more than ASCII, after the mark by which spreadsheets know UTF-8.

    Raises DataError if the file cannot be written.
    """
    text = to_csv(table)
    # A file name on Linux may be no valid text; its case must not cost the others their rows.
    content = text.encode("utf-8" if text.isascii() else "utf-8-sig", "backslashreplace")
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def to_csv(table: Table) -> str:
    """Header and rows with commas between, a line each; an empty cell for None."""
    stream = StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows(table.rows)
    return stream.getvalue()


def _sizes(sums: Sums, voxels: Voxels) -> list[Column]:
    geometry = voxels.geometry
    power, word = geometry.ndim, "area" if geometry.ndim == 2 else "volume"
    size = sums.counts * geometry.voxel_volume
    diameter = np.sqrt(4 * size / pi) if power == 2 else np.cbrt(6 * size / pi)
    unit = geometry.unit if geometry.unit == "px" else f"{geometry.unit}{power}"
    return [
        (f"{word}_{unit}", _cells(size)),
        ("voxels", _cells(sums.counts)),
        (f"equivalent_diameter_{geometry.unit}", _cells(diameter)),
    ]


def _places(sums: Sums, voxels: Voxels) -> list[Column]:
    geometry, names = voxels.geometry, voxels.letters.lower()
    positions = sums.centres @ geometry.affine[:-1, :-1].T + geometry.affine[:-1, -1]
    return [
        *((f"centroid_{a}_{geometry.unit}", _cells(positions[:, k])) for k, a in enumerate(names)),
        *((f"centroid_{a}_index", _cells(sums.centres[:, k])) for k, a in enumerate(names)),
        *(
            (f"box_{a}_{end}_index", _cells(bounds[:, k]))
            for k, a in enumerate(names)
            for end, bounds in (("start", sums.low), ("stop", sums.high))
        ),
    ]


def _shapes(sums: Sums, meshes: Surfaces | None, voxels: Voxels) -> list[Column]:
    geometry = voxels.geometry
    extent = sums.counts / (sums.high - sums.low).prod(axis=1)
    if meshes is None:
        linear = geometry.affine[:-1, :-1]
        moments = linear @ (sums.scatters / sums.counts[:, None, None]) @ linear.T
        # Ascending, and never less than 0 but for rounding.
        short, long = np.sqrt(np.clip(np.linalg.eigvalsh(moments), 0, None)).T
        ratio = np.divide(short, long, out=np.ones_like(long), where=long > 0)
        return [
            (f"major_axis_{geometry.unit}", _cells(4 * long)),
            (f"minor_axis_{geometry.unit}", _cells(4 * short)),
            ("eccentricity", _cells(np.sqrt(1 - ratio**2))),
            ("extent", _cells(extent)),
        ]
    areas, volumes = meshes.of(sums.ids)
    unit = geometry.unit if geometry.unit == "px" else f"{geometry.unit}2"
    return [
        (f"surface_{unit}", _cells(areas)),
        ("sphericity", _cells(np.cbrt(36 * pi * volumes**2) / areas)),
        ("extent", _cells(extent)),
    ]


def _intensities(sums: Sums, channels: Sequence[str]) -> list[Column]:
    sd = np.sqrt(sums.squares / sums.counts[:, None])
    columns: list[Column] = []
    for k, name in enumerate(channels):
        # A bare number says nothing in the header of a column.
        word = f"channel{name}" if name.isdecimal() else name
        for what, values in (("mean", sums.means), ("sd", sd), ("min", sums.least)):
            columns.append((f"{what}_{word}", _cells(values[:, k])))
        columns.append((f"max_{word}", _cells(sums.most[:, k])))
    return columns


def _cells(values: NDArray[np.generic]) -> list[Cell]:
    cells: list[Cell] = values.tolist()
    return cells
