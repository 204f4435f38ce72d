"""manifest.json: which model made which mask, beside the masks."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from math import isnan
from pathlib import Path
from typing import Any

from unetseg.files import write_text
from unetseg.prediction.predictor import Predictor
from unetseg.prediction.request import Request
from unetseg.prediction.shares import Share
from unetseg.records import FileDone
from unetseg.version import __version__

MANIFEST = "manifest.json"


def manifest_name(share: Share | None) -> str:
    """Each share has a manifest of its own, so that none waits for another or loses its lines."""
    return MANIFEST if share is None else f"manifest_{share.index}-of-{share.count}.json"


def write_manifests(
    done: Sequence[FileDone], predictor: Predictor, request: Request, share: Share | None
) -> None:
    """A manifest in every folder that received a mask; earlier entries are kept."""
    decode = predictor.plan.decode
    facts = {
        "unetseg": __version__,
        "model": str(predictor.path.resolve()),
        **({"folds": list(predictor.folds)} if predictor.folds else {}),
        "task": predictor.plan.data.task,
        "device": request.dask or predictor.machine.device,
        "quality": request.quality,
        "overlap": decode.overlap,
        "window": decode.window,
        "mirror": decode.mirror,
        "command": request.command,
        **({"shard": str(share)} if share else {}),
        "labels": {str(label.value): label.name for label in predictor.labels},
        "regions": {region.name: region.values for region in predictor.plan.data.regions},
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    failed = [{"scan": str(r.path), "error": r.message} for r in done if r.status == "failed"]
    for folder in {record.output.parent for record in done if record.output is not None}:
        path = folder / manifest_name(share)
        with _alone(folder):
            files = _files(path)
            told = set(files).union(*(_files(other) for other in folder.glob("manifest*.json")))
            for record in done:
                if record.output is None or record.output.parent != folder:
                    continue
                # Only who wrote the mask knows what is in it.
                name = record.output.name
                if record.counts or name not in told:
                    files[name] = _entry(record)
                if record.exports and name in files:
                    known = files[name].get("exports", [])
                    names = {*known, *(path.name for path in record.exports)}
                    files[name]["exports"] = sorted(names)
            content = facts | {"files": files, "failed": failed}
            write_text(path, json.dumps(content, indent=1) + "\n")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """While no other process of this machine writes a manifest there, where locks are known.

    For commands that write into one folder at once without being shares: the lock goes with the
    process that holds it, however that ends.
    """
    try:
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        yield
        return
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _files(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        # No manifest yet, or another program's: there is nothing to carry over.
        return {}


def _entry(record: FileDone) -> dict[str, Any]:
    return {
        "scan": str(record.path.resolve()),
        "status": record.status,
        "seconds": round(record.seconds, 3),
        "unit": record.unit,
        "classes": class_sizes(record),
    }


def class_sizes(record: FileDone) -> dict[str, dict[str, float | None]]:
    """Voxels and volume of each class, by name; of objects how many and how large they are."""
    sizes: dict[str, dict[str, float | None]] = {
        name: {"voxels": count, "volume": round(count * record.voxel_volume, 4)}
        for name, count in record.counts
    }
    for each in record.objects:
        median = None if isnan(each.median_diameter) else round(each.median_diameter, 4)
        sizes[each.name] |= {"objects": each.count, "median_diameter": median}
    return sizes
