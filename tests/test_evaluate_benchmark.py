"""The benchmark of scores: both programs do the same work, and a difference would be seen."""

import argparse
import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[1] / "benchmarks")
    return importlib.import_module("evaluate")


# MONAI warns of its own use of an argument that it has deprecated.
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_all_programs_find_the_same(program: ModuleType, tmp_path: Path) -> None:
    stages = importlib.import_module("apart").Stages
    given = argparse.Namespace(quick=True, small=60, large=12)
    assert program.write_pairs(tmp_path, None, given) == {"small": 6, "large": 1}
    folder, tolerance = tmp_path / "large", program.TOLERANCES["large"]
    ours = program.here(stages(), str(folder), tolerance, 0)["values"]
    theirs = program.by_monai(stages(), str(folder), tolerance, 1)["values"]
    assert len(ours) == 3
    assert max(program.largest(ours, theirs).values()) < 1e-4
    golden = program.elsewhere(folder, program.golden().by_simpleitk, tolerance)
    assert max(program.largest(ours, golden).values()) < 1e-4
    # The negative twin: another tolerance is another surface Dice, and nothing else.
    other = program.here(stages(), str(folder), 2 * tolerance, 0)["values"]
    apart = program.largest(ours, other)
    assert apart["surface_dice"] > 0.01
    assert apart["hd95"] == apart["dice"] == 0


def test_the_pairs_are_the_same_in_every_call(program: ModuleType) -> None:
    drawn = [program.blobs(np.random.default_rng(3), (20, 20, 20), 2) for _ in range(2)]
    moved = [program.moved(truth, np.random.default_rng(4)) for truth in drawn]
    assert np.array_equal(*moved)
    assert 0.3 < (moved[0][drawn[0] > 0] == drawn[0][drawn[0] > 0]).mean() < 0.99
