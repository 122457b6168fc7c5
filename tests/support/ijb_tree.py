"""IJB-B and IJB-C trees on disk: recorded lists, miniatures, drawn ones."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from qface_jax.data_pipelines.stream.alignment import template as template_of_face
from support.image_files import encoded, noise
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
    _write(path, change(lines))


def drawn_tree(folder, *, subjects, images):
    """Returns the folder of a small IJB-C: IJBC in the layout of the published one.

    Each subject has a template in one of the galleries and two among the probes. There
    are few pictures, under many names; landmarks of their own make each crop another.

    Args:
        folder: to write to.
        subjects: count.
        images: of each template, two of a medium.
    """
    root, rng = Path(folder) / NAMES["ijbc"], np.random.default_rng(5)
    (root / "loose_crop").mkdir(parents=True)
    (root / "meta").mkdir()
    pictures = [encoded(noise(64, 64, seed), "JPEG") for seed in range(subjects)]
    lines = {name: [] for name in ("name_5pts_score", "face_tid_mid")}
    header = "TEMPLATE_ID,SUBJECT_ID,FILENAME"
    lists = {name: [header] for name in ("gallery_G1", "gallery_G2", "probe_mixed")}
    gallery, probes = [], []
    for subject in range(subjects):
        for kind in range(3):
            template = 3 * subject + kind + 1
            (probes if kind else gallery).append((template, subject))
            which = "probe_mixed" if kind else f"gallery_G{1 + subject % 2}"
            for shot in range(images):
                name = f"{template * images + shot}.jpg"
                (root / "loose_crop" / name).write_bytes(pictures[subject])
                points = (template_of_face() * 64 / 112 + rng.normal(size=(5, 2))).flat
                shown = " ".join(f"{point:.3f}" for point in points)
                lines["name_5pts_score"].append(f"{name} {shown} {rng.random():.3f}")
                lines["face_tid_mid"].append(f"{name} {template} {shot // 2}")
                lists[which].append(f"{template},{subject},img/{name}")
    lines["template_pair_label"] = [
        f"{one} {other} {int(of_one == of_other)}"
        for one, of_one in gallery
        for other, of_other in probes
    ]
    for name, of_file in lines.items():
        _write(root / "meta" / f"ijbc_{name}.txt", of_file)
    for name, of_file in lists.items():
        _write(root / "meta" / f"ijbc_1N_{name}.csv", of_file)
    return root


def _write(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines))
