"""Folders of runs that were never trained, for the tests of ablations."""

from qface_jax.configs import document
from qface_jax.evals import results
from qface_jax.runs import run_folder

IMAGES, CLASSES = 640, 10


def result(name, accuracies, **changes):
    """A result whose accuracy at a side is `accuracies[side]`, None: collapsed."""
    known = [value for value in accuracies.values() if value is not None]
    means = [sum(known) / len(known)] if len(known) == len(accuracies) else []
    scalars, series = {}, []
    for kind, title in (("cross", "Cross-resolution"), ("same", "Same resolution")):
        names = {side: f"{kind}_{side}" for side in accuracies}
        values = {names[side]: value for side, value in accuracies.items()}
        scalars |= {key: value for key, value in values.items() if value is not None}
        scalars |= {f"mean_{kind}": mean for mean in means}
        series.append(
            results.Series(
                kind, title, [f"{side} px" for side in names], list(names.values()),
                mean=f"mean_{kind}", x=list(names),
            )
        )  # fmt: skip
    fields = {
        "set": name,
        "status": "ok" if means else "collapsed",
        "message": "" if means else "7 px: all features are alike",
        "scalars": scalars,
        "series": series,
        "manifest": {"flip": True, "set": {"path": name}},
        "date": "2026-11-22T00:00:00+00:00",
    }
    return results.Result(**fields | changes)


def write_run(folder, config, accuracies, *, sets=("synthetic",), step=None, **changes):
    """Writes what a run leaves behind; finished unless `step` is not its last.

    Args:
        folder: RUN.
        config: Written into its folder.
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
