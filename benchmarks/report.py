"""How long the report of a run takes to be written and to be opened, and how large it is.

    python benchmarks/report.py [--cases 200] [--kind classes] [--runs 3] [--results FILE.json]

Makes a run with that many validation cases of 96 x 96 x 48 voxels, without a training. Written:
the command `unetseg report`, as a whole process; work: the time of a processor that it takes,
which is less where others use the machine too. Opened: from the request of a Chromium without
a window until the page has loaded and is drawn. Prints the median and the slowest of the runs.
"""

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from accuracy import surroundings
from made_cases import Made
from made_run import make_run

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_SHAPES = {"classes": (96, 96, 48), "regions": (96, 96, 48), "objects": (512, 512)}
# Two frames after it has loaded, what it shows is on the screen.
_DRAWN = "() => new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))"


def writing(run: Path, runs: int) -> tuple[list[float], list[float]]:
    """Seconds of the command, each time as a process of its own, and of a processor's work."""
    program = str(Path(sys.executable).with_name("unetseg"))
    taken, worked = [], []
    for _ in range(runs):
        begun, before = time.perf_counter(), _work()
        subprocess.run([program, "report", str(run)], capture_output=True, check=True)
        taken.append(time.perf_counter() - begun)
        worked.append(_work() - before)
    return taken, worked


def _work() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def opening(page: Path, runs: int) -> list[float] | None:
    """Seconds until the page is drawn, in a fresh window each; None without a browser."""
    found = next(filter(None, map(shutil.which, _BROWSERS)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    if found is None:
        return None
    taken = []
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=found, args=flags)
        # The first window of a browser is not the page's.
        for _ in range(runs + 1):
            context = browser.new_context(viewport={"width": 1280, "height": 900})
            window = context.new_page()
            begun = time.perf_counter()
            window.goto(page.resolve().as_uri(), wait_until="load")
            window.evaluate(_DRAWN)
            taken.append(time.perf_counter() - begun)
            context.close()
        browser.close()
    return taken[1:]


def summary(taken: list[float] | None) -> dict[str, float] | None:
    if taken is None:
        return None
    return {"median": round(statistics.median(taken), 3), "slowest": round(max(taken), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--kind", choices=sorted(_SHAPES), default="classes")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--results", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        made = Made(cases=given.cases, kind=given.kind, shape=_SHAPES[given.kind])
        run = make_run(Path(name), made)
        written, worked = writing(run, given.runs)
        page = run / "report.html"
        size = page.stat().st_size
        opened = opening(page, given.runs)
    result: dict[str, Any] = {
        "cases": given.cases,
        "kind": given.kind,
        "shape": list(made.shape),
        "bytes": size,
        "write_seconds": summary(written),
        "write_processor_seconds": summary(worked),
        "open_seconds": summary(opened),
        **surroundings(),
    }
    print(f"{given.cases} cases of {' x '.join(map(str, made.shape))} voxels, {given.kind}")
    print(f"  size    {size / 1e6:6.2f} MB")
    rows = {"written": "write_seconds", "work": "write_processor_seconds", "opened": "open_seconds"}
    for title, key in rows.items():
        found = result[key]
        told = f"median {found['median']:.2f} s, slowest {found['slowest']:.2f} s" if found else "-"
        print(f"  {title:7} {told}")
    if given.results:
        given.results.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
