"""What a step of a training takes, part by part, measured in this process; called by train.py.

Whatever is compared is timed in turns (a b a b ...), so that a disturbance of the machine hits all
alike, and the ratio is the median over the turns.
"""

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import nibabel as nib
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from unetseg import augment, checkpoint
from unetseg.allocator import keep_freed_memory
from unetseg.config import Plan
from unetseg.devices import autocast, find_device, measure, usable_precision
from unetseg.pipeline.cache import prepare_cases
from unetseg.records import ignore_event
from unetseg.tasks import make_task
from unetseg.training import Request, plan_for, refuse_errors
from unetseg.training.batches import Ahead, Batches
from unetseg.training.state import State
from unetseg.training.step import KEPT_BYTES, Learner

CASES = 40
WARM_UP = 3
# Steps of a card that are timed together: a training does not wait for each of them.
IN_A_ROW = 10
# Side of the matrices whose product says what a card can do.
MATRIX = 8192


@dataclass(frozen=True, eq=False)
class Bench:
    """All that a training has before its first step."""

    name: str
    plan: Plan
    device: torch.device
    precision: str
    batches: Batches
    learner: Learner
    state: State

    @property
    def facts(self) -> dict[str, object]:
        """What a time depends on."""
        machine = measure(self.device)
        kind = torch.cuda.get_device_name(self.device) if machine.kind == "cuda" else "cpu"
        patch_size = [self.plan.patch.batch, len(self.plan.data.channels), *self.plan.patch.size]
        return {
            "data": self.name,
            "batch": " x ".join(map(str, patch_size)),
            "features": list(self.plan.network.features),
            "device": kind,
            "threads": torch.get_num_threads(),
            "precision": self.precision,
            "cases in": self.batches.home,
        }

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, work: Callable[[], object], *, times: int = 1) -> float:
        """Of one call; several in a row, as a card is given work before it has done the last."""
        self.wait()
        begun = time.perf_counter()
        for _ in range(times):
            work()
        self.wait()
        return (time.perf_counter() - begun) / times


@contextmanager
def bench(data: Path, device: str, overrides: Mapping[str, Any]) -> Iterator[Bench]:
    """The plan of the data, some of its cases prepared, and a fresh network."""
    keep_freed_memory(KEPT_BYTES)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        request = Request(
            data, folder / "run", device=device, cache=folder / "cache", overrides=overrides
        )
        plan, found = plan_for(request)
        refuse_errors(found)
        where = find_device(device)
        machine, host = measure(where), measure(torch.device("cpu"))
        torch.manual_seed(plan.training.seed)
        state = State.fresh(checkpoint.build(plan), plan, where)
        precision = usable_precision(plan.training.precision, machine)
        learner = Learner(state, plan, make_task(plan), where, precision)
        cases = prepare_cases(
            found.cases[:CASES],
            plan,
            folder / "cache",
            cores=host.cores,
            skip_bad=False,
            listener=ignore_event,
        )
        batches = Batches(cases, plan, host.memory_bytes, where, machine.memory_bytes)
        yield Bench(data.name, plan, where, precision, batches, learner, state)


