"""Regions: which ones fit one another, what they are written as, and that this can be read back."""

import json
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st

from unetseg.arguments import regions_of
from unetseg.config import DataPlan, check_values, from_values, parse_settings, to_values
from unetseg.config.toml import describe, read_plan, write_plan
from unetseg.dataset import Dataset, find_cases
from unetseg.errors import DataError, UsageError
from unetseg.planning import make
from unetseg.planning.fingerprint import Fingerprint
from unetseg.records import Label, Machine
from unetseg.regions import (
    Region,
    crossings,
    fault,
    label_values,
    larger_first,
    written_values,
)

QUICK = settings(max_examples=150, deadline=None)
CPU = Machine("cpu", 16 * 10**9, 2)
BRATS = (Region("whole", (1, 2, 3)), Region("core", (2, 3)), Region("enhancing", (3,)))


def regions(**values: tuple[int, ...]) -> tuple[Region, ...]:
    return tuple(Region(name, numbers) for name, numbers in values.items())


def written(chosen: tuple[Region, ...], values: tuple[int, ...], voxel: set[str]) -> int:
    """What a voxel in these regions is written as, one region after the other."""
    pattern = tuple(region.name in voxel for region in chosen)
    result = 0
    for is_in, value in zip(pattern, values, strict=True):
        result = value if is_in else result
    return dict(crossings(chosen, values)).get(pattern, result)


def read_back(chosen: tuple[Region, ...], value: int) -> set[str]:
    return {region.name for region in chosen if value in region.values}


# --- writing and reading back ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (BRATS, (1, 2, 3)),
        # The values of BraTS until 2020: oedema 2, core 1, enhancing 4.
        (regions(whole=(1, 2, 4), core=(1, 4), enhancing=(4,)), (2, 1, 4)),
        (regions(whole=(1, 2, 3), core=(2, 3)), (1, 2)),
        (regions(a=(7,), b=(-3,)), (7, -3)),
        # Nothing of both is left once left and right are written.
        (regions(both=(1, 2), left=(1,), right=(2,)), (1, 1, 2)),
        # The shared value 2 is neither's own.
        (regions(a=(1, 2), b=(2, 3)), (1, 3)),
    ],
)
def test_each_region_is_written_with_a_value_of_its_own(
    chosen: tuple[Region, ...], expected: tuple[int, ...]
) -> None:
    assert written_values(chosen) == expected
    assert fault(chosen, expected) == ""


families = st.lists(
    st.frozensets(st.integers(-2, 6).filter(bool), min_size=1), min_size=1, max_size=5, unique=True
)


@given(families)
@QUICK
def test_a_voxel_of_the_truth_is_read_back_into_the_same_regions(
    family: list[frozenset[int]],
) -> None:
    """Whatever the regions are, if the network says of each label value what the truth says."""
    chosen = larger_first(
        [Region(str(index), tuple(sorted(values))) for index, values in enumerate(family)]
    )
    values = written_values(chosen)
    assert fault(chosen, values) == ""
    for value in label_values(chosen):
        inside = read_back(chosen, value)
        assert read_back(chosen, written(chosen, values, inside)) == inside


@given(families)
@QUICK
def test_regions_that_lie_inside_one_another_need_their_order_only(
    family: list[frozenset[int]],
) -> None:
    nested = [
        values
        for index, values in enumerate(family)
        if all(not (values & o) or values <= o or o <= values for o in family[:index])
    ]
    # Pairs suffice: of any two one holds the other, or they are apart.
    if any(a & b and not a <= b and not b <= a for a in nested for b in nested):
        return
    chosen = larger_first([Region(str(i), tuple(sorted(v))) for i, v in enumerate(nested)])
    assert crossings(chosen, written_values(chosen)) == ()


def test_crossing_regions_need_more_than_an_order() -> None:
    chosen = regions(a=(1, 2), b=(2, 3))
    assert crossings(chosen, (1, 3)) == (((True, True), 2),)
    assert written(chosen, (1, 3), {"a", "b"}) == 2


def test_a_voxel_that_no_label_stands_for_is_written_in_order() -> None:
    """A core outside of the tumour: the last word counts."""
    assert written(BRATS, (1, 2, 3), {"core"}) == 2
    assert written(BRATS, (1, 2, 3), {"whole", "enhancing"}) == 3
    assert written(BRATS, (1, 2, 3), set()) == 0


def test_only_one_order_of_nested_regions_shows_them_all() -> None:
    good = [order for order in permutations(BRATS) if not fault(order, written_values(order))]
    assert good == [BRATS]
    assert all(larger_first(order) == BRATS for order in permutations(BRATS))


