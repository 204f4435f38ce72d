"""The process that trains one of several folds: `python -m unetseg.training.fold_process`.

It is told what to do by a line of JSON on stdin, and to stop by a second one; where stdin ends
before, whoever has started it is gone. What it says goes to stdout, a line of JSON each: the events
of the training, and last what has become of it. No pickle is opened on either side.
"""

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event as Flag
from threading import Thread

from pydantic import TypeAdapter

from unetseg.config import Plan
from unetseg.errors import UnetsegError
from unetseg.planning.fingerprint import Inspection
from unetseg.records import EpochDone, Event, Listener, Note, Progress, View
from unetseg.training.fold import FoldTraining, train_fold
from unetseg.training.ranks import plain
from unetseg.training.request import Request

STOP = b"stop"
Told = EpochDone | Note | Progress
Work = Callable[[str, Listener, Callable[[], bool]], bool]


@dataclass(frozen=True)
class Ended:
    """What has become of the work.

    finished : False if it was asked to stop
    fault : why it failed; a traceback where there is no exit code
    """

    finished: bool
    fault: str = ""
    exit_code: int | None = None


@dataclass(frozen=True)
class _Order:
    """A FoldTraining as it travels, without what is of the first process alone."""

    plan: Plan
    found: Inspection
    fold: int
    device: str
    minutes: float | None
    data: Path
    run: Path
    cache: Path | None
    skip_bad: bool
    view: View
    started: float
    command: str


_ORDERS = TypeAdapter(_Order)
_KINDS: dict[str, type] = {kind.__name__: kind for kind in (EpochDone, Note, Progress, Ended)}


def order(training: FoldTraining) -> str:
    """What tells the process to do this training."""
    asked = training.request
    own = _Order(
        training.plan,
        training.found,
        training.fold,
        training.device,
        training.minutes,
        asked.data,
        asked.run,
        asked.prepared,
        asked.skip_bad,
        asked.view,
        asked.started,
        asked.command,
    )
    return json.dumps(_ORDERS.dump_python(own), default=plain)


def _training(text: str) -> FoldTraining:
    own = _ORDERS.validate_python(json.loads(text))
    request = Request(
        own.data,
        own.run,
        device=own.device,
        skip_bad=own.skip_bad,
        cache=own.cache,
        view=own.view,
        started=own.started,
        command=own.command,
    )
    return FoldTraining(request, own.plan, own.found, own.fold, own.device, own.minutes)


def line_of(said: Told | Ended) -> bytes:
    """A line for what is said."""
    return json.dumps([type(said).__name__, asdict(said)], default=plain).encode() + b"\n"


def said_in(line: bytes) -> Told | Ended:
    """What a line says; the inverse of `line_of`."""
    name, content = json.loads(line)
    said: Told | Ended = TypeAdapter(_KINDS[name]).validate_python(content)
    return said


def serve(work: Work) -> None:
    """Do what stdin asks for, and say on stdout what happens.

    work : is given the order, whom to tell, and whether to stop; False if it did stop
    """
    # The first process decides what a Ctrl-C or a SIGTERM means, which may come to all.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    wire = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    # Whatever else is printed must not come between.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    asked, stop = _lines(sys.stdin.fileno()), Flag()
    text = next(asked, b"").decode()

    def watch() -> None:
        for line in asked:
            if line == STOP:
                stop.set()
        os._exit(1)

    def tell(said: Event | Ended) -> None:
        if isinstance(said, Told | Ended):
            # Nobody may listen any more.
            with suppress(OSError):
                wire.write(line_of(said))

    Thread(target=watch, daemon=True).start()
    try:
        ended = Ended(finished=work(text, tell, stop.is_set))
    except UnetsegError as error:
        ended = Ended(finished=False, fault=str(error), exit_code=error.exit_code)
    except KeyboardInterrupt:
        return
    # It is raised by the first process, whose command decides what a person sees of it.
    except Exception:  # noqa: BLE001
        ended = Ended(finished=False, fault=traceback.format_exc())
    tell(ended)


def _lines(source: int) -> Iterator[bytes]:
    """What is written to a pipe; unbuffered, as a lock of a buffer would hold up Python's end."""
    rest = b""
    while chunk := os.read(source, 1 << 16):
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole


def _train(text: str, listener: Listener, should_stop: Callable[[], bool]) -> bool:
    return train_fold(_training(text), listener, should_stop) is not None


if __name__ == "__main__":
    serve(_train)
