"""The blocks of README and docs: every command line names what exists, Python compiles."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main

from unetseg.cli import app

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = (README, *sorted((ROOT / "docs").glob("*.md")))
FENCE = re.compile(
    r"^(?P<fence>`{3,}|~{3,})[ \t]*(?P<language>\w*)[^\n]*\n(?P<code>.*?)^(?P=fence)", re.M | re.S
)
SHELL = {"sh", "bash", "shell", "console"}


@cache
def blocks(text: str) -> tuple[tuple[str, str], ...]:
    """Language and code of every fenced block."""
    return tuple((m["language"].lower(), m["code"]) for m in FENCE.finditer(text))


def command_lines(text: str) -> Iterator[str]:
    """Lines of shell blocks that call unetseg, prompts taken off, continued lines joined."""
    for language, code in blocks(text):
        if language in SHELL:
            for line in code.replace("\\\n", " ").splitlines():
                bare = line.strip().removeprefix("$ ")
                # In a pipe or a chain every part is a command of its own.
                for part in re.split(r"\s*(?:&&|\|\||;|\|)\s*", bare):
                    if part.split()[:1] == ["unetseg"]:
                        yield part


def problems(line: str) -> list[str]:
    """What in a command line does not exist."""
    words = shlex.split(line, comments=True)[1:]
    command: Any = typer.main.get_command(app)
    path: list[str] = []
    while hasattr(command, "commands"):
        flags = {name for param in command.params for name in param.opts} | {"--help", "-h"}
        of = f" of {' '.join(path)}" if path else ""
        while words and words[0].startswith("-"):
            flag = words.pop(0)
            if flag not in flags:
                return [f"no such option{of}: {flag}"]
        if not words:
            return []
        if words[0] not in command.commands:
            return [f"no such command{of}: {words[0]}"]
        command = command.commands[words[0]]
        path.append(words.pop(0))
    name, rest = " ".join(path), words
    options = {opt: p for p in command.params for opt in (*p.opts, *p.secondary_opts)}
    found = []
    values = 0
    for word in rest:
        if values:
            values -= 1
        elif word.startswith("-") and len(word) > 1:
            flag, equals, _ = word.partition("=")
            if flag in ("-h", "--help"):
                continue
            if flag not in options:
                found.append(f"no such option of {name}: {flag}")
            elif not equals and not options[flag].is_flag:
                values = options[flag].nargs
    if values:
        found.append(f"a value is missing at the end: {line}")
    return found


def lines_of_readme() -> list[str]:
    return list(command_lines(README.read_text(encoding="utf-8"))) if README.is_file() else []


def python_of_readme() -> list[str]:
    text = README.read_text(encoding="utf-8") if README.is_file() else ""
    return [code for language, code in blocks(text) if language in ("python", "py")]


def test_there_is_a_readme_with_commands() -> None:
    assert README.is_file()
    assert lines_of_readme(), "no shell block of the README calls unetseg"
    assert len(lines_of_pages()) > len(lines_of_readme())


def lines_of_pages() -> list[str]:
    return [line for page in PAGES for line in command_lines(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("line", lines_of_pages())
def test_every_command_line_names_what_exists(line: str) -> None:
    assert problems(line) == []


def test_every_block_has_a_language() -> None:
    assert all(language for language, _ in blocks(README.read_text(encoding="utf-8")))


def test_python_blocks_compile_and_import_what_exists() -> None:
    for code in python_of_readme():
        compile(code, "README.md", "exec")
        for line in re.findall(r"^\s*(from unetseg.* import .*|import unetseg.*)$", code, re.M):
            exec(compile(line.strip(), "README.md", "exec"), {})


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("unetseg train data/ -o run --time 10m --set training.epochs=2", []),
        ("unetseg predict 'scans/*.nii.gz' --overlay  # with a comment --odd", []),
        ("unetseg --debug check data", []),
        ("unetseg train --help", []),
        ("unetseg --version", []),
        ("unetseg train data --set=-x", []),
        ("unetseg weights list --json", []),
        ("unetseg weights fetch imagenet/resnet34", []),
        ("unetseg weights --help", []),
        ("unetseg learn data", ["no such command: learn"]),
        ("unetseg weights get x", ["no such command of weights: get"]),
        ("unetseg weights --json list", ["no such option of weights: --json"]),
        ("unetseg weights fetch x --force", ["no such option of weights fetch: --force"]),
        ("unetseg --quiet train data", ["no such option: --quiet"]),
        ("unetseg train data --epoch 3", ["no such option of train: --epoch"]),
        ("unetseg predict x -q -o out", ["no such option of predict: -q"]),
        (
            "unetseg train data --epochs",
            ["a value is missing at the end: unetseg train data --epochs"],
        ),
    ],
)
def test_the_check_itself(line: str, found: list[str]) -> None:
    assert problems(line) == found


def test_the_search_for_lines_itself() -> None:
    text = "\n".join(
        [
            "text unetseg none",
            "```sh",
            "unetseg train a \\",
            "    --epochs 2",
            "cd b && unetseg check . | less",
            "# unetseg not this",
            "```",
            "```text",
            "unetseg nor this",
            "```",
            "```console",
            "$ unetseg list skips",
            "```",
        ]
    )
    lines = [" ".join(line.split()) for line in command_lines(text)]
    assert lines == ["unetseg train a --epochs 2", "unetseg check .", "unetseg list skips"]
    assert [language for language, _ in blocks(text)] == ["sh", "text", "console"]


@pytest.mark.slow
def test_the_five_minutes_run_as_they_stand(tmp_path: Path) -> None:
    """The first steps of the README, typed into a shell; only the training is shorter."""
    code = next(code for _, code in blocks(README.read_text(encoding="utf-8")) if "sample/" in code)
    lines = [line for line in code.splitlines() if line.startswith("unetseg")]
    assert len(lines) == 5
    script = "\n".join(["set -e", *lines]).replace("--time 2m", "--time 20s")
    assert script.count("--time 20s") == 1
    program = Path(sys.executable).parent
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={"PATH": f"{program}:/usr/bin:/bin", "XDG_CACHE_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    tests = list((tmp_path / "sample" / "mr" / "test" / "images").iterdir())
    for scan in tests:
        stem = scan.name.removesuffix(".nii.gz")
        assert (tmp_path / "masks" / f"{stem}_seg.nii.gz").is_file()
        assert (tmp_path / "masks" / f"{stem}_overlay.png").is_file()
    rows = (tmp_path / "scores.csv").read_text().splitlines()
    assert len(rows) == 1 + 3 * len(tests)
