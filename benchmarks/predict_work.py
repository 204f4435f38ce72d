"""What predict.py measures of unetseg: each function runs in a process of its own, see apart.py."""

import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from apart import Row, Stages
from predict_cases import bodies, smooth_scan
from predict_networks import Bodies, FromFile, numbered
from torch import Tensor, nn

from unetseg.config import Plan
from unetseg.devices import autocast, usable_precision
from unetseg.geometry import Geometry
from unetseg.pipeline import Prepared, place
from unetseg.prediction.outlook import Header, Limits
from unetseg.prediction.predictor import Predictor
from unetseg.records import Case, Mask, Scan, Source
from unetseg.tasks import pieces
from unetseg.tasks.pieces import together

# Side of the matrices whose product says what the device can do, and how often it is tried.
MATRIX, TRIES = 4096, 5
SOURCE = Source(Path("none"), "none")


def now(device: torch.device) -> float:
    """Seconds, once all work on the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


class Watch:
    """Counts the windows that go through a network, and the seconds in it."""

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self.windows, self.seconds, self.batch = 0, 0.0, 0
        self._device, self._begun = device, 0.0
        network.register_forward_pre_hook(self._begin)
        network.register_forward_hook(self._end)

    def _begin(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        del module
        self.windows += len(inputs[0])
        self.batch = max(self.batch, len(inputs[0]))
        self._begun = now(self._device)

    def _end(self, module: nn.Module, inputs: object, outputs: object) -> None:
        del module, inputs, outputs
        self.seconds += now(self._device) - self._begun

    @property
    def facts(self) -> Row:
        seconds = round(self.seconds, 3)
        return {"windows": self.windows, "batch": self.batch, "network_seconds": seconds}


@contextmanager
def seconds_deciding(device: torch.device) -> Iterator[list[float]]:
    """How long each call takes that interpolates outputs and finds the largest of them."""
    found: list[float] = []
    honest = pieces.largest

    def timed(*given: Any) -> Tensor:
        begun = now(device)
        result = honest(*given)
        found.append(now(device) - begun)
        return result

    pieces.largest = timed
    try:
        yield found
    finally:
        pieces.largest = honest


def predictor_for(
    model: str,
    device: str,
    precision: str | None = None,
    quality: str = "balanced",
    limits: Limits | None = None,
) -> Predictor:
    """The network of a model folder as a prediction uses it.

    precision : None for the plan's, where the device has it
    """
    found = Predictor(model, device=device, quality=quality, limits=limits)
    if precision:
        wanted = usable_precision(precision, found.machine)
        found.segmenter = replace(found.segmenter, precision=wanted)
    return found


def mask_of(predictor: Predictor, prepared: Prepared) -> Mask:
    """The mask of a scan in memory, as a command computes it between reading and writing."""
    grid = prepared.placement.scan
    indices = together(predictor.pieces(prepared), grid.shape)
    return predictor.task.mask(indices, grid)


def on_grid(path: str, plan: Plan) -> Prepared:
    """The (C, *S) float32 array of a file as a scan that lies on the plan's grid already."""
    image = torch.from_numpy(np.load(path))
    geometry = Geometry(tuple(image.shape[1:]), np.diag([*_edges(plan), 1.0]), plan.data.unit)
    return Prepared(image, place(geometry, plan.data))


def _edges(plan: Plan) -> tuple[float, ...]:
    return plan.data.spacing or (1.0,) * plan.data.dimensions


def device_facts(device: torch.device) -> Row:
    if device.type != "cuda":
        return {"threads": torch.get_num_threads()}
    return {"device_peak_bytes": torch.cuda.max_memory_allocated(device)}


def windows(
    stages: Stages, model: str, image: str, device: str, precision: str | None, labels: str
) -> Row:
    """From the tensor on the plan's grid to the class numbers; on a card the second time."""
    predictor = predictor_for(model, device, precision)
    engine = predictor.segmenter
    prepared = on_grid(image, engine.plan)
    if engine.device.type == "cuda":
        mask_of(predictor, prepared)
    watch = Watch(engine.network, engine.device)
    with stages.of("windows"):
        mask = mask_of(predictor, prepared)
    np.save(labels, mask.array)
    return watch.facts | device_facts(engine.device) | {"precision": engine.precision}


