"""What the docstring of CachedDict promises, in its order."""

import contextlib
import os
import signal
import subprocess
import sys
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest

import neardict
from neardict import aio
from neardict._contents import MISSING
from processes import ended
from served import Served
from shown import shown

from .gate import Gate
from .threads import InThread, until

if TYPE_CHECKING:
    from collections.abc import Callable

both_modes = pytest.mark.parametrize("load", [True, False], ids=["mirror", "cache"])


def held(cache: neardict.CachedDict, key: str) -> Any:
    return dict.get(cache, key, MISSING)


# Hits.


@pytest.mark.parametrize("kind", [neardict.CachedDict, aio.CachedDict])
def test_a_hit_never_enters_our_code(kind: type[dict[str, Any]]) -> None:
    assert kind.__getitem__ is dict.__getitem__
    for cls in kind.__mro__[: kind.__mro__.index(dict)]:
        assert not {"__getitem__", "__getattribute__", "__getattr__", "__dict__"} & vars(cls).keys()


def test_hits_need_no_service(tmp_path: Path) -> None:
    with Served("--data", tmp_path) as server, neardict.connect(server.address, timeout=3) as store:
        mirror, cache = store.dict("d"), store.dict("d", load=False)
        mirror.update(a=[1], b=2)
        assert cache.get_many(["a", "b"]) == {"a": [1], "b": 2}
        # From now on nothing answers; what is held is trusted for a few seconds all the same.
        server.process.send_signal(signal.SIGSTOP)
        for d in (mirror, cache):
            assert d["a"] == [1]
            assert d.get("b") == 2
            assert "a" in d
            assert d.get_many(["a", "b"]) == {"a": [1], "b": 2}
        assert dict(mirror) == {"a": [1], "b": 2}
        assert len(mirror) == 2


@both_modes
def test_a_value_is_the_same_object_until_its_entry_changes(
    store: neardict.Store, elsewhere: neardict.Store, domain: str, load: bool
) -> None:
    d = store.dict(domain, load=load)
    value = {"n": 1}
    d["key"] = value
    assert d["key"] is value
    d.refresh()
    d.refresh("key")
    d["other"] = 1
    assert d["key"] is d.get("key") is d.copy()["key"] is dict(d.items())["key"] is value
    value["n"] += 1
    d.save("key")
    assert d["key"] is value
    assert elsewhere.get_value(domain, "key") == {"n": 2}
    elsewhere.set_value(domain, "key", {"n": 3})
    d.refresh("key")
    assert d["key"] == {"n": 3}
    assert d["key"] is not value


# Writes.


@both_modes
def test_what_other_processes_write_is_seen_at_the_first_look_up_and_after_refresh(
    store: neardict.Store, elsewhere: neardict.Store, domain: str, load: bool
) -> None:
    d = store.dict(domain, load=load)
    elsewhere.set_many(domain, {"a": 1, "b": 1})
    assert d["a"] == 1
    assert "b" in d
    elsewhere.set_value(domain, "a", 2)
    elsewhere.delete_key(domain, "b")
    assert (d["a"], d["b"]) == (1, 1)
    d.refresh("a")
    assert d["a"] == 2
    d.refresh()
    assert dict(d) == {"a": 2}


UNSUPPORTED = object()
FAILURES: dict[str, tuple[Any, type[Exception]]] = {
    "unsupported": (UNSUPPORTED, neardict.UnsupportedValueError),
    "too large": ("x" * 100_001, neardict.LimitExceededError),
    "refused": (10**400, neardict.InvalidArgumentError),
}


