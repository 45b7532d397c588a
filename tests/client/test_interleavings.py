"""What may happen between a request and its reply: each test writes one interleaving down."""

import signal
import threading
from collections.abc import Callable
from typing import Any, ClassVar

import grpc
import pytest

import neardict
from neardict._contents import MISSING

from .gate import Gate
from .threads import InThread, until, waits_in


def held(cache: neardict.CachedDict, key: str) -> Any:
    """Returns what a hit would give, or MISSING, without asking the service."""
    return dict.get(cache, key, MISSING)


@pytest.fixture
def cache(gated: neardict.Store, domain: str) -> neardict.CachedDict:
    return gated.dict(domain, load=False)


# A look-up whose reply is late.


def test_a_reply_older_than_a_write_seen_meanwhile_does_not_replace_it(
    gate: Gate, gated: neardict.Store, cache: neardict.CachedDict, domain: str, in_thread: InThread
) -> None:
    gated.set_value(domain, "key", "old")
    reader = gated.dict(domain, load=False)
    with gate.hold("GetValue", "key") as hold:
        reading = in_thread(lambda: reader["key"])
        hold.wait()
        cache["key"] = "new"
        assert reader["key"] == "new"
    assert reading.result() == "new"
    assert reader["key"] == "new"


def test_a_reply_older_than_a_deletion_seen_meanwhile_does_not_bring_the_key_back(
    gate: Gate, gated: neardict.Store, cache: neardict.CachedDict, domain: str, in_thread: InThread
) -> None:
    gated.set_value(domain, "key", "old")
    del cache["key"]
    gated.set_value(domain, "key", "old")
    reader = gated.dict(domain, load=False)
    with gate.hold("GetValue", "key") as hold:
        reading = in_thread(lambda: reader.get("key", "absent"))
        hold.wait()
        del cache["key"]
    assert reading.result() == "absent"
    assert held(reader, "key") is MISSING


def test_a_deletion_is_remembered_for_as_long_as_an_older_call_is_under_way(
    gate: Gate, gated: neardict.Store, cache: neardict.CachedDict, domain: str, in_thread: InThread
) -> None:
    gated.set_many(domain, {"key": "old", "other": 1, "third": 1})
    reader = gated.dict(domain, load=False)
    with gate.hold("GetValue", "key") as hold:
        reading = in_thread(lambda: reader.get("key", "absent"))
        hold.wait()
        del cache["key"]
        del cache["other"]
        del cache["third"]
    assert reading.result() == "absent"
    assert "key" not in reader


def test_what_is_remembered_of_deleted_keys_is_forgotten_when_no_call_needs_it(
    store: neardict.Store, domain: str
) -> None:
    d = store.dict(domain)
    for number in range(300):
        d[f"{number}"] = number
        del d[f"{number}"]
    assert len(d._versions._floors) <= 2
    assert len(d._versions._order) <= 2


def test_a_look_up_after_a_deletion_does_not_join_one_from_before_it(
    gate: Gate, gated: neardict.Store, cache: neardict.CachedDict, domain: str, in_thread: InThread
) -> None:
    gated.set_value(domain, "key", "old")
    reader = gated.dict(domain, load=False)
    with gate.hold("GetValue", "key") as hold:
        early = in_thread(lambda: reader.get("key", "absent"))
        hold.wait()
        del cache["key"]
        assert reader.get("key", "absent") == "absent"  # though the early one is still on its way
        assert not early.done()
    assert early.result() == "absent"


def test_an_absent_reply_does_not_hide_a_key_that_was_written_meanwhile(
    gate: Gate, cache: neardict.CachedDict, in_thread: InThread
) -> None:
    with gate.hold("GetValue", "key") as hold:
        reading = in_thread(lambda: cache.get("key", "absent"))
        hold.wait()
        cache["key"] = "new"
    assert reading.result() == "new"
    assert held(cache, "key") == "new"


