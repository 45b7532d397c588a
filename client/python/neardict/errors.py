"""Everything that neardict raises on purpose.

NeardictError
├── AbsentKeyError (KeyError)               the key has no entry
├── ConflictError                           another writer came first: a condition does not hold
├── InvalidArgumentError (ValueError)       the service refuses the domain, key, value or option
├── InvalidTypeError (TypeError)            an InvalidArgumentError: a key that is not a str, for example
├── UnsupportedValueError (TypeError)       the value would not come back as it is
├── UndecodableValueError (ValueError)      the stored value does not fit the class registered for it
├── LimitExceededError                      the value is too large, or storage is full
├── CapabilityMissingError                  the backend of the domain cannot do this
├── DataLossError                           the stored entry is damaged
├── UnavailableError (ConnectionError)      the service, or its backend, cannot be reached
├── DeadlineExceededError (TimeoutError)    no answer in time; a write may or may not have happened
├── PermissionDeniedError (PermissionError) the service wants other credentials
├── ServiceError                            the service failed, or answered out of contract
├── BulkError                               some keys of a bulk operation failed; the others are done
├── NotHeldError                            what is asked for is not held here; the message says what to do
└── ClosedError (RuntimeError)              the store was closed, or is of another process or event loop
"""

from collections.abc import Mapping
from typing import Any


class NeardictError(Exception):
    """Base of all. `reason` is the stable word of the contract for what the service refused, or ''."""

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class AbsentKeyError(NeardictError, KeyError):
    """`key` has no entry, or it has expired. `args` is the key alone, as of a KeyError of dict."""

    def __init__(self, key: object) -> None:
        super().__init__("")
        self.args = (key,)

    @property
    def key(self) -> object:
        """The key itself, not its text."""
        return self.args[0]

    def __str__(self) -> str:
        return repr(self.args[0])

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args


class ConflictError(NeardictError):
    """`current_revision` is the revision that the entry had instead, 0 if it was absent."""

    def __init__(self, message: str, *, reason: str = "", current_revision: int = 0) -> None:
        super().__init__(message, reason=reason)
        self.current_revision = current_revision


class InvalidArgumentError(NeardictError, ValueError):
    """The service refuses the domain, key, value or option; the message says what it takes.

    `field` names the part of the request that the service refuses, or is ''.
    """

    def __init__(self, message: str, *, reason: str = "", field: str = "") -> None:
        super().__init__(message, reason=reason)
        self.field = field


class InvalidTypeError(InvalidArgumentError, TypeError):
    """An argument is of a type that is not taken, such as a key that is not a str."""


class UnsupportedValueError(NeardictError, TypeError):
    """A value would not come back as it is, or is not of the type that the dict holds.

    The message names the type and the place.
    """


class UndecodableValueError(NeardictError, ValueError):
    """The stored value does not fit the class that is registered for it."""


class LimitExceededError(NeardictError):
    """The value is larger than the service takes, or its storage is full."""


class CapabilityMissingError(NeardictError):
    """The backend of the domain cannot do this; `capability` names what it lacks."""

    def __init__(self, message: str, *, reason: str = "", capability: str = "") -> None:
        super().__init__(message, reason=reason)
        self.capability = capability


class DataLossError(NeardictError):
    """The stored entry is damaged; other keys are not affected."""


class UnavailableError(NeardictError, ConnectionError):
    """The service, or the backend behind it, cannot be reached. Writes are retried safely before this."""

    # Whether the address itself says that nobody is there, which a connection that is slow does not.
    _is_refused = False
    # For how many seconds the service wants to be left alone, at least.
    _retry_delay = 0.0


class DeadlineExceededError(NeardictError, TimeoutError):
    """No answer came in time. A write may or may not have happened."""


class PermissionDeniedError(NeardictError, PermissionError):
    """The service wants other credentials."""


class ServiceError(NeardictError):
    """The service failed, or answered what the contract does not know."""


class BulkError(NeardictError):
    """`failures` maps each key that failed to its error; all other keys of the call are done."""

    def __init__(self, failures: Mapping[str, NeardictError], total: int) -> None:
        first, error = next(iter(failures.items()))
        super().__init__(f"{len(failures)} of {total} keys failed, the first being {first!r}: {error}")
        self.failures = dict(failures)

    def __reduce__(self) -> tuple[Any, ...]:
        return _bulk_error, (str(self), self.failures)


def _bulk_error(message: str, failures: dict[str, NeardictError]) -> BulkError:
    """Makes a BulkError anew, in the process that it was sent to."""
    error = BulkError(failures, len(failures))
    error.args = (message,)
    return error


class NotHeldError(NeardictError):
    """What is asked for is not held here.

    An asyncio dict would have to ask the service, and the message says what to await; or a value to be
    saved has gone from the dict, with what was edited in place.
    """


class ClosedError(NeardictError, RuntimeError):
    """The store cannot be used here any more, or not here; the message says what to do.

    It was closed, or was made before a fork, in another process; the interpreter is exiting; a store of
    asyncio is used in another event loop than its own, or in none.
    """
