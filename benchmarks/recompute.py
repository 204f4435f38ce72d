"""Peak memory of a training step that computes twice instead of keeping, and seconds to build.

    python benchmarks/recompute.py [--encoder densenet121] [--size 512 512] [--batch 4]
                                   [--results FILE.json]

Memory is the peak resident memory of a process of its own per setting, above what it was after
building the network: two steps of the U-Net with that encoder, of which the second is timed. The
decoder keeps everything, so the ratio depends on its width: both of those that a plan can have
are measured, a processor's and a graphics card's.
Building times are the best of three, for every encoder in 2-D and 3-D under the skip concat.
Prints tables and writes JSON with machine, versions and commit.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

from accuracy import surroundings

# As the plan has them: features of the finest level, and the most by the number of axes.
WIDTHS = {"processor": (16, {2: 256, 3: 256}), "graphics card": (32, {2: 512, 3: 320})}
LEVELS = 6
# The option by which this program calls itself.
MEASURE = "--measure"


def plan(encoder: str, axes: int, machine: str, *, recompute: bool = False):
    """As that machine would get it, with the normalisation of the published weights."""
    from unetseg.config import NetworkPlan
    from unetseg.planning.architectures import architecture

    facts = architecture(encoder)
    levels = min(facts.levels or LEVELS, LEVELS)
    first, widest = WIDTHS[machine]
    return NetworkPlan(
        encoder=encoder,
        skip="concat",
        levels=levels,
        features=tuple(min(first * 2**level, widest[axes]) for level in range(levels)),
        strides=((1,) * axes, *((2,) * axes,) * (levels - 1)),
        kernels=((3,) * axes,) * levels,
        blocks=(facts.blocks,) * levels if facts.blocks else (),
        block=facts.block or "basic",
        norm="batch",
        activation=facts.activation,
        recompute=recompute,
        deep_supervision=False,
    )


def peak_bytes() -> int:
    """The most that this process has had in memory; Linux counts in kibibytes, macOS in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # Of this program alone: ru_maxrss begins with what the one that started it had.
        lines = status.read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def measure(
    encoder: str, size: list[int], batch: int, machine: str, *, recompute: bool
) -> dict[str, float]:
    """Two steps in this process: bytes above the level after building, and seconds of the second.

    The optimiser's part is the same in both settings, and left out.
    """
    import torch

    from unetseg.nets.unet import UNet

    torch.manual_seed(0)
    net = UNet(1, 2, plan(encoder, len(size), machine, recompute=recompute)).train()
    images = torch.randn(batch, 1, *size)
    before, seconds = peak_bytes(), 0.0
    for _ in range(2):
        net.zero_grad()
        begun = time.perf_counter()
        net(images)[0].square().mean().backward()
        seconds = time.perf_counter() - begun
    return {"peak_bytes": peak_bytes() - before, "step_seconds": seconds}


def measured_apart(given: argparse.Namespace, machine: str, *, recompute: bool) -> dict[str, float]:
    """`measure` in a process of its own: a peak never goes down again."""
    setting = {
        "encoder": given.encoder,
        "size": given.size,
        "batch": given.batch,
        "machine": machine,
        "recompute": recompute,
    }
    command = [sys.executable, __file__, MEASURE, json.dumps(setting)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def build_seconds() -> dict[str, dict[str, float]]:
    """By encoder and dimension, the best of three."""
    from unetseg.nets.unet import UNet
    from unetseg.registry import ENCODERS

    taken: dict[str, dict[str, float]] = {}
    for encoder in ENCODERS:
        taken[encoder] = {}
        for axes in (2, 3):
            runs = []
            for _ in range(3):
                begun = time.perf_counter()
                UNet(1, 2, plan(encoder, axes, "graphics card"))
                runs.append(time.perf_counter() - begun)
            taken[encoder][f"{axes}-D"] = round(min(runs), 3)
    return taken


def main() -> None:
    if sys.argv[1:2] == [MEASURE]:
        print(json.dumps(measure(**json.loads(sys.argv[2]))))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", default="densenet121")
    parser.add_argument("--size", type=int, nargs="+", default=[512, 512])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--results", type=Path)
    given = parser.parse_args()
    print(f"{given.encoder}, {given.batch} x 1 x {' x '.join(map(str, given.size))}, float32")
    widths = {}
    for machine in WIDTHS:
        steps = {
            name: measured_apart(given, machine, recompute=name == "twice")
            for name in ("kept", "twice")
        }
        for name, step in steps.items():
            gigabytes, seconds = step["peak_bytes"] / 1e9, step["step_seconds"]
            print(f"{machine:14} {name:6} peak {gigabytes:.2f} GB, step {seconds:.2f} s")
        ratio = steps["twice"]["peak_bytes"] / steps["kept"]["peak_bytes"]
        print(f"{machine:14} ratio of the peaks {ratio:.3f}")
        widths[machine] = {**steps, "peak_ratio": round(ratio, 3)}
    built = build_seconds()
    for encoder, seconds in built.items():
        shown = ", ".join(f"{axes} {value:.3f} s" for axes, value in seconds.items())
        print(f"{encoder:12} built in {shown}")
    result = {
        "encoder": given.encoder,
        "size": given.size,
        "batch": given.batch,
        **surroundings(),
        "widths": widths,
        "build_seconds": built,
    }
    if given.results:
        given.results.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
