"""Fixtures shared by all tests."""

from pathlib import Path

import pytest

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with the real data sets, or a visible skip."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"real data not found at {REAL_DATA}")
    return REAL_DATA


@pytest.fixture(scope="session")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on cubes in millimetres that has learned to find them."""
    # Not above: most tests need no torch.
    from cubes import LEARNED, request, write_cubes

    from unetseg.training import train

    folder = tmp_path_factory.mktemp("volumes")
    return train(request(write_cubes(folder / "data"), folder / "run", LEARNED)).run


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on squares in micrometres whose masks hold 0 and 255."""
    from cubes import LEARNED, request, write_squares

    from unetseg.training import train

    folder = tmp_path_factory.mktemp("images")
    return train(request(write_squares(folder / "data"), folder / "run", LEARNED)).run
