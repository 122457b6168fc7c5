"""Settings of an evaluation: as a protocol reads them, and as its result is known by.

Results of a run are kept apart by the settings that their numbers depend on. Those of
the run's own config are the usual ones; what differs from them is a change.
"""

import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from ml_collections import ConfigDict

from qface_jax import tables
from qface_jax.configs import base, document
from qface_jax.errors import ConfigError
from qface_jax.evals.protocols.protocol import READS, EvalSettings
from qface_jax.evals.results import Result

PROTOCOL, SET, WHICH = "eval.protocol", "eval.sets", "which"
SYNTHETIC = "synthetic"  # the set that `eval.synthetic` describes
LAST = "last"  # the checkpoint that a run is evaluated at


def settings(config: ConfigDict, protocol: str) -> EvalSettings:
    """Returns the settings of an evaluation, with the protocol's own options.

    Args:
        config: validated config; options that it lacks have their defaults.
        protocol: name of the protocol.
    """
    group = config.eval
    return EvalSettings(
        resolutions=tuple(group.resolutions),
        flip=group.flip,
        folds=group.folds,
        max_pairs=group.max_pairs,
        metric=group.metric,
        antialias=group.antialias,
        batch_size=group.batch_size,
        discard_fmr=group.discard_fmr,
        quality_scores=tuple(group.quality_scores),
        path=group.path,
        synthetic=group.synthetic.to_dict(),
        resize=group.resize or config.data.resize,
        workers=config.data.workers,
        options=_options(config, "protocol", protocol),
    )


def named_settings(
    config: ConfigDict, protocol: str, set_name: str, *, which: str = LAST
) -> dict[str, Any]:
    """Returns what the numbers of a result depend on besides the model, by name.

    Args:
        config: validated config.
        protocol: name of the protocol.
        set_name: the set as it stands in `eval.sets`; where its files lie, which may
            be another place on another machine, does not count.
        which: checkpoint of the run, "last" or "best".

    Returns:
        Key of the config, such as "eval.flip" -> value fit for JSON, and "which".

    Raises:
        ConfigError: the protocol reads something that is no setting.
    """
    values = settings(config, protocol)
    names = tables.PROTOCOLS[protocol].reads
    if unknown := sorted(set(names) - set(READS)):
        raise ConfigError(
            f"protocol {protocol}: reads: got {', '.join(unknown)}, expected names of "
            f"{', '.join(READS)}"
        )
    read = {name: getattr(values, name) for name in names}
    if set_name != SYNTHETIC and not tables.is_external(protocol):
        read.pop("synthetic", None)
    named = {
        PROTOCOL: protocol,
        SET: "::".join(PurePath(part).name for part in set_name.split("::")),
        WHICH: which,
    }
    named |= _prefixed("eval", read)
    named |= _prefixed(_group("protocol", protocol), values.options)
    for score in read.get("quality_scores", ()):
        # Looked up in the config, not in the table: no code is imported for a name.
        group = config.own.quality_score
        if not tables.is_external(score):
            group = config.eval.get(score, {})
        named |= _prefixed(_group("quality_score", score), group)
    return json.loads(json.dumps(named))


def changes(
    evaluated: dict[str, Any], usual: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """Returns the settings that differ: name -> {"got": value, "run": the run's own}.

    Args:
        evaluated: settings of an evaluation, from `named_settings`.
        usual: those of the run's own config, likewise.
    """
    return {
        name: {"got": evaluated.get(name), "run": usual.get(name)}
        for name in evaluated | usual
        if evaluated.get(name) != usual.get(name)
    }


def own_entry(config: ConfigDict, set_name: str) -> tuple[str, str] | None:
    """Returns protocol and set of the entry in a run's sets that a set stands for.

    Args:
        config: the run's own config.
        set_name: as it stands in `eval.sets` of an evaluation, maybe with another
            protocol, folder of its images or place; None: it is another set.
    """
    listed = (
        document.split_benchmark(entry, config.eval.protocol)
        for entry in config.eval.sets
    )
    return next((e for e in listed if _stem(e[1]) == _stem(set_name)), None)


def usual_settings(
    config: ConfigDict, protocol: str, set_name: str, earlier: Result | None
) -> dict[str, Any]:
    """Returns the settings that a run itself evaluates a set with, by name.

    Protocol and set are those of the entry in the run's own `eval.sets`; of a set that
    is not there those that it was first evaluated with, so that another list or
    protocol of the same name does not take its place.

    Args:
        config: the run's own config.
        protocol: that is evaluated now.
        set_name: that is evaluated now, as it stands in `eval.sets`.
        earlier: the result under the set's plain name; None: there is none.
    """
    usual = own_entry(config, set_name)
    if usual is None and earlier is not None:
        usual = earlier.protocol or protocol, earlier.settings.get(SET, set_name)
    usual_protocol, usual_set = usual or (protocol, set_name)
    # By the keys that the protocol of now reads: that of the run may not be trusted.
    return named_settings(config, protocol, usual_set) | {PROTOCOL: usual_protocol}


def _stem(set_name: str) -> str:
    """The name of a set's list, folder or file, which most results are called by."""
    return PurePath(set_name.partition("::")[0]).stem


def _options(config: ConfigDict, kind: str, name: str) -> dict[str, Any]:
    if not tables.is_external(name):
        return document.options_of(config, kind, name)
    group, declared = config.own[kind], base.OWN[kind][name].options
    return {key: group.get(key, option.default) for key, option in declared.items()}


def _group(kind: str, name: str) -> str:
    return f"{document.OWN}{kind}" if tables.is_external(name) else f"eval.{name}"


def _prefixed(group: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by the keys of a config; groups within are taken apart."""
    return dict(document.flatten(ConfigDict(dict(values)), f"{group}."))
