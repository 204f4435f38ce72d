"""What each part of a training is worth: equally long ones, each with one part changed.

    python benchmarks/ablation.py DATA... [--minutes 2] [--seeds 0] [--only NAME...]
                                  [--results FILE.json] [-- OPTIONS]

Every fifth case is set apart before anything is looked at, as in accuracy.py, and stays unseen,
except of a set that has not five: it can spare none, and is here to see that training works. A
row is the mean score (Dice, or AP of objects) of the validation fold of the others. A change that
leaves the plan of a data set as it is (no mirroring where nothing is mirrored) is not trained. With
`--results` every training is kept as soon as it is done, and not made again for the same code on
the same machine. OPTIONS go to every training.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accuracy import options_after_dashes, run, split, surroundings
from train import Results, Row, key

from unetseg.dataset import find_cases

# Cases of which every fifth can be spared.
FEWEST = 5
AS_PLANNED = "as planned"
# Plan values by what is said of them. What a person may choose freely, encoders and skips, is
# compared by `unetseg study`.
CHANGES: dict[str, Mapping[str, Any]] = {
    AS_PLANNED: {},
    "no mirroring": {"training.augment.mirror_axes": []},
    "no turning and scaling": {"training.augment.spatial_probability": 0.0},
    "no changes of intensity": {"training.augment.intensity_probability": 0.0},
    "no random changes": {
        "training.augment.mirror_axes": [],
        "training.augment.spatial_probability": 0.0,
        "training.augment.intensity_probability": 0.0,
    },
    "turning and scaling that do not grow": {"training.augment.growth": 0.0},
    "bends as well": {"training.augment.elastic": 0.2},
    "patches anywhere": {"training.foreground_share": 0.0},
    "cross-entropy alone": {"training.dice_weight": 0.0},
    "Dice alone": {"training.cross_entropy_weight": 0.0},
    "Dice of each patch": {"training.dice_over": "case"},
    "weights not averaged": {"training.average_decay": 0.0},
    "a steady rate until 70 %": {"training.anneal_share": 0.3},
    "a rate of 0.002": {"training.learning_rate": 0.002},
    "deep supervision": {"network.deep_supervision": True},
    "two convolutions in the decoder": {"network.decoder_blocks": 2},
}


def as_options(change: Mapping[str, Any]) -> tuple[str, ...]:
    """A change as `unetseg train` is told of it."""
    return tuple(
        word for name, value in change.items() for word in ("--set", f"{name}={json.dumps(value)}")
    )


def train(data: Path, minutes: float, seed: int, options: Sequence[str]) -> Row:
    """One training, and the validation of the model that it keeps."""
    from unetseg.checkpoint import load_plan, read_facts
    from unetseg.config import to_values

    with tempfile.TemporaryDirectory() as name:
        folder, source = Path(name), data
        if len(find_cases(data).cases) >= FEWEST:
            split(data, folder)
            source = folder / "train.csv"
        words = ["train", source, "-o", folder / "run", "--seed", str(seed)]
        _, seconds = run(*words, "--time", f"{60 * minutes:g}s", *options)
        facts, plan = read_facts(folder / "run"), load_plan(folder / "run")
    score, values = "mean_ap" if plan.data.has_objects else "mean_dice", to_values(plan)
    return {
        "data": data.name,
        "minutes": minutes,
        "seed": seed,
        "options": list(options),
        "score": score,
        "value": facts[score],
        "steps": facts["step"],
        "cases": facts["cases"],
        "train_seconds": round(seconds, 1),
        "plan": {part: values[part] for part in ("network", "training")},
        **surroundings(),
    }


def changes_nothing(change: Mapping[str, Any], plan: Mapping[str, Any]) -> bool:
    """Whether the plan of the training as planned has these values already."""
    for name, value in change.items():
        here: Any = plan
        for part in name.split("."):
            here = here[part]
        if (list(here) if isinstance(here, list | tuple) else here) != value:
            return False
    return bool(change)


def ablate(given: argparse.Namespace, results: Results, passed_on: Sequence[str]) -> None:
    """Make the trainings that are missing, and show all of them."""
    for data in given.data:
        for seed in given.seeds:
            planned: Row | None = None
            for name, change in CHANGES.items():
                if given.only and name not in (AS_PLANNED, *given.only):
                    continue
                if planned and changes_nothing(change, planned["plan"]):
                    print(f"{data.name}: {name}: as planned")
                    continue
                options = (*passed_on, *as_options(change))
                asked = {"who": "unetseg", "data": data.name, "minutes": given.minutes}
                asked |= {"seed": seed, "options": list(options), **surroundings()}
                there = [row for row in results["ablation"] if key(row) == key(asked)]
                if not there:
                    print(f"{data.name}, seed {seed}, {name} ...", flush=True)
                    row = {"who": "unetseg", "change": name, "passed_on": list(passed_on)}
                    row |= train(data, given.minutes, seed, options)
                    if change:
                        # What it has of the plan as planned says it.
                        del row["plan"]
                    results.add("ablation", row)
                    there = [row]
                planned = planned or there[0]
    show(results["ablation"])


def show(rows: Sequence[Row]) -> None:
    """A table for each data set and length: the score, and what the change makes of it."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        title = " ".join((row["data"], *row["passed_on"]))
        groups.setdefault((title, row["minutes"], row["code"]), []).append(row)
    for (data, minutes, _), members in groups.items():
        print(f"{data}, {minutes:g} minutes, {members[0]['score'].removeprefix('mean_')}")
        base = {row["seed"]: row["value"] for row in members if row["change"] == AS_PLANNED}
        for name in dict.fromkeys(row["change"] for row in members):
            own = [row for row in members if row["change"] == name]
            value = statistics.mean(row["value"] for row in own)
            gained = [row["value"] - base[row["seed"]] for row in own if row["seed"] in base]
            change = f"{statistics.mean(gained):+.4f}" if gained else "-"
            steps = statistics.mean(row["steps"] for row in own)
            print(f"  {name:32} {value:.4f} {change:>8} {steps:7.0f} steps, {len(own)} seeds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--seeds", type=int, nargs="+", default=(0,))
    parser.add_argument("--only", nargs="+", choices=CHANGES, help="these changes alone")
    parser.add_argument("--results", type=Path)
    words, passed_on = options_after_dashes()
    given = parser.parse_args(words)
    ablate(given, Results(given.results), passed_on)


if __name__ == "__main__":
    main()
