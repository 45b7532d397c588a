"""Every rule of the checker can fail, and says nothing of a history that keeps it."""

import math
from collections.abc import Iterable
from dataclasses import replace

import pytest

from coherence.checker import BOUND_SECONDS, RESUME_SECONDS, RETURN_SECONDS, Checker
from coherence.history import Final, History, Op, Return, Stop

LATE = BOUND_SECONDS + 10


def wrote(value: str, revision: int, begin: float, end: float, *, key: str = "k", client: str = "a") -> Op:
    return Op("set", client, key, value, begin, end, revision=revision)


def lost(value: str, begin: float) -> Op:
    """A write without an answer."""
    return Op("set", "a", "k", value, begin, math.inf, outcome="unknown")


def deleted(revision: int, begin: float, end: float, *, client: str = "a") -> Op:
    return Op("delete", client, "k", None, begin, end, revision=revision)


def read(value: str | None, begin: float, *, client: str = "b", view: str = "mirror") -> Op:
    return Op("read", client, "k", value, begin, begin + 0.1, view=view)


def asked(value: str | None, begin: float, revision: int = 0) -> Op:
    return Op("ask", "b", "k", value, begin, begin + 0.1, revision=revision)


def wiped(revision: int, begin: float, end: float) -> Op:
    return Op("wipe", "", "", None, begin, end, revision=revision)


def restored(value: str | None, revision: int, begin: float, end: float) -> Op:
    return Op("restore", "", "k", value, begin, end, revision=revision)


def broken(*ops: Op, stops: Iterable[Stop] = (), finals: Iterable[Final] = ()) -> set[str]:
    """Returns the rules that the history breaks."""
    history = History(list(ops), list(stops), list(finals))
    return {violation.rule for violation in Checker(history).violations()}


def mortal(value: str, revision: int, begin: float, end: float, ttl: float) -> Op:
    return replace(wrote(value, revision, begin, end), ttl=ttl)


ONE, TWO = wrote("one", 10, 0, 1), wrote("two", 20, 2, 3)


def test_a_history_in_order_breaks_nothing() -> None:
    finals = [Final("", "", {"k": "two"}), Final("b", "mirror", {"k": "two"}), Final("b", "cache", {}, False)]
    ops = [ONE, asked("one", 1.5, 10), read("one", 1.6), TWO, read("one", 3.5), read("two", 4)]
    assert broken(*ops, read("two", LATE), finals=finals) == set()


def test_two_writes_have_two_revisions() -> None:
    assert broken(ONE, wrote("two", 10, 0.5, 3)) == {"unique revisions"}


def test_a_write_has_one_revision() -> None:
    assert "unique revisions" in broken(ONE, asked("one", 2, 11))


def test_a_write_that_was_repeated_after_a_wipe_may_have_two_revisions() -> None:
    across = wrote("one", 30, 0, 9)
    assert broken(across, asked("one", 1, 10), wiped(20, 2, 3), asked(None, 4), asked("one", 10, 30)) == set()


def test_a_write_that_was_repeated_and_acknowledged_has_the_last_of_its_revisions() -> None:
    across = wrote("one", 30, 0, 9)
    after = wrote("two", 40, 10, 11)
    assert broken(across, asked("one", 1, 10), wiped(20, 2, 3), after, read("one", LATE + 9)) == {"staleness"}


def test_a_write_may_be_repeated_when_its_service_has_forgotten_it() -> None:
    forgot = Op("forget", "", "", None, 2, 3)
    across = wrote("one", 30, 0, 9)
    assert broken(across, asked("one", 1, 10), forgot, asked("one", 10, 30)) == set()
    assert broken(across, asked("one", 1, 10), replace(forgot, begin=10, end=11)) == {"unique revisions"}


