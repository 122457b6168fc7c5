"""From the named tensors of a published network to the leaves of our own backbone."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from qface_jax.errors import DataError
from qface_jax.weights.structures import Family, Recognised

# BatchNorm's; with this variance its factor is 1.
_EPSILON = 1e-5
_STATS = {"running_mean": "mean", "running_var": "var"}
_WEIGHTS = ("kernel", "scale", "negative_slope")
# Of the tensors beside the backbone: those of AdaFace's head that are no weights.
_NOT_WEIGHTS = re.compile(
    r"(^|\.)(num_batches_tracked|head\.(batch_mean|batch_std|t))$"
)
_CENTRES = re.compile(r"(^|\.)(head\.kernel|(head|fc|loss)\.weight)$|^weight$")


class Mapped(NamedTuple):
    """A published network as ours.

    Attributes:
        params: Nested dict of float32 arrays.
        stats: The same, of the batch norms.
        head: {"centres": [c, d]}, or {} where the file has none.
        left_out: Names of tensors that are no weights.
        folded: How many batch norms were folded into convolutions.
    """

    params: dict[str, Any]
    stats: dict[str, Any]
    head: dict[str, np.ndarray]
    left_out: list[str]
    folded: int


def our_path(module: str) -> str:
    """Returns the path of a PyTorch module in our parameters.

    >>> our_path("features.0.conv.1.0"), our_path("body.3.res_layer.se_block.fc1")
    ('features_0/conv_1_0', 'body_3/se_block/fc1')
    """
    path = re.sub(r"\.(?=\d)", "_", module).replace(".", "/")
    return path.replace("res_layer/se_block", "se_block")


class _Leaves:
    """Our leaves, empty at first, and what does not fit them."""

    def __init__(self, params: Mapping[str, Any], stats: Mapping[str, Any]):
        self.wanted = {"params": dict(params), "stats": dict(stats)}
        self.filled: dict[str, dict[str, np.ndarray]] = {"params": {}, "stats": {}}
        self.problems: list[str] = []

    def has(self, tree: str, path: str) -> bool:
        return path in self.wanted[tree]

    def put(self, tree: str, path: str, values: np.ndarray, source: str) -> None:
        shape = tuple(self.wanted[tree][path].shape)
        if tuple(values.shape) != shape:
            self.problems.append(
                f"{source}: has shape {list(values.shape)} as {path}, expected "
                f"{list(shape)}"
            )
        self.filled[tree][path] = np.ascontiguousarray(values, np.float32)

    def missing(self) -> list[str]:
        return [
            path
            for tree, leaves in self.wanted.items()
            for path in leaves
            if path not in self.filled[tree]
        ]

    def norm_is_empty(self, path: str) -> bool:
        return self.has("stats", f"{path}/mean") and not any(
            f"{path}/{leaf}" in self.filled[tree]
            for tree, leaf in (("stats", "mean"), ("params", "scale"))
        )


def map_tensors(
    tensors: Mapping[str, np.ndarray],
    recognised: Recognised,
    *,
    params: Mapping[str, Any],
    stats: Mapping[str, Any],
) -> Mapped:
    """Returns the tensors as the leaves of our backbone.

    Args:
        tensors: The state dict.
        recognised: What it was recognised as.
        params: Path -> anything with a shape, of each parameter of our backbone.
        stats: The same, of its running statistics.

    Raises:
        DataError: naming every tensor that has no place or another shape, and every
            leaf that stays empty.
    """
    leaves = _Leaves(params, stats)
    backbone_tensors, head, left_out = _split(tensors, recognised, leaves)
    biases = {}
    for name, values in backbone_tensors.items():
        _place(leaves, recognised, name, values, biases)
    folded = _unfold(leaves, recognised, biases)
    unmapped, shapes = [], []
    for problem in leaves.problems:
        (shapes if ": has shape" in problem else unmapped).append(problem)
    missing = leaves.missing()
    if unmapped or shapes or missing:
        lines = [f"does not fit {recognised.backbone} ({recognised.family.title})"]
        lines += [f"  {problem}" for problem in unmapped + shapes]
        lines += [f"  {path}: nothing in the file for it" for path in missing]
        lines.append("give another --structure, or export it as ONNX and import that")
        raise DataError("\n".join(lines))
    return Mapped(
        _nested(leaves.filled["params"]),
        _nested(leaves.filled["stats"]),
        head,
        left_out,
        folded,
    )


def _split(tensors, recognised, leaves):
    """The backbone's tensors by their own names, the class centres, and the rest."""
    backbone_tensors, head, left_out = {}, {}, []
    for name, values in tensors.items():
        if _NOT_WEIGHTS.search(name):
            left_out.append(name)
        elif _is_centres(name, values, recognised, leaves) and not head:
            head["centres"] = _centres(name, values, recognised.embedding_dim)
        elif name.startswith(recognised.prefix):
            backbone_tensors[name.removeprefix(recognised.prefix)] = values
        else:
            leaves.problems.append(f"{name} {list(values.shape)}: has no place")
    return backbone_tensors, head, left_out


def _is_centres(name, values, recognised, leaves) -> bool:
    """Whether a tensor is a classifier's and none of the backbone."""
    fits = values.ndim == 2 and recognised.embedding_dim in values.shape
    if not fits or not _CENTRES.search(name):
        return False
    ours = _weight(
        leaves, our_path(name.removeprefix(recognised.prefix).rpartition(".")[0])
    )
    return ours is None or not name.startswith(recognised.prefix)