# --- what is wrong is said ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "values", "message"),
    [
        (regions(a=()), None, "the region a has no label values"),
        ((Region(" ", (1, 2)),), None, "the region of 1, 2 has no name"),
        (regions(a=(0, 1)), None, "the region a has the value 0, which is the background"),
        (regions(a=(1, 2, 1)), None, "the region a has a value twice: 1, 2, 1"),
        ((Region("a", (1,)), Region("a", (2,))), None, "two regions are called a"),
        (regions(a=(1, 2), b=(2, 1)), None, "the regions a and b have the same values: 1, 2"),
        (BRATS, (1, 2), "3 regions need one value each to be written with, got 2"),
        (
            regions(core=(2,), whole=(1, 2)),
            (2, 1),
            "the region core can never be seen: whole is written after it and covers all of it;"
            " put the larger region first",
        ),
        (
            BRATS,
            (1, 4, 3),
            "the region core is written as 4, which is none of its values; one of 2 is read back"
            " as core",
        ),
        (
            BRATS,
            (3, 2, 3),
            "the region whole is written as 3, which a later region has too; one of 1 is read back"
            " as whole",
        ),
    ],
)
def test_regions_that_do_not_fit(
    chosen: tuple[Region, ...], values: tuple[int, ...] | None, message: str
) -> None:
    assert fault(chosen, values) == message


def test_regions_that_fit() -> None:
    assert fault(BRATS) == fault(BRATS, (1, 2, 3)) == fault(()) == ""


# --- in the plan -------------------------------------------------------------------------------


FOUND = Fingerprint(
    cases=10,
    dimensions=3,
    unit="mm",
    channels=("T1", "FLAIR"),
    is_picture=False,
    shapes=((64, 64, 64),) * 10,
    spacings=((1.0, 1.0, 1.0),) * 10,
    label_counts=((0, 900), (1, 60), (2, 30), (3, 10)),
    label_names=(Label(0, "background"), Label(3, "enhancing")),
    ignore_value=None,
    looks_like_objects=False,
    looks_like_ct=False,
    intensity=(),
    zero_share=0.5,
    regions=BRATS,
)


def test_regions_choose_their_task_and_say_so() -> None:
    plan = make(FOUND, CPU)
    assert plan.data.task == "regions"
    assert plan.reasons["data.task"] == "3 regions of label values, which may overlap"
    assert plan.data.regions == BRATS
    assert plan.reasons["data.regions"] == "from dataset.json"
    assert plan.data.class_names == ("background", "whole", "core", "enhancing")
    assert plan.data.class_values == (0, 1, 2, 3)
    assert "larger regions first" in plan.reasons["data.class_values"]


def test_without_regions_classes_do_not_overlap() -> None:
    plan = make(replace(FOUND, regions=()), CPU)
    assert (plan.data.task, plan.data.regions) == ("semantic", ())
    assert plan.reasons["data.regions"] == "classes do not overlap"
    assert plan.data.label_values == (0, 1, 2, 3)
    assert plan.data.members == ((0,), (1,), (2,), (3,))


def test_larger_regions_come_first_however_they_were_given() -> None:
    assert make(replace(FOUND, regions=BRATS[::-1]), CPU).data.regions == BRATS
    given_ = {"data.regions": {"enhancing": 3, "whole": [1, 2, 3], "core": [2, 3]}}
    plan = make(replace(FOUND, regions=()), CPU, given_)
    assert plan.data.regions == BRATS
    assert plan.reasons["data.regions"] == "set by you"
    assert plan.data.class_values == (0, 1, 2, 3)


def test_an_order_that_is_given_is_kept() -> None:
    # Neither holds the other, so that the smaller one may be written first.
    chosen = (Region("small", (1,)), Region("large", (2, 3)))
    found = replace(FOUND, regions=chosen, region_values=(1, 3))
    plan = make(found, CPU)
    assert plan.data.regions == chosen
    assert plan.data.class_values == (0, 1, 3)
    assert "regions_class_order" in plan.reasons["data.class_values"]
    assert make(replace(found, region_values=()), CPU).data.regions == chosen[::-1]
    values = {"data.regions": {"small": 1, "large": [2, 3]}, "data.class_values": (0, 1, 3)}
    assert make(FOUND, CPU, values).data.regions == chosen


def test_what_class_indices_stand_for() -> None:
    values = {"data.regions": {"whole": [2, 7, -1], "core": [7]}}
    counts = ((-1, 5), (0, 9), (2, 5), (7, 5))
    data = make(replace(FOUND, label_counts=counts, regions=()), CPU, values).data
    assert data.label_values == (0, -1, 2, 7)
    assert data.members == ((0,), (2, 3, 1), (3,))
    assert data.class_values == (0, -1, 7)


