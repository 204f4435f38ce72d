"""A picture of the page by an installed Chromium, without a window."""

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory
from threading import Timer
from typing import Any, BinaryIO

from unetseg.errors import DataError, UsageError
from unetseg.files import replacing

NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "microsoft-edge",
    "microsoft-edge-stable",
)
_IN_APPLICATIONS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
)
_WINDOW = (1400, 900)
_OPTIONS = (
    # WebGL without a graphics card.
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    # Nothing but the page.
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--disable-quic",
    "--hide-scrollbars",
)
_PATIENCE_SECONDS = 120.0


def browser() -> Path:
    """An installed Chromium. Raises UsageError, with the names that were looked for, if none is."""
    if not hasattr(os, "fork"):
        raise UsageError(
            "pictures of the page are not made on this system",
            where="--screenshot",
            hint="open the page and take one there",
        )
    found = [path for path in map(which, NAMES) if path]
    found += [path for path in _IN_APPLICATIONS if Path(path).is_file()]
    if not found:
        raise UsageError(
            "no Chromium is installed",
            where="--screenshot",
            expected=", ".join(NAMES),
            hint="install one, or open the page and take a picture there",
        )
    return Path(found[0])


def options() -> tuple[str, ...]:
    """What a Chromium without a window and without a graphics card is started with."""
    # Chromium refuses to start as root with its sandbox.
    is_root = hasattr(os, "getuid") and os.getuid() == 0
    return (*_OPTIONS, "--no-sandbox") if is_root else _OPTIONS


def write_screenshot(url: str, path: Path) -> None:
    """Write a PNG of the page as soon as it says that it is drawn.

    Raises UsageError if there is no browser, DataError if the page shows a failure or is not drawn
    in two minutes.
    """
    program = browser()
    with replacing(path) as temporary, _started(program) as page:
        page.ask("Page.navigate", url=url)
        page.wait_until_drawn()
        found = page.ask("Page.captureScreenshot", format="png")
        temporary.write_bytes(base64.b64decode(found["data"]))


class _Page:
    """A page, spoken to over two pipes in the DevTools protocol: JSON, each ended by a zero byte.

    Source: https://chromedevtools.github.io/devtools-protocol/
    """

    def __init__(self, writing: BinaryIO, reading: BufferedReader) -> None:
        self._writing, self._reading = writing, reading
        self._read = b""
        self._count = 0
        self._session: str | None = None
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """What the browser answers. Raises DataError if it refuses or has ended."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        with suppress(BrokenPipeError):
            self._writing.write(json.dumps(message).encode() + b"\0")
            self._writing.flush()
        while True:
            answer = json.loads(self._next() or "null")
            if answer is None:
                raise DataError(
                    "the browser has ended",
                    where="--screenshot",
                    hint="start it by hand and look why",
                )
            if answer.get("id") == self._count:
                if "error" in answer:
                    raise DataError(f"the browser refuses: {answer['error'].get('message')}")
                result: dict[str, Any] = answer["result"]
                return result

    def _next(self) -> bytes:
        """A message; empty if the browser has ended."""
        while b"\0" not in self._read:
            more = self._reading.read1(1 << 16)
            if not more:
                return b""
            self._read += more
        found, _, self._read = self._read.partition(b"\0")
        return found

    def wait_until_drawn(self) -> None:
        """Raises DataError with what the page says, or after two minutes."""
        end = time.monotonic() + _PATIENCE_SECONDS
        said = "document.documentElement.dataset"
        asked = f"{said}.failed ? 'failed ' + {said}.failed : {said}.drawn"
        while time.monotonic() < end:
            found = self.ask("Runtime.evaluate", expression=asked)["result"].get("value") or ""
            if found.startswith("failed"):
                raise DataError(found.removeprefix("failed "))
            if found:
                return
            time.sleep(0.05)
        raise DataError("the page is not drawn in two minutes", where="--screenshot")


@contextmanager
def _started(program: Path) -> Iterator[_Page]:
    # Chromium reads from its descriptor 3 and writes to its descriptor 4.
    to_read, writing = _pipe()
    reading, to_write = _pipe()
    with TemporaryDirectory(prefix="unetseg-", ignore_cleanup_errors=True) as profile:
        command = [str(program), *options(), "--headless=new", "--remote-debugging-pipe"]
        command += [f"--window-size={_WINDOW[0]},{_WINDOW[1]}", f"--user-data-dir={profile}"]
        process = _spawned([*command, "about:blank"], to_read, to_write)
        os.close(to_read)
        os.close(to_write)
        # A browser that says nothing more is not waited for.
        watch = Timer(2 * _PATIENCE_SECONDS, process.kill)
        watch.daemon = True
        watch.start()
        try:
            with os.fdopen(writing, "wb") as w, os.fdopen(reading, "rb") as r:
                yield _Page(w, r)
        finally:
            watch.cancel()
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


# Puts two pipes where Chromium looks for them, and becomes Chromium.
_BECOME = """
import os, sys
for end, place in zip(sys.argv[1:3], (3, 4)):
    os.dup2(int(end), place)
os.execv(sys.argv[3], sys.argv[3:])
"""


def _spawned(command: Sequence[str], to_read: int, to_write: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _BECOME, str(to_read), str(to_write), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(to_read, to_write),
    )


def _pipe() -> tuple[int, int]:
    """Both ends of a pipe, to read and to write, away from the numbers that Chromium looks at."""
    # Not at the top: systems without it make no pictures.
    import fcntl

    ends = os.pipe()
    moved = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
    for end in ends:
        os.close(end)
    return moved[0], moved[1]
