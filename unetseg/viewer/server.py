"""The local server: read-only, for those who know the token, and for nothing but what is shown."""

import hmac
import json
import math
import re
import secrets
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from threading import Event, Lock, Thread
from typing import Any
from urllib.parse import parse_qs

from unetseg.errors import UnetsegError, UsageError, one_line
from unetseg.version import __version__
from unetseg.viewer.entries import Exhibit
from unetseg.viewer.facts import ExhibitFacts, ListedCase
from unetseg.viewer.planes import Place
from unetseg.viewer.subject import Moment, Subject

# Where the server listens: this computer alone.
HOST = "127.0.0.1"
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = (
    ("Content-Security-Policy", _POLICY),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)
_HTML, _SCRIPT, _STYLE = "text/html; charset=utf-8", "text/javascript; charset=utf-8", "text/css"
_TEXT, _JSON, _BYTES = "text/plain; charset=utf-8", "application/json", "application/octet-stream"
# The page's own files by name: folder, file, type.
_OWN = {
    "": ("web", "page.html", _HTML),
    "page.css": ("web", "page.css", _STYLE),
    "niivue.js": ("vendor", "niivue.umd.js", _SCRIPT),
} | {
    name: ("web", name, _SCRIPT)
    for name in (
        "page.js",
        "image.js",
        "volume.js",
        "tiles.js",
        "outlines.js",
        "panel.js",
        "reading.js",
        "scalebar.js",
    )
}
_CASE = re.compile(
    r"cases/(?P<case>\d{1,6})/(?:(?P<facts>facts\.json)|(?P<scan>scan\.nii)"
    r"|masks/(?P<mask>\d{1,4})(?:(?P<nifti>\.nii)|/(?P<colours>colours))"
    r"|tiles/(?P<tile>\d{1,2}/\d{1,6}/\d{1,6})"
    r"|masks/(?P<of>\d{1,4})/tiles/(?P<mask_tile>\d{1,2}/\d{1,6}/\d{1,6}))"
)
# Cases of a run that stay open.
_OPEN = 3

Parts = tuple[bytes | memoryview, ...]


class Viewer:
    """A server that shows an exhibit until it is closed.

    port : 0 takes a free one

    Raises UsageError if the port is taken.
    """

    def __init__(self, exhibit: Exhibit, port: int = 0) -> None:
        self.exhibit = exhibit
        self.token = secrets.token_urlsafe(24)
        self._open: OrderedDict[int, Subject] = OrderedDict()
        self._lock = Lock()
        self._closing = Event()
        handler = type("Handler", (_Handler,), {"viewer": self})
        try:
            self._server = _Server((HOST, port), handler)
        except (OSError, OverflowError) as error:
            raise UsageError(
                f"cannot listen: {getattr(error, 'strerror', None) or error}",
                where=f"--port {port}",
                hint="leave it out, and a free port is taken",
            ) from error
        self.port = int(self._server.server_address[1])
        self._thread = Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/{self.token}/"

    def __enter__(self) -> "Viewer":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def check(self) -> None:
        """Raises UnetsegError if the first case cannot be shown."""
        self.subject(0).facts(Moment())

    def open(self) -> None:
        """Show the page in the browser of this computer, if it has one."""
        import webbrowser

        webbrowser.open(self.url)

    def wait(self) -> None:
        """Until somebody interrupts."""
        # A wait without an end would hear no Ctrl-C on some systems.
        while not self._closing.wait(1):
            pass

    def subject(self, index: int) -> Subject:
        """A case, its files open; of many cases, those last looked at stay open."""
        with self._lock:
            if index not in self._open:
                self._open[index] = Subject(self.exhibit.entries[index], self.exhibit)
            self._open.move_to_end(index)
            while len(self._open) > _OPEN:
                self._open.popitem(last=False)
            return self._open[index]

    def check_host(self, host: str | None, origin: str | None) -> bool:
        """Whether a request is addressed to this server and comes from its own page.

        A name that somebody else has made to lead here (DNS rebinding) is not this server's.
        """
        own = {f"{name}:{self.port}" for name in (HOST, "localhost")}
        return host in own and (origin is None or origin in {f"http://{each}" for each in own})

    def answer(self, path: str, query: Mapping[str, list[str]]) -> tuple[str, Parts] | None:
        """Type and content of what lies below the token; None if there is no such thing.

        Raises UnetsegError for files that cannot be shown.
        """
        if path in _OWN:
            folder, name, kind = _OWN[path]
            return kind, (files("unetseg.viewer").joinpath(folder, name).read_bytes(),)
        if path == "cases.json":
            return _JSON, (_json(self._listed()),)
        found = _CASE.fullmatch(path)
        if found is None or int(found["case"]) >= len(self.exhibit.entries):
            return None
        subject = self.subject(int(found["case"]))
        moment = Moment(_number(query, "time"), _number(query, "scene"))
        channel = _number(query, "channel")
        if found["facts"]:
            return _JSON, (_json(subject.facts(moment)),)
        if found["scan"]:
            return _BYTES, subject.scan_nifti(moment, channel or 0)
        if found["nifti"]:
            return _BYTES, subject.mask_nifti(moment, int(found["mask"]))
        if found["colours"]:
            return _BYTES, (subject.colours(moment, int(found["mask"])).tobytes(),)
        if found["tile"]:
            tile = subject.scan_tile(moment, channel, _place(found["tile"]))
            return _BYTES, (tile.tobytes(),)
        place = _place(found["mask_tile"])
        return _BYTES, (subject.mask_tile(moment, int(found["of"]), place).tobytes(),)

    def _listed(self) -> ExhibitFacts:
        cases = tuple(
            ListedCase(
                entry.case.name,
                tuple((name, None if math.isnan(v) else v) for name, v in entry.scores),
            )
            for entry in self.exhibit.entries
        )
        return ExhibitFacts(self.exhibit.title, cases, __version__)


