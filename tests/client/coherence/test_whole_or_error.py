"""What is written out of a dict is the whole domain, or an error: never what happens to be held."""

import asyncio
import json
import signal
import subprocess
import sys
import threading
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any

import orjson
import pytest

import neardict
from neardict import aio
from served import Served
from shown import is_guarded

Until = Callable[[Callable[[], Any]], Any]

STORED = {"apple": 3}
# What reads the storage of a dict, or may.
READERS: dict[str, Callable[[Any], Any]] = {
    "json": lambda d: json.loads(json.dumps(d)),
    "json of a dict inside": lambda d: json.loads(json.dumps({"prices": d}))["prices"],
    "json, sorted": lambda d: json.loads(json.dumps(d, sort_keys=True)),
    "json, indented": lambda d: json.loads(json.dumps(d, indent=2)),
    "orjson": lambda d: orjson.loads(orjson.dumps(d)),
    "orjson with other keys": lambda d: orjson.loads(orjson.dumps(d, option=orjson.OPT_NON_STR_KEYS)),
    "dict": dict,
    "dict.copy": dict.copy,
    "unpacking": lambda d: {**d},
    "OrderedDict": OrderedDict,
    "Counter": Counter,
    "defaultdict": lambda d: defaultdict(int, d),
    "or": lambda d: {} | d,
    "ror": lambda d: d | {},
    "update": lambda d: updated(d),
}
KINDS: dict[str, dict[str, Any]] = {
    "mirror": {},
    "cache": {"load": False},
    "linearizable mirror": {"consistency": "linearizable"},
    "linearizable cache": {"consistency": "linearizable", "load": False},
}
# What a reader may raise that does not know: errors of ours, and orjson's of a key that is not a str.
REFUSED = (neardict.NeardictError, orjson.JSONEncodeError)


def updated(d: Any) -> dict[str, Any]:
    result: dict[str, Any] = {}
    result.update(d)
    return result


def outcomes(d: Any) -> dict[str, Any]:
    """Returns what each reader gives, or the type of what it raises."""
    results: dict[str, Any] = {}
    for name, read in READERS.items():
        try:
            results[name] = dict(read(d))
        except REFUSED as error:
            results[name] = type(error)
    return results


def check(d: Any, whole: dict[str, Any] | None) -> None:
    """Checks that all readers give the whole, or, None, cannot."""
    for name, result in outcomes(d).items():
        if whole is None or isinstance(result, type):
            assert isinstance(result, type), (name, result)
            assert whole is None or name.startswith("orjson"), (name, result)
        else:
            assert result == whole, name
    assert whole is None or json.dumps(d) == json.dumps(whole)
    # What compares storages says at least not that it is the same as nothing.
    nothing: list[Any] = [OrderedDict(), defaultdict(int)]
    assert whole == {} or all(one != d for one in nothing)


@pytest.fixture
def slow(own_server: Served) -> Any:
    with neardict.connect(own_server.address, timeout=0.5) as store:
        yield store


@pytest.mark.parametrize("kind", KINDS)
def test_a_dict_that_is_up_to_date_is_written_as_a_whole(
    store: neardict.Store, domain: str, until: Until, kind: str
) -> None:
    d = store.dict(domain, **KINDS[kind])
    until(lambda: d.fresh)
    check(d, {})
    d["apple"] = 3
    check(d, STORED)
    store.set_value(domain, "pear", 4)
    check(d, STORED | {"pear": 4})
    d.clear()
    check(d, {})


def test_orjson_writes_a_mirror_that_is_up_to_date(store: neardict.Store, domain: str, until: Until) -> None:
    d = store.dict(domain)
    d["apple"] = 3
    until(lambda: d.fresh)
    assert orjson.loads(orjson.dumps(d)) == STORED
    assert OrderedDict(STORED) == d
    assert defaultdict(int, STORED) == d


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_stored_before_is_written_of_a_dict_that_nobody_has_used(
    store: neardict.Store, elsewhere: neardict.Store, domain: str, kind: str
) -> None:
    elsewhere.set_value(domain, "apple", 3)
    check(store.dict(domain, **KINDS[kind]), STORED)


@pytest.mark.parametrize("kind", KINDS)
def test_while_the_service_is_away_every_reader_raises(
    slow: neardict.Store, own_server: Served, until: Until, kind: str
) -> None:
    d = slow.dict("prices", **KINDS[kind])
    d["apple"] = 3
    until(lambda: d.fresh)
    own_server.process.send_signal(signal.SIGSTOP)
    try:
        until(lambda: not d.fresh)
        check(d, None)
    finally:
        own_server.process.send_signal(signal.SIGCONT)
    until(lambda: d.fresh)
    check(d, STORED)


async def test_with_asyncio_too(own_server: Served) -> None:
    async with aio.connect(own_server.address, timeout=0.5) as store:
        mirror, cache = await store.dict("prices"), await store.dict("prices", load=False)
        strict = await store.dict("prices", consistency="linearizable")
        await mirror.set("apple", 3)
        async with asyncio.timeout(20):
            while not (mirror.fresh and dict.__contains__(strict, "apple")):
                await asyncio.sleep(0.005)
        check(mirror, STORED)
        check(strict, STORED)
        check(cache, None)
        own_server.process.send_signal(signal.SIGSTOP)
        try:
            async with asyncio.timeout(20):
                while any(d.fresh for d in (mirror, strict)):
                    await asyncio.sleep(0.005)
            for d in (mirror, cache, strict):
                check(d, None)
        finally:
            own_server.process.send_signal(signal.SIGCONT)


