"""What is logged, and where."""

import logging
import sys

# What gRPC logs, with a traceback each, of a client that went while it was sent something.
_GONE = "ExecuteBatchError raised in core by servicer method"


def log_to_stderr(level: str, who: str = "") -> None:
    """Begins to log, from this level on. `who` stands before the name of what logs."""
    form = f"%(asctime)s %(levelname)s {who}%(name)s: %(message)s"
    logging.basicConfig(level=level, format=form, stream=sys.stderr)
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """Returns whether the record is to be logged: one client could fill the disk with the others."""
    return not record.getMessage().startswith(_GONE)