def _centres(name, values, dim) -> np.ndarray:
    """Class centres as rows; AdaFace and MagFace keep them as columns."""
    columns = values.shape[0] == dim and (
        values.shape[1] != dim or name.endswith("kernel")
    )
    return np.ascontiguousarray(values.T if columns else values, np.float32)


def _place(leaves, recognised, name, values, biases) -> None:
    """Puts one tensor where it belongs, or says that it has no place."""
    module, _, leaf = name.rpartition(".")
    path = our_path(module)
    if leaf in _STATS and leaves.has("stats", f"{path}/{_STATS[leaf]}"):
        leaves.put("stats", f"{path}/{_STATS[leaf]}", values, name)
    elif leaf == "weight" and (ours := _weight(leaves, path)):
        leaves.put("params", ours, _turned(values, ours, leaves, recognised), name)
    elif leaf == "bias" and leaves.has("params", f"{path}/bias"):
        leaves.put("params", f"{path}/bias", values, name)
    elif leaf == "bias" and leaves.has("params", f"{path}/kernel"):
        biases[path] = values
    elif leaves.has("params", our_path(name)):
        leaves.put("params", our_path(name), values, name)
    elif leaf in ("weight", "bias") and leaves.has("stats", f"{path}/mean"):
        # Where we learn no scale or bias, the reference holds them where they start.
        held = 1.0 if leaf == "weight" else 0.0
        if not np.allclose(values, held, atol=1e-6):
            leaves.problems.append(
                f"{name}: must be {held:g} throughout as in the published network, it "
                f"goes from {values.min():g} to {values.max():g}"
            )
    else:
        leaves.problems.append(f"{name} {list(values.shape)}: has no place")


def _weight(leaves, path) -> str | None:
    """Our leaf of that module that PyTorch calls weight."""
    ours = (f"{path}/{leaf}" for leaf in _WEIGHTS)
    return next((leaf for leaf in ours if leaves.has("params", leaf)), None)


def _turned(values, ours, leaves, recognised) -> np.ndarray:
    """A weight with its axes, rows and colours in our order."""
    path, _, leaf = ours.rpartition("/")
    if leaf == "negative_slope" and values.size == 1:
        return np.full(leaves.wanted["params"][ours].shape, values.item(), np.float32)
    if leaf != "kernel":
        return values
    if values.ndim == 4:
        values = values.transpose(2, 3, 1, 0)
        if values.shape[:2] == (1, 1) and len(leaves.wanted["params"][ours].shape) == 2:
            values = values[0, 0]
        return values
    if values.ndim != 2:
        return values
    flattened, channels = recognised.family.flattened or (None, 1)
    if path == flattened:
        side = round((values.shape[1] / channels) ** 0.5)
        if side * side * channels == values.shape[1]:
            maps = values.reshape(len(values), channels, side, side)
            values = maps.transpose(0, 2, 3, 1).reshape(values.shape)
    return values.T


def _unfold(leaves, recognised, biases) -> int:
    """Makes the batch norms that were folded into the convolutions before them.

    Such a norm divides by 1 and adds the convolution's bias.
    """
    folded = 0
    kernels = [p for p in leaves.filled["params"] if p.endswith("/kernel")]
    for kernel in kernels:
        path = kernel.removesuffix("/kernel")
        bias = biases.pop(path, None)
        has_bias = bias is not None or f"{path}/bias" in leaves.filled["params"]
        norm = norm_after(path, recognised.family)
        if not has_bias or norm is None or not leaves.norm_is_empty(norm):
            if bias is not None:
                leaves.problems.append(f"{path}.bias: has no place")
            continue
        folded += 1
        ones = np.ones(leaves.wanted["stats"][f"{norm}/mean"].shape, np.float32)
        leaves.put("stats", f"{norm}/mean", 0 * ones, norm)
        leaves.put("stats", f"{norm}/var", (1 - _EPSILON) * ones, norm)
        if leaves.has("params", f"{norm}/scale"):
            leaves.put("params", f"{norm}/scale", ones, norm)
        if leaves.has("params", f"{norm}/bias"):
            leaves.put(
                "params", f"{norm}/bias", 0 * ones if bias is None else bias, norm
            )
    return folded


def norm_after(path: str, family: Family) -> str | None:
    """Returns the path of the batch norm after a convolution; None: there is none."""
    for pattern, norm in family.norms:
        if re.search(pattern, path):
            return re.sub(pattern, norm, path)
    return None


def _nested(flat: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Paths with slashes as nested dicts."""
    tree: dict[str, Any] = {}
    for path, values in flat.items():
        *folders, leaf = path.split("/")
        inside = tree
        for folder in folders:
            inside = inside.setdefault(folder, {})
        inside[leaf] = values
    return tree


def reverse_colours(params: dict[str, Any], convolution: str) -> None:
    """Turns the colours that a layer takes around, in place.

    Args:
        params: Nested dict of parameters.
        convolution: Path of the layer: a convolution, or a dense layer of patches.
    """
    for name in convolution.split("/"):
        params = params[name]
    kernel = params["kernel"]
    colours = kernel.reshape(-1, 3, kernel.shape[-1])[:, ::-1]
    params["kernel"] = np.ascontiguousarray(colours.reshape(kernel.shape))
