"""Small scans that go through the network together."""

from collections.abc import Sequence
from dataclasses import replace

from unetseg.prediction.cases import Ready, Turn, WholeScan
from unetseg.prediction.predictor import Predictor


def goes_with_others(ready: Ready | None, predictor: Predictor) -> bool:
    """Whether a scan (None: it could not be read) leaves the network room for further ones."""
    return isinstance(ready, WholeScan) and predictor.lone_window(ready.prepared) is not None


def answered(group: Sequence[Ready | None], turn: Turn) -> list[Ready | None]:
    """The same, each of several scans of the first one's window with the network's answer."""
    scans = [ready.prepared if isinstance(ready, WholeScan) else None for ready in group]
    answers = turn.predictor.answers(scans, turn.listener)
    return [
        replace(ready, answer=answer) if isinstance(ready, WholeScan) else ready
        for ready, answer in zip(group, answers, strict=True)
    ]
