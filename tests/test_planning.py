"""Plans for made-up data on machines that nobody has."""

from dataclasses import replace
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unetseg.config.toml import describe
from unetseg.errors import UsageError
from unetseg.planning import make
from unetseg.planning.fingerprint import Fingerprint, Intensity
from unetseg.planning.patches import levels, patch_size, rounded, rounded_up
from unetseg.records import Label, Machine

LARGE = Machine("cuda:0", 80 * 10**9, 16, has_bfloat16=True)
SMALL = Machine("cuda:0", 8 * 10**9, 8)
CPU = Machine("cpu", 16 * 10**9, 2)

# Ten abdominal scans with thick slices.
CT = Fingerprint(
    cases=10,
    dimensions=3,
    unit="mm",
    channels=("CT",),
    is_picture=False,
    shapes=((512, 512, 40),) * 10,
    spacings=((0.8, 0.8, 5.0),) * 10,
    label_counts=((0, 10**7), (1, 10**5), (2, 10**4)),
    label_names=(Label(0, "background"), Label(1, "liver"), Label(2, "tumour")),
    ignore_value=None,
    looks_like_objects=False,
    looks_like_ct=True,
    intensity=(Intensity(-17.123456, 201.0, 99.4, 39.4),),
    zero_share=0.0,
)
# Twenty fluorescence images.
CELLS = Fingerprint(
    cases=20,
    dimensions=2,
    unit="um",
    channels=("DAPI",),
    is_picture=False,
    shapes=((520, 696),) * 20,
    spacings=((0.65, 0.65),) * 20,
    label_counts=((0, 10**6), (255, 10**5)),
    label_names=(),
    ignore_value=None,
    looks_like_objects=False,
    looks_like_ct=False,
    intensity=(Intensity(3.0, 180.0, 40.0, 20.0),),
    zero_share=0.0,
)


def named(*names):
    """CT with classes of these names."""
    labels = (Label(0, "background"), *(Label(i, n) for i, n in enumerate(names, 1)))
    counts = tuple((label.value, 1000) for label in labels)
    return replace(CT, label_names=labels, label_counts=counts)


# --- the grid ---


def test_the_grid_is_the_median_of_the_scans():
    spacings = ((1.0, 1.0, 1.0), (0.5, 0.7, 1.5), (2.0, 0.9, 1.2))
    found = replace(CT, shapes=((100, 100, 90),) * 3, spacings=spacings, cases=3)
    assert make(found, LARGE).data.spacing == (1.0, 0.9, 1.2)


def test_thick_slices_take_their_tenth_percentile():
    # Sorted 2, 2, 5, ..., 5: nine tenths of the way from the first to the second value.
    spacings = ((0.8, 0.8, 2.0),) * 2 + ((0.8, 0.8, 5.0),) * 8
    plan = make(replace(CT, spacings=spacings), LARGE)
    assert plan.data.spacing == (0.8, 0.8, 2.0)
    assert "thick slices" in plan.reasons["data.spacing"]


def test_but_never_finer_than_the_other_axes():
    spacings = ((0.8, 0.8, 0.5),) * 2 + ((0.8, 0.8, 5.0),) * 8
    assert make(replace(CT, spacings=spacings), LARGE).data.spacing == (0.8, 0.8, 0.8)


@pytest.mark.parametrize(
    ("shape", "thick"),
    [((512, 512, 200), 5.0), ((512, 512, 40), 2.4)],
    ids=["many slices", "not three times as long"],
)
def test_slices_that_are_not_thick_keep_the_median(shape, thick):
    spacings = ((0.8, 0.8, 1.0),) * 2 + ((0.8, 0.8, thick),) * 8
    plan = make(replace(CT, shapes=(shape,) * 10, spacings=spacings), LARGE)
    assert plan.data.spacing == (0.8, 0.8, thick)


def test_tiny_spacings_are_not_rounded_away():
    found = replace(CT, spacings=((0.00012, 0.00012, 0.00003),) * 10)
    assert make(found, LARGE).data.spacing == (0.00012, 0.00012, 0.00003)


def test_images_keep_their_own_grid_and_axes():
    plan = make(CELLS, LARGE)
    assert plan.data.spacing == ()
    assert plan.data.orientation == "as_read"
    assert make(CT, LARGE).data.orientation == "canonical"


# --- patch and network ---


