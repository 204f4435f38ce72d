"""The rows of the history as TensorBoard event files, where TensorBoard is installed."""

import math
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import time_ns
from typing import TYPE_CHECKING

from unetseg.records import EpochDone, Listener, Note

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter


class Board:
    """A curve per number of the history; every command that trains writes a file of its own.

    told : the step of the last row that stands; what an earlier command wrote of later steps is
        taken back
    """

    def __init__(self, folder: Path, told: int, listener: Listener) -> None:
        self._folder, self._told, self._listener = folder, told, listener
        self._writer: RecordWriter | None = None
        self._is_off = False

    def add(self, row: EpochDone, columns: Sequence[str]) -> None:
        """Write the row's numbers; without TensorBoard, nothing. A full disk is a warning only."""
        if self._is_off:
            return
        try:
            from tensorboard.compat.proto.event_pb2 import Event
            from tensorboard.compat.proto.summary_pb2 import Summary
        except ImportError:
            self._is_off = True
            return
        values = [Summary.Value(tag=t, simple_value=v) for t, v in curves(row, columns)]
        event = Event(wall_time=time_ns() / 1e9, step=row.step, summary=Summary(value=values))
        try:
            if self._writer is None:
                self._begin()
            self._write(event)
        except OSError as error:
            self._is_off = True
            text = f"{self._folder}: no more TensorBoard curves: {error.strerror or error}"
            self._listener(Note(text, "warning"))

    def _begin(self) -> None:
        """Begin a file, which says from which step on older ones no longer count."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._folder.mkdir(parents=True, exist_ok=True)
        seconds, rest = divmod(time_ns(), 10**9)
        # Files are read in the order of their names.
        name = f"events.out.tfevents.{seconds:010d}.{rest:09d}.{socket.gethostname()}.{os.getpid()}"
        self._writer = RecordWriter((self._folder / name).open("wb"))
        first = {"wall_time": seconds + rest / 1e9, "step": self._told + 1}
        self._write(Event(file_version="brain.Event:2", **first))
        self._write(Event(session_log=SessionLog(status=SessionLog.START), **first))

    def _write(self, event: "Event") -> None:
        if self._writer is not None:
            self._writer.write(event.SerializeToString())
            self._writer.flush()

    def close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                writer.close()
            except OSError:
                # Every row was flushed, or its failure was told.
                self._is_off = True


def curves(row: EpochDone, columns: Sequence[str]) -> Iterator[tuple[str, float]]:
    """Name and value of every number that the row has; what was not measured has no point."""
    key, parts = row.score.lower(), zip(columns, row.values, strict=True)
    values = {
        "loss": row.loss,
        "learning_rate": row.learning_rate,
        f"mean_{key}": row.mean,
        **{f"{key}/{column}": value for column, value in parts},
        "steps_per_second": row.steps_per_second,
        "waiting": row.waiting,
    }
    yield from ((name, value) for name, value in values.items() if not math.isnan(value))
