"""Dice, or average precision of objects, on unseen cases after a training of given length.

    python benchmarks/accuracy.py DATA [--minutes 10] [--seed 0] [--results FILE.json]
                                  [--keep FOLDER] [--qualities fast best] [-- OPTIONS]

Every fifth case (by name) is set apart before anything is looked at; `unetseg train` sees the
others only and holds out its own validation fold among them. What follows `--` goes to `train`;
with `--folds 5` the minutes are those of all folds together. Prints a table and writes JSON with
machine, versions, commit and every case's score. `--keep` leaves division, run and masks there;
`--qualities` scores the same model's predictions of these kinds too.
"""

import argparse
import csv
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from unetseg.dataset import find_cases
from unetseg.processes import usable_cores

REPOSITORY = Path(__file__).resolve().parents[1]
CPUINFO = Path("/proc/cpuinfo")
# After the name of code that is not the committed one.
CHANGED = "-dirty"


@dataclass(frozen=True)
class Trial:
    """One training that is to be scored on unseen cases.

    options : of `unetseg train`, beside time and seed
    qualities : of `unetseg predict`, beside the one by default
    """

    data: Path
    minutes: float
    seed: int
    options: tuple[str, ...] = ()
    qualities: tuple[str, ...] = ()


def split(data: Path, folder: Path) -> int:
    """Write train.csv and the test cases' links; the number of test cases."""
    cases = [case for case in find_cases(data).cases if case.truth]
    held_out = cases[::5]
    for name in ("images", "labels"):
        (folder / name).mkdir()
    for case in held_out:
        for image in case.images:
            (folder / "images" / image.name).symlink_to(image.resolve())
        (folder / "labels" / case.truth.name).symlink_to(case.truth.resolve())
    with (folder / "train.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label"])
        for case in cases:
            if case not in held_out:
                images = ";".join(str(image.resolve()) for image in case.images)
                writer.writerow([images, case.truth.resolve()])
    return len(held_out)


