"""The loss around trained models, along two directions, side by side.

Source: Li et al. 2018, arXiv:1712.09913: random directions in which every filter has the norm of
the model's own filter, so that the scale of the weights does not make a minimum look flat.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from scipy.ndimage import map_coordinates
from torch import Tensor, nn

from unetseg import checkpoint
from unetseg.config import Plan
from unetseg.dataset import find_cases
from unetseg.dataset.folds import divide
from unetseg.dataset.views import of_set
from unetseg.devices import find_device, measure
from unetseg.errors import DataError, UsageError
from unetseg.files import write_text
from unetseg.nets.unet import UNet, parameters
from unetseg.pipeline.cache import prepare_cases
from unetseg.records import Advance, Listener, Stage, ignore_event
from unetseg.runs.run_file import read_data_path, read_view
from unetseg.tasks import make_task
from unetseg.training.batches import Batches
from unetseg.training.snapshots import snapshots

# Sharpness is read on a circle of half the plane's half width.
_CIRCLE = 0.5
_ANGLES = 64


@dataclass(frozen=True)
class LandscapeRequest:
    """What a person asks for.

    runs : run folders
    grid : points along each direction
    radius : half width of a random plane; 1 is a step as long as the weights themselves
    samples : patches on which the loss is taken, from cases that the model learned from
    plane : random, or path: the two directions in which the training moved most
    data : where the cases lie now, if not where the run found them
    """

    runs: tuple[Path, ...]
    out: Path
    grid: int = 25
    radius: float = 0.5
    samples: int = 8
    plane: str = "random"
    seed: int = 0
    device: str = "auto"
    data: Path | None = None

    def __post_init__(self) -> None:
        if self.grid < 5 or self.grid % 2 == 0:
            raise UsageError(
                "not a grid with a middle",
                where="--grid",
                expected="an odd number, 5 or more",
                got=self.grid,
            )
        if not self.radius > 0:
            raise UsageError("no plane", where="--radius", expected="above 0", got=self.radius)
        if self.plane not in ("random", "path"):
            raise UsageError(
                "no such plane", where="--plane", expected="random or path", got=self.plane
            )
        names = [run.resolve().name for run in self.runs]
        if len(set(names)) < len(names):
            raise UsageError("two runs have the same name", got=", ".join(names))


@dataclass(frozen=True, eq=False)
class Landscape:
    """The loss of one run over the plane.

    loss : (grid, grid), the first direction along axis 1, the second along axis 0
    path : (N, 2) where the snapshots lie, in units of the directions; empty without snapshots
    path_share : share of the length from the first snapshot to the model that lies in the plane
    sharpness : how much the loss rises, on the mean over a circle of half the radius
    convex_share : share of the plane where the loss curves upwards in every direction
    """

    name: str
    encoder: str
    skip: str
    parameters: int
    axis: NDArray[np.float64]
    loss: NDArray[np.float64]
    path: NDArray[np.float64]
    path_share: float
    sharpness: float
    convex_share: float

    @property
    def centre(self) -> float:
        """The loss of the trained model itself."""
        middle = len(self.axis) // 2
        return float(self.loss[middle, middle])


def landscapes(request: LandscapeRequest, listener: Listener = ignore_event) -> list[Landscape]:
    """The landscape of every run; the same directions, axes and patches for all.

    Batch normalisation as in the paper: its scales and shifts are not moved, nor are biases, and
    its running statistics stay those of the trained model.

    Raises ModelError for a run without a model or with several, DataError if its cases cannot be
    found.
    """
    for run in request.runs:
        checkpoint.refuse_ensemble(run)
    loaded = [(run, checkpoint.load(run)) for run in request.runs]
    listener(Stage("loss at", len(loaded) * request.grid**2))
    return [_landscape(run, trained, request, listener) for run, trained in loaded]


def _landscape(
    run: Path, trained: checkpoint.TrainedModel, request: LandscapeRequest, listener: Listener
) -> Landscape:
    """The landscape of one run, taken from the study's folder if it was finished before."""
    kept = request.out / "surfaces" / f"{run.resolve().name}.json"
    key = _key(run, request)
    earlier = _earlier(kept, key)
    if earlier is None:
        earlier = _explored(run, trained, request, listener)
        values = {name: _jsonable(value) for name, value in vars(earlier).items()}
        write_text(kept, json.dumps({"key": key, "landscape": values}) + "\n")
    else:
        for _ in range(request.grid**2):
            listener(Advance())
    return earlier


