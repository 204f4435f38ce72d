"""The page of scores in a real browser."""

from pathlib import Path

import pytest
from watching import Visit

pytestmark = pytest.mark.browser
ROOT = Path(__file__).resolve().parents[2]
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Of classes and of objects, each against another set, and of cases with hostile names."""
    folder = tmp_path_factory.mktemp("scores")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tests")
        from scored import HOSTILE, make_cells, make_volumes, outcome

        from unetseg.pages.writing import write_page
        from unetseg.report.scoring import page_of

        make_volumes(folder / "classes", [f"case{number:02}" for number in range(14)])
        make_volumes(folder / "hostile", [*HOSTILE, "x" * 180])
        make_cells(folder / "objects")
        made = {}
        for name in ("classes", "hostile", "objects"):
            made[name] = folder / f"{name}.html"
            found = outcome(folder / name, against=True, objects=name == "objects")
            scans = folder / name / "images"
            write_page(page_of(found, scans if scans.is_dir() else None), made[name])
    return made


@pytest.mark.parametrize("kind", ["classes", "objects", "hostile"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everyone_can_read_it(pages: dict[str, Path], visit: Visit, kind: str, scheme: str) -> None:
    assert visit(pages[kind], color_scheme=scheme).violations() == []


@pytest.mark.parametrize("kind", ["classes", "objects", "hostile"])
def test_a_phone_shows_it_without_scrolling_to_the_side(
    pages: dict[str, Path], visit: Visit, kind: str
) -> None:
    page = visit(pages[kind], **PHONE).page
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.evaluate("[...document.images].every(i => i.naturalWidth > 0)")


def test_a_name_is_never_run(pages: dict[str, Path], visit: Visit) -> None:
    page = visit(pages["hostile"]).page
    asked: list[object] = []
    page.on("dialog", lambda dialog: asked.append(dialog) or dialog.dismiss())
    page.reload()
    assert page.locator("script").count() == 1
    assert "<script>alert(1)<|script>" in page.inner_text("main")
    assert asked == []


def test_the_comparison_is_sorted_by_its_p(pages: dict[str, Path], visit: Visit) -> None:
    page = visit(pages["classes"]).page
    heads = page.locator("#comparison table").first.locator("thead th")
    names = heads.evaluate_all("each => each.map(e => e.innerText.split(' ')[0])")
    column = names.index("p")
    heads.nth(column).locator("button").press("Enter")
    assert heads.nth(column).get_attribute("aria-sort") == "ascending"
    cells = (
        page.locator("#comparison table")
        .first.locator("tbody tr")
        .evaluate_all(f"rows => rows.map(r => r.cells[{column}].innerText)")
    )
    numbers = [float(cell) for cell in cells if cell != "\u2013"]
    assert len(numbers) > 5 and numbers == sorted(numbers)


def test_a_worst_case_leads_to_its_picture(pages: dict[str, Path], visit: Visit) -> None:
    page = visit(pages["classes"]).page
    link = page.locator("#summary table a").first
    target = link.get_attribute("href")
    link.click()
    assert page.url.endswith(target)
    assert page.locator(f'[id="{target[1:]}"] img').is_visible()
