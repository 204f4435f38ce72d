"""What benchmarks/disturbed.py does to images, and that their objects stay where they are."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[1] / "benchmarks")
    return importlib.import_module("disturbed")


def test_objects_stay_under_their_light(program: ModuleType) -> None:
    """Whatever is done to an image, its objects are brighter than the rest."""
    rng = np.random.default_rng(0)
    ids = np.zeros((120, 140), np.int32)
    ids[20:50, 30:60], ids[60:100, 70:120] = 1, 2
    image = np.where(ids > 0, 120.0, 20.0) + rng.normal(0, 3, ids.shape)
    for name, change in program.DISTURBED.items():
        changed, own = change(image, ids, np.random.default_rng(1))
        assert changed.shape == own.shape, name
        assert set(np.unique(own)) == {0, 1, 2}, name
        inside, outside = (np.median(changed[part]) for part in (own > 0, own == 0))
        assert inside > outside + 2, name
        is_same = changed.shape == image.shape and np.array_equal(changed, image)
        assert is_same == (name == "as it is"), name


def test_a_mosaic_has_every_object_once(program: ModuleType) -> None:
    ids = np.zeros((10, 12), np.int32)
    ids[2:4, 2:4], ids[6:9, 5:9] = 1, 2
    odd = np.zeros((5, 5)), np.zeros((5, 5), np.int32)
    image, own = program.mosaic([(ids * 50.0, ids), odd, (ids * 50.0, ids)])
    assert image.shape == own.shape == (60, 72)
    assert len(np.unique(own)) == 1 + 2 * 36
    np.testing.assert_array_equal(own > 0, image > 0)
