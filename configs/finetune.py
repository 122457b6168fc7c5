"""Fine-tuning a model on a few hundred or thousand photographs of one's own.

`qface train --config=finetune_small --init-from=RUN --config.data.path=DIR`, RUN made
by `qface import` or trained here, DIR a folder with a folder of aligned faces for each
person. Give what it is judged on with --config.eval.sets; `qface data pairs` makes one.
`docs/first_hour.md` has the whole way.
"""

from collections.abc import Callable

from ml_collections import ConfigDict

from qface_jax.configs import base
from qface_jax.tables import INIT_FROM


def small() -> ConfigDict:
    """Returns AdaFace from the class means of a model, gently, for a hundred steps."""
    config = base.get_config()
    config.total_steps = 100
    config.model.backbone = INIT_FROM
    config.model.freeze_batch_norm = True
    config.classifier.centres = "class_means"
    config.data.source = "auto"
    config.data.skip_broken = True
    config.data.batch_size = 32
    config.optim.learning_rate = 0.005
    config.optim.warmup_steps = 10
    config.eval.before = True
    config.eval.max_pairs = 1_000
    config.checkpoint.interval = 50
    config.log.interval = 10
    return config


CONFIGS: dict[str, Callable[[], ConfigDict]] = {"finetune_small": small}
