"""How the files of a set are read: axes, channels, time points and scenes, settled together.

What a file does not tell is settled by a person's word, else by its mask, else by the other files
or by the model. What stays open is refused when the file is read, with all that it could be.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from unetseg.config import DataPlan
from unetseg.dataset import Dataset
from unetseg.dataset.listing import counted
from unetseg.dataset.loading import grid, have_names, open_case
from unetseg.errors import DataError
from unetseg.formats import contents
from unetseg.formats.naming import axes_of, chosen, facts, in_units, spatial_letters
from unetseg.formats.viewing import Contents
from unetseg.records import AS_IT_IS, Case, Opened, View

_MOST_LINES = 12


@dataclass(frozen=True, eq=False)
class Seen:
    """A case with its view settled, and its scan by the header.

    opened : of a file of several time points, the first; None if it cannot be read: reading the
        case will say why
    """

    case: Case
    opened: Opened | None


@dataclass(frozen=True)
class _Open:
    """A case whose reading is not settled yet.

    found : what is in its first file, None if that cannot be read
    fits : the readings that are left
    """

    case: Case
    found: Contents | None
    fits: tuple[str, ...] = ()

    def kind(self) -> tuple[int, int] | None:
        """Axes of space and channels, where one reading is left."""
        return _kind(self.found, self.fits[0]) if self.found and len(self.fits) == 1 else None

    def among(self, kinds: Iterable[tuple[int, int]]) -> "_Open":
        """With the readings of such a kind alone, if there are any; of several the likely ones."""
        found = self.found
        if found is None or len(self.fits) < 2:
            return self
        wanted = set(kinds)
        fits = tuple(each for each in self.fits if _kind(found, each) in wanted)
        return replace(self, fits=fits) if fits else self


def of_set(dataset: Dataset, asked: View = AS_IT_IS) -> tuple[Dataset, tuple[str, ...]]:
    """The data set with the view of each case settled, and lines that say how it is read.

    asked : what a person says of all files

    A file whose mask has its time points too becomes a case for each, in one fold together. Files
    with named channels have those of most files, by name, in the same order.
    """
    started = [_started(case, asked) for case in dataset.cases]
    usual = Counter(kind for each in started if (kind := each.kind()) is not None)
    settled = [each.among([kind for kind, _ in usual.most_common(1)]) for each in started]
    cases = [case for each in settled for case in _timed(each, alone=len(settled) == 1)]
    seen = _with_usual_channels([_seen(case) for case in cases], dataset.channel_names, asked)
    found = replace(dataset, cases=tuple(each.case for each in seen))
    return found, summary(seen)


def for_model(cases: Sequence[Case], asked: View, data: DataPlan) -> tuple[Seen, ...]:
    """The scans to predict with the view of each settled by what the model takes.

    asked : what a person says of all files; its channels are the model's, in its order

    A file of several scenes becomes a case for each.
    Raises DataError if other channels are asked for than the model has.
    """
    if asked.channels and len(asked.channels) != len(data.channels):
        raise DataError(
            "not as many channels as the model takes",
            where="--channels",
            expected=f"{len(data.channels)} ({', '.join(data.channels)})",
            got=", ".join(asked.channels),
        )
    view = replace(asked, names=data.channels) if asked.channels else asked
    kinds = [(data.dimensions, len(data.channels))]
    found = []
    for case in cases:
        for one in _scenes(case, view):
            settled = _started(one, view)
            if not asked.channels:
                settled = settled.among(kinds)
            found.append(_seen(_as_read(settled)))
    return tuple(found)


def summary(seen: Sequence[Seen]) -> tuple[str, ...]:
    """How the files are read: a line for each distinct way, with the number of files."""
    groups: dict[tuple[str, ...], list[Opened]] = {}
    files = set()
    for each in seen:
        # A film is one file, however many cases it gives.
        file = each.case.images, each.case.view.scene
        if (opened := each.opened) is not None and file not in files:
            files.add(file)
            spacing = in_units(opened.geometry, spatial_letters(opened))
            groups.setdefault((axes_of(opened).letters, spacing, *facts(opened)), []).append(opened)
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    lines = [
        f"{len(group)} x {letters} {_sizes(group)}, {', '.join(rest)}"
        for (letters, *rest), group in ordered[:_MOST_LINES]
    ]
    if len(ordered) > _MOST_LINES:
        left = sum(len(group) for _, group in ordered[_MOST_LINES:])
        others = counted(len(ordered) - _MOST_LINES, "other way")
        lines.append(f"{left} more, read in {others}")
    return tuple(lines)


def _sizes(group: Sequence[Opened]) -> str:
    """3x512x512, or 31..43x40..59 where they differ."""
    ranges = zip(*(axes_of(each).sizes for each in group), strict=True)
    low_high = [(min(sizes), max(sizes)) for sizes in ranges]
    return "x".join(str(a) if a == b else f"{a}..{b}" for a, b in low_high)


def _kind(found: Contents, letters: str) -> tuple[int, int]:
    pairs = list(zip(letters, found.shape, strict=True))
    space = sum(letter in "ZYX" for letter, _ in pairs)
    return space, next((size for letter, size in pairs if letter in "CS"), 1)


def _started(case: Case, asked: View) -> _Open:
    """The case with a person's word, and the readings that its mask leaves."""
    # What is chosen by name in each file is chosen when its names are known.
    view = replace(asked, mask_axes=case.view.mask_axes, time=case.view.time, scene=case.view.scene)
    case = replace(case, view=view)
    found = _contents(case)
    if found is None:
        return _Open(case, None)
    several = (*found.likely, *found.others)
    if len(case.images) > 1:
        # A channel file holds one channel.
        several = tuple(each for each in several if not set(each) & set("CS")) or found.likely
        return _Open(case, found, several)
    if len(several) > 1 and case.truth is not None and (mask := _mask_shape(case)) is not None:
        fits = tuple(each for each in several if grid(found, each) == mask)
        return _Open(case, found, fits or found.likely)
    return _Open(case, found, several if len(found.likely) > 1 or found.others else found.likely)


