"""Every kind of bad input: exit code, one line that names it, nothing left behind."""

import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import corpus
import nibabel as nib
import numpy as np
import pytest

from unetseg import cli
from unetseg.formats import split_name

TINY = (
    "--device=cpu",
    "--epochs=1",
    "--set=training.steps_per_epoch=1",
    "--set=network.levels=2",
    "--set=patch.batch=2",
    "--set=network.features=[2,4]",
    "--cache=cache",
)
# What a line on stderr may begin with; anything else would be the rest of a broken line.
STARTS = re.compile(
    r"(error|warning|note|failed|read as|model|run|inspecting|preparing|training|predicting"
    r"|\d+ of \d+ inputs failed|  \S|/|\./|validating|fold|\d+ cases to learn|epoch|left out)"
)


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    lines: tuple[str, ...]

    @property
    def last(self) -> str:
        return self.lines[-1]


Run = Callable[..., Ended]


def run_main(monkeypatch: pytest.MonkeyPatch, arguments: tuple[object, ...]) -> int:
    """The exit code of `unetseg ARGUMENTS` in this process."""
    monkeypatch.setattr(sys, "argv", ["unetseg", *map(str, arguments)])
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return 0


@pytest.fixture
def unetseg(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs the command line in an empty folder; whatever goes wrong is said without a traceback."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Ended:
        capsys.readouterr()
        code = run_main(monkeypatch, arguments)
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err
        assert "defect" not in shown.err
        # Not splitlines(): what a terminal may take for the end of a line must not be there either.
        lines = tuple(shown.err.removesuffix("\n").split("\n"))
        assert not re.search("[\r\x0b\x0c\x1b\x85\u2028\u2029]", shown.err)
        return Ended(code, shown.out, lines)

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one step on four cases of 16 x 16 x 16 voxels."""
    folder = tmp_path_factory.mktemp("trained")
    corpus.write_cases(folder / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run_main(patch, ("train", "data", "-o", "run", *TINY)) == 0
    return folder / "run"


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """All that lies below the folder, with times and sizes: what was there must stay untouched."""
    found = {}
    for path in sorted(folder.rglob("*")):
        stat = path.lstat()
        found[str(path.relative_to(folder))] = (stat.st_mtime_ns, stat.st_size)
    return found


@pytest.fixture
def untouched(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Called once the input is there; at the end the folder must look the same."""
    before: list[dict[str, tuple[int, int]]] = []
    yield lambda: before.append(tree(tmp_path))
    assert before, "never called"
    assert tree(tmp_path) == before[0]


def refused(ended: Ended, code: int, says: str) -> None:
    assert (ended.code, ended.out) == (code, "")
    assert re.match(f"error: .*(?:{says})", ended.last)
    assert all(STARTS.match(line) for line in ended.lines), ended.lines


def test_the_corpus_is_large_and_its_names_differ() -> None:
    names = [scan.name for scan in corpus.SCANS]
    assert len(names) >= 40
    # Equal stems would change the names of all masks.
    stems = {split_name(Path(name))[0] for name in (*names, *corpus.GOOD_NAMES)}
    assert len(stems) == len(names) + len(corpus.GOOD_NAMES)


def test_bad_scans_do_not_stop_the_good_ones(tmp_path: Path, trained: Path, unetseg: Run) -> None:
    folder = tmp_path / "scans"
    corpus.write_scans(folder)
    goods = [folder / name for name in corpus.GOOD_NAMES]
    for seed, path in enumerate(goods):
        corpus.write_good_scan(path, seed)
    before = tree(folder)
    half = len(corpus.SCANS) // 2
    given = [folder / scan.name for scan in corpus.SCANS]
    inputs = [goods[0], *given[:half], *goods[1:-1], *given[half:], goods[-1]]
    ended = unetseg("predict", *inputs, "--model", trained, "-o", "out", "--device", "cpu")

    assert ended.code == 1
    assert tree(folder) == before
    head = f"{len(given)} of {len(inputs)} inputs failed:"
    messages = ended.lines[ended.lines.index(head) + 1 :]
    assert len(messages) == len(given)
    assert all(STARTS.match(line) for line in ended.lines), ended.lines
    heads = [f"  {escaped(str(folder / scan.name))}:" for scan in corpus.SCANS]
    about = [[line for line in messages if line.startswith(head)] for head in heads]
    assert [len(lines) for lines in about] == [1] * len(heads)
    wrong = [
        lines[0]
        for scan, head, lines in zip(corpus.SCANS, heads, about, strict=True)
        if not re.search(scan.says, lines[0].removeprefix(head))
    ]
    assert wrong == []
    masks = {f"{split_name(path)[0]}_seg{split_name(path)[1].lower()}" for path in goods}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*masks, "manifest.json"}
    for path in goods:
        stem, suffix = split_name(path)
        mask = nib.load(tmp_path / "out" / f"{stem}_seg{suffix.lower()}")
        assert mask.shape == (corpus.SIZE,) * 3
        assert np.array_equal(mask.affine, np.eye(4))
        shown = escaped(str(path))
        assert sum(line.startswith(f"{shown} -> out") for line in ended.lines) == 1, path
    assert ended.out.count("_seg.nii") == len(goods)


