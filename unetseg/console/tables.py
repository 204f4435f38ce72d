"""Tables on stdout."""

import os
from collections.abc import Sequence
from typing import Literal

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from unetseg.errors import one_line

Cells = Sequence[str]

_ANY_WIDTH = 10_000


def print_table(title: str, columns: Cells, rows: Sequence[Cells]) -> None:
    """A table on stdout."""
    table = Table(title=title or None, title_justify="left")
    for index, column in enumerate(columns):
        # A word too long for a narrow screen goes on in the next line, whole.
        justify: Literal["left", "right"] = "left" if index == 0 else "right"
        table.add_column(escape(column), justify=justify, overflow="fold")
    for row in rows:
        table.add_row(*(escape(one_line(cell)) for cell in row))
    Console(highlight=False, emoji=False).print(table)


def print_numbers(
    title: str, words: Cells, numbers: Cells, parts: Sequence[Sequence[Cells]]
) -> None:
    """A table of many numbers on stdout, without lines between the columns.

    words : headings of the first columns, which hold text; the first and long ones may be folded
    numbers : of the other columns, which never are: no digit is lost
    parts : rows, with a gap between the parts

    Where stdout is no terminal the table is as wide as it has to be.
    """
    table = Table(
        title=title or None,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1),
        collapse_padding=True,
        pad_edge=False,
        show_edge=False,
    )
    for column in words:
        table.add_column(escape(column), overflow="fold", no_wrap=column == "metric")
    for column in numbers:
        table.add_column(escape(column), justify="right", no_wrap=True)
    for part in parts:
        for row in part:
            table.add_row(*(escape(one_line(cell)) for cell in row), end_section=row is part[-1])
    console = Console(highlight=False, emoji=False)
    needed = Console(width=_ANY_WIDTH).measure(table)
    is_free = not console.is_terminal and "COLUMNS" not in os.environ
    console.width = max(console.width, needed.maximum if is_free else needed.minimum)
    console.print(table)
    console.print()


def print_line(text: str) -> None:
    """A line on stdout, as long as it is."""
    Console(highlight=False, emoji=False, soft_wrap=True).print(one_line(text), markup=False)
