"""How many planted faults `unetseg check` names, and how often it warns of what is sound.

    python benchmarks/check.py planted VOLUMES PICTURES [--seeds 1 2] [--results FILE.json]
    python benchmarks/check.py clean DATA... [--results FILE.json]

`planted` copies a part of each set (images/ and labels/) into a temporary folder, plants faults by
the seed (planting.py), runs the real command with --json and prints a table: kind, planted, named,
and the warnings and errors that name only cases in which nothing was planted. `clean` runs the
command on whole sets and prints whatever it warns of, with the seconds of the whole command.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accuracy import surroundings
from planting import Pictures, Planted, Volumes, plant_pictures, plant_volumes
from train import Results

# Whatever else a fault leads to is no false alarm as long as it is about the case.
VOLUMES, PICTURES = 110, 90


def check(data: Path) -> tuple[list[dict[str, Any]], float]:
    """The findings of the command, and its seconds."""
    program = [sys.executable, "-m", "unetseg.cli"]
    begun = time.perf_counter()
    done = subprocess.run(
        [*program, "check", str(data), "--json"], capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - begun
    if done.returncode not in (0, 3):
        raise SystemExit(done.stderr)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return [row["finding"] for row in rows if "finding" in row], seconds


def names_of(finding: dict[str, Any]) -> set[str]:
    """The cases of a finding by the last part of their names."""
    ends = (Path(name).name for name in finding["cases"])
    return {end.removesuffix(".gz").removesuffix(".nii").removesuffix(".png") for end in ends}


def is_named(fault: Planted, findings: list[dict[str, Any]]) -> bool:
    return any(
        each["kind"] == fault.kind
        and each["severity"] != "note"
        and names_of(each) & set(fault.cases)
        for each in findings
    )


def planted(given: argparse.Namespace, results: Results) -> None:
    for seed in given.seeds:
        for what, source in (("volumes", given.volumes), ("pictures", given.pictures)):
            with tempfile.TemporaryDirectory() as folder:
                place = Path(folder) / "data"
                if what == "volumes":
                    faults = plant_volumes(Volumes(source, place, seed, VOLUMES))
                else:
                    faults = plant_pictures(Pictures(source, place, seed, PICTURES))
                findings, seconds = check(place)
            show(f"{what}, seed {seed}, {seconds:.1f} s", faults, findings)
            ill = {name for fault in faults for name in fault.cases}
            results.add(
                "planted",
                {
                    "set": source.name,
                    "seed": seed,
                    "seconds": seconds,
                    **surroundings(),
                    "faults": [asdict(f) | {"named": is_named(f, findings)} for f in faults],
                    "alarms": [each for each in alarms(findings) if not names_of(each) & ill],
                },
            )


def alarms(findings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for each in findings if each["severity"] != "note"]


def show(title: str, faults: list[Planted], findings: list[dict[str, Any]]) -> None:
    print(f"\n{title}\n{'kind':16} planted  named")
    counts = Counter(fault.kind for fault in faults)
    named = Counter(fault.kind for fault in faults if is_named(fault, findings))
    for kind, count in counts.items():
        print(f"{kind:16} {count:7d} {named[kind]:6d}")
    print(f"{'all':16} {counts.total():7d} {named.total():6d}  of {len(counts)} kinds")
    for fault in faults:
        if not is_named(fault, findings):
            other = [e["kind"] for e in alarms(findings) if names_of(e) & set(fault.cases)]
            print(f"not named: {fault.kind}, {fault.what}: {', '.join(fault.cases)}; told: {other}")
    ill = {name for fault in faults for name in fault.cases}
    wrong = [each for each in alarms(findings) if not names_of(each) & ill]
    print(f"false alarms: {len(wrong)}")
    for each in wrong:
        print(f"  {each['kind']}: {each['where']}: {each['sentence']}")


def clean(given: argparse.Namespace, results: Results) -> None:
    total = 0
    for source in given.data:
        findings, seconds = check(source)
        found = alarms(findings)
        total += len(found)
        notes = Counter(each["kind"] for each in findings if each["severity"] == "note")
        print(f"{source.name}: {len(found)} alarms, {seconds:.1f} s, notes {dict(notes)}")
        for each in found:
            print(f"  {each['kind']}: {each['where']}: {each['sentence']}")
        # What lies where on this machine is nobody's business.
        told = json.loads(json.dumps(found).replace(f"{source}/", ""))
        row = {"set": source.name, "seconds": round(seconds, 2), "alarms": told}
        results.add("clean", row | surroundings())
    print(f"alarms in all: {total}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = parser.add_subparsers(dest="part", required=True)
    part = parts.add_parser("planted")
    part.add_argument("volumes", type=Path)
    part.add_argument("pictures", type=Path)
    part.add_argument("--seeds", type=int, nargs="+", default=[1])
    part.set_defaults(run=planted)
    part = parts.add_parser("clean")
    part.add_argument("data", type=Path, nargs="+")
    part.set_defaults(run=clean)
    for each in parts.choices.values():
        each.add_argument("--results", type=Path)
    given = parser.parse_args()
    given.run(given, Results(given.results))


if __name__ == "__main__":
    main()