def test_thick_slice_ct_on_a_large_device():
    """128**3 voxels of 0.8 x 0.8 x 5 mm make a cube of (128**3 * 3.2)**(1/3) = 188.6 mm.

    That is 236 x 236 x 38 voxels. The slices (5 mm) are within twice the other edges once those
    are 3.2 mm, after two halvings; then all are halved, to 8 x 8 x 5 after three more.
    """
    plan = make(CT, LARGE)
    assert plan.network.strides == (
        (1, 1, 1),
        (2, 2, 1),
        (2, 2, 1),
        (2, 2, 2),
        (2, 2, 2),
        (2, 2, 2),
    )
    assert plan.network.kernels == ((3, 3, 1),) * 2 + ((3, 3, 3),) * 4
    assert plan.network.features == (32, 64, 128, 256, 320, 320)
    # The next multiples of 32, 32 and 8.
    assert plan.patch.size == (256, 256, 40)
    assert plan.network.deep_supervision is True


def test_thick_slice_ct_on_a_processor():
    """48**3 voxels make a cube of 70.8 mm: 89 x 89 x 15 voxels; factors 16, 16 and 4."""
    plan = make(CT, CPU)
    assert plan.patch.size == (96, 96, 16)
    assert plan.network.strides[1:] == ((2, 2, 1), (2, 2, 1), (2, 2, 2), (2, 2, 2))
    assert plan.network.features == (16, 32, 64, 128, 256)
    assert plan.training.precision == "float32"
    assert plan.network.deep_supervision is False


def test_isotropic_volume():
    found = replace(CT, shapes=((300, 300, 300),) * 10, spacings=((1.0, 1.0, 1.0),) * 10)
    plan = make(found, LARGE)
    assert plan.patch.size == (128, 128, 128)
    assert plan.network.strides == ((1, 1, 1),) + ((2, 2, 2),) * 5
    assert set(plan.network.kernels) == {(3, 3, 3)}


def test_an_image_on_a_large_device():
    """512**2 pixels fit into 520 x 696; seven levels at most, the factor is 64."""
    plan = make(CELLS, LARGE)
    assert plan.patch.size == (512, 512)
    assert plan.network.levels == 7
    assert plan.network.features == (32, 64, 128, 256, 512, 512, 512)


def test_small_scans_are_taken_whole():
    """What the short axis does not need goes to the others: 262144 / 20 = 114.5**2."""
    assert patch_size((20, 600, 600), (1.0, 1.0, 1.0), 64**3) == (20, 115, 115)
    assert patch_size((20, 30, 40), (1.0, 1.0, 1.0), 64**3) == (20, 30, 40)
    assert patch_size((100, 100), (1.0, 2.0), 5000) == (100, 50)


def test_sizes_are_rounded_up_to_the_factor_of_all_levels():
    assert rounded_up((17, 16, 5), ((1, 1, 1), (2, 2, 1), (2, 2, 1))) == (20, 16, 5)


def test_sizes_are_rounded_to_the_nearest_on_a_processor():
    assert rounded((17, 19, 5), ((1, 1, 1), (2, 2, 1), (2, 2, 1))) == (16, 20, 5)
    assert rounded((1, 3, 1), ((1, 1, 1), (2, 2, 1), (2, 2, 1))) == (4, 4, 1)
    volumes = replace(CT, shapes=((35, 50, 36),) * 3, spacings=((1.0,) * 3,) * 3)
    assert make(volumes, CPU).patch.size == (32, 48, 32)
    assert make(volumes, LARGE).patch.size == (40, 56, 40)


@pytest.mark.parametrize(
    ("coarse", "first_stride", "first_kernel"),
    [(1.0, 2, 3), (1.9, 2, 3), (2.0, 1, 3), (2.2, 1, 1)],
)
def test_an_axis_waits_from_twice_the_finest_edge_on(coarse, first_stride, first_kernel):
    """Seen along up to twice the finest edge, halved below it: then both are equally fine."""
    strides, kernels = levels((64, 64, 64), (coarse, 1.0, 1.0), 3)
    assert strides[1] == (first_stride, 2, 2)
    assert kernels[0] == (first_kernel, 3, 3)
    assert strides[2] == (2, 2, 2)


def test_nobody_waits_for_an_axis_that_is_too_short():
    """Four fine slices cannot become coarser; the other axes are halved nevertheless."""
    strides, kernels = levels((4, 64, 64), (1.0, 3.0, 3.0), 4)
    assert strides == ((1, 1, 1), (1, 2, 2), (1, 2, 2), (1, 2, 2))
    assert set(kernels) == {(3, 3, 3)}


