"""The proof finds each deliberate mistake of a server or client in a minute, by the rule that it breaks."""

import pytest

from coherence import soak
from coherence.client_mutants import CLIENT_MISTAKES
from coherence.mutants import MISTAKES
from coherence.schedule import left_out
from coherence.workload import LINEARIZABLE

SECONDS = 60.0
SEED = 20261123
# Faults that bring a mistake to light, where it takes one; and the rules that may tell first.
EXPECTED: dict[str, tuple[list[str], set[str]]] = {
    "skip_an_invalidation": ([], {"staleness"}),
    "acknowledge_before_commit": ([], {"service reads", "linearizability", "monotonic reads"}),
    "reply_out_of_order": ([], {"service reads", "linearizability"}),
    "repeat_a_revision": ([], {"unique revisions", "real-time order"}),
    "lose_a_write": ([], {"service reads", "linearizability"}),
    "apply_a_refused_write": ([], {"reads of writes"}),
    "overtake_changes": ([], {"staleness"}),
    "claim_that_nothing_was_missed": (["kill_server", "partition"], {"staleness", "monotonic reads"}),
    "expire_too_late": ([], {"service reads", "linearizability", "staleness"}),
    "expire_by_own_clock": (["step_wall_clock"], {"staleness", "monotonic reads"}),
    "keep_the_address": (["move_server"], {"returns"}),
    "ignore_leases": (["delay"], {"service reads", "linearizability"}),
}


@pytest.mark.parametrize("mistake", [*MISTAKES, *CLIENT_MISTAKES])
def test_a_mistake_is_caught(mistake: str) -> None:
    faults, rules = EXPECTED[mistake]
    if missing := left_out(faults):
        pytest.skip(str(missing))
    result = run(mistake, SECONDS, faults)
    assert rules & {violation.rule for violation in result.violations}


def test_short_logs_are_no_mistake() -> None:
    assert run("forgetful", 5, ["reset"]).violations == []


def run(mistake: str, seconds: float, faults: list[str]) -> soak.Result:
    styles = ["sync", "aio"]
    if mistake == "ignore_leases":
        styles = [f"{LINEARIZABLE}-{style}" for style in styles]
    return soak.run(
        "memory", seconds, SEED, kinds=faults, mistake=mistake, styles=styles, rate=30, early=True
    )
