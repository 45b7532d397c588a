"""What it means when an HTTP proxy, or another web server, answers in place of neardict."""

from __future__ import annotations

import re
from typing import NamedTuple

from . import errors

# gRPC's words, since the status is nowhere else.
_STATUS = re.compile(r"Received http2 header with status: (\d{3})")
# An answer that has a body and no status of gRPC, and one that is not of HTTP/2 at all.
_NOT_GRPC = "Stream removed (Data frame with END_STREAM flag received)"
_NOT_HTTP2 = ("Failed parsing HTTP/2", "Trying to connect an http1.x server")


class _Meaning(NamedTuple):
    kind: type[errors.NeardictError]
    name: str
    advice: str


_UNREACHED = "it cannot reach neardict: look whether that runs where the proxy forwards to"
_NO_ROUTE = "it does not forward /neardict.v1.StorageService/ to neardict by gRPC"
_MEANINGS = {
    401: _Meaning(errors.PermissionDeniedError, "unauthorized", "it wants credentials of its own"),
    403: _Meaning(errors.PermissionDeniedError, "forbidden", "its rules do not let this client through"),
    404: _Meaning(errors.ServiceError, "not found", _NO_ROUTE),
    405: _Meaning(errors.ServiceError, "method not allowed", _NO_ROUTE),
    407: _Meaning(errors.PermissionDeniedError, "authentication required", "it wants credentials of its own"),
    408: _Meaning(
        errors.UnavailableError,
        "request timeout",
        "raise its timeouts above a minute, since streams may be idle",
    ),
    413: _Meaning(
        errors.LimitExceededError,
        "content too large",
        "raise its limit of a request's body: in nginx, client_max_body_size 0",
    ),
    429: _Meaning(errors.UnavailableError, "too many requests", "it limits requests or connections"),
    502: _Meaning(errors.UnavailableError, "bad gateway", _UNREACHED),
    503: _Meaning(errors.UnavailableError, "service unavailable", _UNREACHED),
    504: _Meaning(
        errors.UnavailableError,
        "gateway timeout",
        "neardict did not answer it in time: look whether it hangs, or raise the proxy's timeout",
    ),
}


def explained(details: str, target: str) -> errors.NeardictError | None:
    """Returns the error to raise for a call that a proxy has answered; None if none has.

    `details` are those of a call's status.
    """
    if (found := _STATUS.search(details)) is not None:
        status = int(found[1])
        meaning = _MEANINGS.get(status, _Meaning(errors.ServiceError, "", _NO_ROUTE))
        named = f"{status} ({meaning.name})" if meaning.name else str(status)
        return meaning.kind(
            f"an HTTP proxy at {target}, or behind it, answered {named} in place of neardict: "
            f"{meaning.advice}. docs/proxies.md has configurations"
        )
    if _NOT_GRPC in details:
        return errors.ServiceError(
            f"what answers at {target} speaks HTTP but not gRPC: a proxy there does not forward gRPC to "
            "neardict, or it is another web server. docs/proxies.md has configurations"
        )
    if any(words in details for words in _NOT_HTTP2):
        return errors.UnavailableError(
            f"what answers at {target} does not speak HTTP/2: it is not neardict, or a proxy that has to be "
            "told to (nginx: `http2` in `listen`; HAProxy: `proto h2`), or it wants TLS"
        )
    return None
