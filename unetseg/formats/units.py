"""Lengths in the words of many programs."""

import math

_MICROMETRES = {
    "m": 1e6,
    "meter": 1e6,
    "metre": 1e6,
    "dm": 1e5,
    "cm": 1e4,
    "centimeter": 1e4,
    "centimetre": 1e4,
    "mm": 1e3,
    "millimeter": 1e3,
    "millimetre": 1e3,
    "µm": 1.0,
    "um": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "micrometers": 1.0,
    "micrometre": 1.0,
    "nm": 1e-3,
    "nanometer": 1e-3,
    "nanometre": 1e-3,
    "pm": 1e-6,
    "picometer": 1e-6,
    "å": 1e-4,
    "angstrom": 1e-4,
}


def micrometres(length: float, unit: str) -> float | None:
    """A positive length in micrometres, or None if it is none or the unit is not a length."""
    # ImageJ escapes the micro sign; Unicode has two of them.
    name = unit.strip().replace("\\u00B5", "µ").replace("\u03bc", "µ").lower()
    factor = _MICROMETRES.get(name)
    if factor is None or not math.isfinite(length) or length <= 0:
        return None
    return length * factor
