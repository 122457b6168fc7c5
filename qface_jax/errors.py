"""Errors that are the user's to mend: shown as one line, without a traceback."""


class UserError(Exception):
    """Something outside the program is wrong: says what, got, expected, how to mend."""


class ConfigError(UserError):
    """The config, the command line or the run folder does not fit."""


class DataError(UserError):
    """A file or folder of images, labels or pairs does not hold what it should."""


def counted(number: int, noun: str) -> str:
    """Returns a number and what is counted, for messages.

    >>> counted(1, "image"), counted(1200, "pair")
    ('1 image', '1,200 pairs')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def printable(text: str) -> str:
    """Returns a text as a terminal may show it: control characters as escapes.

    >>> printable("a\\x1b[2Jb\\nc\\ud800")
    'a\\\\x1b[2Jb\\nc\\\\ud800'
    """
    return "".join(
        c
        if c.isprintable() or c in "\n\t"
        else c.encode("unicode_escape", "surrogatepass").decode("ascii")
        for c in text
    )
