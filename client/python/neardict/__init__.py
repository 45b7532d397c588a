"""A shared dictionary that is near: the Python client of a neardict service.

A first program:

    import neardict

    with neardict.connect() as store:
        scores = store.dict("game.scores")
        scores["alice"] = {"points": 3}
        print(scores["alice"]["points"])
"""

from . import _grpc_logs  # noqa: F401  # before what imports grpc

# isort: split
from . import errors
from ._connect import connect
from ._connectivity import ConnectionObserver
from ._observers import ABSENT, UNKNOWN, Observer
from ._stats import Stats
from .cached_dict import CachedDict
from .entry import Entry
from .errors import (
    AbsentKeyError,
    BulkError,
    CapabilityMissingError,
    ClosedError,
    ConflictError,
    DataLossError,
    DeadlineExceededError,
    InvalidArgumentError,
    InvalidTypeError,
    LimitExceededError,
    NeardictError,
    NotHeldError,
    PermissionDeniedError,
    ServiceError,
    UnavailableError,
    UndecodableValueError,
    UnsupportedValueError,
)
from .linearizable import LinearizableDict
from .registry import register
from .server_info import ServerInfo
from .store import Store

__all__ = [
    "ABSENT",
    "UNKNOWN",
    "AbsentKeyError",
    "BulkError",
    "CachedDict",
    "CapabilityMissingError",
    "ClosedError",
    "ConflictError",
    "ConnectionObserver",
    "DataLossError",
    "DeadlineExceededError",
    "Entry",
    "InvalidArgumentError",
    "InvalidTypeError",
    "LimitExceededError",
    "LinearizableDict",
    "NeardictError",
    "NotHeldError",
    "Observer",
    "PermissionDeniedError",
    "ServerInfo",
    "ServiceError",
    "Stats",
    "Store",
    "UnavailableError",
    "UndecodableValueError",
    "UnsupportedValueError",
    "connect",
    "errors",
    "register",
]
