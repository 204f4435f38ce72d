"""Small scans that go through the network together."""

from collections.abc import Sequence
from dataclasses import replace

from unetseg.errors import DeviceError
from unetseg.prediction.cases import Ready, Turn, WholeScan
from unetseg.prediction.predictor import Predictor


def goes_with_others(ready: Ready | None, predictor: Predictor) -> bool:
    """Whether a scan (None: it could not be read) leaves the network room for further ones."""
    return isinstance(ready, WholeScan) and predictor.lone_window(ready.prepared) is not None


def answered(group: Sequence[Ready | None], turn: Turn) -> list[Ready | None]:
    """The same, each of several scans of the first one's window with the network's answer."""
    found, predictor = list(group), turn.predictor
    scans: dict[int, WholeScan] = {}
    window: tuple[int, ...] | None = None
    for place, ready in enumerate(group):
        if isinstance(ready, WholeScan):
            its = predictor.lone_window(ready.prepared)
            window = window if scans else its
            if its is not None and its == window:
                scans[place] = ready
    if len(scans) < 2:
        return found
    try:
        answers = predictor.answers([scan.prepared for scan in scans.values()], turn.listener)
    except DeviceError:
        # Each finds its own way, which may be the processor.
        return found
    for (place, scan), answer in zip(scans.items(), answers, strict=True):
        found[place] = replace(scan, answer=answer)
    return found
