"""The folder of a run: the names of its files, and `config.json`, which describes it.

`config.json` has a format number. Format 1 is that of the versions that wrote none; it
has the same keys. The number rises when this version could no longer be read by one
before it, or the other way round.
"""

import contextlib
import fcntl
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from qface_jax import options, tables
from qface_jax.configs import document
from qface_jax.errors import ConfigError
from qface_jax.runs import run_document
from qface_jax.runs.versions import installed
from qface_jax.storage.atomic_file import replace_file
from qface_jax.storage.files import make_folder, open_to_append, read_bytes

FORMAT = 2
CONFIG, CHECKPOINTS, BEST = "config.json", "checkpoints", "best"
EVAL, SAMPLES = "eval", "samples"
METRICS, TABLE, EVENTS = "metrics.jsonl", "metrics.csv", "tensorboard"
DAMAGED = "damaged"  # checkpoints that a run fell back from
LOCK = ".lock"
LAST_STEP = 2**31 - 1  # a step is an int32
CODE_FOLDERS = run_document.CODE_FOLDERS
IMPORTED = run_document.IMPORTED


class Run(NamedTuple):
    """What `config.json` of a run says.

    Attributes:
        path: Folder of the run.
        config: Resolved config, locked.
        num_classes: Identities of the training set.
        facts: All other entries: data, versions, commit, colour order.
    """

    path: Path
    config: ConfigDict
    num_classes: int
    facts: dict[str, Any]


def commit() -> str | None:
    """Returns the commit of the source tree, '+' where it has changes; None outside."""
    source = Path(__file__)

    def git(*words):
        command = ("git", "-C", str(source.parent), *words)
        return subprocess.run(
            command, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", source.name)  # not another project
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def read(path: str | Path) -> Run:
    """Returns what the run in that folder was started with.

    Raises:
        ConfigError: if the folder is not a run's, or is of a format that this version
            does not know.
    """
    path = Path(path)
    file = path / CONFIG
    if not file.is_file():
        raise ConfigError(
            f"{path}: not the folder of a run: it has no {CONFIG}; "
            "give the --workdir of a `qface train` or the OUT of a `qface import`"
        )
    content = run_document.read(file)
    written_as = content.pop("format", 1)
    if type(written_as) is not int or written_as not in range(1, FORMAT + 1):
        versions = content.get("versions")
        writer = versions.get("qface-jax") if isinstance(versions, dict) else None
        raise ConfigError(
            f"{file}: is of format {options.shown(written_as)}, written by "
            f"qface-jax {writer or 'of unknown version'}; this is qface-jax "
            f"{installed()['qface-jax']}, which reads formats 1 to {FORMAT}: use the "
            "version that wrote it, or a newer one"
        )
    run_document.check(file, content)
    try:
        config = document.from_dict(content.pop("config"))
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error
    tables.look_in(content.get(CODE_FOLDERS, []))
    return Run(path, config, content["num_classes"], content)


def steps_in(folder: Path) -> list[int]:
    """Returns the steps of the checkpoints in a folder, ascending; [] without any.

    Other names are left alone.

    Raises:
        ConfigError: if a name is a number and no step: Orbax would take it for one.
    """
    steps = []
    for path in folder.iterdir() if folder.is_dir() else ():
        name = path.name
        if not name.isdecimal() or not path.is_dir():
            continue
        if not name.isascii() or len(name) > 10 or int(name) > LAST_STEP:
            raise ConfigError(
                f"{folder}: has a folder {name[:40]!r}, expected steps from 0 to "
                f"{LAST_STEP:,} in plain digits; move it elsewhere"
            )
        if str(int(name)) == name:
            steps.append(int(name))
    return sorted(steps)


@contextlib.contextmanager
def lock(
    path: Path, *, command: str = "qface train", option: str = "--workdir"
) -> Iterator[None]:
    """Keeps a second process out of the folder until it is left or the process ends.

    Args:
        path: Folder; made if it does not exist.
        command: What works in it, for the message.
        option: By which the command is given another folder, for the message.

    Raises:
        ConfigError: if another process has it.
    """
    make_folder(path)
    with open_to_append(path / LOCK) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"{path}: another {command} is at work in this folder; wait for it, "
                f"stop it, or give another {option}"
            ) from None
        yield


