"""The viewer in a browser: what is drawn where, what keys do, and that nothing leaves the page."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from watching import Visit, Watched

from unetseg.colours import COLOURS, of_value
from unetseg.records import Case, Label
from unetseg.viewer.entries import Entry, Exhibit, Layer, of_files
from unetseg.viewer.server import Viewer

pytestmark = pytest.mark.browser
DRAWN = "() => document.documentElement.dataset.drawn || document.documentElement.dataset.failed"
# Grey, so that a colour is the mask's.
GREY = 60
# Half of it is the mask's colour and half is grey, with rounding.
OPACITY, NEAR = 0.45, 14


@pytest.fixture
def show(visit: Visit) -> Iterator[Callable[..., Watched]]:
    """Opens the page of an exhibit, and waits until it is drawn."""
    with ExitStack() as stack:

        def opened(exhibit: Exhibit, **context: Any) -> Watched:
            viewer = stack.enter_context(Viewer(exhibit))
            watched = visit(viewer.url, viewport={"width": 1000, "height": 700}, **context)
            drawn(watched)
            return watched

        yield opened


def drawn(watched: Watched) -> None:
    """Wait for the page's mark. Fails with what the page says went wrong."""
    watched.page.wait_for_function(DRAWN, timeout=60_000)
    assert watched.page.evaluate("document.documentElement.dataset.failed") is None


