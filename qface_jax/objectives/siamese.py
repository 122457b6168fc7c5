"""Two resolutions through one network: both are classified, and kept close together.

References:
    Knoche, Hörmann, Rigoll, "Susceptibility to Image Resolution in Face Recognition and
    Trainings Strategies", arXiv 2107.03769, abstract: a siamese network with a cosine
    distance between the features of high and low resolution beside the classification.
    That both resolutions are classified, and the weight, are a reading.
"""

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from qface_jax.losses.distance import paired
from qface_jax.losses.vectors import unit
from qface_jax.objectives import classification
from qface_jax.objectives.classification import mean_over
from qface_jax.objectives.objective import Objective, ObjectiveEntry, Outcome
from qface_jax.options import NOT_NEGATIVE, Option
from qface_jax.sharded.classifier import CENTRES

VIEWS = 2  # of an image: degraded, as it is
OPTIONS = {
    "distance_weight": Option(
        1.0, NOT_NEGATIVE, "Of the cosine distance of the two views' features."
    ),
}


def _build(
    config: ConfigDict, options: dict, num_classes: int, mesh: Mesh
) -> Objective:
    """Returns the siamese objective.

    L = 1/2b sum_i (L_class(low_i) + L_class(high_i))
        + weight / b sum_i (1 - cos(low_i, high_i))
    """
    head = classification.build_head(config, num_classes, mesh)

    def init(key):
        return head.init(key), {"margin": head.margin.init()}

    def sample(batch, key):
        # Each view is a row of the classifier's batch.
        return head.sample({"labels": jnp.repeat(batch["labels"], VIEWS)}, key)

    def loss(encode, params, batch, context):
        labels = batch["labels"]
        features, stats = encode.train(params["backbone"], batch["images"])
        classified, margin_state, metrics = classification.margin_loss(
            features.reshape(-1, features.shape[-1]),
            params["head"][CENTRES],
            jnp.repeat(labels, VIEWS),
            context.state["margin"],
            margin=head.margin,
            spec=head.spec,
            sample=context.sample,
        )
        low, high = unit(features[:, 0]), unit(features[:, 1])
        distance = mean_over(paired(low, high, metric="cosine"), labels >= 0)
        metrics |= jax.lax.stop_gradient(
            {"loss_classification": classified, "distance_views": distance}
        )
        value = classified + options["distance_weight"] * distance
        return value, Outcome(stats, {"margin": margin_state}, metrics)

    return Objective(init, loss, sample=sample, class_rows=(CENTRES,))


OBJECTIVE = ObjectiveEntry(
    _build,
    options=OPTIONS,
    reads=(*classification.READS, "siamese"),
    views=VIEWS,
)
