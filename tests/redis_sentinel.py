"""Starts a primary, a replica and three Sentinels, for tests of failover."""

import contextlib
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis

from redis_server import DEADLINE_SECONDS, POLL_SECONDS, RedisServer, binary, free_port

SERVICE = "neardict-tests"
SENTINELS = 3
# A primary that does not answer for so long is given up.
DOWN_MILLISECONDS = 600
PASSWORD = "between-nodes"


class SentinelGroup:
    """A Redis that fails over; as a context manager it is started, and in the end stopped and erased."""

    def __init__(self) -> None:
        credentials = ("--requirepass", PASSWORD, "--masterauth", PASSWORD)
        self.nodes = [RedisServer("--repl-diskless-sync-delay", "0", *credentials) for _ in range(2)]
        self._folder = Path(tempfile.mkdtemp(prefix="neardict-sentinel-"))
        self._processes: list[subprocess.Popen[bytes]] = []
        self.addresses: list[str] = []
        self._opened = contextlib.ExitStack()

    def __enter__(self) -> Self:
        try:
            for node in self.nodes:
                self._opened.enter_context(node)
            self.primary, self.replica = self.nodes
            self.admin(self.replica).replicaof(self.primary.host, self.primary.port)
            self.until(self.replicates)
            for number in range(SENTINELS):
                self._start_sentinel(number)
            # Only when each knows all others and the replica can they agree on a failover.
            self.until(lambda: all(self._is_ready(address) for address in self.addresses))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def settings(self) -> dict[str, Any]:
        """Returns the settings of a backend on it."""
        return {"sentinels": self.addresses, "sentinel_service": SERVICE, "password": PASSWORD}

    def admin(self, node: RedisServer) -> Any:
        return self._opened.enter_context(redis.Redis(port=node.port, password=PASSWORD))

    def replicates(self) -> bool:
        """Returns whether the replica has all that the primary has."""
        told = self.admin(self.primary).info("replication")
        return bool(
            told["connected_slaves"] == 1
            and told["slave0"]["state"] == "online"
            and told["slave0"]["offset"] == told["master_repl_offset"]
        )

    def cut_replication(self) -> None:
        """From here on the replica gets nothing of what is written."""
        self.admin(self.replica).config_set("masterauth", "wrong")
        self.admin(self.primary).client_kill_filter(_type="replica")
        self.until(lambda: self.admin(self.primary).info("replication")["connected_slaves"] == 0)

    def until_promoted(self) -> None:
        """Returns when the replica is the primary, for the Sentinels too."""
        self.until(lambda: self.admin(self.replica).info("replication")["role"] == "master")
        self.until(
            lambda: all(
                self._ask(address).sentinel_master(SERVICE)["port"] == self.replica.port
                for address in self.addresses
            )
        )

    def swap(self) -> None:
        """After a failover: the dead primary is the other's replica. Returns when that has all."""
        self.primary, self.replica = self.replica, self.primary
        self.admin(self.primary).config_set("masterauth", PASSWORD)
        self.replica.start()
        self.admin(self.replica).replicaof(self.primary.host, self.primary.port)
        self.until(self.replicates)
        self.until(lambda: all(self._is_ready(address) for address in self.addresses))

    def until(self, condition: Any) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            with contextlib.suppress(redis.RedisError):
                if condition():
                    return
            if time.monotonic() > deadline:
                raise TimeoutError("the Redis nodes, or their Sentinels, do not get there")
            time.sleep(10 * POLL_SECONDS)

    def close(self) -> None:
        """Kills all processes and erases their data. May be called twice."""
        for process in self._processes:
            process.send_signal(signal.SIGKILL)
            process.wait(DEADLINE_SECONDS)
        self._processes.clear()
        self._opened.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start_sentinel(self, number: int) -> None:
        port = free_port()
        path = self._folder / f"sentinel{number}.conf"
        path.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {self._folder}\n"
            f"sentinel monitor {SERVICE} {self.primary.host} {self.primary.port} 2\n"
            f"sentinel auth-pass {SERVICE} {PASSWORD}\n"
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_MILLISECONDS}\n"
            f"sentinel failover-timeout {SERVICE} 3000\n"
        )
        self._processes.append(
            subprocess.Popen(
                [str(binary()), str(path), "--sentinel"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
        self.addresses.append(f"127.0.0.1:{port}")

    def _ask(self, address: str) -> Any:
        return self._opened.enter_context(redis.Redis(port=int(address.rpartition(":")[2])))

    def _is_ready(self, address: str) -> bool:
        told = self._ask(address).sentinel_master(SERVICE)
        return bool(told["num-other-sentinels"] == SENTINELS - 1 and told["num-slaves"] == 1)
