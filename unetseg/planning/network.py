"""The network that fits the data, the machine, and the encoder that was asked for."""

from collections.abc import Sequence
from math import prod

from unetseg.catalogue import read_catalogue
from unetseg.errors import UsageError
from unetseg.planning.architectures import Architecture, architecture
from unetseg.planning.choices import Choices
from unetseg.planning.fingerprint import Fingerprint
from unetseg.planning.patches import levels, patch_size, rounded, rounded_up
from unetseg.records import Machine

# Voxels of a step, by the number of axes, from which on a card has enough to do. Measured in 3-D on
# an H100, where validation was better with 8 patches a step than with 28 (docs/accuracy.md). In two
# axes a kernel has a third of the values.
_BUSY_VOXELS = {3: 720_000, 2: 2_100_000}
# The encoder for whoever asks for weights and names none.
_FOR_WEIGHTS = {
    "imagenet": ("resnet34", "has weights of this family"),
    "medicalnet": ("resnet18", "has weights of this family"),
}


def take_network(
    choices: Choices,
    found: Fingerprint,
    machine: Machine,
    spacing: Sequence[float],
    shape: Sequence[int],
) -> None:
    """Choose the sections patch and network, and the precision.

    spacing, shape : of the median scan on the plan's grid
    """
    axes = found.dimensions
    on_gpu = machine.kind == "cuda"
    weights = choices.take("training.weights", None)
    usual, why = _FOR_WEIGHTS.get(weights, ("plain", "stacked convolutions"))
    encoder = choices.take("network.encoder", usual, why)
    facts = architecture(encoder)
    precision = str(
        choices.take(
            "training.precision",
            "float16" if on_gpu else machine_precision(machine),
            "half the memory traffic" if on_gpu else "what this processor computes fastest",
        )
    )
    first, widest = (32, 320 if axes == 3 else 512) if on_gpu else (16, 256)
    burden = _burden(encoder, facts, axes, on_gpu=on_gpu)
    budget = _batch_voxels(axes, machine, first, precision) / burden
    most_voxels = {(2, True): 512**2, (3, True): 128**3, (2, False): 256**2, (3, False): 48**3}
    voxels = most_voxels[axes, on_gpu]
    if on_gpu:
        # At least two patches have to fit into its memory.
        voxels = min(voxels, int(budget / 2))
    start = patch_size(shape, spacing, voxels)
    depth = (6 if axes == 3 else 7) if on_gpu else 5
    if facts.is_original:
        # As deep as the original, on every device: its last stages were made for coarse maps.
        depth = facts.levels or depth
    most = int(choices.overrides.get("network.levels", min(depth, facts.levels or depth)))
    fixed = choices.overrides.get("patch.size")
    strides, kernels = levels(fixed or start, spacing, most)
    count = choices.take("network.levels", len(strides), "halved while 8 voxels are left")
    if count != len(strides) and "network.strides" not in choices.overrides:
        raise UsageError(
            "too many levels for the patch",
            where="network.levels",
            expected=f"at most {len(strides)} for patch {tuple(fixed or start)}",
            got=count,
            hint="raise patch.size too",
        )
    strides = choices.take("network.strides", strides, "coarse axes are halved later")
    if weights and axes == 3:
        kernels, why = ((3,) * axes,) * count, "as the published weights have them"
    else:
        why = "1 along an axis of much longer voxels"
    choices.take("network.kernels", kernels, why)
    size = choices.take(
        "patch.size",
        # A processor pays for every voxel beyond the scan's edge with steps; windows see the rest.
        (rounded_up if on_gpu else rounded)(start, strides),
        f"median scan {tuple(shape)}, at most {voxels} voxels on this device",
    )
    features = choices.take(
        "network.features",
        tuple(min(first * 2**level, widest) for level in range(count)),
        "doubled per level" if on_gpu else "doubled per level; narrow, for a processor",
    )
    choices.take(
        "network.decoder_blocks",
        2 if on_gpu else 1,
        "convolutions per level of the decoder"
        + ("" if on_gpu else "; a second costs a processor a third of its steps"),
    )
    _take_layers(choices, encoder, facts, count, weights)
    choices.take(
        "network.deep_supervision",
        on_gpu and count > 2,
        "coarser levels are taught too" if on_gpu else "costs more steps than it is worth here",
    )
    budget = _batch_voxels(axes, machine, features[0], precision) / burden
    why = "fills the device's memory or time budget"
    # Batch normalisation learns from the samples of a step: the more the better.
    if on_gpu and choices.values["network.norm"] != "batch":
        busy = _BUSY_VOXELS[axes] * machine.devices * first / features[0]
        if busy < budget:
            budget, why = busy, "keeps the device busy: many small steps beat few large ones"
    patch = prod(size)
    seen = sum(prod(s) for s in found.shapes)
    by_data = max(2, int(0.2 * seen / patch))
    batch = max(2, min(round(budget / patch), 64, by_data))
    if batch < machine.devices:
        batch, why = machine.devices, "a patch for each device"
    choices.take("patch.batch", batch, why)


