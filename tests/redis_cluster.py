"""Starts a Redis Cluster of three primaries, each with a replica."""

import contextlib
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import redis
from redis.crc import key_slot

from redis_server import DEADLINE_SECONDS, POLL_SECONDS, PORTS, RedisServer, free_port

PRIMARIES = 3
SLOTS = 16384
# A node that does not answer for so long is given up.
NODE_MILLISECONDS = 1000


class RedisCluster:
    """Six nodes; as a context manager they are started, and in the end stopped and erased."""

    def __init__(self) -> None:
        self._opened = contextlib.ExitStack()
        self.primaries: list[RedisServer] = []
        self.replicas: list[RedisServer] = []

    def __enter__(self) -> Self:
        try:
            for nodes in (self.primaries, self.replicas):
                nodes += [self._opened.enter_context(_node()) for _ in range(PRIMARIES)]
            self._form()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def nodes(self) -> list[RedisServer]:
        return self.primaries + self.replicas

    @property
    def settings(self) -> dict[str, Any]:
        """Returns the settings of a backend on it."""
        return {"cluster": True, "port": self.primaries[0].port}

    def admin(self, node: RedisServer) -> Any:
        return self._opened.enter_context(redis.Redis(port=node.port))

    def index_of(self, name: str) -> int:
        """Returns which of the primaries has the name, before any failover."""
        return int(key_slot(name.encode())) * PRIMARIES // SLOTS

    def until_promoted(self, index: int) -> None:
        """Returns when the replica of that primary has taken over, and all other nodes know it."""
        self.until(lambda: self.admin(self.replicas[index]).info("replication")["role"] == "master")
        alive = [node for node in self.nodes if node is not self.primaries[index]]
        self.until(lambda: all(self._is_whole(node) for node in alive))

    def swap(self, index: int) -> None:
        """After a failover: the former primary is the replica of the other. Returns when it has all."""
        self.primaries[index], self.replicas[index] = self.replicas[index], self.primaries[index]
        self.replicas[index].start()
        self.until(lambda: self.admin(self.replicas[index]).info("replication")["role"] == "slave")
        self.until_replicated()

    def until_replicated(self) -> None:
        """Returns when each replica has all that its primary has."""
        for node in self.primaries:
            admin = self.admin(node)
            self.until(lambda admin=admin: _is_replicated(admin.info("replication")))  # type: ignore[misc]  # mypy#15459

    def move(self, slot: int, source: int, target: int) -> None:
        """Moves a slot, and all that is in it, from one primary to another."""
        giving, taking = self.admin(self.primaries[source]), self.admin(self.primaries[target])
        giving_id, taking_id = (admin.execute_command("CLUSTER MYID").decode() for admin in (giving, taking))
        taking.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", giving_id)
        giving.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", taking_id)
        # Those that are not there any more are written to the other from now on.
        while names := giving.execute_command("CLUSTER GETKEYSINSLOT", slot, 1000):
            port = self.primaries[target].port
            giving.execute_command("MIGRATE", "127.0.0.1", port, "", 0, 5000, "KEYS", *names)
        for admin in (taking, giving):
            admin.execute_command("CLUSTER SETSLOT", slot, "NODE", taking_id)

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            with contextlib.suppress(redis.RedisError):
                if condition():
                    return
            if time.monotonic() > deadline:
                raise TimeoutError("the nodes of the Cluster do not get there")
            time.sleep(10 * POLL_SECONDS)

    def close(self) -> None:
        """Kills all nodes and erases their data. May be called twice."""
        self._opened.close()

    def _form(self) -> None:
        first = self.primaries[0]
        for index, node in enumerate(self.primaries):
            begin, end = -(-index * SLOTS // PRIMARIES), -(-(index + 1) * SLOTS // PRIMARIES)
            self.admin(node).execute_command("CLUSTER ADDSLOTS", *range(begin, end))
            self.admin(node).execute_command("CLUSTER SET-CONFIG-EPOCH", index + 1)
        for node in self.nodes[1:]:
            self.admin(node).execute_command("CLUSTER MEET", first.host, first.port)
        self.until(lambda: all(self._knows(node) == len(self.nodes) for node in self.nodes))
        for primary, replica in zip(self.primaries, self.replicas, strict=True):
            identity = self.admin(primary).execute_command("CLUSTER MYID")
            self.admin(replica).execute_command("CLUSTER REPLICATE", identity)
        self.until(lambda: all(self._is_whole(node) for node in self.nodes))
        self.until_replicated()

    def _knows(self, node: RedisServer) -> int:
        return len(self.admin(node).execute_command("CLUSTER NODES"))

    def _is_whole(self, node: RedisServer) -> bool:
        return bool(self.admin(node).execute_command("CLUSTER INFO")["cluster_state"] == "ok")


def _node() -> RedisServer:
    node = RedisServer(
        *("--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_MILLISECONDS)),
        *("--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0"),
    )
    # The nodes talk to each other on a port of their own, which is this much higher.
    while node.port + 10_000 not in PORTS:
        node.port = free_port()
    return node


def _is_replicated(told: dict[str, Any]) -> bool:
    return bool(
        told["connected_slaves"] == 1
        and told["slave0"]["state"] == "online"
        and told["slave0"]["offset"] == told["master_repl_offset"]
    )
