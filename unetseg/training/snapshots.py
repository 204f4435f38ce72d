"""Weights set aside on the way, from which a study can draw the path of a training."""

from pathlib import Path

from unetseg.checkpoint import write_weights
from unetseg.nets.unet import UNet

FOLDER = "snapshots"


class Snapshots:
    """`count` files in the run folder, evenly over the training, its first and last step included.

    A resumed training writes those that are not there yet.
    """

    def __init__(self, run: Path, count: int) -> None:
        self.folder, self.count = run / FOLDER, count
        self._next = 0

    def take(self, position: float, network: UNet) -> None:
        """Set the weights aside if their time has come.

        position : share of the training that is over, 0 to 1
        """
        while self._next < self.count and position >= self._next / max(1, self.count - 1):
            path = self.folder / f"snapshot_{self._next:03d}.safetensors"
            if not path.is_file():
                write_weights(path, network)
            self._next += 1


def snapshots(run: Path) -> list[Path]:
    """The snapshots of a run, first to last."""
    return sorted((run / FOLDER).glob("snapshot_*.safetensors"))