def _contents(case: Case) -> Contents | None:
    try:
        return contents(case.images[0], case.view)
    except DataError:
        return None


def _mask_shape(case: Case) -> tuple[int, ...] | None:
    try:
        return contents(case.truth, is_mask=True).shape if case.truth else None
    except DataError:
        return None


def _as_read(settled: _Open) -> Case:
    """The case with its reading, if one is left and the file does not say it by itself."""
    case, found = settled.case, settled.found
    if found is None or case.view.axes:
        return case
    fits = settled.fits
    if len(fits) > 1 and len(found.likely) == 1:
        fits = found.likely
    if len(fits) != 1 or fits == found.likely:
        return case
    return replace(case, view=replace(case.view, axes=fits[0]))


def _timed(settled: _Open, *, alone: bool) -> list[Case]:
    """A case for each time point that the mask has too."""
    case, found = _as_read(settled), settled.found
    if found is None or case.truth is None:
        return [case]
    letters = case.view.axes if len(case.view.axes) == len(found.shape) else found.likely[0]
    count = found.size(letters, "T")
    if count == 1 or _mask_shape(case) != grid(found, letters):
        return [case]
    mask_axes = "".join(letter for letter in letters if letter not in "CS")
    digits = len(str(count - 1))
    return [
        replace(
            case,
            name=f"{case.name}_t{time:0{digits}}",
            # Neighbours in time are alike: one must not validate what the other has taught.
            group=case.group if alone else case.name,
            view=replace(case.view, time=time, mask_axes=mask_axes),
        )
        for time in range(count)
    ]


def _scenes(case: Case, asked: View) -> list[Case]:
    """A case for each scene of its file."""
    found = _contents(replace(case, view=asked)) if len(case.images) == 1 else None
    if found is None or not found.scenes:
        return [case]
    digits = len(str(len(found.scenes) - 1))
    return [
        replace(case, name=f"{case.name}_s{scene:0{digits}}", view=replace(case.view, scene=scene))
        for scene in range(len(found.scenes))
    ]


def _seen(case: Case) -> Seen:
    view = case.view if case.view.time is not None else replace(case.view, time=0)
    try:
        return Seen(case, open_case(replace(case, view=view)))
    except DataError:
        return Seen(case, None)


def _with_usual_channels(seen: Sequence[Seen], described: Sequence[str], asked: View) -> list[Seen]:
    """Every case with the channels that are asked for, else with those that most files name.

    described : the names that a data set's description gives, which count more than the files'
    """
    if asked.channels:
        return _with_chosen_channels(seen, described, asked)
    if described:
        return [_changed(each, lambda view: replace(view, names=tuple(described))) for each in seen]
    named = [each.opened.channels for each in seen if each.opened and _are_named(each.opened)]
    if not named:
        return list(seen)
    # In any order, in any case.
    folded = Counter(frozenset(map(str.casefold, names)) for names in named)
    most = folded.most_common(1)[0][0]
    usual = next(names for names in named if frozenset(map(str.casefold, names)) == most)

    def with_usual(each: Seen) -> Seen:
        if each.opened is None or each.opened.channels == usual:
            return each
        if len(each.case.images) > 1 or not _are_named(each.opened):
            return each
        return _changed(each, lambda view: replace(view, channels=usual, names=usual))

    return [with_usual(each) for each in seen]


def _are_named(opened: Opened) -> bool:
    """Whether there are several channels with names, other than the colours of a picture."""
    several = len(opened.channels) > 1 and not opened.is_picture
    return several and have_names(opened.channels)


def _with_chosen_channels(
    seen: Sequence[Seen], described: Sequence[str], asked: View
) -> list[Seen]:
    """The channels that are asked for, called as the first file has them."""
    view = asked
    if described:
        places = chosen(asked.channels, described)
        names = tuple(described[k] for k in places)
        view = replace(asked, channels=tuple(map(str, places)), names=names)
    else:
        first = next((each.opened.channels for each in seen if each.opened), ())
        if len(first) == len(asked.channels):
            view = replace(asked, names=first)
    return [
        _changed(each, lambda own: replace(own, channels=view.channels, names=view.names))
        for each in seen
    ]


def _changed(each: Seen, change: Callable[[View], View]) -> Seen:
    case = replace(each.case, view=change(each.case.view))
    return each if case == each.case else _seen(case)
