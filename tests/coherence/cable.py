"""A network of a client's own, joined to ours by a cable on which packets get lost as no proxy can lose them:
nobody is told, and what was sent is sent again by the kernels, later and later. And our end may have another
address.

Linux, as root, with iproute2 and util-linux; packets are lost with iptables.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets
import subprocess
import time
from functools import cache
from pathlib import Path
from typing import Literal, Self

# Starts a command in a network that has nothing yet; the process stays the one that was started.
IN_OWN_NETWORK = ["unshare", "--net", "--"]
# For tests of networks, so in use by nobody (RFC 2544). A cable has two subnets of four addresses.
_ADDRESSES = ipaddress.ip_network("198.18.0.0/15")
_CABLES = _ADDRESSES.num_addresses // 8
_READY_SECONDS = 10.0

# What is lost: all that is sent to the client, by it, or both since the cable is out.
Loss = Literal["in", "out", "both"]


class Cable:
    """A veth pair: one end is here and has the addresses `hosts`, the other is where `plug` brings it.

    Both are gone with the process that has the other, since with it its network is.
    """

    hosts: tuple[str, str]

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        for _ in range(10):
            number = secrets.randbelow(_CABLES)
            self._here, self._there = f"nd{number}", f"nd{number}c"
            with contextlib.suppress(subprocess.CalledProcessError):  # in use by another run
                _do("ip", "link", "add", self._here, "type", "veth", "peer", "name", self._there)
                break
        else:
            raise OSError("no pair of network interfaces can be made")
        first = ipaddress.ip_address(int(_ADDRESSES.network_address) + 8 * number)
        self.hosts = str(first + 1), str(first + 5)
        self._addresses = str(first + 2), str(first + 6)
        for host in self.hosts:
            self.take(host)
        _do("ip", "link", "set", self._here, "up")
        return self

    def __exit__(self, *exc_info: object) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):  # gone with the other end's network
            _do("ip", "link", "delete", self._here)

    def plug(self, process: subprocess.Popen[bytes]) -> None:
        """Brings the other end to a process that was started IN_OWN_NETWORK."""
        ours = Path("/proc/self/ns/net").readlink()
        deadline = time.monotonic() + _READY_SECONDS
        while Path(f"/proc/{process.pid}/ns/net").readlink() == ours:
            if time.monotonic() > deadline:
                raise TimeoutError("the process has no network of its own")
            time.sleep(0.001)
        self._process = process
        _do("ip", "link", "set", self._there, "netns", str(process.pid))
        for address in self._addresses:
            self._do_there("ip", "address", "add", f"{address}/30", "dev", self._there)
        self._do_there("ip", "link", "set", self._there, "up")

    def give_up(self, host: str) -> None:
        """From here on our end does not have this address: what is sent to it, or from it, is for nobody."""
        _do("ip", "address", "delete", f"{host}/30", "dev", self._here)

    def take(self, host: str) -> None:
        """It has the address, which may be one that was given up."""
        _do("ip", "address", "replace", f"{host}/30", "dev", self._here)

    def lose(self, loss: Loss) -> None:
        """From here on packets are lost."""
        if loss == "both":
            _do("ip", "link", "set", self._here, "down")
        else:
            chain = {"in": "INPUT", "out": "OUTPUT"}[loss]
            self._do_there("iptables", "--wait", "--append", chain, "--jump", "DROP")

    def heal(self) -> None:
        """No more are lost."""
        self._do_there("iptables", "--wait", "--flush")
        _do("ip", "link", "set", self._here, "up")

    def _do_there(self, *command: str) -> None:
        assert self._process is not None
        _do("nsenter", "--net", "--target", str(self._process.pid), "--", *command)


@cache
def why_not(*, losing: bool = True) -> str:
    """Returns why there can be no cables here, on which packets get lost or not; nothing if there can."""
    if os.name != "posix" or os.geteuid():
        return "it takes root"
    try:
        with Cable() as cable, subprocess.Popen([*IN_OWN_NETWORK, "sleep", "60"]) as process:
            try:
                cable.plug(process)
                if losing:
                    cable.lose("in")
            finally:
                process.kill()
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no network of its own can be made: {error}"
    return ""


def _do(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