@both_modes
@pytest.mark.parametrize("name", list(FAILURES))
def test_a_value_that_is_refused_is_not_shown(
    store: neardict.Store, domain: str, name: str, load: bool
) -> None:
    value, error = FAILURES[name]
    d = store.dict(domain, load=load)
    d["key"] = old = ["old"]
    writes: list[Callable[[], Any]] = [
        lambda: d.__setitem__("key", value),
        lambda: d.__setitem__("new", value),
        lambda: d.setdefault("new", value),
        lambda: d.edit("key", lambda old: value, replace=True),
        lambda: d.edit("new", lambda old: value, default=1),
        lambda: store.set_value(domain, "key", value),
    ]
    for write in writes:
        with pytest.raises(error):
            write()
        assert dict(d) == {"key": ["old"]}
        # It is certain that nothing was stored, so that even the object stays.
        assert held(d, "key") is old
    with pytest.raises((error, neardict.BulkError)):
        d.update(key=value, new=value)
    assert dict(d) == {"key": ["old"]}


@both_modes
@pytest.mark.parametrize("name", list(FAILURES))
def test_what_was_edited_in_place_and_cannot_be_saved_is_not_shown(
    store: neardict.Store, domain: str, name: str, load: bool
) -> None:
    value, error = FAILURES[name]
    d = store.dict(domain, load=load)
    saves: list[Callable[[], None]] = [
        lambda: d.save("key"),
        lambda: d.update(key=d["key"]),
        lambda: d.__setitem__("key", d["key"]),
    ]
    for save in saves:
        d["key"] = ["old"]
        d["key"].append(value)
        with pytest.raises((error, neardict.BulkError)):
            save()
        assert d["key"] == ["old"]


@both_modes
@pytest.mark.parametrize(
    "status", [grpc.StatusCode.INTERNAL, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNKNOWN]
)
@pytest.mark.parametrize("applied", [True, False], ids=["applied", "lost"])
def test_after_a_write_of_which_nobody_knows_the_stored_value_is_shown(
    gate: Gate, gated: neardict.Store, domain: str, status: grpc.StatusCode, applied: bool, load: bool
) -> None:
    d = gated.dict(domain, load=load)
    d["key"] = ["old"]
    d["key"].append("edited in place")
    gate.hold("SetValue", "key", at="reply" if applied else "request").fail(status)
    with pytest.raises(neardict.NeardictError):
        d.save("key")
    assert d["key"] == (["old", "edited in place"] if applied else ["old"])
    gate.hold("DeleteKey", "key", at="reply" if applied else "request").fail(status)
    with pytest.raises(neardict.NeardictError):
        d.pop("key")
    assert ("key" in d) is not applied


@both_modes
def test_an_edit_in_place_is_never_lost_without_an_error(
    gate: Gate, gated: neardict.Store, domain: str, load: bool
) -> None:
    d = gated.dict(domain, load=load)
    d["key"] = ["old"]
    value = d["key"]
    value.append("edited")
    gate.hold("SetValue", "key", at="request").fail(grpc.StatusCode.INTERNAL)
    with pytest.raises(neardict.ServiceError):
        d.save("key")
    # To save again would store the old one.
    with pytest.raises(neardict.NotHeldError, match=r"d\[key\] = value"):
        d.save("key")
    d["key"] = value
    assert gated.get_value(domain, "key") == ["old", "edited"]
    with pytest.raises(KeyError):
        d.save("absent")


# Expiry.


@both_modes
def test_expired_entries_disappear_by_themselves(store: neardict.Store, domain: str, load: bool) -> None:
    store.set_value(domain, "listed", 1, ttl=0.3)
    d = store.dict(domain, load=load)
    store.set_value(domain, "published", 1, ttl=0.2)
    store.set_many(domain, {"in bulk": 1}, ttl=0.2)
    d["stays"] = 1
    d.get_many(["listed", "published", "in bulk"])
    assert held(d, "published") == held(d, "in bulk") == held(d, "listed") == 1
    until(lambda: shown(d) == {"stays": 1})
    until(lambda: dict(d) == {"stays": 1})
    assert "published" not in d
    with pytest.raises(KeyError):
        d["listed"]


