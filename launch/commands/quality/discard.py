"""`qface quality erc`: error-versus-discard curves of an evaluated run."""

import argparse
from pathlib import Path

DESCRIPTION = """Print how many true matches are missed while the pairs with the lowest
scores are left out, for every score of a run, from its evaluation (RUN/eval): nothing
is embedded again. The pairs are the cross-resolution ones of all resolutions together,
the quality of a pair is the lower one of its two pictures, and the threshold is that of
a false match rate on all pairs."""
_SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the command."""
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run")
    parser.add_argument(
        "--set",
        metavar="NAME",
        help="of this set alone, or of one result of it (its file without .json); "
        "default: all",
    )
    parser.add_argument(
        "--fmr",
        type=float,
        metavar="RATE",
        help="false match rate that sets the threshold; default: the evaluation's",
    )
    parser.add_argument(
        "--out", type=Path, metavar="CSV", help="write the whole curves, too"
    )
    parser.add_argument(
        "--before",
        action="store_true",
        help="of the model that the run started from (eval.before)",
    )


def run(args: argparse.Namespace) -> int:
    """Prints the curves of each set, writes them if asked to."""
    from qface_jax.errors import ConfigError
    from qface_jax.evals import results
    from qface_jax.evals.measures import error_discard
    from qface_jax.runs import run_folder

    if args.fmr is not None and not 0 < args.fmr < 1:
        raise ConfigError(f"--fmr: got {args.fmr}, must be within (0, 1)")
    path = run_folder.read(args.run).path
    folder = results.before(path) if args.before else path
    evaluations = [results.read(path) for path in results.paths(folder)]
    chosen = [r for r in evaluations if args.set in (None, r.set, results.file_name(r))]
    if not chosen:
        names = ", ".join(dict.fromkeys(result.set for result in evaluations))
        there = f"; evaluated are {names}" if names else ""
        how = f"run qface eval --checkpoint={args.run}"
        if args.before:
            how = "only a run trained with --config.eval.before=True has one"
        raise ConfigError(
            f"{folder}: no evaluation{f' of {args.set}' if args.set else ''}{there}; "
            f"{how}"
        )
    written = []
    for result in chosen:
        sides = error_discard.sides_of(result.arrays)
        fmr = args.fmr
        if fmr is None:
            fmr = float(result.arrays.get("discard_fmr", error_discard.FMR))
        quality = error_discard.judge(result.arrays, sides, fmr=fmr)
        if quality is None:
            raise ConfigError(
                f"{result.set}: its evaluation has no scores (its .npz file is missing "
                f"or damaged, or protocol {result.protocol} keeps none); run "
                f"qface eval --checkpoint={args.run} again"
            )
        curves = error_discard.curves(result.arrays, sides, fmr=fmr)
        print(_text(result, quality, curves))
        written += [
            (results.file_name(result), name, curve) for name, curve in curves.items()
        ]
    if args.out is not None:
        error_discard.write_csv(args.out, written)
        print(f"curves: {args.out}")
    return 0


def _text(result, quality, curves) -> str:
    """The table of the areas, and that of the curves at some shares."""
    from qface_jax.evals import results
    from qface_jax.evals.measures import error_discard
    from qface_jax.evals.measures.quality_scores import title
    from qface_jax.evals.text_table import aligned, table_lines

    lines = [f"{result.set}, step {result.checkpoint.get('step', '-')}"]
    if result.changed:
        lines.append(f"with {results.changes_text(result)}")
    lines.append("")
    lines += table_lines(error_discard.table(quality))
    if not curves:
        sides = error_discard.sides_of(result.arrays)
        pairs = int((~result.arrays["issame"]).sum()) * len(sides)
        return "\n".join(
            [*lines, "", f"No curve: too few of {pairs:,} different pairs pass at a "
             f"false match rate of {quality['fmr']:g}, or none is of one identity."]
        )  # fmt: skip
    rows = [["left out", *(f"{share:>6.0%}" for share in _SHARES)]]
    rows += [
        [title(name), *(f"{100 * rate:6.2f}" for rate in curve.at(_SHARES))]
        for name, curve in curves.items()
    ]
    head, *body = aligned(rows, left=[True], ruled=False)
    return "\n".join([*lines, "", f"{head}   (false non-match rate, %)", *body])
