"""The page of a comparison in a browser."""

from pathlib import Path

import pytest
from run_folders import plan, write_run
from watching import Visit

from unetseg.pages.writing import write_page
from unetseg.report.comparing import page_of
from unetseg.runs import read_run
from unetseg.runs.comparing import compare

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("comparing")
    runs = []
    for number, name in enumerate(("plain", "a run with a long name", "<b>bold</b>")):
        scores = {f"case_{n}": (0.5 + n / 50 + number / 100, 0.9 - n / 40) for n in range(12)}
        changes = {"training.seed": number}
        place = folder / name.replace("/", "_")
        runs.append(read_run(write_run(place, plan(), scores, changes=changes)))
    path = folder / "compare.html"
    write_page(page_of(compare(runs)), path)
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_read_it(page: Path, visit: Visit, scheme: str) -> None:
    watched = visit(page, color_scheme=scheme)
    assert watched.violations() == []
    assert watched.page.locator("b").count() == 0
    assert watched.page.locator("figure svg").count() == 6


def test_on_a_phone_nothing_sticks_out(page: Path, visit: Visit) -> None:
    watched = visit(page, viewport={"width": 390, "height": 844})
    assert watched.page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_cases_are_sorted_by_the_keyboard(page: Path, visit: Visit) -> None:
    watched = visit(page)
    table = watched.page.locator("section", has_text="those first that lose").locator("table")
    table.locator("thead button").first.focus()
    first = table.locator("tbody tr").first.locator("td, th").first
    watched.page.keyboard.press("Enter")
    assert first.inner_text() == "case_0"
    watched.page.keyboard.press("Enter")
    assert first.inner_text() == "case_11"
    assert table.locator("thead th").first.get_attribute("aria-sort") == "descending"
