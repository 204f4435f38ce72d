"""Threads that do one thing after another, and keep no process alive."""

from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")

# By which a process that ends can tell its own threads from those of libraries.
NAME = "unetseg-"


class Hand:
    """A thread that does what it is given in that order; it ends with the process, at any moment.

    concurrent.futures' own threads are waited for at the end of the process: one that reads a huge
    file would hold it after a Ctrl-C.
    """

    def __init__(self, name: str) -> None:
        self._tasks: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name=NAME + name, daemon=True)
        self._thread.start()

    def do(self, work: Callable[[], T]) -> Future[T]:
        """Have it done after all that was given before."""
        future: Future[T] = Future()
        self._tasks.put((future, work))
        return future

    def close(self, *, wait: bool) -> None:
        """Take nothing more; with `wait`, return when all that was given is done."""
        self._tasks.put(None)
        if wait:
            self._thread.join()

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            future, work = task
            if future.set_running_or_notify_cancel():
                try:
                    result = work()
                # Whatever it is, it is raised where the result is asked for.
                except BaseException as error:  # noqa: BLE001
                    future.set_exception(error)
                else:
                    future.set_result(result)
                    del result
            # A scan must not stay in memory until the next task comes.
            del task, future, work
