"""Formats that want packages of their own: known without them, and what is said without them."""

import subprocess
import sys
from pathlib import Path

import pytest

from unetseg.errors import UsageError
from unetseg.formats import extras, is_readable, open_scan, suffixes

EXTRAS = {
    "a.nrrd": "medical",
    "a.nhdr": "medical",
    "a.mha": "medical",
    "a.mhd": "medical",
    "a.dcm": "medical",
    "a.czi": "bio",
    "a.nd2": "bio",
    "a.lif": "bio",
}
# nibabel imports pydicom where it is installed.
HEAVY = ("SimpleITK", "highdicom", "bioio_base", "xarray", "dask", "pylibCZIrw")


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(extras, "import_module", absent)
    extras.simpleitk.cache_clear()


@pytest.mark.parametrize("name", EXTRAS)
def test_a_missing_extra_is_told_in_one_line(
    tmp_path: Path, name: str, nothing_installed: None
) -> None:
    (tmp_path / name).write_bytes(b"NRRD0004 ObjectType = Image ElementDataFile = LOCAL\n\n")
    with pytest.raises(UsageError) as raised:
        open_scan(tmp_path / name)
    told = str(raised.value)
    assert told.startswith(f"{tmp_path / name}: reading this format needs the package ")
    assert told.endswith(f"; pip install 'unetseg[{EXTRAS[name]}]'")
    assert "\n" not in told


def test_a_folder_of_slices_is_told_as_well(tmp_path: Path, nothing_installed: None) -> None:
    for number in range(2):
        (tmp_path / f"{number}.dcm").write_bytes(bytes(200))
    with pytest.raises(UsageError, match=r"pydicom.*pip install 'unetseg\[medical\]'"):
        open_scan(tmp_path)


def test_suffixes_are_known_without_the_packages() -> None:
    code = f"""
import sys
from pathlib import Path
from unetseg.formats import is_readable, suffixes
assert all(is_readable(Path(name)) for name in {list(EXTRAS)})
found = set({HEAVY}) & sys.modules.keys()
assert not found, found
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_check_above_would_see_an_import() -> None:
    pytest.importorskip("SimpleITK")
    code = f"import sys, SimpleITK; assert not set({HEAVY}) & sys.modules.keys()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "AssertionError" in done.stderr


def test_nobody_takes_a_suffix_of_another() -> None:
    assert len(suffixes()) == len(set(suffixes()))
    assert is_readable(Path("A.NRRD")) and is_readable(Path("a.Dcm"))
    assert not is_readable(Path("._a.nrrd"))
