"""The console command `qface`: finds the subcommand, turns errors into one line."""

import argparse
import errno
import importlib
import os
import sys
import traceback

from qface_jax import __version__
from qface_jax.errors import UserError
from qface_jax.launch import backend, cluster
from qface_jax.processes import hosts
from qface_jax.processes.roll_call import NotJoinedError

# Name -> (module with add_arguments and run, what it does).
COMMANDS: dict[str, tuple[str, str]] = {
    "train": ("qface_jax.launch.commands.train", "train a model, or go on with a run"),
    "eval": ("qface_jax.launch.commands.evaluate", "judge a run at every resolution"),
    "import": (
        "qface_jax.launch.commands.import_model",
        "make a run of a model from PyTorch, safetensors or ONNX",
    ),
    "plan": (
        "qface_jax.launch.commands.plan",
        "bytes per device, before anything is launched",
    ),
    "data": ("qface_jax.launch.commands.data", "import, inspect or preview images"),
    "quality": (
        "qface_jax.launch.commands.quality",
        "score faces, judge the scores, draw where a model looks",
    ),
    "gst": (
        "qface_jax.launch.commands.gst",
        "draw the gradient scaling term of margins",
    ),
    "report": (
        "qface_jax.launch.commands.report",
        "write a run's report as one HTML page",
    ),
    "ablation": (
        "qface_jax.launch.commands.ablation",
        "train and compare the rows of a table",
    ),
}
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
# A path that the user named cannot be used.
BAD_PATH = frozenset(
    {
        errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR,
        errno.EISDIR, errno.EEXIST,
    }
)  # fmt: skip
NO_MEMORY = "RESOURCE_EXHAUSTED"  # how XLA's error begins, whatever its class
EXIT_FAULT, EXIT_ERROR, EXIT_INTERRUPTED = 1, 2, 130
OVERRIDE = "--config."


def _overview() -> str:
    lines = [f"  {name:<8} {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(["commands:", *lines, "", "qface COMMAND --help says more."])


def _parse(words: list[str]) -> tuple[str, argparse.Namespace]:
    """The command's name and its arguments; exits on --help and on wrong words."""
    top = argparse.ArgumentParser(
        prog="qface",
        description="Face recognition that still works when the picture is bad.",
        epilog=_overview(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"qface {__version__}")
    top.add_argument("command", choices=COMMANDS, metavar="COMMAND")
    name = top.parse_args(words[:1] or ["--help"]).command
    module = importlib.import_module(COMMANDS[name][0])
    parser = argparse.ArgumentParser(
        prog=f"qface {name}",
        description=module.DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    args, rest = parser.parse_known_args(words[1:])
    args.overrides = [word for word in rest if word.startswith(OVERRIDE)]
    unknown = [word for word in rest if not word.startswith(OVERRIDE)]
    if args.overrides and not hasattr(args, "config"):
        unknown = rest
    if unknown:
        parser.error(f"unknown argument(s): {' '.join(unknown)}")
    return name, args


def _explain(name: str, error: Exception) -> int:
    """Says what went wrong and returns the exit status for it."""
    if isinstance(error, BrokenPipeError):
        # The reader (head, less) has gone; there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    number = error.errno if isinstance(error, OSError) else None
    status, who = EXIT_ERROR, f"{hosts.prefix()}qface {name}"
    where = f" at {error.filename}" if number and error.filename else ""
    if isinstance(error, UserError):
        text = str(error)
        if isinstance(error, NotJoinedError):
            status = hosts.EXIT_LOST
    elif NO_MEMORY in str(error):
        first = next(line for line in str(error).splitlines() if NO_MEMORY in line)
        text = (
            f"out of memory on a device ({first.strip()}); give a smaller "
            "data.batch_size, optim.accumulation_steps or more devices (qface plan "
            "says what each needs), and end other programs on it"
        )
    elif number in NO_SPACE:
        text = (
            f"no space left on the disk{where}; what was saved before is whole; make "
            "room and run the same command again"
        )
    elif number in BAD_PATH and where:
        text = f"{error.strerror}{where}; change its rights or name another place"
    else:
        traceback.print_exception(error)
        print(f"{who}: this is a fault of qface_jax itself", file=sys.stderr)
        return EXIT_FAULT
    print(f"{who}: error: {text}", file=sys.stderr)
    return status


def main(words: list[str] | None = None) -> int:
    """Runs `qface WORDS` and returns its exit status.

    0: done. 1: a fault of the program. 2: something the user must mend, said in one
    message. 75: another process of the run was lost or never joined. 130: Ctrl-C.
    128 + N: signal N ended a run, on all its processes, after its state was saved.
    """
    name, args = _parse(sys.argv[1:] if words is None else words)
    module = importlib.import_module(COMMANDS[name][0])
    backend.prepare()
    try:
        return cluster.leave(module.run(args))
    except KeyboardInterrupt:
        print(f"\n{hosts.prefix()}qface {name}: interrupted", file=sys.stderr)
        return cluster.leave(EXIT_INTERRUPTED, "interrupted by Ctrl-C")
    except Exception as error:
        if not isinstance(error, UserError):
            cluster.let_the_lost_be_named()
        # Nothing may leave uncaught: a live traceback would hold on to the input
        # pipeline, whose threads hang when Python ends before them.
        status = _explain(name, error)
        return cluster.leave(status, f"{type(error).__name__}: {error}"[:1000])


if __name__ == "__main__":
    sys.exit(main())