def synthetic(folder: Path) -> list[Path]:
    """Data of the shapes of the two sets: volumes with two classes, pictures with many objects."""
    rng = np.random.default_rng(0)
    sets = {"hippocampus-like": ((35, 50, 36), ".nii.gz"), "nuclei-like": ((256, 256), ".png")}
    for name, (shape, suffix) in sets.items():
        for part in ("images", "labels"):
            (folder / name / part).mkdir(parents=True)
        centre = [size // 2 for size in shape]
        box = tuple(slice(c - 8, c + 8) for c in centre)
        for number in range(CASES // 2):
            labels = np.zeros(shape, np.uint8)
            labels[box] = 1
            labels[tuple(slice(c, c + 8) for c in centre)] = 2
            image = np.clip(rng.normal(60, 20, shape) + 60 * labels, 0, 255).astype(np.uint8)
            for part, array in (("images", image), ("labels", labels)):
                path = folder / name / part / f"case_{number:02d}{suffix}"
                if suffix == ".png":
                    Image.fromarray(array).save(path)
                else:
                    nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    return [folder / name for name in sets]


# --- a step against forward and backward alone ---------------------------------------------------


class Stopwatch:
    """Adds up the seconds of the named parts of a step, without another copy of the step."""

    def __init__(self, bench: Bench) -> None:
        self._bench, self.taken = bench, dict.fromkeys(self.parts(bench), 0.0)

    @staticmethod
    def parts(bench: Bench) -> dict[str, tuple[Any, str]]:
        """The functions that a step calls, by what they are for."""
        return {
            "drawing": (augment, "draw"),
            "augmentation": (augment, "apply"),
            "forward and backward": (bench.learner, "gradients"),
            "clipping": (torch.nn.utils, "clip_grad_norm_"),
            "optimiser": (bench.state.scaler, "step"),
            "averaging": (bench.state, "update_average"),
        }

    def _timed(self, part: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*values: Any, **named: Any) -> Any:
            self._bench.wait()
            begun = time.perf_counter()
            result = work(*values, **named)
            self._bench.wait()
            self.taken[part] += time.perf_counter() - begun
            return result

        return timed

    @contextmanager
    def running(self) -> Iterator[None]:
        with ExitStack() as stack:
            for part, (owner, name) in self.parts(self._bench).items():
                work = self._timed(part, getattr(owner, name))
                stack.enter_context(patch.object(owner, name, work))
            yield


def step_times(bench: Bench, rounds: int) -> dict[str, object]:
    """A whole step, forward and backward alone, and a step in parts, in turns."""
    rate, learner = bench.plan.training.learning_rate, bench.learner
    images, labels = (tensor.to(bench.device) for tensor in bench.batches.make(0))
    whole, alone, waited = [], [], 0.0
    times = IN_A_ROW if bench.device.type == "cuda" else 1
    parts: dict[str, list[float]] = {name: [] for name in (*Stopwatch.parts(bench), "the rest")}

    def step() -> None:
        learner.step(*ahead.next(), rate, ignore_event, frozen=False, rounds=0.0)

    def forward_backward() -> None:
        learner.gradients(images, labels, ignore_event)

    with Ahead(bench.batches, 0) as ahead:
        for _ in range(WARM_UP):
            step()
            forward_backward()
        for _ in range(rounds):
            before = ahead.waited
            whole.append(bench.seconds(step, times=times))
            waited += (ahead.waited - before) / times
            alone.append(bench.seconds(forward_backward, times=times))
            watch = Stopwatch(bench)
            with watch.running():
                seconds = bench.seconds(step)
            for name, taken in watch.taken.items():
                parts[name].append(taken)
            parts["the rest"].append(seconds - sum(watch.taken.values()))
    # In a training a thread makes them beside the step.
    crops = [bench.seconds(lambda step=n: bench.batches.make(step)) for n in range(rounds)]
    ratios = [a / b for a, b in zip(whole, alone, strict=True)]
    quarters = statistics.quantiles(ratios, n=4) if rounds > 1 else ratios * 3
    result = {
        **bench.facts,
        "rounds": rounds,
        "step_ms": milliseconds(whole),
        "steps_per_second": round(1 / statistics.median(whole), 3),
        "waiting": waited / sum(whole),
        "forward_backward_ms": milliseconds(alone),
        "ratio": round(statistics.median(ratios), 4),
        "ratio_quartiles": [round(quarters[0], 4), round(quarters[2], 4)],
        "parts_ms": {name: milliseconds(values) for name, values in parts.items()},
        "crops_ms": milliseconds(crops),
    }
    return result | arithmetic(bench, forward_backward, statistics.median(alone))


def milliseconds(seconds: list[float]) -> float:
    return round(1000 * statistics.median(seconds), 3)


def arithmetic(bench: Bench, work: Callable[[], object], seconds: float) -> dict[str, float]:
    """On a card: operations per second of forward and backward, and of a product of matrices."""
    if bench.device.type != "cuda":
        return {}
    with FlopCounterMode(display=False) as counter:
        work()
    achieved = counter.get_total_flops() / seconds / 1e12
    kinds = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    one = torch.randn(MATRIX, MATRIX, device=bench.device, dtype=kinds[bench.precision])
    taken = [bench.seconds(lambda: one @ one) for _ in range(WARM_UP + 10)][WARM_UP:]
    most = 2 * MATRIX**3 / statistics.median(taken) / 1e12
    return {"tflops": achieved, "matrix_tflops": most, "share_of_matrix_rate": achieved / most}


# --- what this device computes fastest -----------------------------------------------------------


@dataclass(frozen=True)
class Choice:
    """One way to compute forward and backward."""

    precision: str
    is_channels_last: bool = False
    is_compiled: bool = False

    def __str__(self) -> str:
        extras = ["channels last"] * self.is_channels_last + ["compiled"] * self.is_compiled
        return ", ".join([self.precision, *extras])


def choices(device: torch.device, *, compiled: bool) -> list[Choice]:
    """The planned way of a processor first, which the others are compared with."""
    precisions = ["float32"]
    if measure(device).has_bfloat16:
        precisions.append("bfloat16")
    if device.type == "cuda":
        precisions.append("float16")
    found = [Choice(p, is_channels_last=last) for p in precisions for last in (False, True)]
    has_compiler = device.type == "cuda" or any(map(shutil.which, ("c++", "g++", "clang++")))
    if compiled and has_compiler:
        # Compiling takes its time: not float32 where there is something faster.
        found += [
            Choice(precision, is_channels_last=last, is_compiled=True)
            for precision in precisions[1:] or precisions
            for last in (False, True)
        ]
    return found


def prepared(bench: Bench, choice: Choice) -> Callable[[], None]:
    """Forward and backward of the plan's network in that way, with weights of its own."""
    task = make_task(bench.plan)
    layout = torch.contiguous_format
    if choice.is_channels_last:
        axes = bench.plan.data.dimensions
        layout = torch.channels_last if axes == 2 else torch.channels_last_3d
    network: Any = deepcopy(bench.state.network).to(memory_format=layout)
    images, labels = (tensor.to(bench.device) for tensor in bench.batches.make(0))
    images, targets = images.to(memory_format=layout), task.targets(labels)
    forward: Callable[[Tensor], list[Tensor]] = network
    if choice.is_compiled:
        forward = torch.compile(network)

    def work() -> None:
        network.zero_grad(set_to_none=True)
        with autocast(bench.device, choice.precision):
            outputs = forward(images)
        task.loss(outputs, targets).backward()

    return work


def choice_times(bench: Bench, rounds: int, *, compiled: bool) -> list[dict[str, object]]:
    """Forward and backward in every way, in turns; the first call, which may compile, apart."""
    rows: list[dict[str, object]] = []
    ways: list[tuple[dict[str, object], Callable[[], None]]] = []
    for choice in choices(bench.device, compiled=compiled):
        row: dict[str, object] = {**bench.facts, "choice": str(choice)}
        row["precision"] = choice.precision
        rows.append(row)
        try:
            work = prepared(bench, choice)
            row["first_seconds"] = round(bench.seconds(work), 2)
            bench.seconds(work)
        except Exception as error:  # noqa: BLE001 - what a compiler cannot do is a result too
            row["failed"] = f"{type(error).__name__}: {error}".partition("\n")[0][:200]
            continue
        ways.append((row, work))
    taken: list[list[float]] = [[] for _ in ways]
    for _ in range(rounds):
        for (_, work), seconds in zip(ways, taken, strict=True):
            seconds.append(bench.seconds(work))
    for (row, _), seconds in zip(ways, taken, strict=True):
        row["ms"] = milliseconds(seconds)
        row["ratio"] = round(
            statistics.median(s / first for s, first in zip(seconds, taken[0], strict=True)), 4
        )
    return rows
