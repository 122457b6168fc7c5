"""Errors that are the user's to mend: shown as one line, without a traceback."""


class UserError(Exception):
    """Something outside the program is wrong: says what, got, expected, how to mend."""


class ConfigError(UserError):
    """The config, the command line or the run folder does not fit."""


class DataError(UserError):
    """A file or folder of images, labels or pairs does not hold what it should."""
