"""What goes wrong in a run, whatever the backend."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

import neardict
from coherence.engines import DOMAIN, PLACES
from coherence.history import now
from coherence.watchers import watchers

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from coherence.cable import Loss
    from coherence.proxy import Direction
    from coherence.running import System

# Longer than the clients' trust, or shorter.
OUTAGE_SECONDS = (0.3, 6.0)
CROWD = 200
# More than a short log holds.
FLOOD = 1500
# As one who confuses summer time with winter time, or reads the clock of the machine wrongly at its start.
CLOCK_STEP_SECONDS = 3600.0


class Hands:
    """What the faults are made with."""

    def __init__(self, system: System, randomness: random.Random) -> None:
        self.system = system
        self.randomness = randomness
        # When the fault was over, if that was before it returned.
        self.over: float | None = None

    def wait(self, bounds: tuple[float, float] = OUTAGE_SECONDS) -> None:
        time.sleep(self.randomness.uniform(*bounds))


def kill_server(hands: Hands) -> str:
    """A server is killed, with SIGKILL, and started again."""
    server = hands.randomness.choice(hands.system.servers)
    hands.system.kill_server(server, hands.randomness.uniform(0, 3))
    return "server"


def suspend_server(hands: Hands) -> str:
    """SIGSTOP of a server, and SIGCONT."""
    with hands.system.suspended(hands.randomness.choice(hands.system.servers).process):
        hands.wait()
    return "server"


def kill_client(hands: Hands) -> str:
    """A client is killed, with SIGKILL; another takes its place."""
    client = hands.randomness.choice(hands.system.clients)
    hands.system.replace(client)
    return client.name


def suspend_client(hands: Hands) -> str:
    """SIGSTOP of a client, and SIGCONT."""
    client = hands.randomness.choice(hands.system.clients)
    with hands.system.suspended(client.process, client.name):
        hands.wait()
    return client.name


def step_wall_clock(hands: Hands) -> str:
    """A client's wall clock is an hour ahead, or behind, and then right again."""
    client = hands.randomness.choice(hands.system.clients)
    client.set_clock(hands.randomness.choice([-1, 1]) * CLOCK_STEP_SECONDS)
    hands.wait((1.0, 8.0))
    client.set_clock(0.0)
    return client.name


def delay(hands: Hands) -> str:
    """All data of a client is late."""
    client = hands.randomness.choice(hands.system.clients)
    client.proxy.delay = hands.randomness.uniform(0.02, 0.8)
    hands.wait()
    client.proxy.heal()
    return client.name


def half_open(hands: Hands) -> str:
    """One connection of a client, or all, is silent in one direction, or both."""
    client = hands.randomness.choice(hands.system.clients)
    ways: list[list[Direction]] = [["up"], ["down"], ["up", "down"]]
    directions = hands.randomness.choice(ways)
    only = hands.randomness.choice([0, 1, None])
    client.proxy.silence(*directions, only=only)
    hands.wait((1.0, 8.0))
    client.proxy.heal()
    return client.name


def reset(hands: Hands) -> str:
    """All connections of a client are reset."""
    client = hands.randomness.choice(hands.system.clients)
    client.proxy.cut()
    return client.name


def partition(hands: Hands) -> str:
    """Some clients cannot reach the service at all."""
    clients = hands.randomness.sample(
        hands.system.clients, hands.randomness.randint(1, len(hands.system.clients))
    )
    for client in clients:
        client.proxy.refusing = True
        client.proxy.cut()
    hands.wait()
    for client in clients:
        client.proxy.heal()
    return ",".join(client.name for client in clients)


def lost_packets(hands: Hands) -> str:
    """What is sent to a client, what it sends, or both, gets lost in its network; nobody is told."""
    client = hands.randomness.choice(hands.system.clients)
    losses: list[Loss] = ["in", "out", "both"]
    assert client.cable is not None
    client.cable.lose(hands.randomness.choice(losses))
    hands.wait((1.0, 8.0))
    client.cable.heal()
    return client.name


def move_server(hands: Hands) -> str:
    """A server is killed, and started again at another address, to which its name leads from then on."""
    server = hands.randomness.choice(hands.system.servers)
    clients = hands.system.clients_of(server)
    silent, unknown = (hands.randomness.random() < 0.5 for _ in range(2))
    places = [client.leave(silent=silent) for client in clients]
    if unknown:
        for client in clients:
            client.lead_to(None)
    hands.system.kill_server(server, hands.randomness.uniform(0, 3))
    for client, place in zip(clients, places, strict=True):
        client.lead_to(place)
    hands.over = now()
    hands.system.await_return(clients, hands.over)
    return "server"


def trimmed_log(hands: Hands) -> str:
    """While a client is away, more is written than the service remembers."""
    client = hands.randomness.choice(hands.system.clients)
    client.proxy.refusing = True
    client.proxy.cut()
    with neardict.connect(hands.system.servers[0].address, timeout=30) as store:
        for _ in range(FLOOD // 100):
            store.set_many(DOMAIN, {f"flood-{number}": "" for number in range(100)})
        store.delete_many(DOMAIN, [f"flood-{number}" for number in range(100)])
    if hands.system.engine:
        # There the log is as long as it is.
        with closing(hands.system.engine.client()) as redis:
            redis.xtrim(PLACES.log, maxlen=10, approximate=False)
    # Of the keys that are read something must be missed too.
    hands.wait((0.5, 1.5))
    client.proxy.heal()
    return client.name


def slow_consumer(hands: Hands) -> str:
    """Somebody watches the domain, and does not read what he is sent, while much is written."""
    address = hands.system.servers[0].address
    with watchers(address, 1), neardict.connect(address, timeout=30) as store:
        for begin in range(0, 900, 100):
            store.set_many(DOMAIN, {f"large-{begin + n}": "x" * 4000 for n in range(100)})
        store.delete_many(DOMAIN, [f"large-{n}" for n in range(900)])
    return "watcher"


def crowd(hands: Hands) -> str:
    """Hundreds subscribe at once, lose their connection and come again; one client does with them."""
    for _ in range(2):
        with watchers(hands.system.servers[0].address, CROWD):
            hands.wait((0.3, 0.6))
        hands.system.clients[0].proxy.cut()
    return "watchers"


ANY: list[Callable[[Hands], str]] = [
    kill_server,
    suspend_server,
    kill_client,
    suspend_client,
    step_wall_clock,
    delay,
    half_open,
    reset,
    partition,
    lost_packets,
    move_server,
    trimmed_log,
    slow_consumer,
    crowd,
]
