"""A backend that lost everything: its answers are newer than all that clients know from before."""

import shutil
from pathlib import Path

import pytest

import neardict
from kinds import TYPES, write_config
from model import Clock
from neardict_server.backends import base
from redis_server import RedisServer
from served import Served

KINDS = ["json", "memory", "sqlite"]


@pytest.mark.parametrize("kind", KINDS)
async def test_revisions_go_on_where_nothing_is_left(kind: str, tmp_path: Path) -> None:
    clock = Clock()

    async def opened() -> base.Backend:
        kept_by: base.BackendType = TYPES[kind]
        return await kept_by.open(kept_by.Settings(), base.Surroundings(tmp_path / "data", clock))

    (tmp_path / "data").mkdir()
    backend = await opened()
    before = (await backend.set_value("d", "key", "1")).revision
    await backend.close()
    shutil.rmtree(tmp_path / "data")
    (tmp_path / "data").mkdir()
    clock.now += 1_000_000
    backend = await opened()
    told = (await backend.get_value("d", "key")).domain_revision
    (page,) = [page async for page in backend.all_keys("d")]
    assert page.domain_revision >= told > before
    assert isinstance(backend, base.Feed)
    began, missed = await backend.position("d", before)
    assert missed is None
    assert began >= told
    assert (await backend.delete_key("d", "key")).revision >= told
    # What was told of an absent key must not hide what is written after that.
    clock.now = 0
    assert (await backend.set_value("d", "key", "2")).revision > began
    await backend.close()


async def test_a_domain_that_sqlite_does_not_know_is_at_no_earlier_revision_than_others(
    tmp_path: Path,
) -> None:
    clock = Clock()
    surroundings = base.Surroundings(tmp_path, clock)
    backend = await TYPES["sqlite"].open(TYPES["sqlite"].Settings(), surroundings)
    told = (await backend.set_value("known", "key", "1")).revision
    for _ in range(2):
        await backend.close()
        clock.now //= 2
        backend = await TYPES["sqlite"].open(TYPES["sqlite"].Settings(), surroundings)
        before, told = told, (await backend.get_value("unknown", "key")).domain_revision
        assert told > before
    await backend.close()


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_dict_without_a_stream_is_emptied_when_it_reads_anew(
    kind: str, tmp_path: Path, redis: RedisServer
) -> None:
    config = write_config(tmp_path, kind, redis)
    data = tmp_path / "data"
    with (
        Served("--config", config, "--data", data) as server,
        neardict.connect(server.address, watch=False) as store,
    ):
        mirror = store.dict("d")
        cache = store.dict("d", load=False)
        mirror["key"] = 1
        assert cache["key"] == 1
        server.kill()
        shutil.rmtree(data, ignore_errors=True)
        with Served("--config", config, "--data", data, "--listen", server.address):
            mirror.refresh()
            assert mirror == {}
            cache.refresh("key")
            assert "key" not in cache
