"""Versions of what an evaluation depends on."""

import importlib.metadata
import platform

_PACKAGES = ("qface-jax", "jax", "flax", "numpy", "tensorflow-cpu", "tensorflow")


def installed() -> dict[str, str]:
    """Returns the versions of Python and of the packages that are installed."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # TensorFlow goes by one of two names
    return found
