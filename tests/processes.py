"""Processes that a test starts, and that end with it."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import AnyStr


@contextmanager
def ended(process: subprocess.Popen[AnyStr]) -> Iterator[subprocess.Popen[AnyStr]]:
    """Kills the process on the way out, unless it has ended.

    The context of Popen itself waits for it, without end if the test has failed before it could end it.
    """
    with process:
        try:
            yield process
        finally:
            process.kill()
