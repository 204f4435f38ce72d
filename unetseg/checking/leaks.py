"""One patient in several parts of a set: what is learned of them is then asked of them."""

import re
from collections.abc import Iterator, Mapping, Sequence

from unetseg.dataset.listing import some
from unetseg.records import Case, Finding

# What a patient's or specimen's own name looks like wherever it stands in a file name.
_WORDS = r"(?:sub|subj|subject|patient|pat|pt|participant|donor|animal|mouse|rat|slide)"
_PATTERNS = (
    r"(?i)(?:^|[^a-z])(" + _WORDS + r"[-_ ]?[0-9]+)",
    r"(TCGA-[0-9A-Z]{2}-[0-9A-Z]{4})",
)
# A name with a number, and more after it: A07_slice3.
_STRUCTURE = r"^([^0-9]*[0-9]+)[-_. ]+[^-_. ]"
_LEAST_MATCHING, _LEAST_GROUPS = 0.8, 3
# More are told in one sentence.
_MOST_TOLD = 5


def on_leaks(cases: Sequence[Case], parts: Mapping[str, str]) -> Iterator[Finding]:
    """Patients, or what looks like them by the names of the files, in several parts.

    cases : with their groups, if somebody gave any
    parts : what each case is for, by its name: "train", "test", "fold 2"
    """
    if any(case.group is not None for case in cases):
        groups = {case.name: case.group for case in cases if case.group is not None}
        yield from _spread(cases, groups, parts, "the group", "put each group into one part")
        return
    for pattern in _PATTERNS:
        groups = _matched(cases, pattern)
        if found := list(
            _spread(cases, groups, parts, "what looks like the patient", _hint(cases, pattern))
        ):
            yield from found
            return
    groups = _matched(cases, _STRUCTURE)
    few = len(groups) < _LEAST_MATCHING * len(cases)
    if few or not _LEAST_GROUPS <= len(set(groups.values())) < len(groups):
        return
    yield from _spread(
        cases, groups, parts, "what looks like the specimen", _hint(cases, _STRUCTURE)
    )


def _matched(cases: Sequence[Case], pattern: str) -> dict[str, str]:
    """What stands for the patient in each name that has it, spelt in one way."""
    found = {}
    for case in cases:
        if match := re.search(pattern, case.name.rpartition("/")[2]):
            found[case.name] = re.sub(r"[-_ ]", "", match[1]).casefold()
    return found


def _hint(cases: Sequence[Case], pattern: str) -> str:
    shown = pattern.replace("^", "(?:^|/)", 1) if pattern.startswith("^") else pattern
    if all(re.search(shown, case.name) for case in cases if case.truth and case.split != "test"):
        return f"if it is one, keep its images together by --group '{shown}'"
    return "if it is one, keep its images together: a CSV list with a column for it, and --group"


def _spread(
    cases: Sequence[Case], groups: Mapping[str, str], parts: Mapping[str, str], noun: str, hint: str
) -> Iterator[Finding]:
    members: dict[str, list[Case]] = {}
    for case in cases:
        if case.name in groups and case.name in parts:
            members.setdefault(groups[case.name], []).append(case)
    torn = {
        group: found
        for group, found in members.items()
        if len({parts[case.name] for case in found}) > 1
    }
    if not torn:
        return
    if len(torn) > _MOST_TOLD:
        names = tuple(case.name for found in torn.values() for case in found)
        sentence = f"{len(torn)} times {noun} is in several parts: {some(torn)}"
        yield Finding("warning", "cases", sentence, hint, "leak", names)
        return
    for group, found in torn.items():
        where = [f"{case.name} ({parts[case.name]})" for case in found]
        yield Finding(
            "warning",
            str(found[0].images[0]),
            f"{noun} {group} is in several parts: {some(where)}",
            hint,
            "leak",
            tuple(case.name for case in found),
        )
