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


@pytest.mark.parametrize("name", ABLATIONS)
def test_each_row_has_a_valid_config(name):
    table = ABLATIONS[name]
    for family in table.families.values():
        for setting in table.settings:
            words = ["--config.data.path=somewhere"] * (not family.count("demo"))
            configs.load(f"{family}_{setting.config}", words)
            assert len(setting.paper) == len(table.columns)
