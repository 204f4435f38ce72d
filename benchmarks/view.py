"""How long it takes from the command until a volume and its mask are on the screen.

    python benchmarks/view.py [--repeats 5] [--size 182 218 182] [--results FILE.json]

Makes a scan like a brain and a mask of two classes (.nii.gz), starts `unetseg view --no-open` and
opens the address that it prints in a headless Chromium that runs already, as a person's browser
does, without a graphics card. The end is the moment at which the page says that it is drawn. Also
measured: Python alone, Python with what the command imports, and `--screenshot`, which starts a
browser of its own. Prints a table: the median, the fastest and the slowest.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from accuracy import surroundings
from playwright.sync_api import sync_playwright
from scipy import ndimage

from unetseg.viewer.browsers import browser, options

VIEW = (sys.executable, "-m", "unetseg.cli", "view")
DRAWN = "() => document.documentElement.dataset.drawn || document.documentElement.dataset.failed"


def make_scan(folder: Path, shape: tuple[int, ...]) -> tuple[Path, Path]:
    """A ball with a smooth texture, and two balls within it; both .nii.gz, 1 mm."""
    rng = np.random.default_rng(0)
    places = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    distance = np.sqrt(sum(place**2 for place in places))
    texture = ndimage.gaussian_filter(rng.normal(size=shape), 2)
    scan = np.where(distance < 0.9, 600 + 2000 * texture, 0) + rng.normal(scale=10, size=shape)
    mask = np.zeros(shape, np.uint8)
    mask[np.sqrt(sum((place - 0.2) ** 2 for place in places)) < 0.25] = 1
    mask[np.sqrt(sum((place + 0.3) ** 2 for place in places)) < 0.15] = 2
    paths = folder / "scan.nii.gz", folder / "mask.nii.gz"
    for path, array in zip(paths, (scan.astype(np.int16), mask), strict=True):
        nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    return paths


def on_screen(started: Any, files: tuple[Path, Path]) -> float:
    """Seconds from the start of the command to the page's mark, in a page of its own."""
    page = started.new_page(viewport={"width": 1400, "height": 900})
    start = time.time()
    command = [*VIEW, *map(str, files), "--no-open"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        page.goto(process.stdout.readline().strip())
        page.wait_for_function(DRAWN, timeout=120_000)
        failed = page.evaluate("document.documentElement.dataset.failed")
        if failed:
            raise SystemExit(failed)
        return float(page.evaluate("document.documentElement.dataset.drawn")) / 1000 - start
    finally:
        process.terminate()
        process.wait()
        page.close()


def seconds_of(*command: str) -> float:
    """How long a command runs."""
    start = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - start


def row(name: str, measure: Callable[[], float], repeats: int) -> dict[str, Any]:
    """Measure, and print a line."""
    found = [measure() for _ in range(repeats)]
    print(f"{name:46} {statistics.median(found):6.2f} {min(found):6.2f} {max(found):6.2f}")
    return {"what": name, "seconds": [round(each, 2) for each in found]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--size", type=int, nargs=3, default=(182, 218, 182))
    parser.add_argument("--results", type=Path)
    given = parser.parse_args()
    imports = "import unetseg.cli, unetseg.viewer.server, nibabel"
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        files = make_scan(Path(folder), tuple(given.size))
        picture = str(Path(folder) / "picture.png")
        started = playwright.chromium.launch(executable_path=browser(), args=options())
        print(f"{platform.platform()}, {'x'.join(map(str, given.size))}, seconds")
        print(f"{'':46} median   min    max")
        rows = [
            row(name, measure, given.repeats)
            for name, measure in (
                ("python", lambda: seconds_of(sys.executable, "-c", "pass")),
                ("python with the imports", lambda: seconds_of(sys.executable, "-c", imports)),
                ("command to picture, browser running", lambda: on_screen(started, files)),
                (
                    "command to PNG, browser started by it",
                    lambda: seconds_of(*VIEW, *map(str, files), "--screenshot", picture),
                ),
            )
        ]
        started.close()
    if given.results:
        result = {"size": given.size, "rows": rows, **surroundings()}
        given.results.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
