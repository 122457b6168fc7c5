"""What `qface data` commands share: which set a path is, and how it is opened."""

import argparse
from typing import Any

from qface_jax.errors import ConfigError
from qface_jax.tables import SOURCES, is_external, trust


def add_source(parser: argparse.ArgumentParser, *more: str) -> None:
    """Declares what PATH is; `more` are kinds besides those of sources."""
    names = (*SOURCES, *more)

    def name(word: str) -> str:
        if word not in names and not is_external(word):
            raise argparse.ArgumentTypeError(
                f"got {word!r}, must be one of {', '.join(names)}, or module:object"
            )
        return word

    parser.add_argument(
        "--source",
        type=name,
        default="auto",
        metavar="KIND",
        help=f"what PATH is: {', '.join(names)}, or module:object for your own; "
        "default: found out",
    )


def open_set(path: str, kind: str, seed: int = 0, drop_small: int = 0) -> Any:
    """Opens a training set.

    Args:
        path: Of the set; IDENTITIESxIMAGES of synthetic faces.
        kind: Of `tables.SOURCES`, or module:object.
        seed: Of synthetic faces.
        drop_small: Images that an identity needs to stay; 0: all stay.
    """
    from qface_jax.data_pipelines.sources.source import open_source

    if is_external(kind):
        trust(kind)  # it stood on the command line
    options = _drawn_faces(path, seed) if kind == "synthetic" else {}
    return open_source(kind, [path], options, drop_small_identities=drop_small)


def _drawn_faces(text: str, seed: int) -> dict[str, int]:
    """Returns the options of synthetic faces of the form IDENTITIESxIMAGES."""
    identities, _, images = text.partition("x")
    if not (identities.isdigit() and images.isdigit()):
        raise ConfigError(
            f"synthetic faces: got {text!r}, expected IDENTITIESxIMAGES as in 200x20"
        )
    return {
        "identities": int(identities),
        "images_per_identity": int(images),
        "seed": seed,
    }