def test_a_later_write_has_a_greater_revision() -> None:
    assert broken(wrote("one", 20, 0, 1), wrote("two", 10, 2, 3)) == {"real-time order"}
    assert broken(wrote("one", 20, 0, 3), wrote("two", 10, 2, 3)) == set(), "they overlap"


def test_what_is_read_was_written() -> None:
    assert broken(read("nobody's", 1)) == {"reads of writes"}
    assert broken(replace(ONE, key="other"), read("one", 2)) == {"reads of writes"}


def test_what_is_read_was_not_refused() -> None:
    assert broken(replace(ONE, outcome="refused", revision=0), read("one", 2)) == {"reads of writes"}


def test_nothing_is_read_before_it_is_written() -> None:
    assert broken(wrote("one", 10, 5, 6), read("one", 1)) == {"reads of writes"}
    assert broken(wrote("one", 10, 5, 6), read("one", 4.95)) == set(), "they overlap"


def test_the_service_answers_with_what_was_acknowledged() -> None:
    assert broken(ONE, TWO, asked("one", 3.5, 10)) == {"service reads"}
    assert broken(ONE, TWO, asked("one", 2.5, 10)) == set(), "they overlap"
    assert broken(ONE, asked(None, 2)) == {"service reads"}


def test_a_dict_may_be_late_but_not_later_than_the_bound() -> None:
    assert broken(ONE, TWO, read("one", 3 + BOUND_SECONDS - 0.01)) == set()
    assert broken(ONE, TWO, read("one", 3 + BOUND_SECONDS + 0.01)) == {"staleness"}


def test_a_deletion_must_be_seen_in_time_too() -> None:
    assert broken(ONE, deleted(20, 2, 3), read("one", LATE)) == {"staleness"}
    assert broken(ONE, deleted(20, 2, 3), read(None, LATE)) == set()


def test_a_key_does_not_vanish() -> None:
    assert broken(ONE, read(None, LATE)) == {"staleness"}
    assert broken(deleted(5, -2, -1), ONE, read(None, LATE)) == {"staleness"}, "it was deleted before"


def test_a_wipe_takes_everything_away_for_all() -> None:
    assert broken(ONE, wiped(15, 2, 3), read(None, LATE), asked(None, 4)) == set()
    assert broken(ONE, wiped(15, 2, 3), read("one", LATE)) == {"staleness"}


def test_an_older_copy_brings_back_what_it_held_and_nothing_else() -> None:
    ops = [ONE, TWO, read("two", 3.5), restored("one", 30, 4, 5)]
    assert broken(*ops, asked("one", 6, 10), read("one", LATE), read("one", LATE + 9)) == set()
    assert broken(*ops, asked("two", 6, 20)) == {"service reads"}
    assert broken(*ops, asked(None, 6)) == {"service reads"}
    assert broken(*ops, read("two", LATE)) == {"staleness"}
    assert broken(*ops, wrote("three", 40, 6, 7), read("one", LATE + 9)) == {"staleness"}
    assert broken(ONE, TWO, restored("one", 30, 99, 100), read("one", LATE)) == {"staleness"}, "before it"
    assert broken(*ops, finals=[Final("", "", {"k": "one"})]) == set()
    assert broken(*ops, finals=[Final("", "", {"k": "two"})]) == {"nothing lost"}


def test_what_an_older_copy_did_not_hold_is_gone() -> None:
    ops = [ONE, restored(None, 30, 4, 5)]
    assert broken(*ops, asked(None, 6), read(None, LATE), finals=[Final("", "", {})]) == set()
    assert broken(*ops, asked("one", 6, 10), read("one", LATE)) == {"service reads", "staleness"}


def test_a_write_after_an_older_copy_was_brought_back_has_a_greater_revision_than_all() -> None:
    assert broken(ONE, restored(None, 30, 4, 5), wrote("two", 20, 6, 7)) == {"real-time order"}


