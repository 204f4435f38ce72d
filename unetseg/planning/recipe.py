"""How the network will learn: schedule, loss weights and random changes."""

import re
from math import ceil, prod

from unetseg.config import OBJECT_TASKS
from unetseg.geometry import voxels_computed
from unetseg.planning.choices import Choices
from unetseg.planning.fingerprint import Fingerprint
from unetseg.records import Machine

# Validation between epochs may take about this share of the time.
_VALIDATION_SHARE = 0.06
_SIDES = {"left", "right", "l", "r", "lt", "rt", "lh", "rh"}
# The words of kidney_left, Left-Kidney, LeftKidney and RKidney.
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def take_recipe(choices: Choices, found: Fingerprint, machine: Machine) -> None:
    """Choose the sections training and training.augment."""
    on_gpu = machine.kind == "cuda"
    take = choices.take
    take("training.seed", 0, "batches and random changes follow from it")
    take("training.fold", 0, "the fold that validates, counted from 0")
    take("training.folds", 5, "one fifth of the cases is held out for validation")
    is_open = not {"training.minutes", "training.epochs"} & choices.overrides.keys()
    take("training.steps_per_epoch", 250 if on_gpu else 50, "a row in history.csv after each")
    rate, why = (
        (2e-3, "AdamW") if on_gpu else (4e-3, "AdamW; high, for the few steps of a processor")
    )
    take("training.learning_rate", rate, f"{why}; falls to zero at the end")
    why = "the rate stays until the score no longer rises" if is_open else "falls all the time"
    take("training.anneal_share", 0.25 if is_open else 1.0, why)
    take("training.patience", 0.3, "without a budget: no rise for this share of the training")
    take("training.passes", 1, "more if memory is short: the same step in parts")
    if choices.values.get("training.weights"):
        why = "what it has learned elsewhere is changed with care"
        take("training.encoder_rate", 0.1, why)
        take("training.frozen_share", 0.05, "until the decoder knows what to do with it")
    else:
        take("training.encoder_rate", 1.0, "encoder and decoder learn at the same rate")
        take("training.frozen_share", 0.0, "the encoder learns from the first step on")
    take("training.weight_decay", 1e-2, "AdamW's usual value")
    take("training.warmup_steps", 20, "the first steps are small, the moments are not known yet")
    take("training.gradient_clip", 12.0, "only a runaway step is shortened")
    take("training.average_decay", 0.99, "averaged weights are what is validated and kept")
    take("training.foreground_share", 0.33, "patches centred on a voxel of a random class")
    take("training.dice_weight", 1.0, "overlap of the classes, whatever their size")
    take("training.cross_entropy_weight", 1.0, "every voxel's answer")
    why = "a patch often lacks a class, a batch seldom does; case: each patch by itself"
    take("training.dice_over", "batch", why)
    if choices.values["data.task"] in OBJECT_TASKS:
        why = "how deep a voxel lies in its object, and how near its centre"
        take("training.distance_weight", 3.0, why)
    why = "in the cross-entropy, one per class but the background; none: all alike"
    take("training.class_weights", (), why)
    _take_validation(choices, found)
    take("training.snapshots", 0, "weights set aside on the way, for studies")
    volumes = found.unit == "mm" and found.dimensions == 3
    _take_mirroring(choices, found, volumes=volumes)
    augment = "training.augment"
    take(f"{augment}.spatial_probability", 0.3 if volumes else 0.5, "share of turned samples")
    turn = (15.0,) * 3 if volumes else (180.0,) if found.dimensions == 2 else (180.0, 0.0, 0.0)
    why = "heads and bodies lie nearly straight" if volumes else "cells lie any way round"
    take(f"{augment}.rotation_degrees", turn, why)
    why = "people differ in size" if volumes else "cells differ in size, lenses in magnification"
    take(f"{augment}.scale", (0.8, 1.25) if volumes else (0.7, 1.4), why)
    take(f"{augment}.elastic", 0.0, "largest bend, in quarters of a patch; 0.4 at most")
    take(f"{augment}.intensity_probability", 0.2, "for each change of intensity by itself")
    take(f"{augment}.intensity_per_channel", value=False, reason="all channels alike")
    take(f"{augment}.brightness", (0.75, 1.25), "factor on the mean")
    take(f"{augment}.contrast", (0.75, 1.25), "factor on the distance from the mean")
    take(f"{augment}.gamma", (0.7, 1.5), "exponent over the sample's own range")
    noise = 0.1 if volumes else 0.05
    take(f"{augment}.noise", noise, "largest deviation, in normalised intensity")
    take(f"{augment}.blur", 1.0, "largest deviation, in voxels")
    take(f"{augment}.low_resolution", 1.0, "least share of the resolution along each axis")
    why = "stronger turns and scales, and more of them, until the data were seen so often"
    take(f"{augment}.growth", 50.0 if volumes else 0.0, why if volumes else f"0: no {why}")


def _take_validation(choices: Choices, found: Fingerprint) -> None:
    """So many cases after so many epochs that validation takes a small share of the time."""
    values = choices.values
    some = choices.take("training.validation_cases", 12, "after an epoch; all of them at the end")
    every, why = 1, "the time budget leaves some out"
    if choices.overrides.get("training.minutes") is None:
        own, patch = found.median_spacing, values["patch.size"]
        edges = values.get("data.spacing") or own
        sizes = zip(found.median_shape, own, edges, strict=True)
        size = [round(n * mine / wanted) for n, mine, wanted in sizes]
        overlap, most = values["decode.overlap"], values["decode.window"]
        windows = voxels_computed(size, patch, overlap, most) / prod(patch)
        held = min(some, ceil(found.cases / values["training.folds"]))
        # Forward alone is a third of a step; the patch's voxels cancel out.
        cost = held * windows / 3
        epoch = values["training.steps_per_epoch"] * values["patch.batch"]
        every = ceil(cost / (_VALIDATION_SHARE * epoch))
        if epochs := choices.overrides.get("training.epochs"):
            every = min(every, max(1, epochs // 3))
        why = f"so that it takes about {_VALIDATION_SHARE:.0%} of the time at most"
    choices.take("training.validation_every", every, f"epochs; {why}")


def _take_mirroring(choices: Choices, found: Fingerprint, *, volumes: bool) -> None:
    names = choices.values["data.class_names"]
    sided = any(word.lower() in _SIDES for name in names for word in _WORD.findall(name))
    # Axis 0 runs left to right in the canonical orientation, the last axis in a picture.
    side = 0 if volumes else found.dimensions - 1
    mirror: tuple[int, ...]
    if volumes:
        mirror, why = (0,), "bodies are alike left and right, not front and back or up and down"
    else:
        mirror, why = tuple(range(found.dimensions)), "images have no right way up"
    if sided:
        mirror = tuple(axis for axis in mirror if axis != side)
        why = "classes are named left or right: never mirrored along that axis"
    choices.take("training.augment.mirror_axes", mirror, why)