def folder(stages: Stages, model: str, images: str, output: str, device: str, quality: str) -> Row:
    """`unetseg predict FOLDER` with its defaults, without starting Python."""
    from unetseg.prediction import Request, predict

    request = Request(
        [images], Path(model), Path(output), device=device, overwrite=True, quality=quality
    )
    with stages.of("predict"):
        done = predict(request)
    if failed := [record.message for record in done if record.status != "done"]:
        raise SystemExit(failed[0])
    return {"files": len(done)}


def command(stages: Stages, words: Sequence[str]) -> Row:
    """A call of the command line, imports included."""
    sys.argv = ["unetseg", *words]
    with stages.of("command"):
        from unetseg.cli import main

        try:
            main()
        except SystemExit as ended:
            if ended.code:
                raise
    on_card = torch.cuda.is_initialized()
    return {"device_peak_bytes": torch.cuda.max_memory_reserved()} if on_card else {}


# --- from outputs to labels ----------------------------------------------------------------------


def export(stages: Stages, model: str, outputs: str, scan: Sequence[int], labels: str) -> Row:
    """From outputs in a file, which come as windows do, to labels on the scan's grid.

    model : whose plan has the grid, the patch, and as many classes as the file has outputs
    scan : its voxels; its edges are so that the grid is a whole number of voxels
    """
    engine = predictor_for(model, "cpu", "float32").segmenter
    grid = tuple(np.load(Path(outputs).with_suffix(".npy")).tolist())
    plan = replace(engine.plan, decode=replace(engine.plan.decode, overlap=0.0))
    edges = [e * g / n for e, g, n in zip(_edges(plan), grid, scan, strict=True)]
    placement = place(Geometry(tuple(scan), np.diag([*edges, 1.0]), "mm"), plan.data)
    if placement.grid.shape != grid:
        raise SystemExit(f"the grid is {placement.grid.shape}, the outputs' {grid}")
    places = torch.empty(len(grid), *grid)
    for axis, size in enumerate(grid):
        along = [-1 if a == axis else 1 for a in range(len(grid))]
        places[axis] = torch.arange(size).reshape(along)
    network: Any = FromFile(outputs, engine.task.outputs, grid)
    engine = replace(engine, network=network, plan=plan)
    prepared = Prepared(places, placement)
    watch = Watch(network, engine.device)
    with stages.of("export"):
        mask = engine.mask(prepared)
    np.save(labels, mask.array)
    own = stages.taken["export"]["seconds"] - watch.seconds
    return watch.facts | {"own_seconds": round(own, 3)} | device_facts(engine.device)


# --- a whole scan in stages ----------------------------------------------------------------------


def scan_stages(
    stages: Stages,
    model: str,
    scan: str,
    output: str,
    device: str,
    network: str,
    device_memory: int | None = None,
) -> Row:
    """A scan from file to file, stage by stage, one after the other.

    network : bodies, see predict_networks; or both: the model's own too, whose outputs are let go,
        so that the work is that of a network and the outputs are those of a trained one; or own:
        nothing but the model's
    device_memory : the most bytes of a card
    """
    from unetseg.dataset.loading import load_scan
    from unetseg.formats import write_mask

    predictor = predictor_for(model, device, limits=Limits(None, device_memory))
    engine = predictor.segmenter
    own, outputs = engine.network, engine.task.outputs
    with stages.of("read"):
        loaded = load_scan(Case("scan", (Path(scan),)))
    with stages.of("foresee"):
        # The first pass through the network is here, and on a card all that comes with it.
        foreseen = predictor.foresee(Header(loaded.geometry, 1, loaded.array.itemsize))
    with stages.of("prepare"):
        prepared = predictor.prepare(loaded)
    grid = prepared.placement.grid.shape
    on_card = engine.device.type == "cuda"
    held = 0
    if network == "own":
        watch = inner = Watch(own, engine.device)
    else:
        labels = torch.from_numpy(bodies(np.random.default_rng(0), outputs, grid))
        patch = engine.plan.patch.size
        stand_in: Any = Bodies(own, labels, outputs, patch, computes=network == "both")
        predictor.segmenter = replace(engine, network=stand_in.to(engine.device))
        held = torch.cuda.memory_allocated(engine.device) if on_card else 0
        watch = Watch(stand_in, engine.device)
        inner = Watch(own, engine.device) if network == "both" else watch
        prepared = replace(prepared, image=numbered(grid))
    with stages.of("segment"), seconds_deciding(engine.device) as deciding:
        mask = mask_of(predictor, prepared)
    with stages.of("write"):
        write_mask(mask, Path(output), loaded)
    taken = {name: stage["seconds"] for name, stage in stages.taken.items()}
    decode = taken["segment"] - watch.seconds
    return {
        **inner.facts,
        **device_facts(engine.device),
        "foreseen_host_bytes": foreseen.host_bytes,
        "foreseen_device_bytes": foreseen.device_bytes,
        # What the bodies themselves take of a card, which is none of a prediction's.
        "stand_in_device_bytes": held,
        "outputs_on_device": foreseen.walk.on_device,
        "voxels": loaded.array.size,
        "scan_bytes": loaded.array.nbytes,
        "mask_bytes": mask.array.nbytes,
        "grid": list(grid),
        "outputs": outputs,
        "classes_found": len(np.unique(mask.array)),
        **{f"{name}_seconds": seconds for name, seconds in taken.items()},
        "stand_in_seconds": round(watch.seconds - inner.seconds, 3),
        "decode_seconds": round(decode, 3),
        "decode_share": round(decode / inner.seconds, 4),
        # Of decoding, what is neither blending nor putting together.
        "deciding_seconds": round(sum(deciding), 3),
        "deciding_share": round(sum(deciding) / inner.seconds, 4),
    }


