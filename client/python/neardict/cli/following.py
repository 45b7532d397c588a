"""The changes of one domain as the service sends them, over as many streams as that takes."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, NamedTuple

import grpc

from .._reading import BACKOFF
from .._replies import change_problem, protocol_error, subscribed_problem
from .._session import PING_SECONDS, TRUST_SECONDS
from .._statuses import rejected, to_error, too_late, without_frames
from ..errors import DeadlineExceededError, UnavailableError
from ..v1 import storage_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..errors import NeardictError
    from ..store import Store

# What waiting may mend.
_PASSING = (DeadlineExceededError, UnavailableError)


class Begun(NamedTuple):
    """A stream has begun to send every change after `revision`; before, changes may be missing if `gap`."""

    revision: int
    gap: bool


class Lost(NamedTuple):
    """A stream has ended, and another will be opened."""

    error: NeardictError


class Quiet(NamedTuple):
    """There was no change for a moment."""


def follow(store: Store, domain: str, from_revision: int = 0) -> Iterator[pb.Change | Begun | Lost | Quiet]:
    """Yields the changes after that revision, or from now on if it is 0, until it is closed.

    Raises what no waiting mends, such as CapabilityMissingError.
    """
    revision = from_revision
    # From here on a beginning that does not go on from `revision` leaves a gap.
    continues = from_revision > 0
    failures = 0
    while True:
        stream = _Stream(store, domain, revision)
        try:
            for message in stream:
                failures = 0
                which = message.WhichOneof("response")
                if which == "changes":
                    _check(message.changes, store.target)
                    yield from message.changes.changes
                    revision = max(revision, message.changes.revision)
                elif which == "subscribed":
                    if problem := subscribed_problem(message.subscribed):
                        raise protocol_error(store.target, problem)
                    revision = max(
                        revision if message.subscribed.complete else 1, message.subscribed.revision
                    )
                    yield Begun(revision, continues and not message.subscribed.complete)
                    continues = True
                elif which == "reset":
                    revision = 0
                    break
                elif which == "rejected":
                    yield _passing(rejected(message.rejected, store.target))
                    break
                elif which == "heartbeat":
                    yield Quiet()
        except grpc.RpcError as error:
            # A call is cancelled here if nothing came for too long.
            silent = without_frames(error).code() is grpc.StatusCode.CANCELLED
            yield _passing(too_late(store.target) if silent else to_error(error, store.target))
        finally:
            stream.close()
        failures += 1
        time.sleep(BACKOFF.wait(failures))


def _check(message: pb.Changes, target: str) -> None:
    """Raises ServiceError for changes that the contract does not know."""
    last = 0
    for change in message.changes:
        if problem := change_problem(change):
            raise protocol_error(target, problem)
        last = change.revision
    if message.revision != last:
        raise protocol_error(target, "told changes up to another revision than that of the last")


def _passing(error: NeardictError) -> Lost:
    if not isinstance(error, _PASSING):
        raise error from None
    return Lost(error)


class _Stream:
    """One call, with a ping each second; it ends if nothing has come for long, as it may be half open."""

    def __init__(
        self, store: Store, domain: str, revision: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._subscribe = pb.Subscribe(domain=domain, from_revision=revision)
        self._clock = clock
        self._closed = threading.Event()
        # Since when a message is waited for; None while the user is busy with one.
        self._waiting_since: float | None = clock()
        self._call = store.open_watch(self._requests())

    def __iter__(self) -> Iterator[pb.WatchResponse]:
        for message in self._call:
            self._waiting_since = None
            yield message
            self._waiting_since = self._clock()

    def close(self) -> None:
        self._closed.set()
        self._call.cancel()

    def _requests(self) -> Iterator[pb.WatchRequest]:
        yield pb.WatchRequest(subscribe=self._subscribe)
        number = 0
        while not self._closed.wait(PING_SECONDS):
            since = self._waiting_since
            if since is not None and self._clock() - since > TRUST_SECONDS:
                self._call.cancel()
                return
            number += 1
            yield pb.WatchRequest(ping=pb.Ping(number=number))
