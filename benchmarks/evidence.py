"""What the evidence of a last validation costs: a run's validation with and without it.

    python benchmarks/evidence.py runs/mine --cases 20 --repeats 3

Times are of the processor, so that other work on the machine counts less; each is the least of
the repeats. With evidence the masks are written too, into a temporary folder. Of objects nothing
is gathered before there are rules: both ways decode what the network says once more, as at the end
of a training, and evidence is gathered there.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

from unetseg import checkpoint
from unetseg.devices import find_device, measure, usable_precision
from unetseg.records import Case, ignore_event
from unetseg.runs import cases_of, read_run
from unetseg.tasks import make_task
from unetseg.tasks.segmenting import Segmenter
from unetseg.training.codes import codes_beside
from unetseg.training.evidence import Gathering, Leaving
from unetseg.training.validation import validate, validate_again


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--cases", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="auto")
    asked = parser.parse_args()
    device = find_device(asked.device)
    model = checkpoint.load(asked.run)
    precision = usable_precision(model.plan.training.precision, measure(device))
    network = model.network.placed(device)
    segmenter = Segmenter(network, model.plan, make_task(model.plan), device, precision)
    cases = cases_of(read_run(asked.run)).cases[: asked.cases]
    way = objects if model.plan.data.has_objects else classes
    for _ in range(2):
        # The first round warms up.
        found = [
            min(way(segmenter, cases, gathers=gathers) for _ in range(asked.repeats))
            for gathers in (False, True)
        ]
    without, with_it = found
    print(
        f"{len(cases)} cases: {without:.2f} s without, {with_it:.2f} s with evidence and masks,"
        f" {with_it - without:+.2f} s ({with_it / without - 1:+.1%}),"
        f" {1000 * (with_it - without) / len(cases):.1f} ms a case"
    )


def classes(segmenter: Segmenter, cases: tuple[Case, ...], *, gathers: bool) -> float:
    with TemporaryDirectory() as folder:
        leaving = Leaving(Path(folder), "try", Gathering(segmenter.plan)) if gathers else None
        begun = process_time()
        validate(segmenter, cases, ignore_event, leaving=leaving)
        if leaving is not None:
            leaving.gathering.evidence(cases)
        return process_time() - begun


def objects(segmenter: Segmenter, cases: tuple[Case, ...], *, gathers: bool) -> float:
    with TemporaryDirectory() as folder, codes_beside(Path(folder)) as codes:
        begun = process_time()
        validate(segmenter, cases, ignore_event, codes)
        leaving = Leaving(Path(folder), "try", Gathering(segmenter.plan)) if gathers else None
        validate_again(segmenter.plan, cases, codes, leaving)
        if leaving is not None:
            leaving.gathering.evidence(cases)
        return process_time() - begun


if __name__ == "__main__":
    main()
