"""How well and how fast a training learns: tables, and a JSON file that grows call by call.

    python benchmarks/train.py dice DATA... [--minutes 2 5 10 20 30] [--seeds 0 1 2] [-- OPTIONS]
    python benchmarks/train.py steps [DATA...] [--rounds 30] [--device auto] [--set KEY=VALUE]
    python benchmarks/train.py choices [DATA...] [--rounds 10] [--no-compile]

`dice` scores unseen cases after trainings of those lengths, as accuracy.py does, with iterations
per second, the share of waiting, and the seconds by which the whole command missed its time. Where
nnunetv2 is installed (release 2.8), nnU-Net with its schedule shortened to the same minutes stands
beside it. With `--results FILE.json` every training is kept as soon as it is done, and one that is
there already, of the same committed code on the same machine, is not done again: hours can be
spread over several calls. `--qualities best` scores every model's predictions of that kind too.
`--reach 0.9` says after how many minutes a validation on the way was as good as that. `steps`
compares a step with forward and backward alone on a batch that is on the device, and shows its
parts; on a CUDA device also the operations per second. `choices` compares precision, memory layout
and torch.compile. Without DATA these two take synthetic sets of the shapes of hippocampus and
nuclei_fluo. OPTIONS go to `unetseg train`.
"""

import argparse
import json
import secrets
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from accuracy import CHANGED, Trial, measure, options_after_dashes, score, split, surroundings
from steps import bench, choice_times, step_times, synthetic

from unetseg.config import parse_settings
from unetseg.files import write_text

MINUTES, SEEDS = (2, 5, 10, 20, 30), (0, 1, 2)
# The most by which a training may miss its time, as a share or in seconds.
SHARE_OVER, SECONDS_OVER = 0.03, 10.0
RATIO = 1.03
# Of what is kept, what makes two trainings the same one.
SAME = ("who", "data", "minutes", "seed", "options", "code", "machine", "processor")

Row = dict[str, Any]


class Results:
    """The JSON file, which is whole after every addition; without a path nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._content: dict[str, list[Row]] = {}
        if path and path.is_file():
            self._content = json.loads(path.read_text())

    def __getitem__(self, part: str) -> list[Row]:
        return self._content.setdefault(part, [])

    def add(self, part: str, *rows: Row) -> None:
        self[part].extend(rows)
        if self._path:
            write_text(self._path, json.dumps(self._content, indent=1) + "\n")


# --- Dice against minutes ------------------------------------------------------------------------


def peer_version() -> str | None:
    """The release of nnU-Net that is installed."""
    try:
        return version("nnunetv2")
    except PackageNotFoundError:
        return None


def measure_unetseg(trial: Trial) -> Row:
    result = measure(trial)
    # Every case's score would be most of a file that grows; accuracy.py keeps them.
    del result["scores"]
    result.pop("object_scores", None)
    return result


def measure_peer(trial: Trial) -> Row:
    """nnU-Net on the same division, its masks scored in the same way."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tested = split(trial.data, folder)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        words = ["--minutes", str(trial.minutes), "--seed", str(trial.seed), "--device", device]
        program = Path(__file__).with_name("peer.py")
        command = [sys.executable, str(program), str(folder), *words]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        result: Row = json.loads(done.stdout.splitlines()[-1])
        scored = score(folder, folder / "peer" / "masks", merge=result.pop("merge_labels"))
    del scored["scores"]
    asked = {"data": trial.data.name, "minutes": trial.minutes, "seed": trial.seed}
    return {**asked, "options": [], "test_cases": tested, **scored, **result, **surroundings()}


def dice(given: argparse.Namespace, results: Results, passed_on: Sequence[str]) -> None:
    """Make the trainings that are missing, shortest first, and show all of them."""
    peer = peer_version()
    makers: list[tuple[str, tuple[str, ...], Callable[[Trial], Row]]] = [
        ("unetseg", tuple(passed_on), measure_unetseg)
    ]
    if peer:
        makers.append((f"nnU-Net {peer}", (), measure_peer))
    for minutes in sorted(given.minutes):
        for data in given.data:
            for seed in given.seeds:
                for who, options, make in makers:
                    asked = {"who": who, "data": data.name, "minutes": minutes, "seed": seed}
                    wanted = key({**asked, "options": list(options), **surroundings()})
                    if wanted in map(key, results["trainings"]):
                        continue
                    print(f"{who}, {data.name}, {minutes:g} minutes, seed {seed} ...", flush=True)
                    trial = Trial(data, minutes, seed, options, tuple(given.qualities))
                    row = {"who": who, **make(trial)}
                    results.add("trainings", row)
    show_dice(results["trainings"], given.reach)
    if not peer:
        print("nnunetv2 is not installed: nothing stands beside it")


def key(row: Row) -> str:
    """What makes a training the same as another; the peer does not depend on this code."""
    parts = {name: row.get(name) for name in SAME}
    if row["who"] != "unetseg":
        del parts["code"]
    elif row["code"].endswith(CHANGED):
        # Nobody knows whether it was changed in the same way.
        parts["code"] = secrets.token_hex(8)
    return json.dumps(parts)