def _json(record: Any) -> bytes:
    # File names may hold bytes that are not UTF-8: written as escapes.
    return json.dumps(asdict(record), allow_nan=False).encode()


def _told(error: object) -> bytes:
    """What went wrong, in one line; names of files may hold what UTF-8 does not."""
    return one_line(error).encode(errors="backslashreplace")


def _number(query: Mapping[str, list[str]], name: str) -> int | None:
    text = query.get(name, [""])[0]
    return int(text) if re.fullmatch(r"\d{1,6}", text) else None


def _place(text: str) -> Place:
    level, row, column = map(int, text.split("/"))
    return Place(level, row, column)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A page that is closed while it is answered is no failure."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection; everything it knows is the viewer's."""

    viewer: Viewer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "unetseg", ""
    timeout = 60

    def do_GET(self) -> None:
        self._respond(with_body=True)

    def do_HEAD(self) -> None:
        self._respond(with_body=False)

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):
            return self._refuse_method
        raise AttributeError(name)

    def _refuse_method(self) -> None:
        # What was sent with it is not read: the connection ends.
        self.close_connection = True
        self._send(HTTPStatus.METHOD_NOT_ALLOWED, _TEXT, (b"read-only",), allow="GET, HEAD")

    def _respond(self, *, with_body: bool) -> None:
        viewer = self.viewer
        if not viewer.check_host(self.headers.get("Host"), self.headers.get("Origin")):
            self._send(HTTPStatus.FORBIDDEN, _TEXT, (b"not for you",), with_body=with_body)
            return
        path, _, query = self.path.partition("?")
        _, token, *rest = [*path.split("/", 2), ""]
        is_known = hmac.compare_digest(token.encode(), viewer.token.encode())
        try:
            found = viewer.answer(rest[0], parse_qs(query)) if is_known else None
        except UnetsegError as error:
            self._send(HTTPStatus.UNPROCESSABLE_ENTITY, _TEXT, (_told(error),), with_body=with_body)
            return
        except Exception as error:  # noqa: BLE001 - the page says what has happened
            text = _told(f"{type(error).__name__}: {error}; this is a defect of unetseg")
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, _TEXT, (text,), with_body=with_body)
            return
        if found is None:
            self._send(HTTPStatus.NOT_FOUND, _TEXT, (b"no such page",), with_body=with_body)
        else:
            self._send(HTTPStatus.OK, *found, with_body=with_body)

    def _send(
        self,
        status: HTTPStatus,
        kind: str,
        parts: Parts,
        *,
        with_body: bool = True,
        allow: str = "",
    ) -> None:
        # A page that is closed in the middle of a volume is no failure.
        with suppress(ConnectionError):
            self.send_response(status)
            for name, value in _HEADERS:
                self.send_header(name, value)
            if allow:
                self.send_header("Allow", allow)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(sum(len(part) for part in parts)))
            self.end_headers()
            if with_body:
                for part in parts:
                    self.wfile.write(part)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Nothing: stderr is for failures."""
