"""Label values and pieces that are in hardly any other mask of the set."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from unetseg.checking.looks import CaseLook
from unetseg.checking.outliers import isolated, times
from unetseg.dataset.listing import counted, some
from unetseg.planning.fingerprint import Fingerprint
from unetseg.records import Finding

_LEAST_CASES = 8
# A value is rare in so few cases, usual in so large a share of them.
_RARE_CASES, _RARE_SHARE, _USUAL_SHARE = 1, 0.02, 0.9
# A piece is a speck if it is smaller than this share of the largest of its class in the case.
_SPECK_SHARE = 0.01
# An object is a speck with so few voxels, if objects usually have this many times as many.
_SPECK_VOXELS, _SPECK_TIMES = 4, 20
# What is in more of the cases is how the set was drawn.
_MISTAKE_SHARE = 0.05
_MASK_FACTOR = 3.0


def on_labels(looks: Sequence[CaseLook], found: Fingerprint) -> Iterator[Finding]:
    """Rare and missing values, specks, masks of an odd size, masks without background."""
    drawn = [look for look in looks if look.has_foreground]
    yield from _full(drawn)
    if found.looks_like_objects:
        yield from _object_specks(drawn)
        return
    if len(drawn) >= _LEAST_CASES:
        yield from _values(drawn, found)
        yield from _specks(drawn)
        yield from _sizes(drawn)


def _full(looks: Sequence[CaseLook]) -> Iterator[Finding]:
    full = [look for look in looks if 0 not in dict(look.counts)]
    if full and len(full) < len(looks):
        for look in full:
            yield Finding(
                "warning",
                look.mask_file,
                "has no background: every voxel is labelled",
                "look whether it is a mask, and whether 0 is the background in it",
                "full-mask",
                (look.name,),
            )


def _values(looks: Sequence[CaseLook], found: Fingerprint) -> Iterator[Finding]:
    names = {label.value: label.name for label in found.label_names}
    holders: dict[int, list[CaseLook]] = {}
    for look in looks:
        for value, _ in look.counts:
            if value:
                holders.setdefault(value, []).append(look)
    most = max(_RARE_CASES, int(_RARE_SHARE * len(looks)))
    for value, having in sorted(holders.items()):
        if len(having) <= most:
            voxels = sum(dict(look.counts)[value] for look in having)
            named = f" ({names[value]})" if value in names else ""
            yield Finding(
                "note" if named else "warning",
                having[0].mask_file,
                f"the value {value}{named} is in {counted(len(having), 'mask')} of {len(looks)} "
                f"only, with {counted(voxels, 'voxel')}: {some(look.name for look in having)}",
                "look at it: a stray click, or a wrong value",
                "rare-label",
                tuple(look.name for look in having),
            )
        elif _USUAL_SHARE * len(looks) <= len(having) < len(looks):
            has = {look.name for look in having}
            lacking = [look for look in looks if look.name not in has]
            yield Finding(
                "note",
                lacking[0].mask_file,
                f"the value {value} is missing in {counted(len(lacking), 'mask')}, "
                f"all {len(having)} others have it: {some(look.name for look in lacking)}",
                "look whether it was forgotten",
                "missing-label",
                tuple(look.name for look in lacking),
            )


def _specks(looks: Sequence[CaseLook]) -> Iterator[Finding]:
    """Tiny pieces of classes that are mostly in one piece."""
    having: dict[int, list[tuple[CaseLook, tuple[int, ...]]]] = {}
    for look in looks:
        for pieces in look.pieces:
            having.setdefault(pieces.value, []).append((look, pieces.sizes))
    for value, cases in sorted(having.items()):
        if np.median([len(sizes) for _, sizes in cases]) > 1:
            continue
        found = [
            (look, specks)
            for look, sizes in cases
            if (specks := [size for size in sizes if size < _SPECK_SHARE * sizes[0]])
        ]
        if len(found) > max(1, _MISTAKE_SHARE * len(cases)):
            names = tuple(look.name for look, _ in found)
            yield Finding(
                "note",
                "masks",
                f"class {value} has tiny pieces beside the large one in {len(found)} of "
                f"{len(cases)} masks: {some(names)}",
                "training is not harmed much; scores by distance are",
                "stray",
                names,
            )
            continue
        for look, specks in found:
            yield Finding(
                "warning",
                look.mask_file,
                f"class {value} has {counted(len(specks), 'tiny piece')} "
                f"({', '.join(map(str, specks[:3]))} voxels) beside one of "
                f"{max(p.sizes[0] for p in look.pieces if p.value == value)}",
                "look at it: probably a stray click",
                "stray",
                (look.name,),
            )


def _object_specks(looks: Sequence[CaseLook]) -> Iterator[Finding]:
    sizes = np.concatenate([[n for value, n in look.counts if value] for look in looks] or [[]])
    if len(sizes) < _LEAST_CASES or np.median(sizes) < _SPECK_VOXELS * _SPECK_TIMES:
        return
    found = Counter(
        {
            look.name: tiny
            for look in looks
            if (tiny := sum(1 for value, n in look.counts if value and n <= _SPECK_VOXELS))
        }
    )
    if not found:
        return
    files = {look.name: look.mask_file for look in looks}
    if len(found) > max(1, _MISTAKE_SHARE * len(looks)):
        total = counted(found.total(), "object")
        sentence = f"{total} of at most {_SPECK_VOXELS} voxels in {counted(len(found), 'mask')}"
        hint = "--set decode.min_size leaves such out of what is predicted"
        yield Finding("note", "masks", f"{sentence}: {some(found)}", hint, "stray", tuple(found))
        return
    for name, tiny in found.items():
        yield Finding(
            "warning",
            files[name],
            f"{counted(tiny, 'object')} of at most {_SPECK_VOXELS} voxels; objects usually have "
            f"{int(np.median(sizes))}",
            "look at it: probably a stray click",
            "stray",
            (name,),
        )


def _sizes(looks: Sequence[CaseLook]) -> Iterator[Finding]:
    """Masks with far more or less foreground than any other."""
    shares = [
        sum(n for value, n in look.counts if value) / sum(n for _, n in look.counts)
        for look in looks
    ]
    for index, factor in isolated(np.log(shares), _MASK_FACTOR):
        look = looks[index]
        yield Finding(
            "warning",
            look.mask_file,
            f"{shares[index]:.2%} of its voxels are foreground, {times(factor)} what the nearest "
            "other masks have",
            "look whether it is complete",
            "mask-size",
            (look.name,),
        )
