"""Names writes, so that the service knows a repeated one."""

import itertools
import os

_prefix = ""
_numbers = itertools.count()


def new_request_id() -> str:
    """Returns a text that no other write of any process has: at most 64 bytes.

    128 random bits of the process and a number. Bits for each write would cost ten times as much, and let
    another thread run in between, which breaks up what could travel together. And those who remember ids in
    order, as sqlite does, find the next one beside the last.
    """
    return f"{_prefix}{next(_numbers):010x}"


def _begin() -> None:
    global _prefix
    _prefix = f"{os.urandom(16).hex()}-"


_begin()
# The child of a fork would go on with the same.
os.register_at_fork(after_in_child=_begin)