def test_a_view_of_asyncio_that_was_made_before_raises_too(own_server: Served) -> None:
    async def main() -> None:
        async with aio.connect(own_server.address, timeout=0.5) as store:
            d = await store.dict("prices")
            await d.set("apple", 3)
            keys, values, items = d.keys(), d.values(), d.items()
            assert (list(keys), list(values), list(items)) == (["apple"], [3], [("apple", 3)])
            d.stale()
            for view in (keys, values, items):
                with pytest.raises(neardict.NotHeldError):
                    list(view)

    asyncio.run(main())


@pytest.mark.parametrize("load", [True, False])
def test_a_key_that_is_being_written_is_not_left_out(
    store: neardict.Store, elsewhere: neardict.Store, domain: str, load: bool
) -> None:
    d = store.dict(domain, load=load, consistency="linearizable")
    d["apple"] = 0
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            elsewhere.set_value(domain, "apple", 3)

    writing = threading.Thread(target=write)
    writing.start()
    try:
        for _ in range(40):
            d["apple"] = 3
            check(d, STORED)
    finally:
        stop.set()
        writing.join()


def test_a_mirror_that_lost_a_key_does_not_leave_it_out(
    store: neardict.Store, domain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "reload", lambda cache: None)
    d = store.dict(domain)
    d.update(apple=3, pear=4)
    d.doubt("pear")  # as a write does that failed, and perhaps was applied
    with pytest.raises(orjson.JSONEncodeError):
        orjson.dumps(d)
    assert json.loads(json.dumps(d)) == {"apple": 3, "pear": 4}
    assert orjson.loads(orjson.dumps(d)) == {"apple": 3, "pear": 4}, "it was read"


def test_a_mirror_that_was_reset_is_not_empty(
    store: neardict.Store, domain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "reload", lambda cache: None)
    for how in ("ask", "serve_stale"):
        d = store.dict(domain, on_disconnect=how)
        d["apple"] = 3
        d.reset()
        with pytest.raises(orjson.JSONEncodeError):
            orjson.dumps(d)
        assert not d.fresh
        check(d, STORED)


def test_what_is_served_stale_is_the_whole_that_was_held(
    slow: neardict.Store, own_server: Served, until: Until
) -> None:
    d = slow.dict("prices", on_disconnect="serve_stale")
    d["apple"] = 3
    until(lambda: d.fresh)
    own_server.kill()
    until(lambda: not d.fresh)
    check(d, STORED)


def test_a_closed_store(own_server: Served, until: Until) -> None:
    with neardict.connect(own_server.address, timeout=0.5) as store:
        mirror, cache = store.dict("prices"), store.dict("prices", load=False)
        strict = store.dict("prices", consistency="linearizable")
        mirror["apple"] = 3
        until(lambda: mirror.fresh)
    check(mirror, STORED)  # as it was
    check(cache, None)
    check(strict, None)


FORK = """
import json, os, sys
import neardict, orjson
store = neardict.connect(sys.argv[1])
mirror, cache = store.dict("prices"), store.dict("prices", load=False)
mirror["apple"] = 3
cache["apple"]
child = os.fork()
if not child:
    code = 0
    for d in (mirror, cache):
        for read in (json.dumps, orjson.dumps, dict, dict.copy):
            try:
                print("read", read(d))
                code = 1
            except (neardict.ClosedError, orjson.JSONEncodeError):
                pass
    sys.stdout.flush()
    os._exit(code)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_what_writes_any_key_as_a_text_raises_and_says_what_to_do(store: neardict.Store, domain: str) -> None:
    d = store.dict(domain, load=False)
    with pytest.raises(TypeError, match=r"use d\.copy\(\)"):
        [str(key) for key in dict.keys(d)]


def test_the_child_of_a_fork(own_server: Served) -> None:
    command = [sys.executable, "-c", FORK, own_server.address]
    assert subprocess.run(command, timeout=60, check=False).returncode == 0


def test_no_thread_finds_the_storage_empty_while_it_is_concealed_and_exposed(
    store: neardict.Store, domain: str
) -> None:
    d = store.dict(domain)
    d.update({f"key {number}": number for number in range(100)})
    stored = dict(d)
    stop = threading.Event()

    def flicker() -> None:
        while not stop.is_set():
            d.stale()
            d.freshen()

    flickering = threading.Thread(target=flicker)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    flickering.start()
    try:
        for _ in range(300):
            assert json.loads(json.dumps(d)) == stored
            try:
                assert orjson.loads(orjson.dumps(d)) == stored
            except orjson.JSONEncodeError:
                assert is_guarded(d) or d._shows_all()
    finally:
        sys.setswitchinterval(before)
        stop.set()
        flickering.join()


def test_a_mirror_is_as_quick_to_read_as_a_dict_that_never_had_another_key(
    store: neardict.Store, domain: str
) -> None:
    """CPython's table for keys that are all str is smaller: that tells which it is."""
    stored = {f"key {number}": number for number in range(1000)}
    store.set_many(domain, stored)
    d = store.dict(domain)
    assert sys.getsizeof(d) <= sys.getsizeof(dict(stored)) * 1.1
    d.stale()
    d.freshen()
    assert sys.getsizeof(d) <= sys.getsizeof(dict(stored)) * 1.1
    d.reset()
    assert dict(d) == stored
    assert sys.getsizeof(d) <= sys.getsizeof(dict(stored)) * 1.1


def test_a_container_over_a_database_of_ones_own() -> None:
    from neardict.moobius import CachedDict
    from neardict.moobius.null import NullDatabase

    database = NullDatabase()
    database.set_value("apple", 3)
    container = CachedDict(database)
    check(container, STORED)
    container.load()
    assert orjson.loads(orjson.dumps(container)) == STORED
