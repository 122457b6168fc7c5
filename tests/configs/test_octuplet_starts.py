"""The octuplet paper's baselines as the text has them, and its margins by batch."""

import pytest

from qface_jax.configs import octuplet_starts
from qface_jax.settings import config as configs

SHIPPED = configs.shipped()


@pytest.mark.parametrize("name", octuplet_starts.CONFIGS)
def test_each_is_valid(name):
    words = [] if "demo" in name else ["--config.data.path=somewhere"]
    assert configs.load(name, words).is_locked


@pytest.mark.parametrize(
    ("name", "backbone"),
    [("octuplet_start_r50", "resnet50"), ("octuplet_start_mobilenet", "mobilenet_v2")],
)
def test_the_starts_are_of_arcface(name, backbone):
    config = SHIPPED[name]()
    assert config.model.backbone == backbone
    assert (config.model.embedding_dim, config.loss.margin) == (512, "arcface")
    assert (config.loss.arcface.margin, config.loss.scale) == (0.5, 64.0)
    assert (config.objective, config.degrade.recipe) == ("classification", "clean")


def test_half_of_a_batch_is_degraded_in_bt_m_and_each_image_in_st_m():
    plain, batch, siamese = (
        SHIPPED[f"octuplet_starts_{name}"]() for name in ("arcface", "btm", "stm")
    )
    assert batch.degrade.resolution.probability == 0.5
    assert (batch.objective, batch.data.batch_size) == (
        "classification",
        plain.data.batch_size,
    )
    assert siamese.degrade.resolution.probability == 1.0
    assert siamese.objective == "siamese"
    assert 2 * siamese.data.batch_size == plain.data.batch_size
    for config in (batch, siamese):
        assert config.degrade.resolution.sides == (7, 14, 28)


def test_figure_4_holds_the_papers_choice():
    rows = {
        (config.octuplet.margin, config.data.batch_size)
        for name, make in SHIPPED.items()
        if name.startswith("octuplet_margins_")
        for config in [make()]
    }
    margins, batches = zip(*rows, strict=True)
    assert (25.0, 256) in rows and len(rows) == 24
    assert (min(margins), max(margins)) == (1.0, 500.0)
    # "Batches containing less than 64 samples lead to even worse accuracy".
    assert (min(batches), max(batches)) == (64, 256)
    chosen = SHIPPED["octuplet_margins_m25_b256"]()
    assert chosen.to_dict() == SHIPPED["octuplet_r50"]().to_dict()
