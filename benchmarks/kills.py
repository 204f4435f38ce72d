"""Kill one short training again and again: every start goes on, and the result is the same.

    python benchmarks/kills.py [--kills 100] [--seed 0] [--results FILE.json]

A small training runs to its end undisturbed. The same training in another folder is then ended by
SIGKILL at random moments, a third of them before its first step, a third among steps, validations
and writing, and a third while a file is being written, and is started again each time; what a kill
costs is what was not saved, here an epoch at most. At the end the weights of both runs have to be
the same bit for bit, and so have the state and the rows of the history. Prints what happened,
writes JSON with machine, versions and commit, and ends with code 1 if a start failed or a
difference is left.
"""

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
from accuracy import surroundings
from safetensors.torch import load_file

from unetseg.runs import read_evidence
from unetseg.samples import write_samples

EPOCHS_PER_KILL = 2
# How long a kill waits for a file to be written.
PATIENCE = 5.0
SETTINGS = (
    "network.levels=2",
    "network.features=[4, 8]",
    "patch.size=[32, 32, 16]",
    "patch.batch=2",
    "training.precision=float32",
    "training.steps_per_epoch=2",
    "training.warmup_steps=4",
    "training.validation_cases=1",
)
WEIGHTS = ("model/weights", "last/weights", "resume/state")
# What in a row does not depend on the clock.
COLUMNS = ("epoch", "step", "learning_rate", "loss", "mean_dice", "best")


class Training:
    """A command that trains, in a process of its own."""

    def __init__(self, folder: Path, run: str, epochs: int) -> None:
        words = ["train", "sample/mr/train", "-o", run, "--epochs", str(epochs)]
        words += ["--device", "cpu", "--seed", "0", "--cache", "cache"]
        words += [word for setting in SETTINGS for word in ("--set", setting)]
        self.begun = time.perf_counter()
        self.log = folder / f"{run}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "unetseg.cli", *words],
                cwd=folder,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    def has_steps(self) -> bool:
        return "training ..." in self.log.read_text()

    def wait_for_steps(self) -> float:
        """Seconds until the first step, or until it ended."""
        while self.process.poll() is None and not self.has_steps():
            time.sleep(0.01)
        return time.perf_counter() - self.begun

    def wait(self, seconds: float) -> None:
        """Until so many seconds are over, or it ended."""
        try:
            self.process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            return

    def wait_for_writing(self, run: Path) -> None:
        """Until there is one more unfinished file, or patience or the training ends."""
        until, before = time.perf_counter() + PATIENCE, unfinished(run)
        while unfinished(run) <= before and time.perf_counter() < until:
            if self.process.poll() is not None:
                return

    def kill(self) -> bool:
        """Kill it; False if it had ended already."""
        if self.process.poll() is not None:
            return False
        self.process.kill()
        return self.process.wait() < 0

    def end(self) -> float:
        """Seconds from start to end. Raises RuntimeError with the last line of a failure."""
        self.process.wait()
        if self.process.returncode:
            lines = self.log.read_text().splitlines() or ["nothing said"]
            raise RuntimeError(f"exit code {self.process.returncode}: {lines[-1]}")
        return time.perf_counter() - self.begun


def unfinished(run: Path) -> int:
    """Files that a killed writer has left."""
    return sum(1 for path in run.rglob(".*") if path.is_file())


def rows(run: Path) -> list[tuple[str, ...]]:
    with (run / "history.csv").open(newline="") as file:
        return [tuple(row[column] for column in COLUMNS) for row in csv.DictReader(file)]


def differences(run: Path, other: Path) -> Iterator[str]:
    """Whatever differs between two finished runs, apart from times."""
    for part in WEIGHTS:
        one, two = (load_file(folder / f"{part}.safetensors") for folder in (run, other))
        for name in sorted(one.keys() | two.keys()):
            if name not in one or name not in two or not torch.equal(one[name], two[name]):
                yield f"{part}: {name}"
    if rows(run) != rows(other):
        yield "history.csv"
    if (run / "validation.csv").read_text() != (other / "validation.csv").read_text():
        yield "validation.csv"
    if read_evidence(run) is None or read_evidence(run) != read_evidence(other):
        yield "validation.json"
    if unfinished(run):
        yield f"{unfinished(run)} unfinished files"


def killed(folder: Path, kills: int, seed: int) -> dict[str, object]:
    """Train twice in the folder, once undisturbed; what happened, and what differs."""
    rng, epochs = random.Random(seed), EPOCHS_PER_KILL * kills
    write_samples(folder / "sample")
    whole = Training(folder, "whole", epochs)
    early = whole.wait_for_steps()
    late = whole.end() - early
    print(f"undisturbed: {epochs} epochs in {late:.1f} s after {early:.1f} s of start-up")
    counts: Counter[str] = Counter()
    # The training shall not be over long before the kills are.
    most = 2 * late / kills
    begun, run = time.perf_counter(), folder / "run"
    while counts["kills"] < kills and counts["starts"] < 3 * kills:
        training = Training(folder, "run", epochs)
        counts["starts"] += 1
        moment, seconds = rng.choice(("early", "late", "writing")), rng.uniform(0, 1)
        if moment == "early":
            training.wait(seconds * early)
        else:
            training.wait_for_steps()
            training.wait(seconds * most)
        if moment == "writing":
            training.wait_for_writing(run)
        if not training.kill():
            # Over before its time: it ended well, or this says why not.
            training.end()
            counts["ended before they were killed"] += 1
            continue
        counts["kills"] += 1
        counts["in the steps" if training.has_steps() else "before the steps"] += 1
        # The next start removes what this one has left.
        counts["of these while a file was written"] += unfinished(run) > 0
    Training(folder, "run", epochs).end()
    seconds = time.perf_counter() - begun
    found = list(differences(run, folder / "whole"))
    return {"epochs": epochs, "seconds": round(seconds, 1), **counts, "differences": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--results", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        result = killed(Path(name), given.kills, given.seed)
    for key, value in result.items():
        print(f"{key:34} {value}")
    if given.results:
        content = {"seed": given.seed, **result, **surroundings()}
        given.results.write_text(json.dumps(content, indent=1) + "\n")
    sys.exit(1 if result["differences"] else 0)


if __name__ == "__main__":
    main()
