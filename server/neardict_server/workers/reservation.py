"""Keeps a port for the workers of one server, and away from every other.

SO_REUSEPORT lets several processes serve one port, and the kernel spreads connections over them. It would
let in a second server of the same user too, who then takes a share of the calls unnoticed. So the port is
claimed alone first, and then kept by a socket that never listens, and so gets no connections. This is how
Linux has it: elsewhere the option means other things.
"""

import errno
import socket
from contextlib import ExitStack, closing
from typing import Any, Self

# localhost may mean ::1 where there is no IPv6; its other address will do.
NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class Reservation:
    """A port, at every address that its host means, from construction to `close`.

    `address` is HOST:PORT with the real port. Raises OSError if another program has the port, or if none of
    the addresses is this machine's.
    """

    def __init__(self, listen: str) -> None:
        host, _, port = listen.rpartition(":")
        number = int(port)
        not_here: OSError | None = None
        with ExitStack() as kept:
            places = socket.getaddrinfo(
                host.strip("[]"), number, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            reserved = 0
            for family, _, _, _, place in places:
                try:
                    keeper = _reserve(family, (place[0], number, *place[2:]))
                except OSError as error:
                    if error.errno not in NOT_HERE:
                        raise
                    not_here = error
                    continue
                kept.enter_context(closing(keeper))
                number = keeper.getsockname()[1]
                reserved += 1
            if not reserved:
                raise not_here or OSError(errno.EADDRNOTAVAIL, "no address")
            self._kept = kept.pop_all()
        self.address = f"{host}:{number}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives the port up. May be called twice."""
        self._kept.close()


def _reserve(family: int, place: tuple[Any, ...]) -> socket.socket:
    """Returns a socket that keeps the place; raises OSError if another has it."""
    with socket.socket(family) as claim:
        # Connections that ended a moment ago count as taken otherwise.
        claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        claim.bind(place)
        # To bind alone does not show a keeper without worker: see below.
        claim.listen()
        # No other server can claim it from here on. Our own keeper is let in. So is, now or later, whatever
        # program of the same user says SO_REUSEPORT from the start: nobody can be kept from that.
        claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        keeper = socket.socket(family)
        try:
            keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            keeper.bind(claim.getsockname())
            # One who has bound and does not listen is no hindrance to others as long as both sides have it.
            # Without it, who does not say SO_REUSEPORT fails to listen here, also while no worker is up.
            keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        except BaseException:
            keeper.close()
            raise
        return keeper
