"""How long entries live: what keeps their time, what gives them another, and what makes new ones."""

import asyncio
import datetime
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

import neardict
from kinds import write_routes
from neardict.v1 import storage_pb2 as pb
from neardict.v1 import storage_pb2_grpc
from redis_server import RedisServer
from served import Served

from .both import BOUNDED, Way, bounded_ways, every_way, ids, wait

Act = Callable[[], Any]

HOUR = 3600
LEASING = ["memory", "sqlite"]
EXPIRING = [*LEASING, "redis"]
CASES = [
    *((way, backend) for way in BOUNDED for backend in EXPIRING),
    *(
        (Way(client, True, "linearizable"), backend)
        for client in ("threads", "asyncio")
        for backend in LEASING
    ),
]
everywhere = pytest.mark.parametrize(
    ("way", "backend"), CASES, ids=[f"{ids(way)}-{backend}" for way, backend in CASES]
)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory, redis: RedisServer) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("ttl")
    config = write_routes(folder, ["memory", "sqlite", "redis", "json", "null"], redis)
    with Served("--config", config, "--data", folder) as served:
        yield served.address


async def entry(d: Any, key: str) -> neardict.Entry:
    found: neardict.Entry = await wait(d._store.get_entry(d.domain, key))
    assert found is not None
    return found


async def expires(d: Any, key: str) -> datetime.datetime | None:
    return (await entry(d, key)).expire_time


async def left(d: Any, key: str) -> float:
    """Returns about how many seconds the entry lives on: service and test have one clock."""
    until = await expires(d, key)
    assert until is not None
    return (until - datetime.datetime.now(datetime.UTC)).total_seconds()


@everywhere
async def test_an_entry_keeps_its_time_to_live_when_its_value_is_changed(
    target: str, domain: str, way: Way, backend: str
) -> None:
    async with way.dict(target, f"{backend}.{domain}") as d:
        await wait(d.set("s", {"hits": 1}, ttl=HOUR))
        until = await expires(d, "s")
        assert until is not None

        await wait(d.edit("s", lambda v: {"hits": v["hits"] + 1}))
        assert await entry(d, "s") == neardict.Entry("s", {"hits": 2}, (await entry(d, "s")).revision, until)
        async with way.block(d.edit("s")) as value:
            value["hits"] += 1
        assert await expires(d, "s") == until
        (await wait(d.fetch("s")))["hits"] += 1
        await wait(d.save("s"))
        assert (await entry(d, "s")).value == {"hits": 4}
        assert await expires(d, "s") == until
        await wait(d.set("s", "another", keep_ttl=True))
        assert await expires(d, "s") == until
        await wait(d.compare_and_set("s", 1, (await entry(d, "s")).revision, keep_ttl=True))
        assert await expires(d, "s") == until


@everywhere
async def test_what_never_expires_goes_on_so(target: str, domain: str, way: Way, backend: str) -> None:
    async with way.dict(target, f"{backend}.{domain}", ttl=HOUR) as d:
        await wait(d.set("s", [1], ttl=None))
        await wait(d.edit("s", lambda v: v.append(2)))
        async with way.block(d.edit("s")) as value:
            value.append(3)
        (await wait(d.fetch("s"))).append(4)
        await wait(d.save("s"))
        found = await entry(d, "s")
        assert (found.value, found.expire_time) == ([1, 2, 3, 4], None)


@everywhere
async def test_an_assignment_makes_a_new_entry(target: str, domain: str, way: Way, backend: str) -> None:
    async with way.dict(target, f"{backend}.{domain}") as d:
        for key in "abcd":
            await wait(d.set(key, 1, ttl=HOUR))
        await wait(d.set("a", 2))
        await wait(d.update(b=2))
        await wait(d.compare_and_set("c", 2, (await entry(d, "c")).revision))
        if way.client == "threads":
            d["d"] = 2
            assert await expires(d, "d") is None
        for key in "abc":
            assert await expires(d, key) is None