def escaped(name: str) -> str:
    """The name as a message shows it, by the rules of Python's own repr for control characters."""
    shown = (repr(c)[1:-1] if c in "\n\r\t\x1b\u2028" else c for c in name)
    return "".join(shown)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_name_in_another_encoding(tmp_path: Path, unetseg: Run) -> None:
    latin = os.fsdecode(b"caf\xe9")
    corpus.write_cases(tmp_path / "data", 2)
    for folder in ("images", "labels"):
        path = tmp_path / "data" / folder / "c1.nii.gz"
        path.rename(path.with_name(f"{latin}.nii.gz"))
    ended = unetseg("train", "data", "-o", "run", *TINY)
    assert ended.code == 0
    ended = unetseg("predict", "data", "--model", "run", "-o", "out", "--device", "cpu")
    assert (ended.code, ended.out) == (0, "out/c0_seg.nii.gz\nout/caf\\udce9_seg.nii.gz\n")
    assert (tmp_path / "out" / f"{latin}_seg.nii.gz").is_file()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["scan.nii.gz", "scan.tif", "scan.png"])
def test_a_scan_without_permission_is_named(
    name: str, tmp_path: Path, trained: Path, unetseg: Run
) -> None:
    (tmp_path / name).write_bytes(b"scan")
    (tmp_path / name).chmod(0)
    ended = unetseg("predict", name, "--model", trained, "--device", "cpu")
    assert ended.code == 1
    assert ended.last == f"  {name}: cannot be read: Permission denied"


def test_a_name_with_a_leading_dash_goes_after_two_dashes(
    tmp_path: Path, trained: Path, unetseg: Run
) -> None:
    corpus.write_good_scan(tmp_path / "-dash.nii.gz")
    ended = unetseg("predict", "--model", trained, "--device", "cpu", "--", "-dash.nii.gz")
    assert (ended.code, ended.out) == (0, "-dash_seg.nii.gz\n")
    ended = unetseg("predict", "--model", trained, "-dash.nii.gz")
    assert ended.code == 2
    assert re.match("error: No such option: -d", ended.last)


def test_only_bad_scans_write_no_mask(tmp_path: Path, trained: Path, unetseg: Run) -> None:
    (tmp_path / "a.nii.gz").write_bytes(b"")
    (tmp_path / "b.xyz").write_bytes(b"1")
    ended = unetseg("predict", "a.nii.gz", "b.xyz", "--model", trained, "-o", "out")
    assert ended.code == 1
    assert ended.lines[-3] == "2 of 2 inputs failed:"
    assert {path.name for path in tmp_path.iterdir()} == {"a.nii.gz", "b.xyz"}


def test_an_output_that_cannot_be_a_folder(
    tmp_path: Path, trained: Path, unetseg: Run, untouched: Callable[[], None]
) -> None:
    corpus.write_good_scan(tmp_path / "a.nii.gz")
    (tmp_path / "file").write_text("text")
    untouched()
    refused(unetseg("predict", "a.nii.gz", "--model", trained, "-o", "file"), 2, "file: not a fo")
    ended = unetseg("predict", "a.nii.gz", "--model", trained, "-o", "file/out")
    assert ended.code == 3
    assert re.match(r"error: file/out: cannot be written: ", ended.last)


@pytest.mark.parametrize("data", corpus.DATA, ids=lambda data: data.name)
def test_bad_data(
    data: corpus.BadData, tmp_path: Path, unetseg: Run, untouched: Callable[[], None]
) -> None:
    data.write(tmp_path / data.name)
    untouched()
    checked = unetseg("check", data.name, "--device", "cpu")
    assert checked.code == 3
    errors = [line for line in checked.lines if re.match(f"error: .*(?:{data.says})", line)]
    assert len(errors) == 1, checked.lines
    assert all(STARTS.match(line) for line in checked.lines), checked.lines
    refused(unetseg("train", data.name, *TINY), 3, data.says)


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ("images", "1 image has no mask of that name: c9.nii.gz; they are left out"),
        ("labels", "1 mask has no image of that name: c9.nii.gz; they are left out"),
    ],
)
def test_files_without_partner_are_left_out_with_a_warning(
    extra: str, says: str, tmp_path: Path, unetseg: Run, untouched: Callable[[], None]
) -> None:
    corpus.write_cases(tmp_path / "data", 3)
    shutil.copy(tmp_path / "data" / extra / "c1.nii.gz", tmp_path / "data" / extra / "c9.nii.gz")
    untouched()
    ended = unetseg("check", "data", "--device", "cpu")
    assert ended.code == 0
    assert any(line.startswith("warning: data") and says in line for line in ended.lines)
    assert ended.out.startswith("3 cases, 3-D")


