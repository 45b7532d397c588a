"""What a dict shows of a domain: in which order, and of what cannot be read."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import neardict
from kinds import write_routes
from neardict.v1 import storage_pb2 as pb
from redis_server import RedisServer
from served import Served
from sqlite_damage import damage

from .both import Way, bounded_ways, every_way, wait
from .either_client import EITHER
from .scripted_service import REVISION, FailedError, ScriptedService

KEYS = ["b", "B", "a", "é", "a/b", "10", "9", "\U0001f600", "Z", "c d"]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory, redis: RedisServer) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("order")
    config = write_routes(folder, ["memory", "sqlite", "redis", "json"], redis)
    with Served("--config", config, "--data", folder) as served:
        yield served.address


async def keys_of(d: Any) -> list[str]:
    """Returns the keys in the order of the dict; all ways of reading have it."""
    keys: list[str] = await wait(d.snapshot_keys())
    assert list(await wait(d.snapshot())) == keys
    if d._load:
        assert list(d) == list(d.keys()) == [key for key, _ in d.items()] == keys
        assert list(d.values()) == [d[key] for key in keys]
        assert list(reversed(d)) == keys[::-1]
    return keys


@bounded_ways
@pytest.mark.parametrize("backend", ["memory", "sqlite", "redis", "json"])
async def test_the_order_is_that_of_the_listing_and_then_of_what_came(
    target: str, domain: str, way: Way, backend: str
) -> None:
    name = f"{backend}.{domain}"
    with neardict.connect(target) as store:
        for key in KEYS:
            store.set_value(name, key, key)
        async with way.dict(target, name) as d:
            listed = await keys_of(d)
            assert sorted(listed) == sorted(KEYS)
            if backend == "memory":
                assert listed == KEYS
            elif backend in ("sqlite", "redis"):
                assert listed == sorted(KEYS)
            await wait(d.set("new", 1))
            await wait(d.set("b", 2))
            now = await keys_of(d)
            if way.load:
                assert now == [*listed, "new"]
            elif backend == "memory":
                assert now == [*KEYS, "new"]
            elif backend in ("sqlite", "redis"):
                assert now == sorted([*KEYS, "new"])


@every_way
async def test_a_damaged_page_of_sqlite_takes_its_entries_alone(tmp_path: Path, way: Way) -> None:
    data = tmp_path / "data"
    keys = [f"k{number:04}" for number in range(300)]
    with Served("--data", data) as served, neardict.connect(served.address, watch=False) as store:
        store.set_many("d", dict.fromkeys(keys, b"x" * 300))
    damage(data / "neardict.sqlite3")
    with Served("--data", data) as served:
        async with way.dict(served.address, "d") as d:
            shown = await wait(d.snapshot())
            assert 250 < len(shown) < 300
            assert set(shown) < set(keys)
            (bad, *_) = set(keys) - set(shown)
            for act in (d.fetch, d.has, d.refresh):
                with pytest.raises(neardict.DataLossError):
                    await wait(act(bad))
            good = next(iter(shown))
            await wait(d.set(good, 1))
            assert await wait(d.fetch(good)) == 1
            if way.load:
                # A key that was just written may not be served yet.
                deadline = time.monotonic() + 60
                while not d._shows_all() and time.monotonic() < deadline:
                    await asyncio.sleep(0.005)
                assert len(d) == len(shown)
            else:
                assert sorted(await wait(d.snapshot_keys())) == keys


@pytest.mark.parametrize("client", EITHER)
@pytest.mark.parametrize("load", [True, False])
def test_a_listing_of_a_dict_that_breaks_after_a_page_begins_again(client: Any, load: bool) -> None:
    attempts: list[str] = []
    deleted: set[str] = set()

    def listing(request: pb.AllKeysRequest) -> Iterator[pb.AllKeysResponse]:
        attempts.append("")
        yield pb.AllKeysResponse(domain_revision=REVISION)
        if not request.include_entries:
            yield pb.AllKeysResponse(domain_revision=REVISION, keys=["a"])
        if len(attempts) == 1:
            raise FailedError(grpc.StatusCode.UNAVAILABLE)
        if not request.include_entries:
            yield pb.AllKeysResponse(domain_revision=REVISION, keys=["k"])

    def delete(request: pb.DeleteKeyRequest) -> pb.DeleteKeyResponse:
        deleted.add(request.key)
        return pb.DeleteKeyResponse(existed=True, revision=REVISION + 1)

    def done(cache: Any, name: str) -> Any:
        attempts.clear()
        found = here.on(cache, name)
        assert len(attempts) == (1 if name == "__bool__" else 2)
        return found

    with ScriptedService() as service, client(service.address, watch=False) as here:
        service.answers |= {"AllKeys": listing, "DeleteKey": delete}
        cache = here.do("dict", "d", load=load)
        done(cache, "clear")
        assert deleted == {"a", "k"}
        if not load:
            assert done(cache, "snapshot_keys") == ["a", "k"]
        if not load and isinstance(cache, neardict.CachedDict):
            assert done(cache, "__len__") == 2
            assert list(done(cache, "__iter__")) == ["a", "k"]
            assert done(cache, "__bool__")
