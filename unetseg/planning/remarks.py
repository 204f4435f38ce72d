"""What a person should know of the cases, told from their facts."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from unetseg.dataset.listing import counted, some
from unetseg.errors import GridMismatch, UnetsegError
from unetseg.planning.facts import CaseFacts
from unetseg.records import Case, Finding

if TYPE_CHECKING:
    from unetseg.planning.fingerprint import Fingerprint


def failure(case: Case, error: UnetsegError, *, is_left_out: bool) -> Finding:
    """A case that cannot be used, and why."""
    hint = error.hint or "mend or remove it, or go on without it by --skip-bad"
    text = str(error).removeprefix(f"{error.where}: ").removesuffix(f"; {error.hint}")
    kind = "unreadable"
    if isinstance(error, GridMismatch):
        kind = "grid"
    elif case.truth is not None and error.where == str(case.truth):
        kind = "mask-values"
    where = error.where or case.name
    return Finding("warning" if is_left_out else "error", where, text, hint, kind, (case.name,))


def together(facts: Sequence[CaseFacts]) -> Iterable[Finding]:
    """Cases that cannot be of one set with the majority."""
    for what, kinds in (
        ("axes", [len(f.shape) for f in facts]),
        ("unit", [f.unit for f in facts]),
    ):
        usual = Counter(kinds).most_common(1)[0][0]
        for fact, kind in zip(facts, kinds, strict=True):
            if kind != usual:
                yield Finding(
                    "error",
                    fact.name,
                    f"{what}: {kind}, most cases have {usual}",
                    "keep cases of one kind in a set",
                    what,
                    (fact.name,),
                )
    numbers = {len(f.channels) for f in facts if not f.is_picture}
    if len(numbers) > 1 or (numbers and any(f.is_picture for f in facts) and numbers != {1, 3}):
        usual = Counter(len(f.channels) for f in facts).most_common(1)[0][0]
        for fact in facts:
            if len(fact.channels) != usual:
                yield Finding(
                    "error",
                    fact.name,
                    f"channels: {len(fact.channels)}, most cases have {usual}",
                    "every case needs the same channels",
                    "channels",
                    (fact.name,),
                )


def on_labels(fingerprint: "Fingerprint", facts: Sequence[CaseFacts]) -> Iterable[Finding]:
    values = [v for v, _ in fingerprint.label_counts]
    foreground = [v for v in values if v]
    if not foreground:
        sentence, hint = "every mask is background only", "draw what to segment"
        yield Finding("error", "masks", sentence, hint, "empty-mask")
    if len(facts) == 1 and len(foreground) > 20 and not fingerprint.label_names:
        yield Finding(
            "note",
            "masks",
            f"{len(foreground)} label values in the only image are taken as classes",
            "if they number objects, give --task instances",
            "objects",
        )
    bare = [f.name for f in facts if f.classes is None]
    if fingerprint.object_classes and bare:
        sentence = f"{counted(len(bare), 'mask')} without a table of classes: {some(bare)}"
        hint = "every mask needs one, or none does"
        yield Finding("error", "masks", sentence, hint, "object-classes", tuple(bare))
    unknown = [f.name for f in facts if not f.counts]
    if unknown:
        holds = "holds" if len(unknown) == 1 else "hold"
        which = f"{counted(len(unknown), 'mask')} {holds}"
        sentence = f"{which} nothing but the ignored value: {some(unknown)}"
        hint = "nothing can be learned from them"
        yield Finding("warning", "masks", sentence, hint, "empty-mask", tuple(unknown))
    empty = [f.name for f in facts if f.counts and not any(v for v, _ in f.counts)]
    if empty and foreground:
        are = "is" if len(empty) == 1 else "are"
        sentence = f"{counted(len(empty), 'mask')} {are} background only: {some(empty)}"
        yield Finding("warning", "masks", sentence, "are they?", "empty-mask", tuple(empty))
    if (
        fingerprint.ignore_value is None
        and 255 in values
        and 2 <= len(foreground) <= 100
        and not fingerprint.looks_like_objects
        and sorted(foreground)[-2] < 128
    ):
        yield Finding(
            "note",
            "masks",
            "the value 255 stands apart from the others and is taken as a class",
            "if it means 'not known', give --ignore-label 255",
            "ignored",
        )
