"""The command: what it prints, how it ends, what it refuses, what it does not load."""

import signal
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image
from shown_files import write_image, write_volume

from unetseg.cli import app
from unetseg.errors import DataError, UsageError
from unetseg.viewer import browsers

COMMAND = (sys.executable, "-m", "unetseg.cli", "view")
HEAVY = ("torch", "monai", "skimage", "matplotlib")
LOADED = f"import sys; print([m for m in {HEAVY} if m in sys.modules])"


def started(*words: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*COMMAND, *map(str, words), "--no-open"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # What is started in the background by a shell ignores Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def refused(*words: object) -> tuple[int, str]:
    """Exit code and stderr of a command that has nothing to show."""
    done = subprocess.run(
        [*COMMAND, *map(str, words), "--no-open"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
    return done.returncode, done.stderr


def test_it_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    scan, mask = write_image(tmp_path)
    process = started(scan, mask)
    assert process.stdout is not None
    url = urlsplit(process.stdout.readline().strip())
    assert url.hostname == "127.0.0.1"
    connection = HTTPConnection(url.netloc, timeout=30)
    connection.request("GET", url.path)
    assert connection.getresponse().status == 200
    connection.close()
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=30)
    assert (process.returncode, out, errors) == (0, "", "")


def test_nothing_heavy_is_loaded(tmp_path: Path) -> None:
    scan, mask = write_image(tmp_path)
    code = (
        "from pathlib import Path\n"
        "import unetseg.cli\n"
        "from unetseg.viewer.entries import of_files\n"
        "from unetseg.viewer.server import Viewer\n"
        f"Viewer(of_files(Path({str(scan)!r}), [Path({str(mask)!r})])).check()\n{LOADED}"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_missing_and_broken_files(tmp_path: Path) -> None:
    scan, _ = write_image(tmp_path)
    code, text = refused(tmp_path / "none.tif")
    assert code == 3
    assert "none.tif: cannot be read: No such file" in text
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"no gzip")
    code, text = refused(broken)
    assert code == 3
    assert text.startswith(f"error: {broken}: ")
    other = tmp_path / "other"
    other.mkdir()
    code, text = refused(scan, write_volume(other)[1])
    assert code == 3
    assert "the mask does not lie on its scan" in text
    code, text = refused(other)
    assert code == 3
    assert "neither a scan nor a run" in text


def test_wrong_words(tmp_path: Path) -> None:
    scan, mask = write_image(tmp_path)
    assert refused(scan, mask, mask)[0] == 2
    code, text = refused(scan, "--port", "99999")
    assert code == 2
    assert "port" in text
    code, text = refused(scan, "--screenshot", tmp_path / "a.jpg")
    assert code == 2
    assert "a picture is a PNG" in text


def test_a_taken_port_is_told(tmp_path: Path) -> None:
    scan, _ = write_image(tmp_path)
    process = started(scan)
    try:
        assert process.stdout is not None
        port = urlsplit(process.stdout.readline().strip()).port
        code, text = refused(scan, "--port", port)
        assert code == 2
        assert f"--port {port}: cannot listen: Address already in use" in text
    finally:
        process.kill()
        process.communicate()


def test_without_a_browser_there_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(browsers, "_IN_APPLICATIONS", ())
    with pytest.raises(UsageError, match="--screenshot: no Chromium is installed"):
        browsers.browser()


def test_a_browser_that_does_not_start_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "chromium"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(browsers, "browser", lambda: broken)
    with pytest.raises(DataError, match="the browser has ended"):
        browsers.write_screenshot("http://127.0.0.1:9/", tmp_path / "page.png")
    assert [path.name for path in tmp_path.iterdir()] == ["chromium"]


def test_only_root_goes_without_a_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 1000)
    assert "--no-sandbox" not in browsers.options()
    monkeypatch.setattr("os.getuid", lambda: 0)
    assert "--no-sandbox" in browsers.options()


def test_it_is_listed() -> None:
    assert "view" in [command.callback.__name__ for command in app.registered_commands]  # type: ignore[union-attr]


@pytest.mark.browser
def test_a_picture_of_the_page(tmp_path: Path) -> None:
    try:
        browsers.browser()
    except UsageError as error:
        pytest.skip(str(error))
    scan, mask = write_image(tmp_path)
    picture = tmp_path / "page.png"
    done = subprocess.run(
        [*COMMAND, str(scan), str(mask), "--screenshot", str(picture)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{picture}\n", "")
    with Image.open(picture) as image:
        assert image.size[0] == 1400
        assert len(image.convert("RGB").getcolors(1 << 20) or ()) > 20
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
