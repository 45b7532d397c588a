"""Loading a mirror, beside a plain dict of the same entries; each in a fresh process."""

import statistics
from collections.abc import Callable

from .. import growth
from ..backends import one
from ..filling import write
from ..floors import Floor, Row, median_rate
from ..growth import Growth
from .size import Size

_Runs = list[tuple[Growth, Growth]]


def mirror(size: Size) -> list[Row]:
    """How many entries a second, and how much memory."""
    runs = _runs(size)
    rates = [size.entries / ours.seconds for ours, _ in runs]
    many = f"{size.entries:,} small entries"

    def memory(name: str, when: str, taken: Callable[[Growth], int]) -> Row:
        return Row(
            name,
            f"memory of a mirror of {many}, {when}",
            _megabytes([taken(ours) for ours, _ in runs]),
            f"plain dict: {_megabytes([taken(plain) for _, plain in runs])}",
            [taken(ours) / taken(plain) for ours, plain in runs],
            Floor(1.3, most=True),
        )

    title = f"loading a mirror of {many}, entries/s"
    return [
        Row("mirror_rate", title, median_rate(rates), "", rates, Floor(150_000)),
        _beside_decoding(size, runs),
        memory("mirror_memory", "once loaded", lambda growth: growth.loaded),
        memory("mirror_memory_read", "once every entry was read", lambda growth: growth.read),
        memory("mirror_memory_peak", "at most, while it loads", lambda growth: growth.peak),
    ]


def decoding(size: Size) -> list[Row]:
    """The rate alone, beside something that depends on the machine as it does."""
    return [_beside_decoding(size, _runs(size))]


def _beside_decoding(size: Size, runs: _Runs) -> Row:
    return Row(
        "mirror_decoding",
        "the same, against decoding the JSON alone",
        median_rate([size.entries / ours.seconds for ours, _ in runs]),
        f"orjson, into a plain dict: {median_rate([size.entries / plain.seconds for _, plain in runs])}",
        [plain.seconds / ours.seconds for ours, plain in runs],
    )


def _runs(size: Size) -> _Runs:
    with one("memory") as served:
        write(served.address, growth.DOMAIN, growth.small(size.entries))
        return [
            (growth.of("near", served.address, size.entries), growth.of("plain", "-", size.entries))
            for _ in range(size.load_rounds)
        ]


def _megabytes(sizes: list[int]) -> str:
    return f"{statistics.median(sizes) / 1e6:,.1f} MB"
