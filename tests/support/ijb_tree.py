"""IJB-B and IJB-C trees on disk, of the recorded lists and of the miniatures."""

import os
import shutil
from pathlib import Path

import pytest

from support.protocol_goldens import FOLDER

NAMES = {"ijbb": "IJBB", "ijbc": "IJBC"}


def recorded_tree(benchmark, folder):
    """Returns the folder of a copy of the recorded lists, with empty images."""
    root = Path(folder) / NAMES[benchmark]
    shutil.copytree(FOLDER / "data" / NAMES[benchmark], root)
    (root / "loose_crop").mkdir()
    faces = root / "meta" / f"{benchmark}_name_5pts_score.txt"
    for line in faces.read_text().splitlines():
        (root / "loose_crop" / line.split()[0]).touch()
    return root


def miniatures():
    """Returns the folder of the miniature benchmarks, or skips the test."""
    default = Path(__file__).parents[3] / "shared" / "protocols"
    folder = Path(os.environ.get("QFACE_PROTOCOLS", default)) / "mini"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there: photographs are not in this repository")
    return folder


def edit(path, change):
    """Rewrites the lines of a file."""
    lines = path.read_text().splitlines()
    path.write_text("".join(f"{line}\n" for line in change(lines)))
