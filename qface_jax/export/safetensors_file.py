"""safetensors: the weights alone, by the names of the published PyTorch module.

`load_state_dict` of the published code takes them, and so does `qface import`.
"""

from pathlib import Path
from typing import Any

from qface_jax.errors import ConfigError
from qface_jax.export.interface import Interface
from qface_jax.export.subject import FLOAT32, Format, Request, Runner, Subject
from qface_jax.weights import importing, published, structures
from qface_jax.weights.convention import Convention
from qface_jax.weights.importing import Input
from qface_jax.weights.state_dict import METADATA


def _package() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ConfigError(
            "writing .safetensors files needs the package safetensors, which is not "
            "installed; pip install 'qface-jax[export]'"
        ) from error
    return safetensors.numpy


def _check(subject: Subject, request: Request) -> None:
    _package()
    backbone = subject.config.model.backbone
    if published.family_of(backbone) is None:
        raise ConfigError(
            f"backbone {backbone}: has no published PyTorch form, whose names a "
            f".safetensors file has; {', '.join(structures.NAMES)} have one; export it "
            "as onnx"
        )
    usual = Interface(cosines=request.interface.cosines)
    changed = [
        name
        for name, value in request.interface._asdict().items()
        if value != getattr(usual, name)
    ]
    if changed:
        raise ConfigError(
            f"{', '.join(changed)}: say what stands around a network, but a "
            ".safetensors file holds the weights alone; leave them out"
        )


def _write(subject: Subject, request: Request, path: Path) -> None:
    family = published.family_of(subject.config.model.backbone)
    tensors = published.tensors_of(family, subject.params, subject.stats)
    if subject.centres is not None:
        tensors[published.CENTRES] = subject.centres
    facts = {"format": "pt", METADATA: subject.metadata(None)}
    _package().save_file(tensors, str(path), facts)


def _open(path: Path, subject: Subject, request: Request) -> Runner:
    """Reads the tensors as an import does, and runs what comes of them."""
    network: Convention = subject.network
    read = importing.model_of(
        _package().load_file(str(path)),
        path,
        structure=subject.config.model.backbone,
        user_input=Input(None, network.mean, network.std, network.color_order),
    )
    imported = read.imported
    again = subject._replace(
        config=importing.config_of(imported.model),
        params=imported.params,
        stats=imported.stats,
        centres=imported.head.get("centres"),
    )
    return again.runner(request.interface)


SAFETENSORS = Format(
    title="safetensors",
    ending=".safetensors",
    precisions=(FLOAT32,),
    check=_check,
    write=_write,
    open=_open,
)
