"""The short form of `make soak`. NEARDICT_SEED repeats a run: that of a failure is in its message."""

import os
import random

import pytest

from coherence import figures, soak

SEED = int(os.environ.get("NEARDICT_SEED") or random.SystemRandom().randrange(2**32))
SECONDS = 15.0
# Those that are over in a moment; `make soak` has all.
FAULTS = [
    "kill_server",
    "reset",
    "suspend_client",
    "step_wall_clock",
    "half_open",
    "partition",
    "kill_client",
    "lost_packets",
    "move_server",
]
# With a Redis and several workers, in place of those of a server alone.
WORKER_FAULTS = ["kill_worker", "renew_worker", "suspend_worker", "reset"]


@pytest.mark.parametrize("backend", ["memory", "sqlite"])
def test_nothing_that_is_promised_is_broken_whatever_goes_wrong(backend: str) -> None:
    print(f"NEARDICT_SEED={SEED}")
    result = soak.run(backend, SECONDS, SEED, kinds=FAULTS)
    print(figures.tables([result]))
    assert result.violations == []
    assert any(op.kind == "read" and op.hit for op in result.history.ops)
    assert result.history.faults


def test_nothing_is_broken_either_when_workers_share_the_port() -> None:
    print(f"NEARDICT_SEED={SEED}")
    result = soak.run("redis", SECONDS, SEED, kinds=WORKER_FAULTS, mistake="none", workers=3)
    print(figures.tables([result]))
    assert result.violations == []
    assert any(op.kind == "read" and op.hit for op in result.history.ops)
    assert result.history.faults
