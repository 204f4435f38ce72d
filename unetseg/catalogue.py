"""What the built-in encoders and skips cost, read from a table: known without building a network.

`catalogue.json` is written by tests/golden/catalogue.py, and a test compares it with the networks.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from typing import Any

# Four numbers in single precision: the value, its gradient, and the two moments of AdamW.
BYTES_PER_PARAMETER = 16


@dataclass(frozen=True)
class Figures:
    """One network on one patch of the standard size.

    levels : resolutions, the full one included
    parameters : learned values, of which `encoder_parameters` are the encoder's
    flops : of the forward pass, two per multiply-add
    memory_bytes : of a training step in single precision
    """

    levels: int
    parameters: int
    encoder_parameters: int
    flops: int
    memory_bytes: int

    @property
    def activation_bytes(self) -> int:
        """What the forward pass keeps for the backward pass."""
        return self.memory_bytes - BYTES_PER_PARAMETER * self.parameters


@dataclass(frozen=True)
class Entry:
    """An encoder under the skip concat, or a skip over the encoder plain.

    figures : by the number of spatial axes
    weights : names of the published weights that an encoder can begin with
    """

    name: str
    figures: Mapping[int, Figures]
    weights: tuple[str, ...] = ()


@dataclass(frozen=True)
class Catalogue:
    """The table; third-party encoders and skips are not in it.

    patches : voxels per axis of the standard patch, by the number of spatial axes
    encoders, skips : by name
    """

    patches: Mapping[int, tuple[int, ...]]
    encoders: Mapping[str, Entry]
    skips: Mapping[str, Entry]


@cache
def read_catalogue() -> Catalogue:
    """The table that comes with the package."""
    text = files("unetseg").joinpath("catalogue.json").read_text(encoding="utf-8")
    return parse_catalogue(json.loads(text))


def parse_catalogue(values: Mapping[str, Any]) -> Catalogue:
    """The table from what its JSON holds."""
    return Catalogue(
        patches={int(axes): tuple(size) for axes, size in values["patches"].items()},
        encoders=_entries(values["encoders"]),
        skips=_entries(values["skips"]),
    )


def _entries(values: Mapping[str, Any]) -> dict[str, Entry]:
    return {
        name: Entry(
            name,
            {
                int(axes): Figures(**{field.name: numbers[field.name] for field in fields(Figures)})
                for axes, numbers in entry["figures"].items()
            },
            tuple(entry.get("weights", ())),
        )
        for name, entry in values.items()
    }
