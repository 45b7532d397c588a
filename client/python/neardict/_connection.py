"""The connection that carries a store's calls, and when it is replaced."""

from __future__ import annotations

import logging
import math
import threading
import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ._session import PING_SECONDS
from ._where import where
from .v1 import storage_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable


logger = logging.getLogger(__name__)

# grpc.Channel, or grpc.aio.Channel, which has no base in common with it.
_Channel = TypeVar("_Channel")


class Connection(Generic[_Channel]):
    """A channel and its stub, whose RPCs are attributes of this. Thread-safe; its lock is a leaf.

    The one that is replaced is closed at once, which cancels its calls, or, where these may still end by
    themselves, when the next is.
    """

    def __init__(self, connect: Callable[[], _Channel]) -> None:
        """`connect` makes channels."""
        self._connect = connect
        self._lock = threading.Lock()
        self._replaced: list[_Channel] = []
        self._closed = False
        # When it brought something last, by the monotonic clock, as far as those say who make its calls.
        self.heard = -math.inf
        self.channel = connect()
        self._stub = _stub(self.channel)

    def __getattr__(self, rpc: str) -> Any:
        return getattr(self._stub, rpc)

    def open(self, rpc: str, *args: Any) -> Any:
        """Calls a streaming RPC; on the next channel, if this one is closed meanwhile."""
        while True:
            stub = self._stub
            try:
                return getattr(stub, rpc)(*args)
            except ValueError:
                if self._stub is stub:
                    raise

    def hear(self) -> None:
        """Something has come."""
        self.heard = time.monotonic()

    def renew(self, *, at_once: bool) -> list[_Channel]:
        """Puts a new channel in its place, which connects when it is used; returns what is to be closed now.

        With `at_once` that is the one before, too.
        """
        # Nobody else knows the channel before it has its stub: gRPC crashes where one is made of a channel
        # that is being closed (https://github.com/grpc/grpc/pull/43455).
        channel = self._connect()
        stub = _stub(channel)
        with self._lock:
            if self._closed:
                return [channel]
            leaving = self._replaced
            self._replaced = [self.channel]
            if at_once:
                leaving, self._replaced = [*leaving, *self._replaced], []
            self.channel, self._stub = channel, stub
            return leaving

    def close(self) -> list[_Channel]:
        """Ends it for good; returns all that is to be closed."""
        with self._lock:
            self._closed = True
            leaving, self._replaced = self._replaced, []
            return [*leaving, self.channel]


class Renewal:
    """Replaces a store's connection by what its stream of changes learns of their common peer.

    That one is pinged each second, and so knows first. While another peer keeps the dicts fresh, calls must
    not wait in vain at the one before.
    """

    def __init__(
        self,
        renew: Callable[[bool], None],
        heard: Callable[[], float],
        clock: Callable[[], float],
        *,
        follows: bool,
    ) -> None:
        """`renew` does it, at once or not; `heard` is when the connection last brought something.

        `follows` is whether the stream and the connection have the same peer, as long as both are well.
        """
        self._renew = renew
        self._heard = heard
        self._clock = clock
        self._follows = follows
        # Whether it was done since a stream came up last.
        self._done = False

    def silent(self, late: float) -> None:
        """The stream was answered, and is not any more.

        Who has found it out was so many seconds late: perhaps it was this process that stood still, and calls
        in flight may be well.
        """
        # A peer that ceased to answer did so two seconds ago or more.
        if self._clock() > self._heard() + PING_SECONDS:
            self._done = True
            self._try(at_once=late < PING_SECONDS)

    def came_up(self, moved: bool) -> None:
        """A stream is answered; `moved` is whether by another peer than the one before."""
        done, self._done = self._done, False
        if moved and self._follows and not done:
            # Calls may be about to end there: a service that drains lets them.
            self._try(at_once=False)

    def _try(self, *, at_once: bool) -> None:
        try:
            self._renew(at_once)
        except Exception as error:
            # Keepalive finds it out too, later.
            logger.error("the connection to neardict could not be renewed: %s", where(error))


def _stub(channel: Any) -> storage_pb2_grpc.StorageServiceStub:
    return storage_pb2_grpc.StorageServiceStub(channel)
