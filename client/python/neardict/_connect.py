"""The usual way in."""

import grpc

from . import _timeouts
from ._channel import DEFAULT_TIMEOUT, Balance
from ._compression import Compression
from .store import Store


def connect(
    target: str | None = None,
    *,
    timeout: float = DEFAULT_TIMEOUT,
    credentials: grpc.ChannelCredentials | None = None,
    watch: bool = True,
    compression: Compression = None,
    wait: float | None = None,
    proxy: bool = False,
    balance: Balance = "pick_first",
) -> Store:
    """Returns a store at `target`, by default NEARDICT_TARGET, else localhost:50051.

    Does not wait for the connection: a service that cannot be reached is reported by the first call,
    with UnavailableError. `timeout` bounds each call, in seconds. `credentials` turn on TLS.

    With `wait`, in seconds, it waits until the service answers, as for a program that starts beside it.
    Raises UnavailableError, which says what came of the last attempt, if that takes longer.

    With watch=False the store opens no stream of changes: its dicts see what is written through the store,
    and at a `refresh` what others have written. That suits a short program, or one that alone writes.

    With compression="zstd" values of 16 KiB and more travel compressed, where that makes them smaller. It
    pays on networks of 100 Mbit/s and less; within a machine or a data centre it costs time.

    With proxy=True the environment's `grpc_proxy`, `https_proxy` or `http_proxy` is used, except for hosts of
    `no_proxy`. They are meant for the web, so by default they are not.

    Where several servers stand behind one name, a store uses one of them, and another when that has gone.
    With balance="round_robin" it connects to all and takes them in turn.
    """
    seconds = None if wait is None else _timeouts.check(wait, "wait")
    store = Store(
        target,
        timeout=timeout,
        credentials=credentials,
        watch=watch,
        compression=compression,
        proxy=proxy,
        balance=balance,
    )
    if seconds is not None:
        try:
            store.reach(seconds)
        except BaseException:
            store.close()
            raise
    return store
