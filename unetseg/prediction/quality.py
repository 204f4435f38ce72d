"""How much work a mask is worth: size and step of the windows, mirroring, networks."""

from dataclasses import dataclass

from unetseg.config import DecodePlan
from unetseg.errors import UsageError, nearest


@dataclass(frozen=True)
class Quality:
    """A way between fast and exact; None leaves what the plan says.

    most_overlap, least_overlap : bounds of decode.overlap
    least_window : bound of decode.window
    mirror : decode.mirror
    is_alone : one network of an ensemble, the first
    """

    most_overlap: float | None = None
    least_overlap: float | None = None
    least_window: float | None = None
    mirror: bool | None = None
    is_alone: bool = False

    def settings(self, decode: DecodePlan) -> dict[str, float | bool]:
        """The plan values that differ from the plan's, by dotted key."""
        overlap = decode.overlap
        if self.most_overlap is not None:
            overlap = min(overlap, self.most_overlap)
        if self.least_overlap is not None:
            overlap = max(overlap, self.least_overlap)
        changed: dict[str, float | bool] = {}
        if overlap != decode.overlap:
            changed["decode.overlap"] = overlap
        if self.least_window is not None and self.least_window > decode.window:
            changed["decode.window"] = self.least_window
        if self.mirror not in (None, decode.mirror):
            changed["decode.mirror"] = bool(self.mirror)
        return changed


QUALITIES = {
    "fast": Quality(most_overlap=0.25, least_window=2.0, mirror=False, is_alone=True),
    "balanced": Quality(),
    "best": Quality(least_overlap=0.5, mirror=True),
}


def check_quality(name: str) -> None:
    """Raise UsageError for a quality that does not exist."""
    if name not in QUALITIES:
        raise UsageError(
            "no such quality",
            where="--quality",
            expected=", ".join(QUALITIES),
            got=name,
            hint=nearest(name, QUALITIES),
        )
