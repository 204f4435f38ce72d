"""What can be said of the container without building it; docker/verify.sh builds and uses it."""

import fnmatch
import json
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUNTIME = PROJECT["project"]["dependencies"]
LOCKS = {
    "requirements.lock": RUNTIME,
    "requirements-cpu.lock": RUNTIME,
    "build.lock": PROJECT["build-system"]["requires"],
}
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}(?= |$)")


def instructions(text: str) -> list[tuple[str, str]]:
    """(name, arguments) of each instruction, continued lines joined."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in joined.split("\n"))]


DOCKERFILE = instructions((ROOT / "Dockerfile").read_text())
FINAL = DOCKERFILE[max(i for i, (name, _) in enumerate(DOCKERFILE) if name == "FROM") :]


def only(name: str) -> str:
    """Arguments of the single instruction of that name in the final stage."""
    (found,) = [rest for each, rest in FINAL if each == name]
    return found


def pins(text: str) -> dict[str, str]:
    """Package -> version. Raises ValueError for what pip would install unpinned or unchecked."""
    found = {}
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        pinned = re.match(r"([A-Za-z0-9._-]+)==(\S+) ", line)
        if not pinned or not HASH.search(line):
            raise ValueError(f"not pinned with a hash: {line}")
        found[canonicalize_name(pinned[1])] = pinned[2]
    return found


def uncovered(requirements: list[str], locked: dict[str, str]) -> list[str]:
    """The requirements that no pin meets."""
    wanted = [Requirement(each) for each in requirements]
    return [
        str(each)
        for each in wanted
        if (version := locked.get(canonicalize_name(each.name))) is None
        or not each.specifier.contains(version)
    ]


@pytest.mark.parametrize("name", LOCKS)
def test_lock_covers_every_dependency(name):
    assert uncovered(LOCKS[name], pins((ROOT / "docker" / name).read_text())) == []


def test_a_missing_or_too_old_dependency_would_be_noticed():
    assert uncovered(["torch>=2.8", "Pillow>=10"], {"torch": "2.7.1"}) == [
        "torch>=2.8",
        "Pillow>=10",
    ]
    assert uncovered(["torch>=2.8", "Pillow>=10"], {"torch": "2.13.0+cpu", "pillow": "10.4"}) == []


@pytest.mark.parametrize(
    "line",
    [
        "torch==2.13.0",
        "torch==2.13.0 --hash=sha256:abc",
        f"torch>=2.13.0 --hash=sha256:{64 * 'a'}",
        f"torch==2.13.0 \\\n    # --hash=md5:{32 * 'a'}",
        "--find-links wheels",
    ],
)
def test_a_line_without_pin_or_hash_would_be_noticed(line):
    assert pins(f"numpy==2.0 \\\n    --hash=sha256:{64 * 'a'}") == {"numpy": "2.0"}
    with pytest.raises(ValueError, match="not pinned with a hash"):
        pins(line)


@pytest.mark.parametrize("name", LOCKS)
def test_lock_names_no_host_and_no_path(name):
    text = (ROOT / "docker" / name).read_text()
    assert not re.search(r"://|\.(org|com|io)\b|^--|[ =]/", text, re.MULTILINE)


def test_the_locks_differ_in_torch_and_its_gpu_libraries_only():
    gpu = pins((ROOT / "docker" / "requirements.lock").read_text())
    cpu = pins((ROOT / "docker" / "requirements-cpu.lock").read_text())
    assert cpu.pop("torch") == gpu.pop("torch") + "+cpu"
    assert cpu.items() <= gpu.items()
    assert all(name.startswith(("nvidia-", "cuda-", "triton")) for name in gpu.keys() - cpu.keys())
    assert "nvidia-cudnn-cu13" in gpu


def test_image_is_used_as_a_stranger_and_ends_on_interrupt():
    user, group = only("USER").split(":")
    assert int(user) > 0
    assert int(group) > 0
    assert json.loads(only("ENTRYPOINT")) == ["unetseg"]
    assert only("WORKDIR") == "/data"
    assert only("STOPSIGNAL") == "SIGINT"


def test_every_index_install_is_by_hash_and_the_source_comes_last():
    installs = [rest for name, rest in DOCKERFILE if name == "RUN" and "pip install" in rest]
    assert len(installs) == 3
    assert all("--require-hashes" in each or "--no-index" in each for each in installs)
    order = " ".join(rest for _, rest in FINAL)
    assert 0 < order.index("--require-hashes") < order.index("from=wheel")


def test_only_what_is_copied_reaches_the_build():
    first, *rest = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if not line.startswith("#")
    ]
    assert first == "*"
    let_in = [line[1:] for line in rest if line.startswith("!")]
    sources = {"docker/requirements.lock", "docker/requirements-cpu.lock"}
    for name, arguments in DOCKERFILE:
        if name == "COPY" and "$" not in arguments:
            sources.update(arguments.split()[:-1])
    assert {"pyproject.toml", "README.md", "LICENSE", "unetseg", "docker/build.lock"} < sources
    for source in sources:
        assert any(fnmatch.fnmatch(source, pattern) for pattern in let_in), source
    for pattern in let_in:
        assert any(fnmatch.fnmatch(source, pattern) for source in sources), pattern
