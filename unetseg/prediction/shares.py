"""A part of the scans for each of several processes that do not know of one another."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from unetseg.errors import UsageError

T = TypeVar("T")

_SLURM = "SLURM_ARRAY_TASK_"
_FORMS = "such as 0/4 to 3/4, auto, or auto/4"


@dataclass(frozen=True)
class Share:
    """Every `count`-th thing from `index` on, which is counted from 0.

    card : the process's number on its machine, where torchrun has given it one
    """

    index: int
    count: int
    card: int | None = None

    def of(self, things: Sequence[T]) -> list[T]:
        """This share's things; all shares together have each thing once."""
        return list(things[self.index :: self.count])

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def share_of(text: str, environment: Mapping[str, str]) -> Share:
    """0/4 as the first of four; auto as a scheduler's variables say; auto/4 with its number of 4.

    auto reads SLURM_ARRAY_TASK_ID among _MIN to _MAX, or RANK of WORLD_SIZE (torchrun). auto/N
    takes the number itself, counted from 0, also from JOB_COMPLETION_INDEX (Kubernetes).

    Raises UsageError if there is no such share, or not one scheduler that names it.
    """
    if found := re.fullmatch(r"(\d+)/(\d+)", text):
        return _checked(int(found[1]), int(found[2]), text)
    found = re.fullmatch(r"auto(?:/(\d+))?", text)
    if not found:
        raise UsageError("not a share", where="--shard", expected=_FORMS, got=text)
    count = int(found[1]) if found[1] else None
    given = [
        name for name in (f"{_SLURM}ID", "RANK", "JOB_COMPLETION_INDEX") if environment.get(name)
    ]
    if len(given) != 1:
        raise UsageError(
            "several schedulers say which share this is"
            if given
            else "no scheduler says which share this is",
            where=f"--shard {text}",
            expected=f"one of {_SLURM}ID, RANK and JOB_COMPLETION_INDEX",
            got=", ".join(given) or "none of them",
            hint="give the share by its number, such as --shard 0/4",
        )
    if given == ["RANK"]:
        return _of_torchrun(environment, count, text)
    index = _number(environment, given[0])
    if count is None and given == ["JOB_COMPLETION_INDEX"]:
        raise UsageError(
            "JOB_COMPLETION_INDEX does not say of how many",
            where="--shard auto",
            hint="give the number of completions, such as --shard auto/8",
        )
    if count is None:
        first, last, count = (
            _number(environment, f"{_SLURM}{name}") for name in ("MIN", "MAX", "COUNT")
        )
        if last - first + 1 != count:
            raise UsageError(
                "the array's numbers leave gaps",
                where="--shard auto",
                expected=f"{count} numbers in a row",
                got=f"{first} to {last}",
                hint="number the array from 0, and give --shard auto/N with its whole size",
            )
        index -= first
    return _checked(index, count, text)


def _of_torchrun(environment: Mapping[str, str], count: int | None, text: str) -> Share:
    index, processes = (_number(environment, name) for name in ("RANK", "WORLD_SIZE"))
    if count not in (None, processes):
        raise UsageError(
            "not the number of torchrun's processes",
            where=f"--shard {text}",
            expected=processes,
            got=count,
            hint="give --shard auto",
        )
    card = _number(environment, "LOCAL_RANK") if environment.get("LOCAL_RANK") else None
    share = _checked(index, processes, text)
    return Share(share.index, share.count, card)


def _checked(index: int, count: int, text: str) -> Share:
    if not 0 <= index < count:
        raise UsageError(
            "no such share",
            where=f"--shard {text}",
            expected=f"a number from 0 to {count - 1}" if count else "shares of 1 or more",
            got=index,
            hint="shares are counted from 0",
        )
    return Share(index, count)


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name, "")
    if not re.fullmatch(r"\d+", text):
        raise UsageError(
            "not a number",
            where=f"--shard auto, {name}",
            got=text or "nothing",
            hint="give the share by its number, such as --shard 0/4",
        )
    return int(text)
