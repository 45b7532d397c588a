"""On a cable packets get lost, in either direction or both, and nobody is told; and our end moves."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from coherence.cable import IN_OWN_NETWORK, Cable, Loss, why_not
from processes import ended
from waiting import DEADLINE_SECONDS

# Says for each line of its input whether it could connect to where that says.
CONNECT = """
import socket, sys
for line in sys.stdin:
    host, port = line.split()
    try:
        socket.create_connection((host, int(port)), timeout=0.3).close()
        print("connected", flush=True)
    except OSError as error:
        print(type(error).__name__, flush=True)
"""


class Caller:
    """A process behind a cable, which connects to a socket of ours."""

    def __init__(self, cable: Cable, process: subprocess.Popen[bytes], listener: socket.socket) -> None:
        self.cable = cable
        self._process = process
        self._listener = listener

    def connects(self, place: int = 0) -> str:
        """Returns how it went to connect to one of the addresses of our end."""
        host, port = self.cable.hosts[place], self._listener.getsockname()[1]
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{host} {port}\n".encode())
        self._process.stdin.flush()
        return self._process.stdout.readline().decode().strip()

    def until_connected(self, place: int = 0) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while (outcome := self.connects(place)) != "connected":
            assert time.monotonic() < deadline, outcome


@pytest.fixture
def caller() -> Iterator[Caller]:
    if reason := why_not(losing=False):
        pytest.skip(reason)
    command = [*IN_OWN_NETWORK, sys.executable, "-c", CONNECT]
    with (
        Cable() as cable,
        socket.create_server(("", 0)) as listener,
        ended(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)) as process,
    ):
        cable.plug(process)
        yield Caller(cable, process, listener)


@pytest.mark.parametrize("loss", ["in", "out", "both"])
def test_what_is_lost_is_lost_in_silence_and_no_more_when_it_is_healed(caller: Caller, loss: Loss) -> None:
    if reason := why_not():
        pytest.skip(reason)
    caller.until_connected()
    caller.cable.lose(loss)
    assert caller.connects() == "TimeoutError"
    caller.cable.heal()
    caller.until_connected()


def test_an_address_that_is_given_up_is_nobodys_until_it_is_taken_again(caller: Caller) -> None:
    caller.until_connected(0)
    caller.until_connected(1)
    caller.cable.give_up(caller.cable.hosts[0])
    assert caller.connects(0) in ("TimeoutError", "OSError")
    assert caller.connects(1) == "connected"
    caller.cable.take(caller.cable.hosts[0])
    caller.until_connected(0)