def _key(run: Path, request: LandscapeRequest) -> list[Any]:
    """What a landscape depends on; the weights by their file's size and time."""
    weights = (run / "model" / checkpoint.WEIGHTS).stat()
    asked = [request.grid, request.radius, request.samples, request.plane, request.seed]
    return [*asked, str(request.data or ""), weights.st_size, weights.st_mtime_ns]


def _jsonable(value: object) -> object:
    return value.tolist() if isinstance(value, np.ndarray) else value


def _earlier(path: Path, key: Sequence[Any]) -> Landscape | None:
    if not path.is_file():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    if content["key"] != key:
        return None
    values = dict(content["landscape"])
    points = len(values["axis"])
    for name, shape in (("axis", (points,)), ("loss", (points, points)), ("path", (-1, 2))):
        values[name] = np.array(values[name], dtype=float).reshape(shape)
    return Landscape(**values)


def _explored(
    run: Path, trained: checkpoint.TrainedModel, request: LandscapeRequest, listener: Listener
) -> Landscape:
    device = find_device(request.device)
    network = trained.network.placed(device)
    images, labels = _patches(run, trained.plan, request)
    task = make_task(trained.plan)
    targets = task.targets(labels.to(device))
    images = images.to(device)
    centre = _moved_tensors(network)
    steps = _snapshot_steps(run, centre)
    directions = (
        _path_directions(steps, run)
        if request.plane == "path"
        else tuple(_random_direction(network, request.seed, which) for which in (0, 1))
    )

    def loss() -> float:
        with torch.inference_mode():
            return float(task.loss([network(images)[0]], targets))

    is_path = request.plane == "path"
    reach = _path_reach(steps, directions) if is_path else request.radius
    axis = np.linspace(-reach, reach, request.grid)
    surface = np.empty((request.grid, request.grid))
    with torch.no_grad():
        for row, down in enumerate(axis):
            for column, right in enumerate(axis):
                _place(centre, directions, (right, down))
                surface[row, column] = loss()
                listener(Advance())
    path, share = _projected(steps, directions)
    return Landscape(
        run.resolve().name,
        trained.plan.network.encoder,
        trained.plan.network.skip,
        parameters(network),
        axis,
        surface,
        path,
        share,
        sharpness(surface),
        convex_share(surface),
    )


def _patches(run: Path, plan: Plan, request: LandscapeRequest) -> tuple[Tensor, Tensor]:
    """Patches of cases that the run learned from: (B, C, *patch) and (B, *patch)."""
    dataset = find_cases(request.data or read_data_path(run))
    cases = of_set(dataset, read_view(run))[0].cases
    training = plan.training
    learned = divide(run, cases, training.fold, training.folds, training.seed).train
    places = np.linspace(0, len(learned) - 1, min(request.samples, len(learned))).round()
    picked = [learned[int(place)] for place in places]
    folder = request.out / "cache"
    machine = measure(find_device("cpu"))
    cached = prepare_cases(
        picked, plan, folder, cores=machine.cores, skip_bad=False, listener=ignore_event
    )
    patch = replace(plan.patch, batch=request.samples)
    batches = Batches(cached, replace(plan, patch=patch), machine.memory_bytes)
    images, labels = batches.make(0)
    return images, labels


def _moved_tensors(network: UNet) -> list[tuple[Tensor, Tensor]]:
    """The weights of convolutions, each with a copy of what it was: the rest is not moved."""
    return [(p, p.detach().clone()) for p in network.parameters() if p.ndim > 1]


def _random_direction(network: UNet, seed: int, which: int) -> list[Tensor]:
    """Normally distributed, every filter as long as the network's own.

    Drawn by name: where two networks have the same tensor, they have the same direction.
    """
    transposed = {
        f"{name}.weight"
        for name, module in network.named_modules()
        if isinstance(module, (nn.ConvTranspose2d, nn.ConvTranspose3d))
    }
    direction = []
    for name, weight in network.named_parameters():
        if weight.ndim == 1:
            continue
        key = hashlib.blake2b(f"{seed} {which} {name}".encode(), digest_size=6).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(key, "big"))
        drawn = torch.randn(weight.shape, generator=generator).to(weight.device)
        # A filter makes one output channel, which is axis 1 of a transposed convolution.
        own = 1 if name in transposed else 0
        others = [axis for axis in range(weight.ndim) if axis != own]
        lengths = weight.detach().pow(2).sum(others, keepdim=True).sqrt()
        drawn *= lengths / drawn.pow(2).sum(others, keepdim=True).sqrt().clamp_min(1e-10)
        direction.append(drawn)
    return direction


