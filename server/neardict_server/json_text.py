"""Whether text is JSON as the contract has it, and how deep it nests."""

from __future__ import annotations

import contextlib
import functools
import itertools
import operator
import sys
from array import array
from itertools import accumulate

import msgspec
import orjson

# With more arrays and objects than this, JSON takes ten times longer to be built than to be looked at.
MANY_CONTAINERS = 1000

# Looks at JSON without building anything. All that it does not refuse, and orjson does, is numbers beyond a
# double's range.
_look = msgspec.json.Decoder(msgspec.Raw).decode
_DIGITS = bytes.maketrans(b"123456789E", b"000000000e")
# One that is larger has one of these, when each digit is a 0.
_IN_LARGE_NUMBERS = (b"e000", b"e+000", b"0" * 309)

# Every character but quotes and brackets.
_OTHERS = bytes(set(range(256)).difference(b'"[]{}'))
_BITS = bytes.maketrans(b"[{]}", b"1100")


class NoJsonError(ValueError):
    """The text is no JSON; the message says where, and quotes nothing of it."""


def check(text: str, count: int) -> None:
    """Raises NoJsonError if the text is no JSON (RFC 8259), or holds what a double cannot.

    `count` is how many `containers` it has.
    """
    if count > MANY_CONTAINERS:
        data = text.encode()
        digits = data.translate(_DIGITS)
        if not any(part in digits for part in _IN_LARGE_NUMBERS):
            with contextlib.suppress(msgspec.DecodeError, RecursionError):  # orjson tells where
                _look(data)
                return
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise NoJsonError(f"line {error.lineno} column {error.colno}") from None


def containers(text: str) -> int:
    """Returns how many arrays and objects there are, or more: brackets in strings count too."""
    return text.count("[") + text.count("{")


def depth(text: str) -> int:
    """Returns how many arrays and objects enclose the innermost one of JSON, itself included.

    Each step is one call of C for the whole text: 1 MiB of nothing but brackets takes some 10 ms.
    """
    data = text.encode()
    if b"\\" in data:
        # Those that stand for themselves first, so that each that is left escapes what follows it.
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    data = data.translate(None, _OTHERS)
    # Whatever stands between two quotes is a string, and most hold no bracket: a pair of quotes then, without
    # which the others have the same meaning.
    data = data.replace(b'""', b"")
    if b'"' in data:
        data = b"".join(data.split(b'"')[::2])
    # As bits, sixteen of them a number, with some more at the end that close: no depth is greater for these.
    count = -(-len(data) // 16)
    numbers = array("H", int(data.translate(_BITS).ljust(16 * count, b"0") or b"0", 2).to_bytes(2 * count))
    if sys.byteorder == "little":
        numbers.byteswap()
    change, peak = _sixteen()
    before = accumulate(map(change.__getitem__, numbers), initial=0)
    return max(map(operator.add, before, map(peak.__getitem__, numbers)), default=0)


@functools.cache
def _sixteen() -> tuple[list[int], list[int]]:
    """Returns, by sixteen brackets as bits, how much deeper it is after them, and at most between them."""
    steps = [[2 * (byte >> place & 1) - 1 for place in range(7, -1, -1)] for byte in range(256)]
    change = [sum(eight) for eight in steps]
    peak = [max(0, *accumulate(eight)) for eight in steps]
    pairs = list(itertools.product(range(256), repeat=2))
    return (
        [change[first] + change[second] for first, second in pairs],
        [max(peak[first], change[first] + peak[second]) for first, second in pairs],
    )
