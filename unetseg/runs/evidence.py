"""What the kept model's validation leaves besides scores: validation.json."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, TypeAdapter

from unetseg.errors import DataError
from unetseg.files import write_text
from unetseg.runs.description import DESCRIPTION

EVIDENCE = "validation.json"
# The masks that it speaks of, in the run folder.
MASKS = "validation"
_SCHEMA = 1

Count = Annotated[int, Field(ge=0)]
# Voxels: a row for each class of the truth, a column for each predicted one.
Confusion = tuple[tuple[Count, ...], ...]


@dataclass(frozen=True)
class Bin:
    """Voxels whose probability lies from `low` to below `high` (to 1 in the last).

    confidence : mean probability
    accuracy : share of them in which what is probable is true
    """

    low: float
    high: float
    count: Count
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class ObjectsFound:
    """The objects of a case.

    merges, splits : as of metrics.objects
    """

    true: Count
    predicted: Count
    merges: Count
    splits: Count


@dataclass(frozen=True)
class CaseEvidence:
    """A case of the validation.

    mask : as predicted, relative to the run folder; empty if it was not kept
    true, predicted : size of each foreground class or region, where the truth is known
    objects : None where the masks have no objects
    """

    name: str
    mask: str
    true: tuple[float, ...]
    predicted: tuple[float, ...]
    objects: ObjectsFound | None = None


@dataclass(frozen=True)
class AtIoU:
    """Objects of all cases: those that match at an IoU above `iou`, and those that do not."""

    iou: float
    tp: Count
    fp: Count
    fn: Count


@dataclass(frozen=True)
class Evidence:
    """What the validation of a model shows, over the voxels whose truth is known.

    kind : what a voxel is given: one class, regions that overlap, or an object and its class
    classes : names, the background first; of regions their names alone
    confusion : (K, K), of classes and of objects' classes; empty for regions
    regions : (2, 2) for each region: outside and inside, in the truth and predicted
    calibration : bins with a voxel, ascending; of classes the probability of the answer given, of
        regions that of inside or outside, all regions together, of objects that of the foreground
    unit : of the sizes, such as mm^3, um^2 or px
    cases : in the order of the validation
    objects : at each IoU, empty where there are none
    """

    kind: Literal["classes", "regions", "objects"]
    classes: tuple[str, ...]
    confusion: Confusion
    regions: tuple[Confusion, ...]
    calibration: tuple[Bin, ...]
    unit: str
    cases: tuple[CaseEvidence, ...]
    objects: tuple[AtIoU, ...] = ()

    @property
    def foreground(self) -> tuple[str, ...]:
        """The classes without the background, or the regions."""
        return self.classes if self.kind == "regions" else self.classes[1:]


_ADAPTER: TypeAdapter[Evidence] = TypeAdapter(Evidence)


def merged(parts: Sequence[Evidence], order: Sequence[str] = ()) -> Evidence:
    """The evidence of several folds together; all of one kind and with the same classes.

    order : of the cases, by name; as in the parts if not given
    """
    first = parts[0]
    bins: dict[tuple[float, float], list[Bin]] = {}
    for part in parts:
        for each in part.calibration:
            bins.setdefault((each.low, each.high), []).append(each)
    cases = [case for part in parts for case in part.cases]
    if order:
        place = {name: number for number, name in enumerate(order)}
        cases.sort(key=lambda case: place[case.name])
    units = {part.unit for part in parts}
    return replace(
        first,
        confusion=_added([part.confusion for part in parts]),
        regions=tuple(_added(each) for each in zip(*(p.regions for p in parts), strict=True)),
        calibration=tuple(_together(bins[key]) for key in sorted(bins)),
        unit=first.unit if len(units) == 1 else "",
        cases=tuple(cases),
        objects=tuple(
            AtIoU(each[0].iou, *(sum(getattr(one, key) for one in each) for key in _COUNTS))
            for each in zip(*(part.objects for part in parts), strict=True)
        ),
    )


_COUNTS = ("tp", "fp", "fn")


def _added(tables: Sequence[Confusion]) -> Confusion:
    whole = np.sum([np.array(table, dtype=np.int64) for table in tables], axis=0)
    return tuple(tuple(map(int, row)) for row in whole)


def _together(bins: Sequence[Bin]) -> Bin:
    count = sum(each.count for each in bins)
    confidence = sum(each.count * each.confidence for each in bins) / count
    accuracy = sum(each.count * each.accuracy for each in bins) / count
    return Bin(bins[0].low, bins[0].high, count, confidence, accuracy)


def write_evidence(run: Path, evidence: Evidence) -> None:
    """Write validation.json, of the model that the run has now. Raises DataError if it fails."""
    content = {"schema": _SCHEMA, "model": model_key(run), **asdict(evidence)}
    write_text(run / EVIDENCE, json.dumps(content) + "\n")


def read_evidence(run: Path) -> Evidence | None:
    """The evidence of the run's model; None if there is none, or it is another model's.

    Raises DataError for a damaged file.
    """
    path = run / EVIDENCE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("schema") != _SCHEMA or content.pop("model") != model_key(run):
            return None
        return evidence_of(content)
    except OSError:
        return None
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise DataError(
            "not the evidence of a validation",
            where=path,
            hint="remove it: a page is made without it",
        ) from error


def evidence_of(content: object) -> Evidence:
    """From plain values, as `asdict` gives them. Raises ValueError for others."""
    return _ADAPTER.validate_python(content)


def model_key(run: Path) -> str:
    """What changes with every model that a run folder gets; empty while it has none."""
    try:
        content = (run / "model" / DESCRIPTION).read_bytes()
    except OSError:
        return ""
    return blake2b(content, digest_size=16).hexdigest()
