"""From the leaves of our own backbone to the named tensors of the published network.

It is the way back from `mapping.map_tensors`.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from qface_jax.weights.structures import FAMILIES, Family

CENTRES = "head.weight"
_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "negative_slope": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def family_of(backbone: str) -> Family | None:
    """Returns the published family of a key of tables.BACKBONES; None: it has none."""
    return next((one for one in FAMILIES if backbone in one.backbones), None)


def tensors_of(
    family: Family, params: Mapping[str, Any], stats: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Returns a backbone as the state dict of its published PyTorch module.

    Counts of batches, which PyTorch does without, are left out.

    Args:
        family: The backbone's.
        params: Nested dict of arrays.
        stats: The same, of the running statistics.
    """
    tensors = {}
    for tree in (params, stats):
        for path, values in traverse_util.flatten_dict(tree, sep="/").items():
            turned = _turned(np.asarray(values, np.float32), path, family)
            tensors[_name(path)] = np.ascontiguousarray(turned)
    for module in family.unit_scales:
        tensors[f"{module}.weight"] = np.ones_like(tensors[f"{module}.running_mean"])
    return tensors


def _name(path: str) -> str:
    """The tensor's name: the way back from `mapping.our_path`."""
    module, _, leaf = path.rpartition("/")
    if leaf not in _LEAVES:
        return _dotted(path)
    return f"{_dotted(module)}.{_LEAVES[leaf]}"


def _dotted(path: str) -> str:
    name = re.sub(r"_(?=\d+(?:\.|_|$))", ".", path.replace("/", "."))
    return name.replace("se_block", "res_layer.se_block")


def _turned(values: np.ndarray, path: str, family: Family) -> np.ndarray:
    """A kernel with its axes and rows in PyTorch's order."""
    module, _, leaf = path.rpartition("/")
    if leaf != "kernel":
        return values
    if values.ndim == 4:
        return values.transpose(3, 2, 0, 1)
    values = values.T
    if re.search(family.pointwise, module):
        return values[:, :, None, None]
    flattened, channels = family.flattened or (None, 1)
    if module == flattened:
        side = round((values.shape[1] / channels) ** 0.5)
        maps = values.reshape(len(values), side, side, channels)
        values = maps.transpose(0, 3, 1, 2).reshape(values.shape)
    return values