def run(*arguments: str | Path) -> tuple[str, float]:
    """Run `unetseg` and return what it wrote to stdout, and the seconds it took."""
    begun = time.perf_counter()
    command = [sys.executable, "-m", "unetseg.cli", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout, time.perf_counter() - begun


def score(folder: Path, masks: Path, *, merge: bool) -> dict[str, object]:
    """The masks against the labels that `split` has set apart: Dice per class, and every case's."""
    options = ["--json", *(["--merge-labels"] if merge else [])]
    table, _ = run("evaluate", folder / "labels", masks, *options)
    rows = [json.loads(line) for line in table.splitlines()]
    by_class: dict[str, list[float]] = {}
    for row in rows:
        if row["dice"] is not None:
            by_class.setdefault(f"{row['label']} {row['name']}", []).append(row["dice"])
    means = {key: statistics.mean(values) for key, values in by_class.items()}
    return {"dice": means, "mean_dice": statistics.mean(means.values()), "scores": rows}


def score_objects(folder: Path, masks: Path) -> dict[str, object]:
    """Objects of all cases together, matched one to one; and every case's row."""
    from unetseg.evaluation import evaluate, to_json

    found = evaluate(folder / "labels", masks, objects=True)
    (pooled,) = found.pooled
    return {"objects": dict(pooled.values), "object_scores": to_json(found)}


def measure(trial: Trial, keep: Path | None = None) -> dict[str, Any]:
    """Train, predict and score in a folder that is removed afterwards, or in a new one to keep.

    steps : of all folds together
    by_quality : Dice and seconds of the trial's other qualities
    curve : seconds and mean score of every validation on the way; of each fold by itself
    objects : of a model of objects; its Dice is that of the foreground
    """
    # Others take from here what needs no torch, and measure how much memory they take.
    from unetseg.checkpoint import load_plan

    with ExitStack() as stack:
        if keep is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        else:
            folder = keep
            folder.mkdir(parents=True)
        tested = split(trial.data, folder)
        train = ["train", folder / "train.csv", "-o", folder / "run", "--seed", str(trial.seed)]
        _, train_seconds = run(*train, "--time", f"{60 * trial.minutes:g}s", *trial.options)
        data = load_plan(folder / "run").data

        def predicted(masks: str, *options: str) -> dict[str, Any]:
            words = ["predict", folder / "images", "-o", folder / masks, "--model", folder / "run"]
            _, seconds = run(*words, *options)
            found = score(folder, folder / masks, merge=data.merge_labels or data.has_objects)
            return {**found, "predict_seconds": round(seconds, 1)}

        scored = predicted("masks")
        by_quality = {}
        for quality in trial.qualities:
            by_quality[quality] = predicted(f"masks_{quality}", "--quality", quality)
            del by_quality[quality]["scores"]
        if data.has_objects:
            scored |= score_objects(folder, folder / "masks")
        # A time that was over before the first step leaves no row, or no table.
        tables = [*(folder / "run").glob("history.csv"), *(folder / "run").glob("*/history.csv")]
        histories = [list(csv.DictReader(table.open())) for table in sorted(tables)]
    rows = [row for history in histories for row in history]
    timed = [row for row in rows if row["steps_per_second"]]
    mean = "mean_ap" if data.has_objects else "mean_dice"
    return {
        "data": trial.data.name,
        "minutes": trial.minutes,
        "seed": trial.seed,
        "options": list(trial.options),
        "test_cases": tested,
        "dice": scored["dice"],
        "mean_dice": scored["mean_dice"],
        "steps": sum(int(history[-1]["step"]) for history in histories if history),
        "steps_per_second": mean_or_none([float(row["steps_per_second"]) for row in timed]),
        "waiting": mean_or_none([float(row["waiting"]) for row in timed]),
        "curve": [[float(r["seconds"]), float(r[mean])] for r in rows if r[mean]],
        "train_seconds": round(train_seconds, 1),
        "predict_seconds": scored["predict_seconds"],
        **({"by_quality": by_quality} if by_quality else {}),
        **surroundings(),
        **{key: scored[key] for key in ("objects", "object_scores", "scores") if key in scored},
    }


def mean_or_none(values: list[float]) -> float | None:
    return statistics.mean(values) if values else None


def surroundings() -> dict[str, object]:
    """Machine, versions and commit, without which a number means nothing.

    code : of the package alone, the same whatever is committed beside it
    """
    lines = CPUINFO.read_text().splitlines() if CPUINFO.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    changed = bool(git("status", "--porcelain", "--", "unetseg"))
    return {
        "machine": f"{platform.machine()}, {usable_cores()} cores",
        "processor": names[0] if names else platform.processor(),
        "versions": {name: version(name) for name in ("unetseg", "torch", "monai", "numpy")},
        "commit": git("describe", "--always", "--dirty"),
        "code": git("rev-parse", "--short", "HEAD:unetseg") + (CHANGED if changed else ""),
    }


def git(*words: str) -> str:
    """What git says about this repository, nothing outside of one."""
    command = ["git", "-C", str(REPOSITORY), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def options_after_dashes() -> tuple[list[str], tuple[str, ...]]:
    """The words before and after `--`, at which argparse before Python 3.12 stumbles."""
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)
    return words[:cut], tuple(words[cut + 1 :])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path)
    parser.add_argument("--keep", type=Path, help="a new folder for all that is made")
    parser.add_argument("--qualities", nargs="*", default=[], help="fast, best: with these too")
    words, passed_on = options_after_dashes()
    given = parser.parse_args(words)
    trial = Trial(given.data, given.minutes, given.seed, passed_on, tuple(given.qualities))
    result = measure(trial, given.keep)
    for key in ("data", "minutes", "seed", "test_cases", "dice", "mean_dice", "steps", "waiting"):
        print(f"{key:16} {result[key]}")
    for quality, found in result.get("by_quality", {}).items():
        print(f"{quality:16} {found['mean_dice']}, predict {found['predict_seconds']}")
    for key, value in result.get("objects", {}).items():
        print(f"{key:16} {value:.4g}")
    seconds = f"train {result['train_seconds']:.0f}, predict {result['predict_seconds']:.1f}"
    print(f"{'seconds':16} {seconds}")
    if given.results:
        given.results.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
