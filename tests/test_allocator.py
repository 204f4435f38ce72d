"""Memory that is given back and asked for again: kept by the C library, where that is glibc."""

import os
import platform
import subprocess
import sys

import pytest

# Blocks as large as a network's maps, taken and given back in turns: how many pages that takes.
PROGRAM = """
import resource, sys
import torch
from unetseg.allocator import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory(64 << 20)
def work():
    for _ in range(20):
        maps = [torch.ones(1 << 20) for _ in range(8)]
        del maps
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages(word: str, **environment: str) -> int:
    chosen = {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"}
    plain = {name: value for name, value in os.environ.items() if name not in chosen}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, word],
        env={**plain, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone")
def test_pages_are_not_asked_for_again() -> None:
    assert pages("keep") < 100
    # 32 megabytes, twenty times, in pages of four kilobytes; a person's own choice stays.
    usual = {"MALLOC_TRIM_THRESHOLD_": "131072", "MALLOC_MMAP_THRESHOLD_": "131072"}
    for word in ("keep", "not"):
        assert pages(word, **usual) > 100_000
