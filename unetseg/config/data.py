"""The section data of a plan: what the network sees and what it names."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from unetseg.geometry import Unit
from unetseg.regions import Region, as_records, fault, label_values

# In class indices: a voxel that counts neither in the loss nor in a metric.
IGNORED = -1

# Tasks for masks with an id for each object.
OBJECT_TASKS = ("instances", "borders")

# An unknown key is a typing error, and a typing error must not train for hours.
STRICT = ConfigDict(extra="forbid")

Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Normalisation = Literal["clip_zscore", "zscore", "zscore_nonzero", "percentile"]
Regions = Annotated[tuple[Region, ...], BeforeValidator(as_records)]


@dataclass(frozen=True, kw_only=True)
class DataPlan:
    """What the network sees and what it names.

    spacing : edge lengths of the plan's grid per axis, in `unit`; empty keeps each scan's own grid
    orientation : canonical turns the axes to the world's (RAS for NIfTI), as_read leaves them
    clip, mean, std : per channel, for the normalisation clip_zscore
    class_values : the values in the mask files, background (0) first; of regions the value that
        each is written with, in this order, later ones over earlier ones; of objects, which have
        ids in the mask files, the values of their classes in a class table
    merge_labels : every non-zero value is one class (object ids seen as foreground)
    ignore_value : voxels with this value count neither in the loss nor in a metric
    regions : the classes after the background, where they may overlap; each by name with its
        label values
    """

    __pydantic_config__ = STRICT
    task: str
    dimensions: Literal[2, 3]
    channels: tuple[str, ...]
    unit: Unit
    spacing: tuple[PositiveFloat, ...] = ()
    orientation: Literal["canonical", "as_read"]
    normalisation: Normalisation
    clip: tuple[tuple[float, float], ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[PositiveFloat, ...] = ()
    class_names: tuple[str, ...]
    class_values: tuple[int, ...]
    merge_labels: bool = False
    ignore_value: int | None = None
    regions: Regions = ()

    @property
    def has_objects(self) -> bool:
        """Whether a mask has an id for each object rather than a value for each class."""
        return self.task in OBJECT_TASKS

    @property
    def map_names(self) -> tuple[str, ...]:
        """The maps of probabilities, in the order of the network's outputs."""
        if self.task == "borders":
            return (self.class_names[0], "core", "border")
        if self.has_objects:
            return (*self.class_names, "depth", "centre")
        # A region has no map for the background.
        return self.class_names[1:] if self.regions else self.class_names

    @property
    def label_values(self) -> tuple[int, ...]:
        """What class indices stand for: index k is label_values[k] in a mask."""
        return (0, *label_values(self.regions)) if self.regions else self.class_values

    @property
    def members(self) -> tuple[tuple[int, ...], ...]:
        """Per class, background first, the class indices that count as it."""
        if not self.regions:
            return tuple((index,) for index in range(len(self.class_values)))
        known = self.label_values
        return ((0,), *(tuple(known.index(v) for v in region.values) for region in self.regions))

    def check_objects(self) -> None:
        """Raise ValueError if what is said of labels does not fit ids."""
        if self.has_objects and (self.merge_labels or self.regions):
            raise ValueError(
                f"data.task {self.task} needs ids as they are: data.merge_labels false and no"
                " data.regions"
            )

    def check_regions(self) -> None:
        """Raise ValueError if the regions do not fit one another or the rest of the section."""
        if not self.regions:
            if self.task == "regions":
                raise ValueError(
                    "data.task regions needs data.regions, such as {whole=[1, 2], core=[2]}"
                )
            return
        if self.task == "semantic" or self.merge_labels:
            raise ValueError("data.regions needs data.task regions and data.merge_labels false")
        if found := fault(self.regions, self.class_values[1:]):
            raise ValueError(f"data.regions: {found}")
        if self.ignore_value in self.label_values:
            raise ValueError(f"data.ignore_value {self.ignore_value} is a value of data.regions")
        if self.class_names[1:] != tuple(region.name for region in self.regions):
            raise ValueError("data.class_names after the first must be those of data.regions")
