"""What is logged, and where."""

import logging
import sys


def log_to_stderr(level: str, who: str = "") -> None:
    """Begins to log, from this level on. `who` stands before the name of what logs."""
    form = f"%(asctime)s %(levelname)s {who}%(name)s: %(message)s"
    logging.basicConfig(level=level, format=form, stream=sys.stderr)
