"""What has several channels, written beside a mask piece by piece: never classes x voxels."""

from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from math import log

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

from unetseg.config import DataPlan
from unetseg.formats import maps_file
from unetseg.formats.boxwise import MapsFile
from unetseg.prediction.hands import Hand
from unetseg.prediction.places import Job
from unetseg.prediction.request import Kind
from unetseg.records import Opened, Scan
from unetseg.tasks.pieces import Piece

Values = NDArray[np.float32]


def uncertainty(probabilities: Values, *, may_overlap: bool) -> Values:
    """How undecided the network is, from 0 to 1.

    probabilities : (K, *S)
    may_overlap : each of the K is asked by itself (regions), rather than one of them is true

    Returns (*S): the entropy over log K, which is 1 where all classes are as likely; for regions
    the mean over them of the entropy of yes and no, in bits.
    """
    total = np.zeros(probabilities.shape[1:], np.float32)
    # One map after the other: no second array as large as all of them.
    for each in probabilities:
        total += entr(each)
        if may_overlap:
            total += entr(1 - each)
    scale = len(probabilities) * log(2) if may_overlap else log(len(probabilities))
    share: Values = np.clip(total / np.float32(scale), 0, 1)
    return share


class Maps:
    """The files with maps of one case, filled by `writer` while the next piece is computed.

    made_by : as of formats.maps_file, where somebody may go on with what is unfinished
    """

    def __init__(
        self,
        job: Job,
        like: Scan | Opened,
        data: DataPlan,
        map_type: str,
        writer: Hand,
        made_by: str = "",
    ) -> None:
        names = data.map_names
        named: Mapping[Kind, tuple[str, ...]] = {
            "prob": names,
            "uncertainty": ("uncertainty",),
            "regions": names,
        }
        self._is_kept = bool(made_by) and job.keeps_blocks
        self._may_overlap = bool(data.regions)
        # Distances in objects, the maps behind those of classes, are no probabilities.
        self._shares = len(data.class_names) if data.task == "instances" else len(names)
        self._writer = writer
        self._behind: Future[None] | None = None
        self._files: dict[Kind, MapsFile] = {}
        try:
            for kind, path in job.beside:
                dtype = "bool" if kind == "regions" else map_type
                self._files[kind] = maps_file(path, like, named[kind], dtype, made_by)
        except BaseException:
            self.discard()
            raise

    def __bool__(self) -> bool:
        return bool(self._files)

    def add(self, piece: Piece) -> None:
        """Have the piece written; the piece before it is by then."""
        if self._files:
            self.settle()
            self._behind = self._writer.do(lambda: self._write(piece))

    def settle(self) -> None:
        """Wait until all that was added is written. Raises what the writing has raised."""
        behind, self._behind = self._behind, None
        if behind is not None:
            behind.result()

    def _write(self, piece: Piece) -> None:
        shares = piece.probabilities
        if shares is None:
            raise ValueError("a piece without probabilities has no maps")
        for kind, file in self._files.items():
            values = shares
            if kind == "uncertainty":
                values = uncertainty(shares[: self._shares], may_overlap=self._may_overlap)[None]
            file.write(piece.box, values)

    def finish(self) -> None:
        """Let the files appear."""
        for file in self._files.values():
            file.finish()

    def discard(self) -> None:
        """Leave nothing of them, but for what somebody may go on with."""
        # What has failed was told, or is about to be.
        with suppress(Exception):
            self.settle()
        for file in self._files.values():
            if not self._is_kept:
                file.discard()
