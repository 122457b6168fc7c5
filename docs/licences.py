"""Writes docs/licences.md: the licence of everything that requirements/dev.txt locks.

    python docs/licences.py > docs/licences.md

The environment must hold those releases, as after `bash launch/test.sh`.
"""

import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

LOCKED = Path(__file__).parents[1] / "requirements"
HEADING = """# Licences of the dependencies

What `launch/environment.sh` installs from `requirements/`, with the licence that each
package declares in its own metadata. The product needs those of "run"; those of "tests"
come with the tests and the extras `import`, `export`, `tflite`, `align` and `parquet`.
Written by `python docs/licences.py`.

`qface_jax/losses/brisque.npz` is the regression of the package `brisque`, under the
Apache License 2.0; its text lies beside it. This project has no licence file yet: that
is its owner's choice.

| package | licence | needed by |
|---|---|---|"""
# Some declare none in their metadata; from the licence file in the same release.
UNDECLARED = {"jax2onnx": "Apache-2.0", "namex": "Apache-2.0"}


def locked(name: str) -> dict[str, Requirement]:
    """Returns the requirements of a lock file that count on this machine, by name."""
    lines = (LOCKED / name).read_text().splitlines()
    requirements = [
        Requirement(line.removesuffix("\\").strip())
        for line in lines
        if line and not line.startswith((" ", "#"))
    ]
    return {
        requirement.name: requirement
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate()
    }


def licence(name: str) -> str:
    """Returns the licence that an installed package declares.

    Raises:
        LookupError: it declares none.
    """
    metadata = importlib.metadata.metadata(name)
    classifiers = metadata.get_all("Classifier") or []
    from_classifiers = ", ".join(
        line.rpartition(" :: ")[2] for line in classifiers if line.startswith("License")
    )
    first, *_ = (metadata.get("License") or "").strip().splitlines() or [""]
    declared = metadata.get("License-Expression") or from_classifiers or first
    found = declared or UNDECLARED.get(name)
    if not found:
        raise LookupError(
            f"{name}: declares no licence; look, and add it to UNDECLARED"
        )
    return found


def rows() -> Iterator[str]:
    """Yields a line of the table for each package."""
    run = locked("run.txt")
    for name in sorted(locked("dev.txt")):
        yield f"| {name} | {licence(name)} | {'run' if name in run else 'tests'} |"


if __name__ == "__main__":
    sys.stdout.write("\n".join((HEADING, *rows())) + "\n")