@everywhere
async def test_a_dict_may_have_a_time_to_live_for_its_new_entries(
    target: str, domain: str, way: Way, backend: str
) -> None:
    async with way.dict(target, f"{backend}.{domain}", ttl=datetime.timedelta(hours=1)) as d:
        await wait(d.set("a", 1))
        await wait(d.update(b=1))
        assert await wait(d.setdefault("c", 1)) == 1
        await wait(d.edit("d", lambda v: v + 1, default=0))
        await wait(d.compare_and_set("e", 1, 0))
        if way.client == "threads":
            d["f"] = 1
            d |= {"g": 1}
        for key in await wait(d.snapshot_keys()):
            assert 0.9 * HOUR < await left(d, key) <= HOUR, key
        await wait(d.set("a", 2, ttl=None))
        assert await expires(d, "a") is None
        await wait(d.set("b", 2, ttl=60))
        assert await left(d, "b") <= 60
        # What is there already keeps its own.
        await wait(d.edit("a", lambda v: v + 1))
        await wait(d.edit("b", lambda v: v + 1))
        assert await expires(d, "a") is None
        assert await left(d, "b") <= 60


@everywhere
async def test_an_edit_may_give_another_time_to_live(
    target: str, domain: str, way: Way, backend: str
) -> None:
    async with way.dict(target, f"{backend}.{domain}") as d:
        await wait(d.set("s", [1], ttl=60))
        await wait(d.edit("s", lambda v: v.append(2), ttl=HOUR))
        assert 0.9 * HOUR < await left(d, "s") <= HOUR
        async with way.block(d.edit("s", ttl=60)) as value:
            value.append(3)
        assert await left(d, "s") <= 60
        await wait(d.edit("s", lambda v: v.append(4), ttl=None))
        found = await entry(d, "s")
        assert (found.value, found.expire_time) == ([1, 2, 3, 4], None)


@everywhere
async def test_touch_gives_what_is_stored_another_time_to_live(
    target: str, domain: str, way: Way, backend: str
) -> None:
    async with way.dict(target, f"{backend}.{domain}") as d:
        with pytest.raises(KeyError) as absent:
            await wait(d.touch("s", HOUR))
        assert absent.value.args == ("s",)
        await wait(d.set("s", {"n": 1}))
        held = await wait(d.fetch("s"))
        await wait(d.touch("s", HOUR))
        assert 0.9 * HOUR < await left(d, "s") <= HOUR
        assert await wait(d.fetch("s")) is held
        await wait(d.touch("s", datetime.timedelta(seconds=60)))
        assert await left(d, "s") <= 60
        await wait(d.touch("s", None))
        found = await entry(d, "s")
        assert (found.value, found.expire_time) == ({"n": 1}, None)
        with pytest.raises(neardict.InvalidArgumentError, match="ttl"):
            await wait(d.touch("s", 0))


async def test_touch_takes_the_value_as_another_client_has_written_it(target: str, domain: str) -> None:
    with neardict.connect(target, watch=False) as store, neardict.connect(target) as other:
        d = store.dict(f"memory.{domain}", load=False)
        d["k"] = [1]
        other.set_value(d.domain, "k", [2])
        other.set_value(d.domain, "raw", b"\0\xff")
        d.touch("k", HOUR)
        d.touch("raw", HOUR)
        assert (d["k"], d["raw"]) == ([2], b"\0\xff")
        assert other.get_value(d.domain, "k") == [2]


def test_touch_starts_over_when_somebody_else_writes_meanwhile(target: str, domain: str) -> None:
    with neardict.connect(target) as store, neardict.connect(target) as other:
        d = store.dict(f"memory.{domain}", load=False)
        d["k"] = 0
        look_up = store.lookup
        written: list[int] = []

        def overtaken(*args: Any, **options: Any) -> Any:
            found = look_up(*args, **options)
            if len(written) < 3:
                written.append(other.set_value(d.domain, "k", len(written) + 1))
            return found

        store.lookup = overtaken  # type: ignore[method-assign]  # for this one
        d.touch("k", HOUR)
        assert (len(written), other.get_value(d.domain, "k")) == (3, 3)
        written.clear()
        with pytest.raises(neardict.ConflictError):
            d.touch("k", HOUR, timeout=0)


