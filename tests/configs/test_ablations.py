"""The papers' numbers beside our tables: they agree with the means that are printed."""

import numpy as np
import pytest

from qface_jax.configs.ablations import ABLATIONS
from qface_jax.settings import config as configs


def rows(name):
    return [
        setting for setting in ABLATIONS[name].settings if None not in setting.paper
    ]


@pytest.mark.parametrize("name", ["octuplet1", "octuplet4", "octuplet4metric"])
def test_means_over_the_resolutions(name):
    for setting in rows(name):
        of_sides, mean = np.split(setting.paper[1:7], [5])
        np.testing.assert_allclose(of_sides.mean(), mean, atol=0.0101)


@pytest.mark.parametrize("name", ["qgface2", "qgface3"])
def test_means_over_the_sets_of_high_quality(name):
    for setting in rows(name):
        np.testing.assert_allclose(
            np.mean(setting.paper[6:]), setting.paper[5], atol=0.0101
        )


def test_octuplet_has_all_rows_of_table_4():
    assert len(rows("octuplet4")) == len(ABLATIONS["octuplet4"].settings) == 13
    terms = {
        configs.shipped()[f"octuplet_terms_{setting.config}"]().octuplet.terms
        for setting in rows("octuplet4")
    }
    assert len(terms) == 13
    assert sorted(map(len, terms)) == [1] * 4 + [2] * 4 + [3] * 4 + [4]


@pytest.mark.parametrize("name", ["adaface3", "adaface3webface4m"])
def test_means_of_adaface_over_the_sets_of_high_quality(name):
    for setting in ABLATIONS[name].settings:
        np.testing.assert_allclose(
            np.mean(setting.paper[:5]), setting.paper[5], atol=0.0101
        )


def of_paper(name):
    """Label -> the row's config at the paper's size."""
    table, shipped = ABLATIONS[name], configs.shipped()
    return {
        setting.label: shipped[f"{table.families['paper']}_{setting.config}"]()
        for setting in table.settings
    }


def test_adaface_1_varies_concentration_margin_and_proxy_on_one_part_of_the_data():
    rows_of_1 = of_paper("adaface1")
    keys = ("concentration", "margin", "proxy")
    got = {
        label: tuple(config.loss.adaface[key] for key in keys)
        for label, config in rows_of_1.items()
        if config.loss.margin == "adaface"
    }
    assert got == {
        "h 0.22": (0.22, 0.4, "norm"),
        "h 0.33": (0.333, 0.4, "norm"),
        "h 0.66": (0.66, 0.4, "norm"),
        "m 0.50": (0.333, 0.5, "norm"),
        "m 0.75": (0.333, 0.75, "norm"),
        "1-BRISQUE": (0.333, 0.4, "brisque"),
        "P_y": (0.333, 0.4, "probability"),
    }
    assert rows_of_1["CurricularFace"].loss.margin == "curricularface"
    for config in rows_of_1.values():
        data = config.data
        assert (data.subset, data.subset_of, data.subset_seed) == (1 / 6, "images", 0)
        assert (config.model.backbone, config.epochs) == ("ir_18", 26.0)


def test_adaface_2_varies_the_probability_of_all_three_augmentations():
    rows_of_2 = of_paper("adaface2")
    for label, config in rows_of_2.items():
        margin, p = label.split()
        group = config.degrade.adaface
        assert config.loss.margin == margin.lower()
        for step in ("crop", "rescale", "photometric"):
            assert group[f"{step}_probability"] == float(p)
        assert group.flip_probability == 0.5
        assert config.epochs == (24.0 if p == "0.0" else 26.0)
        assert config.optim.decay_epochs[-1] == config.epochs - 2
        assert (config.model.backbone, config.data.subset) == ("ir_50", 1.0)
    assert len(rows_of_2) == 6


@pytest.mark.parametrize("name", ["adaface3", "adaface3webface4m"])
def test_adaface_3_has_the_margin_of_each_label(name):
    for label, config in of_paper(name).items():
        assert config.loss.margin == label.lower()
        augmented = config.degrade.adaface.crop_probability > 0
        assert augmented == (label == "AdaFace")
        assert config.model.backbone == "ir_101"


@pytest.mark.parametrize("name", ABLATIONS)
def test_each_row_has_a_valid_config(name):
    table = ABLATIONS[name]
    for family in table.families.values():
        for setting in table.settings:
            words = ["--config.data.path=somewhere"] * (not family.count("demo"))
            configs.load(f"{family}_{setting.config}", words)
            assert len(setting.paper) == len(table.columns)
