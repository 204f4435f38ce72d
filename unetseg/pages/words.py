"""How text and numbers are written on a page."""

import re
from math import isfinite

from unetseg.errors import one_line

# They change the direction of what follows them, beyond the name that they stand in.
_TURNING = {
    code: f"\\u{code:04x}"
    for code in (0x200E, 0x200F, 0x061C, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
}
# For what is not defined.
DASH = "\u2013"
TIMES = "\u00d7"


def plain(text: str) -> str:
    """The text on one line; what would turn the direction of other text is written as escapes."""
    return one_line(text).translate(_TURNING)


def address(anchor: str) -> str:
    """An anchor as the id of an element: no two anchors have the same one."""
    return re.sub(r"[^A-Za-z0-9_-]", lambda found: f".{ord(found[0]):x}.", anchor)


def share_text(share: float) -> str:
    """A share as per cent, so that a rare thing is not called none; a dash where undefined."""
    if not isfinite(share):
        return DASH
    if 0 < share < 0.0005:
        return "<0.1%"
    if 0.9995 <= share < 1:
        return ">99.9%"
    return f"{share:.1%}"


def number(value: float, digits: int = 3) -> str:
    """So many decimals; a dash where undefined."""
    return f"{value:.{digits}f}" if isfinite(value) else DASH


def quantity(value: float, unit: str = "") -> str:
    """A size with four figures and its unit, where it has one."""
    if not isfinite(value):
        return DASH
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{text} {unit_text(unit)}".strip()


def unit_text(unit: str) -> str:
    """A unit as people write it: mm³ for mm^3, µm for um."""
    return unit.replace("^2", "²").replace("^3", "³").replace("um", "µm")


def duration(seconds: float) -> str:
    """In the two largest units that count: 2 h 5 min, 1 min 30 s, 4.2 s."""
    if not isfinite(seconds):
        return DASH
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    first = next((place for place, (count, _) in enumerate(parts) if count), 3)
    return " ".join(f"{count} {name}" for count, name in parts[first : first + 2] if count)


def moment(iso: str) -> str:
    """A time in ISO 8601 and UTC as people write it."""
    return iso.replace("T", " ").replace("+00:00", " UTC")