def press(watched: Watched, *keys: str) -> None:
    for key in keys:
        watched.page.keyboard.press(key)
    # Two frames: one in which it is drawn and one in which it is seen.
    watched.page.evaluate(
        "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )
    drawn(watched)


def pixels(watched: Watched) -> NDArray[np.uint8]:
    """(h, w, 3): the image as it is on the screen."""
    from io import BytesIO

    found = watched.page.locator("#stage").screenshot()
    return np.array(Image.open(BytesIO(found)).convert("RGB"))


def is_colour(picture: NDArray[np.uint8], colour: tuple[int, ...], near: int = 2) -> NDArray[Any]:
    found: NDArray[Any] = (np.abs(picture.astype(int) - colour) <= near).all(-1)
    return found


def blended(colour: tuple[int, int, int], grey: int = GREY) -> tuple[int, ...]:
    return tuple(round(OPACITY * part + (1 - OPACITY) * grey) for part in colour)


@pytest.fixture
def image(tmp_path: Path) -> Exhibit:
    """A grey image of 300 rows and 400 columns; its left part is class 1, two masks differ."""
    scan = np.full((300, 400), GREY, np.uint8)
    # From black to white, so that grey is shown as it is.
    scan[:3], scan[-3:] = 0, 255
    tifffile.imwrite(tmp_path / "scan.tif", scan)
    truth = np.zeros((300, 400), np.uint8)
    truth[60:240, 40:200] = 1
    predicted = np.zeros_like(truth)
    predicted[60:240, 120:300] = 3
    tifffile.imwrite(tmp_path / "truth.tif", truth)
    tifffile.imwrite(tmp_path / "predicted.tif", predicted)
    return of_files(tmp_path / "scan.tif", [tmp_path / "truth.tif", tmp_path / "predicted.tif"])


def bounds(found: NDArray[Any]) -> tuple[int, int, int, int]:
    """First and last row, first and last column."""
    rows, columns = np.flatnonzero(found.any(1)), np.flatnonzero(found.any(0))
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


def test_a_mask_has_its_colour_where_it_is_and_nowhere_else(
    show: Callable[..., Watched], image: Exhibit
) -> None:
    watched = show(image)
    press(watched, "o")
    picture = pixels(watched)
    one = is_colour(picture, blended(of_value(1)))
    three = is_colour(picture, blended(of_value(3)))
    # The image fills the stage: how many screen pixels one of its own takes.
    height, width = picture.shape[:2]
    scale = min(height / 300, width / 400)

    def place(row: float, column: float) -> tuple[int, int]:
        return round(height / 2 + (row - 150) * scale), round(width / 2 + (column - 200) * scale)

    assert one[place(150, 80)]
    assert three[place(150, 250)]
    for row, column in ((30, 80), (150, 20), (270, 250), (150, 320)):
        assert is_colour(picture, (GREY,) * 3)[place(row, column)], (row, column)
    top, left = place(60, 40)
    assert bounds(one)[0] == pytest.approx(top, abs=1)
    assert bounds(one)[2] == pytest.approx(left, abs=1)


def test_outlines_are_one_device_pixel_wide_at_any_size(
    show: Callable[..., Watched], image: Exhibit
) -> None:
    # Of several masks, outlines are shown unless somebody wants them filled.
    watched = show(image)
    for _ in range(3):
        found = is_colour(pixels(watched), of_value(1))
        assert found.any()
        # Across its left side, in the middle of the stage, there is a single pixel of it.
        row = found[len(found) // 2]
        assert row[: np.flatnonzero(row)[0] + 3].sum() == 1
        press(watched, "+")
    assert watched.page.get_attribute("#style", "aria-pressed") == "true"


def test_a_second_mask_is_dashed(show: Callable[..., Watched], image: Exhibit) -> None:
    watched = show(image)
    picture = pixels(watched)
    solid, dashed = (is_colour(picture, of_value(value)) for value in (1, 3))
    left = bounds(solid)[2]
    top, bottom, _, right = bounds(dashed)
    assert solid[bounds(solid)[0] : bounds(solid)[1], left].all()
    share = dashed[top:bottom, right].mean()
    assert 0.4 < share < 0.7


def test_labels_are_switched_on_and_off(show: Callable[..., Watched], image: Exhibit) -> None:
    watched = show(image)
    press(watched, "o")
    watched.page.get_by_label("label 1").uncheck()
    press(watched)
    picture = pixels(watched)
    assert not is_colour(picture, blended(of_value(1))).any()
    assert is_colour(picture, blended(of_value(3))).any()
    watched.page.get_by_role("button", name="None").click()
    press(watched)
    assert not is_colour(pixels(watched), blended(of_value(3))).any()
    watched.page.get_by_role("button", name="All", exact=True).click()
    press(watched)
    assert is_colour(pixels(watched), blended(of_value(1))).any()


def test_blinking_shows_one_mask_at_a_time(show: Callable[..., Watched], image: Exhibit) -> None:
    watched = show(image)
    press(watched, "o", "b")
    seen = set()
    for _ in range(12):
        watched.page.wait_for_timeout(170)
        name = watched.page.inner_text("#message")
        picture = pixels(watched)
        one, three = (is_colour(picture, blended(of_value(v))).any() for v in (1, 3))
        # While the picture was taken it may have gone on.
        if name == watched.page.inner_text("#message"):
            assert (one, three) == ((name == "truth"), (name == "predicted"))
            seen.add(name)
    assert seen == {"truth", "predicted"}
    press(watched, "b")
    assert watched.page.inner_text("#message") == ""
    picture = pixels(watched)
    assert is_colour(picture, blended(of_value(1))).any()


def test_zoom_and_pan_by_keys_and_pointer(show: Callable[..., Watched], image: Exhibit) -> None:
    watched = show(image)
    press(watched, "o")
    before = pixels(watched)
    top, bottom, *_ = bounds(is_colour(before, blended(of_value(1))))
    press(watched, "+")
    larger = bounds(is_colour(pixels(watched), blended(of_value(1))))
    assert (larger[1] - larger[0]) / (bottom - top) == pytest.approx(1.25, abs=0.01)
    press(watched, "0")
    np.testing.assert_array_equal(pixels(watched), before)
    box = watched.page.locator("#stage").bounding_box()
    assert box is not None
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    watched.page.mouse.move(*middle)
    watched.page.mouse.down()
    watched.page.mouse.move(middle[0] + 50, middle[1])
    watched.page.mouse.up()
    press(watched)
    moved = is_colour(pixels(watched), blended(of_value(1)))
    assert bounds(moved)[2] - bounds(is_colour(before, blended(of_value(1))))[2] == 50
    watched.page.mouse.wheel(0, -300)
    press(watched)
    wheeled = bounds(is_colour(pixels(watched), blended(of_value(1))))
    assert wheeled[1] - wheeled[0] > 1.2 * (bottom - top)
    assert watched.page.inner_text("#readout").startswith("x ")


def test_a_bar_is_as_long_as_it_says(tmp_path: Path, show: Callable[..., Watched]) -> None:
    """400 pixels of 0.5 um: the bar is at most a quarter of what is seen, so 20 um at first."""
    grey = np.full((300, 400), GREY, np.uint8)
    grey[:3], grey[-3:] = 0, 255
    plain, sized = tmp_path / "plain.tif", tmp_path / "sized.ome.tif"
    tifffile.imwrite(plain, grey)
    size = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    tifffile.imwrite(sized, grey, metadata={"axes": "YX", **size})
    without, watched = (pixels(show(of_files(path, []))) for path in (plain, sized))
    height, width = watched.shape[:2]
    scale = min(height / 300, width / 400)
    line = is_colour(watched, (255, 255, 255))[height - 12]
    ends = np.flatnonzero(line)
    longest = min(160, width / 4) / scale * 0.5
    expected = max(each for each in (1, 2, 5, 10, 20, 50) if each <= longest)
    assert ends[-1] - ends[0] + 1 == pytest.approx(expected / 0.5 * scale, abs=2)
    assert ends[0] == pytest.approx(12, abs=1)
    # Where the size of a pixel is not known, no bar claims to know it.
    assert not is_colour(without, (255, 255, 255))[height - 12].any()


def test_pixels_are_squares_when_they_are_large(
    tmp_path: Path, show: Callable[..., Watched]
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.indices((20, 30)).sum(0).astype(np.uint8) % 2 * 200)
    watched = show(of_files(tmp_path / "a.tif", []))
    press(watched, "+", "+")
    picture = pixels(watched)
    middle = picture[250:450, 300:600].reshape(-1, 3)
    assert len(np.unique(middle, axis=0)) == 2


def test_large_images_come_in_tiles(tmp_path: Path, show: Callable[..., Watched]) -> None:
    """Every tile of an image of many is where it belongs, at full size and as a whole."""
    shape = (1500, 2300)
    rows, columns = np.indices(shape)
    scan = ((rows // 100 * 23 + columns // 100) % 200 + 20).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", scan, tile=(256, 256), compression="zlib")
    watched = show(of_files(tmp_path / "a.tif", []))
    watched.page.locator("#low").fill("0")
    watched.page.locator("#high").fill("255")
    press(watched)
    picture = pixels(watched)
    height, width = picture.shape[:2]
    scale = min(width / 2300, height / 1500)
    for row in range(50, 1500, 300):
        for column in range(50, 2300, 300):
            y = height / 2 + (row - 750) * scale
            x = width / 2 + (column - 1150) * scale
            assert abs(int(picture[int(y), int(x), 0]) - scan[row, column]) <= 2, (row, column)


@pytest.fixture
def volume(tmp_path: Path) -> Exhibit:
    """A grey cube with a box of class 2 that no flip leaves in its place."""
    affine = np.diag([-1.0, 1.0, 2.0, 1.0])
    affine[:3, 3] = (30, -20, -10)
    scan = np.full((40, 48, 30), 100, np.int16)
    scan[:, :, 0] = 0
    scan[:, :, -1] = 200
    mask = np.zeros(scan.shape, np.uint8)
    mask[6:20, 10:30, 5:15] = 2
    for name, array in (("scan", scan), ("truth", mask)):
        nib.save(nib.Nifti1Image(array, affine), tmp_path / f"{name}.nii.gz")
    return of_files(tmp_path / "scan.nii.gz", [tmp_path / "truth.nii.gz"])


def in_slice(watched: Watched, plane: str) -> NDArray[np.uint8]:
    press(watched, {"axial": "2", "coronal": "3", "sagittal": "4"}[plane])
    return pixels(watched)


# Columns and rows of a slice run along these axes of space: of the box, from and to in voxels,
# counted from the left and from below. The first axis of the file points left.
SLICES = {
    "axial": ((20 / 40, 34 / 40), (10 / 48, 30 / 48), 40, 48),
    "coronal": ((20 / 40, 34 / 40), (5 / 30, 15 / 30), 40, 60),
    "sagittal": ((10 / 48, 30 / 48), (5 / 30, 15 / 30), 48, 60),
}


@pytest.mark.parametrize("plane", SLICES)
@pytest.mark.parametrize("style", ["filled", "outlines"])
def test_the_mask_of_a_volume_is_where_it_is(
    show: Callable[..., Watched], volume: Exhibit, plane: str, style: str
) -> None:
    watched = show(volume)
    if style == "outlines":
        press(watched, "o")
    picture = in_slice(watched, plane)
    (x0, x1), (y0, y1), across, along = SLICES[plane]
    height, width = picture.shape[:2]
    scale = min(width / across, height / along)
    left, bottom = (width - across * scale) / 2, (height + along * scale) / 2
    expected = [
        bottom - y1 * along * scale,
        bottom - y0 * along * scale,
        left + x0 * across * scale,
        left + x1 * across * scale,
    ]
    red, _, blue = (picture[..., k].astype(int) for k in range(3))
    # Class 2 is blue, everything else grey.
    found = bounds(blue - red > 40)
    # Smoothing takes part of a voxel where the mask is filled; along Z they are two units long.
    assert np.allclose(found, expected, atol=scale if style == "filled" else 2)
    if style == "outlines":
        row = is_colour(picture, of_value(2))[int((expected[0] + expected[1]) / 2) + 20]
        assert row.sum() == 2


def test_the_crosshair_tells_where_it_is(show: Callable[..., Watched], volume: Exhibit) -> None:
    watched = show(volume)
    text = watched.page.inner_text("#readout")
    # It begins where there is most of the mask: the first of equal slices, and the middle of a row.
    assert "voxel 13, 10, 5" in text
    assert text.startswith("17.0, -10.0, 0.0 mm")
    assert "value 100" in text
    assert "truth: label 2 (2)" in text
    watched.page.locator("#stage").focus()
    press(watched, "PageUp", "ArrowUp", *["ArrowRight"] * 8)
    text = watched.page.inner_text("#readout")
    # Right, front and up of the person: of the file's axes the first points left.
    assert text.startswith("25.0, -9.0, 2.0 mm")
    assert "voxel 5, 11, 6" in text
    assert "truth: \u2013" in text


def test_layouts_labels_and_contrast_of_a_volume(
    show: Callable[..., Watched], volume: Exhibit
) -> None:
    watched = show(volume)
    whole = pixels(watched)
    press(watched, "5")
    assert (pixels(watched) != whole).any()
    assert watched.page.get_by_role("button", name="3-D").get_attribute("aria-pressed") == "true"
    press(watched, "2")
    picture = pixels(watched).astype(int)
    assert (picture[..., 2] - picture[..., 0] > 40).any()
    watched.page.get_by_label("label 2").uncheck()
    press(watched)
    picture = pixels(watched).astype(int)
    assert not (picture[..., 2] - picture[..., 0] > 40).any()
    before = picture.mean()
    watched.page.locator("#high").fill("110")
    press(watched)
    assert pixels(watched).mean() > before


@pytest.fixture
def run(tmp_path: Path) -> Exhibit:
    """Three cases as `view` lists them, with a name that is markup and one undefined score."""
    tifffile.imwrite(tmp_path / "a.tif", np.full((64, 64), GREY, np.uint8))
    tifffile.imwrite(tmp_path / "m.tif", np.eye(64, dtype=np.uint8))
    layers = (Layer(tmp_path / "m.tif", "truth"),)
    entries = tuple(
        Entry(Case(name, (tmp_path / "a.tif",)), layers, (("mean Dice", score),), ("A note.",))
        for name, score in (("worst", 0.25), ("<img src=x onerror=alert(1)>", 0.75), ("x", np.nan))
    )
    return Exhibit("run & more", entries, (Label(0, "background"), Label(1, "<b>cell</b>")), False)


def test_cases_are_gone_through_by_keys(show: Callable[..., Watched], run: Exhibit) -> None:
    watched = show(run)
    page = watched.page
    listed = page.locator("#case-list button").all_inner_texts()
    assert [text.split("\n") for text in listed] == [
        ["worst", "0.250"],
        ["<img src=x onerror=alert(1)>", "0.750"],
        ["x", "\u2013"],
    ]

    def current() -> str:
        return str(page.locator("#case-list [aria-current] span").first.inner_text())

    assert current() == "worst"
    press(watched, "j")
    assert current().startswith("<img")
    assert page.inner_text("h1").startswith("<img")
    press(watched, "ArrowDown")
    assert current() == "x"
    press(watched, "j")
    assert current() == "x"
    press(watched, "k", "ArrowUp")
    assert current() == "worst"
    assert page.locator("#panel").get_by_text("<b>cell</b>").count() == 1
    assert page.locator("#panel").get_by_text("A note.").count() == 1
    # Everything is reached by Tab, and what has the focus is seen.
    reached = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.value"))
    assert {"stage", "help-button", "1", "style", "opacity", "low", "high"} <= reached


def test_volumes_are_gone_through_faster_than_they_are_read(
    tmp_path: Path, show: Callable[..., Watched]
) -> None:
    """What is shown at the end is the last case, with its own value, mask and contrast."""
    entries = []
    for number in range(4):
        scan, mask = np.zeros((20, 24, 16), np.int16), np.zeros((20, 24, 16), np.uint8)
        scan[:] = 100 * (number + 1)
        scan[0] = 0
        mask[4:9, 4:9, 4:9] = number + 1
        paths = tmp_path / f"scan{number}.nii", tmp_path / f"mask{number}.nii"
        for path, array in zip(paths, (scan, mask), strict=True):
            nib.save(nib.Nifti1Image(array, np.eye(4)), path)
        entries.append(Entry(Case(f"case{number}", (paths[0],)), (Layer(paths[1], "truth"),)))
    watched = show(Exhibit("run", tuple(entries), (), False))
    for key in "jjjkj":
        watched.page.keyboard.press(key)
    press(watched)
    text = watched.page.inner_text("#readout")
    assert "value 400" in text
    assert "truth: label 4 (4)" in text
    assert watched.page.locator("#high").input_value() == "400"
    assert watched.page.locator(".legend label").all_inner_texts() == ["label 4"]


def test_keys_are_told(show: Callable[..., Watched], run: Exhibit) -> None:
    watched = show(run)
    press(watched, "?")
    assert watched.page.locator("#help").is_visible()
    assert "next and previous case" in watched.page.inner_text("#help")
    assert watched.violations() == []
    watched.page.keyboard.press("Escape")
    assert not watched.page.locator("#help").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["image", "volume", "run"])
def test_nothing_serious_for_those_who_see_it_otherwise(
    show: Callable[..., Watched], request: pytest.FixtureRequest, kind: str, scheme: str
) -> None:
    watched = show(request.getfixturevalue(kind), color_scheme=scheme)
    assert watched.violations() == []
    assert watched.page.locator("#stage").get_attribute("aria-label")


def test_objects_have_colours_of_their_own(tmp_path: Path, show: Callable[..., Watched]) -> None:
    mask = np.zeros((90, 120), np.uint16)
    for number in range(12):
        row, column = divmod(number, 4)
        mask[row * 30 : row * 30 + 30, column * 30 : column * 30 + 30] = 500 + number
    scan = np.full(mask.shape, GREY, np.uint8)
    scan[0], scan[-1] = 0, 255
    tifffile.imwrite(tmp_path / "a.tif", scan)
    tifffile.imwrite(tmp_path / "b.tif", mask)
    watched = show(of_files(tmp_path / "a.tif", [tmp_path / "b.tif"]))
    picture = pixels(watched)
    shares = [is_colour(picture, blended(colour)).mean() for colour in COLOURS]
    # Squares that touch one another, corners too, need four colours at least.
    assert sum(share > 0.01 for share in shares) >= 4
    assert "own number" in watched.page.inner_text("#panel")


def test_films_keep_their_place_from_time_to_time(
    tmp_path: Path, show: Callable[..., Watched]
) -> None:
    film = np.zeros((3, 200, 300), np.uint8)
    for time in range(3):
        film[time, :, time * 100 : time * 100 + 100] = 200
    tifffile.imwrite(tmp_path / "a.tif", film, imagej=True, metadata={"axes": "TYX"})
    watched = show(of_files(tmp_path / "a.tif", []))
    assert "3 time points" in watched.page.inner_text("#about")
    press(watched, "+", "+")
    first = pixels(watched)
    press(watched, ">")
    second = pixels(watched)
    # The bright part is in the middle now, and as wide as it was.
    assert not first[300, first.shape[1] // 2].any()
    assert second[300, second.shape[1] // 2].min() == 255
    press(watched, "<")
    np.testing.assert_array_equal(pixels(watched), first)
    watched.page.locator("#time").focus()
    press(watched, "ArrowRight")
    np.testing.assert_array_equal(pixels(watched), second)
    # What has the focus keeps it.
    assert watched.page.evaluate("document.activeElement.id") == "time"


def test_a_file_that_breaks_later_is_told(tmp_path: Path, visit: Visit, run: Exhibit) -> None:
    with Viewer(run) as viewer:
        (tmp_path / "m.tif").unlink()
        watched = visit(viewer.url)
        watched.page.wait_for_function(DRAWN)
        assert "cannot be read" in watched.page.inner_text("#message")
    # The browser itself reports the answer as an error.
    assert len(watched.faults) == 1
    watched.faults.clear()
