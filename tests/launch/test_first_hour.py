"""docs/first_hour.md as a newcomer follows it: its commands, in an empty folder."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

import qface_jax
from qface_jax.data_pipelines.synthetic import faces, parameters

PAGE = Path(__file__).parents[2] / "docs" / "first_hour.md"
TEXT = PAGE.read_text(encoding="utf-8")
COMMANDS = [
    line
    for block in re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
]
PEOPLE, EACH, SIDE = 20, 10, 250
FACE, CORNER = 140, (55, 49)  # px of a face, and where it lies on a photograph
ENDINGS = (".jpg", ".png", ".webp", ".bmp")
# Beginning of a command -> what it must print.
PRINTED = {
    "qface data inspect": (
        "images: 200", "left_out: .txt 1, .pdf 1, beside", "faults: broken 1",
    ),
    "qface data align": ("199 of 200 photographs aligned", "1 unreadable"),
    "qface data pairs": ("200 pairs of 4 people",),
    "qface train --config=finetune_small": (
        "on 159 images of 16 identities", "before: pairs mean_cross",
        "accuracy before and after", "report: mine/report.html",
    ),
    "qface eval": ("200 pairs (100 same, 100 different)", "mine/eval/pairs.json"),
    "qface report": ("mine/report.html",),
    "qface embed": ("features: faces.npz",),
    "qface compare": ("FMR (95 % interval)", "own size"),
    "qface export": ("face.onnx: ONNX", "faces, by 8", "embedding", "norm"),
}  # fmt: skip


def write_photographs(folder):
    """Drawn faces on photographs, and what lies about in such folders."""
    people, numbers = np.divmod(np.arange(PEOPLE * EACH), EACH)
    drawn = faces.draw(0, parameters.EVALUATION_DOMAIN, people, numbers)
    for person, number, face in zip(people, numbers, drawn, strict=True):
        photograph = Image.new("RGB", (SIDE, SIDE), (140, 120, 100))
        large = Image.fromarray(face).resize((FACE, FACE), Image.Resampling.BICUBIC)
        photograph.paste(large, CORNER)
        file = folder / f"person_{person:02d}" / f"photo_{number}"
        file.parent.mkdir(parents=True, exist_ok=True)
        photograph.save(file.with_suffix(ENDINGS[number % len(ENDINGS)]))
    (folder / "readme.txt").write_text("holidays")
    (folder / "person_00" / "names.txt").write_text("who is who")
    (folder / "person_03" / "scan.pdf").write_bytes(b"%PDF-1.4")
    broken = folder / "person_02" / "photo_0.jpg"
    broken.write_bytes(broken.read_bytes()[:2000])


def environment(home):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    changes = {"PATH": path, "HOME": str(home), "JAX_PLATFORMS": "cpu"}
    return {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | changes


def test_the_page_has_a_command_for_each_step():
    for beginning in PRINTED:
        assert sum(line.startswith(beginning) for line in COMMANDS) == 1, beginning


@pytest.mark.slow
def test_its_commands_lead_to_a_model_in_use(tmp_path):
    (tmp_path / "home").mkdir()
    folder = tmp_path / "hour"
    write_photographs(folder / "photos")
    for command in COMMANDS:
        start = time.monotonic()
        done = subprocess.run(
            ["bash", "-c", command], cwd=folder, env=environment(tmp_path / "home"),
            capture_output=True, text=True, timeout=1500,
        )  # fmt: skip
        output = done.stdout + done.stderr
        # Shown by pytest -s, for the page.
        print(f"$ {command}\n{output}[{time.monotonic() - start:.0f} s]")
        assert done.returncode == 0, f"{command}\n{output}"
        for beginning, texts in PRINTED.items():
            if command.startswith(beginning):
                for text in texts:
                    assert text in output, f"{command}\n{output}"
    embedded = qface_jax.read_embeddings(folder / "faces.npz")
    assert embedded.features.shape[0] == 40 and embedded.ok.all()
    session = onnxruntime.InferenceSession(folder / "face.onnx")
    faces_there = sorted((folder / "test").rglob("*.png"))[:2]
    pixels = np.stack([np.asarray(Image.open(path)) for path in faces_there])
    lengths = np.linalg.norm(session.run(["embedding"], {"images": pixels})[0], axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-5)
    run = folder / "mine"
    assert (run / "report.html").stat().st_size > 100_000
    before, after = (
        json.loads((place / "eval" / "pairs.json").read_text())["scalars"]["mean_cross"]
        for place in (run / "before", run)
    )
    assert after > before  # by some points; chance is 0.5
