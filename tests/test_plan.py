"""The plan: exact for what is stored, and advice when it does not fit."""

import jax
import pytest

from qface_jax import plan
from qface_jax.launch import main
from small_run import small

DEVICES = 8


@pytest.fixture(scope="module", autouse=True)
def types_as_users_have_them():
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def found():
    return plan.plan(small("total_steps=7"), num_classes=4000, images=100)


def test_what_is_stored_is_exact(found):
    rows = 4096  # 4,000 classes, padded to a multiple of 512
    centres = rows // DEVICES * 16 * 4
    assert found.items["class centres"] == centres
    assert found.items["class centres' optimizer state"] == centres
    assert found.items["batch"] == 16 // DEVICES * (112 * 112 * 3 + 4)
    # Adam keeps two moments where SGD keeps one.
    adam = plan.plan(small("optim.name=adam"), num_classes=4000, images=100)
    assert adam.items["class centres' optimizer state"] == 2 * centres


def test_the_peak_holds_all_items(found):
    stored = sum(v for name, v in found.items.items() if "temporary" not in name)
    temporary = sum(v for name, v in found.items.items() if "temporary" in name)
    assert stored + temporary <= found.peak
    # A few scalars beside the items: step, statistics, metrics.
    assert found.peak < stored + temporary + 64 * 1024
    assert (found.batch_size, found.total_steps) == (16, 7)


def test_partial_fc_needs_less_where_classes_dominate():
    many = 400_000
    full = plan.plan(small(), num_classes=many, images=100)
    part = plan.plan(small("classifier.sample_rate=0.1"), num_classes=many, images=100)
    name = "logits and centre gradients, temporary"
    assert part.items[name] < 0.5 * full.items[name]
    assert part.items["class centres"] == full.items["class centres"]
    assert part.peak < full.peak


def test_more_devices_do_not_grow_the_class_side(monkeypatch):
    from qface_jax import parallel

    meshes = {n: parallel.make_mesh(jax.devices()[:n]) for n in (2, 8)}
    sizes = {}
    for devices, mesh in meshes.items():
        monkeypatch.setattr(parallel, "make_mesh", lambda mesh=mesh: mesh)
        sizes[devices] = plan.plan(small(), num_classes=200_000, images=100).items
    assert sizes[8]["class centres"] * 4 == pytest.approx(sizes[2]["class centres"])
    name = "logits and centre gradients, temporary"
    assert sizes[8][name] < sizes[2][name]


def test_advice_says_what_to_change(found):
    config = small()
    assert plan.advice(found, config, found.peak) == []
    lines = plan.advice(found, config, found.peak // 2)
    assert lines[0].startswith("does not fit: ")
    assert any("more --devices" in line for line in lines)
    assert any("--config.model.remat=true" in line for line in lines)


def test_the_command_says_whether_it_fits(monkeypatch, capsys):
    # The tests' process has its devices already; the command asks for as many.
    arguments = ["plan", "--config=demo", f"--devices={DEVICES}", "--classes=1000"]
    arguments += ["--config.model.backbone=tiny", "--batch-per-device=2"]
    assert main.main(arguments) == 0
    assert "fits into 80 GiB per device" in capsys.readouterr().out
    assert main.main([*arguments, "--memory=0.001"]) == 3
    assert "does not fit" in capsys.readouterr().out
    assert main.main(["plan", "--config=demo", "--devices=0", "--classes=9"]) == 2
    assert "--devices: got 0, must be > 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("count", "text"), [(12, "12 B"), (2048, "2 KiB"), (3 << 30, "3.00 GiB")]
)
def test_sizes_read_well(count, text):
    assert plan.size(count) == text
