"""`--devices`: the same command once more for each device, and what becomes of all of them."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import IO

from unetseg.processes import ProcessFailed, how_ended, python, usable_cores

# A rank that has lost another one ends with this code, and leaves it to the other to say why.
LOST = 75
_PARENT = "UNETSEG_PARENT"
_POLL_SECONDS = 0.05
# What is left after the first failure: the others notice it, and the first saves the state.
_OTHERS_SECONDS, _FIRST_SECONDS = 3.0, 30.0


def is_started() -> bool:
    """Whether this process is one of those that `--devices` has started."""
    return _PARENT in os.environ


def end_with_parent() -> None:
    """End at once, as by `kill -9`, when the process that has started this one is gone."""
    parent = int(os.environ[_PARENT])

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def start(cards: Sequence[int], *, debug: bool) -> int:
    """Run this command in a process for each card, numbered from 0; the exit code of the first.

    debug : show all that the process at fault has said

    Raises ProcessFailed if another than the first came to nothing, or the first was killed.
    """
    with _Processes.begun(cards) as processes:
        return processes.wait(debug=debug)


def variables(rank: int, cards: Sequence[int], port: int) -> dict[str, str]:
    """What torchrun would set, for one of the processes on this machine."""
    count, given = len(cards), os.environ
    result = {
        "RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": given.get("OMP_NUM_THREADS", str(max(1, usable_cores() // count))),
        _PARENT: str(os.getpid()),
    }
    if tuple(cards) != tuple(range(count)):
        # By their place among those that this process may see.
        visible = [name for name in given.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        names = [visible[card] if card < len(visible) else str(card) for card in cards]
        result["CUDA_VISIBLE_DEVICES"] = ",".join(names)
    return result


@dataclass
class _Processes:
    """The ranks of one training on this machine, the first of which has the terminal.

    said : what each of the others writes to stderr, shown only if it is at fault
    signals : how many were passed on to the first
    """

    processes: list[subprocess.Popen[bytes]]
    said: list[IO[bytes]]
    signals: int = 0

    @classmethod
    def begun(cls, cards: Sequence[int]) -> "_Processes":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        result = cls([], [])
        for rank in range(len(cards)):
            said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the processes
            result.said.append(said)
            result.processes.append(
                subprocess.Popen(
                    _command(),
                    env={**os.environ, **variables(rank, cards, port)},
                    stdin=subprocess.DEVNULL,
                    stdout=None if rank == 0 else subprocess.DEVNULL,
                    stderr=None if rank == 0 else said,
                    # A Ctrl-C comes to this process, which passes it on once.
                    start_new_session=True,
                )
            )
        return result

    def __enter__(self) -> "_Processes":
        numbers = (signal.SIGINT, signal.SIGTERM)
        self._before = [(number, signal.signal(number, self._pass_on)) for number in numbers]
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        for file in self.said:
            file.close()
        for number, handler in self._before:
            signal.signal(number, handler)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.signals += 1
        self.processes[0].send_signal(number)

    def _codes(self) -> dict[int, int]:
        codes = ((rank, process.poll()) for rank, process in enumerate(self.processes))
        return {rank: code for rank, code in codes if code is not None}

    def wait(self, *, debug: bool) -> int:
        """The code of the first, once all have ended or one has failed; see `start`."""
        codes = self._codes()
        while not (0 in codes or any(codes.values()) or self.signals > 1):
            time.sleep(_POLL_SECONDS)
            codes = self._codes()
        begun = time.monotonic()
        while len(codes) < len(self.processes):
            patience = _OTHERS_SECONDS if 0 in codes else _FIRST_SECONDS
            if time.monotonic() - begun > patience:
                break
            time.sleep(_POLL_SECONDS)
            codes = self._codes()
        return self._told(codes, debug=debug)

    def _told(self, codes: Mapping[int, int], *, debug: bool) -> int:
        first = codes.get(0, LOST)
        if first >= 0 and first != LOST:
            # It has said what there is to say.
            return first
        if self.signals > 1:
            raise KeyboardInterrupt
        failed = [rank for rank, code in sorted(codes.items()) if code not in (0, LOST)]
        if not failed:
            raise ProcessFailed("the processes have lost one another", 5)
        rank = failed[0]
        name, code = f"rank {rank} of {len(self.processes)}", codes[rank]
        self.said[rank].seek(0)
        text = self.said[rank].read().decode(errors="backslashreplace")
        if debug:
            sys.stderr.write(text)
        if code < 0:
            raise ProcessFailed(f"{name} {how_ended(code)}", 5)
        lines = [line for line in text.splitlines() if line.strip()] or ["ended"]
        raise ProcessFailed(f"{name}: {lines[-1].removeprefix('error: ')}", code, hint="")


def _command() -> list[str]:
    return python("-m", "unetseg.cli", *sys.argv[1:])