def _place(
    centre: Sequence[tuple[Tensor, Tensor]],
    directions: Sequence[Sequence[Tensor]],
    where: tuple[float, float],
) -> None:
    for index, (parameter, middle) in enumerate(centre):
        moved = middle + where[0] * directions[0][index] + where[1] * directions[1][index]
        parameter.copy_(moved)


def _snapshot_steps(run: Path, centre: Sequence[tuple[Tensor, Tensor]]) -> list[list[Tensor]]:
    """Snapshot minus model for every moved tensor, in the order of the training."""
    names = [name for name, shape in _shapes(run) if len(shape) > 1]
    found = []
    for path in snapshots(run):
        tensors = load_file(path)
        found.append(
            [
                tensors[name].to(middle.device) - middle
                for name, (_, middle) in zip(names, centre, strict=True)
            ]
        )
    return found


def _shapes(run: Path) -> list[tuple[str, torch.Size]]:
    with torch.device("meta"):
        network = checkpoint.build(checkpoint.load_plan(run))
    return [(name, parameter.shape) for name, parameter in network.named_parameters()]


def _dot(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    return float(sum(float((a * b).sum()) for a, b in zip(one, other, strict=True)))


def _path_directions(steps: Sequence[Sequence[Tensor]], run: Path) -> tuple[list[Tensor], ...]:
    """The two principal directions of the snapshots, each of length one."""
    if len(steps) < 3:
        raise DataError(
            "too few snapshots for a plane along the path",
            where=run,
            expected="3 or more",
            got=len(steps),
            hint="train with --set training.snapshots=13",
        )
    gram = np.array([[_dot(a, b) for b in steps] for a in steps])
    values, vectors = np.linalg.eigh(gram)
    result = []
    for index in (-1, -2):
        weights = vectors[:, index] / np.sqrt(max(values[index], 1e-20))
        result.append(
            [
                sum(w * part for w, part in zip(weights, parts, strict=True))
                for parts in zip(*steps, strict=True)
            ]
        )
    return tuple(result)


def _path_reach(steps: Sequence[Sequence[Tensor]], directions: Sequence[Sequence[Tensor]]) -> float:
    """Half the width of a plane in which the whole path lies, with room around it."""
    return 1.15 * max(abs(_dot(step, d)) for step in steps for d in directions)


def _projected(
    steps: Sequence[Sequence[Tensor]], directions: Sequence[Sequence[Tensor]]
) -> tuple[NDArray[np.float64], float]:
    """(N, 2) coordinates of the snapshots, and the share of the way that lies in the plane."""
    if not steps:
        return np.empty((0, 2)), float("nan")
    gram = np.array([[_dot(a, b) for b in directions] for a in directions])
    against = np.array([[_dot(step, d) for d in directions] for step in steps])
    path = np.linalg.solve(gram, against.T).T
    inside = float(np.sqrt(max(path[0] @ gram @ path[0], 0)))
    whole = float(np.sqrt(_dot(steps[0], steps[0])))
    return path, inside / whole if whole else float("nan")


def sharpness(surface: NDArray[np.float64]) -> float:
    """The mean loss on a circle of half the half width, minus that in the middle."""
    middle = (len(surface) - 1) / 2
    angles = np.linspace(0, 2 * np.pi, _ANGLES, endpoint=False)
    radius = _CIRCLE * middle
    places = [middle + radius * np.sin(angles), middle + radius * np.cos(angles)]
    around = map_coordinates(surface, places, order=1)
    return float(around.mean() - surface[len(surface) // 2, len(surface) // 2])


def convex_share(surface: NDArray[np.float64]) -> float:
    """Share of the inner points where the matrix of second differences has no negative value."""
    along = surface[1:-1, 2:] - 2 * surface[1:-1, 1:-1] + surface[1:-1, :-2]
    down = surface[2:, 1:-1] - 2 * surface[1:-1, 1:-1] + surface[:-2, 1:-1]
    mixed = (surface[2:, 2:] - surface[2:, :-2] - surface[:-2, 2:] + surface[:-2, :-2]) / 4
    smallest = (along + down) / 2 - np.sqrt(((along - down) / 2) ** 2 + mixed**2)
    return float((smallest >= 0).mean())
