"""Readable, stable names of an imported graph's weights.

PyTorch's exporter keeps a tensor's name where it is untouched ("layer1.0.bn1.weight")
and invents one where it folded a batch norm into it ("onnx::Conv_529"): then the node's
name says where it belongs ("/layer1/layer1.0/conv1/Conv").
"""

import re

# Last parts of a tensor's name that say what it is, not where.
_ENDING = re.compile(
    r"(?:^|[._/:])(?:weight|bias|gamma|beta|kernel|alpha|slope|scale|w|b|"
    r"(?:running|moving)_(?:mean|var)|mean|variance|var)(?:_?\d+)?$",
    re.IGNORECASE,
)
_INVENTED = re.compile(
    r"^(?:[\W\d_]*|.*::.*|(?:val|const|constant|initializer|tensor|t|v|p|x|param)[._]*\d+"
    r"|const_fold.*|.*constant.*output.*)$",
    re.IGNORECASE,
)


def of_weight(tensor: str, operator: str, node: str, kind: str | None) -> list[str]:
    """Returns the keys under which a weight is stored.

    Args:
        tensor: its name in the file.
        operator: ONNX name of the node that reads it first.
        node: that node's name, never empty.
        kind: "kernel", "bias" and so on; None: the last part of its own name.
    """
    tensor = re.sub(r":\d+$", "", tensor)  # of TensorFlow
    if _INVENTED.match(tensor):
        parts = _of_node(node, operator)
        return [*parts, kind or "value"]
    if kind is None:
        return _parts(tensor)
    return [*(_parts(_place(tensor)) or _of_node(node, operator)), kind]


def _place(tensor):
    """Drops what says the kind: all of "conv1.weight_bias" behind "conv1"."""
    shorter = _ENDING.sub("", tensor)
    return tensor if shorter == tensor else _place(shorter)


def _of_node(node, operator):
    """Drops the operator's own name, and scopes that the next one repeats."""
    scopes = [scope for scope in node.split("/") if scope]
    if len(scopes) > 1 and re.fullmatch(rf"{operator}(_\d+)?", scopes[-1]):
        scopes.pop()
    kept = [
        scope
        for scope, following in zip(scopes, [*scopes[1:], ""], strict=True)
        if not following.startswith(f"{scope}.") and scope != following
    ]
    return _parts("/".join(kept)) or [operator]


def _parts(name):
    """ "layer1.0.conv1" is layer1_0, conv1, as in our own backbones."""
    name = re.sub(r"\.(?=\d+(\.|/|$))", "_", name)
    parts = (re.sub(r"\W+", "_", part).strip("_") for part in re.split(r"[./]", name))
    return [part for part in parts if part]


def unique(path: list[str], taken: set[tuple[str, ...]]) -> tuple[str, ...]:
    """Returns the path, its module numbered where another weight has it already.

    Args:
        path: keys, the last of which says the kind.
        taken: all paths so far and the beginnings of them; the new ones are added.
    """
    *modules, kind = path
    number = 1
    while True:
        more = "" if number == 1 else f"_{number}"
        found = (
            (*modules[:-1], f"{modules[-1]}{more}", kind)
            if modules
            else (f"{kind}{more}",)
        )
        beginnings = {found[:count] for count in range(1, len(found))}
        leaves = {own for own in taken if own[-1:] == ("",)}
        if found not in taken and not any((*own, "") in leaves for own in beginnings):
            break
        number += 1
    # A leaf is marked by an empty key behind it, so that nothing is put below it.
    taken |= beginnings | {found, (*found, "")}
    return found