def little(count):
    """Scans of a patch of 40 x 56 x 40 each, as the rounding up makes of them."""
    shapes, spacings = ((36, 50, 35),) * count, ((1.0, 1.0, 1.0),) * count
    return replace(CT, cases=count, shapes=shapes, spacings=spacings)


def test_a_batch_keeps_a_card_busy():
    """720000 voxels are 8.04 patches of 89600."""
    assert make(little(200), LARGE).patch.size == (40, 56, 40)
    assert make(little(200), LARGE).patch.batch == 8
    assert make(little(200), replace(LARGE, devices=2)).patch.batch == 16
    # Of 2621440 voxels already one is too many, and two are the least.
    assert make(CT, LARGE).patch.batch == 2
    # 2100000 pixels are 8.01 of 512 x 512.
    assert make(replace(CELLS, shapes=((512, 512),) * 200), LARGE).patch.batch == 8


def test_a_batch_fits_into_the_memory():
    """24 maps of 32 channels in 2 bytes: 1536 bytes a voxel, 0.6 * 1e9 / 1536 / 89600 = 4.4."""
    assert make(little(200), replace(LARGE, memory_bytes=10**9)).patch.batch == 4


def test_a_batch_is_a_fifth_of_the_data_at_most():
    """0.2 * 20 * 63000 / 89600 = 2.8."""
    assert make(little(20), LARGE).patch.batch == 2


def test_batch_normalisation_sees_as_many_samples_as_fit():
    """0.6 * 80e9 / 1536 / 89600 = 349, and a fifth of the data is 28 patches."""
    plan = make(little(200), LARGE, {"network.norm": "batch"})
    assert plan.patch.batch == 28


@pytest.mark.parametrize(
    ("machine", "precision"),
    [
        (LARGE, "float16"),
        (SMALL, "float16"),
        (CPU, "float32"),
        (replace(CPU, has_bfloat16=True), "bfloat16"),
    ],
)
def test_precision_follows_the_machine(machine, precision):
    assert make(CT, machine).training.precision == precision


# --- intensity ---


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, "clip_zscore"),
        ({"looks_like_ct": False}, "zscore"),
        ({"looks_like_ct": False, "zero_share": 0.6}, "zscore_nonzero"),
        ({"looks_like_ct": False, "unit": "um"}, "percentile"),
    ],
)
def test_normalisation(changes, kind):
    assert make(replace(CT, **changes), LARGE).data.normalisation == kind


def test_the_statistics_are_those_of_the_foreground():
    data = make(CT, LARGE).data
    assert data.clip == ((-17.123, 201.0),)
    assert (data.mean, data.std) == ((99.4,), (39.4,))
    assert make(CELLS, LARGE).data.clip == ()


def test_statistics_of_tiny_numbers_are_not_rounded_away():
    tiny = replace(CT, intensity=(Intensity(1e-7, 9e-7, 5e-7, 2e-7),))
    data = make(tiny, LARGE).data
    assert data.clip == ((1e-7, 9e-7),)
    assert data.std == (2e-7,)


def test_a_constant_foreground_has_no_deviation_to_divide_by():
    flat = replace(CT, intensity=(Intensity(7.0, 7.0, 7.0, 0.0),))
    assert make(flat, LARGE).data.std == (1.0,)


# --- classes ---


def test_values_and_names_of_the_classes():
    data = make(CT, LARGE).data
    assert data.class_values == (0, 1, 2)
    assert data.class_names == ("background", "liver", "tumour")


def test_a_mask_of_0_and_255_keeps_its_values():
    data = make(CELLS, LARGE).data
    assert data.class_values == (0, 255)
    assert data.class_names == ("background", "label 255")


def test_gaps_and_negative_values_are_kept():
    found = replace(CELLS, label_counts=((-3, 9), (0, 9), (7, 9)))
    assert make(found, LARGE).data.class_values == (0, -3, 7)


def test_objects_become_instances_or_one_class():
    counts = tuple((value, 10) for value in range(300))
    found = replace(CELLS, looks_like_objects=True, label_counts=counts)
    data = make(found, LARGE).data
    assert (data.task, data.merge_labels) == ("instances", False)
    assert (data.class_values, data.class_names) == ((0, 1), ("background", "object"))
    data = make(found, LARGE, {"data.task": "semantic"}).data
    assert (data.task, data.merge_labels) == ("semantic", True)
    assert (data.class_values, data.class_names) == ((0, 1), ("background", "foreground"))


