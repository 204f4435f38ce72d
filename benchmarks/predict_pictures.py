"""One large picture, and many small ones, through the command line; called by predict.py."""

import argparse
from pathlib import Path

from apart import TIMES, Failed, Row, Work, in_turns, keep, measured, table
from predict_cases import (
    NUCLEI,
    STAND_IN,
    model_for,
    place_for,
    write_bigtiff,
    write_ome_zarr,
    write_pictures,
)
from train import Results


def large(given: argparse.Namespace, results: Results) -> None:
    sizes, tile = (given.sizes, 512) if not given.quick else ([700], 256)
    writers = {"OME-Zarr": (".ome.zarr", write_ome_zarr), "BigTIFF": (".tif", write_bigtiff)}
    with place_for(given) as folder:
        networks = {"stand-in": STAND_IN} | ({"ordinary": {}} if given.ordinary else {})
        rows: dict[str, Row] = {}
        for size in sizes:
            for form, (suffix, write) in writers.items():
                path = folder / f"picture_{size}_{given.dtype}{suffix}"
                if not path.exists():
                    print(f"making {path.name} ...", flush=True)
                    write(path, size, tile, given.dtype)
                for title, overrides in networks.items():
                    model = model_for(folder, f"picture_{title}", NUCLEI, 2, overrides)
                    words = ["predict", path, "-o", folder / "masks", "--model", model]
                    words += ["--overwrite", "--device", given.device]
                    work = Work("predict_work:command", {"words": list(map(str, words))})
                    name = f"{form}, {size} x {size} {given.dtype}, {title}"
                    for who, row in in_turns({name: work}, given.rounds).items():
                        row["megapixels_per_second"] = size**2 / 1e6 / row["seconds"]
                        rows[who] = row
    print("one large picture, from file to file by the command line")
    speed = ("megapixels/s", "megapixels_per_second", ".2f")
    print(table(rows, [*TIMES, speed, ("process", "process_seconds", ".1f")], "picture"))
    keep(results, "large", rows, dtype=given.dtype)


def many(given: argparse.Namespace, results: Results) -> None:
    count, calls, size = (given.count, given.calls, 256) if not given.quick else (4, 2, 96)
    with place_for(given) as folder:
        pictures = folder / f"pictures_{count}"
        if not pictures.is_dir():
            write_pictures(pictures, count, size)
        model = str(given.model or model_for(folder, "ordinary_2d", NUCLEI, 2))

        def command(inputs: Path) -> Work:
            words = ["predict", inputs, "-o", folder / "masks", "--model", model]
            words += ["--overwrite", "--device", given.device]
            return Work("predict_work:command", {"words": list(map(str, words))})

        try:
            together = measured(command(pictures))
            alone = [measured(command(path)) for path in sorted(pictures.iterdir())[:calls]]
        except Failed as error:
            print(f"failed: {error}")
            return
    each = sum(row["process_seconds"] for row in alone) / len(alone)
    peak = max(row["peak_bytes"] for row in alone)
    rows: dict[str, Row] = {
        "one call": {**together, "all_seconds": together["process_seconds"]},
        "a call for each": {"peak_bytes": peak, "calls": calls, "all_seconds": each * count},
    }
    for row in rows.values():
        row["each_seconds"] = row["all_seconds"] / count
        row["ratio"] = row["all_seconds"] / rows["one call"]["all_seconds"]
    print(f"{count} pictures of {size} x {size}; whole processes, start and imports included")
    columns = [("seconds", "all_seconds", ".1f"), ("each", "each_seconds", ".3f")]
    print(table(rows, [*columns, TIMES[1], ("ratio", "ratio", ".2f")], "how"))
    print(f"  a call for each: {calls} calls were measured, and their mean taken {count} times")
    keep(results, "many", rows, count=count, size=size)
