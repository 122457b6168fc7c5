"""What an objective is."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Objective(NamedTuple):
    """What is minimised: pure functions, and how the second view is encoded.

    Attributes:
        init: (key) -> (head parameters, state); both pytrees of arrays.
        sample: (batch, key) -> the classes that this step sees (`ClassSample`), or
            None for all of them.
        loss: (features, head, batch, state, sample, centres, key) -> (loss [], state,
            metrics); features [b, d], or [b, 2, d] where the batch has degraded and
            original views; `head` holds the rows of `sample`, `centres` those of all
            classes, for what needs no gradient (None without a head); `key` is for
            chance inside the loss.
        encoder_decay: The second view goes through an average of the encoder over the
            steps, with this decay, and without gradient; None: through the encoder.
        compares_with_start: `batch` holds as "original" [b, d] the second views'
            features in the model that training started from, without gradient.
        takes_feature_map: Instead of features the loss takes (features [b, d], last
            feature map of the backbone [b, h, w, c]).
    """

    init: Callable[..., Any]
    sample: Callable[..., Any]
    loss: Callable[..., Any]
    encoder_decay: float | None = None
    compares_with_start: bool = False
    takes_feature_map: bool = False
