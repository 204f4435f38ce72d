"""Weights from a server on this machine: whole and of the right sum, or not at all."""

import hashlib
import json
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from unetseg.downloads import (
    FAMILIES,
    PUBLISHED,
    Published,
    fetch,
    named,
    place,
    published,
    refuse_unpinned,
)
from unetseg.errors import DataError, ModelError, UsageError
from unetseg.records import Advance, Event, Stage

CONTENT = bytes(range(256)) * 10_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class _Answers(BaseHTTPRequestHandler):
    """Whole, broken off in the middle, without a length, moved, or nothing, by the path."""

    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        if self.path == "/moved.pth":
            self.send_response(302)
            self.send_header("Location", "/whole.pth")
            self.end_headers()
        elif self.path == "/gone.pth":
            self.send_error(404)
        elif self.path == "/busy.pth":
            self.send_error(503)
        else:
            self.send_response(200)
            if self.path != "/unsaid.pth":
                self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            half = self.path == "/broken.pth"
            self.wfile.write(CONTENT[: len(CONTENT) // 2] if half else CONTENT)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # the base's name
        """Not a word on stderr."""


@pytest.fixture(autouse=True)
def directly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the proxy of the machine that runs the tests."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as running:
        running.asked = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def at(server: ThreadingHTTPServer, file: str, sha256: str | None = SHA256) -> Published:
    url = f"http://127.0.0.1:{server.server_port}/{file}"
    return replace(named("imagenet/resnet18"), url=url, sha256=sha256)


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


# --- fetching ----------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["whole.pth", "moved.pth", "unsaid.pth"])
def test_the_right_file_arrives_whole(
    server: ThreadingHTTPServer, tmp_path: Path, file: str
) -> None:
    path = fetch(at(server, file), tmp_path)
    assert path == tmp_path / "imagenet" / file
    assert path.read_bytes() == CONTENT
    assert files(tmp_path) == [f"imagenet/{file}"]


def test_its_way_is_told(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    events: list[Event] = []
    fetch(at(server, "whole.pth"), tmp_path, events.append)
    # 2.56 MB are three begun megabytes.
    assert events == [Stage("downloading imagenet/resnet18, MB", 3), *[Advance()] * 3]
    events.clear()
    fetch(at(server, "unsaid.pth"), tmp_path, events.append)
    assert events == [Stage("downloading imagenet/resnet18, MB", None)]


def test_what_is_there_is_not_fetched_again(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    weights = at(server, "whole.pth")
    fetch(weights, tmp_path)
    fetch(weights, tmp_path)
    assert server.asked == ["/whole.pth"]  # type: ignore[attr-defined]
    # Nor is anybody asked where there is no network at all.
    nowhere = replace(weights, url="http://127.0.0.1:9/whole.pth")
    assert fetch(nowhere, tmp_path).read_bytes() == CONTENT


def test_a_damaged_file_is_fetched_again(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    weights = at(server, "whole.pth")
    path = place(weights, tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT[:-1])
    assert fetch(weights, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("broken.pth", r"broken\.pth: the transfer broke off \(got 1\.\d of 2\.6 MB\); try again$"),
        ("gone.pth", r"gone\.pth: the server does not hand out this file \(got 404 Not Found\);"),
        ("busy.pth", r"does not hand out this file \(got 503 Service Unavailable\); try later"),
    ],
)
def test_what_fails_leaves_nothing(
    server: ThreadingHTTPServer, tmp_path: Path, file: str, message: str
) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        fetch(at(server, file), tmp_path)
    assert files(tmp_path) == []
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)


def test_a_file_of_another_sum_is_refused(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    wrong = "0" * 64
    message = rf"not the file that was published.*\(expected SHA-256 {wrong}, got {SHA256}\); try"
    with pytest.raises(ModelError, match=message):
        fetch(at(server, "whole.pth", wrong), tmp_path)
    assert files(tmp_path) == []


def test_a_wrong_file_in_the_cache_does_not_stay(
    server: ThreadingHTTPServer, tmp_path: Path
) -> None:
    weights = at(server, "gone.pth")
    path = place(weights, tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"something else")
    with pytest.raises(ModelError, match="404"):
        fetch(weights, tmp_path)
    assert files(tmp_path) == []


def test_without_a_connection_it_says_where_to_put_the_file(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    weights = replace(named("imagenet/resnet18"), url=f"http://127.0.0.1:{port}/a.pth")
    message = r"/a\.pth: no connection to the server of these weights; .*imagenet/a\.pth$"
    with pytest.raises(ModelError, match=message):
        fetch(weights, tmp_path)
    assert files(tmp_path) == []


def test_a_full_disk_is_said_and_nothing_stays(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    # A limit on the size of files fails as a full disk does: in the midst of writing.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, limits[1]))
    try:
        with pytest.raises(DataError, match=r"whole\.pth: cannot be written: .*; check the folder"):
            fetch(at(server, "whole.pth"), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert files(tmp_path) == []


def test_without_a_pinned_sum_nobody_is_asked(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    weights = at(server, "whole.pth", None)
    message = r"no pinned SHA-256.*if you trust http.*whole\.pth, .*--weights FILE$"
    with pytest.raises(UsageError, match=message):
        fetch(weights, tmp_path)
    assert server.asked == []  # type: ignore[attr-defined]
    assert files(tmp_path) == []


# --- the table ---------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", PUBLISHED, ids=lambda w: w.name)
def test_an_entry_is_what_it_says(weights: Published) -> None:
    assert weights.url.startswith("https://")
    assert weights.file.endswith(".pth")
    assert weights.family.name in FAMILIES
    if weights.sha256 is None:
        with pytest.raises(UsageError, match="no pinned SHA-256"):
            refuse_unpinned(weights)
        return
    refuse_unpinned(weights)
    assert len(weights.sha256) == 64
    assert int(weights.sha256, 16)
    if weights.family.name == "imagenet":
        # torchvision writes the first digits into the name.
        assert weights.sha256.startswith(weights.file.removesuffix(".pth").rpartition("-")[2])


def test_names_and_places_are_unique() -> None:
    assert len({w.name for w in PUBLISHED}) == len(PUBLISHED)
    assert len({place(w, Path("a")) for w in PUBLISHED}) == len(PUBLISHED)


def test_every_encoder_of_the_table_exists() -> None:
    from unetseg.registry import ENCODERS

    assert {w.encoder for w in PUBLISHED} <= set(ENCODERS)


def test_the_users_cache_is_where_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert place(named("imagenet/resnet34")).is_relative_to(tmp_path / "unetseg" / "weights")


def test_a_name_that_is_not_there_is_told_with_the_nearest() -> None:
    assert published("medicalnet", "resnet34") is named("medicalnet/resnet34")
    with pytest.raises(UsageError, match=r"no such weights \(got imagenet/resnet43\); did you"):
        named("imagenet/resnet43")
    message = (
        r"network\.encoder: there are no medicalnet weights for this encoder"
        r" \(expected resnet18, resnet34, resnet50, resnet101 or resnet152, got plain\);"
        r" choose one of them, as in --encoder resnet18$"
    )
    with pytest.raises(UsageError, match=message):
        published("medicalnet", "plain")


# --- the commands ------------------------------------------------------------------------------


def unetseg(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    code = (
        "import sys; from unetseg.cli import main\n"
        "try: main()\n"
        "finally: assert not {'torch', 'monai'} & set(sys.modules)"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "120", "XDG_CACHE_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_list_says_what_is_here_without_torch(tmp_path: Path) -> None:
    there = place(named("imagenet/resnet34"), tmp_path / "cache" / "unetseg" / "weights")
    there.parent.mkdir(parents=True)
    there.touch()
    done = unetseg(tmp_path, "weights", "list", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    rows = {row["name"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert rows.keys() == {w.name for w in PUBLISHED}
    assert [name for name, row in rows.items() if row["cached"]] == ["imagenet/resnet34"]
    assert rows["imagenet/resnet34"]["bytes"] == 87319819
    assert rows["medicalnet/resnet50"]["licence"] == "MIT"
    assert rows["medicalnet/resnet50"]["dimensions"] == 3
    shown = unetseg(tmp_path, "weights", "list").stdout
    (line,) = [line for line in shown.splitlines() if "imagenet/resnet34" in line]
    assert all(word in line for word in ("2-D", "87 MB", "BSD-3-Clause", "yes"))
    (line,) = [line for line in shown.splitlines() if "imagenet/densenet201" in line]
    assert "by hand" in line


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("imagenet/resnet43", 2, "no such weights (got imagenet/resnet43); did you mean"),
        ("imagenet/densenet169", 2, "these weights have no pinned SHA-256"),
    ],
)
def test_fetching_what_cannot_be_fetched_is_one_line(
    tmp_path: Path, name: str, code: int, message: str
) -> None:
    done = unetseg(tmp_path, "weights", "fetch", name)
    assert done.returncode == code
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_fetching_prints_the_path(
    server: ThreadingHTTPServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from unetseg import cli, downloads

    monkeypatch.setattr(downloads, "PUBLISHED", (at(server, "whole.pth"),))
    words = ["unetseg", "weights", "fetch", "imagenet/resnet18", "--cache", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", words)
    cli.main()
    assert capsys.readouterr().out == f"{tmp_path / 'imagenet' / 'whole.pth'}\n"
