"""Reaches the nodes of a Redis Cluster: each name is on the node that its slot is on.

Not redis-py's own client for clusters, which repeats what may have been carried out, asks on one
connection and sends on another while a slot moves, and closes the connections of all after an error of one.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from redis import exceptions
from redis.crc import key_slot

from .pipeline import Command, replies_of

# How often a call follows where nodes point, or waits for keys that are on their way to another node.
REDIRECTIONS = 16
TRY_AGAIN_SECONDS = 0.05
# Between two looks at which node has which slot.
REFRESH_SECONDS = 0.2


class Node(NamedTuple):
    host: str
    port: int


class ClusterNodes:
    """Which node has which slot, as far as known, and a client of each node. Satisfies `Nodes`."""

    def __init__(self, start: list[Node], connect: Callable[[str, int], Any]) -> None:
        """`connect` returns a redis.asyncio.Redis that connects when it is used."""
        self._connect = connect
        self._clients: dict[Node, Any] = {}
        # In this order they are asked for the others.
        self._known = list(start)
        self._slots: dict[int, Node] = {}
        self._doubted = True
        self._refreshed = float("-inf")
        self._refreshing = asyncio.Lock()

    @property
    def address(self) -> str:
        return "the cluster of " + ", ".join(f"{node.host}:{node.port}" for node in self._known[:3])

    def place_of(self, key: bytes) -> str:
        node = self._slots.get(key_slot(key))
        return f"{node.host}:{node.port}" if node else ""

    async def execute_many(self, commands: Sequence[Command]) -> list[Any]:
        nodes = {self._slots.get(key_slot(command.key)) for command in commands}
        node = nodes.pop()
        if len(commands) == 1 or self._doubted or node is None or nodes:
            return [await self._attempt(command) for command in commands]
        try:
            replies = await replies_of(self._client(node), [command.words for command in commands])
        except (exceptions.ConnectionError, exceptions.TimeoutError, OSError):
            self._doubt(node)
            raise
        for at, reply in enumerate(replies):
            if isinstance(reply, (exceptions.AskError, exceptions.TryAgainError)):
                # Also one that has moved. Nothing was carried out.
                replies[at] = await self._attempt(commands[at])
            elif isinstance(reply, exceptions.ClusterDownError):
                self._doubt(node)
        return replies

    async def _attempt(self, command: Command) -> Any:
        """Returns the reply, or the error."""
        try:
            return await self._execute(command.key, *command.words)
        except (exceptions.RedisError, OSError) as error:
            return error

    async def _execute(self, key: bytes, *command: Any) -> Any:
        slot = key_slot(key)
        asked: Node | None = None
        for _ in range(REDIRECTIONS):
            if self._doubted or slot not in self._slots:
                await self._refresh(slot)
            node = asked or self._slots[slot]
            try:
                if asked is None:
                    return await self._client(node).execute_command(*command)
                asked = None
                return await self._ask(node, command)
            except exceptions.MovedError as moved:
                # Nothing was carried out. Others may have moved too, as after a failover.
                self._slots[slot] = Node(moved.host or node.host, moved.port)
                self._doubted = True
            except exceptions.AskError as ask:
                asked = Node(ask.host or node.host, ask.port)
            except exceptions.TryAgainError:
                await asyncio.sleep(TRY_AGAIN_SECONDS)
            except (
                exceptions.ConnectionError,
                exceptions.TimeoutError,
                exceptions.ClusterDownError,
                OSError,
            ):
                self._doubt(node)
                raise
        raise exceptions.ClusterDownError("the nodes point to each other")

    def listener(self) -> Any:
        # What is published on any node is heard on each.
        return self._client(self._known[0])

    async def aclose(self) -> None:
        for client in self._clients.values():
            await client.aclose()

    async def _ask(self, node: Node, command: tuple[Any, ...]) -> Any:
        """Sends a command to the node that a slot is moving to, which takes it on this connection once."""
        async with self._client(node).pipeline(transaction=False) as pipeline:
            pipeline.execute_command("ASKING")
            pipeline.execute_command(*command)
            return (await pipeline.execute())[1]

    def _client(self, node: Node) -> Any:
        if node not in self._clients:
            self._clients[node] = self._connect(*node)
        return self._clients[node]

    def _doubt(self, node: Node) -> None:
        """Takes notice that a node does not work: another may have taken over."""
        self._doubted = True
        if node in self._known:
            self._known.remove(node)
            self._known.append(node)

    async def _refresh(self, slot: int) -> None:
        """Asks which node has which slot, unless that was asked a moment ago."""
        async with self._refreshing:
            if slot in self._slots and time.monotonic() < self._refreshed + REFRESH_SECONDS:
                return
            self._refreshed = time.monotonic()
            error: Exception = exceptions.ClusterDownError("no node is known")
            for node in tuple(self._known):
                try:
                    told = await self._client(node).execute_command("CLUSTER SLOTS")
                except exceptions.ResponseError:
                    raise
                except (exceptions.RedisError, OSError) as caught:
                    error = caught
                    self._doubt(node)
                    continue
                self._learn(node, told)
                if slot not in self._slots:
                    raise exceptions.ClusterDownError("no node has the slot")
                return
            if slot not in self._slots:
                raise error

    def _learn(self, asked: Node, told: Any) -> None:
        slots: dict[int, Node] = {}
        nodes: dict[Node, None] = {asked: None}
        for first, last, *replicas in _ranges(told):
            found = [Node(host or asked.host, port) for host, port in replicas]
            nodes.update(dict.fromkeys(found))
            slots.update(dict.fromkeys(range(first, last + 1), found[0]))
        self._slots = slots
        self._known = [*nodes, *(node for node in self._known if node not in nodes)][:64]
        self._doubted = False


def _ranges(told: Any) -> list[Any]:
    """Returns [first, last, (host, port) of the primary, of replicas...] for each range of slots."""
    if isinstance(told, dict):
        # As redis-py parses the reply.
        return [
            [*range_, found["primary"][:2], *(replica[:2] for replica in found["replicas"])]
            for range_, found in told.items()
        ]
    return [
        [first, last, *((node[0].decode() if node[0] else "", node[1]) for node in nodes)]
        for first, last, *nodes in told
    ]
