"""Images whose values say little: constant, overexposed, on another scale than the rest."""

from collections.abc import Iterator, Sequence

import numpy as np

from unetseg.checking.looks import CaseLook, ChannelLook
from unetseg.checking.outliers import isolated, times
from unetseg.records import Finding

# The range between the 1st and 99.9th percentile, as a share of the larger of the two.
_FLAT = 0.01
# The share of voxels at the greatest value, if it is also so many times what the others have.
_SATURATED, _SATURATED_TIMES = 0.05, 5.0
# How many times wider or narrower the values are than in the nearest cases.
_SCALE_FACTOR = 10.0


def on_values(looks: Sequence[CaseLook]) -> Iterator[Finding]:
    """Channels that are nearly constant or clipped, and scales that stand apart."""
    flat = {look.name for look in looks if any(map(_is_flat, look.channels))}
    for look in looks:
        if look.name in flat:
            yield _flat(look)
    rest = [look for look in looks if look.name not in flat]
    for count in sorted({len(look.channels) for look in rest}):
        alike = [look for look in rest if len(look.channels) == count]
        for channel in range(count):
            yield from _saturated(alike, channel)
            yield from _scales(alike, channel)


def _is_flat(channel: ChannelLook) -> bool:
    span = channel.brightest - channel.dark
    # A few bright specks in the dark are an image: the greatest value may lie far out.
    if channel.high - channel.low > 10 * max(span, abs(channel.dark) * _FLAT):
        return channel.high == channel.low
    return span <= _FLAT * max(abs(channel.brightest), abs(channel.dark))


def _flat(look: CaseLook) -> Finding:
    channel = next(filter(_is_flat, look.channels))
    of = f"channel {channel.name}: " if len(look.channels) > 1 else ""
    if channel.low == channel.high:
        sentence = f"{of}every voxel is {channel.low:g}"
    else:
        sentence = f"{of}nearly constant: {channel.dark:g} to {channel.brightest:g}"
    hint = "look at it; nothing can be learned from it"
    return Finding("warning", look.image_file, sentence, hint, "flat", (look.name,))


def _saturated(looks: Sequence[CaseLook], channel: int) -> Iterator[Finding]:
    shares = np.array([look.channels[channel].top_share for look in looks])
    usual = float(np.percentile(shares, 90))
    for look, share in zip(looks, shares.tolist(), strict=True):
        if share > max(_SATURATED, _SATURATED_TIMES * usual):
            of = f"channel {look.channels[channel].name}: " if len(look.channels) > 1 else ""
            yield Finding(
                "warning",
                look.image_file,
                f"{of}{share:.0%} of the voxels have the greatest value, "
                f"{look.channels[channel].high:g}; in most images {usual:.2%} or less",
                "overexposed or clipped when it was converted: export it again",
                "saturated",
                (look.name,),
            )


def _scales(looks: Sequence[CaseLook], channel: int) -> Iterator[Finding]:
    spans = np.array(
        [look.channels[channel].bright - look.channels[channel].dark for look in looks], dtype=float
    )
    known = spans > 0
    some = [look for look, is_known in zip(looks, known, strict=True) if is_known]
    logs = np.log(spans[known])
    for index, factor in isolated(logs, _SCALE_FACTOR):
        look = some[index]
        found = look.channels[channel]
        yield Finding(
            "warning",
            look.image_file,
            f"values from {found.dark:.4g} to {found.bright:.4g}: {times(factor)} the range of "
            "the nearest other images",
            "look whether it was converted as the others were",
            "intensity",
            (look.name,),
        )
