"""From a file of weights to named arrays: the state dict within whatever was saved."""

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qface_jax.errors import ConfigError, DataError
from qface_jax.weights.torch import torch_file
from qface_jax.weights.torch.stored_tensor import StoredTensor, arrays

MAX_TENSORS = 50_000  # of a file
_DEEPEST = 50  # dicts within dicts
_BFLOAT16 = "BF16"
# What a .safetensors file calls the types that are read.
_TYPES = (
    "F64", "F32", "F16", _BFLOAT16, "I64", "I32", "I16", "I8", "U64", "U32", "U16",
    "U8", "BOOL",
)  # fmt: skip
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


def read(path: Path, key: str = "") -> tuple[dict[str, np.ndarray], list[str]]:
    """Returns the named tensors of a PyTorch or safetensors file, and what to say.

    Args:
        path: `.safetensors`, or anything of torch.save: a state dict, or a checkpoint
            that has one under a usual name.
        key: Dotted path of the state dict within the file, as "ema.state_dict", or what
            the wanted tensors' names begin with, as "teacher"; "": the usual one.

    Raises:
        ConfigError: if a .safetensors file needs a package that is not installed.
        DataError: if the file cannot be read, or holds no or several sets of tensors.
    """
    if is_safetensors(path):
        tensors = _read_safetensors(path)
        try:
            return _chosen({"": tensors}, key)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
    content = torch_file.read(path)
    try:
        chosen, said = _chosen(dict(_sets(content, "", set())), key)
        _refuse_many(len(chosen))
        return arrays(chosen), said
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def is_safetensors(path: Path) -> bool:
    """Whether a file is called one of safetensors."""
    return path.suffix.lower() == ".safetensors"


def facts(path: Path) -> dict[str, Any]:
    """Returns what `qface export` said of a .safetensors file; {} of any other.

    Raises:
        As `read`.
    """
    if not is_safetensors(path):
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
        names = list(file.keys())
        try:
            _refuse_many(len(names))
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
        types = {name: file.get_slice(name).get_dtype() for name in names}
        other = [name for name in names if types[name] not in _TYPES]
        if other:
            raise DataError(
                f"{path}: {len(other)} tensors are of types that are not read, as "
                f"{other[0]} of {types[other[0]]}; expected {', '.join(_TYPES)}: "
                "convert them to float32 where the file was made"
            )
        low = [name for name in names if types[name] == _BFLOAT16]
        tensors = dict.fromkeys(names)
        for name in names:
            if types[name] != _BFLOAT16:
                tensors[name] = file.get_tensor(name)
    if low:
        # JAX's arrays, because not every version has numpy's of bfloat16.
        with _opened(path, "flax") as file:
            for name in low:
                tensors[name] = np.asarray(file.get_tensor(name).astype("float32"))
    return tensors


@contextlib.contextmanager
def _opened(path: Path, framework: str = "numpy") -> Iterator[Any]:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise ConfigError(
            f"{path}: reading .safetensors needs the package safetensors; "
            'pip install "qface-jax[import]"'
        ) from error
    try:
        with safe_open(path, framework=framework) as file:
            yield file
    except SafetensorError as error:
        raise DataError(
            f"{path}: cannot be read as safetensors ({error}); copy it again"
        ) from error


def _refuse_many(count: int) -> None:
    if count > MAX_TENSORS:
        raise DataError(f"got {count:,} tensors, expected at most {MAX_TENSORS:,}")


def _chosen(
    sets: dict[str, dict[str, Any]], key: str
) -> tuple[dict[str, Any], list[str]]:
    """The one set of tensors in what was saved, or the one under a usual name."""
    if not sets:
        raise DataError(
            "it holds no tensors under names; where it was made, run "
            "torch.save(model.state_dict(), FILE) and import that file"
        )
    if key:
        return _under(sets, key), []
    usual = next((name for name in (*_KEYS, "") if name in sets), None)
    if usual is None and len(sets) > 1:
        raise DataError(
            f"it holds several sets of tensors ({_names(sets)}), none of them under "
            f"a usual name ({', '.join(_KEYS)}); choose one: qface import --key=NAME"
        )
    name = next(iter(sets)) if usual is None else usual
    others = [other for other in sets if other != name and len(sets[other]) > 1]
    if not others:
        return sets[name], []
    return sets[name], [
        f"took the tensors under {_names([name])}; left out: {_names(others)} "
        "(qface import --key=NAME takes another)"
    ]


def _under(sets: dict[str, dict[str, Any]], key: str) -> dict[str, Any]:
    """The set of that name, or the tensors of all whose names begin with it."""
    if key in sets:
        return sets[key]
    begin = f"{key}."
    found = {
        name: leaf
        for tensors in sets.values()
        for name, leaf in tensors.items()
        if name.startswith(begin)
    }
    if found:
        return found
    starts = dict.fromkeys(
        name.partition(".")[0] for tensors in sets.values() for name in tensors
    )
    raise DataError(
        f"--key={key}: it holds no tensors under that name; there are the sets "
        f"{_names(sets)}, and tensors whose names begin with {_names(starts)}"
    )


def _names(names: Iterable[str]) -> str:
    names = [name or "the top" for name in names]
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")


def _sets(
    content: Any, path: str, seen: set[int], depth: int = 0
) -> Iterator[tuple[str, dict[str, StoredTensor]]]:
    """Every mapping that has tensors of its own, by its dotted path; each once."""
    if not isinstance(content, Mapping) or id(content) in seen:
        return
    if depth > _DEEPEST:
        raise DataError(f"it holds dicts within dicts, more than {_DEEPEST} deep")
    seen.add(id(content))
    tensors = {
        _text(name): leaf
        for name, leaf in content.items()
        if isinstance(leaf, StoredTensor)
    }
    if tensors:
        yield path, tensors
    for name, leaf in content.items():
        below = f"{path}.{_text(name)}" if path else _text(name)
        yield from _sets(leaf, below, seen, depth + 1)


def _text(name: Any) -> str:
    """A key for messages and names; pickles have numbers of any length."""
    if isinstance(name, str):
        return name
    short = isinstance(name, int) and abs(name) < 1 << 63
    return str(name) if short else type(name).__name__