def fingerprint(path: Path, patience: float = 30.0) -> str:
    """Returns the text of `config.json`; '' if it does not appear within `patience` s.

    Folders shared over a network show a new file on other hosts a little later.
    """
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            return read_bytes(path / CONFIG).decode()
        except FileNotFoundError:
            time.sleep(0.2)
    return ""


def _check_same(run, config, num_classes, images, allow_config_change):
    """Raises where a run was started with another config or other data."""
    path, changed = run.path, document.differences(run.config, config)
    if IMPORTED in run.facts:
        raise ConfigError(
            f"{path}: holds an imported model, which stays as it is; to train from it "
            f"give another --workdir and --init-from={path}"
        )
    if changed and not allow_config_change:
        lines = "\n".join(f"  {line}" for line in changed)
        raise ConfigError(
            f"{path}: holds a run of another config\n{lines}\n"
            "give another --workdir, or --allow-config-change to go on with it"
        )
    if run.num_classes != num_classes:
        raise ConfigError(
            f"{path}: this run has {run.num_classes} classes, the data has "
            f"{num_classes}; to start from its weights give another --workdir "
            f"and --init-from={path}"
        )
    if run.facts["data"]["images"] != images:
        raise ConfigError(
            f"{path}: this run has {run.facts['data']['images']:,} training images, "
            f"the data has {images:,}: it would not be the same run; give another "
            "--workdir"
        )


def open_or_create(
    path: Path,
    config: ConfigDict,
    *,
    num_classes: int,
    data: dict[str, Any],
    init_from: Path | None = None,
    allow_config_change: bool = False,
) -> None:
    """Writes `config.json` of a new run, or checks that an old one is the same.

    Args:
        path: Folder of the run; made if it does not exist.
        config: Resolved config.
        num_classes: Identities of the training set.
        data: `describe()` of the training source, a dict that JSON can hold.
        init_from: The run whose weights a new run started with.
        allow_config_change: Go on although the config differs.

    Raises:
        ConfigError: if the folder holds a run of another config or another data set.
    """
    if (path / CONFIG).is_file():
        run = read(path)
        _check_same(run, config, num_classes, data["images"], allow_config_change)
        if not document.differences(run.config, config):
            return
        init_from = run.facts["init_from"]
    elif path.is_dir() and any(p.name != LOCK for p in path.iterdir()):
        raise ConfigError(
            f"{path}: is not empty and not the folder of a run (no {CONFIG}); "
            "give a new or empty --workdir"
        )
    facts = {
        "data": data,
        "init_from": None if init_from is None else str(init_from),
    }
    if document.external_names(config):
        facts[CODE_FOLDERS] = tables.code_folders()
    _write(path, config, num_classes, facts)


def write_imported(
    path: Path, config: ConfigDict, *, num_classes: int, imported: dict[str, Any]
) -> None:
    """Writes `config.json` of a model that was imported, not trained.

    Args:
        path: Folder of the run.
        config: Config whose `model` group describes the model.
        num_classes: Identities of its class centres; 0 where it has none.
        imported: Origin of the weights: file, its hash, its layout.
    """
    facts = {"data": None, "init_from": None, IMPORTED: imported}
    _write(path, config, num_classes, facts)


def _write(path, config, num_classes, facts) -> None:
    content = {
        "format": FORMAT,
        "config": document.to_dict(config),
        "config_digest": document.digest(config),
        "num_classes": num_classes,
        **facts,
        "color_order": "RGB",
        "pixel_scale": "x / 127.5 - 1",
        "versions": installed(),
        "commit": commit(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    text = json.dumps(content, indent=2) + "\n"
    replace_file(path / CONFIG, text.encode())
