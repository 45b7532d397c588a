"""Keeps what gRPC logs from the program's stderr. To be imported before grpc."""

import os
import sys

# Who has set one of these wants to see something.
_WISHES = ("GRPC_VERBOSITY", "GRPC_TRACE")

# gRPC's core writes errors to stderr by itself, past Python's logging: connections that a server ends
# (GOAWAY), handshakes that fail. Each comes as an error of a call too, or is mended here. It looks at the
# variable once, when it is imported, so that the environment is left as it was.
if "grpc" not in sys.modules and not any(name in os.environ for name in _WISHES):
    os.environ["GRPC_VERBOSITY"] = "NONE"
    try:
        import grpc  # noqa: F401  # it looks
    finally:
        del os.environ["GRPC_VERBOSITY"]
