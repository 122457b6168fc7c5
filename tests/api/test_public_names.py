"""What `import qface_jax` offers, and what it does not load."""

import importlib.resources
import inspect
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import qface_jax

ROOT = Path(__file__).parents[2]
HEAVY = "heavy = {'tensorflow', 'orbax', 'clu', 'matplotlib'} & set(sys.modules)\n"


def python(code):
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_every_public_name_is_there_and_described():
    for name in qface_jax.__all__:
        value = getattr(qface_jax, name)
        assert name in dir(qface_jax)
        assert name == "__version__" or inspect.getdoc(value)
    with pytest.raises(AttributeError, match="no attribute 'lode'; it has Embeddings"):
        qface_jax.lode  # noqa: B018


def test_every_public_function_says_its_types():
    assert importlib.resources.files("qface_jax").joinpath("py.typed").is_file()
    named = [getattr(qface_jax, name) for name in qface_jax.__all__]
    methods = [
        function
        for kind in named
        if inspect.isclass(kind)
        for name, function in vars(kind).items()
        if inspect.isfunction(function) and not name.startswith("_")
    ]
    for function in [*filter(inspect.isfunction, named), *methods]:
        parameters = set(inspect.signature(function).parameters) - {"self"}
        hints = typing.get_type_hints(function)
        assert hints.keys() == parameters | {"return"}, function


@pytest.mark.slow
def test_the_types_of_the_public_part_fit_together(tmp_path):
    words = ["--follow-imports=silent", "--ignore-missing-imports"]
    words += [f"--cache-dir={tmp_path}", "qface_jax/__init__.py", "qface_jax/api"]
    run = subprocess.run(
        [sys.executable, "-m", "mypy", *words], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_package_itself_imports_nothing():
    python(
        "import sys, qface_jax\n"
        "assert 'jax' not in sys.modules\n"
        "assert qface_jax.losses.__name__ == 'qface_jax.losses'\n"
    )


def test_losses_are_light():
    out = python(
        "import sys, time, jax, jax.numpy\n"
        "start = time.process_time()\n"
        "import qface_jax.losses.margin\n"
        "print(time.process_time() - start)\n"
        f"{HEAVY}"
        "assert not heavy, heavy\n"
    )
    assert float(out) < 1


def test_a_model_embeds_arrays_without_tensorflow(model_run):
    python(
        "import sys, numpy, qface_jax\n"
        f"model = qface_jax.load({str(model_run)!r})\n"
        "model.embed(numpy.zeros((2, 112, 112, 3), numpy.uint8))\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
