"""What the values of options mean."""

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from unetseg.errors import UsageError

if TYPE_CHECKING:
    from unetseg.regions import Region


def minutes(text: str) -> float:
    """30s, 10m, 2h, 1h30m or plain minutes."""
    found = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text)
    if re.fullmatch(r"\d+(\.\d+)?", text):
        total = float(text)
    elif text and found:
        hours, mins, seconds = (float(part or 0) for part in found.groups())
        total = 60 * hours + mins + seconds / 60
    else:
        total = 0.0
    if total <= 0:
        raise UsageError(
            "not a duration", where="--time", expected="such as 90s, 10m or 1h30m", got=text
        )
    return total


def memory_size(text: str, *, where: str) -> int:
    """2GB, 1.5 GiB, 800MB as bytes."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt])(i?)b?", text.strip(), re.IGNORECASE)
    size = 0
    if found:
        number, letter, binary = found.groups()
        size = round(float(number) * (1024 if binary else 1000) ** (" kmgt".index(letter.lower())))
    if size <= 0:
        raise UsageError(
            "not an amount of memory",
            where=where,
            expected="such as 2GB, 1.5GiB or 800MB",
            got=text,
        )
    return size


def whole_numbers(text: str, *, where: str) -> tuple[int, ...]:
    """20,56 as (20, 56)."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() for part in parts):
        raise UsageError("not whole numbers", where=where, expected="such as 20,56", got=text)
    return tuple(int(part) for part in parts)


def regions_of(text: str) -> "tuple[Region, ...]":
    """{whole=[1, 2], core=[2]} as regions, as in a plan."""
    # Not above: every command would load numpy, --help too.
    from unetseg.config import check_values

    try:
        given = tomllib.loads(f"regions = {text}")["regions"]
        regions = check_values({"data.regions": given}, where="--regions")["data.regions"]
    except tomllib.TOMLDecodeError as error:
        raise UsageError(
            "not regions",
            where="--regions",
            expected="such as {whole=[1, 2], core=[2]}",
            got=text,
        ) from error
    return tuple(regions)


def cards_of(text: str) -> tuple[int, ...]:
    """4 as (0, 1, 2, 3), the first four; 0,2 as (0, 2), these two."""
    numbers = whole_numbers(text, where="--devices")
    if len(numbers) == 1:
        numbers = tuple(range(numbers[0]))
    if not numbers or len(set(numbers)) < len(numbers):
        raise UsageError(
            "not devices",
            where="--devices",
            expected="how many, such as 4, or which, such as 0,2",
            got=text,
        )
    return numbers


def fold_of(text: str) -> tuple[int, int]:
    """0/5 as (0, 5): which fold, of how many."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not int(found[1]) < int(found[2]) or int(found[2]) < 2:
        raise UsageError(
            "not a fold", where="--fold", expected="such as 0/5, counted from 0", got=text
        )
    return int(found[1]), int(found[2])


def new_run(data: Path) -> Path:
    """The first free folder under ./runs for these data."""
    name = re.sub(r"[^\w.-]+", "-", data.resolve().stem) or "run"
    number = 1
    while (path := Path("runs") / f"{name}-{number:03d}").exists():
        number += 1
    return path
