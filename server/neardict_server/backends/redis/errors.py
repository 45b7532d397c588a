"""The one place where what redis-py raises becomes an error of the backend interface.

The text of an error is never passed on: Redis quotes arguments of commands in some, and they hold values.
"""

import re

from redis import exceptions

from ...errors import BackendUnavailableError, CorruptEntryError, StorageError, StorageFullError


class RefusedError(BackendUnavailableError):
    """Redis answers, and will not serve us until the settings are changed."""


# What Redis' replies begin with, or hold: Redis 6.2 wraps the error of a command in a script's own.
_BY_CODE: dict[str, StorageError] = {
    "OOM": StorageFullError("Redis is at its maxmemory: delete data, or raise maxmemory"),
    "WRONGTYPE": CorruptEntryError(
        "Redis holds something else where this domain is kept: give one of the programs that use it "
        "another key_prefix or db"
    ),
    "NOAUTH": RefusedError("Redis wants a password: check username and password in the backend's settings"),
    "WRONGPASS": RefusedError(
        "Redis refuses the credentials: check username and password in the backend's settings"
    ),
    # Of a command; of one in a script by Redis 7.0 and before; by those after it.
    **dict.fromkeys(
        ("NOPERM", "The user executing the script can't", "ACL failure in script"),
        RefusedError("the Redis user lacks a permission: docs/redis.md lists those it needs"),
    ),
    "MOVED": RefusedError("this Redis is a node of a Cluster: set cluster = true in the backend's settings"),
    "cluster support disabled": RefusedError(
        "this Redis is no node of a Cluster: leave cluster out of the backend's settings"
    ),
    "CLUSTERDOWN": BackendUnavailableError("a part of the Redis Cluster is down: retry later"),
    "DB index": RefusedError("Redis has no database of this number: check db in the backend's settings"),
    "CERTIFICATE_VERIFY_FAILED": RefusedError(
        "the certificate of Redis is not trusted: check host, and ssl_ca_file, in the backend's settings"
    ),
    "READONLY": BackendUnavailableError("this Redis is a replica: the settings must name its primary"),
    "NOREPLICAS": BackendUnavailableError(
        "Redis refuses writes while too few replicas follow it (min-replicas-to-write)"
    ),
    "LOADING": BackendUnavailableError("Redis is loading its data: retry later"),
    "MISCONF": BackendUnavailableError("Redis cannot write to its disk and refuses writes: see its log"),
}
_CODES = re.compile("|".join(rf"\b{code}\b" for code in _BY_CODE))
_CODES_BY_CLASS: dict[type[Exception], str] = {
    exceptions.OutOfMemoryError: "OOM",
    exceptions.NoPermissionError: "NOPERM",
    exceptions.ReadOnlyError: "READONLY",
    exceptions.BusyLoadingError: "LOADING",
    exceptions.AuthenticationError: "WRONGPASS",
    exceptions.ClusterError: "MOVED",
    exceptions.MovedError: "MOVED",
    exceptions.ClusterDownError: "CLUSTERDOWN",
    exceptions.ClusterCrossSlotError: "MOVED",
}


def translate(error: Exception, backend: str = "") -> StorageError:
    """Returns the error to raise in place of one of redis-py's, or of the network's; it names the backend."""
    translated = _translate(error)
    if not backend:
        return translated
    message = str(translated)
    if message.startswith("Redis "):
        return type(translated)(f"Redis (backend `{backend}`){message.removeprefix('Redis')}")
    return type(translated)(f"backend `{backend}`: {message}")


def _translate(error: Exception) -> StorageError:
    code = code_of(error)
    known = _BY_CODE.get(code)
    if known is not None:
        # A fresh one: an exception that is raised collects its traceback.
        return type(known)(str(known))
    if isinstance(error, (exceptions.TimeoutError, TimeoutError)):
        return BackendUnavailableError(
            "Redis did not answer in time, and a write may have taken effect: retry; one with the same "
            "request_id takes effect once"
        )
    if isinstance(error, exceptions.ResponseError):
        return BackendUnavailableError(f"Redis refused ({code}); its log, or its documentation, tells why")
    return BackendUnavailableError(
        "Redis is down, or cannot be reached: retry later; a write with the same request_id takes effect once"
    )


def code_of(error: Exception) -> str:
    """Returns a short name of the error that holds no data, for logs too."""
    for kind in type(error).__mro__:
        if kind in _CODES_BY_CLASS:
            return _CODES_BY_CLASS[kind]
    text = str(error)
    if isinstance(error, exceptions.ConnectionError):
        # Of the network: address, number and cause.
        return "CERTIFICATE_VERIFY_FAILED" if "CERTIFICATE_VERIFY_FAILED" in text else text[:200]
    if isinstance(error, exceptions.ResponseError):
        if found := _CODES.search(text[:200]):
            return found[0]
        if found := re.match(r"[A-Z]+\b", text):
            return found[0]
    return type(error).__name__
