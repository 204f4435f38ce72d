"""Dice on unseen cases after a training of given length.

    python benchmarks/accuracy.py DATA [--minutes 10] [--seed 0] [--results FILE.json] [-- OPTIONS]

Every fifth case (by name) is set apart before anything is looked at; `unetseg train` sees the
others only and holds out its own validation fold among them. What follows `--` goes to `train`.
Prints a table and writes JSON with machine, versions, commit and every case's score.
"""

import argparse
import csv
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from unetseg.dataset import find_cases


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


def surroundings() -> dict[str, object]:
    """Machine, versions and commit, without which a number means nothing."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    described = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {name: version(name) for name in ("unetseg", "torch", "monai", "numpy")},
        "commit": described.stdout.strip(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path)
    # argparse before Python 3.12 stumbles over options behind a `--` that follows others.
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)
    given, passed_on = parser.parse_args(words[:cut]), words[cut + 1 :]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tested = split(given.data, folder)
        train = ["train", folder / "train.csv", "-o", folder / "run", "--seed", str(given.seed)]
        _, train_seconds = run(*train, "--time", f"{given.minutes}m", *passed_on)
        model = ["--model", folder / "run"]
        _, predict_seconds = run("predict", folder / "images", "-o", folder / "masks", *model)
        merge = "merge_labels = true" in (folder / "run" / "plan.toml").read_text()
        options = ["--json", *(["--merge-labels"] if merge else [])]
        table, _ = run("evaluate", folder / "labels", folder / "masks", *options)
        rows = [json.loads(line) for line in table.splitlines()]
        history = list(csv.DictReader((folder / "run" / "history.csv").open()))
    by_class: dict[str, list[float]] = {}
    for row in rows:
        if row["dice"] is not None:
            by_class.setdefault(f"{row['label']} {row['name']}", []).append(row["dice"])
    means = {key: statistics.mean(values) for key, values in by_class.items()}
    waiting = [float(row["waiting"]) for row in history]
    result = {
        "data": given.data.name,
        "minutes": given.minutes,
        "seed": given.seed,
        "options": passed_on,
        "test_cases": tested,
        "dice": means,
        "mean_dice": statistics.mean(means.values()),
        "steps": int(history[-1]["step"]),
        "waiting": statistics.mean(waiting),
        "train_seconds": round(train_seconds, 1),
        "predict_seconds": round(predict_seconds, 1),
        **surroundings(),
        "scores": rows,
    }
    for key in ("data", "minutes", "seed", "test_cases", "dice", "mean_dice", "steps", "waiting"):
        print(f"{key:16} {result[key]}")
    print(f"{'seconds':16} train {train_seconds:.0f}, predict {predict_seconds:.1f}")
    if given.results:
        given.results.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
