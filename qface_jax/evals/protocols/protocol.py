"""The evaluation protocols by name: a new one is one file and one line here."""

from collections.abc import Callable

from qface_jax.evals.protocols import verification as cross_resolution
from qface_jax.evals.results import Result

PROTOCOLS: dict[str, Callable[..., Result]] = {
    "verification": cross_resolution.evaluate,
}