def test_merged_labels_of_one_value_keep_it():
    data = make(CELLS, LARGE, {"data.merge_labels": True}).data
    assert (data.class_values, data.class_names) == ((0, 255), ("background", "foreground"))


def test_the_ignored_value_is_no_class():
    counts = ((0, 9), (1, 9), (255, 9))
    found = replace(CELLS, label_counts=counts, ignore_value=255)
    data = make(found, LARGE).data
    assert (data.class_values, data.ignore_value) == ((0, 1), 255)
    assert make(replace(found, ignore_value=None), LARGE).data.class_values == (0, 1, 255)


def test_masks_without_foreground_are_refused():
    with pytest.raises(UsageError, match="hold one class more"):
        make(replace(CELLS, label_counts=((0, 9),)), LARGE)


# --- mirroring ---


@pytest.mark.parametrize(
    "name",
    [
        "kidney_left",
        "Left-Hippocampus",
        "lung right",
        "femur_l",
        "R atrium",
        "ctx-lh-insula",
        "LeftKidney",
        "kidneyRight",
        "RKidney",
        "LEFT LUNG",
    ],
)
def test_a_sided_class_is_never_mirrored_left_to_right(name):
    plan = make(named("spine", name), LARGE)
    assert 0 not in plan.training.augment.mirror_axes
    assert "left or right" in plan.reasons["training.augment.mirror_axes"]


@pytest.mark.parametrize(
    "name", ["bright", "cleft", "leftover", "liver", "upright", "RV", "label 1", "tumour"]
)
def test_other_classes_are_mirrored_left_to_right(name):
    assert 0 in make(named("spine", name), LARGE).training.augment.mirror_axes


def test_a_picture_is_mirrored_along_every_axis_but_a_sided_one_up_and_down_only():
    assert make(CELLS, LARGE).training.augment.mirror_axes == (0, 1)
    sided = replace(CELLS, label_names=(Label(255, "left eye"),))
    assert make(sided, LARGE).training.augment.mirror_axes == (0,)


def test_rotation_angles_are_one_in_2d_and_three_in_3d():
    assert len(make(CELLS, LARGE).training.augment.rotation_degrees) == 1
    assert len(make(CT, LARGE).training.augment.rotation_degrees) == 3


# --- what the person sets ---


def test_fewer_levels_bring_shorter_tuples():
    network = make(CT, LARGE, {"network.levels": 3}).network
    assert network.levels == 3
    assert network.features == (32, 64, 128)
    assert network.strides == ((1, 1, 1), (2, 2, 1), (2, 2, 1))
    assert network.kernels == ((3, 3, 1), (3, 3, 1), (3, 3, 3))
    assert network.blocks == (2, 2, 2)
    assert make(CT, LARGE, {"network.levels": 3}).patch.size == (236, 236, 38)


def test_a_given_patch_is_kept_and_the_levels_follow():
    plan = make(CT, LARGE, {"patch.size": (30, 30, 6)})
    assert plan.patch.size == (30, 30, 6)
    # 30 -> 15 -> 8 -> 4, and six slices are never halved.
    assert plan.network.strides == ((1, 1, 1), (2, 2, 1), (2, 2, 1), (2, 2, 1))
    assert plan.patch.batch > make(CT, LARGE).patch.batch


def test_a_given_spacing_changes_the_patch():
    plan = make(CT, LARGE, {"data.spacing": (2.0, 2.0, 2.0)})
    # 512 * 0.8 / 2 = 205 voxels, 40 * 5 / 2 = 100 voxels; 128**3 / 100 = 144.8**2.
    assert plan.data.spacing == (2.0, 2.0, 2.0)
    assert patch_size((205, 205, 100), (2.0,) * 3, 128**3) == (145, 145, 100)
    # 145 can be halved five times with four left, 100 four times: multiples of 32 and 16.
    assert plan.patch.size == (160, 160, 112)
    assert plan.network.kernels[0] == (3, 3, 3)


def test_a_spacing_coarser_than_the_scan_leaves_one_voxel():
    plan = make(CT, LARGE, {"data.spacing": (2000.0, 2.0, 2.0)})
    assert plan.patch.size[0] == 1


def test_narrower_features_make_room_for_a_larger_batch():
    features = (16, 32, 64, 128)
    assert make(little(200), LARGE, {"network.features": features}).patch.batch == 16
    assert make(little(200), LARGE).patch.batch == 8


