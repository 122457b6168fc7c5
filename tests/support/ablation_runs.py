"""Folders of runs that were never trained, for the tests of ablations."""

from qface_jax.configs import document
from qface_jax.evals import results
from qface_jax.evals.measures.verification import Score
from qface_jax.runs import run_folder

IMAGES, CLASSES = 640, 10


def score(accuracy):
    return Score(accuracy, 0.0, [accuracy], [1.0], None, [])


def result(name, accuracies, **changes):
    """A result whose accuracy at a side is `accuracies[side]`, None: collapsed."""
    rows = [
        results.Row(
            side=side,
            status="collapsed" if value is None else "ok",
            message="",
            cross=None if value is None else score(value),
            same=None if value is None else score(value),
            norms=None,
        )
        for side, value in accuracies.items()
    ]
    known = [value for value in accuracies.values() if value is not None]
    mean = sum(known) / len(known) if len(known) == len(rows) else None
    fields = {
        "set": name,
        "status": "ok" if mean is not None else "collapsed",
        "message": "" if mean is not None else "7 px: all features are alike",
        "rows": rows,
        "mean_cross": mean,
        "mean_same": mean,
        "protocol": {"flip": True, "set": {"path": name}},
        "checkpoint": {},
        "config_hash": "",
        "versions": {},
        "date": "2026-11-22T00:00:00+00:00",
        "images_per_second": 1.0,
    }
    return results.Result(**fields | changes)


def write_run(folder, config, accuracies, *, sets=("synthetic",), step=None, **changes):
    """Writes what a run leaves behind; finished unless `step` is not its last.

    Args:
        folder: RUN.
        config: Its config.
        accuracies: side -> accuracy, of every set.
        sets: Their names.
        step: That was evaluated; the config's last by default.
        changes: Of the results' fields.
    """
    if not (folder / run_folder.CONFIG).exists():
        run_folder.open_or_create(
            folder, config, num_classes=CLASSES, data={"images": IMAGES}
        )
    fields = {
        "checkpoint": {"step": config.total_steps if step is None else step},
        "config_hash": document.digest(config),
    }
    for name in sets:
        results.write(folder, result(name, accuracies, **fields | changes))
