"""Face recognition on degraded images, trained in JAX.

What is public is in `__all__`. Importing the package imports nothing heavy: each name
is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qface_jax import losses, objectives
    from qface_jax.api.loading import load
    from qface_jax.api.model import Model
    from qface_jax.api.training_step import TrainingStep, make_step
    from qface_jax.inference.embeddings import Embeddings
    from qface_jax.inference.feature_file import read_embeddings

__version__ = "0.1.0"
__all__ = [
    "Embeddings",
    "Model",
    "TrainingStep",
    "__version__",
    "load",
    "losses",
    "make_step",
    "objectives",
    "read_embeddings",
]
# Name -> the module that has it; modules of the package are found by themselves.
_HOMES = {
    "Embeddings": "qface_jax.inference.embeddings",
    "Model": "qface_jax.api.model",
    "TrainingStep": "qface_jax.api.training_step",
    "load": "qface_jax.api.loading",
    "make_step": "qface_jax.api.training_step",
    "read_embeddings": "qface_jax.inference.feature_file",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(
            f"module 'qface_jax' has no attribute {name!r}; it has {', '.join(__all__)}"
        )
    if name not in _HOMES:
        return importlib.import_module(f"qface_jax.{name}")
    from qface_jax.launch import backend

    backend.prepare()  # before JAX is loaded, as the commands do
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
