"""The tree of errors a user can cause.

    LeanrecError
    ├── ConfigError        a configuration key, value or command-line argument
    ├── DataError          an interaction log or a store
    ├── CompositionError   techniques and backbones that cannot be combined
    ├── ArtifactError      a run directory that is missing, damaged, hostile or of another version
    ├── WriteError         a place that cannot be written to, or that another process is writing to
    ├── ForkError          work for threads that a forked process does not have
    └── ServeError         a request that cannot be answered
        └── UnknownItemError   because the catalogue has none of its items

Every message says what was expected, what came, where, and what to do, in one line. The command line
prints it without a traceback and exits with 2; any other exception is a fault of ours and exits with 1.
"""


class LeanrecError(Exception):
    """Base of all errors caused by input. Catch this to handle every bad input at once."""


class ConfigError(LeanrecError):
    """A configuration key, value or command-line argument is wrong."""


class DataError(LeanrecError):
    """An interaction log or a data store is wrong."""


class CompositionError(LeanrecError):
    """A technique needs something that the backbone or an earlier technique does not offer."""


class ArtifactError(LeanrecError):
    """A run directory is missing, damaged, hostile or of another schema version."""


class WriteError(LeanrecError):
    """A place cannot be written to: the disk is full or read-only, or another process is writing there."""


class ForkError(LeanrecError):
    """A forked process lacks the threads of the process that it is a copy of."""


class ServeError(LeanrecError):
    """A request cannot be answered."""


class UnknownItemError(ServeError):
    """A request names no item that the catalogue has."""


def one_line(value: object) -> str:
    """The text of something foreign, fit for a message: one line of at most 200 characters."""
    return " ".join(str(value).split())[:200]
