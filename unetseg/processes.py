"""This process's cores, and processes that it starts: how, and what is said of one that failed."""

import os
import sys
from pathlib import Path

from unetseg.errors import UnetsegError

GO_ON = "the same command goes on with the run"


class ProcessFailed(UnetsegError):
    """A process that was started here came to nothing; it has the exit code of its fault."""

    def __init__(self, what: str, exit_code: int, *, where: str = "", hint: str = GO_ON) -> None:
        super().__init__(what, where=where, hint=hint)
        self.exit_code = exit_code


def usable_cores() -> int:
    """How many cores this process may use; others may be busy with another one."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def python(*words: str) -> list[str]:
    """A command of this Python, which looks into the current folder only if this process does."""
    is_safe = str(Path.cwd()) not in sys.path and "" not in sys.path
    return [sys.executable, *(["-P"] if is_safe else []), *words]


def how_ended(code: int) -> str:
    """What became of a process by its exit code, negative for a signal."""
    if code >= 0:
        return f"ended by itself (code {code})"
    text = f"was killed (signal {-code})"
    return f"{text}; the system kills what takes too much memory" if code == -9 else text
