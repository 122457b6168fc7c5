"""A config whose model is that of another run: `model.backbone=init_from`."""

from pathlib import Path

from ml_collections import ConfigDict

from qface_jax.configs import document
from qface_jax.errors import ConfigError
from qface_jax.models import INIT_FROM
from qface_jax.runs import run_folder

# What makes a network what it is; how it is trained stays the new config's business.
_KEYS = (
    "backbone", "embedding_dim", "graph", "input_mean", "input_std", "color_order",
)  # fmt: skip


def resolve(config: ConfigDict, init_from: Path | None, run: Path) -> ConfigDict:
    """Returns the config with the network that `init_from` stands for.

    Args:
        config: Validated config; returned as it is where it names a backbone.
        init_from: Folder of the run to start from.
        run: Folder of the run itself; going on with it takes no other.

    Raises:
        ConfigError: the config wants another run's model and there is none.
    """
    if config.model.backbone != INIT_FROM:
        return config
    # A run that is there goes on by itself, wherever it once started from.
    source = run if (run / run_folder.CONFIG).is_file() else init_from
    if source is None:
        raise ConfigError(
            f"model.backbone: is {INIT_FROM}, which takes the model of another run: "
            "give --init-from=RUN (`qface import` makes one of a PyTorch or ONNX "
            "file), or --config.model.backbone=NAME"
        )
    model = run_folder.read(source).config.model
    resolved = document.from_dict(document.to_dict(config))
    with resolved.unlocked():
        for key in _KEYS:
            resolved.model[key] = model[key]
    return resolved