def test_a_write_without_an_answer_may_be_seen_or_not() -> None:
    assert broken(ONE, lost("two", 2), read("one", LATE)) == set()
    assert broken(ONE, lost("two", 2), read("two", LATE)) == set()
    found = asked("two", 4, 20)
    assert broken(ONE, lost("two", 2), found, read("two", LATE), read("one", LATE + 1)) == {"monotonic reads"}


def test_the_time_of_a_suspended_process_stands_still() -> None:
    stop = Stop("b", 2.5, LATE)
    assert broken(ONE, TWO, read("one", LATE + RESUME_SECONDS - 0.01), stops=[stop]) == set()
    assert broken(ONE, TWO, read("one", LATE + RESUME_SECONDS + 0.01), stops=[stop]) == {"staleness"}
    assert broken(ONE, TWO, read("one", LATE), stops=[replace(stop, client="c")]) == {"staleness"}


def test_one_suspension_may_follow_another() -> None:
    stops = [Stop("b", 2.5, 20), Stop("b", 20.5, 40)]
    assert broken(ONE, TWO, read("one", 40.5), stops=stops) == set()


def test_a_view_never_goes_back() -> None:
    assert broken(ONE, TWO, read("two", 3.2), read("one", 3.4)) == {"monotonic reads"}
    assert broken(ONE, TWO, read("two", 3.2), read("one", 3.4, view="cache")) == set(), "each by itself"
    assert broken(ONE, TWO, read("two", 3.2), read("one", 3.25)) == set(), "they overlap"


def test_a_view_never_goes_back_to_absence_or_from_it() -> None:
    gone, back = deleted(20, 2, 3), wrote("two", 30, 4, 5)
    assert broken(ONE, gone, back, read("two", 5.2), read(None, 5.4)) == {"monotonic reads"}
    assert broken(ONE, gone, back, read(None, 5.2), read("one", 5.4)) == set(), "it may not be written yet"
    assert broken(ONE, gone, read("one", 3.2), read(None, 3.4), read("one", 3.6)) == {"monotonic reads"}


def test_one_reads_ones_own_writes() -> None:
    mine = replace(TWO, client="b")
    assert broken(ONE, mine, read("one", 3.2)) == {"monotonic reads"}
    assert broken(ONE, mine, read("one", 2.5)) == set(), "they overlap"
    assert broken(ONE, deleted(20, 2, 3, client="b"), read("one", 3.2)) == {"monotonic reads"}


def test_what_was_acknowledged_is_not_lost() -> None:
    assert broken(ONE, TWO, finals=[Final("", "", {"k": "one"})]) == {"nothing lost"}
    assert broken(ONE, TWO, finals=[Final("", "", {})]) == {"nothing lost"}
    assert broken(ONE, deleted(20, 2, 3), finals=[Final("", "", {"k": "one"})]) == {"nothing lost"}
    assert broken(ONE, wiped(15, 2, 3), finals=[Final("", "", {})]) == set()


@pytest.mark.parametrize("held", [{}, {"k": "one"}, {"k": "two", "other": "three"}])
def test_in_the_end_a_mirror_equals_the_store(held: dict[str, str]) -> None:
    finals = [Final("", "", {"k": "two"}), Final("b", "mirror", held)]
    assert broken(ONE, TWO, finals=finals) == {"convergence"}


def test_in_the_end_a_cache_equals_the_store_where_it_holds_something() -> None:
    store = Final("", "", {"k": "two"})
    assert broken(ONE, TWO, finals=[store, Final("b", "cache", {}, whole=False)]) == set()
    for held in ({"k": "one"}, {"other": "three"}):
        assert broken(ONE, TWO, finals=[store, Final("b", "cache", held, whole=False)]) == {"convergence"}