def _take_layers(
    choices: Choices, encoder: str, facts: Architecture, levels: int, weights: str | None
) -> None:
    """What the levels are made of."""
    why = "layers per level" if facts.blocks else f"{encoder} has its own"
    choices.take("network.blocks", (facts.blocks,) * levels if facts.blocks else (), why)
    choices.take("network.skip", "concat", "the U-Net's long skip")
    residual = "" if facts.block else "of residual encoders only: "
    choices.take(
        "network.block",
        facts.block or "basic",
        f"{residual}two 3 x 3 convolutions, or a bottleneck",
    )
    choices.take("network.preactivation", value=False, reason=f"{residual}activation after the sum")
    shortcut, why = "projection", "a 1 x 1 convolution where the size changes"
    if facts.block == "basic" and facts.is_original and weights == "medicalnet":
        shortcut, why = "padding", "zero channels, as the published weights have it"
    choices.take("network.shortcut", shortcut, f"{residual}{why}")
    dense = "" if encoder == "dense" else "of the dense encoder only: "
    choices.take("network.growth", 16, f"{dense}maps that each layer adds")
    highway = "" if encoder == "highway" else "of the highway encoder only: "
    choices.take("network.gate_bias", -2.0, f"{highway}at first the input is carried on")
    choices.take("network.dropout", 0.0, "random changes of the images suffice")
    choices.take("network.stochastic_depth", 0.0, f"{residual}for very deep ones")
    choices.take(
        "network.recompute", value=False, reason="true: dense encoders need less memory, more time"
    )
    if weights:
        choices.take("network.norm", "batch", "as the published weights have it")
    else:
        choices.take("network.norm", "instance", "independent of the batch")
    choices.take("network.activation", facts.activation, "as in the papers")


def machine_precision(machine: Machine) -> str:
    """bfloat16 where the machine's matrix units compute it natively, else float32."""
    return "bfloat16" if machine.has_bfloat16 else "float32"


def _burden(encoder: str, facts: Architecture, axes: int, *, on_gpu: bool) -> float:
    """How much more a voxel costs than with the plain encoder: memory on a card, else time."""
    if not on_gpu:
        # Measured on two cores: the originals are as wide there as anywhere.
        return 2.0 if facts.is_original else 1.0
    table = read_catalogue().encoders
    if encoder not in table:
        return 1.0
    mine, plain = (table[name].figures[axes].activation_bytes for name in (encoder, "plain"))
    return max(1.0, mine / plain)


def _batch_voxels(axes: int, machine: Machine, features: int, precision: str) -> float:
    if machine.kind != "cuda":
        # Half a second on two cores: many small steps beat few large ones, see docs/accuracy.md.
        return 200_000 if axes == 3 else 131_072
    # Kept activations: about 24 maps of the finest level's width, coarser levels included.
    per_voxel = 24 * features * (4 if precision == "float32" else 2)
    return 0.6 * machine.memory_bytes / per_voxel
