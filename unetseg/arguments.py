"""What the values of options mean."""

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unetseg.errors import UsageError, nearest
from unetseg.registry import EXPORTS

if TYPE_CHECKING:
    from unetseg.records import View
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


def export_names(texts: Sequence[str], *, where: str) -> tuple[str, ...]:
    """rois,geojson, or one at a time, as names of exports, each once."""
    asked = [name.strip() for text in texts for name in text.split(",")]
    for name in asked:
        if name not in EXPORTS:
            raise UsageError(
                "no such export", where=where, got=name or "nothing", hint=nearest(name, EXPORTS)
            )
    return tuple(dict.fromkeys(asked))


def shares_of(text: str, *, where: str) -> tuple[float, ...]:
    """0.5,0.75 as (0.5, 0.75)."""
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise UsageError(
            "not numbers", where=where, expected="such as 0.5,0.75", got=text
        ) from error


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


def view_of(axes: str | None, channels: str | None, pixel_size: str | None) -> "View":
    """--axes ZCYX, --channels DAPI,1 and --pixel-size 0.65x0.65x2um as what they ask for."""
    # Not above: every command would load numpy, --help too.
    from unetseg.errors import DataError
    from unetseg.formats.naming import check_letters
    from unetseg.records import View

    letters = (axes or "").strip().upper()
    if letters:
        try:
            # X comes first in volumes of the body.
            check_letters(letters.replace("XYZ", "ZYX").replace("XY", "YX"), axes)
        except DataError as error:
            raise UsageError(
                "not axes",
                where="--axes",
                expected="a letter per axis, such as ZCYX: T, C, Z, Y, X; Z, Y, X in this order",
                got=axes or "",
            ) from error
    names = [name.strip() for name in (channels or "").split(",")]
    if channels is not None and not all(names):
        raise UsageError(
            "not channels", where="--channels", expected="such as DAPI,1", got=channels
        )
    edges, unit = lengths(pixel_size) if pixel_size else ((), "um")
    return View(
        axes=letters,
        channels=tuple(names) if channels is not None else (),
        pixel_size=edges,
        unit="mm" if unit == "mm" else "um",
    )


def lengths(text: str) -> tuple[tuple[float, ...], str]:
    """0.65um as ((0.65, 0.65), um); 0.65x0.65x2um along X, Y and Z; nanometres as micrometres."""
    number = r"\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|\.\d+"
    found = re.fullmatch(
        rf"((?:{number})(?:\s*x\s*(?:{number})){{0,2}})\s*(mm|um|µm|\u03bcm|nm)", text.strip()
    )
    edges = tuple(float(part) for part in found[1].split("x")) if found else ()
    if found is None or min(edges) <= 0:
        raise UsageError(
            "not a pixel size",
            where="--pixel-size",
            expected="such as 0.65um, 0.65x0.65um or 0.65x0.65x2um, along X, Y and Z, in mm, um"
            " or nm",
            got=text,
        )
    if len(edges) == 1:
        edges *= 2
    if found[2] == "nm":
        return tuple(edge / 1000 for edge in edges), "um"
    return edges, "mm" if found[2] == "mm" else "um"


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