def test_bulk_look_ups_follow_the_same_rules(
    gate: Gate, gated: neardict.Store, domain: str, in_thread: InThread
) -> None:
    gated.set_many(domain, {"written": "old", "deleted": "old", "failed": "old", "kept": "old"})
    d = gated.dict(domain, load=False)
    with gate.hold("GetValue", "kept") as hold:
        reading = in_thread(d.get_many, ["written", "deleted", "failed", "kept"])
        hold.wait()
        until(lambda: gate.count("GetValue") == 4)
        d["written"] = "new"
        del d["deleted"]
        with gate.hold("SetValue", "failed") as failing:
            failing.fail(grpc.StatusCode.INTERNAL)
            with pytest.raises(neardict.ServiceError):
                d["failed"] = "new"
    assert reading.result() == {"written": "new", "failed": "new", "kept": "old"}
    assert d.get_many(["written", "deleted", "failed", "kept"]) == reading.result()


# Concurrent misses.


def test_concurrent_misses_of_a_key_share_one_request(
    gate: Gate, gated: neardict.Store, cache: neardict.CachedDict, domain: str, in_thread: InThread
) -> None:
    with gate.hold("GetValue", "key") as hold:
        leader = in_thread(cache.get, "key", "absent")
        hold.wait()
        followers = [in_thread(cache.get, "key", "absent") for _ in range(8)]
        until(lambda: all(waits_in(follower, "result") for follower in followers))
    assert [one.result() for one in [leader, *followers]] == ["absent"] * 9
    assert gate.count("GetValue") == 1


def test_misses_of_different_keys_do_not_wait_for_each_other(
    gate: Gate, gated: neardict.Store, cache: neardict.CachedDict, domain: str, in_thread: InThread
) -> None:
    gated.set_value(domain, "b", 2)
    reader = gated.dict(domain, load=False)
    with gate.hold("GetValue", "a") as hold:
        waiting = in_thread(reader.get, "a")
        hold.wait()
        assert reader["b"] == 2
    assert waiting.result() is None


def test_all_who_share_a_request_get_its_error_and_the_next_asks_anew(
    gate: Gate, cache: neardict.CachedDict, in_thread: InThread
) -> None:
    with gate.hold("GetValue", "key") as hold:
        leader = in_thread(cache.get, "key")
        hold.wait()
        followers = [in_thread(cache.get, "key") for _ in range(3)]
        until(lambda: all(waits_in(follower, "result") for follower in followers))
        hold.fail(grpc.StatusCode.INTERNAL)
        for one in (leader, *followers):
            assert isinstance(one.error(), neardict.ServiceError)
    assert cache.get("key", "absent") == "absent"
    assert not cache._flights


def test_an_interrupt_of_one_who_asks_is_not_raised_in_those_who_wait_for_the_answer(
    gate: Gate, gated: neardict.Store, cache: neardict.CachedDict, domain: str, in_thread: InThread
) -> None:
    gated.set_value(domain, "key", "value")
    reader = gated.dict(domain, load=False)
    main = threading.get_ident()

    def follow_then_interrupt() -> Any:
        hold.wait()
        follower = in_thread(lambda: reader["key"])
        until(lambda: waits_in(follower, "result"))
        signal.pthread_kill(main, signal.SIGINT)
        return follower

    with gate.hold("GetValue", "key") as hold:
        helper = in_thread(follow_then_interrupt)
        with pytest.raises(KeyboardInterrupt):
            reader["key"]  # this thread leads
        # The follower asks for himself, although the first request is still unanswered.
        assert helper.result().result() == "value"
    assert not reader._flights


def test_a_signal_handler_may_look_up_the_key_that_its_thread_is_waiting_for(
    gate: Gate, gated: neardict.Store, domain: str, in_thread: InThread
) -> None:
    gated.set_value(domain, "key", "value")
    reader = gated.dict(domain, load=False)
    seen: list[Any] = []
    main = threading.get_ident()

    def signal_then_release() -> None:
        hold.wait()
        signal.pthread_kill(main, signal.SIGUSR1)
        until(lambda: seen)
        hold.release()

    before = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(reader["key"]))
    try:
        with gate.hold("GetValue", "key") as hold:
            in_thread(signal_then_release)
            assert reader["key"] == "value"
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == ["value"]


# Writes whose acknowledgements are late.


