"""Errors that are the user's to mend: shown as one line, without a traceback."""

from collections.abc import Iterator


class UserError(Exception):
    """Something outside the program is wrong: says what, got, expected, how to mend."""


class ConfigError(UserError):
    """The config, the command line or the run folder does not fit."""


class DataError(UserError):
    """A file or folder of images, labels or pairs does not hold what it should."""


def origins(error: BaseException, *, contexts: bool = True) -> Iterator[BaseException]:
    """Yields an error, then what it comes from, each once.

    A library that keeps an error and raises it again can close the chain to a ring.

    Args:
        error: The last one.
        contexts: Follow also what was being handled when an error was raised, where it
            names no cause.
    """
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        yield at
        at = at.__cause__ or (at.__context__ if contexts else None)


def counted(number: int, noun: str) -> str:
    """Returns a number and what is counted, for messages.

    >>> counted(1, "image"), counted(1200, "pair")
    ('1 image', '1,200 pairs')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def printable(text: str, *, keep: str = "") -> str:
    """Returns text with what does not show, or acts on a terminal, as escapes.

    Names of files and of what is in them come from outside: they may hold characters
    that clear the screen, line ends, bytes that are no text.

    Args:
        text: Any text.
        keep: Characters that stay, as the line ends of a message.

    >>> printable("a\\x1b[2Jb\\udcff.jpg")
    'a\\\\x1b[2Jb\\\\udcff.jpg'
    """
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or one in keep else ascii(one)[1:-1] for one in text
    )
