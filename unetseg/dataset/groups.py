"""Which cases belong together: those of a patient, a slide, a plate."""

import re
from collections.abc import Sequence
from dataclasses import replace

from unetseg.dataset.listing import counted, some
from unetseg.errors import DataError, UsageError, nearest
from unetseg.records import Case

_WHERE = "training.group"


def with_groups(
    cases: Sequence[Case], group: str | None, *, where: str = _WHERE
) -> tuple[Case, ...]:
    """The cases, each with its group; as they are if `group` is None.

    group : a column of the CSV list, in any case, or else a regular expression with one group of
        its own, which is searched in the name of each case
    where : what asks for it, for the messages

    Raises UsageError if it is neither; DataError if a cell of the column is empty, or the
    expression is not found in a name.
    """
    if group is None:
        return tuple(cases)
    column = _column(cases, group)
    if column is not None:
        values = [dict(case.columns).get(column, "") for case in cases]
        problem = f"the column {column} is empty"
        hint = "fill it for every case"
    else:
        pattern = _pattern(cases, group, where)
        values = [_found(pattern, case.name) for case in cases]
        problem = f"the expression {group} finds no group"
        hint = "let it match every name; names are without suffix, with / between folders"
    missing = [case.name for case, value in zip(cases, values, strict=True) if not value]
    if missing:
        raise DataError(
            f"{problem} for {counted(len(missing), 'case')}: {some(missing)}",
            where=where,
            hint=hint,
        )
    return tuple(replace(case, group=value) for case, value in zip(cases, values, strict=True))


def _column(cases: Sequence[Case], group: str) -> str | None:
    titles = _titles(cases)
    exact = [title for title in titles if title == group]
    alike = [title for title in titles if title.casefold() == group.strip().casefold()]
    return next(iter(exact or alike), None)


def _titles(cases: Sequence[Case]) -> list[str]:
    return list(dict.fromkeys(title for case in cases for title, _ in case.columns))


def _pattern(cases: Sequence[Case], group: str, where: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(group)
    except re.error as error:
        raise UsageError(f"not a regular expression: {error}", where=where, got=group) from error
    if pattern.groups != 1:
        titles = _titles(cases)
        raise UsageError(
            "neither a column of the CSV list nor a regular expression with one group"
            if titles
            else "not a regular expression with one group",
            where=where,
            expected="such as '^(patient[0-9]+)_'"
            + (f", or one of the columns {', '.join(titles)}" if titles else ""),
            got=group,
            hint=nearest(group, titles) if titles and "(" not in group else "",
        )
    return pattern


def _found(pattern: re.Pattern[str], name: str) -> str:
    match = pattern.search(name)
    return (match[1] or "") if match else ""