def test_writes_that_are_acknowledged_in_the_opposite_order_leave_the_later_one(
    gate: Gate, gated: neardict.Store, cache: neardict.CachedDict, domain: str, in_thread: InThread
) -> None:
    mirror = gated.dict(domain)
    with gate.hold("SetValue", "key") as hold:
        first = in_thread(cache.__setitem__, "key", "first")
        hold.wait()
        cache["key"] = "second"
        assert cache["key"] == mirror["key"] == "second"
    first.result()
    assert cache["key"] == mirror["key"] == "second"


@pytest.mark.parametrize("bulk", [False, True], ids=["one by one", "in bulk"])
def test_a_write_that_is_published_late_does_not_bring_a_deleted_key_back(
    gate: Gate, gated: neardict.Store, domain: str, in_thread: InThread, bulk: bool
) -> None:
    d = gated.dict(domain)
    gated.set_value(domain, "other", 1)
    with gate.hold("SetValue", "key") as hold:
        if bulk:
            writing = in_thread(gated.set_many, domain, {"key": "late"})
        else:
            writing = in_thread(gated.set_value, domain, "key", "late")
        hold.wait()
        gated.delete_key(domain, "key")
        # Another removal, which lets go of the memory of those that no call needs.
        gated.delete_key(domain, "other")
    writing.result()
    assert held(d, "key") is MISSING
    assert dict(d) == {}


@pytest.mark.parametrize("bulk", [False, True], ids=["one by one", "in bulk"])
def test_a_dict_s_own_write_that_is_acknowledged_late_does_not_bring_a_deleted_key_back(
    gate: Gate, gated: neardict.Store, domain: str, in_thread: InThread, bulk: bool
) -> None:
    d = gated.dict(domain)
    gated.set_value(domain, "other", 1)
    with gate.hold("SetValue", "key") as hold:
        writing = in_thread(d.update, {"key": "late"}) if bulk else in_thread(d.__setitem__, "key", "late")
        hold.wait()
        gated.delete_key(domain, "key")
        gated.delete_key(domain, "other")
    writing.result()
    assert dict(d) == {}


@pytest.mark.parametrize("load", [True, False], ids=["mirror", "cache"])
@pytest.mark.parametrize("mine", [True, False], ids=["its own", "another dict's"])
def test_a_write_that_a_reset_has_overtaken_is_shown_once_it_is_acknowledged(
    gate: Gate, gated: neardict.Store, domain: str, in_thread: InThread, load: bool, mine: bool
) -> None:
    gated.set_many(domain, {"key": "old", "deleted": "old"})
    d = gated.dict(domain, load=load)
    writer = d if mine else gated.dict(domain, load=False)
    with (
        gate.hold("SetValue", "key", at="request") as setting,
        gate.hold("SetValue", "new", at="request") as adding,
        gate.hold("DeleteKey", "deleted", at="request") as deleting,
    ):
        writing = [
            in_thread(writer.__setitem__, "key", "new"),
            in_thread(writer.__setitem__, "new", "new"),
            in_thread(writer.__delitem__, "deleted"),
        ]
        for hold in (setting, adding, deleting):
            hold.wait()
        d.reset()
        assert (d["key"], d.get("new"), d["deleted"]) == ("old", None, "old")
    for one in writing:
        one.result()
    assert (d["key"], d.get("new"), d.get("deleted")) == ("new", "new", None)
    assert d.copy() == {"key": "new", "new": "new"}


@pytest.mark.parametrize("bulk", [False, True], ids=["one by one", "in bulk"])
def test_a_deletion_that_is_acknowledged_late_does_not_hide_a_newer_write(
    gate: Gate,
    gated: neardict.Store,
    cache: neardict.CachedDict,
    domain: str,
    in_thread: InThread,
    bulk: bool,
) -> None:
    mirror = gated.dict(domain)
    mirror["key"] = "old"
    with gate.hold("DeleteKey", "key") as hold:
        deleting = in_thread(cache.delete_many, ["key"]) if bulk else in_thread(cache.__delitem__, "key")
        hold.wait()
        mirror["key"] = "new"
    deleting.result()
    assert cache["key"] == held(mirror, "key") == "new"


