"""A real browser, for pages and the local server: what it reports fails the test."""

import os
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from typing import Any

import pytest
from watching import Visit, Watched

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
)
# WebGL without a graphics card.
SOFTWARE_GL = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A headless browser, or a visible skip where none is installed."""
    sync_api = pytest.importorskip("playwright.sync_api")
    found = next(filter(None, map(which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser is installed: {', '.join(BROWSERS)}")
    root = ["--no-sandbox"] if hasattr(os, "getuid") and os.getuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found, args=[*QUIET, *SOFTWARE_GL, *root]
        )
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Any) -> Iterator[Visit]:
    """`visit(path or address, **context)` opens a page; a fault of any fails the test at its end.

    context : of playwright's new_context, such as color_scheme="dark" or a viewport; a page on
        disk may ask for nothing else, a served one for what its own server has
    """
    visited: list[Watched] = []
    contexts = []

    def open_page(target: Path | str, **context: Any) -> Watched:
        contexts.append(chromium.new_context(**context))
        address = target.resolve().as_uri() if isinstance(target, Path) else target
        home = address if isinstance(target, Path) else "/".join(address.split("/")[:3]) + "/"
        watched = Watched(contexts[-1].new_page(), home)
        visited.append(watched)
        watched.page.goto(address)
        return watched

    yield open_page
    for context in contexts:
        context.close()
    assert [fault for watched in visited for fault in watched.faults] == []
