"""The report of a run in a real browser: seen, sorted, switched, and read by everyone."""

import re
from pathlib import Path
from typing import Any

import pytest
from watching import Visit

pytestmark = pytest.mark.browser
ROOT = Path(__file__).resolve().parents[2]
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reports")


@pytest.fixture(scope="module")
def reports(folder: Path) -> dict[str, Path]:
    """Pages of runs with classes, with objects, of all folds and with hostile names."""
    from unetseg.report.run import write_report

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        from made_cases import Made
        from made_run import make_folds, make_run

        names = ["<script>alert(1)<|script>", '"onload=alert(2)', "\u202eabc", "x" * 180]
        hostile = Made(cases=4, name=names.__getitem__, classes=("<img src=x>", '"><b>two'))
        flat = Made(cases=4, kind="objects", shape=(72, 72))
        runs = {
            "classes": make_run(folder / "classes", Made(cases=14)),
            "objects": make_run(folder / "objects", flat),
            "folds": make_folds(folder / "folds", Made(cases=6), 2),
            "hostile": make_run(folder / "hostile", hostile),
            "begun": make_run(folder / "begun", Made(is_done=False)),
        }
    return {name: write_report(run) for name, run in runs.items()}


@pytest.mark.parametrize("kind", ["classes", "objects", "folds", "hostile", "begun"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everyone_can_read_it(
    reports: dict[str, Path], visit: Visit, kind: str, scheme: str
) -> None:
    watched = visit(reports[kind], color_scheme=scheme)
    assert watched.violations() == []


@pytest.mark.parametrize("kind", ["classes", "objects", "hostile"])
def test_a_phone_shows_it_without_scrolling_to_the_side(
    reports: dict[str, Path], visit: Visit, kind: str
) -> None:
    page = visit(reports[kind], **PHONE).page
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.evaluate("[...document.images].every(i => i.naturalWidth > 0)")


def test_a_name_is_never_run(reports: dict[str, Path], visit: Visit) -> None:
    page = visit(reports["hostile"]).page
    asked: list[Any] = []
    page.on("dialog", lambda dialog: asked.append(dialog) or dialog.dismiss())
    page.reload()
    assert page.locator("script").count() == 1
    assert page.locator("main img").count() == 4
    assert "<img src=x>" in page.inner_text("main")
    assert asked == []


def first_cells(page: Any) -> list[str]:
    return page.locator("#cases tbody tr").evaluate_all(
        "rows => rows.map(r => r.cells[1].innerText)"
    )


def test_a_table_is_sorted_by_keyboard(reports: dict[str, Path], visit: Visit) -> None:
    page = visit(reports["classes"]).page
    button = page.locator("#cases th button").nth(1)
    button.focus()
    page.keyboard.press("Enter")
    heading = page.locator("#cases thead th").nth(1)
    assert heading.get_attribute("aria-sort") == "ascending"
    up = [float(text) for text in first_cells(page)]
    assert up == sorted(up)
    page.keyboard.press("Space")
    assert heading.get_attribute("aria-sort") == "descending"
    assert [float(text) for text in first_cells(page)] == up[::-1]
    page.locator("#cases th button").first.press("Enter")
    assert heading.get_attribute("aria-sort") is None
    names = page.locator("#cases tbody tr").evaluate_all(
        "rows => rows.map(r => r.cells[0].innerText)"
    )
    assert names == sorted(names)


def test_outlines_can_be_switched(reports: dict[str, Path], visit: Visit) -> None:
    page = visit(reports["classes"]).page
    truth, predicted = page.locator(".picture path.truth"), page.locator(".picture path.predicted")
    assert truth.first.is_visible()
    page.locator("input.truth").focus()
    page.keyboard.press("Space")
    assert not truth.first.is_visible()
    assert predicted.first.is_visible()
    page.locator("input.truth").check()
    page.locator("input.predicted").uncheck()
    assert truth.first.is_visible()
    assert not predicted.first.is_visible()


@pytest.mark.parametrize("ratio", [1, 2, 3])
def test_an_outline_is_one_device_pixel_wide(
    reports: dict[str, Path], visit: Visit, tmp_path: Path, ratio: int
) -> None:
    import numpy as np
    from PIL import Image

    page = visit(reports["classes"], device_scale_factor=ratio).page
    page.locator("input.truth").uncheck()
    target = tmp_path / "picture.png"
    page.locator(".picture").first.screenshot(path=target)
    shown = np.asarray(Image.open(target).convert("RGB")).astype(int)
    # The first class is the outer one; its line runs down on the left where it is met first.
    is_line = (np.abs(shown - (230, 159, 0)) < 40).all(-1)
    widths = []
    for row in is_line:
        runs = [len(run) for run in re.findall("1+", "".join("01"[int(x)] for x in row))]
        # Where the line runs along the row it is long.
        widths += [run for run in runs if run < 4 * ratio]
    assert len(widths) > 20
    assert np.median(widths) == 1


def test_charts_follow_the_paper(reports: dict[str, Path], visit: Visit) -> None:
    def ink(scheme: str) -> str:
        page = visit(reports["classes"], color_scheme=scheme).page
        return page.locator(".chart text").first.evaluate("e => getComputedStyle(e).fill")

    assert ink("light") == "rgb(29, 29, 32)"
    assert ink("dark") == "rgb(232, 232, 236)"


def test_on_paper_all_rows_are_there(reports: dict[str, Path], visit: Visit) -> None:
    page = visit(reports["classes"], color_scheme="dark").page
    page.emulate_media(media="print")
    scroll = page.locator("#plan .scroll")
    assert scroll.evaluate("e => e.scrollHeight - e.clientHeight") <= 1
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()


def test_a_name_in_the_table_leads_to_its_picture(reports: dict[str, Path], visit: Visit) -> None:
    page = visit(reports["classes"]).page
    link = page.locator("#cases tbody a").first
    name = link.inner_text()
    link.press("Enter")
    target = page.locator(":target")
    assert name in target.inner_text()
    assert target.locator("img").count() == 1
