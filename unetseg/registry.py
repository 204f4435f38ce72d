"""Names of things that can be chosen, each loaded at first use.

A third-party package adds one by declaring an entry point in the same group, for example
`[project.entry-points."unetseg.encoders"] mine = "my_package:build"`.
"""

from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from unetseg.errors import UsageError, nearest


class Registry(Mapping[str, EntryPoint]):
    """A mapping from name to entry point; `load` imports what stands behind a name.

    noun : what the names are, for messages
    group : the entry point group that other packages use
    """

    def __init__(self, noun: str, group: str, builtin: Mapping[str, str]) -> None:
        self.noun = noun
        self.group = group
        self._builtin = {name: EntryPoint(name, value, group) for name, value in builtin.items()}

    def _entries(self) -> dict[str, EntryPoint]:
        installed = {entry.name: entry for entry in entry_points(group=self.group)}
        return {**installed, **self._builtin}

    def __getitem__(self, name: str) -> EntryPoint:
        return self._entries()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries())

    def __len__(self) -> int:
        return len(self._entries())

    def load(self, name: str) -> Any:
        """The object behind `name`.

        Raises UsageError with the nearest name if there is none, and if its package is broken.
        """
        entries = self._entries()
        if name not in entries:
            raise UsageError(f"no such {self.noun}", got=name, hint=nearest(name, entries))
        try:
            return entries[name].load()
        except (ImportError, AttributeError) as error:
            raise UsageError(
                f"the {self.noun} cannot be loaded: {error}",
                where=name,
                hint=f"install or mend the package behind {entries[name].value}",
            ) from error


ENCODERS = Registry(
    "encoder",
    "unetseg.encoders",
    {
        "plain": "unetseg.nets.plain:PlainEncoder",
        "highway": "unetseg.nets.highway:HighwayEncoder",
        "residual": "unetseg.nets.residual:ResidualEncoder",
        "dense": "unetseg.nets.dense:DenseEncoder",
        **{
            f"resnet{depth}": f"unetseg.nets.residual:resnet{depth}"
            for depth in (18, 20, 32, 34, 44, 50, 56, 101, 110, 152)
        },
        **{
            f"densenet{depth}": f"unetseg.nets.dense:densenet{depth}"
            for depth in (121, 161, 169, 201, 264)
        },
    },
)
SKIPS = Registry(
    "skip",
    "unetseg.skips",
    {
        "concat": "unetseg.nets.skips:Concat",
        "add": "unetseg.nets.skips:Add",
        "gated": "unetseg.nets.skips:Gated",
        "attention": "unetseg.nets.skips:Attention",
        "none": "unetseg.nets.skips:NoSkip",
    },
)
TASKS = Registry(
    "task",
    "unetseg.tasks",
    {
        "semantic": "unetseg.tasks.semantic:Semantic",
        "regions": "unetseg.tasks.regions:Regions",
        "instances": "unetseg.tasks.instances:Instances",
        "borders": "unetseg.tasks.borders:Borders",
    },
)
FORMATS = Registry(
    "format",
    "unetseg.formats",
    {
        "nifti": "unetseg.formats.nifti:Nifti",
        "tiff": "unetseg.formats.tiff:Tiff",
        "picture": "unetseg.formats.picture:Picture",
        "ome-zarr": "unetseg.formats.ome_zarr:OmeZarr",
        "mgz": "unetseg.formats.mgz:Mgz",
        "itk": "unetseg.formats.itk:Itk",
        "dicom": "unetseg.formats.dicom:Dicom",
        "bio": "unetseg.formats.bio:Bio",
    },
)
EXPORTS = Registry(
    "export",
    "unetseg.exports",
    {
        "rois": "unetseg.exporting.rois:Rois",
        "geojson": "unetseg.exporting.geojson:GeoJson",
        "dicom-seg": "unetseg.exporting.dicom_seg:DicomSeg",
    },
)
