"""The browser's fixtures find what they are there to find."""

from pathlib import Path

import pytest
from watching import Visit

pytestmark = pytest.mark.browser
PAGE = "<!doctype html><html lang='en'><title>a page</title><main><h1>A page</h1>{}</main>"


def written(folder: Path, body: str) -> Path:
    path = folder / "page.html"
    path.write_text(PAGE.format(body), encoding="utf-8")
    return path


def test_a_quiet_page_has_no_faults(tmp_path: Path, visit: Visit) -> None:
    watched = visit(written(tmp_path, "<p>text</p>"), color_scheme="dark")
    assert watched.page.inner_text("p") == "text"
    assert watched.violations() == []
    assert watched.faults == []


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("<script>console.error('a fault')</script>", "error: a fault"),
        ("<script>throw new Error('thrown')</script>", "exception: .*thrown"),
        ("<img alt='' src='http://127.0.0.1:9/picture.png'>", "left the page: http"),
        ("<img alt='' src='other.png'>", "left the page: file.*other"),
    ],
)
def test_a_fault_is_found(tmp_path: Path, visit: Visit, body: str, fault: str) -> None:
    watched = visit(written(tmp_path, body))
    watched.page.wait_for_timeout(50)
    with pytest.raises(AssertionError, match=fault):
        assert not watched.faults, "\n".join(watched.faults)
    watched.faults.clear()


def test_what_a_person_cannot_use_is_found(tmp_path: Path, visit: Visit) -> None:
    watched = visit(written(tmp_path, "<button></button>"))
    assert any("button-name" in violation for violation in watched.violations())
