"""Hits under a lease are linearizable, with all writes and with what the service answers, despite faults.

Reads of linearizable dicts count as reads of the service here: the search without revisions has to explain
them together, and each must see all that was acknowledged before it began.
"""

import os
import random

import pytest

from coherence import soak

SEED = int(os.environ.get("NEARDICT_SEED") or random.SystemRandom().randrange(2**32))
SECONDS = 12.0
FAULTS = ["suspend_client", "kill_server", "suspend_server", "half_open", "partition", "kill_client"]


@pytest.mark.parametrize("backend", ["memory", "sqlite"])
def test_no_hit_is_older_than_what_anybody_has_seen(backend: str) -> None:
    print(f"NEARDICT_SEED={SEED}")
    result = soak.run(backend, SECONDS, SEED, kinds=FAULTS, styles=soak.STRICT_STYLES)
    assert result.violations == []
    hits = [op for op in result.history.ops if op.view and op.kind == "ask" and op.hit]
    assert len(hits) > 100
    assert result.history.faults
