"""The plan of a fine-tuning: data and the run to start from need not be there."""

import pytest

from qface_jax.launch import main
from qface_jax.planning import plan
from support.user_types import types_as_users_have_them  # noqa: F401

DEVICES, ROWS, DIM = 8, 16, 16
# The tests' process has its devices already; the command asks for as many.
COMMAND = ["plan", "--config=octuplet_small", f"--devices={DEVICES}",
           "--classes=1000", "--batch-per-device=2"]  # fmt: skip


@pytest.fixture(scope="module")
def planned():
    """What the command says and prints, and the plan itself; compiled once."""
    found, said, make = [], [], plan.plan

    def kept(*args, **kwargs):
        found.append(make(*args, **kwargs))
        return found[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "plan", kept)
        patch.setattr(
            "builtins.print",
            lambda *words, file=None, **_: None if file else said.extend(words),
        )
        tiny = ["--config.model.backbone=tiny", f"--config.model.embedding_dim={DIM}"]
        assert main.main([*COMMAND, *tiny]) == 0
    return "\n".join(said), found[0]


def test_the_command_says_what_is_planned(planned):
    said, _ = planned
    assert said.startswith("tiny (float32), octuplet, 8 devices\n")
    assert "global batch 16 images, 300 steps" in said
    assert "fits into 80 GiB per device" in said


def test_without_a_backbone_it_says_how_to_name_one(capsys):
    assert main.main(COMMAND) == 2
    said = capsys.readouterr().err
    assert "init_from takes the model of another run" in said
    assert "elsewhere name a backbone" in said


def test_the_original_is_counted_and_there_are_no_classes(planned):
    _, found = planned
    assert found.items["class centres"] == 0
    # Parameters and statistics of the original, once more.
    assert found.items[plan.STATE] == found.items["backbone parameters and statistics"]
    assert found.items["batch"] == ROWS // DEVICES * (2 * 112 * 112 * 3 + 4)
    stored = sum(v for name, v in found.items.items() if "temporary" not in name)
    temporary = sum(v for name, v in found.items.items() if "temporary" in name)
    assert stored + temporary <= found.peak < stored + temporary + 64 * 1024
    # What mining needs of the other devices: the features of both views.
    gathered = 2 * ROWS * DIM * 4 * (DEVICES - 1) // DEVICES
    assert gathered <= found.class_side.traffic["all-gather"] < 2 * gathered