def test_skip_bad_goes_on_without_the_bad_case(tmp_path: Path, unetseg: Run) -> None:
    corpus.write_cases(tmp_path / "data", 3)
    (tmp_path / "data" / "images" / "c1.nii.gz").write_bytes(b"")
    ended = unetseg("train", "data", "-o", "run", "--skip-bad", *TINY)
    assert ended.code == 0
    assert any(re.match(r"warning: .*c1\.nii\.gz: the file is empty", x) for x in ended.lines)
    assert "1 cases to learn from, 1 to validate" in "\n".join(ended.lines)
    assert (tmp_path / "run" / "model" / "model.json").is_file()


USAGE = (
    (("--set", "training.epoch=3"), "no such plan key .*training.epoch.; did you mean"),
    (("--set", "training.epochs"), "not a setting .*key=value, got training.epochs"),
    (("--set", "training.epochs=many"), r"plan: training\.epochs: .*got many"),
    (("--set", "training.epochs=0"), r"plan: training\.epochs: .*got 0"),
    (("--set", "training.learning_rate=nan"), r"plan: training\.learning_rate: "),
    (("--set", "training.fold=7"), r"training\.fold must be below|no such fold"),
    (("--set", "patch.size=large"), r"plan: patch\.size: .*got large"),
    (("--set", "patch.size=[16,16]"), r"patch\.size: one entry per axis"),
    (("--set", "patch.size=[]"), r"patch\.size: one entry per axis"),
    (("--set", "patch.size=[0,0,0]"), r"plan: patch\.size"),
    (("--set", "network.levels=many"), r"plan: network\.levels: .*got many"),
    (("--set", "network.levels=9"), "network.levels: too many levels .*got 9"),
    (("--set", "network.levels=0"), r"plan: network\.levels: .*got 0"),
    (("--set", "network.encoder=plane"), "no such encoder .*got plane.; did you mean plain"),
    (("--set", "network.skip=2"), r"plan: network\.skip"),
    (("--set", "network.strides=1"), r"plan: network\.strides"),
    (("--set", "network.strides=[[1]]"), r"network\.strides: one entry per level and axis"),
    (("--set", "data.spacing=wide"), r"plan: data\.spacing: .*got wide"),
    (("--set", "data.spacing=[-1,1,1]"), r"plan: data\.spacing"),
    (("--set", "data.ignore_value=none"), r"plan: data\.ignore_value: .*got none"),
    (("--set", "data.class_values=5"), r"plan: data\.class_values"),
    (("--set", "data.channels=[]"), r"data\.channels: not the number .*expected 1, got 0"),
    (("--set", "data.channels=[a,b]"), r"plan: data\.channels: .*got \[a,b\]"),
    (("--set", "data.channels=['a','b']"), r"data\.channels: not the number .*got 2"),
    (("--set", "training.augment.rotation_degrees=[1]"), "rotation_degrees needs 1 angle in 2-D"),
    (("--set", "data.task=semantics"), "no such task .*did you mean semantic"),
    (("--task", "semantics"), "no such task .*did you mean semantic"),
    (("--device", "toaster"), "--device: no such device .*got toaster"),
    (("--device", "cuda:x"), "--device: no such device .*got cuda:x"),
    (("--device", "meta"), "--device: no such device .*got meta"),
    (("--nope",), "No such option: --nope"),
    (("--set",), "'--set' requires an argument"),
)


