"""What went wrong, told in one line."""


class InputError(ValueError):
    """Bad input, told in one line: what was wrong, what was received, what is accepted.

    The command line prints it and exits with status 2; in Python it is an ordinary ValueError.
    """


class TrainingError(Exception):
    """Training cannot go on: the loss is not finite, or a file cannot be written.

    The message says what to do.
    """


class DivergedError(TrainingError):
    """The loss is not finite."""


class ExportError(Exception):
    """A file could not be made, or does not answer as the model does; the message tells which."""


class Interrupted(KeyboardInterrupt):
    """Training was asked to stop, and did so after a whole step that is in a checkpoint.

    Attributes:
        signal: which asked, such as signal.SIGTERM.
    """

    def __init__(self, signal: int, message: str) -> None:
        super().__init__(message)
        self.signal = signal
