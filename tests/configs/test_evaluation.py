"""The shipped evaluations see pictures as the benchmarks are published."""

import pytest

from qface_jax.data_pipelines.sets.pair_sets import PUBLISHED
from qface_jax.evals import eval_settings
from qface_jax.settings import config as configs


@pytest.mark.parametrize(
    ("name", "protocol", "sets", "resize"),
    [
        ("eval_tinyface", "tinyface", ("aligned",), "crop"),
        ("eval_tinyface_raw", "tinyface", ("raw",), "stretch"),
        ("eval_survface", "survface", ("all",), "stretch"),
    ],
)
def test_what_a_run_is_evaluated_with(name, protocol, sets, resize):
    trained = configs.load("demo")
    assert trained.data.resize == "crop"
    config = configs.override(trained, ["--config.eval.path=/x"], eval_from=name)
    assert (config.eval.protocol, config.eval.sets) == (protocol, sets)
    settings = eval_settings.settings(config, protocol)
    assert settings.resize == resize and settings.flip and settings.path == "/x"
    assert settings.options["ties"] == "pessimistic"


def test_lists_in_the_layouts_of_their_authors():
    config = configs.load("eval_agedb_cfp")
    assert config.eval.protocol == "verification"
    assert set(config.eval.sets) == set(PUBLISHED) and config.eval.folds == 0
