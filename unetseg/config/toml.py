"""A plan as `plan.toml`: every value with its reason as a comment."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.container import Container
from tomlkit.items import Item, Table

from unetseg.config import Plan, check_keys, checked_plan, plan_keys
from unetseg.errors import UsageError
from unetseg.files import write_text
from unetseg.regions import Region


def write_plan(plan: Plan, path: Path) -> None:
    """Write `plan.toml` atomically, each value with its reason as a comment."""
    write_text(path, describe(plan))


def describe(plan: Plan) -> str:
    """The plan as TOML, each value with its reason as a comment."""
    document = tomlkit.document()
    document.add(tomlkit.comment("The plan of this training. Edit it before you train."))
    for section in ("data", "patch", "network", "training", "decode"):
        document.add(section, _table(getattr(plan, section), section, plan.reasons))
    return tomlkit.dumps(document)


def _table(record: Any, prefix: str, reasons: Mapping[str, str]) -> Table:
    table = tomlkit.table()
    for item in fields(record):
        value, key = getattr(record, item.name), f"{prefix}.{item.name}"
        if value is None:
            # TOML has no null: an absent key is the absent value.
            continue
        if is_dataclass(value):
            table.add(item.name, _table(value, key, reasons))
            continue
        entry = _regions(value) if key == "data.regions" else tomlkit.item(_plain(value))
        if key in reasons:
            entry.comment(reasons[key])
        table.add(item.name, entry)
    return table


def _regions(regions: tuple[Region, ...]) -> Item:
    """In one line as for `--set`: a table of its own would have no place for the reason."""
    if not regions:
        return tomlkit.item([])
    table = tomlkit.inline_table()
    for region in regions:
        table.add(region.name, list(region.values))
    return table


def _plain(value: Any) -> Any:
    return [_plain(part) for part in value] if isinstance(value, tuple) else value


def read_plan(path: Path) -> Plan:
    """Read `plan.toml`. Raises UsageError that names the file and the key at fault."""
    try:
        tree = tomlkit.parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=path) from error
    except (ValueError, tomlkit.exceptions.TOMLKitError) as error:
        raise UsageError(f"not TOML: {error}", where=path) from error
    reasons: dict[str, str] = {}
    flat = dict(_flat(tree, "", reasons))
    check_keys(flat, where=path)
    return checked_plan(tree.unwrap(), reasons, path)


def _flat(table: Any, prefix: str, reasons: dict[str, str]) -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping) and prefix + name not in plan_keys():
            yield from _flat(value, f"{prefix}{name}.", reasons)
            continue
        # A Boolean is handed out bare; its comment stays with the item in the container.
        container = table if isinstance(table, Container) else table.value
        entry: Any = container.item(name)
        if comment := entry.trivia.comment.lstrip("# "):
            reasons[prefix + name] = comment
        yield prefix + name, value
