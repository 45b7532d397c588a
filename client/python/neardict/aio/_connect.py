"""The usual way in."""

import grpc

from .._channel import DEFAULT_TIMEOUT
from .store import Store


def connect(
    target: str | None = None,
    *,
    timeout: float = DEFAULT_TIMEOUT,
    credentials: grpc.ChannelCredentials | None = None,
) -> Store:
    """Returns a store at `target`, by default NEARDICT_TARGET, else localhost:50051.

    To be called on the event loop that will use it. Does not wait for the connection: a service that
    cannot be reached is reported by the first call, with UnavailableError. `timeout` bounds each call,
    in seconds. `credentials` turn on TLS.
    """
    return Store(target, timeout=timeout, credentials=credentials)
