"""Write unetseg/catalogue.json: what every built-in encoder and skip costs.

    python tests/golden/catalogue.py

Every network is the one that a plan for a graphics card describes: features doubled from 32 on, the
encoder's usual blocks, one channel in and two maps out. Nothing is computed and nothing allocated,
so the figures are the same on every machine.
"""

import json
from pathlib import Path

import torch

import unetseg
from unetseg.config import NetworkPlan
from unetseg.downloads import PUBLISHED
from unetseg.nets.cost import cost
from unetseg.nets.unet import UNet, parameters
from unetseg.planning.architectures import architecture
from unetseg.registry import ENCODERS, SKIPS

TARGET = Path(unetseg.__file__).with_name("catalogue.json")
PATCHES = {2: (256, 256), 3: (64, 64, 64)}
# At the sixth level a patch of 64 voxels has 2 left per axis, below which no statistics are.
LEVELS = 6
FIRST, WIDEST = 32, {2: 512, 3: 320}


def plan(encoder, skip, axes):
    facts = architecture(encoder)
    levels = min(facts.levels or LEVELS, LEVELS)
    return NetworkPlan(
        encoder=encoder,
        skip=skip,
        levels=levels,
        features=tuple(min(FIRST * 2**level, WIDEST[axes]) for level in range(levels)),
        strides=((1,) * axes, *((2,) * axes,) * (levels - 1)),
        kernels=((3,) * axes,) * levels,
        blocks=(facts.blocks,) * levels if facts.blocks else (),
        block=facts.block or "basic",
        activation=facts.activation,
        deep_supervision=False,
    )


def figures(encoder, skip, axes):
    network = plan(encoder, skip, axes)
    with torch.device("meta"):
        net = UNet(1, 2, network)
    found = cost(net, 1, PATCHES[axes])
    return {
        "levels": network.levels,
        "parameters": found.parameters,
        "encoder_parameters": parameters(net.encoder),
        "flops": found.flops,
        "memory_bytes": found.memory_bytes,
    }


def entry(encoder, skip):
    return {"figures": {str(axes): figures(encoder, skip, axes) for axes in PATCHES}}


def encoder_entry(encoder):
    weights = [each.family.name for each in PUBLISHED if each.encoder == encoder]
    return {**entry(encoder, "concat"), "weights": weights}


def skip_entry(skip):
    return entry("plain", skip)


def builtin(names):
    """Without what other packages have installed here."""
    return [name for name, found in names.items() if found.value.startswith("unetseg.")]


def main():
    table = {
        "patches": {str(axes): size for axes, size in PATCHES.items()},
        "encoders": {name: encoder_entry(name) for name in builtin(ENCODERS)},
        "skips": {name: skip_entry(name) for name in builtin(SKIPS)},
    }
    TARGET.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
