"""`qface data`: import, look at, preview and align sets of images."""

import argparse
import json
from pathlib import Path
from typing import Any

from qface_jax.errors import ConfigError
from qface_jax.launch.commands import data_align
from qface_jax.launch.commands.command import Command
from qface_jax.tables import SOURCES, is_external, trust

DESCRIPTION = "import, inspect, preview and align sets of face images"
_PAIRS = "pairs"
# What may differ from the run that judges: what is shown, and how it is partitioned.
_SHOWN = tuple(
    f"--config.{key}"
    for key in (
        "data.",
        "degrade.",
        "qgface.",
        "recognizability.ui_",
        "objective=",
        "seed=",
    )
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the actions and their arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_import(actions)
    _add_inspect(actions)
    _add_preview(actions)
    align = actions.add_parser(
        "align",
        help="make aligned crops of a folder of photographs",
        description=data_align.DESCRIPTION,
    )
    data_align.add_arguments(align)


def run(args: argparse.Namespace) -> int:
    """Runs the chosen action; returns the exit status."""
    return _ACTIONS[args.action](args)


def _add_import(actions: Any) -> None:
    parser = actions.add_parser(
        "import",
        help="copy a set into ArrayRecord shards; the same command resumes it",
        description="Writes OUT at once when all is done; until then OUT.importing "
        "keeps what is finished, and the same command goes on from there.",
    )
    parser.add_argument(
        "path",
        help="folder or .rec file; for synthetic faces IDENTITIESxIMAGES, as in 200x20",
    )
    parser.add_argument("out", type=Path, help="folder to make")
    _add_source(parser)
    parser.add_argument(
        "--skip-broken", action="store_true", help="leave out records without an image"
    )
    parser.add_argument(
        "--drop-small-identities",
        type=int,
        default=0,
        metavar="N",
        help="leave out identities with fewer than N images",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of synthetic faces (default: 0)"
    )


def _add_inspect(actions: Any) -> None:
    parser = actions.add_parser(
        "inspect", help="count what a set holds and say what looks wrong"
    )
    parser.add_argument(
        "path", help="folder, .rec or .bin file, or 'pairs.txt::image folder'"
    )
    _add_source(parser, _PAIRS)
    parser.add_argument("--sheet", type=Path, metavar="PNG", help="draw a sample")
    parser.add_argument(
        "--sample", type=_positive, default=2000, help="images to decode at most"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_source(parser: argparse.ArgumentParser, *more: str) -> None:
    names = ("auto", *SOURCES, *more)

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


def _add_preview(actions: Any) -> None:
    parser = actions.add_parser(
        "preview",
        help="draw what the network sees after degradation, as PNG",
        description="Draws pictures of the training set, each beside several "
        "degradations of it: pairs where the objective takes two views, one below "
        "the other where the recipe draws both. With "
        "--checkpoint each has its quality u below it, by the norm of its feature, and "
        "a frame: red where a pair is contrasted (qgface.partition, qgface.threshold; "
        "of single views, where u is not above the threshold), green elsewhere.",
    )
    parser.add_argument(
        "--config",
        metavar="NAME",
        help="shipped config or path; --config.KEY=VALUE; default: the config of RUN",
    )
    parser.add_argument(
        "--checkpoint",
        type=Path,
        metavar="RUN",
        help="folder of a run (the --workdir of qface train) that judges the pictures",
    )
    parser.add_argument(
        "--unrecognizable",
        action="store_true",
        help="draw the unrecognizable images of the config instead (its group "
        "recognizability): made ones beside what they are made of, or those of ui_path",
    )
    parser.add_argument("--out", type=Path, default=Path("preview.png"), help="PNG")
    parser.add_argument("--count", type=_positive, default=32, help="images")


def _import(args: argparse.Namespace) -> int:
    from qface_jax.data_pipelines.tools.importer import import_source

    source = _open(args.path, args.source, args.seed, args.drop_small_identities)
    report = import_source(source, args.out, skip_broken=args.skip_broken)
    print(
        f"{args.out}: {report['images']:,} images of {report['identities']:,} "
        f"identities, {report['bytes'] / 1e6:,.1f} MB; {report['skipped']} skipped, "
        f"{report['odd']} not 112x112"
    )
    for problem in report["examples"]:
        print(f"  {problem}")
    print(
        "use it with --config.data.source=array_record "
        f"--config.data.path={args.out.resolve()}"
    )
    return 0


def _inspect(args: argparse.Namespace) -> int:
    from qface_jax.configs.base import get_config
    from qface_jax.data_pipelines.sets.pair_sets import open_pair_set
    from qface_jax.data_pipelines.tools import inspection

    is_pairs = args.path.endswith(".bin") or "::" in args.path
    if args.source == _PAIRS or (args.source == "auto" and is_pairs):
        pairs = open_pair_set(args.path, get_config().eval)
        facts = inspection.inspect_pairs(pairs, args.sample)
        if args.sheet:
            inspection.pairs_sheet(pairs, args.sheet)
    else:
        source = _open(args.path, args.source)
        facts = inspection.inspect_source(source, args.sample)
        if args.sheet:
            inspection.source_sheet(source, args.sheet)
    if args.json:
        print(json.dumps(facts, indent=1))
    else:
        print("\n".join(_lines(facts)))
    if args.sheet:
        print(f"contact sheet: {args.sheet}")
    return 0


def _preview(args: argparse.Namespace) -> int:
    from qface_jax import objectives
    from qface_jax.data_pipelines.tools.preview import preview, preview_unrecognizable
    from qface_jax.runs import run_folder

    if args.unrecognizable:
        preview_unrecognizable(_shown_config(args), args.out, args.count)
        print(f"preview: {args.out}")
        return 0

    config, judge = _shown_config(args), None
    views = objectives.entry(config).views
    if args.checkpoint is not None:
        from qface_jax.inference.picture_quality import judge_by

        judge = judge_by(run_folder.read(args.checkpoint), config, views=views)
    preview(config, args.out, args.count, views=views, judge=judge)
    print(f"preview: {args.out}")
    return 0


def _shown_config(args: argparse.Namespace) -> Any:
    """The config whose pictures are drawn: the one named, or that of the run."""
    from qface_jax.runs import run_folder
    from qface_jax.settings import config as configs

    if args.checkpoint is None:
        if args.config is None:
            raise ConfigError(
                "--config: got none; give --config=NAME, or --checkpoint=RUN to take "
                "the config of a run"
            )
        return configs.load(args.config, args.overrides)
    _refuse_foreign(args.overrides)
    if args.config is None:
        return configs.override(run_folder.read(args.checkpoint).config, args.overrides)
    return configs.load(args.config, args.overrides)


def _refuse_foreign(overrides: list[str]) -> None:
    """Raises for what would change the run that judges."""
    foreign = [word for word in overrides if not word.startswith(_SHOWN)]
    if foreign:
        known = ", ".join(f"{key}*" for key in _SHOWN)
        raise ConfigError(
            f"{' '.join(foreign)}: the run is as it was trained; with --checkpoint "
            f"only these can be changed: {known}"
        )


def _open(path: str, kind: str, seed: int = 0, drop_small: int = 0) -> Any:
    from qface_jax.data_pipelines.sources.source import detect_source, open_source

    if kind == "auto":
        kind = detect_source(Path(path).expanduser())
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


def _lines(facts: dict, indent: str = "") -> list[str]:
    """Returns nested facts as aligned lines, the warnings last."""
    lines = []
    for key, value in facts.items():
        if key == "warnings":
            continue
        if isinstance(value, dict) and key == "sample":
            lines += [f"{indent}{key}:", *_lines(value, indent + "  ")]
        elif isinstance(value, dict):
            text = ", ".join(f"{name} {count}" for name, count in value.items())
            lines.append(f"{indent}{key}: {text or 'none'}")
        else:
            lines.append(f"{indent}{key}: {value}")
    return lines + [f"warning: {warning}" for warning in facts.get("warnings", [])]


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"got {text}, must be at least 1")
    return value


_ACTIONS = {
    "import": _import,
    "inspect": _inspect,
    "preview": _preview,
    "align": data_align.run,
}


COMMAND = Command(
    summary="import, inspect, preview or align images",
    description=DESCRIPTION,
    add_arguments=add_arguments,
    run=run,
)
