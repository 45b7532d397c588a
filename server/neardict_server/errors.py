"""What can go wrong below the edge, without a word of gRPC.

StorageError
├── InvalidRequestError     the caller broke a rule of the contract
├── ValueTooLargeError      the value exceeds the configured limit
├── ValueNeedsChunksError   the value does not fit in a message, and has RPCs of its own
├── UploadStalledError      no more of the value has come
├── ConditionFailedError    the condition of a write does not hold
├── NoRouteError            no backend is configured for the domain
├── CapabilityMissingError  the backend cannot do what the request needs
├── StorageFullError        there is no room for the write
├── CorruptEntryError       one stored entry cannot be read; others can
├── TooManyLeasesError      the connection has leases of as many domains as it may
├── TooMuchInFlightError    values of this connection, or of all, take all the memory that is for them
├── BackendUnavailableError the engine cannot be reached or cannot be trusted now
└── DrainingError           the service is shutting down and did nothing

`edge` maps each class to a status in one table. Messages never hold values.
"""

from typing import ClassVar


class StorageError(Exception):
    """An operation failed; `reason` is stable, `metadata` holds facts for programs."""

    reason: ClassVar[str] = "INTERNAL"
    # When to try again, where that is known.
    retry_seconds: ClassVar[float | None] = None

    def __init__(self, message: str, **metadata: str | int) -> None:
        super().__init__(message)
        self.metadata = {name: str(fact) for name, fact in metadata.items()}


class InvalidRequestError(StorageError):
    """The request breaks a rule; `reason` tells which part of it."""

    def __init__(self, message: str, *, reason: str = "INVALID_REQUEST", **metadata: str | int) -> None:
        super().__init__(message, **metadata)
        self.reason = reason  # type: ignore[misc]  # one class, since callers treat them alike


class ValueTooLargeError(StorageError):
    reason = "VALUE_TOO_LARGE"

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"the value has {size} bytes and the limit is {limit}: store less under one key, "
            "or raise limits.max_value_bytes in the server's configuration",
            size=size,
            limit=limit,
        )


class ValueNeedsChunksError(StorageError):
    reason = "VALUE_NEEDS_CHUNKS"

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"the value has {size} bytes, and one message holds {limit}: call ReadValue or WriteValue, "
            "which pass it in chunks",
            size=size,
            limit=limit,
        )


class UploadStalledError(StorageError):
    reason = "UPLOAD_STALLED"


class ConditionFailedError(StorageError):
    """`current_revision` is the present entry's, 0 if the key is absent."""

    reason = "CONDITION_FAILED"

    def __init__(self, current_revision: int) -> None:
        found = f"is there, with the revision {current_revision}" if current_revision else "is absent"
        super().__init__(
            f"the condition does not hold: the key {found}; to write all the same, read it again and retry",
            current_revision=current_revision,
        )
        self.current_revision = current_revision


class NoRouteError(StorageError):
    reason = "NO_ROUTE"


class CapabilityMissingError(StorageError):
    reason = "CAPABILITY_MISSING"

    def __init__(self, capability: str) -> None:
        super().__init__(
            f"the backend of this domain lacks {capability}: leave out what needs it, or route the domain "
            "to a backend that has it (GetServerInfo lists them)",
            capability=capability,
        )


class StorageFullError(StorageError):
    reason = "STORAGE_FULL"


class CorruptEntryError(StorageError):
    reason = "CORRUPT_ENTRY"


class BackendUnavailableError(StorageError):
    reason = "BACKEND_UNAVAILABLE"


class TooManyLeasesError(StorageError):
    reason = "TOO_MANY_LEASES"

    def __init__(self, most: int) -> None:
        super().__init__(
            f"this connection has leases of {most} domains, as many as it may: have linearizable dicts of "
            "fewer, or raise limits.max_connection_leases in the server's configuration",
            limit=most,
        )


class TooMuchInFlightError(StorageError):
    reason = "TOO_MUCH_IN_FLIGHT"
    retry_seconds = 0.25

    def __init__(self) -> None:
        super().__init__(
            "nothing was done: values on their way, of this connection or of all, take the memory for them; "
            "retry when some are answered, send fewer at a time, or raise max_bytes_in_flight or "
            "max_connection_bytes_in_flight under limits in the server's configuration"
        )


class DrainingError(StorageError):
    reason = "DRAINING"