def test_what_is_set_says_so():
    plan = make(CT, LARGE, {"training.epochs": 3, "training.minutes": 1.5})
    assert (plan.training.epochs, plan.training.minutes) == (3, 1.5)
    assert plan.reasons["training.epochs"] == "set by you"
    assert plan.reasons["training.minutes"] == "set by you"
    assert make(CT, LARGE).training.epochs is None


@pytest.mark.parametrize(
    ("overrides", "share"),
    [({}, 0.25), ({"training.epochs": 3}, 1.0), ({"training.minutes": 1.5}, 1.0)],
)
def test_without_a_budget_the_rate_is_steady_first(overrides, share):
    assert make(CT, LARGE, overrides).training.anneal_share == share


def test_a_validation_comes_as_often_as_its_cost_allows():
    """200 small volumes, one window each; and two large ones with many."""
    small = replace(CT, cases=200, shapes=((40, 40, 40),) * 3, spacings=((1.0,) * 3,) * 3)
    settings = {"patch.size": (40, 40, 40), "patch.batch": 4, "training.steps_per_epoch": 50}
    # 12 windows forward are 4 passes of 200: two in a hundred.
    assert make(small, CPU, settings).training.validation_every == 1
    large = replace(small, cases=10, shapes=((200, 200, 200),) * 3)
    # 2 cases of 9 x 9 x 9 windows are 486 passes, and 6 in a hundred of 200 are 12: 40.5.
    assert make(large, CPU, settings).training.validation_every == 41
    # At least three in all where the number of epochs is known; the clock decides where it rules.
    assert make(large, CPU, settings | {"training.epochs": 30}).training.validation_every == 10
    assert make(large, CPU, settings | {"training.minutes": 3.0}).training.validation_every == 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"network.levels": 9}, r"network\.levels: too many levels for the patch .*raise patch"),
        ({"network.levels": 0}, r"network\.levels: .*greater than or equal to 1"),
        ({"network.levels": "many"}, r"network\.levels: .*valid integer"),
        ({"patch.size": 64}, r"patch\.size: .*valid tuple"),
        ({"patch.size": (64, 64)}, r"patch\.size: one entry per axis is needed .expected 3"),
        ({"patch.size": (64, 64, 0)}, r"patch\.size\.2: .*greater than or equal to 1"),
        ({"data.spacing": (1.0, 1.0)}, r"data\.spacing: one entry per axis is needed"),
        ({"data.spacing": (1.0, 0.0, 1.0)}, r"data\.spacing\.1: .*greater than 0"),
        ({"data.class_values": 3}, r"data\.class_values: .*valid tuple"),
        ({"network.features": ()}, r"network\.features: one entry per level is needed"),
        ({"network.features": (8, 8)}, r"network\.features needs one entry per level"),
        ({"data.task": "semantics"}, r"no such task .*did you mean semantic\?"),
        ({"patch.sise": (8, 8, 8)}, r"no such plan key .*did you mean patch\.size\?"),
    ],
)
def test_values_that_do_not_fit_are_named(overrides, message):
    with pytest.raises(UsageError, match=message):
        make(CT, LARGE, overrides)


# --- any data, any machine ---


@st.composite
def fingerprints(draw):
    axes = draw(st.sampled_from([2, 3]))
    number = draw(st.integers(1, 3))
    shapes = [draw(st.tuples(*[st.integers(3, 600)] * axes)) for _ in range(number)]
    spacings = [draw(st.tuples(*[st.floats(0.1, 10)] * axes)) for _ in range(number)]
    return replace(
        CT,
        cases=number,
        dimensions=axes,
        unit=draw(st.sampled_from(["mm", "um", "px"])),
        shapes=tuple(shapes),
        spacings=tuple(spacings),
        looks_like_ct=draw(st.booleans()),
        looks_like_objects=draw(st.booleans()),
        zero_share=draw(st.floats(0, 1)),
    )


