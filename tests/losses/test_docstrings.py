"""The examples in the docstrings of the kernels say what happens."""

import doctest
import importlib
import pkgutil

import pytest

from qface_jax import losses


def examples():
    for item in pkgutil.walk_packages(losses.__path__, "qface_jax.losses."):
        module = importlib.import_module(item.name)
        for name, function in vars(module).items():
            if getattr(function, "__module__", None) == module.__name__:
                for test in doctest.DocTestFinder(recurse=False).find(
                    function, f"{item.name}.{name}", module=False, globs=vars(module)
                ):
                    if test.examples:
                        yield test


@pytest.mark.parametrize("example", list(examples()), ids=lambda example: example.name)
def test_example(example):
    runner = doctest.DebugRunner()
    runner.run(example)
    assert runner.tries == len(example.examples)


def test_the_driver_for_pmap_has_an_example():
    assert "qface_jax.losses.mining.pmapped" in {test.name for test in examples()}