def test_a_write_is_seen_by_every_dict_of_the_store_before_the_call_returns(
    store: neardict.Store, domain: str
) -> None:
    mirror, cache = store.dict(domain), store.dict(domain, load=False)
    mirror["a"] = 1
    assert cache["a"] == 1  # which it did not hold, as nobody had used it there
    cache["b"] = 2
    assert held(mirror, "b") == 2
    store.set_value(domain, "c", 3)
    store.set_many(domain, {"d": 4})
    assert [held(mirror, key) for key in "cd"] == [cache[key] for key in "cd"] == [3, 4]
    store.delete_key(domain, "a")
    store.delete_many(domain, ["b", "c"])
    assert dict(mirror) == dict(cache) == {"d": 4}


# Listings.


def test_a_listing_does_not_bring_back_what_was_deleted_or_replaced_meanwhile(
    gate: Gate, gated: neardict.Store, cache: neardict.CachedDict, domain: str, in_thread: InThread
) -> None:
    gated.set_many(domain, {f"{number}": "old" for number in range(6)})
    with gate.hold("AllKeys", pages=3) as hold:
        loading = in_thread(gated.dict, domain)
        hold.wait()
        for number in range(6):
            if number % 2:
                del cache[f"{number}"]
            else:
                cache[f"{number}"] = "new"
        cache["created"] = "new"
    mirror = loading.result()
    assert dict(mirror) == {"0": "new", "2": "new", "4": "new", "created": "new"}


def test_a_refresh_does_not_drop_what_was_created_after_it_began(
    gate: Gate, gated: neardict.Store, domain: str, in_thread: InThread
) -> None:
    mirror = gated.dict(domain)
    with gate.hold("AllKeys", at="reply") as hold:
        refreshing = in_thread(mirror.refresh)
        hold.wait()
        mirror["created"] = 1
    refreshing.result()
    assert held(mirror, "created") == 1


def test_two_listings_at_once_end_with_what_is_stored(
    gate: Gate, gated: neardict.Store, elsewhere: neardict.Store, domain: str, in_thread: InThread
) -> None:
    mirror = gated.dict(domain)
    elsewhere.set_value(domain, "key", 1)
    with gate.hold("AllKeys", pages=1) as hold:
        slow = in_thread(mirror.refresh)
        hold.wait()
        elsewhere.set_value(domain, "key", 2)
        elsewhere.set_value(domain, "other", 2)
        mirror.refresh()
        assert dict(mirror) == {"key": 2, "other": 2}
    slow.result()
    # The slow one did not list "other", which was created after it began.
    assert dict(mirror) == {"key": 2, "other": 2}


def test_iteration_is_over_a_snapshot(store: neardict.Store, domain: str) -> None:
    d = store.dict(domain)
    d.update({f"{number}": number for number in range(20)})
    for key in d:
        del d[key]
        d[f"new {key}"] = 1
    for key, value in d.items():
        d[f"newer {key}"] = value
    for _ in d.values():
        d.popitem()
    assert dict(d) == {}


# Failed writes.


def fail_after_applying(gate: Gate, key: str, method: str = "SetValue") -> None:
    """Lets the next write of the key be applied, and its reply be an error that is not retried."""
    gate.hold(method, key).fail(grpc.StatusCode.INTERNAL)


@pytest.mark.parametrize("load", [True, False], ids=["mirror", "cache"])
def test_after_a_write_that_perhaps_was_applied_the_key_is_read_anew_by_all_dicts_of_the_store(
    gate: Gate, gated: neardict.Store, domain: str, load: bool
) -> None:
    d, other = gated.dict(domain, load=load), gated.dict(domain, load=load)
    d["key"] = "old"
    fail_after_applying(gate, "key")
    with pytest.raises(neardict.ServiceError):
        d["key"] = "new"
    assert held(d, "key") is held(other, "key") is MISSING
    assert d["key"] == other["key"] == "new"
    fail_after_applying(gate, "key")
    with pytest.raises(neardict.ServiceError):
        gated.set_value(domain, "key", "newer")
    assert d["key"] == other["key"] == "newer"
    fail_after_applying(gate, "key", "DeleteKey")
    with pytest.raises(neardict.ServiceError):
        del d["key"]
    assert "key" not in other
    assert "key" not in d
    assert len(d) == len(other) == 0