def show_dice(rows: Sequence[Row], reach: Sequence[float]) -> None:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        code = row["code"] if row["who"] == "unetseg" else ""
        words = (row["data"], row["who"], *row["options"], code)
        groups.setdefault((" ".join(filter(None, words)), row["minutes"]), []).append(row)
    print("minutes seeds Dice (range)             steps steps/s waiting seconds over, of what")
    for (name, minutes), members in sorted(groups.items()):
        dice = [row["mean_dice"] for row in members]
        over = max(row["train_seconds"] - 60 * minutes for row in members)
        is_late = over > max(SECONDS_OVER, SHARE_OVER * 60 * minutes)
        steps, speed, waiting = (
            mean_of(members, column, form)
            for column, form in (("steps", ".0f"), ("steps_per_second", ".2f"), ("waiting", ".3%"))
        )
        print(
            f"{minutes:7g} {len(members):5}"
            f" {statistics.mean(dice):.4f} ({min(dice):.4f} to {max(dice):.4f})"
            f" {steps:>6} {speed:>7} {waiting:>7} {over:+12.1f}, {name}"
            f"{' TOO LATE' if is_late else ''}"
        )
    for row in rows:
        for quality, found in row.get("by_quality", {}).items():
            said = f"{row['minutes']:g} minutes, seed {row['seed']}: {found['mean_dice']:.4f}"
            print(f"{row['data']}, {quality}, {said}")
    for wanted in reach:
        for data in sorted({row["data"] for row in rows}):
            curves = [row["curve"] for row in rows if row["data"] == data and "curve" in row]
            reached = [m for curve in curves if (m := minutes_to(curve, wanted)) is not None]
            first = f"after {min(reached):.1f} minutes" if reached else "not reached"
            print(f"{data}: validation Dice {wanted:g} {first}, of {len(curves)} trainings")


def mean_of(rows: Sequence[Row], name: str, form: str) -> str:
    """The mean over the rows that have it."""
    values = [row[name] for row in rows if row.get(name) is not None]
    return format(statistics.mean(values), form) if values else "-"


def minutes_to(curve: Sequence[Sequence[float]], wanted: float) -> float | None:
    """When a validation on the way first was as good as that."""
    return next((seconds / 60 for seconds, score in curve if score >= wanted), None)


# --- the time of a step --------------------------------------------------------------------------


@contextmanager
def data_sets(given: Sequence[Path]) -> Iterator[Sequence[Path]]:
    """Those given, or synthetic ones."""
    with tempfile.TemporaryDirectory() as name:
        yield given or synthetic(Path(name))


def steps(given: argparse.Namespace, results: Results) -> None:
    with data_sets(given.data) as folders:
        for data in folders:
            with bench(data, given.device, parse_settings(tuple(given.set))) as ready:
                row = {"settings": given.set, **step_times(ready, given.rounds)}
            results.add("steps", row | surroundings())
            low, high = row["ratio_quartiles"]
            says = "as wanted" if row["ratio"] <= RATIO else f"more than {RATIO}"
            print(f"{row['data']}: {row['batch']}, {row['device']}, {row['precision']}")
            print(f"  step {row['step_ms']:.1f} ms, {row['steps_per_second']:.2f} per second,")
            print(f"  waiting {row['waiting']:.3%}, crops in the thread {row['crops_ms']:.1f} ms")
            print(f"  forward and backward alone {row['forward_backward_ms']:.1f} ms")
            print(f"  ratio {row['ratio']:.3f} (quartiles {low:.3f} to {high:.3f}), {says}")
            whole = sum(row["parts_ms"].values())
            for name, taken in row["parts_ms"].items():
                print(f"    {name:22} {taken:9.2f} ms  {taken / whole:7.2%}")
            if "tflops" in row:
                print(
                    f"  {row['tflops']:.2f} TFLOP/s, {row['share_of_matrix_rate']:.1%} of the"
                    f" {row['matrix_tflops']:.1f} of a product of matrices"
                )
            else:
                print("  no CUDA device: operations per second are not measured")


def choices(given: argparse.Namespace, results: Results) -> None:
    with data_sets(given.data) as folders:
        for data in folders:
            with bench(data, given.device, parse_settings(tuple(given.set))) as ready:
                rows = choice_times(ready, given.rounds, compiled=given.compile)
            results.add("choices", *(row | surroundings() for row in rows))
            print(f"{data.name}: {rows[0]['batch']}, {rows[0]['device']}")
            for row in rows:
                said = row.get("failed") or (
                    f"{row['ms']:9.1f} ms  {row['ratio']:.3f}  first call {row['first_seconds']} s"
                )
                print(f"  {row['choice']:26} {said}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = parser.add_subparsers(dest="part", required=True)
    of_dice = parts.add_parser("dice", help="Dice on unseen cases against minutes")
    of_dice.add_argument("data", type=Path, nargs="+")
    of_dice.add_argument("--minutes", type=float, nargs="+", default=MINUTES)
    of_dice.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    of_dice.add_argument(
        "--qualities", nargs="*", default=[], help="fast, best: score unetseg's with these too"
    )
    of_dice.add_argument("--reach", type=float, nargs="*", default=(), help="minutes to this Dice")
    of_steps = parts.add_parser("steps", help="a step against forward and backward alone")
    of_choices = parts.add_parser("choices", help="precision, layout and compiling")
    for part, rounds in ((of_steps, 30), (of_choices, 10)):
        part.add_argument("data", type=Path, nargs="*")
        part.add_argument("--rounds", type=int, default=rounds)
        part.add_argument("--device", default="auto")
        part.add_argument("--set", action="append", default=[], help="a plan value, as of train")
    of_choices.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    for part in (of_dice, of_steps, of_choices):
        part.add_argument("--results", type=Path)
    words, passed_on = options_after_dashes()
    given = parser.parse_args(words)
    results = Results(given.results)
    if given.part == "dice":
        dice(given, results, passed_on)
    elif given.part == "steps":
        steps(given, results)
    else:
        choices(given, results)


if __name__ == "__main__":
    main()