@pytest.mark.parametrize("client", ["threads", "asyncio"])
@pytest.mark.parametrize("backend", EXPIRING)
async def test_an_entry_that_is_gone_already_is_not_saved_for_ever(
    target: str, domain: str, client: str, backend: str
) -> None:
    way = Way(client, load=False)
    # Without a stream, so that the dict has not heard of it yet.
    async with way.store(target, watch=False) as store, way.store(target, watch=False) as other:
        d = await way.of(store, f"{backend}.{domain}")
        await wait(d.set("s", {"n": 1}))
        held = await wait(d.fetch("s"))
        await wait(other.delete_key(d.domain, "s"))
        held["n"] = 2
        with pytest.raises(KeyError):
            await wait(d.save("s"))
        assert await wait(other.get_entry(d.domain, "s")) is None
        with pytest.raises(KeyError):
            await wait(d.fetch("s"))


@bounded_ways
async def test_json_has_no_time_to_live_and_loses_none(target: str, domain: str, way: Way) -> None:
    async with way.dict(target, f"json.{domain}") as d:
        await wait(d.set("k", [1]))
        with pytest.raises(neardict.CapabilityMissingError) as caught:
            await wait(d.set("k", [2], ttl=HOUR))
        assert caught.value.capability == "CAPABILITY_TTL"
        acts: list[Act] = [lambda: d.touch("k", HOUR), lambda: d.edit("k", lambda v: v, ttl=HOUR)]
        for refused in acts:
            with pytest.raises(neardict.CapabilityMissingError):
                await wait(refused())
        assert await wait(d.fetch("k")) == [1]
        await wait(d.edit("k", lambda v: v.append(2)))
        (await wait(d.fetch("k"))).append(3)
        await wait(d.save("k"))
        await wait(d.touch("k", None))
        assert (await entry(d, "k")).value == [1, 2, 3]
        await wait(d.set("k", [4], keep_ttl=True))
        assert (await entry(d, "k")).value == [4]
        lasting = await way.of(d._store, f"json.{domain}", ttl=HOUR)
        with pytest.raises(neardict.CapabilityMissingError):
            await wait(lasting.set("k", 1))


@bounded_ways
@pytest.mark.parametrize("backend", ["memory", "sqlite", "redis", "json"])
async def test_what_keeps_its_time_to_live_needs_an_entry(
    target: str, domain: str, way: Way, backend: str
) -> None:
    async with way.dict(target, f"{backend}.{domain}") as d:
        await wait(d.set("gone", [1]))
        await wait(d.fetch("gone"))
        await wait(d._store.delete_key(d.domain, "gone"))
        for key in ("gone", "absent"):
            with pytest.raises(KeyError):
                await wait(d.set(key, 1, keep_ttl=True))
            with pytest.raises(neardict.ConflictError):
                await wait(d._store.set_value(d.domain, key, 1, keep_ttl=True))
        assert await wait(d.snapshot_keys()) == []


@every_way
async def test_null_takes_every_write(target: str, domain: str, way: Way) -> None:
    async with way.dict(target, f"null.{domain}") as d:
        await wait(d.set("k", [1], ttl=HOUR))
        await wait(d.save("k"))
        await wait(d.set("k", [1], keep_ttl=True))


@bounded_ways
async def test_what_was_written_here_with_a_time_to_live_goes_when_it_is_over(
    target: str, domain: str, way: Way
) -> None:
    # Without a stream nobody tells that it has expired.
    async with way.store(target, watch=False) as store:
        d = await wait(store.dict(f"memory.{domain}", load=way.load))
        await wait(d.set("k", 1, ttl=0.3))
        await wait(d.update(other=1))
        await wait(d.touch("other", 0.3))
        for key in ("k", "other"):
            async with asyncio.timeout(20):
                while await wait(d.has(key)):
                    await asyncio.sleep(0.02)


@bounded_ways
@pytest.mark.parametrize("ttl", [0, -1, float("nan"), 1e12, "1", True], ids=repr)
async def test_what_is_no_time_to_live_is_refused(target: str, domain: str, way: Way, ttl: Any) -> None:
    async with way.store(target) as store:
        with pytest.raises(neardict.InvalidArgumentError, match="ttl must be"):
            await way.of(store, domain, ttl=ttl)
        d = await way.of(store, f"memory.{domain}")
        await wait(d.set("k", 1))
        acts: list[Act] = [
            lambda: d.set("k", 2, ttl=ttl),
            lambda: d.edit("k", lambda v: v, ttl=ttl),
            lambda: d.touch("k", ttl),
            lambda: store.set_value(d.domain, "k", 2, ttl=ttl),
        ]
        for act in acts:
            with pytest.raises(neardict.InvalidArgumentError, match="ttl must be"):
                await wait(act())
        assert (await entry(d, "k")).value == 1


