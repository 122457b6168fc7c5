"""Which published networks are known by the names of their tensors, and how to tell.

The names are those of the PyTorch modules; models/iresnet.py says how they become
paths of ours.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from qface_jax.errors import DataError

_Shapes = Mapping[str, tuple[int, ...]]


class Family(NamedTuple):
    """Networks that differ in depth only.

    Attributes:
        title: For messages.
        marker: Name of a tensor that they all have and no other family.
        backbones: Keys of tables.BACKBONES.
        tell: Names without prefix, with their shapes -> the key; None where the depth
            or width is none of ours.
        embedding: Tensor whose first axis is as long as a feature.
        flattened: Our path of the layer that takes a flattened map, and the map's
            channels: its rows go from [c, h, w] to [h, w, c]. None: no rows do.
        first: Our path of the first convolution, which sees the colours.
        norms: Patterns from a convolution's path to that of the batch norm after it,
            into which its bias goes where they were folded.
        convention: Key of convention.PRESETS.
        unit_scales: Batch norms whose scale, which we do not learn, is a tensor of
            ones.
        pointwise: Pattern of our dense layers that are convolutions of one pixel there.
    """

    title: str
    marker: str
    backbones: tuple[str, ...]
    tell: Callable[[_Shapes], str | None]
    embedding: str
    flattened: tuple[str, int] | None
    first: str
    norms: tuple[tuple[str, str], ...]
    convention: str
    unit_scales: tuple[str, ...] = ()
    pointwise: str = "$^"


class Recognised(NamedTuple):
    """What a state dict was recognised as.

    Attributes:
        family: Its family.
        backbone: Key of tables.BACKBONES.
        prefix: Before all names of the backbone, as "module.".
        embedding_dim: d, length of a feature.
        convention: Key of convention.PRESETS.
    """

    family: Family
    backbone: str
    prefix: str
    embedding_dim: int
    convention: str


def _blocks(names: Iterable[str], pattern: str) -> int:
    """How many different numbers stand where the pattern has its group."""
    return len({match[1] for name in names if (match := re.match(pattern, name))})


def _tell_iresnet(shapes):
    units = tuple(_blocks(shapes, rf"layer{stage}\.(\d+)\.") for stage in range(1, 5))
    return {
        (2, 2, 2, 2): "iresnet18",
        (3, 4, 6, 3): "iresnet34",
        (3, 4, 14, 3): "iresnet50",
        (3, 13, 30, 3): "iresnet100",
        (6, 26, 60, 6): "iresnet200",
    }.get(units)


def _tell_adaface(shapes):
    squeeze = any(".se_block." in name for name in shapes)
    return {
        (8, False): "ir_18",
        (16, False): "ir_34",
        (24, False): "ir_50",
        (49, False): "ir_101",
        (24, True): "ir_se_50",
    }.get((_blocks(shapes, r"body\.(\d+)\."), squeeze))


def _tell_transformer(side, name):
    """Says `name` where patches of that side, in pixels, are embedded."""

    def tell(shapes):
        depth = _blocks(shapes, r"transformer\.layers\.(\d+)\.")
        inputs = shapes["patch_to_embedding.weight"][1:]
        return name if (depth, inputs) == (20, (3 * side**2,)) else None

    return tell


def _transformer(side, name, flattened):
    return Family(
        "Face Transformer",
        "patch_to_embedding.weight",
        (name,),
        _tell_transformer(side, name),
        embedding="mlp_head.0.weight",
        flattened=flattened,
        first="patch_to_embedding",
        norms=(),
        convention="pixels",
    )


FAMILIES = (
    Family(
        "insightface / MagFace IResNet",
        "layer1.0.prelu.weight",
        ("iresnet18", "iresnet34", "iresnet50", "iresnet100", "iresnet200"),
        _tell_iresnet,
        embedding="fc.weight",
        flattened=("fc", 512),
        first="conv1",
        norms=(
            (r"^conv1$", "bn1"),
            (r"/conv1$", "/bn2"),
            (r"/conv2$", "/bn3"),
            (r"downsample_0$", "downsample_1"),
            (r"^fc$", "features"),
        ),
        convention="insightface",
        unit_scales=("features",),
    ),
    Family(
        "AdaFace IR / IR-SE",
        "input_layer.0.weight",
        ("ir_18", "ir_34", "ir_50", "ir_101", "ir_se_50"),
        _tell_adaface,
        embedding="output_layer.3.weight",
        flattened=("output_layer_3", 512),
        first="input_layer_0",
        norms=(
            (r"input_layer_0$", "input_layer_1"),
            (r"res_layer_1$", "res_layer_2"),
            (r"res_layer_4$", "res_layer_5"),
            (r"shortcut_layer_0$", "shortcut_layer_1"),
            (r"output_layer_3$", "output_layer_4"),
        ),
        convention="adaface",
        pointwise="/se_block/",
    ),
    Family(
        "insightface MobileFaceNet",
        "conv_sep.layers.0.weight",
        ("mobilefacenet",),
        lambda shapes: "mobilefacenet",
        embedding="features.layers.2.weight",
        flattened=None,
        first="layers_0/layers_0",
        norms=(
            (r"^features/layers_2$", "features/layers_3"),
            (r"layers_0$", "layers_1"),
        ),
        convention="insightface",
    ),
    Family(
        "foamliu MobileFaceNet",
        "gdconv.depthwise.weight",
        ("mobilefacenet_relu6",),
        lambda shapes: "mobilefacenet_relu6",
        embedding="conv3.weight",
        flattened=None,
        first="conv1_0",
        norms=(
            (r"^dw_conv/depthwise$", "dw_conv/bn1"),
            (r"^dw_conv/pointwise$", "dw_conv/bn2"),
            (r"^gdconv/depthwise$", "gdconv/bn"),
            (r"^conv3$", "bn"),
            (r"conv_2$", "conv_3"),
            (r"_0$", "_1"),
        ),
        convention="imagenet",
        pointwise="^conv3$",
    ),
    _transformer(8, "face_transformer", None),
    _transformer(12, "face_transformer_p12s8", ("patch_to_embedding", 3)),
)
NAMES = tuple(name for family in FAMILIES for name in family.backbones)


def recognise(shapes: _Shapes, wanted: str = "auto") -> Recognised:
    """Returns what the tensors are the weights of.

    Args:
        shapes: Name of each tensor -> its shape.
        wanted: A backbone of `NAMES` where the user says which it is.

    Raises:
        DataError: if no family has such names, or the depth is none of ours.
    """
    other_sizes = []
    for family in FAMILIES:
        prefix = _prefix(family, shapes)
        if prefix is None or wanted not in ("auto", *family.backbones):
            continue
        unprefixed = {
            name.removeprefix(prefix): shape
            for name, shape in shapes.items()
            if name.startswith(prefix)
        }
        backbone = family.tell(unprefixed) if wanted == "auto" else wanted
        dim = unprefixed.get(family.embedding)
        if backbone is not None and dim:
            usual = _published_with(prefix, family.convention)
            return Recognised(family, backbone, prefix, dim[0], usual)
        other_sizes.append(family)
    if other_sizes:
        names = ", ".join(name for f in other_sizes for name in f.backbones)
        raise DataError(
            f"looks like {other_sizes[0].title}, but of a depth or width that is none "
            f"of {names}; export it as ONNX and import that file"
        )
    first = ", ".join(list(shapes)[:6])
    stated = "" if wanted == "auto" else f" of --structure={wanted}"
    raise DataError(
        f"its tensors are not those{stated} of a known structure (it begins with "
        f"{first}); known are "
        + "; ".join(f"{f.title} ({', '.join(f.backbones)})" for f in FAMILIES)
        + ". Any other network can be imported from ONNX: export it with "
        "torch.onnx.export and import that file"
    )


def _prefix(family: Family, shapes: _Shapes) -> str | None:
    """What stands before the marker; None where there is no marker."""
    found = [
        name.removesuffix(family.marker)
        for name in shapes
        if name == family.marker or name.endswith(f".{family.marker}")
    ]
    if len(found) > 1:
        raise DataError(
            f"it holds {len(found)} networks of {family.title}, their tensors under "
            f"{', '.join(repr(prefix.rstrip('.')) for prefix in found[:8])}; choose "
            "one: qface import --key=NAME"
        )
    return found[0] if found else None


def _published_with(prefix: str, usual: str) -> str:
    """The convention where the prefix shows another repository than the family's."""
    if prefix.endswith("features.module."):
        return "magface"
    # CVLface publishes AdaFace's networks within a wrapper, trained on RGB.
    if usual == "adaface" and prefix.endswith("net."):
        return "insightface"
    return usual
