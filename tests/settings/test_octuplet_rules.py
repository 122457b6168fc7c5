"""Keys of the config that came with fine-tuning: their types, ranges and conflicts."""

import pytest

from qface_jax.configs import base, document
from qface_jax.errors import ConfigError
from qface_jax.settings import config as configs

PAIRS = ("objective=octuplet", "degrade.recipe=octuplet")


def load(*words):
    return configs.load("demo", [f"--config.{word}" for word in words])


def problems(*words):
    with pytest.raises(ConfigError) as error:
        load(*words)
    return str(error.value).splitlines()[1:]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("backbone/layer1_=0", ("backbone/layer1_=0",)),
        ("backbone/layer[12]_=0.1", ("backbone/layer[12]_=0.1",)),
        ("('backbone/layer[12]_=0','backbone/fc=10')",
         ("backbone/layer[12]_=0", "backbone/fc=10")),
        ("['backbone/a=b=1e-3']", ("backbone/a=b=1e-3",)),
        ("()", ()),
    ],
)  # fmt: skip
def test_rate_factors_on_the_command_line(text, value):
    config = load(f"optim.rate_factors={text}")
    assert config.optim.rate_factors == value
    again = document.from_dict(document.to_dict(config))
    assert again.optim.rate_factors == value
    assert document.differences(config, again) == []


@pytest.mark.parametrize("word", ["backbone", "backbone=", "=1", "a=-1", "a=inf",
                                  "a=nan", "a=x", "[=1", ""])  # fmt: skip
def test_rate_factors_that_say_nothing(word):
    (problem,) = problems(f"optim.rate_factors=({word!r},)")
    assert problem.strip().startswith(f"optim.rate_factors: got {word!r}, expected")
    assert "PATTERN=FACTOR" in problem


def test_rate_factors_are_texts():
    (problem,) = problems("optim.rate_factors=(1,)")
    assert "optim.rate_factors: got (1,), expected tuple" in problem


def test_octuplet_goes_with_its_own_recipe():
    assert load(*PAIRS).objective == "octuplet"
    for words in (PAIRS[:1], PAIRS[1:], ("objective=qgface", PAIRS[1])):
        (problem,) = problems(*words)
        assert "degrade.recipe: got" in problem
        assert "takes pairs of images goes with octuplet or another" in problem


def test_a_batch_of_pairs_is_even():
    (problem,) = problems(*PAIRS, "data.batch_size=63")
    assert "data.batch_size: got 63, must be even" in problem
    assert load("data.batch_size=63").data.batch_size == 63


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("model.input_mean=(1,2)", "(1, 2), must be three finite numbers: R, G, B"),
        ("model.input_mean=128", "(128,), must be three finite numbers"),
        ("model.input_mean=(1e999,0,0)", "must be three finite numbers"),
        ("model.input_mean=('a','b','c')", "expected tuple"),
        ("model.input_std=(1,0,1)", "must be three finite numbers > 0"),
        ("model.input_std=(1,-2,1)", "must be three finite numbers > 0"),
        ("model.input_std=(1,1)", "must be three finite numbers > 0"),
        ("model.color_order=GBR", "got 'GBR', must be RGB or BGR"),
        ("model.freeze_batch_norm=1", "got 1, expected bool"),
        ("model.backbone=vgg", "must be one of "),
        ("octuplet.metric=l1", "must be euclidean, euclidean_squared or cosine"),
        ("octuplet.margin=-1", "must be >= 0"),
        ("octuplet.terms=()", "must be one or more of hhh, hll, lhh, lll"),
        ("octuplet.terms=('hhh','hhh')", "each once"),
        ("octuplet.terms=hlh", "must be one or more of"),
        ("octuplet.normalize=yes", "got 'yes', expected bool"),
        ("octuplet.keep_high_weight=-1", "must be >= 0"),
        ("octuplet.keep_low_weight=1e999", "must be >= 0 and finite"),
        ("degrade.octuplet.sides=(0,)", "must be sides in px within 1..112"),
        ("degrade.octuplet.sides=()", "must be sides in px"),
        ("degrade.octuplet.brightness=1.5", "must be within [0, 1]"),
        ("degrade.octuplet.saturation=-0.1", "must be within [0, 1]"),
        ("degrade.octuplet.flip_probability=2", "must be within [0, 1]"),
        ("degrade.octuplet.jpeg_quality=(90,60)", "must be (low, high)"),
        ("optim.eps=0", "must be > 0"),
        ("optim.name=adadelta", "must be one of adagrad, adam, adamw, sgd"),
    ],
)
def test_what_is_wrong_is_said(word, says):
    (problem,) = problems(word)
    assert problem.strip().startswith(word.partition("=")[0])
    assert says in problem


@pytest.mark.parametrize(
    ("text", "value"),
    [("lll", ("lll",)), ("('hll','lhh')", ("hll", "lhh"))],
)
def test_terms_on_the_command_line(text, value):
    assert load(*PAIRS, f"octuplet.terms={text}").octuplet.terms == value


def test_colours_are_kept_as_given():
    config = load("model.input_mean=(123.675,116.28,103.53)", "model.color_order=BGR")
    assert config.model.input_mean == (123.675, 116.28, 103.53)
    assert document.from_dict(document.to_dict(config)).model == config.model


def with_graph(graph):
    config = base.get_config()
    config.model.graph = graph
    return config


def test_differences_do_not_print_a_packed_graph():
    one, other = with_graph("a" * 50_000), with_graph("a" * 49_999 + "b")
    (line,) = document.differences(one, other)
    assert line.startswith("model.graph: was 'aaaaaaaa")
    assert len(line) < 250
    was, now = line.split(", now ")
    assert "... (50,002 characters, hash " in was
    assert now != was.removeprefix("model.graph: was ")
    assert document.differences(one, with_graph("a" * 50_000)) == []
    (line,) = document.differences(one, with_graph(""))
    assert line.endswith(", now ''")


def test_a_long_path_is_printed_whole():
    one, other = base.get_config(), base.get_config()
    other.data.path = "/data/" + "folder/" * 20
    (line,) = document.differences(one, other)
    assert line == f"data.path: was '', now {other.data.path!r}"


def test_a_long_text_that_is_no_utf_8_is_shortened():
    assert document.shortened("\udcff" * 300).startswith(
        "\udcff" * 60 + "... (300 char"
    )
