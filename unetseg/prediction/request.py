"""What a person asks of a prediction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from unetseg.config import DataPlan
from unetseg.errors import UsageError, nearest
from unetseg.prediction.outlook import Limits
from unetseg.prediction.quality import check_quality
from unetseg.records import AS_IT_IS, View
from unetseg.registry import EXPORTS

# What is written beside a mask, as in `{stem}_prob`.
Kind = Literal["prob", "uncertainty", "regions"]
MAP_TYPES = ("float32", "float16", "uint8")


@dataclass(frozen=True)
class Request:
    """What a person asks of a prediction.

    output : a folder, or for a single input a file name; the current folder if None
    folds : which networks of an ensemble; all of them if None
    devices : several at once: cards by number, or on the processor as many as there are numbers
    probabilities : write a file with a map per class beside each mask
    uncertainty : write a file with the entropy of the classes beside each mask
    regions : write a file with a channel per region beside each mask
    exports : names from EXPORTS, what is made of each mask for other programs
    map_type : of probabilities and uncertainty, float32, float16 or uint8
    quality : fast, balanced or best; see prediction.quality
    shard : which part of the scans, such as 0/4, auto or auto/4; see prediction.shares
    settings : plan values by dotted key (decode.*); they win over the quality
    limits : the most memory that may be used; scans are then done one at a time
    view : how the files are to be read, where a person says so
    dask : address of a Dask scheduler whose workers do the work; see prediction.cluster
    command : as it was typed, for the manifest
    """

    inputs: Sequence[str | Path]
    model: Path | None = None
    output: Path | None = None
    folds: Sequence[int] | None = None
    device: str = "auto"
    devices: Sequence[int] = ()
    overwrite: bool = False
    probabilities: bool = False
    uncertainty: bool = False
    regions: bool = False
    exports: Sequence[str] = ()
    map_type: str = "float32"
    quality: str = "balanced"
    shard: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    view: View = AS_IT_IS
    dask: str | None = None
    command: str = ""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What is to lie beside each mask."""
        asked = (self.probabilities, self.uncertainty, self.regions)
        return tuple(kind for kind, is_asked in zip(get_args(Kind), asked, strict=True) if is_asked)

    def check(self, model: Path, data: DataPlan) -> None:
        """Raise UsageError if the model cannot give what is asked for."""
        check_quality(self.quality)
        for name in self.exports:
            EXPORTS.load(name)
        if self.map_type not in MAP_TYPES:
            raise UsageError(
                "no such type of maps",
                where="--map-type",
                expected=", ".join(MAP_TYPES),
                got=self.map_type,
                hint=nearest(self.map_type, MAP_TYPES),
            )
        if self.dask is not None and (self.shard is not None or self.devices):
            raise UsageError(
                "the scheduler divides the work",
                where=f"--dask {self.dask}",
                got="--shard" if self.shard is not None else "--devices",
                hint="leave that out; start a worker for each device",
            )
        if self.regions and not data.regions:
            raise UsageError(
                "this model has no regions",
                where=model,
                hint="--probabilities writes a map per class",
            )
