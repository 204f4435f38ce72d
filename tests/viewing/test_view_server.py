"""The local server: only with the token, only for its page, only to read, only what is shown."""

import hashlib
import json
import socket
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from shown_files import write_image

from unetseg.errors import UsageError
from unetseg.viewer.entries import of_files
from unetseg.viewer.server import Viewer


@pytest.fixture
def viewer(tmp_path: Path) -> Iterator[Viewer]:
    scan, mask = write_image(tmp_path)
    (tmp_path / "secret.txt").write_text("secret")
    with Viewer(of_files(scan, [mask])) as started:
        yield started


def ask(viewer: Viewer, path: str, method: str = "GET", **headers: str) -> HTTPResponse:
    """The answer; the Host is right unless another one is given."""
    connection = HTTPConnection("127.0.0.1", viewer.port, timeout=10)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    if "Host" in names:
        connection.putrequest(method, path, skip_host=True)
        for name, value in names.items():
            connection.putheader(name, value)
        connection.endheaders()
    else:
        connection.request(method, path, headers=names)
    answer = connection.getresponse()
    answer.body = answer.read()  # type: ignore[attr-defined]
    connection.close()
    return answer


def test_the_page_and_all_that_it_loads(viewer: Viewer) -> None:
    page = ask(viewer, f"/{viewer.token}/")
    assert page.status == 200
    assert b"<title>" in page.body  # type: ignore[attr-defined]
    web = files("unetseg.viewer").joinpath("web")
    own = {each.name for each in web.iterdir()} - {"page.html"}
    for name in (*own, "niivue.js", "cases.json"):
        assert ask(viewer, f"/{viewer.token}/{name}").status == 200, name


def test_headers_keep_the_page_to_itself(viewer: Viewer) -> None:
    answer = ask(viewer, f"/{viewer.token}/")
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert "Content-Encoding" not in answer.headers


def test_tokens_differ_and_are_long(viewer: Viewer) -> None:
    with Viewer(viewer.exhibit) as other:
        assert other.token != viewer.token
        assert len(other.token) >= 32
        assert ask(other, f"/{viewer.token}/").status == 404


@pytest.mark.parametrize("path", ["http://[/", "*", "/?", "/%00", "/\u00fc/", "/" + 9000 * "a"])
def test_odd_addresses_are_no_failure(
    viewer: Viewer, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_connection(("127.0.0.1", viewer.port), timeout=10) as connection:
        host = f"Host: 127.0.0.1:{viewer.port}\r\nConnection: close\r\n\r\n"
        connection.sendall(f"GET {path} HTTP/1.1\r\n{host}".encode())
        answer = connection.makefile("rb").read()
    assert answer.split(b" ", 2)[1] == b"404"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("start", ["/", "", "/wrong/", "/{half}/", "/{token}x/"])
def test_without_the_token_there_is_nothing(viewer: Viewer, start: str) -> None:
    token = viewer.token
    path = start.format(token=token, half=token[:16])
    answer = ask(viewer, f"{path}cases.json" if path else "/cases.json")
    assert answer.status == 404
    assert b"cells" not in answer.body  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "path",
    [
        "../secret.txt",
        "secret.txt",
        "web/page.html",
        "vendor/",
        "cases/",
        "cases/1/facts.json",
        "cases/0/../0/facts.json",
        "cases/0/secret.txt",
        "%2e%2e/secret.txt",
        "page.html",
        "cases/0/facts.json/",
        "cases/0x0/facts.json",
        "server.py",
    ],
)
def test_nothing_but_what_is_shown(viewer: Viewer, path: str) -> None:
    assert ask(viewer, f"/{viewer.token}/{path}").status == 404


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "", "0.0.0.0:{port}"],
)
def test_other_hosts_are_refused(viewer: Viewer, host: str) -> None:
    """A name that leads to this computer by DNS rebinding gets nothing, whatever it knows."""
    path = f"/{viewer.token}/cases.json"
    answer = ask(viewer, path, Host=host.format(port=viewer.port))
    assert answer.status == 403
    assert ask(viewer, path, Host=f"localhost:{viewer.port}").status == 200


def test_other_pages_are_refused(viewer: Viewer) -> None:
    path = f"/{viewer.token}/cases.json"
    assert ask(viewer, path, Origin="https://evil.example").status == 403
    assert ask(viewer, path, Origin="null").status == 403
    assert ask(viewer, path, Origin=f"http://127.0.0.1:{viewer.port}").status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "MOVE"])
def test_it_is_only_read(viewer: Viewer, method: str) -> None:
    answer = ask(viewer, f"/{viewer.token}/cases.json", method)
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET, HEAD"


def test_head_tells_the_length(viewer: Viewer) -> None:
    path = f"/{viewer.token}/cases.json"
    head, whole = ask(viewer, path, "HEAD"), ask(viewer, path)
    assert head.status == 200
    assert head.body == b""  # type: ignore[attr-defined]
    assert head.headers["Content-Length"] == str(len(whole.body))  # type: ignore[attr-defined]


def test_only_this_computer_is_listened_to(viewer: Viewer) -> None:
    assert viewer.url.startswith(f"http://127.0.0.1:{viewer.port}/")
    with pytest.raises(UsageError, match=r"--port \d+: cannot listen"):
        Viewer(viewer.exhibit, viewer.port)


def test_facts_name_values_and_colours(viewer: Viewer) -> None:
    found = json.loads(ask(viewer, f"/{viewer.token}/cases/0/facts.json").body)  # type: ignore[attr-defined]
    assert found["kind"] == "image"
    assert found["shape"] == [420, 300]
    assert found["dtype"] == "uint8"
    (layer,) = found["layers"]
    assert [(label["value"], label["name"]) for label in layer["labels"]] == [
        (1, "label 1"),
        (3, "label 3"),
    ]
    # By its value, not by its rank: the third colour, not the second.
    assert layer["labels"][1]["colour"] == found["palette"][2]


def test_a_tile_is_the_voxels(viewer: Viewer) -> None:
    path = f"/{viewer.token}/cases/0/masks/0/tiles/0/1/1"
    values = np.frombuffer(ask(viewer, path).body, np.int32)  # type: ignore[attr-defined]
    assert values.reshape(300 - 256, 420 - 256).max() == 0
    assert ask(viewer, f"/{viewer.token}/cases/0/tiles/0/5/0").status == 422
    assert ask(viewer, f"/{viewer.token}/cases/0/masks/7/tiles/0/0/0").status == 422
    assert ask(viewer, f"/{viewer.token}/cases/0/scan.nii").status == 422


def test_what_is_vendored_is_what_its_papers_say() -> None:
    vendor = files("unetseg.viewer").joinpath("vendor")
    code = vendor.joinpath("niivue.umd.js").read_bytes()
    papers = vendor.joinpath("README.md").read_text(encoding="utf-8")
    assert hashlib.sha256(code).hexdigest() in papers
    licences = vendor.joinpath("LICENSES.txt").read_text(encoding="utf-8")
    for name in ("NiiVue", "gl-matrix", "fflate", "nifti-reader-js", "zarrita", "numcodecs"):
        assert name in licences
    # It makes no code of text and starts no workers, which the page's policy would forbid.
    for call in (b"new Function", b"eval(", b"new Worker", b"importScripts"):
        assert call not in code
