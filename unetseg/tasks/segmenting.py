"""A prepared scan through a network: the one path that training's validation and predict share."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, combinations, starmap
from math import prod

import torch
from torch import Tensor

from unetseg.config import Plan
from unetseg.devices import autocast, memory_errors
from unetseg.geometry import Box, whole_box
from unetseg.nets.unet import UNet
from unetseg.pipeline import GridImage, Placement
from unetseg.pipeline.resampling import needed
from unetseg.pipeline.restoring import Head, planes_on_scan
from unetseg.records import Listener, Mask, Note, ignore_event
from unetseg.tasks import Task
from unetseg.tasks.cleaning import Indices
from unetseg.tasks.pieces import Decoder, Piece, together
from unetseg.windows import Batches, Tiling, Walk, slabs


@dataclass(frozen=True)
class Segmenter:
    """A network, or the networks of an ensemble, with plan and task, on a device.

    others : the further members of an ensemble, of the same plan
    """

    network: UNet
    plan: Plan
    task: Task
    device: torch.device
    precision: str
    others: tuple[UNet, ...] = ()

    @property
    def networks(self) -> tuple[UNet, ...]:
        return self.network, *self.others

    @property
    def blended_maps(self) -> int:
        """How many values of a voxel are blended: its outputs, or its features if these are fewer.

        Those of all members of an ensemble, each of which makes outputs in its own way.
        """
        weights = [network.heads[0].get_parameter("weight") for network in self.networks]
        return min(self.task.outputs, sum(weight.shape[1] for weight in weights))

    def _head(self) -> Head | None:
        """What makes outputs of blended features, the mean of all members; None if outputs are."""
        if self.blended_maps == self.task.outputs:
            return None
        heads = [network.heads[0] for network in self.networks]
        weights = [head.get_parameter("weight").detach().float().flatten(1) for head in heads]
        biases = [head.get_parameter("bias").detach().float() for head in heads]
        count = len(heads)
        return Head(torch.cat(weights, 1) / count, torch.stack(biases).sum(0) / count)

    def tiling(self, grid: Sequence[int]) -> Tiling:
        """The windows of a scan whose grid has these sizes."""
        # Two voxels at the coarsest level, or instance normalisation has nothing to compare.
        smallest = [2 * stride for stride in self.network.encoder.strides[-1]]
        patch = list(map(max, self.plan.patch.size, smallest))
        decode = self.plan.decode
        return Tiling.of(grid, patch, decode.overlap, smallest, most=decode.window)

    def walk(self, grid: Sequence[int]) -> Walk:
        """The way through the windows that keeps the fewest outputs waiting."""
        tiling = self.tiling(grid)
        lengths = [n / w for n, w in zip(tiling.size, tiling.window, strict=True)]
        return Walk(lengths.index(max(lengths)), self.together(tiling.window))

    def together(self, window: Sequence[int]) -> int:
        """How many windows go through the network at once: no more voxels than in training."""
        patch = self.plan.patch
        return max(1, min(patch.batch, patch.batch * prod(patch.size) // prod(window)))

    def reach(self, placement: Placement, box: Box) -> Box:
        """The part of the grid that `pieces` reads for a box of the scan; zeros lie behind it."""
        inner = needed(placement.to_turned, placement.on_turned(box))
        return self.tiling(placement.grid.shape).reach(inner)

    def pieces(
        self,
        image: GridImage,
        walk: Walk | None = None,
        *,
        box: Box | None = None,
        probabilities: bool = False,
        only_likeliest: bool = False,
        answer: Tensor | None = None,
        listener: Listener = ignore_event,
    ) -> Iterator[Piece]:
        """The scan, or a box of it, piece by piece, each as soon as it is finished.

        walk : how memory and time are used; the answer does not depend on it
        box : on the scan's own grid
        probabilities : of every class, for each piece
        only_likeliest : with probabilities, that of the likeliest class alone
        answer : what `answers` gave, where it was asked already

        Raises DeviceError if the memory does not suffice for a single window.
        """
        placement = image.placement
        grid = placement.grid.shape
        tiling = self.tiling(grid)
        walk = walk or self.walk(grid)
        axes = placement.to_turned
        turned = placement.on_turned(box or whole_box(placement.scan.shape))
        finished = slabs(
            self._pass() if answer is None else lambda _: answer[None],
            image.read,
            tiling,
            walk,
            box=needed(axes, turned),
            device=self.device,
            told=_warning(listener),
        )
        parts = planes_on_scan(finished, axes, turned, walk.axis)
        decoder = Decoder(
            self.task, placement, walk.axis, probabilities, only_likeliest, self._head()
        )
        pieces = chain.from_iterable(starmap(decoder, parts))
        while True:
            # Between two pieces the caller does what it wants: nothing is switched on there.
            with self._computing():
                piece = next(pieces, None)
            if piece is None:
                return
            yield piece

    def answers(self, images: Sequence[GridImage], listener: Listener) -> list[Tensor]:
        """The blended maps of scans that are one window each, all of the same size, for `pieces`.

        Raises DeviceError if the memory does not suffice for a single one.
        """
        (tiling,) = {self.tiling(image.placement.grid.shape) for image in images}
        size = self.together(tiling.window)
        batches = Batches(self._pass(), size, self.device, _warning(listener))
        with self._computing():
            return batches([image.read(whole_box(tiling.window)) for image in images])

    def compute(self, windows: Tensor) -> Tensor:
        """(B, C, *window) -> (B, blended maps, *window), mirrored and by all members."""
        with self._computing():
            return self._pass()(windows.to(self.device))

    @contextmanager
    def _computing(self) -> Iterator[None]:
        for network in self.networks:
            network.eval()
        with torch.inference_mode(), memory_errors(self.device):
            yield

    def indices(self, image: GridImage, listener: Listener = ignore_event) -> Indices:
        """(*S) class numbers of a whole scan, as of Task.indices, on the scan's own grid."""
        return together(self.pieces(image, listener=listener), image.placement.scan.shape)

    def mask(self, image: GridImage, listener: Listener = ignore_event) -> Mask:
        """The mask of a whole scan, on the scan's own grid."""
        return self.task.mask(self.indices(image, listener), image.placement.scan)

    def _pass(self) -> Callable[[Tensor], Tensor]:
        with_heads = self.blended_maps == self.task.outputs

        def answer(network: UNet, x: Tensor) -> Tensor:
            # The networks alone: what interpolates their outputs is products of matrices too.
            with autocast(self.device, self.precision):
                finest: Tensor = network(x, with_heads=with_heads)[0]
            return finest

        def once(x: Tensor) -> Tensor:
            # Outputs before softmax, as in nnU-Net: any task has a mean of them, and a member that
            # is not sure of a voxel has less of a say in it.
            if not with_heads:
                # The head takes the mean.
                return torch.cat([answer(network, x) for network in self.networks], 1)
            total = answer(self.network, x)
            # Window by window, so that a scan has one set of maps however many members there are.
            for other in self.others:
                total = total.float() + answer(other, x).float()
            return total / (1 + len(self.others)) if self.others else total

        if not self.plan.decode.mirror:
            return once
        axes = self.plan.training.augment.mirror_axes
        subsets = chain.from_iterable(combinations(axes, n) for n in range(len(axes) + 1))
        flips = [[axis + 2 for axis in subset] for subset in subsets]

        def mirrored(x: Tensor) -> Tensor:
            total = sum(once(x.flip(f)).float().flip(f) for f in flips)
            return torch.as_tensor(total) / len(flips)

        return mirrored


def _warning(listener: Listener) -> Callable[[str], None]:
    return lambda text: listener(Note(text, "warning"))
