"""The state that a run begins with: fresh, resumed, or with another run's weights."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from qface_jax.configs import document
from qface_jax.errors import ConfigError
from qface_jax.objectives.objective import Objective
from qface_jax.processes import hosts
from qface_jax.runs import checkpoint, run_folder, saved_marker
from qface_jax.runs.checkpoint import Checkpoints
from qface_jax.tables import BACKBONES, INIT_FROM
from qface_jax.train.class_means import with_class_means
from qface_jax.train.setup import Setup, fresh_state
from qface_jax.train.state import TrainState, is_under

# What makes a network what it is; how it is trained stays the new config's business.
_MODEL_KEYS = (
    "backbone", "embedding_dim", "graph", "input_mean", "input_std", "color_order",
)  # fmt: skip


def resolve(config: ConfigDict, init_from: Path | None, run: Path) -> ConfigDict:
    """Returns the config with the network that backbone `init_from` stands for.

    A recipe's dropout is left out, and said to be, where that network has none.

    Args:
        config: Validated config; returned as it is where it names a backbone.
        init_from: Folder of the run to start from.
        run: Folder of the run itself; going on with it takes no other.

    Raises:
        ConfigError: the config wants another run's model and there is none.
    """
    if config.model.backbone != INIT_FROM:
        return config
    # A run that is there goes on by itself, wherever it once started from.
    source = run if (run / run_folder.CONFIG).is_file() else init_from
    if source is None:
        raise ConfigError(
            f"model.backbone: is {INIT_FROM}, which takes the model of another run: "
            "give --init-from=RUN (`qface import` makes one of a PyTorch or ONNX "
            "file), or --config.model.backbone=NAME"
        )
    source_config = run_folder.read(source).config
    model = source_config.model
    resolved = document.from_dict(document.to_dict(config))
    with resolved.unlocked():
        for key in _MODEL_KEYS:
            resolved.model[key] = model[key]
        resolved.own.backbone = source_config.own.backbone
        if resolved.model.dropout and not BACKBONES[model.backbone].has_dropout:
            hosts.say(
                f"model.dropout: {resolved.model.dropout:g} of the recipe is left out, "
                f"backbone {model.backbone} has none but what its own graph holds"
            )
            resolved.model.dropout = 0.0
    return resolved


def check_start(config: ConfigDict, init_from: Path | None) -> None:
    """Raises ConfigError where a new run needs another one to start from."""
    if config.classifier.centres == "class_means" and init_from is None:
        raise ConfigError(
            "classifier.centres: is class_means, the features of a model that training "
            "starts from: give --init-from=RUN, or --config.classifier.centres=random"
        )


def first_state(
    config: ConfigDict,
    source: Any,
    setup: Setup,
    checkpoints: Checkpoints,
    run: Path,
    init_from: Path | None,
    warm: TrainState | None,
) -> TrainState:
    """Returns 1 this run's last state, 2 another run's weights, or 3 a fresh state.

    Args:
        config: The whole config.
        source: Training data.
        setup: Parts of the run.
        checkpoints: What the run has saved.
        run: Folder of the run.
        init_from: Folder of the run that it was asked to start from.
        warm: From `start_from`, where this is a new run with one.

    Raises:
        ConfigError: it has done more steps than the config asks for, or its checkpoints
            were moved away.
    """
    state = checkpoints.restore_latest(setup.abstract)
    if state is None:
        if warm is not None:
            return warm
        saved_marker.refuse_lost_checkpoints(run, config.checkpoint.interval)
        facts = run_folder.read(run)
        if facts.facts["init_from"] is None:
            return fresh_state(setup)
        # Killed before its first checkpoint: it starts again as it did then.
        return start_from(config, source, setup, Path(facts.facts["init_from"]))
    if init_from is not None:
        hosts.say(f"this run has a checkpoint: going on with it, not from {init_from}")
    if int(state.step) > setup.length.total_steps:
        raise ConfigError(
            f"{run}: this run has done {int(state.step)} steps, the config asks for "
            f"{setup.length.total_steps}; give another --workdir, or evaluate it with "
            "qface eval"
        )
    return state


def start_from(
    config: ConfigDict, source: Any, setup: Setup, init_from: Path
) -> TrainState:
    """Returns the fresh state with what fits of another run's weights, and says it.

    Args:
        config: The whole config.
        source: Training data.
        setup: Parts of the run.
        init_from: Folder of the other run.
    """
    taken = warm_start(
        fresh_state(setup),
        init_from,
        objective=setup.objective,
        num_classes=source.num_classes,
    )
    hosts.say(report(taken, init_from))
    if config.classifier.centres == "class_means":
        return with_class_means(source, setup, taken.state)
    return taken.state


class WarmStart(NamedTuple):
    """What was taken from another run.

    Attributes:
        state: The state with those leaves put in; step 0, new optimizer state.
        taken: Names of the leaves that were taken.
        left: Names of the leaves that stay as initialised, each with the reason.
    """

    state: TrainState
    taken: list[str]
    left: dict[str, str]


def _named(tree: Any) -> dict[str, Any]:
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _merge(
    ours: Any, theirs: dict[str, Any], refused: tuple[str, ...] = (), why: str = ""
) -> tuple[Any, list, dict]:
    """Replaces each leaf of `ours` for which `theirs` has an array.

    `why` says why leaves of the refused names are not taken; "": they are.
    """
    taken, left = [], {}

    def pick(path, leaf):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        other = theirs.get(name)
        if why and is_under(refused, path, leaf):
            left[name] = why
        elif other is None:
            left[name] = "the other run has none"
        elif other.shape != leaf.shape:
            left[name] = f"has shape {list(other.shape)} there, {list(leaf.shape)} here"
        else:
            taken.append(name)
            return other
        return leaf

    return jax.tree_util.tree_map_with_path(pick, ours), taken, left


def warm_start(
    state: TrainState, source: Path, *, objective: Objective, num_classes: int
) -> WarmStart:
    """Returns the fresh state with the backbone, and where it fits the head, of a run.

    The class centres are taken only if the number of classes is the same, other modules
    of the head always. The optimizer's and the objective's state start new.

    Args:
        state: Freshly created state.
        source: Folder of the other run.
        objective: What is minimised, and may keep the encoder of the start.
        num_classes: Identities of this run's training set.

    Raises:
        ConfigError: if nothing at all could be taken.
    """
    run = run_folder.read(source)
    parts = ("params/backbone", "stats", "params/head")
    like = _named({"params": state.params, "stats": state.stats})
    why = ""
    if run.num_classes != num_classes:
        why = f"{run.num_classes or 'no'} classes there, {num_classes} here"
        for name in objective.class_rows:
            like.pop(f"params/head/{name}", None)
    _, saved = checkpoint.load_parts(run.path, "last", parts, like=like)
    encoder, taken, left = _merge(
        state.encoder,
        _named({"backbone": saved["params/backbone"], "stats": saved["stats"]}),
    )
    head, head_taken, head_left = _merge(
        {"head": state.params["head"]},
        _named({"head": saved["params/head"]}),
        objective.class_rows,
        why,
    )
    if not taken:
        raise ConfigError(
            f"{source}: no leaf of its backbone {run.config.model.backbone} fits this "
            "run's; use the same model.backbone and model.embedding_dim"
        )
    params = {"backbone": encoder["backbone"], "head": head["head"]}
    merged = state.replace(params=params, stats=encoder["stats"])
    # Copies: the step takes the whole state over, and no array twice.
    copied = jax.tree.map(jnp.copy, encoder)
    merged = merged.with_kept(objective.start(merged.kept, copied))
    return WarmStart(merged, taken + head_taken, left | head_left)


def report(result: WarmStart, source: Path) -> str:
    """Returns what was taken and what was not, in a few lines."""
    total = len(result.taken) + len(result.left)
    lines = [f"started from {source}: took {len(result.taken)} of {total} leaves"]
    lines += [f"  new: {name} ({why})" for name, why in list(result.left.items())[:20]]
    if len(result.left) > 20:
        lines.append(f"  and {len(result.left) - 20} more")
    return "\n".join(lines)
