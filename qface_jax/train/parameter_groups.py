"""Learning rates of groups of parameters, and parameters that do not learn at all."""

import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from qface_jax.errors import ConfigError
from qface_jax.models import Model

BACKBONE = "backbone"  # of the parameters of a state


class Group(NamedTuple):
    """Parameters with a rate of their own.

    Attributes:
        pattern: Regular expression; a parameter belongs to the group if the beginning
            of its path matches, as in "backbone/layer[12]_".
        factor: On the learning rate, >= 0; 0: they stay as they are.
    """

    pattern: str
    factor: float


def parse(words: tuple[str, ...]) -> list[Group]:
    """Returns the groups of `optim.rate_factors`.

    Raises:
        ConfigError: a word is not PATTERN=FACTOR.
    """
    groups = []
    for word in words:
        pattern, equals, text = word.rpartition("=")
        try:
            re.compile(pattern)
            factor = float(text)
        except (re.error, ValueError):
            factor = -1.0
        if not equals or not pattern or not 0.0 <= factor < float("inf"):
            raise ConfigError(
                f"optim.rate_factors: got {word!r}, expected PATTERN=FACTOR, a regular "
                "expression of parameters' paths and a number >= 0, as in "
                "'backbone/layer1_=0.1'"
            )
        groups.append(Group(pattern, factor))
    return groups


def factors(groups: list[Group], params: Any) -> Any:
    """Returns the factor of each leaf: that of the first group it belongs to, else 1.

    Args:
        groups: From `parse`.
        params: Parameters, or their shapes.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, _: _factor(groups, _name(path)), params
    )


def check(groups: list[Group], params: Any) -> None:
    """Raises where a group has no parameter, or no parameter learns.

    Args:
        groups: From `parse`.
        params: Parameters, or their shapes.

    Raises:
        ConfigError: naming what there is.
    """
    names = [_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    for group in groups:
        if not any(re.match(group.pattern, name) for name in names):
            modules = dict.fromkeys("/".join(name.split("/")[:2]) for name in names)
            raise ConfigError(
                f"optim.rate_factors: {group.pattern!r} is the beginning of no "
                f"parameter's path; they begin with: {', '.join(modules)}"
            )
    if groups and not any(_factor(groups, name) for name in names):
        raise ConfigError("optim.rate_factors: all factors are 0, nothing would learn")


def scale(groups: list[Group]) -> optax.GradientTransformation:
    """Returns the update times the factor of each leaf's group.

    Args:
        groups: From `parse`.
    """

    def update(updates, params=None):
        del params
        return jax.tree.map(_times, updates, factors(groups, updates))

    return optax.stateless(update)


def _times(update, factor):
    if factor == 1.0:
        return update
    # Not 0 * update, which would be NaN where the update is not finite.
    return update * factor if factor else jnp.zeros_like(update)


def learning(model: Model, groups: list[Group]) -> Model:
    """Returns the model without gradient of the parameters that stay as they are.

    So the backward pass ends where nothing before it learns.

    Args:
        model: Backbone.
        groups: From `parse`.
    """
    if all(group.factor for group in groups):
        return model

    def stop(path, leaf):
        factor = _factor(groups, f"{BACKBONE}/{_name(path)}")
        return leaf if factor else jax.lax.stop_gradient(leaf)

    def of(function):
        def learning_function(params, *rest, **named):
            params = jax.tree_util.tree_map_with_path(stop, params)
            return function(params, *rest, **named)

        return learning_function

    return model._replace(trunk=of(model.trunk), neck=of(model.neck))


def _name(path):
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _factor(groups, name):
    for group in groups:
        if re.match(group.pattern, name):
            return group.factor
    return 1.0