def test_a_look_up_that_began_before_a_failed_write_does_not_answer_for_what_is_stored_after_it(
    gate: Gate, gated: neardict.Store, cache: neardict.CachedDict, domain: str, in_thread: InThread
) -> None:
    gated.set_value(domain, "key", "old")
    reader = gated.dict(domain, load=False)
    with gate.hold("GetValue", "key") as hold:
        reading = in_thread(lambda: reader["key"])
        hold.wait()
        fail_after_applying(gate, "key")
        with pytest.raises(neardict.ServiceError):
            reader["key"] = "new"
    assert reading.result() == "new"
    assert reader["key"] == "new"


def test_a_look_up_that_found_nothing_before_a_failed_write_asks_again(
    gate: Gate, cache: neardict.CachedDict, in_thread: InThread
) -> None:
    with gate.hold("GetValue", "key") as hold:
        reading = in_thread(cache.get, "key", "absent")
        hold.wait()
        fail_after_applying(gate, "key")
        with pytest.raises(neardict.ServiceError):
            cache["key"] = "new"
    assert reading.result() == "new"


def test_a_late_acknowledgement_does_not_go_back_behind_what_was_shown_before_a_failed_write(
    gate: Gate, gated: neardict.Store, domain: str, in_thread: InThread
) -> None:
    d = gated.dict(domain)
    with gate.hold("SetValue", "key") as hold:
        first = in_thread(d.__setitem__, "key", "first")
        hold.wait()
        d["key"] = "second"
        gate.hold("SetValue", "key", at="request").fail(grpc.StatusCode.INTERNAL)
        with pytest.raises(neardict.ServiceError):
            d["key"] = "third"  # drops what was held
    first.result()
    assert d["key"] == "second"


@pytest.mark.parametrize("bulk", [False, True], ids=["one by one", "in bulk"])
def test_an_acknowledgement_from_before_a_failed_write_does_not_stand_for_what_is_stored_after_it(
    gate: Gate, gated: neardict.Store, domain: str, in_thread: InThread, bulk: bool
) -> None:
    d, other = gated.dict(domain), gated.dict(domain, load=False)
    with gate.hold("SetValue", "key") as hold:
        first = in_thread(d.update, {"key": 1}) if bulk else in_thread(d.__setitem__, "key", 1)
        hold.wait()
        fail_after_applying(gate, "key")
        with pytest.raises(neardict.ServiceError):
            gated.set_value(domain, "key", 2)
    first.result()
    assert d["key"] == other["key"] == 2


def test_a_deletion_from_before_a_failed_write_does_not_hide_what_was_written(
    gate: Gate, gated: neardict.Store, domain: str, in_thread: InThread
) -> None:
    d = gated.dict(domain)
    d["key"] = 1
    with gate.hold("DeleteKey", "key") as hold:
        first = in_thread(d.__delitem__, "key")
        hold.wait()
        fail_after_applying(gate, "key")
        with pytest.raises(neardict.ServiceError):
            d["key"] = 2
    first.result()
    assert dict(d) == {"key": 2}


