"""An imported model as the folder of a run, so that every command takes it as one."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from qface_jax.configs.base import get_config
from qface_jax.errors import ConfigError
from qface_jax.runs import checkpoint, run_folder
from qface_jax.sharded import classifier
from qface_jax.storage.atomic_file import replacing
from qface_jax.weights.convention import Convention


class ImportedModel(NamedTuple):
    """A model and what has to be known of it.

    Attributes:
        model: Changes to the `model` group of a config.
        params: Parameters of the backbone, nested dict of float32 arrays.
        stats: Running statistics of its batch norms, the same.
        head: {"centres": [c, d]} or {}.
        source: What is recorded of where it came from, fit for JSON.
    """

    model: dict[str, Any]
    params: dict[str, Any]
    stats: dict[str, Any]
    head: dict[str, np.ndarray]
    source: dict[str, Any]


def model_changes(
    backbone: str, embedding_dim: int, convention: Convention, *, graph: str = ""
) -> dict[str, Any]:
    """Returns what an imported model sets in the `model` group of a config."""
    return {
        "backbone": backbone,
        "embedding_dim": embedding_dim,
        "graph": graph,
        "input_mean": convention.mean,
        "input_std": convention.std,
        "color_order": convention.color_order,
    }


def config_of(model: dict[str, Any]) -> ConfigDict:
    """Returns the base config with those changes to its `model` group, locked."""
    config = get_config()
    for key, value in model.items():
        config.model[key] = value
    return config.lock()


def refuse_existing(out: Path) -> None:
    """Raises ConfigError where the folder to make is already there and not empty."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out}: is already there; give another OUT, or remove it")


def write(out: Path, imported: ImportedModel) -> None:
    """Writes the folder of a run whose only checkpoint, step 0, is the model.

    It is written aside and then renamed.

    Args:
        out: Folder to make; an empty one may be there.
        imported: Weights, and what is said of their origin.

    Raises:
        ConfigError: if `out` is there and not empty.
    """
    refuse_existing(out)
    config = config_of(imported.model)
    centres = imported.head.get("centres")
    num_classes = 0 if centres is None else len(centres)
    facts = imported.source | {
        "parameters": parameter_count(imported.params),
        "batch_norms": len(_norms(imported.stats)),
    }
    with replacing(out) as aside:
        aside.mkdir()
        head = {}
        if centres is not None:
            head = {"centres": _padded(centres, config.classifier.pad_to)}
        checkpoint.save_parts(
            aside,
            {
                "params": {"backbone": imported.params, "head": head},
                "stats": imported.stats,
            },
        )
        # Last, since it is what makes the folder a run's.
        run_folder.write_imported(
            aside, config, num_classes=num_classes, imported=facts
        )


def parameter_count(params: dict[str, Any]) -> int:
    """Returns how many numbers the parameters are."""
    return sum(leaf.size for leaf in _leaves(params))


def _leaves(tree: Any) -> list[np.ndarray]:
    if isinstance(tree, dict):
        return [leaf for inside in tree.values() for leaf in _leaves(inside)]
    return [tree]


def _norms(stats: Any) -> list[np.ndarray]:
    """One leaf of each batch norm."""
    return _leaves(stats)[::2]


def _padded(centres: np.ndarray, pad_to: int) -> np.ndarray:
    """Centres with the rows of zeros that a training adds."""
    rows = classifier.padded_classes(len(centres), pad_to)
    return np.pad(centres, ((0, rows - len(centres)), (0, 0)))
