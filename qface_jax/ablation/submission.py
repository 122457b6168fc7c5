"""Which runs an ablation consists of, and what each is trained with."""

import argparse
from pathlib import Path
from typing import Any, NamedTuple

from qface_jax.configs.ablations import Ablation
from qface_jax.errors import ConfigError

SEED = "--config.seed="


class Run(NamedTuple):
    """One training.

    Attributes:
        config: Name of its config.
        seed: Of every draw in it.
        folder: Where it lies.
        words: Overrides that it shares with the others.
        init_from: Run whose weights it starts from.
    """

    config: str
    seed: int
    folder: Path
    words: tuple[str, ...]
    init_from: Path | None = None

    def overrides(self) -> list[str]:
        """Returns all of its `--config.KEY=VALUE`."""
        return [f"{SEED}{self.seed}", *self.words]

    def train(self) -> list[str]:
        """Returns the words after `qface` that train it or go on with it."""
        place = [f"--config={self.config}", f"--workdir={self.folder}"]
        start = [] if self.init_from is None else [f"--init-from={self.init_from}"]
        return ["train", *place, *start, *self.overrides()]

    def wanted(self) -> Any:
        """Returns its config, with the network of the run that it starts from."""
        from qface_jax.runs import run_folder
        from qface_jax.settings import config as configs
        from qface_jax.train import start as starts

        config = configs.load(self.config, self.overrides())
        start = self.init_from
        if start is None or not (start / run_folder.CONFIG).is_file():
            return config  # it comes first, and is not there yet
        return starts.resolve(config, start, self.folder)


def plan(
    args: argparse.Namespace, table: Ablation, seeds: list[int], workdir: Path
) -> list[Run]:
    """Returns the runs, seed by seed: after the first seed the table has all rows.

    Args:
        args: Of the command.
        table: To be trained.
        seeds: Of the runs.
        workdir: Folder of the runs.

    Raises:
        ConfigError: unknown labels, or nothing to start from where rows fine-tune.
    """
    from qface_jax.ablation.table import run_name

    known = {setting.label.lower(): setting for setting in table.settings}
    labels = list(known)
    if args.only is not None:
        labels = [label.strip().lower() for label in args.only.split(",")]
    if not set(labels) <= set(known):
        raise ConfigError(
            f"--only: got {args.only!r}, must be of "
            f"{', '.join(setting.label for setting in table.settings)}"
        )
    # A label said twice is trained once.
    chosen = [known[label] for label in dict.fromkeys(labels)]
    names = [f"{table.families[args.size]}_{setting.config}" for setting in chosen]
    words = tuple(args.overrides)
    runs = []
    for seed in seeds:
        start = _start(args, table, seed, workdir)
        if start is not None and args.init_from is None:
            config = table.start[args.size]
            runs.append(Run(config, seed, start, words))
        runs += [
            Run(name, seed, workdir / run_name(name, seed), words, start)
            for name in names
        ]
    return runs


def _start(
    args: argparse.Namespace, table: Ablation, seed: int, workdir: Path
) -> Path | None:
    """The run that the rows of a seed start from; None where they start new."""
    from qface_jax.ablation.table import run_name

    if not table.fine_tunes:
        if args.init_from is not None:
            raise ConfigError(
                f"--init-from: the rows of {args.table} are trained from the beginning"
            )
        return None
    if args.init_from is not None:
        return args.init_from.absolute()
    if args.size not in table.start:
        raise ConfigError(
            f"{args.table}: its rows fine-tune a model; give --init-from=RUN, as "
            "qface import makes one"
        )
    if args.submit:
        raise ConfigError(
            f"--submit: at --size={args.size} the rows start from a run of "
            f"{table.start[args.size]}, which jobs side by side would not wait for; "
            "train that first and give it with --init-from=RUN"
        )
    return workdir / run_name(table.start[args.size], seed)


def with_drawn_faces(runs: list[Run]) -> tuple[list[Run], list[str]]:
    """Makes all runs take faces drawn once, as launch/demo.sh does.

    Args:
        runs: All runs.

    Returns:
        The runs, on the drawn faces, and the words after `qface` that draw them; none
        where they are there, or the data is other.
    """
    from qface_jax.settings import config as configs

    data = configs.load(runs[0].config, runs[0].overrides()).data
    if data.source != "synthetic":
        return runs, []
    group = data.synthetic
    size = f"{group.identities}x{group.images_per_identity}"
    faces = runs[0].folder.parent / f"faces-{size}-seed{group.seed}"
    words = ("--config.data.source=array_record", f"--config.data.path={faces}")
    runs = [run._replace(words=(*run.words, *words)) for run in runs]
    if faces.is_dir():
        return runs, []
    draw = ["data", "import", "--source=synthetic", f"--seed={group.seed}"]
    return runs, [*draw, size, str(faces)]
