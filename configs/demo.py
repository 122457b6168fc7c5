"""Synthetic faces, a small backbone, a few minutes on two cores: `launch/demo.sh`."""

from collections.abc import Callable

from ml_collections import ConfigDict

from qface_jax.configs import base


def demo() -> ConfigDict:
    """Returns the config of the demo."""
    config = base.get_config()
    config.total_steps = 1000
    config.model.backbone = "mini"
    config.model.embedding_dim = 128
    config.data.batch_size = 64
    config.data.synthetic.identities = 300
    config.data.synthetic.images_per_identity = 30
    config.optim.learning_rate = 0.1
    config.optim.warmup_steps = 100
    config.checkpoint.interval = 250
    return config


CONFIGS: dict[str, Callable[[], ConfigDict]] = {"demo": demo}
