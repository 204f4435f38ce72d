"""The cases prepared by all ranks together: each is prepared once, wherever the caches lie."""

from collections.abc import Sequence
from pathlib import Path

from unetseg.config import Plan
from unetseg.dataset.listing import some
from unetseg.errors import DataError
from unetseg.pipeline.cache import CachedCase, prepare_cases
from unetseg.records import Case, Event, Listener, Note, ignore_event
from unetseg.training.ranks import Ranks


def prepare_together(
    cases: Sequence[Case],
    plan: Plan,
    folder: Path,
    ranks: Ranks,
    *,
    cores: int,
    skip_bad: bool,
    listener: Listener,
) -> tuple[CachedCase, ...]:
    """Prepare the cases that are not in the cache yet; the same cases, in order, on every rank.

    cores : of this machine, which its ranks share

    Raises as `prepare_cases`, and DataError if a case cannot be prepared on this machine alone.
    """

    def prepared(part: Sequence[Case], hears: Listener) -> tuple[CachedCase, ...]:
        return prepare_cases(
            part,
            plan,
            folder,
            cores=max(1, cores // ranks.local_count),
            skip_bad=skip_bad,
            listener=hears,
        )

    if ranks.count == 1:
        return prepared(cases, listener)

    def without_notes(event: Event) -> None:
        if not isinstance(event, Note):
            listener(event)

    def only_notes(event: Event) -> None:
        if isinstance(event, Note):
            listener(event)

    prepared(cases[ranks.rows], without_notes)
    ranks.wait()
    # Nothing is left to do if all machines share a cache; else each prepares what it lacks.
    prepared(cases[ranks.local_index :: ranks.local_count], ignore_event)
    ranks.wait()
    done = {cached.case.name: cached for cached in prepared(cases, only_notes)}
    names = ranks.told(list[str], lambda: list(done))
    missing = [name for name in names if name not in done]
    if missing:
        raise DataError(
            f"cannot be prepared here, though the first rank could: {some(missing)}",
            where=ranks.name,
            hint="look whether this machine sees the same files",
        )
    return tuple(done[name] for name in names)
