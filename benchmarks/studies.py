"""What a finished study came to, and how long it took, kept with the machine it ran on.

    python benchmarks/studies.py STUDY [--results FILE.json]

STUDY is a folder of `unetseg study degradation` or `skips` that ran without a pause on a machine
that did nothing else: the time is that from the writing of study.json to the last training's end.
Prints a row per kind of training and writes JSON with machine, versions and commit.
"""

import argparse
import json
from pathlib import Path

from accuracy import surroundings

from unetseg.metrics.spread import spread

FACTORS = ("encoder", "depth", "skip")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--results", type=Path)
    given = parser.parse_args()
    content = json.loads((given.study / "results.json").read_text())
    begun = (given.study / "study.json").stat().st_mtime
    ended = max(path.stat().st_mtime for path in given.study.glob("runs/*/validation.csv"))
    groups: dict[tuple[str, ...], list[dict]] = {}
    for training in content["trainings"]:
        key = tuple(training[factor] for factor in FACTORS if factor in training)
        groups.setdefault(key, []).append(training)
    rows = []
    for key, members in groups.items():
        loss, dice = (spread([m[name] for m in members]) for name in ("loss", "dice"))
        one = {name: members[0][name] for name in ("parameters", "flops")}
        step = spread([m["seconds_per_step"] for m in members]).mean
        rows.append(
            {"kind": " ".join(key), **one, "seconds_per_step": step}
            | {"loss": vars(loss), "dice": vars(dice)}
        )
        print(f"{rows[-1]['kind']:16} {1000 * step:5.0f} ms/step  loss {loss}  Dice {dice}")
    seconds = round(ended - begun, 1)
    print(f"{len(content['trainings'])} trainings in {seconds / 60:.1f} minutes")
    print(*content["conclusion"], sep="\n")
    result = {key: content[key] for key in ("study", "seeds", "steps", "cases", "conclusion")}
    result |= {"data": Path(content["data"]).name, "seconds": seconds, "kinds": rows}
    if given.results:
        text = json.dumps(result | surroundings(), indent=1)
        given.results.write_text(text + "\n")


if __name__ == "__main__":
    main()