# --- the floor -----------------------------------------------------------------------------------


def matrix_rate(device: torch.device, precision: str) -> float:
    """Operations per second of a product of matrices.

    precision : of a card; a processor's is that of float32, on all threads
    """
    on_card = device.type == "cuda"
    one = torch.randn(MATRIX, MATRIX, device=device)
    taken = []
    for _ in range(TRIES):
        begun = time.perf_counter()
        with autocast(device, precision if on_card else "float32"):
            one @ one
        if on_card:
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - begun)
    return 2 * MATRIX**3 / statistics.median(taken[1:])


def floor(
    stages: Stages, model: str, size: Sequence[int], count: int, device: str, quality: str
) -> Row:
    """Scans in memory to masks in memory, against the work that cannot be left out.

    size, count : of the scans, on the plan's grid already

    The floor is the network's operations on every voxel once, at the rate of a matrix product.
    The time over it is a product of three: windows that overlap, a network that is slower than a
    product of matrices, and all that is not the network.
    """
    from unetseg.nets.cost import cost

    predictor = predictor_for(model, device, quality=quality)
    engine = predictor.segmenter
    data, network = engine.plan.data, engine.network
    array = smooth_scan(size, engine.task.outputs)[None]
    geometry = Geometry(tuple(size), np.diag([*_edges(engine.plan), 1.0]), data.unit)
    scans = [Scan(np.roll(array, n, 1), geometry, data.channels, SOURCE) for n in range(count)]
    window = list(engine.tiling(size).window)
    each = cost(network.eval(), 1, window).flops
    before = matrix_rate(engine.device, engine.precision)
    with stages.of("warm-up"):
        mask_of(predictor, predictor.prepare(scans[0]))
    watch = Watch(network, engine.device)
    prepared_seconds = 0.0
    with stages.of("whole"):
        for scan in scans:
            begun = time.perf_counter()
            prepared = predictor.prepare(scan)
            prepared_seconds += time.perf_counter() - begun
            mask_of(predictor, prepared)
    rate = statistics.mean([before, matrix_rate(engine.device, engine.precision)])
    warm_up = stages.taken.pop("warm-up")["seconds"]
    seconds = stages.taken["whole"]["seconds"]
    once = each / prod(window) * prod(size) * count
    computed = each * watch.windows
    return {
        **watch.facts,
        **device_facts(engine.device),
        "size": list(size),
        "count": count,
        "quality": quality,
        "window": window,
        "gigaflops_per_second": round(rate / 1e9, 2),
        "gigaflops_once": round(once / 1e9, 3),
        "floor_seconds": round(once / rate, 4),
        "warm_up_seconds": warm_up,
        "prepare_seconds": round(prepared_seconds, 4),
        "over_floor": round(seconds / (once / rate), 3),
        "over_windows": round(seconds / (computed / rate), 3),
        "by_overlap": round(computed / once, 3),
        "by_network": round(watch.seconds / (computed / rate), 3),
        "by_the_rest": round(seconds / watch.seconds, 3),
        "megavoxels_per_second": round(prod(size) * count / seconds / 1e6, 3),
    }