@pytest.mark.parametrize("command", ["check", "train"])
@pytest.mark.parametrize(("options", "says"), USAGE, ids=[" ".join(o) for o, _ in USAGE])
def test_bad_settings(
    command: str,
    options: tuple[str, ...],
    says: str,
    tmp_path: Path,
    unetseg: Run,
    untouched: Callable[[], None],
) -> None:
    corpus.write_cases(tmp_path / "data", 2)
    untouched()
    refused(unetseg(command, "data", *options), 2, says)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--time", "soon"), "--time: not a duration .*got soon"),
        (("--time", "10x"), "--time: not a duration .*got 10x"),
        (("--time", "0"), "--time: not a duration .*got 0"),
        (("--time", "-5m"), "--time: not a duration .*got -5m"),
        (("--time", "1\nm"), r"--time: not a duration .*got 1\\nm"),
        (("--time", "1m", "--epochs", "2"), "give --time or --epochs, not both"),
        (("--epochs", "0"), "'--epochs'"),
        (("--epochs", "few"), "'--epochs'"),
        (("--seed", "-1"), "'--seed'"),
        (("--fold", "5/5"), "--fold: not a fold .*got 5/5"),
        (("--fold", "first"), "--fold: not a fold .*got first"),
        (("--fold", "0/1"), "--fold: not a fold .*got 0/1"),
        (("--fold", "4/5"), "no such fold .*expected 0 to 1, got 4"),
    ],
)
def test_bad_options_of_train(
    options: tuple[str, ...],
    says: str,
    tmp_path: Path,
    unetseg: Run,
    untouched: Callable[[], None],
) -> None:
    corpus.write_cases(tmp_path / "data", 2)
    untouched()
    refused(unetseg("train", "data", "--device=cpu", *options), 2, says)


def test_a_run_that_is_a_file(tmp_path: Path, unetseg: Run, untouched: Callable[[], None]) -> None:
    corpus.write_cases(tmp_path / "data", 2)
    (tmp_path / "run").write_text("text")
    untouched()
    refused(unetseg("train", "data", "-o", "run", *TINY), 3, "run/.*cannot be written")


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        ("[data\n", r"run/plan\.toml: not TOML"),
        ("[data]\ncolour = 1\n", r"run/plan\.toml: no such plan key .*data\.colour"),
        ("[patch]\nbatch = 0\n", r"run/plan\.toml: "),
        ("", r"run/plan\.toml: "),
    ],
)
def test_a_damaged_plan(
    plan: str, says: str, tmp_path: Path, unetseg: Run, untouched: Callable[[], None]
) -> None:
    corpus.write_cases(tmp_path / "data", 2)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "plan.toml").write_text(plan)
    untouched()
    refused(unetseg("train", "data", "-o", "run", "--device=cpu"), 2, says)


@pytest.mark.parametrize("content", [b"", b"text\n" * 30])
def test_a_damaged_state(content: bytes, tmp_path: Path, trained: Path, unetseg: Run) -> None:
    corpus.write_cases(tmp_path / "data")
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / "resume").mkdir(exist_ok=True)
    (tmp_path / "run" / "resume" / "state.safetensors").write_bytes(content)
    before = tree(tmp_path)
    ended = unetseg("train", "data", "-o", "run", "--device=cpu")
    refused(ended, 4, r"resume/state\.safetensors: the training's state cannot be read")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("device", ["cuda:99", "mps"])
@pytest.mark.parametrize("command", ["check", "train", "predict"])
def test_a_device_that_is_not_there(
    command: str,
    device: str,
    tmp_path: Path,
    trained: Path,
    unetseg: Run,
    untouched: Callable[[], None],
) -> None:
    corpus.write_cases(tmp_path / "data", 2)
    untouched()
    model = ("--model", trained) if command == "predict" else ()
    ended = unetseg(command, "data", "--device", device, *model)
    refused(ended, 5, f"{device}: no such device.*give --device cpu")


@pytest.mark.parametrize("model", corpus.MODELS, ids=lambda model: model.name)
def test_bad_models(
    model: corpus.BadModel,
    tmp_path: Path,
    trained: Path,
    unetseg: Run,
    untouched: Callable[[], None],
) -> None:
    shutil.copytree(trained / "model", tmp_path / "model")
    model.spoil(tmp_path / "model")
    corpus.write_good_scan(tmp_path / "a.nii.gz")
    untouched()
    ended = unetseg("predict", "a.nii.gz", "--model", "model", "--device", "cpu")
    refused(ended, 4, model.says)


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        ((), 4, "runs: no finished run.*--model"),
        (("--model", "gone"), 4, "gone: no trained model here .*--model RUN"),
        (("--model", "a.nii.gz"), 4, "a.nii.gz: no trained model here"),
        (("--model", "RUN", "--device", "toaster"), 2, "--device: no such device"),
        (("--model", "RUN", "--set", "decode.overlap=1"), 2, r"decode\.overlap: .*got 1"),
        (("--model", "RUN", "--set", "decode.mirror=perhaps"), 2, r"decode\.mirror: .*got perh"),
        (("--model", "RUN", "--set", "patch.batch=4"), 2, "patch.batch: cannot be changed"),
        (("--model", "RUN", "--set", "decode.overlaps=0.2"), 2, "did you mean decode.overlap"),
    ],
)
def test_bad_options_of_predict(
    options: tuple[str, ...],
    code: int,
    says: str,
    tmp_path: Path,
    trained: Path,
    unetseg: Run,
    untouched: Callable[[], None],
) -> None:
    corpus.write_good_scan(tmp_path / "a.nii.gz")
    untouched()
    given = [str(trained) if option == "RUN" else option for option in options]
    refused(unetseg("predict", "a.nii.gz", *given), code, says)