@bounded_ways
async def test_what_contradicts_keeping_is_refused(target: str, domain: str, way: Way) -> None:
    async with way.dict(target, f"memory.{domain}") as d:
        for options in ({"ttl": 1}, {"if_absent": True}):
            with pytest.raises(neardict.InvalidArgumentError, match="keep_ttl"):
                await wait(d._store.set_value(d.domain, "k", 1, keep_ttl=True, **options))
        with pytest.raises(neardict.ConflictError) as absent:
            await wait(d._store.set_value(d.domain, "k", 1, keep_ttl=True))
        assert absent.value.current_revision == 0


def test_a_large_value_keeps_its_time_to_live(tmp_path_factory: pytest.TempPathFactory, domain: str) -> None:
    data = tmp_path_factory.mktemp("large")
    (data / "neardict.toml").write_text("limits = { max_value_bytes = 20000000 }\n")
    with Served("--config", data / "neardict.toml", "--data", data) as served:
        for compression in (None, "zstd"):
            with neardict.connect(served.address, compression=compression) as store:
                d = store.dict(f"{domain}.{compression}", load=False)
                d.set("k", ["x" * 5_000_000], ttl=HOUR)
                until = store.get_entry(d.domain, "k")
                assert until is not None
                d.edit("k", lambda v: v.append("y"))
                d["k"].append("z")
                d.save("k")
                found = store.get_entry(d.domain, "k")
                assert found is not None
                assert found.expire_time == until.expire_time
                assert found.value[1:] == ["y", "z"]
                d.touch("k", None)
                found = store.get_entry(d.domain, "k")
                assert found is not None
                assert (found.expire_time, found.value[1:]) == (None, ["y", "z"])


class Older(storage_pb2_grpc.StorageServiceServicer):
    """A service that does not know `keep_ttl`: as any field that is not known, it has no effect."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = storage_pb2_grpc.StorageServiceStub(channel)

    def GetValue(self, request: pb.GetValueRequest, context: Any) -> Any:  # noqa: N802
        return self._stub.GetValue(request, timeout=20)

    def SetValue(self, request: pb.SetValueRequest, context: Any) -> Any:  # noqa: N802
        request.ClearField("keep_ttl")
        try:
            return self._stub.SetValue(request, timeout=20)
        except grpc.RpcError as error:
            context.set_trailing_metadata(error.trailing_metadata())
            context.abort(error.code(), error.details())


@pytest.fixture
def older(target: str) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(4))
    with grpc.insecure_channel(target) as channel:
        storage_pb2_grpc.add_StorageServiceServicer_to_server(Older(channel), server)  # type: ignore[abstract]
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}"
        server.stop(None).wait()


@pytest.mark.parametrize("client", ["threads", "asyncio"])
async def test_an_older_service_does_not_make_an_entry_permanent_unasked(
    older: str, domain: str, client: str
) -> None:
    way = Way(client, load=False)
    async with way.store(older, watch=False) as store:
        d = await way.of(store, f"memory.{domain}")
        await wait(d.set("s", [1], ttl=HOUR))
        until = await expires(d, "s")
        held = await wait(d.fetch("s"))
        acts: list[Act] = [
            lambda: d.save("s"),
            lambda: d.edit("s", lambda v: v.append(2)),
            lambda: d.set("s", [2], keep_ttl=True),
            lambda: store.set_value(d.domain, "s", [2], keep_ttl=True),
        ]
        for act in acts:
            with pytest.raises(neardict.CapabilityMissingError, match="older than the client") as caught:
                await wait(act())
            assert caught.value.capability == "keep_ttl"
        found = await entry(d, "s")
        assert (found.value, found.expire_time) == (held, until)
        # What does not expire has no time to live to lose.
        await wait(d.set("s", [1]))
        (await wait(d.fetch("s"))).append(2)
        await wait(d.save("s"))
        await wait(d.edit("s", lambda v: v.append(3)))
        found = await entry(d, "s")
        assert (found.value, found.expire_time) == ([1, 2, 3], None)
