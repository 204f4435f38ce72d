"""Landscapes as pictures, a table and a page."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from unetseg.studies.figures import draw
from unetseg.studies.landscape import Landscape, LandscapeRequest
from unetseg.studies.report import Report, Section, Table, write_csv, write_json, write_page

_COLOURS = "cividis"
_LEVELS = 16
# Beyond this many times the lowest loss nothing more is told apart: such walls hide the valley.
_CEILING = 30.0


def write(request: LandscapeRequest, found: Sequence[Landscape]) -> None:
    """Write results.json, results.csv, the figures and index.html into the study's folder."""
    levels = shared_levels([each.loss for each in found])
    sections = (
        Section("Contours", _contours(request, found, levels)),
        Section("Surfaces", _surfaces(request, found, levels)),
        Section("Numbers", table=_table(found, request)),
    )
    asked = {
        "study": "landscape",
        "runs": [str(run) for run in request.runs],
        "grid": request.grid,
        "radius": request.radius,
        "samples": request.samples,
        "plane": request.plane,
        "seed": request.seed,
    }
    rows = [
        {
            "run": each.name,
            "encoder": each.encoder,
            "skip": each.skip,
            "parameters": each.parameters,
            "loss": each.centre,
            "sharpness": each.sharpness,
            "convex_share": each.convex_share,
            "path_share": each.path_share,
        }
        for each in found
    ]
    surfaces = [
        {
            **row,
            "axis": each.axis.tolist(),
            "surface": each.loss.tolist(),
            "path": each.path.tolist(),
        }
        for row, each in zip(rows, found, strict=True)
    ]
    write_json(request.out / "study.json", asked)
    write_json(request.out / "results.json", {**asked, "landscapes": surfaces})
    write_csv(request.out / "results.csv", rows)
    report = Report("The loss around the model", conclusions(found), sections)
    write_page(request.out, report, asked, "")


def conclusions(found: Sequence[Landscape]) -> tuple[str, ...]:
    """What the numbers say, one sentence per comparison."""
    if len(found) == 1:
        (one,) = found
        return (
            f"{one.name}: the loss rises by {one.sharpness:.3f} at half the radius, and the plane"
            f" is convex on {one.convex_share:.0%} of it.",
        )
    flat = min(found, key=lambda each: each.sharpness)
    steep = max(found, key=lambda each: each.sharpness)
    smooth = max(found, key=lambda each: each.convex_share)
    return (
        f"The loss rises least around {flat.name} (by {flat.sharpness:.3f} at half the radius) and"
        f" most around {steep.name} (by {steep.sharpness:.3f}).",
        f"The plane is convex on the largest share around {smooth.name}"
        f" ({smooth.convex_share:.0%}).",
        "One plane through each model, one seed: a picture, not a proof.",
    )


def shared_levels(surfaces: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Contour levels for all surfaces, evenly spread in the logarithm."""
    finite = np.concatenate([surface[np.isfinite(surface)] for surface in surfaces])
    low = max(float(finite.min()), 1e-6)
    high = min(float(finite.max()), _CEILING * low)
    return np.geomspace(low, max(high, low * 1.01), _LEVELS)


def _contours(
    request: LandscapeRequest, found: Sequence[Landscape], levels: NDArray[np.float64]
) -> str:
    def paint(figure: Figure) -> None:
        panels = figure.subplots(1, len(found), squeeze=False)[0]
        drawn: Any = None
        for panel, each in zip(panels, found, strict=True):
            height, heights = np.log(np.maximum(each.loss, levels[0])), np.log(levels)
            drawn = panel.contourf(
                each.axis, each.axis, height, heights, cmap=_COLOURS, extend="max"
            )
            lines = panel.contour(
                each.axis, each.axis, each.loss, levels[1::3], colors="white", linewidths=0.7
            )
            panel.clabel(lines, fmt="%.2f", fontsize=7)
            if len(each.path):
                panel.plot(each.path[:, 0], each.path[:, 1], "-o", color="#d55e00", ms=3, lw=1.2)
            panel.plot([0], [0], "*", color="white", markeredgecolor="black", ms=11)
            reach = each.axis[-1]
            panel.set_xlim(-reach, reach)
            panel.set_ylim(-reach, reach)
            panel.set_aspect("equal")
            panel.set_title(f"{each.name}\nloss {each.centre:.3f}", loc="left")
            panel.set_xlabel("first direction")
        panels[0].set_ylabel("second direction")
        bar = figure.colorbar(drawn, ax=list(panels), shrink=0.85)
        shown = np.log(levels)[::3]
        bar.set_ticks(list(shown), labels=[f"{value:.2f}" for value in np.exp(shown)])
        bar.set_label("training loss")

    return draw(request.out, "contours", (1.2 + 3.6 * len(found), 4.1), paint)


def _surfaces(
    request: LandscapeRequest, found: Sequence[Landscape], levels: NDArray[np.float64]
) -> str:
    def paint(figure: Figure) -> None:
        for index, each in enumerate(found, 1):
            panel = figure.add_subplot(1, len(found), index, projection="3d")
            across, down = np.meshgrid(each.axis, each.axis)
            # Beyond the ceiling there is nothing to see: an open bowl shows its inside.
            height = np.log10(np.where(each.loss <= levels[-1], each.loss, np.nan))
            panel.plot_surface(
                across,
                down,
                height,
                cmap=_COLOURS,
                vmin=np.log10(levels[0]),
                vmax=np.log10(levels[-1]),
                rstride=1,
                cstride=1,
                linewidth=0.15,
                edgecolor=(0, 0, 0, 0.25),
            )
            panel.set_zlim(np.log10(levels[0]), np.log10(levels[-1]))
            ticks = np.log10(levels[::5])
            panel.set_zticks(list(ticks), [f"{10**tick:.2f}" for tick in ticks])
            panel.set_title(each.name)
            panel.view_init(elev=32, azim=-58)
            panel.tick_params(labelsize=7)

        figure.subplots_adjust(left=0.01, right=0.99 - 0.05 / len(found), top=0.93, bottom=0.05)

    size = (0.6 + 4.6 * len(found), 4.3)
    return draw(request.out, "surfaces", size, paint, is_fitted=False)


def _table(found: Sequence[Landscape], request: LandscapeRequest) -> Table:
    rows = tuple(
        (
            each.name,
            each.encoder,
            each.skip,
            f"{each.parameters:,}",
            f"{each.centre:.3f}",
            f"{each.sharpness:.3f}",
            f"{each.convex_share:.0%}",
            "" if np.isnan(each.path_share) else f"{each.path_share:.1%}",
        )
        for each in found
    )
    names = ("run", "encoder", "skip", "parameters", "loss", "sharpness", "convex", "path in plane")
    return Table(
        "Landscapes",
        names,
        rows,
        f"Loss on {request.samples} patches that the model learned from, without random changes."
        " Sharpness: how much the loss rises on a circle of half the radius. Convex: share of the"
        " plane where the loss curves upwards in every direction. Path in plane: share of the way"
        " from the first weights to the last that the plane shows; two random directions of so"
        " many show little of it, --plane path shows most.",
    )