def test_a_look_up_does_not_undo_a_write_that_was_acknowledged_while_its_key_was_in_doubt(
    gate: Gate, gated: neardict.Store, domain: str, in_thread: InThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The mirror would do by itself what is done here step by step.
    monkeypatch.setattr(gated, "reload", lambda cache: None)
    d = gated.dict(domain)
    d["key"] = 0
    with gate.hold("SetValue", "key", at="request") as early:
        writing = in_thread(d.__setitem__, "key", 1)
        early.wait()
        gate.hold("SetValue", "key", at="request").fail(grpc.StatusCode.INTERNAL)
        with pytest.raises(neardict.ServiceError):
            d["key"] = -1
        with gate.hold("GetValue", "key") as late:
            reading = in_thread(lambda: d["key"])
            late.wait()  # it has read 0
            early.release()
            writing.result()
    assert reading.result() == 1
    assert d["key"] == 1


@pytest.mark.parametrize("how", ["look up", "list"])
@pytest.mark.parametrize("stored", [False, True], ids=["absent before", "stored before"])
def test_reading_does_not_settle_a_doubt_with_what_is_older_than_a_write_acknowledged_meanwhile(
    gate: Gate,
    gated: neardict.Store,
    domain: str,
    in_thread: InThread,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
    stored: bool,
) -> None:
    monkeypatch.setattr(gated, "reload", lambda cache: None)
    d = gated.dict(domain)
    if stored:
        d["key"] = 0
    with gate.hold("SetValue", "key", at="request") as early:
        writing = in_thread(gated.set_value, domain, "key", 1)
        early.wait()
        gate.hold("SetValue", "key", at="request").fail(grpc.StatusCode.INTERNAL)
        with pytest.raises(neardict.ServiceError):
            d["key"] = -1
        with gate.hold("GetValue" if how == "look up" else "AllKeys") as late:
            reading = in_thread(d.get, "key") if how == "look up" else in_thread(d.refresh)
            late.wait()  # it has read 0, or nothing
            early.release()
            writing.result()
        reading.result()
    assert dict(d.items()) == {"key": 1}


@pytest.mark.parametrize("load", [True, False], ids=["mirror", "cache"])
@pytest.mark.parametrize("pages", [0, 2, 4], ids=["first", "in the middle", "last"])
def test_a_write_that_fails_during_a_listing_does_not_hide_its_key(
    gate: Gate, gated: neardict.Store, domain: str, in_thread: InThread, load: bool, pages: int
) -> None:
    stored = {f"{number}": number for number in range(4)}
    gated.set_many(domain, stored)
    d = gated.dict(domain, load=False)
    d.get_many(["0", "1"])
    d._load = load  # begins as a cache that holds a part
    with gate.hold("AllKeys", pages=pages) as hold:
        listing = in_thread(d.snapshot)
        hold.wait()
        for key in ("0", "1", "2", "3"):
            gate.hold("SetValue", key, at="request").fail(grpc.StatusCode.INTERNAL)
            with pytest.raises(neardict.ServiceError):
                d[key] = "never stored"
    assert listing.result() == stored
    assert len(d) == 4
    assert dict(d) == stored


def test_a_mirror_with_keys_in_doubt_looks_these_up_and_does_not_list_the_domain_again(
    gate: Gate, gated: neardict.Store, domain: str
) -> None:
    d = gated.dict(domain)
    d.update({f"{number}": number for number in range(10)})
    fail_after_applying(gate, "5")
    with pytest.raises(neardict.ServiceError):
        d["5"] = "new"
    listings = gate.count("AllKeys")
    assert len(d) == 10
    assert d["5"] == "new"
    assert gate.count("AllKeys") == listings


def test_a_mirror_with_very_many_keys_in_doubt_is_listed_anew(
    gate: Gate, gated: neardict.Store, domain: str
) -> None:
    d = gated.dict(domain)
    new = {f"{number}": number for number in range(150)}
    for key in new:
        gate.hold("SetValue", key, at="request").fail(grpc.StatusCode.INTERNAL)
    with pytest.raises(neardict.BulkError) as caught:
        d.update(new)
    assert caught.value.failures.keys() == new.keys()
    listings = gate.count("AllKeys")
    assert len(d) == 0
    assert gate.count("AllKeys") == listings + 1


def test_a_bulk_write_that_fails_in_part_shows_what_was_written_and_nothing_else(
    gate: Gate, gated: neardict.Store, cache: neardict.CachedDict, domain: str
) -> None:
    d = gated.dict(domain)
    d.update({"lost": "old", "applied": "old", "good": "old"})
    gate.hold("SetValue", "lost", at="request").fail(grpc.StatusCode.INTERNAL)
    fail_after_applying(gate, "applied")
    with pytest.raises(neardict.BulkError) as caught:
        d.update({"lost": "new", "applied": "new", "good": "new"})
    assert caught.value.failures.keys() == {"lost", "applied"}
    assert held(d, "good") == "new"
    assert dict(d) == dict(cache) == {"lost": "old", "applied": "new", "good": "new"}


def test_a_conflict_shows_that_what_is_held_is_old(
    store: neardict.Store, elsewhere: neardict.Store, domain: str
) -> None:
    d = store.dict(domain)
    d["key"] = "old"
    revision = d._versions.held["key"]
    elsewhere.set_value(domain, "key", "new")
    with pytest.raises(neardict.ConflictError):
        d.compare_and_set("key", "mine", revision)
    assert d["key"] == "new"
    assert dict(d) == {"key": "new"}


# pop, setdefault and edit, which read and then write.


def test_pop_returns_the_very_value_that_it_deletes(
    gate: Gate, gated: neardict.Store, elsewhere: neardict.Store, domain: str, in_thread: InThread
) -> None:
    d = gated.dict(domain)
    d["key"] = "old"
    with gate.hold("DeleteKey", "key", at="request") as hold:
        popping = in_thread(d.pop, "key")
        hold.wait()
        elsewhere.set_value(domain, "key", "new")
    assert popping.result() == "new"
    assert elsewhere.get_entry(domain, "key") is None


def test_pop_does_not_take_the_revision_of_a_value_that_comes_between(
    store: neardict.Store, domain: str
) -> None:
    class Interleaved(neardict.CachedDict):
        def _revision_of(self, key: str, value: Any) -> int | None:
            if value == "old":
                self[key] = (
                    "new"  # as another thread might, between the look at the value and at its revision
                )
            return super()._revision_of(key, value)

    d = Interleaved(store, domain)
    d["key"] = "old"
    assert d.pop("key") == "new"


def test_of_two_who_pop_a_key_only_one_gets_the_value(
    gate: Gate, gated: neardict.Store, elsewhere: neardict.Store, domain: str, in_thread: InThread
) -> None:
    d = gated.dict(domain)
    d["key"] = "value"
    with gate.hold("DeleteKey", "key", at="request") as hold:
        popping = in_thread(d.pop, "key", "absent")
        hold.wait()
        assert elsewhere.delete_key(domain, "key")
    assert popping.result() == "absent"


def test_popitem_goes_on_to_the_next_when_somebody_else_was_faster(
    gate: Gate, gated: neardict.Store, elsewhere: neardict.Store, domain: str, in_thread: InThread
) -> None:
    d = gated.dict(domain)
    d["a"] = 1
    d["b"] = 2
    with gate.hold("DeleteKey", "b", at="request") as hold:
        popping = in_thread(d.popitem)
        hold.wait()
        elsewhere.delete_key(domain, "b")
    assert popping.result() == ("a", 1)
    with pytest.raises(KeyError, match="the domain is empty"):
        d.popitem()


def test_setdefault_gives_way_to_whoever_came_first(
    gate: Gate, gated: neardict.Store, elsewhere: neardict.Store, domain: str, in_thread: InThread
) -> None:
    d = gated.dict(domain)
    with gate.hold("SetValue", "key", at="request") as hold:
        setting = in_thread(d.setdefault, "key", "mine")
        hold.wait()
        elsewhere.set_value(domain, "key", "theirs")
    assert setting.result() == "theirs"
    assert d["key"] == "theirs"


def test_an_edit_starts_over_when_somebody_else_wrote_meanwhile(
    gate: Gate, gated: neardict.Store, elsewhere: neardict.Store, domain: str, in_thread: InThread
) -> None:
    d = gated.dict(domain)
    d["key"] = [0]
    with gate.hold("SetValue", "key", at="request") as hold:
        editing = in_thread(d.edit, "key", lambda value: value.append(2))
        hold.wait()
        elsewhere.set_value(domain, "key", [0, 1])
    assert editing.result() == [0, 1, 2]
    assert d["key"] == elsewhere.get_value(domain, "key") == [0, 1, 2]


def test_an_edit_as_a_block_reports_that_somebody_else_wrote_meanwhile(
    store: neardict.Store, elsewhere: neardict.Store, domain: str
) -> None:
    d = store.dict(domain)
    d["key"] = [0]

    def edit() -> None:
        with d.edit("key") as value:
            value.append(2)
            elsewhere.set_value(domain, "key", [0, 1])

    with pytest.raises(neardict.ConflictError, match=r"edit it again, or use d\.edit\(key, function\)"):
        edit()
    assert d["key"] == [0, 1]
    with d.edit("key") as value:
        value.append(2)
    assert d["key"] == elsewhere.get_value(domain, "key") == [0, 1, 2]


def test_an_edit_whose_block_raises_stores_nothing(store: neardict.Store, domain: str) -> None:
    d = store.dict(domain)
    d["key"] = [0]
    with pytest.raises(ZeroDivisionError), d.edit("key") as value:
        value.append(1 / 0)
    assert d["key"] == store.get_value(domain, "key") == [0]


def test_an_edit_gives_up_when_its_time_is_over(
    store: neardict.Store, elsewhere: neardict.Store, domain: str
) -> None:
    d = store.dict(domain)
    d["key"] = 0

    def overtaken(value: int) -> int:
        elsewhere.set_value(domain, "key", value + 1)
        return -1

    with pytest.raises(neardict.ConflictError):
        d.edit("key", overtaken, timeout=0.05)
    assert d["key"] == elsewhere.get_value(domain, "key") > 0


# Closing.


@pytest.mark.parametrize("method", ["GetValue", "SetValue", "AllKeys", "get_many", "update"])
def test_calls_that_are_under_way_when_the_store_is_closed_end_with_closed_error(
    gate: Gate, gated: neardict.Store, domain: str, in_thread: InThread, method: str
) -> None:
    d = gated.dict(domain, load=False)
    d["a"] = 1
    act: dict[str, Any] = {
        "GetValue": lambda: d["key"],
        "SetValue": lambda: d.__setitem__("key", 1),
        "AllKeys": d.snapshot,
        "get_many": lambda: d.get_many([f"{number}" for number in range(300)]),
        "update": lambda: d.update({f"{number}": number for number in range(300)}),
    }
    with gate.hold({"get_many": "GetValue", "update": "SetValue"}.get(method, method)) as hold:
        running = in_thread(act[method])
        hold.wait()
        gated.close()
        error = running.error()
    if isinstance(error, neardict.BulkError):
        assert {type(failure) for failure in error.failures.values()} == {neardict.ClosedError}
    else:
        assert type(error) is neardict.ClosedError


def uses_of(d: neardict.CachedDict) -> list[Callable[[], Any]]:
    return [
        lambda: d["other"],
        lambda: d.__setitem__("key", 2),
        lambda: d.__delitem__("key"),
        lambda: d.pop("key"),
        lambda: d.edit("key", len),
        lambda: d.refresh(),
        lambda: d.refresh("key"),
    ]


def test_a_closed_store_says_so_and_its_dicts_keep_what_they_hold(store: neardict.Store, domain: str) -> None:
    mirror, cache = store.dict(domain), store.dict(domain, load=False)
    mirror["key"] = [1]
    assert cache["key"] == [1]
    store.close()
    store.close()
    for d in (mirror, cache):
        assert d["key"] == [1]
        for act in uses_of(d):
            with pytest.raises(neardict.ClosedError, match="connect again"):
                act()
        with pytest.raises(neardict.BulkError, match="connect again"):
            d.update(key=2)
        with pytest.raises(neardict.BulkError, match="connect again"):
            d.delete_many(["key"])
        assert d["key"] == [1]
    assert dict(mirror) == {"key": [1]}
    with pytest.raises(neardict.ClosedError):
        len(cache)
    with pytest.raises(neardict.ClosedError):
        store.get_value(domain, "key")
    with pytest.raises(neardict.ClosedError):
        list(store.all_keys(domain))


# Code of the program's own that is run while values are decoded.


class Curious:
    """Its decode function looks at the dict that it is decoded for, and at another."""

    dicts: ClassVar[list[neardict.CachedDict]] = []

    @classmethod
    def decode(cls, data: dict[str, Any]) -> "Curious":
        for d in cls.dicts:
            d.get("setting")
        return cls()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Curious)

    __hash__ = None  # type: ignore[assignment]  # as any class with an __eq__


neardict.register(Curious, encode=lambda value: {}, decode=Curious.decode)


def test_decoding_may_use_the_dict_itself(
    gate: Gate, gated: neardict.Store, elsewhere: neardict.Store, domain: str, in_thread: InThread
) -> None:
    elsewhere.set_many(domain, {"a": Curious(), "b": Curious(), "setting": 1})
    first, second = gated.dict(domain, load=False), gated.dict(domain, load=False)
    Curious.dicts = [first, second]
    try:
        with gate.hold("GetValue", "setting") as hold:
            one = in_thread(lambda: first["a"])
            hold.wait()
            # The other thread writes to both dicts while the first is decoding for one of them.
            in_thread(lambda: second.__setitem__("other", 1)).result()
            two = in_thread(lambda: second["b"])
        assert one.result() == two.result() == Curious()
        assert len(first.copy()) == 4
    finally:
        Curious.dicts = []
