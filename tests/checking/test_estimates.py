"""What is said to be needed, against what is."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cubes import TINY, write_cubes

from unetseg.catalogue import BYTES_PER_PARAMETER
from unetseg.checking.estimates import estimates, on_estimates
from unetseg.checkpoint import build
from unetseg.dataset import find_cases
from unetseg.nets.cost import cost
from unetseg.pipeline.cache import prepare_cases
from unetseg.planning import make
from unetseg.planning.digests import set_digest, voxel_digest
from unetseg.planning.fingerprint import inspect
from unetseg.records import Machine, ignore_event

MACHINE = Machine("cpu", 4 << 30, 2)


def test_the_disk_that_prepared_cases_take(tmp_path: Path) -> None:
    found = inspect(find_cases(write_cubes(tmp_path / "data", 3, size=32)))
    plan = make(found.fingerprint, MACHINE, TINY)
    needed = estimates(plan, found.fingerprint, MACHINE, tmp_path)
    cached = prepare_cases(
        found.cases, plan, tmp_path / "cache", cores=1, skip_bad=False, listener=ignore_event
    )
    arrays = sum(one.image.nbytes + one.labels.nbytes for one in cached)
    assert needed.cache_bytes == arrays


def test_a_step_needs_its_batch_and_the_weights_once(tmp_path: Path) -> None:
    found = inspect(find_cases(write_cubes(tmp_path / "data", 3)))
    plan = make(found.fingerprint, MACHINE, TINY | {"patch.batch": 4})
    needed = estimates(plan, found.fingerprint, MACHINE, tmp_path)
    network = build(plan)
    assert needed.parameters == sum(each.numel() for each in network.parameters())
    one = cost(network, 1, plan.patch.size)
    own = BYTES_PER_PARAMETER * one.parameters
    assert needed.step_bytes == own + 2 * 4 * (one.memory_bytes - own)
    half = make(found.fingerprint, MACHINE, TINY | {"training.precision": "bfloat16"})
    two = estimates(half, found.fingerprint, MACHINE, tmp_path)
    assert two.step_bytes == own + 2 * 2 * ((one.memory_bytes - own) // 2)
    assert torch.get_default_dtype() == torch.float32


def test_what_will_not_fit_is_a_warning(tmp_path: Path) -> None:
    found = inspect(find_cases(write_cubes(tmp_path / "data", 3)))
    plan = make(found.fingerprint, MACHINE, TINY)
    needed = estimates(plan, found.fingerprint, MACHINE, tmp_path)
    assert list(on_estimates(needed)) == []
    small = replace(needed, device_bytes=1000, disk_bytes=1000)
    assert [finding.kind for finding in on_estimates(small)] == ["memory", "disk"]
    assert dict(needed.rows)["free on cpu"] == "4.3 GB"


# --- digests -------------------------------------------------------------------------------------


def digest(array: np.ndarray) -> bytes:
    return voxel_digest(array, array.shape)


def test_the_type_and_the_order_in_memory_do_not_matter() -> None:
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    same = [array.astype(np.float64), np.asfortranarray(array), array.astype(np.uint8)]
    assert {digest(each) for each in same} == {digest(array)}
    assert digest(np.array([-0.0])) == digest(np.array([0.0]))


@pytest.mark.parametrize("change", ["value", "shape", "order"])
def test_other_voxels_have_another_digest(change: str) -> None:
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    other = {"value": array + (array == 5), "shape": array.reshape(3, 2, 4), "order": array[::-1]}
    assert digest(other[change]) != digest(array)


def test_long_arrays_are_read_to_their_end() -> None:
    array = np.zeros((1 << 20) + 3, np.uint8)
    other = array.copy()
    other[-1] = 1
    assert digest(array) != digest(other)


def test_a_set_has_one_digest_in_whatever_order() -> None:
    cases = [("a", b"1", b"2"), ("b", b"3", b"4")]
    assert set_digest(cases) == set_digest(cases[::-1])
    assert set_digest(cases) != set_digest([("a", b"1", b"2"), ("c", b"3", b"4")])
    assert set_digest(cases) != set_digest(cases[:1])


def test_an_inspection_has_the_digest_of_its_data(tmp_path: Path) -> None:
    first = inspect(find_cases(write_cubes(tmp_path / "one", 3))).digest
    assert len(first) == 32
    assert inspect(find_cases(write_cubes(tmp_path / "two", 3))).digest == first
    assert inspect(find_cases(write_cubes(tmp_path / "three", 3, value=2))).digest != first
