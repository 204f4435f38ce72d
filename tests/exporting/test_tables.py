"""The table that says which class each object has."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from unetseg.errors import DataError
from unetseg.exporting import Legend, export, table_path
from unetseg.exporting.tables import read_classes, write_classes
from unetseg.records import Label

LABELS = (Label(0, "background"), Label(1, "tumour"), Label(2, "stroma, dense"))


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_classes(tmp_path / "a_objects.csv", (2, 1, 1, 2), LABELS)
    text = (tmp_path / "a_objects.csv").read_text()
    assert text == 'id,class\n1,"stroma, dense"\n2,tumour\n3,tumour\n4,"stroma, dense"\n'
    assert read_classes(tmp_path / "a_objects.csv", LABELS) == ((2, 1, 1, 2), LABELS)
    # Without the names of a model they are numbered by themselves.
    classes, labels = read_classes(tmp_path / "a_objects.csv")
    assert classes == (1, 2, 2, 1)
    assert labels == (Label(1, "stroma, dense"), Label(2, "tumour"))


def test_a_table_by_hand(tmp_path: Path) -> None:
    """As a spreadsheet writes it, with ids left out and a class that no model knows."""
    path = tmp_path / "a_objects.csv"
    path.write_bytes(b"\xef\xbb\xbfclass,id\r\ntumour,3\r\nnew,1\r\ntumour,4\r\n")
    classes, labels = read_classes(path, LABELS)
    assert classes == (3, 0, 1, 1)
    assert labels == (*LABELS, Label(3, "new"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("number,kind\n1,a\n", "not a table of the classes of objects .*columns id,class"),
        ("id,class\none,a\n", r"row 2: the id is no whole number above 0 \(got one\)"),
        ("id,class\n0,a\n", r"row 2: the id is no whole number above 0 \(got 0\)"),
        ("id,class\n5000000000,a\n", r"an id that no object has \(got 5000000000\)"),
        ("id,class\n\xff", "not in UTF-8"),
    ],
)
def test_what_is_no_table_is_said(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a_objects.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=rf"a_objects\.csv: {message}"):
        read_classes(path)


def test_an_export_takes_the_classes_from_beside_the_mask(tmp_path: Path) -> None:
    mask = np.zeros((9, 9), np.uint8)
    mask[:2, :2], mask[5:, 5:] = 1, 2
    path = tmp_path / "a_seg.tif"
    tifffile.imwrite(path, mask)
    assert table_path(path) == tmp_path / "a_objects.csv"
    write_classes(table_path(path), (2, 1), LABELS)
    export(path, ["geojson"], Legend(has_objects=True, labels=LABELS))
    text = (tmp_path / "a.geojson").read_text()
    assert text.index("stroma") < text.index("tumour")