def test_an_entry_is_there_until_it_expires_and_then_gone_in_time() -> None:
    brief = mortal("one", 10, 0, 1, ttl=30)
    assert broken(brief, read("one", 29), read(None, 31.5), asked("one", 29, 10), asked(None, 31.5)) == set()
    assert broken(brief, read(None, 29)) == {"staleness"}
    assert broken(brief, asked(None, 29)) == {"service reads"}
    assert broken(brief, read("one", 31 + BOUND_SECONDS)) == set()
    assert broken(brief, read("one", 32 + BOUND_SECONDS)) == {"staleness"}
    assert broken(brief, asked("one", 32, 10)) == {"service reads"}


def test_an_entry_that_was_seen_to_have_expired_does_not_come_back() -> None:
    ops = [mortal("one", 10, 0, 1, ttl=30), read("one", 29), read(None, 30.5)]
    assert broken(*ops, read("one", 30.8)) == {"monotonic reads"}
    assert broken(*ops, read("one", 30.8, view="cache")) == set(), "each by itself"


def test_what_is_written_after_it_does_not_expire_with_an_entry() -> None:
    brief = mortal("one", 10, 0, 1, ttl=30)
    assert broken(brief, TWO, read("two", 60)) == set()
    assert broken(brief, TWO, read(None, 60)) == {"staleness"}
    assert broken(brief, TWO, read("one", 8)) == {"staleness"}


def test_one_who_wrote_an_entry_is_shown_it_at_once() -> None:
    mine = replace(mortal("one", 10, 0, 1, ttl=30), client="b")
    assert broken(mine, read(None, 1.5)) == {"monotonic reads"}


def test_a_linearizable_dict_may_show_for_a_moment_what_has_expired() -> None:
    brief = mortal("one", 10, 0, 1, ttl=30)
    assert broken(brief, replace(asked("one", 32), view="mirror")) == set()
    assert broken(brief, replace(asked("one", 32 + BOUND_SECONDS), view="mirror")) == {"service reads"}
    assert broken(brief, replace(asked(None, 29), view="mirror")) == {"service reads"}


def test_a_write_without_an_answer_may_have_expired_when_its_time_is_over() -> None:
    unanswered = replace(lost("two", 2), ttl=30)
    assert broken(ONE, unanswered, asked(None, 33)) == set()
    assert broken(ONE, unanswered, asked("one", 33, 10)) == set()
    assert broken(ONE, unanswered, asked(None, 31)) == {"service reads"}
    assert broken(ONE, unanswered, asked("two", 4, 20), asked(None, 33)) == set()
    later = wrote("three", 30, 5, 6)
    assert broken(ONE, unanswered, asked("two", 4, 20), later, asked(None, 33)) == {"service reads"}


def test_an_older_copy_keeps_when_an_entry_expires() -> None:
    ops = [mortal("one", 10, 0, 1, ttl=30), TWO, restored("one", 40, 4, 5)]
    assert broken(*ops, asked("one", 29, 10), asked(None, 32), read(None, 40)) == set()
    assert broken(*ops, asked(None, 29)) == {"service reads"}
    assert broken(*ops, asked("one", 32, 10)) == {"service reads"}


def test_what_has_expired_is_not_lost_and_is_not_there_in_the_end() -> None:
    brief = mortal("one", 10, 0, 1, ttl=30)
    assert broken(brief, finals=[Final("", "", {}, begin=40, end=41)]) == set()
    assert broken(brief, finals=[Final("", "", {"k": "one"}, begin=20, end=21)]) == set()
    assert broken(brief, finals=[Final("", "", {}, begin=20, end=21)]) == {"nothing lost"}
    assert broken(brief, finals=[Final("", "", {"k": "one"}, begin=40, end=41)]) == {"nothing lost"}


def test_a_client_finds_a_server_that_has_moved() -> None:
    def rules(seconds: float) -> list[str]:
        found = Return("b", 5, 5 + seconds)
        return [violation.rule for violation in Checker(History(returns=[found])).violations()]

    assert rules(RETURN_SECONDS - 1) == []
    assert rules(RETURN_SECONDS + 1) == ["returns"]
