"""What the exit code of `neardict` tells a script. The table in docs/cli.md is this one."""

import enum

from .. import errors


class ExitCode(enum.IntEnum):
    OK = 0
    ABSENT = 1
    USAGE = 2
    CONFLICT = 3
    REFUSED = 4
    UNAVAILABLE = 5
    DATA_LOSS = 6
    INTERNAL = 70
    FILE = 74
    DENIED = 77
    INTERRUPTED = 130
    PIPE_CLOSED = 141


MEANING: dict[ExitCode, str] = {
    ExitCode.OK: "done",
    ExitCode.ABSENT: "`get` and `delete`: the key has no entry; `serve`: the server could not start",
    ExitCode.USAGE: "the command line is wrong",
    ExitCode.CONFLICT: "the condition does not hold; `import`: another value was there and was kept",
    ExitCode.REFUSED: "an input is refused: invalid, too large, or more than the backend can do",
    ExitCode.UNAVAILABLE: "the service cannot be reached, or did not answer in time",
    ExitCode.DATA_LOSS: "a stored entry is damaged; others are not affected",
    ExitCode.INTERNAL: "the service or `neardict` itself failed",
    ExitCode.FILE: "a local file cannot be read or written",
    ExitCode.DENIED: "the service wants other credentials",
    ExitCode.INTERRUPTED: "interrupted with Ctrl-C",
    ExitCode.PIPE_CLOSED: "the reader of the output went away, as `head` does",
}

_CODE_OF: dict[type[errors.NeardictError], ExitCode] = {
    errors.AbsentKeyError: ExitCode.ABSENT,
    errors.ConflictError: ExitCode.CONFLICT,
    errors.InvalidArgumentError: ExitCode.REFUSED,
    errors.UnsupportedValueError: ExitCode.REFUSED,
    errors.LimitExceededError: ExitCode.REFUSED,
    errors.CapabilityMissingError: ExitCode.REFUSED,
    errors.DataLossError: ExitCode.DATA_LOSS,
    errors.UnavailableError: ExitCode.UNAVAILABLE,
    errors.DeadlineExceededError: ExitCode.UNAVAILABLE,
    errors.PermissionDeniedError: ExitCode.DENIED,
}


def code_of(error: errors.NeardictError) -> ExitCode:
    """Returns the exit code for an error of the client, INTERNAL for those that are nobody's fault."""
    return next((_CODE_OF[kind] for kind in type(error).__mro__ if kind in _CODE_OF), ExitCode.INTERNAL)
