"""The one exception that means: what the user gave cannot be used, and here is what can."""


class InputError(ValueError):
    """Bad input, told in one line: what was wrong, what was received, what is accepted.

    The command line prints it and exits with status 2; in Python it is an ordinary ValueError.
    """
