"""What a margin is, and what its functions are made of.

Margin softmax is the cross entropy of logits s f(cos theta_y) for the own class and
s cos theta_j for the others; a margin is f, and what it does to the other cosines. The
streamed classifier never has all logits [b, c] at once, so a margin is cut into a
function of the own cosine, one of the other cosines, and a state that is updated from
the global batch before both are used. `logits` puts the same functions together where
[b, c] fits.

The cosines are clipped as in the published code: to [-1 + 1e-3, 1 - 1e-3] for CosFace,
ArcFace and AdaFace (AdaFace's repository), to [-1, 1] for the others.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from qface_jax.options import Option
from qface_jax.tables import MARGINS

Cosines = Float[Array, "b c"]
Target = Bool[Array, "b c"]

# What a margin may adapt to, `Margin.proxy`.
NORM, BRISQUE, PROBABILITY = "norm", "brisque", "probability"
COS_EPS = 1e-3  # distance that AdaFace's repository keeps from |cos| = 1
SINE_EPS = 1e-7  # 1 - cos^2 below which the sine's gradient is taken as 0


def clip_cosine(cos: Float[Array, "..."], eps: float = 0.0) -> Float[Array, "..."]:
    """Returns the cosine within [-1 + eps, 1 - eps]; no gradient where clipped."""
    return jnp.clip(cos, -1.0 + eps, 1.0 - eps)


def sine(cos: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns sqrt(1 - cos^2) for cos in [-1, 1], with a finite gradient everywhere."""
    squared = 1.0 - cos**2
    # The inner where keeps the infinite slope of sqrt at 0 out of the backward pass.
    inside = squared > SINE_EPS
    return jnp.where(inside, jnp.sqrt(jnp.where(inside, squared, 1.0)), 0.0)


def angle(cos: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns arccos(cos) in [0, pi], with a finite gradient everywhere."""
    squared = 1.0 - cos**2
    inside = squared > SINE_EPS
    theta = jnp.arccos(jnp.where(inside, cos, 0.0))
    return jnp.where(inside, theta, jnp.where(cos > 0, 0.0, jnp.pi))


def add_angle(
    cos: Float[Array, "..."], margin: float | Float[Array, "..."]
) -> Float[Array, "..."]:
    """Returns cos(theta + m) without arccos: cos theta cos m - sin theta sin m."""
    return cos * jnp.cos(margin) - sine(cos) * jnp.sin(margin)


def add_angle_below_pi(cos: Float[Array, "..."], margin: float) -> Float[Array, "..."]:
    """Returns cos(theta + m), and cos theta - m sin m where theta + m > pi.

    It decreases in theta over the whole of [0, pi].
    """
    past_pi = cos <= jnp.cos(jnp.pi - margin)
    return jnp.where(past_pi, cos - margin * jnp.sin(margin), add_angle(cos, margin))


def unchanged(cos_theta: Cosines, cos_y: Float[Array, " b"], state: Any) -> Cosines:
    """Returns the cosines of the other classes, clipped to [-1, 1]."""
    return clip_cosine(cos_theta)


def unchanged_eps(cos_theta: Cosines, cos_y: Float[Array, " b"], state: Any) -> Cosines:
    """Returns the cosines of the other classes, clipped to [-1 + 1e-3, 1 - 1e-3]."""
    return clip_cosine(cos_theta, COS_EPS)


class Margin(NamedTuple):
    """A margin with its numbers bound; all but the first function may be left out.

    Attributes:
        target: (cos_y [b], values [b], state) -> f, the margined cosine of the own
            class, [b]. The values are those of `proxy`.
        negative: (cos_theta [b, c], cos_y [b], state) -> cosines of the others, [b, c].
        init: () -> state, a pytree of arrays.
        update: (state, cos_y [b], values [b], valid [b]) -> state; no gradient.
        penalty: (norms [b]) -> added to the loss of each sample, [b].
        describe: (state, values [b]) -> scalars for the log.
        state_at: (mean_norm=, norm_range=, mean_cosine=) -> state late in a training
            whose norms lie within mean_norm +- norm_range and whose own cosines have
            that mean, for pictures; None: the picture takes the first state.
        proxy: What the values of each sample are. NORM: raw feature norms, with their
            gradient; BRISQUE: `losses.brisque.quality` of its image; PROBABILITY: that
            of its own class without margin, softmax of s cos theta. The last two have
            no gradient. With PROBABILITY the other cosines, `negative`, must not be
            changed, since the probability is taken from them, before the state is
            updated.
    """

    target: Callable[..., Float[Array, " b"]]
    negative: Callable[..., Cosines] = unchanged
    init: Callable[[], Any] = lambda: ()
    update: Callable[..., Any] = lambda state, cos_y, norms, valid: state
    penalty: Callable[..., Float[Array, " b"]] = jnp.zeros_like
    describe: Callable[..., dict] = lambda state, norms: {}
    state_at: Callable[..., Any] | None = None
    proxy: str = NORM


class MarginEntry(NamedTuple):
    """A margin by name, an entry of `qface_jax.tables.MARGINS`.

    Attributes:
        build: the options by keyword -> Margin.
        options: by name.
        problems: (values of the options) -> a line for each rule between them that is
            broken, beginning with the option's name.
    """

    build: Callable[..., Margin]
    options: Mapping[str, Option] = {}
    problems: Callable[[Mapping[str, Any]], list[str]] = lambda options: []


def build_margin(name: str, options: Mapping[str, Any] = {}) -> Margin:
    """Returns the margin of that name.

    Args:
        name: A name of `qface_jax.tables.MARGINS`, or `module:object`.
        options: Values of its options; those left out have their defaults.

    Raises:
        ConfigError: the name leads to no margin, or is not trusted.
    """
    entry = MARGINS[name]
    defaults = {key: option.default for key, option in entry.options.items()}
    return entry.build(**{**defaults, **options})


def logits(
    margin: Margin,
    cos_theta: Cosines,
    target: Target,
    values: Float[Array, " b"] | None = None,
    state: Any = (),
    *,
    scale: float,
) -> Cosines:
    """Returns s f(cos theta_y) at the target and the scaled other cosines elsewhere.

    Args:
        margin: Margin.
        cos_theta: Cosines to all centres, [b, c], within [-1, 1].
        target: True at each row's own class, [b, c]. A row without one has the cosines
            of the other classes.
        values: Of the margin's proxy, as its feature norms, [b]; None where it uses
            none.
        state: State of the margin, already updated with this batch.
        scale: s.

    Returns:
        Logits, [b, c].
    """
    cos_y = jnp.sum(jnp.where(target, cos_theta, 0.0), axis=-1)
    target_cos = margin.target(cos_y, values, state)[:, None]
    return scale * jnp.where(
        target, target_cos, margin.negative(cos_theta, cos_y, state)
    )
