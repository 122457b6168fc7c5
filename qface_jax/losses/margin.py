"""Margin softmax for unit tests and notebooks: the logits of each margin, [b, c].

Every function takes cosines between unit features and unit class centres and a
boolean `target` that is True at each row's own class. Only the target column changes
(CurricularFace and a filter also change hard negatives); a row without a target keeps
its cosines. The loss is the cross entropy of the logits.
"""

from qface_jax.losses.margins.adaface import adaface_logits
from qface_jax.losses.margins.arcface import arcface_logits
from qface_jax.losses.margins.combined import combined_logits
from qface_jax.losses.margins.cosface import cosface_logits
from qface_jax.losses.margins.curricularface import curricularface_logits
from qface_jax.losses.margins.magface import magface_logits, magface_penalty
from qface_jax.losses.margins.softmax import softmax_logits
from qface_jax.losses.margins.sphereface import sphereface_logits

__all__ = [
    "adaface_logits",
    "arcface_logits",
    "combined_logits",
    "cosface_logits",
    "curricularface_logits",
    "magface_logits",
    "magface_penalty",
    "softmax_logits",
    "sphereface_logits",
]
