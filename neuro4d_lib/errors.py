"""The one exception that is meant to be read by a person who did nothing wrong but type."""


class InputError(ValueError):
    """Something that was given cannot be used.

    The message says what was found, what was expected and what to do; command line and panel show it
    unchanged, without a traceback, and exit with code 2.
    """
