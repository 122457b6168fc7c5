"""From a file of weights to named arrays: the state dict within whatever was saved."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qface_jax.errors import ConfigError, DataError
from qface_jax.weights.torch import torch_file
from qface_jax.weights.torch.stored_tensor import StoredTensor

METADATA = "qface"  # key of what `qface export` says of a file, as JSON
# Where training code keeps the weights within a checkpoint; the first found is taken.
_KEYS = (
    "state_dict",
    "state_dict_backbone",
    "model_state_dict",
    "model",
    "backbone",
    "net",
    "params",
)


def read(path: Path) -> dict[str, np.ndarray]:
    """Returns the named tensors of a PyTorch or safetensors file.

    Args:
        path: `.safetensors`, or anything of torch.save: a state dict, or a checkpoint
            that has one under a usual name.

    Raises:
        ConfigError: if a .safetensors file needs a package that is not installed.
        DataError: if the file cannot be read, or holds no or several sets of tensors.
    """
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    content = torch_file.read(path)
    try:
        return {name: leaf.array() for name, leaf in _choose(content).items()}
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def facts(path: Path) -> dict[str, Any]:
    """Returns what `qface export` said of a .safetensors file; {} of any other.

    Raises:
        As `read`.
    """
    if path.suffix != ".safetensors":
        return {}
    with _opened(path) as file:
        text = (file.metadata() or {}).get(METADATA, "{}")
    try:
        said = json.loads(text)
    except ValueError:
        return {}  # somebody else's key of that name
    return said if isinstance(said, dict) else {}


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Returns the named tensors, bfloat16 as float32."""
    with _opened(path) as file:
        return {name: _numpy(file.get_tensor(name)) for name in file.keys()}


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
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
            yield file
    except SafetensorError as error:
        raise DataError(
            f"{path}: cannot be read as safetensors ({error}); copy it again"
        ) from error


def _numpy(tensor) -> np.ndarray:
    wide = tensor.astype("float32") if tensor.dtype.name == "bfloat16" else tensor
    return np.asarray(wide)


def _choose(content: Any) -> dict[str, StoredTensor]:
    """The one set of tensors in what was saved, or the one under a usual name."""
    sets = dict(_sets(content, ""))
    for key in _KEYS:
        if key in sets:
            return sets[key]
    if "" in sets:
        return sets[""]
    if len(sets) == 1:
        return next(iter(sets.values()))
    if not sets:
        raise DataError(
            "it holds no tensors under names; where it was made, run "
            "torch.save(model.state_dict(), FILE) and import that file"
        )
    raise DataError(
        f"it holds several sets of tensors ({', '.join(sets)}), none of them under "
        f"a usual name ({', '.join(_KEYS)}); save the one to import by itself"
    )


def _sets(content: Any, path: str) -> Iterator[tuple[str, dict[str, StoredTensor]]]:
    """Every mapping, at any depth, that has tensors of its own, by its dotted path."""
    if not isinstance(content, Mapping):
        return
    tensors = {
        str(name): leaf
        for name, leaf in content.items()
        if isinstance(leaf, StoredTensor)
    }
    if tensors:
        yield path, tensors
    for name, leaf in content.items():
        yield from _sets(leaf, f"{path}.{name}" if path else str(name))
