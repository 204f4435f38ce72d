"""The page of a check in a real browser."""

from pathlib import Path

import pytest
from cubes import write_cubes
from watching import Visit

from unetseg.checking import Asked, Looks, checked
from unetseg.dataset import find_cases
from unetseg.pages.writing import write_page
from unetseg.planning import make
from unetseg.planning.fingerprint import inspect
from unetseg.records import Machine
from unetseg.report.checking import Pictures, page_of

pytestmark = pytest.mark.browser
MACHINE = Machine("cpu", 8 << 30, 1)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """Three cubes, one of them twice, with a mark-up for a name."""
    data = write_cubes(tmp_path / "data", 3)
    for part in ("images", "labels"):
        first = data / part / "case_0.nii.gz"
        (data / part / "case_9 <b>'\".nii.gz").write_bytes(first.read_bytes())
    dataset, looks, pictures = find_cases(data), Looks(), Pictures()

    def look(*case: object) -> None:
        looks(*case)  # type: ignore[arg-type]
        pictures(*case)  # type: ignore[arg-type]

    found = inspect(dataset, look=look)
    plan = make(found.fingerprint, MACHINE)
    result = checked(Asked(looks, dataset, found, MACHINE, plan, tmp_path))
    path = tmp_path / "check.html"
    write_page(page_of(data, result, pictures), path)
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_anyone_can_read_it(page: Path, visit: Visit, scheme: str) -> None:
    watched = visit(page, color_scheme=scheme)
    assert watched.page.inner_text("h1") == "Check of data"
    assert watched.violations() == []


def test_a_finding_leads_to_its_picture(page: Path, visit: Visit) -> None:
    from playwright.sync_api import expect

    watched = visit(page)
    row = watched.page.locator("tr", has_text="duplicate").first
    link = row.locator("a")
    assert "the same file as" in row.inner_text()
    link.click()
    figure = watched.page.locator(watched.page.url[watched.page.url.index("#") :])
    # The browser may take its time to get there.
    expect(figure).to_be_in_viewport(timeout=20_000)
    assert "duplicate" in figure.inner_text()
    assert watched.page.locator("main img").count() == 4
    assert watched.page.locator("main img").evaluate_all("all => all.every(i => i.naturalWidth)")


def test_names_are_text_and_a_phone_is_wide_enough(page: Path, visit: Visit) -> None:
    watched = visit(page, viewport={"width": 390, "height": 800})
    assert "case_9 <b>'\"" in watched.page.inner_text("main")
    assert watched.page.locator("main b").count() == 0
    assert watched.page.evaluate("document.documentElement.scrollWidth") <= 390
