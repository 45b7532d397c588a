"""`neardict ping`."""

import json
import time

import click

from ..server_info import ServerInfo
from ..store import Store
from . import output
from .json_text import printable
from .options import with_store


@click.command()
@click.option(
    "--count", default=1, type=click.IntRange(1, 1_000_000), help="How many round trips to measure."
)
@with_store
def command(store: Store, count: int) -> None:
    """Ask the service what it is, and how quickly it answers.

    Exits with 5 if it cannot be reached, so it can serve as a health check.
    """
    started = time.perf_counter()
    info = store.reach()
    connected = time.perf_counter() - started
    trips = [_round_trip(store) for _ in range(count)]
    if output.for_people():
        _print_for_people(store.target, info, connected, trips)
    else:
        output.say(json.dumps(_facts(store.target, info, connected, trips), ensure_ascii=False))


def _round_trip(store: Store) -> float:
    started = time.perf_counter()
    store.server_info()
    return time.perf_counter() - started


def _facts(target: str, info: ServerInfo, connected: float, trips: list[float]) -> dict[str, object]:
    return {
        "target": target,
        "version": info.version,
        "connect_ms": _ms(connected),
        "round_trip_ms": [_ms(trip) for trip in trips],
        "limits": {
            "max_domain_bytes": info.limits.max_domain_bytes,
            "max_key_bytes": info.limits.max_key_bytes,
            "max_value_bytes": info.limits.max_value_bytes,
            "max_json_depth": info.limits.max_json_depth,
        },
        "backends": [
            {
                "name": backend.name,
                "implementation": backend.implementation,
                "capabilities": list(backend.capabilities),
            }
            for backend in info.backends
        ],
        "routes": [{"domain": route.domain, "backend": route.backend} for route in info.routes],
    }


def _print_for_people(target: str, info: ServerInfo, connected: float, trips: list[float]) -> None:
    trips = sorted(trips)
    output.say(printable(f"neardict {info.version} at {target}"))
    times = f"connected in {_ms(connected)} ms, round trip {_ms(trips[len(trips) // 2])} ms"
    if len(trips) > 1:
        times += f" (median of {len(trips)}, from {_ms(trips[0])} to {_ms(trips[-1])})"
    output.say(times)
    output.say(f"values up to {info.limits.max_value_bytes} bytes")
    for backend in info.backends:
        abilities = ", ".join(backend.capabilities) or "nothing beyond the operations"
        output.say(printable(f"backend {backend.name} ({backend.implementation}): {abilities}"))
    for route in info.routes:
        output.say(printable(f"route {route.domain} -> {route.backend}"))


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