@given(fingerprints(), st.sampled_from([LARGE, SMALL, CPU]))
@settings(max_examples=80, deadline=None)
def test_any_data_get_a_plan_that_holds_together(found, machine):
    plan = make(found, machine)
    axes, network = found.dimensions, plan.network
    assert len(plan.patch.size) == axes
    factor = np.prod(network.strides, axis=0)
    assert not (np.array(plan.patch.size) % factor).any()
    edges = plan.data.spacing or found.median_spacing
    if plan.data.spacing:
        sizes = np.array(found.shapes) * np.array(found.spacings) / np.array(edges)
        longest = np.maximum(1, np.median(sizes, axis=0).round())
    else:
        longest = np.median(found.shapes, axis=0).round()
    # Not larger than the usual scan, up to what the levels need.
    assert (np.array(plan.patch.size) < longest + factor).all()
    # Within the budget of voxels, up to the same.
    budget = {(2, "cuda"): 512**2, (3, "cuda"): 128**3, (2, "cpu"): 256**2, (3, "cpu"): 48**3}
    least = np.array(plan.patch.size) - factor
    assert prod(max(0, n) for n in least) <= budget[axes, machine.kind]
    # An axis is halved only while at least four voxels are left.
    assert all(n // f >= 4 for n, f in zip(plan.patch.size, factor, strict=True) if f > 1)
    if max(plan.patch.size) >= 16:
        assert network.levels >= 2
    assert 2 <= plan.patch.batch <= 64
    assert plan.reasons["patch.size"]


@given(fingerprints())
@settings(max_examples=20, deadline=None)
def test_the_same_data_and_machine_give_the_same_plan(found):
    assert make(found, LARGE) == make(found, LARGE)
    assert make(found, LARGE).training.steps_per_epoch != make(found, CPU).training.steps_per_epoch


# --- what a person reads and what a small card holds ---


@pytest.mark.parametrize("found", [CT, CELLS], ids=["ct", "cells"])
@pytest.mark.parametrize("machine", [LARGE, CPU], ids=["large", "cpu"])
def test_every_value_has_its_reason(found, machine):
    lines = describe(make(found, machine)).splitlines()
    values = [line for line in lines if " = " in line and not line.endswith("= []")]
    assert len(values) > 40
    assert [line for line in values if " # " not in line] == []


def test_a_small_card_gets_a_smaller_patch():
    tiny = Machine("cuda:0", 2 * 10**9, 4)
    wide = replace(CT, shapes=((512, 512, 400),) * 10, spacings=((0.8, 0.8, 0.8),) * 10)
    large, small = make(wide, LARGE), make(wide, tiny)
    assert prod(large.patch.size) == 128**3
    assert prod(small.patch.size) < 128**3 / 2
    # 24 maps of 32 features and two bytes a voxel, in six tenths of the memory; the patch is
    # rounded up to whole strides.
    assert small.patch.batch == 2
    assert prod(small.patch.size) * 24 * 32 * 2 * 2 < 2 * 10**9


# --- other encoders ---


def test_an_original_is_as_deep_as_it_is_on_every_device():
    for machine in (LARGE, CPU):
        network = make(CELLS, machine, {"network.encoder": "resnet34"}).network
        assert network.levels == 6
        assert network.blocks == ()
        assert network.activation == "relu"
    assert make(CELLS, CPU, {"network.encoder": "resnet56"}).network.levels == 3
    assert make(CELLS, CPU).network.levels == 5


def test_what_costs_more_comes_in_smaller_batches():
    many = replace(CELLS, shapes=CELLS.shapes * 50, spacings=CELLS.spacings * 50)
    small_card = Machine("cuda:0", 10**10, 8)
    little = replace(many, shapes=((100, 100),) * 50)
    for machine, found in ((small_card, many), (CPU, little)):
        plain, dense = (
            make(found, machine, {"network.encoder": name}).patch.batch
            for name in ("plain", "densenet161")
        )
        assert dense < plain
    assert make(CELLS, CPU, {"network.encoder": "residual"}).patch.batch == (
        make(CELLS, CPU).patch.batch
    )


def test_weights_bring_the_normalisation_that_they_were_made_with():
    plan = make(CELLS, LARGE, {"network.encoder": "resnet34", "training.weights": "imagenet"})
    assert plan.network.norm == "batch"
    assert (plan.training.encoder_rate, plan.training.frozen_share) == (0.1, 0.05)
    volume = {"network.encoder": "resnet18", "training.weights": "medicalnet"}
    network = make(CT, LARGE, volume).network
    assert network.shortcut == "padding"
    assert set(network.kernels) == {(3, 3, 3)}
    bare = make(CT, LARGE, {"network.encoder": "resnet18"})
    assert bare.network.norm == "instance"
    assert bare.network.shortcut == "projection"
    assert (3, 3, 1) in bare.network.kernels
    assert (bare.training.encoder_rate, bare.training.frozen_share) == (1.0, 0.0)
