"""The console command `qface`: finds the subcommand, turns errors into one line."""

import argparse
import errno
import os
import sys
import traceback

from qface_jax import __version__, tables
from qface_jax.errors import UserError, origins, printable
from qface_jax.launch import backend, cluster, terminal
from qface_jax.processes import hosts
from qface_jax.processes.roll_call import NotJoinedError
from qface_jax.storage.retrying import is_transient
from qface_jax.tables import COMMANDS

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
# A path that the user named cannot be used.
BAD_PATH = frozenset(
    {
        errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR,
        errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY,
    }
)  # fmt: skip
# The same from a library that has its own errors; TensorStore's begin with NO_MEMORY.
NO_SPACE_TEXTS = tuple(os.strerror(number) for number in sorted(NO_SPACE))
# How each of BAD_PATH is mended; of all others the rights are wrong.
GONE = frozenset({errno.ENOENT})
OTHER_KIND = frozenset({errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY})
NO_MEMORY = "RESOURCE_EXHAUSTED"  # how XLA's error begins, whatever its class
EXIT_FAULT, EXIT_ERROR, EXIT_INTERRUPTED = 1, 2, 130
OVERRIDE, TRUST = "--config.", "--trust-code"


def _overview() -> str:
    lines = [f"  {name:<9} {COMMANDS[name].summary}" for name in COMMANDS]
    return "\n".join(["commands:", *lines, "", "qface COMMAND --help says more."])


def _command_name(word: str) -> str:
    """The name of a command; a user's own is module:object."""
    if word not in COMMANDS:
        raise argparse.ArgumentTypeError(
            f"{word!r} is no command; choose from {', '.join(COMMANDS)}, or name your "
            "own as module:object"
        )
    tables.trust(word)
    return word


def _parse(words: list[str]) -> tuple[str, argparse.Namespace]:
    """The command's name and its arguments; exits on --help and on wrong words."""
    top = argparse.ArgumentParser(
        prog="qface",
        description="Face recognition that still works when the picture is bad.",
        epilog=_overview(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"qface {__version__}")
    top.add_argument("command", type=_command_name, metavar="COMMAND")
    name = top.parse_args(words[:1] or ["--help"]).command
    command = COMMANDS[name]
    parser = argparse.ArgumentParser(
        prog=f"qface {name}",
        description=command.description,
        epilog=f"{TRUST}: import the code that a run's folder names as module:object.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_arguments(parser)
    args, rest = parser.parse_known_args(words[1:])
    if TRUST in rest:
        rest.remove(TRUST)
        tables.trust_all()
    args.overrides = [word for word in rest if word.startswith(OVERRIDE)]
    unknown = [word for word in rest if not word.startswith(OVERRIDE)]
    if args.overrides and not hasattr(args, "config"):
        unknown = rest
    if unknown:
        parser.error(f"unknown argument(s): {' '.join(unknown)}")
    return name, args


def _tells_of(error: BaseException, texts: tuple[str, ...]) -> bool:
    """Whether an error, or what it comes from, has one of the texts in its message."""
    return any(text in str(one) for one in origins(error) for text in texts)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:300]


def _explain(name: str, error: Exception) -> int:
    """Says what went wrong and returns the exit status for it."""
    if isinstance(error, BrokenPipeError):
        # The reader (head, less) has gone; there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    number = error.errno if isinstance(error, OSError) else None
    status, who = EXIT_ERROR, f"{hosts.prefix()}qface {name}".rstrip()
    where = f" at {error.filename}" if number and error.filename else ""
    if isinstance(error, UserError):
        text = str(error)
        if isinstance(error, NotJoinedError):
            status = hosts.EXIT_LOST
    elif number in NO_SPACE or _tells_of(error, NO_SPACE_TEXTS):
        text = (
            f"no space left on the disk{where}; what was saved before is whole; make "
            "room and run the same command again"
        )
    elif NO_MEMORY in str(error):
        first = next(line for line in str(error).splitlines() if NO_MEMORY in line)
        text = (
            f"out of memory on a device ({first.strip()}); give a smaller "
            "data.batch_size, optim.accumulation_steps or more devices (qface plan "
            "says what each needs), and end other programs on it"
        )
    elif (no_device := backend.missing_platform()) is not None:
        text = no_device
    elif number in BAD_PATH and where:
        mended = "change its rights or name another place"
        if number in GONE:
            mended = (
                "it is not there, or was removed or moved while the command ran; put "
                "it back or name another place"
            )
        elif number in OTHER_KIND:
            mended = "name another place"
        text = f"{error.strerror}{where}; {mended}"
    elif is_transient(error):
        text = (
            f"the storage fails ({_first_line(error)}); what was saved before is "
            "whole; mend it and run the same command again"
        )
    else:
        traceback.print_exception(error)
        print(f"{who}: this is a fault of qface_jax itself", file=sys.stderr)
        return EXIT_FAULT
    text = printable(text, keep="\n\t")
    print(f"{who}: error: {text}", file=sys.stderr)
    return status


def main(words: list[str] | None = None) -> int:
    """Runs `qface WORDS` and returns its exit status.

    0: done. 1: a fault of the program. 2: something the user must mend, said in one
    message. 75: another process of the run was lost or never joined. 130: Ctrl-C.
    128 + N: signal N ended a run, on all its processes, after its state was saved.
    """
    with terminal.harmless():
        return _main(sys.argv[1:] if words is None else words)


def _main(words: list[str]) -> int:
    name = ""
    try:
        name, args = _parse(words)
        backend.prepare()
        return cluster.leave(COMMANDS[name].run(args))
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
