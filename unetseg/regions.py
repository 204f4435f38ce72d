"""Regions: classes that may overlap, each a set of label values, and how one mask holds them all.

In BraTS the whole tumour is 1, 2 and 3, its core 2 and 3, the enhancing part 3. A mask is written
region by region, each with one of its own values, later ones over earlier ones; it is read back
by asking which voxels hold one of a region's values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations


@dataclass(frozen=True)
class Region:
    """A class made of label values, some of which other regions may have too."""

    # In a plan a key that is unknown is a typing error.
    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by pydantic, which is above
    name: str
    values: tuple[int, ...]


def as_records(given: object) -> object:
    """`{name: value or values}`, the short form of a plan and of dataset.json, as records."""
    if not isinstance(given, Mapping):
        return given
    return [
        {"name": name, "values": [values] if isinstance(values, int) else values}
        for name, values in given.items()
    ]


def larger_first(regions: Sequence[Region]) -> tuple[Region, ...]:
    """The order in which no region hides one that lies inside it; equal ones stay as they are."""
    return tuple(sorted(regions, key=lambda region: -len(region.values)))


def label_values(regions: Sequence[Region]) -> tuple[int, ...]:
    """Every value that a region has, ascending."""
    return tuple(sorted({value for region in regions for value in region.values}))


def written_values(regions: Sequence[Region]) -> tuple[int, ...]:
    """The value that each region is written with, in this order, later ones over earlier ones.

    Of the values that no later region has, the one that is read back as the region, those that
    hold all of it, and as few others as can be; the smallest of several.
    """
    found = []
    for index, region in enumerate(regions):
        around = {other.name for other in regions if set(region.values) <= set(other.values)}
        choice = [
            (len(around ^ {other.name for other in regions if value in other.values}), value)
            for value in _own(region, regions[index + 1 :]) or region.values
        ]
        found.append(min(choice)[1])
    return tuple(found)


def crossings(
    regions: Sequence[Region], written: Sequence[int]
) -> tuple[tuple[tuple[bool, ...], int], ...]:
    """What no order of writing can show: which regions a voxel is in, and the value for it.

    Regions that cross (1, 2 and 2, 3) share a value that neither is written with. There is none
    where of any two regions one holds the other or they have nothing in common.
    """
    found: dict[tuple[bool, ...], int] = {}
    for value in label_values(regions):
        inside = _membership(regions, value)
        last = max(index for index, is_in in enumerate(inside) if is_in)
        if _membership(regions, written[last]) != inside:
            found.setdefault(inside, value)
    return tuple(found.items())


def fault(regions: Sequence[Region], written: Sequence[int] | None = None) -> str:
    """What is wrong with the regions, in one sentence; empty if nothing is.

    written : the value that each region is written with, if that is given
    """
    for region in regions:
        if not region.name.strip():
            return f"the region of {_listed(region.values)} has no name"
        if not region.values:
            return f"the region {region.name} has no label values"
        if 0 in region.values:
            return f"the region {region.name} has the value 0, which is the background"
        if len(set(region.values)) < len(region.values):
            return f"the region {region.name} has a value twice: {_listed(region.values)}"
    for one, other in combinations(regions, 2):
        if one.name == other.name:
            return f"two regions are called {one.name}"
        if set(one.values) == set(other.values):
            same = _listed(one.values)
            return f"the regions {one.name} and {other.name} have the same values: {same}"
    return "" if written is None else _writing_fault(regions, written)


def _writing_fault(regions: Sequence[Region], written: Sequence[int]) -> str:
    if len(written) != len(regions):
        return f"{len(regions)} regions need one value each to be written with, got {len(written)}"
    for index, (region, value) in enumerate(zip(regions, written, strict=True)):
        later = regions[index + 1 :]
        for other in later:
            if set(region.values) <= set(other.values):
                return (
                    f"the region {region.name} can never be seen: {other.name} is written after it"
                    " and covers all of it; put the larger region first"
                )
        own = _own(region, later) or region.values
        if value not in own:
            why = "a later region has too" if value in region.values else "is none of its values"
            return (
                f"the region {region.name} is written as {value}, which {why};"
                f" one of {_listed(own)} is read back as {region.name}"
            )
    return ""


def _own(region: Region, later: Sequence[Region]) -> tuple[int, ...]:
    """The values of the region that no later one has."""
    return tuple(v for v in region.values if not any(v in other.values for other in later))


def _membership(regions: Sequence[Region], value: int) -> tuple[bool, ...]:
    return tuple(value in region.values for region in regions)


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))
