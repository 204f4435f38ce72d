"""Colours for objects: neighbours get different ones, and the same mask always gets the same."""

from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heappush
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetseg.colours import COLOURS

Neighbours = list[set[int]]

# Objects that lie so many pixels apart along a row or a column are told apart as well, if they can.
_NEAR = (2, 4, 8, 16)


def coloured(slices: Sequence[NDArray[np.integer[Any]]], count: int) -> NDArray[np.intp]:
    """An index into COLOURS for each object from 1 to `count`, at its own place; 0 at place 0.

    slices : (height, width) each, with the numbers of the objects, 0 for none

    Objects that touch in a slice never share a colour in a picture, where the colours suffice;
    objects with a narrow gap between them do not if it can be helped.
    """
    touching = _pairs(slices, _steps_of_touch(), count)
    near = _pairs(slices, [step for gap in _NEAR for step in ((gap, 0), (0, gap))], count)
    found = np.zeros(count + 1, np.intp)
    has_colour = np.zeros(count + 1, np.bool_)
    colours = range(len(COLOURS))
    for number in _fewest_last(touching):
        clashes = np.zeros(len(COLOURS))
        for weight, others in ((count + 1, touching[number]), (1, near[number])):
            for other in others:
                if has_colour[other]:
                    clashes[found[other]] += weight
        # From its own number on, or all would have the first colours.
        found[number] = min(colours, key=lambda c: (clashes[c], (c - number) % len(COLOURS)))
        has_colour[number] = True
    found[0] = 0
    return found


def _steps_of_touch() -> list[tuple[int, int]]:
    """To the pixels that share an edge or a corner, each pair once."""
    return [step for step in product((0, 1), (-1, 0, 1)) if step > (0, 0)]


def _pairs(
    slices: Iterable[NDArray[np.integer[Any]]], steps: Sequence[tuple[int, int]], count: int
) -> Neighbours:
    """Which objects are a step apart in one of the slices."""
    neighbours: Neighbours = [set() for _ in range(count + 1)]
    for plane in slices:
        for down, right in steps:
            rows, columns = plane.shape
            if down >= rows or abs(right) >= columns:
                continue
            left = max(0, -right)
            here = plane[: rows - down, left : columns - max(0, right)]
            there = plane[down:, left + right : columns + min(0, right)]
            is_pair = (here != there) & (here > 0) & (there > 0)
            both = np.stack([here[is_pair], there[is_pair]], axis=1)
            for a, b in np.unique(both, axis=0).tolist():
                neighbours[a].add(b)
                neighbours[b].add(a)
    return neighbours


def _fewest_last(neighbours: Neighbours) -> list[int]:
    """An order in which few neighbours of each object come before it.

    What has the fewest neighbours comes last, and so on with the rest. In a plane there is always
    an object with five at most, so that six colours suffice.

    Source: Matula and Beck 1983, doi:10.1145/2402.322385.
    """
    degree = [len(each) for each in neighbours]
    queue = [(size, number) for number, size in enumerate(degree) if number]
    heapify(queue)
    order: list[int] = []
    is_taken = bytearray(len(neighbours))
    while queue:
        size, number = heappop(queue)
        if is_taken[number] or size != degree[number]:
            continue
        is_taken[number] = 1
        order.append(number)
        for other in sorted(neighbours[number]):
            if not is_taken[other]:
                degree[other] -= 1
                heappush(queue, (degree[other], other))
    return order[::-1]
