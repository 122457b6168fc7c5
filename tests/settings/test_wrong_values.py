"""Every key of a config with values that are wrong for its type: none is taken."""

import pytest

from qface_jax import options
from qface_jax.configs import base
from qface_jax.errors import ConfigError
from qface_jax.settings import config as configs

KEYS = options.flatten(base.keys())
NESTED = ("(" * 300, "1+" * 9000 + "1", "[" * 5000 + "]" * 5000)
NUMBERS = (
    "",
    "many",
    "None,",
    "1e999",
    "-1e999",
    "nan",
    "9" * 26,
    "-" + "9" * 26,
    "9" * 5000,
    "0x" + "f" * 5000,
    "\0",
    "1\0",
    "\x1b[31m1",
    "true",
    "'1'",
    "b'1'",
    "1j",
    "...",
    "{}",
    "{1: 2}",
    "[]",
    "(1, 2)",
    "((),)",
    *NESTED,
)
CONTROLS = ("\0", "\x1b", "\n", "\r", "\x7f", "\x9b")
TEXTS = (
    "\ud800",
    "a\ud800",
    *(text for c in CONTROLS for text in (c, f"{c}a", f"a{c}", f"a{c}b")),
)
WRONG = {
    int: (*NUMBERS, "1.5", "-0.5", "1e3", "2147483648"),
    float: (*NUMBERS, "2147483648.0", "1e300", "-1e300"),
    bool: (*(n for n in NUMBERS if n != "true"), "0", "1", "yes", "1.0"),
    str: TEXTS,
}
TUPLES = {
    str: (
        *("1", "1.5", "(1,)", "('a', 1)", "('a', ('b',))", "{}", "None", "..."),
        *(repr((text,)) for text in (*CONTROLS, "\ud800")),
    ),
    float: (*(n for n in NUMBERS if n not in ("[]", "(1, 2)")), "('a',)", "(1, None)"),
}


def wrong_values(option):
    if option.type is tuple:
        return TUPLES[str if option.kind is str else float]
    return WRONG[option.type]


MOST = max(len(wrong_values(option)) for option in KEYS.values())


@pytest.mark.parametrize("turn", range(MOST))
def test_wrong_values_are_refused_by_name_in_a_printable_line(turn):
    """All keys at once, each with one of its wrong values: each is reported."""
    given = {path: wrong_values(option) for path, option in KEYS.items()}
    assert all(len(values) >= 12 for values in given.values())
    given = {path: values[turn % len(values)] for path, values in given.items()}
    with pytest.raises(ConfigError) as error:
        configs.load("demo", [f"--config.{path}={given[path]}" for path in given])
    lines = str(error.value).splitlines()
    said = {line.strip().partition(":")[0] for line in lines}
    assert not {path: given[path] for path in given if path not in said}
    assert all(len(line) < 1000 and line.isprintable() for line in lines)


@pytest.mark.parametrize(
    "word",
    [
        "--config.a\x1b[31mb=1",
        "--config.=1",
        f"--config.{'a.' * 5000}b=1",
        "--config.model=1",
        "--config.model.__class__=1",
        "--config.__class__=1",
        "--config.seed",
        "--seed\0=1",
        "--config.seed.more=1",
    ],
)
def test_wrong_keys_are_refused_in_a_few_printable_lines(word):
    with pytest.raises(ConfigError) as error:
        configs.load("demo", [word])
    said = str(error.value)
    assert "unknown key" in said or "expected --config.key=value" in said
    assert len(said) < 1000
    assert said.replace("\n", "").isprintable()


def test_the_largest_number_is_taken():
    config = configs.load("demo", ["--config.total_steps=2147483647"])
    assert config.total_steps == 2**31 - 1
