"""`.safetensors` files, read by the package of that name."""

from pathlib import Path

import numpy as np

from qface_jax.errors import ConfigError, DataError


def read(path: Path) -> dict[str, np.ndarray]:
    """Returns the named tensors, bfloat16 as float32.

    Raises:
        ConfigError: if the package is not installed.
        DataError: if the file cannot be read.
    """
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise ConfigError(
            f"{path}: reading .safetensors needs the package safetensors; "
            'pip install "qface-jax[import]"'
        ) from error
    try:
        # JAX's arrays, because numpy's have no bfloat16.
        with safe_open(path, framework="flax") as file:
            return {name: _numpy(file.get_tensor(name)) for name in file.keys()}
    except SafetensorError as error:
        raise DataError(
            f"{path}: cannot be read as safetensors ({error}); copy it again"
        ) from error


def _numpy(tensor) -> np.ndarray:
    wide = tensor.astype("float32") if tensor.dtype.name == "bfloat16" else tensor
    return np.asarray(wide)
