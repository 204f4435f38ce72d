"""The loss around a model: directions, surfaces, and what is read from them."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cubes import request as training_request
from cubes import write_squares
from hypothesis import given, settings
from hypothesis import strategies as st

from unetseg import checkpoint
from unetseg.errors import DataError, ModelError, UsageError
from unetseg.studies import landscape
from unetseg.studies.landscape import (
    Landscape,
    LandscapeRequest,
    convex_share,
    landscapes,
    sharpness,
)
from unetseg.studies.landscape_report import conclusions, shared_levels, write
from unetseg.tasks import make_task
from unetseg.training import train

AXIS = np.linspace(-1, 1, 21)
ACROSS, DOWN = np.meshgrid(AXIS, AXIS)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("landscape")
    data = write_squares(folder / "data", 6)
    asked = training_request(
        data, folder / "small", {"training.snapshots": 4, "network.norm": "batch"}
    )
    train(asked)
    return folder / "small"


def asked(run: Path, out: Path, **more) -> LandscapeRequest:
    values = {"grid": 5, "samples": 2, "device": "cpu"} | more
    return LandscapeRequest((run,), out, **values)


# --- what is read from a surface ---


def test_a_bowl_is_convex_everywhere_and_a_saddle_nowhere():
    assert convex_share(ACROSS**2 + 2 * DOWN**2) == 1.0
    assert convex_share(ACROSS**2 - DOWN**2) == 0.0
    assert convex_share(-(ACROSS**2) - DOWN**2) == 0.0


@settings(max_examples=25, deadline=None)
@given(st.floats(0.1, 3), st.floats(0.1, 3), st.floats(0, 3.1))
def test_turning_a_surface_does_not_change_how_it_curves(one, other, angle):
    across = np.cos(angle) * ACROSS + np.sin(angle) * DOWN
    down = np.cos(angle) * DOWN - np.sin(angle) * ACROSS
    assert convex_share(one * across**2 + other * down**2) == 1.0
    assert convex_share(one * across**2 - other * down**2) == 0.0


def test_half_convex():
    """x cubed curves upwards where x is positive, and is flat along the other axis."""
    assert convex_share(ACROSS**3) == pytest.approx(0.5, abs=0.05)


def test_the_sharpness_of_a_bowl_is_the_square_of_half_the_radius():
    assert sharpness(3 + ACROSS**2 + DOWN**2) == pytest.approx(0.25, abs=0.01)
    assert sharpness(3 + 4 * (ACROSS**2 + DOWN**2)) == pytest.approx(1.0, abs=0.02)
    assert sharpness(np.full((9, 9), 2.0)) == 0.0


def test_levels_are_shared_and_end_before_the_walls():
    levels = shared_levels([np.array([[0.5, 1.0]]), np.array([[0.2, 4000.0]])])
    assert levels[0] == pytest.approx(0.2)
    assert levels[-1] == pytest.approx(6.0)
    assert np.all(np.diff(levels) > 0)


# --- directions ---


def test_every_filter_of_a_direction_is_as_long_as_the_network_s_own(run):
    network = checkpoint.load(run).network
    moved = [(n, p) for n, p in network.named_parameters() if p.ndim > 1]
    direction = landscape._random_direction(network, 0, 0)
    assert len(direction) == len(moved)
    seen = 0
    for (name, weight), drawn in zip(moved, direction, strict=True):
        own = 1 if name.startswith("ups.") else 0
        axes = [axis for axis in range(weight.ndim) if axis != own]
        assert torch.allclose(
            weight.pow(2).sum(axes).sqrt(), drawn.pow(2).sum(axes).sqrt(), rtol=1e-4
        )
        seen += own
    assert seen == 1


def test_a_seed_gives_a_direction_and_another_another(run):
    network = checkpoint.load(run).network

    def same(one, other):
        return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))

    first = landscape._random_direction(network, 0, 0)
    assert same(first, landscape._random_direction(network, 0, 0))
    assert not same(first, landscape._random_direction(network, 0, 1))
    assert not same(first, landscape._random_direction(network, 1, 0))


def test_scaling_a_filter_does_not_change_the_landscape(run, tmp_path):
    """Why filters are normalised: before a normalisation their scale means nothing."""
    trained = checkpoint.load(run)
    first = next(p for n, p in trained.network.named_parameters() if n.endswith("0.0.weight"))
    request = asked(run, tmp_path)
    before = landscape._explored(run, trained, request, lambda event: None)
    again = checkpoint.load(run)
    first = again.network.encoder.stages[0][0].weight
    norm = again.network.encoder.stages[0][1]
    with torch.no_grad():
        first *= 10
        norm.running_mean *= 10
        norm.running_var *= 100
    after = landscape._explored(run, again, request, lambda event: None)
    assert np.allclose(before.loss, after.loss, rtol=1e-3)


# --- the whole ---


def test_the_middle_is_the_loss_of_the_model_itself(run, tmp_path):
    request = asked(run, tmp_path)
    (found,) = landscapes(request)
    trained = checkpoint.load(run)
    images, labels = landscape._patches(run, trained.plan, request)
    task = make_task(trained.plan)
    with torch.inference_mode():
        loss = float(task.loss(trained.network(images)[:1], task.targets(labels)))
    assert found.centre == pytest.approx(loss, rel=1e-6)
    assert found.loss.shape == (5, 5)
    assert not np.allclose(found.loss, found.centre)
    assert found.path.shape == (4, 2)
    assert 0 < found.path_share < 1


def test_the_model_on_disk_is_left_as_it_is(run, tmp_path):
    weights = run / "model" / "weights.safetensors"
    before = weights.read_bytes()
    landscapes(asked(run, tmp_path))
    assert weights.read_bytes() == before


def test_the_plane_of_the_path_holds_more_of_it_than_a_random_one(run, tmp_path):
    (random,) = landscapes(asked(run, tmp_path / "a"))
    (along,) = landscapes(asked(run, tmp_path / "b", plane="path"))
    assert along.path_share > 0.9 > random.path_share
    assert np.abs(along.path).max() < along.axis[-1]


def test_a_finished_run_is_not_explored_again(run, tmp_path, monkeypatch):
    request = asked(run, tmp_path)
    (first,) = landscapes(request)
    monkeypatch.setattr(landscape, "_explored", None)
    (second,) = landscapes(request)
    assert np.array_equal(first.loss, second.loss)
    assert np.array_equal(first.path, second.path)
    assert first.sharpness == second.sharpness
    with pytest.raises(TypeError, match="not callable"):
        landscapes(replace(request, seed=1))


def test_the_study_s_folder(run, tmp_path):
    request = asked(run, tmp_path)
    found = landscapes(request)
    write(request, found)
    content = json.loads((tmp_path / "results.json").read_text())
    assert json.loads((tmp_path / "study.json").read_text())["grid"] == 5
    assert content["landscapes"][0]["sharpness"] == found[0].sharpness
    assert (tmp_path / "results.csv").read_text().startswith("run,encoder,skip")
    page = (tmp_path / "index.html").read_text()
    assert page.count("data:image/svg+xml;base64,") == 2
    for name in ("contours", "surfaces"):
        assert (tmp_path / "figures" / f"{name}.png").stat().st_size > 1000


def test_names_are_data_never_markup(run, tmp_path):
    (found,) = landscapes(asked(run, tmp_path))
    write(asked(run, tmp_path), [replace(found, name="<script>x</script>")])
    page = (tmp_path / "index.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_the_sentences_name_the_flattest_and_the_steepest():
    def one(name: str, rise: float, convex: float) -> Landscape:
        return Landscape(
            name, "plain", "concat", 1, AXIS, ACROSS**2, np.empty((0, 2)), 0.1, rise, convex
        )

    first, second, *_ = conclusions([one("a", 0.5, 0.9), one("b", 0.1, 0.2)])
    assert "least around b (by 0.100" in first
    assert "most around a (by 0.500" in first
    assert "around a (90%)" in second
    assert len(conclusions([one("a", 0.5, 0.9)])) == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"grid": 6}, "--grid: not a grid with a middle"),
        ({"radius": 0.0}, "--radius: no plane"),
        ({"plane": "flat"}, "--plane: no such plane .*random or path"),
    ],
)
def test_what_cannot_be_drawn_is_refused(tmp_path, values, message):
    with pytest.raises(UsageError, match=message):
        asked(tmp_path, tmp_path / "out", **values)


def test_two_runs_of_one_name_are_refused(tmp_path):
    with pytest.raises(UsageError, match="two runs have the same name"):
        LandscapeRequest((tmp_path / "a" / "x", tmp_path / "b" / "x"), tmp_path)


def test_a_run_without_a_model_or_without_data_says_so(run, tmp_path):
    with pytest.raises(ModelError, match="no trained model here"):
        landscapes(asked(tmp_path / "nothing", tmp_path / "out"))
    copy = tmp_path / "moved"
    (copy / "model").mkdir(parents=True)
    for path in (run / "model").iterdir():
        os.link(path, copy / "model" / path.name)
    with pytest.raises(DataError, match=r"does not say which data it learned from.*--data"):
        landscapes(asked(copy, tmp_path / "out"))


def test_a_path_needs_snapshots(tmp_path):
    data = write_squares(tmp_path / "data", 6)
    train(training_request(data, tmp_path / "bare"))
    with pytest.raises(DataError, match=r"too few snapshots.*training.snapshots=13"):
        landscapes(asked(tmp_path / "bare", tmp_path / "out", plane="path"))
