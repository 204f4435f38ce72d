"""Plans made of real data, where they lie beside the project."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cubes import TINY, request
from PIL import Image

from unetseg.config import Plan
from unetseg.dataset.loading import load_scan, with_axes_of_truth
from unetseg.errors import DataError
from unetseg.formats import read_mask, read_scan, split_name
from unetseg.planning.fingerprint import Inspection
from unetseg.prediction import Request as Prediction
from unetseg.prediction import predict
from unetseg.records import Case
from unetseg.training import Request, plan_for, train

pytestmark = pytest.mark.real


def some(real_data: Path, name: str, folder: Path, count: int) -> Path:
    """The first cases of a data set, as links."""
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
        files = sorted((real_data / name / part).iterdir())[:count]
        for path in files:
            (folder / part / path.name).symlink_to(path)
    return folder


def planned(data: Path, tmp_path: Path) -> tuple[Plan, Inspection]:
    plan, found = plan_for(Request(data, tmp_path / "run", device="cpu"))
    assert not [finding for finding in found.findings if finding.severity == "error"]
    return plan, found


def test_nuclei_are_objects_and_their_pictures_have_colours(
    real_data: Path, tmp_path: Path
) -> None:
    data = some(real_data, "nuclei_fluo", tmp_path / "data", 12)
    plan, found = planned(data, tmp_path)
    assert found.fingerprint.looks_like_objects
    assert plan.data.task == "instances"
    assert plan.data.class_values == (0, 1)
    assert plan.data.dimensions == 2
    assert plan.data.channels in (("grey",), ("red", "green", "blue"))
    for path in sorted((data / "images").iterdir()):
        scan = read_scan(path)
        with Image.open(path) as picture:
            colours = np.asarray(picture)[..., :3]
        assert scan.geometry.shape == colours.shape[:2]
        # Without alpha, and as one channel exactly where the three colours are the same.
        same = bool((colours == colours[..., :1]).all())
        assert scan.channels == (("grey",) if same else ("red", "green", "blue"))
        np.testing.assert_array_equal(scan.array, np.moveaxis(colours, -1, 0)[: len(scan.array)])


def test_imaging_mass_cytometry_has_five_channels(real_data: Path, tmp_path: Path) -> None:
    plan, found = planned(real_data / "imc_5ch", tmp_path)
    assert len(plan.data.channels) == 5
    assert plan.data.dimensions == 2
    assert found.fingerprint.shapes == ((100, 100),) * 3
    assert plan.data.task == "instances"


@pytest.mark.slow
def test_lesions_have_four_channels(real_data: Path, tmp_path: Path) -> None:
    plan, found = planned(real_data / "ms_lesion_4ch", tmp_path)
    assert len(plan.data.channels) == 4
    assert plan.data.dimensions == 3
    assert plan.data.unit == "mm"
    assert plan.data.class_values == (0, 1)
    assert plan.data.normalisation == "zscore_nonzero"
    assert plan.data.spacing == (1.0, 1.0, 1.0)
    counts = dict(found.fingerprint.label_counts)
    assert sum(counts.values()) == 2 * 182 * 218 * 182
    masks = (real_data / "ms_lesion_4ch" / "labels").iterdir()
    lesions = [np.count_nonzero(np.asarray(nib.load(path).dataobj)) for path in masks]
    assert counts[1] == sum(lesions)


def test_the_hippocampus_is_a_volume_of_two_classes(real_data: Path, tmp_path: Path) -> None:
    data = some(real_data, "hippocampus", tmp_path / "data", 16)
    plan, found = planned(data, tmp_path)
    assert plan.data.dimensions == 3
    assert plan.data.class_values == (0, 1, 2)
    assert not plan.data.merge_labels
    assert plan.data.orientation == "canonical"
    assert plan.data.spacing == (1.0, 1.0, 1.0)
    assert len(found.cases) == 16


def test_a_single_case_can_be_looked_at_but_not_trained_on(real_data: Path, tmp_path: Path) -> None:
    plan, found = plan_for(Request(real_data / "ct_spleen_crop", tmp_path / "run", device="cpu"))
    errors = [finding for finding in found.findings if finding.severity == "error"]
    assert [finding.hint for finding in errors] == [
        "add cases, or cut a large scan and its mask into several"
    ]
    assert plan.data.normalisation == "clip_zscore"
    with pytest.raises(DataError, match=r"at least 2 cases .*; add cases, or cut a large scan"):
        train(request(real_data / "ct_spleen_crop", tmp_path / "run"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hippocampus", "imc_5ch", "nuclei_fluo"])
def test_a_mask_lies_on_every_real_scan(real_data: Path, tmp_path: Path, name: str) -> None:
    data = some(real_data, name, tmp_path / "data", 3)
    plan, _ = planned(data, tmp_path)
    size = [16] * plan.data.dimensions
    run = train(request(data, tmp_path / "run", TINY | {"patch.size": size})).run
    done = predict(Prediction([data], model=run, output=tmp_path / "out", device="cpu"))
    assert [record.status for record in done] == ["done"] * 3
    for record in done:
        assert record.output is not None
        assert split_name(record.output)[0] == f"{split_name(record.path)[0]}_seg"
        mask = read_mask(record.output)
        scan = load_scan(with_axes_of_truth(Case(record.path.name, record.scans, record.output)))
        assert mask.geometry.differences(scan.geometry) == ()
        assert mask.array.shape == scan.geometry.shape
        values = np.unique(mask.array)
        if plan.data.has_objects:
            np.testing.assert_array_equal(values[values > 0], np.arange(1, mask.array.max() + 1))
        else:
            assert set(values) <= set(plan.data.class_values)
