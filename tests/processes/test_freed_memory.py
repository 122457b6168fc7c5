"""Freed memory goes back to the system, whatever the C library."""

import ctypes
import platform
from pathlib import Path

import numpy as np
import pytest

from qface_jax.processes import freed_memory


def resident():
    """MiB that this process holds."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of the GNU C library")
def test_freed_memory_is_given_back():
    # Too small to be mapped alone, and the last one stays: the heap cannot shrink.
    pieces = [np.ones(12_000) for _ in range(2_000)]
    kept = pieces[-1]
    before = resident()
    pieces.append(pieces)  # a cycle
    del pieces
    freed_memory.give_back()
    assert resident() < before - 150
    assert kept.all()


def test_another_c_library_is_no_error(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    freed_memory._trim.cache_clear()
    freed_memory.give_back()
    freed_memory._trim.cache_clear()
