"""dataset.json of the Medical Segmentation Decathlon and of nnU-Net: names, never voxels."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from unetseg.errors import DataError
from unetseg.records import Label
from unetseg.regions import Region, fault

FILE_NAME = "dataset.json"
IGNORE = "ignore"


@dataclass(frozen=True)
class Description:
    """What dataset.json says.

    labels : by value, without the ignore label
    regions : all of these names, in the file's order, if one of them stands for several values
    region_values : the value that each region is written with (regions_class_order)
    ignore_value : of voxels that nobody has annotated
    training : image and mask of each training case, relative to the file's folder
    announced : number of training cases that the file promises
    """

    labels: tuple[Label, ...] = ()
    channels: tuple[str, ...] = ()
    ignore_value: int | None = None
    training: tuple[tuple[str, str], ...] = ()
    announced: int | None = None
    regions: tuple[Region, ...] = ()
    region_values: tuple[int, ...] = ()


def read_description(folder: Path) -> Description:
    """Read dataset.json in `folder`; an empty description if there is none.

    Raises DataError if it is no valid JSON, or its labels or channels are not understood.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return Description()
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(
            "not a description of a data set", where=path, expected="a JSON object {...}"
        )
    entries = _mapping(content, "labels", path)
    regions = _regions(entries, path)
    labels = _labels(entries, path)
    channels = _mapping(content, "channel_names", path) or _mapping(content, "modality", path)
    announced = content.get("numTraining")
    return Description(
        tuple(label for label in labels if label.name != IGNORE),
        _channels(channels, path),
        next((label.value for label in labels if label.name == IGNORE), None),
        _training(content.get("training"), path),
        announced if isinstance(announced, int) else None,
        regions,
        _region_values(content.get("regions_class_order"), regions, path),
    )


def read_json(path: Path) -> object:
    """The content of a JSON file. Raises DataError, with line and column, if it is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise DataError(
            f"not valid JSON in line {error.lineno}, column {error.colno}: {error.msg}",
            where=path,
            hint="repair the file or remove it",
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"cannot be read: {error}", where=path, hint="save it as UTF-8 or remove it"
        ) from error


def _mapping(content: Mapping[str, object], key: str, path: Path) -> Mapping[str, object]:
    value = content.get(key, {})
    if not isinstance(value, dict):
        raise DataError(
            f'"{key}" is not understood',
            where=path,
            expected='an object such as {"background": 0, "tumour": 1}'
            if key == "labels"
            else 'an object such as {"0": "CT"}',
            got=json.dumps(value)[:60],
            hint="correct it, or rename the file if it is meant for another tool",
        )
    return value


def _labels(entries: Mapping[str, object], path: Path) -> tuple[Label, ...]:
    labels = sorted(
        (_label(key, entry, path) for key, entry in entries.items() if not _is_region(entry)),
        key=lambda label: label.value,
    )
    value, times = next(iter(Counter(label.value for label in labels).most_common(1)), (0, 0))
    if times > 1:
        named = ", ".join(label.name for label in labels if label.value == value)
        raise DataError(f"label value {value} has {times} names: {named}", where=path)
    return tuple(labels)


def _label(key: str, entry: object, path: Path) -> Label:
    if isinstance(entry, list):
        (entry,) = entry
    if isinstance(entry, int) and not isinstance(entry, bool):
        return Label(entry, key)
    if isinstance(entry, str) and key.isascii() and key.isdigit():
        return Label(int(key), entry)
    raise DataError(
        f'label "{key}" is not understood',
        where=path,
        expected='"name": value (nnU-Net) or "value": "name" (Decathlon)',
        got=json.dumps(entry)[:60],
    )


def _regions(entries: Mapping[str, object], path: Path) -> tuple[Region, ...]:
    """Every name but the background's and the ignore label's, if one has several values."""
    if not any(_is_region(entry) for entry in entries.values()):
        return ()
    regions = []
    for key, entry in entries.items():
        if _is_region(entry):
            if key == IGNORE or not all(type(value) is int for value in entry):
                raise DataError(
                    f'label "{key}" is not understood',
                    where=path,
                    expected="one whole number" if key == IGNORE else "whole numbers",
                    got=json.dumps(entry)[:60],
                )
            regions.append(Region(key, tuple(sorted(entry))))
            continue
        label = _label(key, entry, path)
        if label.value != 0 and label.name != IGNORE:
            regions.append(Region(label.name, (label.value,)))
    if found := fault(regions):
        raise DataError(f'"labels": {found}', where=path)
    return tuple(regions)


def _is_region(entry: object) -> TypeGuard[list[Any]]:
    return isinstance(entry, list) and len(entry) != 1


def _region_values(order: object, regions: Sequence[Region], path: Path) -> tuple[int, ...]:
    if order is None or not regions:
        return ()
    if not isinstance(order, list) or not all(isinstance(value, int) for value in order):
        raise DataError(
            '"regions_class_order" is not understood',
            where=path,
            expected="a list of label values, one for each region",
            got=json.dumps(order)[:60],
        )
    if found := fault(regions, order):
        raise DataError(f'"regions_class_order": {found}', where=path)
    return tuple(order)


def _channels(entries: Mapping[str, object], path: Path) -> tuple[str, ...]:
    wanted = {str(index) for index in range(len(entries))}
    if set(entries) != wanted:
        raise DataError(
            "the channels are not counted from 0 without gaps",
            where=path,
            expected=", ".join(sorted(wanted, key=int)),
            got=", ".join(entries),
        )
    return tuple(str(entries[str(index)]) for index in range(len(entries)))


def _training(entries: object, path: Path) -> tuple[tuple[str, str], ...]:
    if not isinstance(entries, list):
        return ()
    found = []
    for entry in entries:
        pair = (entry.get("image"), entry.get("label")) if isinstance(entry, dict) else (None, None)
        if not isinstance(pair[0], str) or not isinstance(pair[1], str):
            raise DataError(
                '"training" is not understood',
                where=path,
                expected='a list of {"image": file, "label": file}',
                got=json.dumps(entry)[:60],
            )
        found.append((pair[0], pair[1]))
    return tuple(found)
