"""Seconds that `unetseg --help` and `unetseg check DATA` take, as whole processes.

    python benchmarks/startup.py [DATA] [--runs 5] [--results FILE.json]

Prints the median and the fastest of the runs after one that is not counted.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from accuracy import surroundings


def seconds(command: list[str], runs: int) -> list[float]:
    """Wall-clock seconds of each counted run."""
    taken = []
    for _ in range(runs + 1):
        begun = time.perf_counter()
        subprocess.run(command, capture_output=True, check=True)
        taken.append(time.perf_counter() - begun)
    return taken[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--results", type=Path)
    given = parser.parse_args()
    program = str(Path(sys.executable).with_name("unetseg"))
    commands = {"--help": [program, "--help"]}
    if given.data:
        commands[f"check {given.data.name}"] = [program, "check", str(given.data)]
    result = {"runs": given.runs, **surroundings(), "seconds": {}}
    for name, command in commands.items():
        taken = seconds(command, given.runs)
        result["seconds"][name] = {"median": statistics.median(taken), "fastest": min(taken)}
        print(f"{name:24} median {statistics.median(taken):.3f} s, fastest {min(taken):.3f} s")
    if given.results:
        given.results.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
