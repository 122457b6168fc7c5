"""The tables of the papers that `qface ablation` trains again, a file per paper."""

from qface_jax.configs.ablations import adaface, octuplet, octuplet_starts, qgface
from qface_jax.configs.ablations.ablation import Ablation, Setting

__all__ = ["ABLATIONS", "Ablation", "Setting"]

ABLATIONS: dict[str, Ablation] = {
    **adaface.ABLATIONS,
    **qgface.ABLATIONS,
    **octuplet.ABLATIONS,
    **octuplet_starts.ABLATIONS,
}
