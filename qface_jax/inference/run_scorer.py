"""What a run knows of quality: the scorer of its features, from its state."""

from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from qface_jax.evals.measures.quality_scores import Scorer
from qface_jax.models.heads import REGRESSION
from qface_jax.runs.checkpoint import load_parts
from qface_jax.runs.run_folder import Run

_PARTS = (f"params/head/{REGRESSION}", "aux/ui")


def scorer(config: ConfigDict, regression: Any, ui: Any) -> Scorer:
    """Returns the scorer of a model.

    Args:
        config: Of its run.
        regression: Parameters of the perceptibility regression; None or {} without.
        ui: What is known of unrecognizable images: "centre"; None or {} without.
    """
    regression, ui = jax.device_get((regression, ui))
    return Scorer(
        ui_centre=np.asarray(ui["centre"]) if ui else None,
        kernel=np.asarray(regression["kernel"]) if regression else None,
        bias=np.asarray(regression["bias"]) if regression else None,
        of_unit=config.recognizability.index_of == "unit",
    )


def of_state(config: ConfigDict, state: Any) -> Scorer:
    """Returns the scorer of a state in training."""
    return scorer(config, state.params["head"].get(REGRESSION), state.aux.get("ui"))


def of_run(run: Run, which: str) -> Scorer:
    """Returns the scorer of a run's checkpoint: at least the norm.

    Args:
        run: Any run.
        which: "last" or "best".

    Raises:
        ConfigError: the run has no such checkpoint.
        UserError: it is damaged.
    """
    _, saved = load_parts(run.path, which, _PARTS)
    return scorer(run.config, *(saved[part] for part in _PARTS))