def test_a_value_outside_of_all_regions_is_background_and_that_is_said() -> None:
    plan = make(FOUND, CPU, {"data.regions": {"core": [2, 3], "enhancing": [3]}})
    assert plan.reasons["data.class_values"].endswith("in no region and so background: 1")
    assert "background" not in make(FOUND, CPU).reasons["data.class_values"]


def test_the_task_semantic_learns_the_values_of_such_data() -> None:
    data = make(FOUND, CPU, {"data.task": "semantic"}).data
    assert (data.regions, data.class_values) == ((), (0, 1, 2, 3))
    assert data.class_names == ("background", "label 1", "label 2", "enhancing")


def test_a_region_named_left_or_right_is_not_mirrored() -> None:
    chosen = regions(kidneys=(1, 2), left_kidney=(1,))
    axes = make(replace(FOUND, regions=chosen), CPU).training.augment.mirror_axes
    assert axes == ()
    assert make(FOUND, CPU).training.augment.mirror_axes == (0,)


def test_object_ids_are_no_regions() -> None:
    ids = replace(FOUND, looks_like_objects=True, regions=())
    assert make(ids, CPU).data.task == "instances"
    assert make(ids, CPU, {"data.task": "semantic"}).data.merge_labels is True
    regions = make(ids, CPU, {"data.regions": {"a": [1, 2]}}).data
    assert regions.task == "regions"
    assert regions.merge_labels is False


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"data.regions": {"a": [1, 8]}},
            r"--set data\.regions: no mask holds what the region a is made of \(expected values of"
            r" the masks: 1, 2, 3, got 8\)",
        ),
        ({"data.regions": {"a": []}}, r"data\.regions: the region a has no label values"),
        ({"data.regions": {"a": [1], "b": 1}}, r"a and b have the same values: 1"),
        (
            {"data.regions": {"a": [2], "b": [1, 2]}, "data.class_values": (0, 2, 1)},
            r"the region a can never be seen: b is written after it",
        ),
        ({"data.regions": {"a": ["x"]}}, r"data\.regions\.0\.values\.0: .*valid integer"),
        ({"data.regions": "whole"}, r"data\.regions: .*valid tuple"),
        ({"data.regions": [{"name": "a", "values": [1], "order": 3}]}, r"regions\.0\.order"),
        ({"data.regions": {}, "data.task": "regions"}, r"task regions needs data\.regions, such"),
        ({"data.task": "semantic", "data.regions": {"a": [1]}}, r"needs data\.task regions and"),
        ({"data.merge_labels": True}, r"data\.regions needs .* data\.merge_labels false"),
        ({"data.class_names": ("a", "b", "c", "d")}, r"must be those of data\.regions"),
        ({"data.class_values": (0, 1)}, r"class_names and data\.class_values differ"),
    ],
)
def test_a_plan_whose_regions_do_not_fit(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make(FOUND, CPU, values)


def test_the_ignored_value_is_in_no_region() -> None:
    plan = make(FOUND, CPU)
    wrong = to_values(replace(plan, data=replace(plan.data)))
    wrong["data"]["ignore_value"] = 3
    with pytest.raises(UsageError, match=r"data\.ignore_value 3 is a value of data\.regions"):
        from_values(wrong, where="plan")


def test_a_region_of_dataset_json_that_no_mask_holds() -> None:
    """A value may be missing from these masks, a whole region may not."""
    rare = regions(whole=(1, 2, 3, 4), rare=(4,))
    with pytest.raises(UsageError, match=r"dataset\.json: no mask holds .* region rare .*got 4"):
        make(replace(FOUND, regions=rare), CPU)
    assert make(replace(FOUND, regions=rare[:1]), CPU).data.regions == rare[:1]


def test_the_file_shows_regions_as_they_are_set(tmp_path: Path) -> None:
    plan = make(FOUND, CPU)
    line = next(line for line in describe(plan).splitlines() if line.startswith("regions ="))
    assert line == (
        "regions = {whole = [1, 2, 3], core = [2, 3], enhancing = [3]} # from dataset.json"
    )
    setting = "data." + line.partition(" #")[0].replace("regions = ", "regions=", 1)
    assert check_values(parse_settings((setting,)), where="x") == {"data.regions": BRATS}
    write_plan(plan, tmp_path / "plan.toml")
    again = read_plan(tmp_path / "plan.toml")
    assert again == plan
    assert again.reasons["data.regions"] == "from dataset.json"
    assert from_values(json.loads(json.dumps(to_values(plan))), where="x") == plan


def test_a_person_may_write_them_as_a_table(tmp_path: Path) -> None:
    plan = make(FOUND, CPU)
    tree = tomlkit.parse(describe(plan)).unwrap()
    del tree["data"]["regions"]
    table = '[data.regions]\nwhole = [1, 2, 3]\ncore = [2, 3]\n"enhancing" = 3\n'
    text = tomlkit.dumps(tree).replace("[patch]", f"{table}\n[patch]")
    (tmp_path / "plan.toml").write_text(text)
    assert read_plan(tmp_path / "plan.toml").data == plan.data


@given(families, st.text(min_size=1, max_size=6))
@QUICK
def test_any_names_survive_the_file(
    tmp_path_factory: pytest.TempPathFactory, family: list[frozenset[int]], name: str
) -> None:
    if not name.strip() or any(0xD800 <= ord(letter) <= 0xDFFF for letter in name):
        return
    chosen = larger_first(
        [Region(f"{name}{index}", tuple(sorted(values))) for index, values in enumerate(family)]
    )
    counts = ((0, 9), *((value, 9) for value in label_values(chosen)))
    plan = make(replace(FOUND, regions=chosen, label_counts=counts), CPU)
    path = tmp_path_factory.mktemp("plan") / "plan.toml"
    write_plan(plan, path)
    assert read_plan(path) == plan


# --- on the command line -----------------------------------------------------------------------


def test_regions_of_an_option() -> None:
    assert regions_of('{"whole" = [1, 2, 3], core=[2,3], enhancing=3}') == BRATS
    with pytest.raises(UsageError, match=r"--regions: not regions .*got whole=1"):
        regions_of("whole=1")
    with pytest.raises(UsageError, match=r"--regions: data\.regions.* valid tuple"):
        regions_of("3")


# --- dataset.json ------------------------------------------------------------------------------


LABELS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": [3]}


def described(folder: Path, content: dict[str, Any]) -> Dataset:
    for name in ("imagesTr/a_0000.nii", "labelsTr/a.nii"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    (folder / "dataset.json").write_text(json.dumps(content))
    return find_cases(folder)


def test_the_regions_of_dataset_json(tmp_path: Path) -> None:
    data = described(tmp_path, {"labels": LABELS, "regions_class_order": [1, 2, 3]})
    assert data.regions == BRATS
    assert data.region_values == (1, 2, 3)
    assert data.label_names == (Label(0, "background"), Label(3, "enhancing"))
    assert data.ignore_value is None


def test_a_number_is_a_region_too_beside_regions(tmp_path: Path) -> None:
    labels = {"background": 0, "kidney": [2, 1], "tumour": 2, "ignore": 3}
    data = described(tmp_path, {"labels": labels})
    assert data.regions == regions(kidney=(1, 2), tumour=(2,))
    assert (data.region_values, data.ignore_value) == ((), 3)


def test_lists_of_one_value_are_no_regions(tmp_path: Path) -> None:
    data = described(tmp_path, {"labels": {"background": [0], "a": [1], "b": 2}})
    assert data.regions == ()
    assert data.label_names == (Label(0, "background"), Label(1, "a"), Label(2, "b"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"labels": {"a": [1, "2"]}}, r'label "a" is not understood \(expected whole numbers'),
        ({"labels": {"a": [1, True]}}, r'label "a" is not understood'),
        ({"labels": {"a": [1, 2], "ignore": [3, 4]}}, r'label "ignore" .*expected one whole'),
        ({"labels": {"a": []}}, r'"labels": the region a has no label values'),
        ({"labels": {"a": [1, 2], "b": [2, 1]}}, r'"labels": the regions a and b have the same'),
        ({"labels": {"a": [0, 1]}}, r"which is the background"),
        ({"labels": LABELS, "regions_class_order": [1, 2]}, r"3 regions need one value each"),
        (
            {"labels": LABELS, "regions_class_order": [3, 2, 1]},
            r'"regions_class_order": the region whole is written as 3, which a later region has',
        ),
        ({"labels": LABELS, "regions_class_order": "1,2,3"}, r"expected a list of label values"),
        (
            {"labels": {"core": [2, 3], "whole": [1, 2, 3]}, "regions_class_order": [2, 1]},
            r"the region core can never be seen",
        ),
    ],
)
def test_dataset_json_whose_regions_do_not_fit(
    tmp_path: Path, content: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        described(tmp_path, content)
    assert str(caught.value).startswith(f"{tmp_path / 'dataset.json'}: ")


def test_a_data_section_without_regions_counts_each_value() -> None:
    data: DataPlan = make(replace(FOUND, regions=()), CPU).data
    assert np.array_equal([m for (m,) in data.members], range(4))