@pytest.mark.parametrize("bad", corpus.MASKS, ids=lambda bad: bad.name)
@pytest.mark.parametrize("command", [("evaluate", "data/labels"), ("measure", "data/images")])
def test_bad_masks_do_not_stop_the_good_ones(
    bad: corpus.BadMask,
    command: tuple[str, str],
    tmp_path: Path,
    unetseg: Run,
    untouched: Callable[[], None],
) -> None:
    _write_masks(tmp_path, bad)
    untouched()
    ended = unetseg(*command, "masks", "--json")
    assert ended.code == 1
    (line,) = [line for line in ended.lines if line.startswith("failed: ")]
    assert re.match(f"failed: c0: .*(?:{bad.says})", line)
    assert {json.loads(row)["case"] for row in ended.out.splitlines()} == {"c1", "c2"}


@pytest.mark.parametrize("bad", corpus.TABLES, ids=lambda bad: bad.name)
@pytest.mark.parametrize("command", [("evaluate", "data/labels"), ("measure", "data/images")])
def test_bad_tables_of_objects(
    bad: corpus.BadMask,
    command: tuple[str, str],
    tmp_path: Path,
    unetseg: Run,
    untouched: Callable[[], None],
) -> None:
    _write_masks(tmp_path, bad)
    untouched()
    ended = unetseg(*command, "masks", "--json", "--objects")
    assert ended.code == 1
    (line,) = [line for line in ended.lines if line.startswith("failed: ")]
    assert re.match(f"failed: c0: .*c0_objects.csv: .*(?:{bad.says})", line)


def _write_masks(folder: Path, bad: corpus.BadMask) -> None:
    """Three cases and a good mask for each but c0."""
    corpus.write_cases(folder / "data", 3)
    (folder / "masks").mkdir()
    for path in sorted((folder / "data" / "labels").iterdir()):
        shutil.copy(path, folder / "masks" / path.name.replace(".nii", "_seg.nii"))
    mask = folder / "masks" / "c0_seg.nii.gz"
    mask.unlink()
    bad.write(mask)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("evaluate", "data/labels", "data/labels", "--thresholds", "x"), 2, "--thresholds: not"),
        (("evaluate", "data/labels", "data/labels", "--thresholds", "1"), 2, "not a threshold"),
        (("evaluate", "data/labels", "data/labels", "--thresholds", ","), 2, "no thresholds"),
        (
            ("evaluate", "data/labels", "data/labels", "--objects", "--merge-labels"),
            2,
            "objects are matched whatever their values",
        ),
        (("measure", "data/images", "data/labels/c0.nii.gz"), 2, "a file and a folder cannot"),
        (("measure", "gone", "data/labels"), 3, "gone: does not exist"),
        (("measure", "data/images", "empty"), 3, "empty: no masks in this folder"),
        (("measure", "data/images"), 2, "see `unetseg --help`"),
    ],
)
def test_bad_options_of_evaluate_and_measure(
    arguments: tuple[str, ...],
    code: int,
    says: str,
    tmp_path: Path,
    unetseg: Run,
    untouched: Callable[[], None],
) -> None:
    corpus.write_cases(tmp_path / "data", 2)
    (tmp_path / "empty").mkdir()
    untouched()
    refused(unetseg(*arguments), code, says)


@pytest.mark.parametrize("arguments", [("fit",), ("train",), ("predict",), ("check", "a", "b")])
def test_bad_commands(arguments: tuple[str, ...], unetseg: Run) -> None:
    refused(unetseg(*arguments), 2, "see `unetseg --help`")


def test_what_is_good_is_not_refused(tmp_path: Path, unetseg: Run) -> None:
    """The negative twin: the corpus' own good data pass the same commands."""
    corpus.write_cases(tmp_path / "volumes")
    corpus.write_pictures(tmp_path / "pictures")
    for data in ("volumes", "pictures"):
        ended = unetseg("check", data, "--device", "cpu")
        assert ended.code == 0
        assert not any(line.startswith("error") for line in ended.lines)