def test_an_entry_that_is_written_anew_lives_by_its_new_time(store: neardict.Store, domain: str) -> None:
    d = store.dict(domain)
    for key in ("longer", "for ever", "shorter", "deleted and written"):
        store.set_value(domain, key, 1, ttl=50 if key == "shorter" else 0.1)
    store.set_value(domain, "longer", 2, ttl=50)
    d["for ever"] = 2
    store.set_value(domain, "shorter", 2, ttl=0.1)
    del d["deleted and written"]
    d["deleted and written"] = 2
    store.set_value(domain, "last", 2, ttl=0.15)
    until(lambda: held(d, "last") is MISSING)
    until(lambda: held(d, "shorter") is MISSING)
    assert dict(d) == {"longer": 2, "for ever": 2, "deleted and written": 2}


def test_an_entry_that_is_renewed_again_and_again_leaves_nothing_behind(
    store: neardict.Store, domain: str
) -> None:
    d, other = store.dict(domain), store.dict(domain, load=False)
    for number in range(300):
        store.set_value(domain, "session", number, ttl=3600 - number % 3)
    assert d["session"] == other["session"] == 299
    assert len(store.expiry._due) <= 2 * len(store.expiry._latest) + 100
    assert len(store.expiry._latest) == 2


def test_a_late_reply_does_not_bring_an_expired_entry_back_for_good(
    gate: Gate, gated: neardict.Store, domain: str, in_thread: InThread
) -> None:
    gated.set_value(domain, "key", 1, ttl=0.1)
    d = gated.dict(domain, load=False)
    with gate.hold("GetValue", "key") as hold:
        reading = in_thread(d.get, "key")
        hold.wait()
        until(lambda: gated.get_entry(domain, "key") is None)
    assert reading.result() in (1, None)
    until(lambda: held(d, "key") is MISSING)
    assert "key" not in d


def test_a_dict_that_is_gone_is_not_kept_by_its_expiring_entries(store: neardict.Store, domain: str) -> None:
    d = store.dict(domain)
    store.set_value(domain, "key", 1, ttl=3600)
    assert held(d, "key") == 1
    reference = weakref.ref(d)
    del d
    assert reference() is None


# Damaged entries.


@both_modes
def test_one_corrupt_entry_does_not_make_the_dict_vanish(
    store: neardict.Store, data: Path, domain: str, load: bool, caplog: pytest.LogCaptureFixture
) -> None:
    domain = f"files.{domain}"
    store.set_many(domain, {"good": 1, "bad": 2})
    (damaged,) = data.glob(f"files/**/{domain.rpartition('.')[2]}/bad.json")
    damaged.write_text("{")
    d = store.dict(domain, load=load)
    assert d.copy() == {"good": 1}
    assert "1 entries of the domain" in caplog.text
    assert d["good"] == 1
    for look in (lambda: d["bad"], lambda: d.get("bad"), lambda: "bad" in d, lambda: d.pop("bad")):
        with pytest.raises(neardict.DataLossError):
            look()
    with pytest.raises(neardict.BulkError) as caught:
        d.get_many(["good", "bad"])
    assert {key: type(error) for key, error in caught.value.failures.items()} == {
        "bad": neardict.DataLossError
    }
    d["bad"] = 3
    assert d.copy() == {"good": 1, "bad": 3}
    damaged.write_text("{")
    d.refresh()
    del d["bad"]
    assert d.copy() == {"good": 1}


def test_a_mirror_leaves_out_a_damaged_entry_that_a_failed_write_put_in_doubt(
    gate: Gate, gated: neardict.Store, data: Path, domain: str, caplog: pytest.LogCaptureFixture
) -> None:
    domain = f"files.{domain}"
    d = gated.dict(domain)
    d.update(good=1, bad=2)
    gate.hold("SetValue", "bad", at="request").fail(grpc.StatusCode.INTERNAL)
    with pytest.raises(neardict.ServiceError):
        d["bad"] = 3
    (damaged,) = data.glob(f"files/**/{domain.rpartition('.')[2]}/bad.json")
    damaged.write_text("{")
    assert dict(d) == {"good": 1}
    assert "'bad'" in caplog.text
    assert len(d) == 1


