"""What a validation is foreseen to take."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from unetseg.records import Advance, Case, Event
from unetseg.training import pace
from unetseg.training.pace import Pace


@dataclass
class Watch:
    """A clock that a test sets."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    found = Watch()
    monkeypatch.setattr(pace, "perf_counter", found)
    return found


def cases(*names: str) -> list[Case]:
    return [Case(name, (Path(name),)) for name in names]


def validated(learned: Pace, watch: Watch, **seconds: float) -> list[Event]:
    """The cases take so many seconds, one after another; what the listener hears."""
    heard: list[Event] = []
    listener = learned.learning(heard.append)
    for name, each in seconds.items():
        watch.now += each
        listener(Advance(name))
    return heard


def test_a_size_that_is_new_is_not_what_the_others_take(watch: Watch) -> None:
    learned = Pace({"a": 100, "b": 100, "c": 100, "d": 400, "e": 50})
    assert learned.seconds(cases("a", "b")) == 0.0
    # Three of one size, of which only the first takes long.
    heard = validated(learned, watch, a=5.0, b=1.0, c=1.0)
    assert heard == [Advance("a"), Advance("b"), Advance("c")]
    assert learned.seconds(cases("a", "b", "c")) == pytest.approx(3.0)
    # A new size takes what the new one took, voxel by voxel.
    assert learned.seconds(cases("a", "d")) == pytest.approx(1.0 + 20.0)
    # The last validation counts, each for its own kind.
    validated(learned, watch, a=2.0, d=8.0)
    assert learned.seconds(cases("b", "d")) == pytest.approx(2.0 + 8.0)
    assert learned.seconds(cases("e")) == pytest.approx(1.0)


def test_where_all_sizes_differ_the_first_time_is_all_there_is(watch: Watch) -> None:
    learned = Pace({"a": 100, "b": 200, "c": 300})
    validated(learned, watch, a=1.0, b=2.0)
    assert learned.seconds(cases("a", "b", "c")) == pytest.approx(6.0)
    # The negative twin: the second time of the same cases tells what they take.
    validated(learned, watch, a=0.5, b=1.0)
    assert learned.seconds(cases("a", "b", "c")) == pytest.approx(1.5 + 3.0)


def test_time_before_a_validation_is_not_its_own(watch: Watch) -> None:
    learned = Pace({"a": 100})
    validated(learned, watch, a=1.0)
    watch.now += 60.0
    validated(learned, watch, a=1.0)
    assert learned.seconds(cases("a")) == pytest.approx(1.0)
