"""How long a prediction takes and how much memory: tables, and a JSON file that grows call by call.

    python benchmarks/predict.py windows  [--model RUN --scan FILE] [--layouts]
    python benchmarks/predict.py defaults [DATA] [--model RUN --peer-model FOLDER] [--minutes 5]
    python benchmarks/predict.py export   [--outputs 118]
    python benchmarks/predict.py ct       [--outputs 2 20 118] [--slices 150 300 600]
    python benchmarks/predict.py large    [--sizes 5000 20000] [--dtype uint8]
    python benchmarks/predict.py many     [--count 250] [--calls 10]
    python benchmarks/predict.py floor

`windows`: the same network and the same windows in nnU-Net's predictor, in MONAI's
sliding_window_inference and here, from the tensor to class numbers; `--layouts` adds the peers with
our memory layout. `defaults`: each tool as its command runs, after a training of the same minutes
(or with models that were trained before, on what accuracy.split leaves for training): the unseen
cases of DATA, and a scan of 182 x 218 x 182 that is a mosaic of them. `export`: from outputs on
the model's grid to labels on the scan's. `ct`: a CT from file to file, stage by stage. `large`: one
picture of 20000 x 20000 as OME-Zarr and as tiled BigTIFF. `many`: 250 small pictures in one call
and one call for each. `floor`: the time over that of the network's operations, once for every
voxel, at the rate of a matrix product.

All run in processes of their own, in turns. Seconds do not include starting Python and importing;
those are in `start_seconds` and `process_seconds`. nnU-Net is run by the interpreter that
`--peer-python` names, which may be this one; without nnunetv2 it is left out, visibly. Files are
made anew, or kept under `--work FOLDER` for the next call. `--quick` makes everything small.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from subprocess import run as call
from typing import Any

import numpy as np
from accuracy import score, split
from apart import TIMES, Row, Work, in_turns, keep, measured, table
from predict_cases import (
    BRAIN,
    CT,
    CT_SIZE,
    EXPORT_GRID,
    EXPORT_SCAN,
    HIPPOCAMPUS,
    NUCLEI,
    STAND_IN,
    Kind,
    model_for,
    place_for,
    smooth_scan,
    write_ct,
    write_mosaic,
    write_outputs,
)
from predict_pictures import large, many
from predict_ties import compare
from steps import synthetic
from train import Results

from unetseg import checkpoint
from unetseg.dataset import find_cases
from unetseg.dataset.loading import load_scan
from unetseg.metrics import dice_per_class
from unetseg.pipeline import prepare
from unetseg.records import Case

_VERSION = "from importlib.metadata import version; print(version('nnunetv2'))"
REFERENCE = "unetseg, float32"


def peer_version(python: str) -> str | None:
    """The release of nnU-Net that this interpreter finds; says so if there is none."""
    done = call([python, "-c", _VERSION], capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"nnunetv2 is not installed for {python}: left out")
        return None
    return done.stdout.strip()


# --- the same windows ----------------------------------------------------------------------------


def windows(given: argparse.Namespace, results: Results) -> None:
    size = (56, 60, 44) if given.quick else BRAIN
    peer = peer_version(given.peer_python)
    with place_for(given) as folder:
        model = str(
            given.model or model_for(folder, "ordinary", HIPPOCAMPUS, 3, device=given.device)
        )
        plan = checkpoint.load_plan(Path(model))
        values = plan.data.class_values
        if values != tuple(range(len(values))):
            raise SystemExit(f"the peers need a model with the values from 0 on, got {values}")
        image = folder / "windows.npy"
        if given.scan:
            scan = load_scan(Case("scan", (given.scan,)))
            np.save(image, prepare(scan, plan.data).image.numpy())
        else:
            np.save(image, smooth_scan(size, len(values))[None])
        settings = {"model": model, "image": str(image), "device": given.device}
        works = {}
        peers = {"MONAI": ("monai_windows", sys.executable)}
        if peer:
            peers = {f"nnU-Net {peer}": ("nnunet_windows", given.peer_python), **peers}
        for name, (function, python) in peers.items():
            layouts = {name: False} | ({f"{name}, our layout": True} if given.layouts else {})
            for title, placed in layouts.items():
                more = {"labels": str(folder / f"{title}.npy"), "placed": placed}
                works[title] = Work(f"predict_peers:{function}", settings | more, python)
        for title, precision in ((REFERENCE, "float32"), ("unetseg", None)):
            more = {"labels": str(folder / f"{title}.npy"), "precision": precision}
            works[title] = Work("predict_work:windows", settings | more)
        rows = in_turns(works, given.rounds)
        truth = np.load(folder / f"{REFERENCE}.npy")
        classes = [(value,) for value in values[1:]]
        for title, row in rows.items():
            found = np.load(folder / f"{title}.npy")
            row["dice"] = float(np.nanmean(dice_per_class(truth, found, classes)))
            row["equal"] = float((truth == found).mean())
            row["times_ours"] = row["seconds"] / rows["unetseg"]["seconds"]
    shape = " x ".join(map(str, truth.shape))
    patch = " x ".join(map(str, plan.patch.size))
    print(f"same network, windows of {patch} in {shape}, precision {rows['unetseg']['precision']}")
    columns = [*TIMES, ("windows", "windows", "d"), ("in network", "network_seconds", ".2f")]
    columns += [("of ours", "times_ours", ".2f"), ("start", "start_seconds", ".1f")]
    columns += [("Dice", "dice", ".5f"), ("equal", "equal", ".5f")]
    print(table(rows, columns, "who"))
    keep(results, "windows", rows, shape=truth.shape, patch=plan.patch.size)


# --- defaults ------------------------------------------------------------------------------------


def defaults(given: argparse.Namespace, results: Results) -> None:
    peer = peer_version(given.peer_python)
    minutes = 0.2 if given.quick else given.minutes
    size = (60, 70, 50) if given.quick else given.size
    with place_for(given) as folder:
        data = given.data or synthetic(folder)[0]
        if not (folder / "train.csv").is_file():
            split(data, folder)
        model, peer_model = given.model, given.peer_model
        if not model:
            model = folder / "run"
            words = ["train", folder / "train.csv", "-o", model, "--time", f"{60 * minutes:g}s"]
            work = Work("predict_work:command", {"words": list(map(str, words))})
            print(f"unetseg trains for {minutes:g} minutes ...", flush=True)
            if not (model / "model").is_dir():
                measured(work)
        if peer and not peer_model:
            place = {"folder": str(folder), "minutes": minutes, "device": given.device}
            print(f"nnU-Net trains for {minutes:g} minutes ...", flush=True)
            work = Work("predict_peers:nnunet_train", place, given.peer_python)
            peer_model = measured(work)["model"]
        mosaic = folder / "mosaic_{}x{}x{}".format(*size)
        if not mosaic.is_dir():
            truths = [case for case in find_cases(data).cases if case.truth]
            write_mosaic(truths[::5], size, mosaic)
        for name, place in ((data.name, folder), (mosaic.name, mosaic)):
            works = {}
            asked = {"images": str(place / "images"), "device": given.device}
            for quality in ("balanced", *given.qualities):
                who = "unetseg" if quality == "balanced" else f"unetseg, {quality}"
                more = {"model": str(model), "output": str(place / f"masks {who}")}
                works[who] = Work("predict_work:folder", asked | more | {"quality": quality})
            if peer:
                who = f"nnU-Net {peer}"
                more = {"model": str(peer_model), "output": str(place / f"masks {who}")}
                works[who] = Work("predict_peers:nnunet_folder", asked | more, given.peer_python)
            rows = in_turns(works, given.rounds)
            for who, row in rows.items():
                found = score(place, place / f"masks {who}", merge=False)
                row |= {"dice": found["mean_dice"], "dice_per_class": found["dice"]}
                row["times_ours"] = row["seconds"] / rows["unetseg"]["seconds"]
            print(f"{name}: each as it is by default, networks trained for {minutes:g} minutes")
            columns = [TIMES[0], ("of ours", "times_ours", ".2f"), ("files", "files", "d")]
            columns += [("process", "process_seconds", ".1f"), ("Dice", "dice", ".4f")]
            print(table(rows, columns, "who"))
            keep(results, "defaults", rows, data=name, minutes=minutes)


# --- from outputs to labels ----------------------------------------------------------------------


def export(given: argparse.Namespace, results: Results) -> None:
    grid, scan, count = EXPORT_GRID, EXPORT_SCAN, given.outputs
    overrides: dict[str, Any] = {}
    if given.quick:
        grid, scan, count = (40, 28, 28), (60, 52, 52), 6
        overrides = {"patch.size": [16, 16, 16]}
    peer = peer_version(given.peer_python)
    with place_for(given) as folder:
        model = model_for(folder, "export", CT, count, overrides)
        outputs = folder / f"outputs_{count}.raw"
        if not outputs.with_suffix(".npy").is_file():
            print("making the outputs ...", flush=True)
            write_outputs(outputs, count, grid)
            np.save(outputs.with_suffix(".npy"), grid)
        works = {}
        makers = {"unetseg": ("predict_work:export", sys.executable)}
        if peer and not given.no_peer:
            makers[f"nnU-Net {peer}"] = ("predict_peers:nnunet_export", given.peer_python)
        for who, (function, python) in makers.items():
            settings = {"model": model, "outputs": str(outputs), "scan": list(scan)}
            labels = {"labels": str(folder / f"{who} {count}.npy")}
            works[who] = Work(function, settings | labels, python)
        rows = in_turns({"unetseg": works["unetseg"]}, given.rounds)
        # One round of minutes is enough of the peer.
        rows |= in_turns({who: work for who, work in works.items() if who != "unetseg"}, 1)
        shapes = f"{count} x {'x'.join(map(str, grid))} to {'x'.join(map(str, scan))}"
        print(f"from outputs to labels, {shapes}")
        columns = [*TIMES, ("without reading", "own_seconds", ".2f")]
        print(table(rows, columns, "who"))
        found = {who: np.load(folder / f"{who} {count}.npy") for who in rows}
        present = len(np.unique(found["unetseg"]))
        print(f"  {present} of {count} classes are in the labels")
        for who in set(rows) - {"unetseg"}:
            said = compare(outputs, count, grid, found["unetseg"], found[who])
            rows[who]["against_ours"] = said
            print(f"  {who}: {said['equal']:.6%} of the labels equal, {said['differing']} differ;")
            print(f"  where they do, ours lies at most {said['ours_below']:.2e} below theirs in")
            print(f"  exact arithmetic, theirs at most {said['theirs_below']:.2e} below ours;")
            print(f"  one step of float16, in which outputs are held, is {said['step']:.2e} there")
        keep(results, "export", rows, outputs=count, grid=grid, scan=scan)


# --- a whole CT ----------------------------------------------------------------------------------


def ct(given: argparse.Namespace, results: Results) -> None:
    """Growth with the outputs at most slices, growth with the slices at most outputs."""
    across: tuple[int, ...] = CT_SIZE[:2]
    outputs, slices = sorted(given.outputs), sorted(given.slices)
    if given.quick:
        across, outputs, slices = (64, 64), [2, 6], [30, 60]
    pairs = [(count, slices[-1]) for count in outputs]
    pairs += [(outputs[-1], n) for n in slices[:-1]]
    runs = [("stand-in", "bodies", count, n) for count, n in pairs]
    runs.append(("ordinary", "both", outputs[-1], slices[-1]))
    runs.append(("untrained", "own", outputs[-1], slices[-1]))
    runs = [run for run in runs if run[0] in given.networks]
    with place_for(given) as folder:
        rows: dict[str, Row] = {}
        for title, network, count, number in runs:
            scan = folder / f"ct_{across[0]}_{number}.nii.gz"
            if not scan.is_file():
                print(f"making a CT of {number} slices ...", flush=True)
                write_ct(scan, (*across, number), outputs[-1])
            model = model_for(folder, "ct_ordinary", CT, count, device=given.device)
            settings = {"model": model, "scan": str(scan), "device": given.device}
            settings |= {"output": str(folder / "mask.nii.gz"), "network": network}
            settings |= {"device_memory": given.device_memory and int(1e9 * given.device_memory)}
            row = in_turns({title: Work("predict_work:scan_stages", settings)}, 1)
            if row:
                rows[f"{title}, {count} outputs, {number} slices"] = row[title]
        count, number = outputs[-1], slices[-1]
        words = ["predict", folder / f"ct_{across[0]}_{number}.nii.gz", "-o", folder / "masks"]
        words += ["--overwrite", "--device", given.device]
        if given.device_memory:
            words += ["--device-memory", f"{given.device_memory:g}GB"]
        if "one level" in given.networks:
            words += ["--model", model_for(folder, "ct_one_level", CT, count, STAND_IN)]
            work = Work("predict_work:command", {"words": list(map(str, words))})
            rows |= in_turns({f"one level, {count} outputs, {number} slices, command": work}, 1)
    print(f"CT of {' x '.join(map(str, across))} voxels a slice, from file to file")
    stages = ("read", "foresee", "prepare", "network", "decode", "write")
    columns = [*TIMES, *((f"{name} s", f"{name}_seconds", ".2f") for name in stages)]
    columns += [("deciding s", "deciding_seconds", ".2f")]
    columns += [("of network", "deciding_share", ".1%"), ("windows", "windows", "d")]
    columns += [("scan GB", "scan_bytes", ".2f"), ("card GB", "device_peak_bytes", ".2f")]
    print(table(rows, columns, "network"))
    peaks = {f"peak_{n}_bytes": n for n in ("read", "prepare", "segment", "write")}
    for row in rows.values():
        for key, name in peaks.items():
            row[key] = row["stages"].get(name, {}).get("peak_bytes")
    print(table(rows, [(f"{n} GB", key, ".2f") for key, n in peaks.items()], "peak of the stages"))
    print("ordinary: the U-Net of the device's plan; stand-in: much less work, the same windows;")
    print("both with the outputs of a trained network, whose making is not in their seconds; one")
    print("level: a U-Net of one convolution, from the command line; untrained: the ordinary one")
    print("with outputs of its own. decode: all but the network; deciding: interpolating and")
    print("finding the largest, without blending; foresee: with its first pass")
    keep(results, "ct", rows)


# --- the floor -----------------------------------------------------------------------------------


def floor(given: argparse.Namespace, results: Results) -> None:
    cases: list[tuple[str, Kind, int, tuple[int, ...], int]] = [
        ("hippocampus", HIPPOCAMPUS, 3, HIPPOCAMPUS.shape, 20),
        ("volume", HIPPOCAMPUS, 3, BRAIN, 1),
        ("picture", NUCLEI, 2, (2048, 2048), 1),
    ]
    if given.quick:
        small = {"hippocampus": HIPPOCAMPUS.shape, "volume": (44, 56, 40), "picture": (300, 300)}
        cases = [(name, kind, k, small[name], 2) for name, kind, k, _, _ in cases]
    works = {}
    with place_for(given) as folder:
        for name, kind, outputs, size, count in cases:
            model = model_for(folder, f"ordinary_{len(size)}d", kind, outputs, device=given.device)
            settings = {"model": model, "size": size, "count": count, "device": given.device}
            for quality in ("fast", "balanced"):
                title = f"{name}, {count} x {'x'.join(map(str, size))}, {quality}"
                works[title] = Work("predict_work:floor", settings | {"quality": quality})
        rows = in_turns(works, given.rounds)
    print("time over floor, from scans in memory to masks in memory")
    columns = [TIMES[0], ("floor", "floor_seconds", ".2f"), ("over floor", "over_floor", ".2f")]
    columns += [("over windows", "over_windows", ".2f")]
    columns += [("overlap", "by_overlap", ".2f"), ("network", "by_network", ".2f")]
    columns += [("the rest", "by_the_rest", ".2f"), ("prepare", "prepare_seconds", ".2f")]
    columns += [("GFLOP/s", "gigaflops_per_second", ".1f"), ("windows", "windows", "d")]
    print(table(rows, columns, "scans"))
    print(
        "over floor = overlap (voxels of all windows over the scan's) x network (its seconds over"
    )
    print("those of a matrix product with as many operations) x the rest (all over the network's);")
    print("over windows: the same without the overlap")
    keep(results, "floor", rows)


PARTS = {f.__name__: f for f in (windows, defaults, export, ct, large, many, floor)}


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = parser.add_subparsers(dest="part", required=True)
    of = {name: parts.add_parser(name) for name in PARTS}
    for name, part in of.items():
        part.add_argument("--quick", action="store_true", help="small, to see that it works")
        part.add_argument("--work", type=Path, help="keep and use again what is made")
        part.add_argument("--results", type=Path)
        part.add_argument("--device", default="cpu")
        part.add_argument("--rounds", type=int, default=3 if name in ("windows", "floor") else 1)
    for name in ("windows", "defaults", "export"):
        of[name].add_argument("--peer-python", default=sys.executable)
    for name in ("windows", "defaults", "many"):
        of[name].add_argument("--model", type=Path)
    of["windows"].add_argument("--scan", type=Path, help="that the model was made for")
    of["windows"].add_argument("--layouts", action="store_true")
    of["defaults"].add_argument("data", type=Path, nargs="?")
    of["defaults"].add_argument("--peer-model", type=Path, help="its trainer's folder")
    of["defaults"].add_argument("--minutes", type=float, default=5)
    of["defaults"].add_argument(
        "--qualities", nargs="*", default=[], help="fast, best: unetseg with these too"
    )
    of["defaults"].add_argument("--size", type=int, nargs=3, default=BRAIN)
    of["export"].add_argument("--outputs", type=int, default=118)
    of["export"].add_argument("--no-peer", action="store_true")
    of["ct"].add_argument("--outputs", type=int, nargs="+", default=[2, 20, 118])
    of["ct"].add_argument("--slices", type=int, nargs="+", default=[150, 300, 600])
    of["ct"].add_argument("--device-memory", type=float, help="of a card, at most so many GB")
    of["ct"].add_argument(
        "--networks",
        nargs="+",
        choices=("stand-in", "ordinary", "untrained", "one level"),
        default=["stand-in", "ordinary", "one level"],
    )
    of["large"].add_argument("--sizes", type=int, nargs="+", default=[5000, 20000])
    of["large"].add_argument("--dtype", choices=("uint8", "uint16"), default="uint8")
    of["large"].add_argument("--ordinary", action="store_true", help="with the U-Net too")
    of["many"].add_argument("--count", type=int, default=250)
    of["many"].add_argument("--calls", type=int, default=10)
    return parser.parse_args(words)


def main() -> None:
    given = parse()
    PARTS[given.part](given, Results(given.results))


if __name__ == "__main__":
    main()