def test_files_that_are_edited_by_hand_are_seen_after_a_refresh(
    store: neardict.Store, data: Path, domain: str
) -> None:
    domain = f"files.{domain}"
    d = store.dict(domain)
    d["key"] = 1
    (file,) = data.glob(f"files/**/{domain.rpartition('.')[2]}/key.json")
    file.write_text("2")
    os.utime(file, (1, 1))  # as a copy of an older file has it
    d.refresh("key")
    assert d["key"] == 2
    file.unlink()
    d.refresh()
    assert dict(d) == {}


# Threads and processes.


def test_edits_of_many_threads_lose_nothing(store: neardict.Store, domain: str, in_thread: InThread) -> None:
    dicts = [store.dict(domain, load=bool(number % 2)) for number in range(4)]

    def increment(number: int) -> None:
        for _ in range(50):
            dicts[number % 4].edit("count", lambda count: count + 1, default=0)

    for running in [in_thread(increment, number) for number in range(8)]:
        running.result()
    assert [d["count"] for d in dicts] == [400] * 4


def test_edits_of_many_processes_lose_nothing(server: Served, store: neardict.Store, domain: str) -> None:
    program = """
import sys, neardict
with neardict.connect(sys.argv[1]) as store:
    d = store.dict(sys.argv[2], load=False)
    for _ in range(50):
        d.edit("count", lambda count: count + 1, default=0)
"""
    command = [sys.executable, "-c", program, server.address, domain]
    with contextlib.ExitStack() as opened:
        for process in [opened.enter_context(ended(subprocess.Popen(command))) for _ in range(4)]:
            assert process.wait(60) == 0
    assert store.get_value(domain, "count") == 200


def test_threads_that_pop_and_set_default_at_once_get_each_value_once(
    store: neardict.Store, domain: str, in_thread: InThread
) -> None:
    d = store.dict(domain)
    d.update({f"{number}": number for number in range(60)})
    popped: list[list[int]] = [[] for _ in range(6)]

    def pop_all(mine: list[int]) -> None:
        while True:
            try:
                mine.append(d.popitem()[1])
            except KeyError:
                return

    for running in [in_thread(pop_all, mine) for mine in popped]:
        running.result()
    assert sorted(number for mine in popped for number in mine) == list(range(60))
    winners = [in_thread(d.setdefault, "key", number) for number in range(6)]
    assert len({winner.result() for winner in winners}) == 1


def test_iterating_copying_and_comparing_while_others_write_never_fails(
    store: neardict.Store, domain: str, in_thread: InThread
) -> None:
    d = store.dict(domain)
    d.update({f"{number}": number for number in range(50)})
    writing = [True]

    def write(number: int) -> None:
        while writing:
            d[f"{number}"] = number
            d.pop(f"{number}", None)

    writers = [in_thread(write, number) for number in (0, 100)]
    for _ in range(60):
        assert len(list(d)) >= 49
        assert len(list(d.items())) >= 49
        assert len(d.copy()) >= 49
        assert isinstance(d == d.copy(), bool)
        assert repr(d).startswith("CachedDict(")
        assert len(d | {}) >= 49
    writing.clear()
    for writer in writers:
        writer.result()


def test_dicts_that_nobody_uses_are_not_kept(store: neardict.Store, domain: str) -> None:
    for _ in range(10):
        store.dict(domain)["key"] = 1
    assert len(store.changes._listeners[domain]) == 0
    for number in range(500):
        store.dict(f"{domain}.{number}", load=False)
    assert len(store.changes._listeners) < 300
    d = store.dict(domain)
    store.set_value(domain, "key", 2)
    assert dict.get(d, "key") == 2


def test_a_dict_on_a_backend_that_keeps_nothing_does_not_hang(store: neardict.Store, domain: str) -> None:
    d = store.dict(f"null.{domain}")
    d["key"] = 1
    assert d.pop("key", "gone") == "gone"
    d["key"] = 1
    with pytest.raises(KeyError):
        d.popitem()
    assert d.setdefault("key", 2) == 2
    d.edit("key", lambda value: value + 1, default=1)
    d.refresh()
    assert dict(d) == {}
