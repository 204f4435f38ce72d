"""Short names for cases, distinct within what is read together."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from unetseg.dataset.listing import composed
from unetseg.records import Case


def named(cases: Sequence[Case]) -> tuple[Case, ...]:
    """The cases with distinct names, as short as possible.

    A name is the end of the path that the case is named by: the file's stem if all stems differ,
    else one folder more for every case, and so on. Names that agree in full (x.png, x.tif) give
    way to the whole path of the first image.
    """
    names = [case.name for case in cases]
    if len(set(names)) < len(names):
        names = [composed(case.images[0].as_posix()) for case in cases]
    return tuple(replace(case, name=name) for case, name in zip(cases, _ends(names), strict=True))


def _ends(names: Sequence[str]) -> Sequence[str]:
    paths = [
        [part for part in PurePosixPath(name).parts if part not in ("/", "..")] for name in names
    ]
    for depth in range(1, max(map(len, paths), default=0) + 1):
        ends = ["/".join(parts[-depth:]) for parts in paths]
        if len(set(ends)) == len(ends):
            return ends
    return names
