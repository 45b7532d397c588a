"""What goes wrong with one worker of a server that has several."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from worker_processes import workers_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from coherence.faults import Hands


def kill_worker(hands: Hands) -> str:
    """A worker is killed, with SIGKILL; its supervisor starts another."""
    os.kill(_drawn(hands), signal.SIGKILL)
    return "worker"


def renew_worker(hands: Hands) -> str:
    """A worker is told to drain; its supervisor starts another."""
    os.kill(_drawn(hands), signal.SIGTERM)
    return "worker"


def suspend_worker(hands: Hands) -> str:
    """SIGSTOP of a worker, and SIGCONT."""
    with hands.system.suspended(_drawn(hands)):
        hands.wait()
    return "worker"


WITH_WORKERS: list[Callable[[Hands], str]] = [kill_worker, renew_worker, suspend_worker]


def _drawn(hands: Hands) -> int:
    """Returns the process id of a worker; they are never all gone at once."""
    return hands.randomness.choice(sorted(workers_of(hands.randomness.choice(hands.system.servers))))
