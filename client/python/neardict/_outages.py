"""Says in plain words why nothing answers at an address, where gRPC tells it in those of its insides."""

# What gRPC's details hold, in lower case, and what that means; the first that fits.
_MEANING = (
    ("connection refused", "connection refused"),
    ("no such file or directory", "there is no such socket"),
    ("network is unreachable", "network is unreachable"),
    ("no route to host", "no route to host"),
    ("domain name not found", "its name cannot be resolved"),
    ("dns resolution failed", "its name cannot be resolved"),
    ("errors resolving", "its name cannot be resolved"),
    ("wrong_version_number", "the TLS handshake failed: it does not speak TLS"),
    ("certificate", "the TLS handshake failed, by a certificate"),
    ("handshake", "the TLS handshake failed, or it speaks another protocol"),
    ("ssl", "the TLS handshake failed, or it speaks another protocol"),
    ("before receiving settings", "it took the connection and did not answer"),
    ("settings frame", "it speaks another protocol, or wants TLS"),
    ("ping timeout", "the connection went silent"),
    ("keepalive", "the connection went silent"),
    ("connection reset", "the connection was reset"),
    ("socket closed", "the connection broke"),
    ("endpoint closed", "the connection broke"),
    ("broken pipe", "the connection broke"),
    ("goaway", "the service closed the connection"),
    ("fd shutdown", "connecting timed out"),
    ("timed out", "connecting timed out"),
    ("timeout", "connecting timed out"),
)

# With these it is the address that says so, and not a connection that is slow.
_REFUSED = {
    "connection refused",
    "there is no such socket",
    "network is unreachable",
    "no route to host",
    "its name cannot be resolved",
}


# What gRPC itself says where no connection could be made. A proxy says "connection refused" too, of a server
# behind it that has perhaps had the call before.
_UNSENT = (
    "failed to connect to all addresses",
    "connections to all backends failing",
    "dns resolution failed",
    "errors resolving",
    "domain name not found",
)


def is_refused(details: str) -> bool:
    """Returns whether it is the address that says that nobody is there, so that nothing has been sent."""
    lower = details.lower()
    return any(words in lower for words in _UNSENT) and plain(details) in _REFUSED


def plain(details: str) -> str:
    """Returns why a call could not be made, from what gRPC said of it; that itself if it is not known."""
    lower = details.lower()
    return next((meaning for part, meaning in _MEANING if part in lower), details)
