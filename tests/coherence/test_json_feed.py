"""Files of the json backend that somebody edits: every cache shows it within a second."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import neardict
from coherence.json_caches import (
    BROKEN,
    GONE,
    SAVES,
    Caches,
    held_open,
    save_by_rename,
    save_in_place,
    until,
)
from served import Served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PROMISED_SECONDS = 1.0
_numbers = itertools.count()


class Domain:
    """A domain that no other test uses, and its folder."""

    def __init__(self, address: str, root: Path) -> None:
        number = next(_numbers)
        self.address = address
        self.name = f"test_{number}.channel_7.health"
        self.folder = root / f"test_{number}" / "channel_7" / "health"

    def make(self, **entries: Any) -> None:
        """Makes the folder by hand, with files."""
        self.folder.mkdir(parents=True)
        for key, value in entries.items():
            self.file(key).write_text(json.dumps(value))

    def file(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    def caches(self) -> Caches:
        return Caches(self.address, self.name)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Path]]:
    folder = tmp_path_factory.mktemp("served")
    config = folder / "neardict.toml"
    config.write_text('[backends.json]\nimplementation = "json"\n')
    with Served("--config", config, "--data", folder) as server:
        yield server, folder / "json"
        assert server.stop() == 0
        assert "Traceback" not in server.output


@pytest.fixture
def domain(served: tuple[Served, Path]) -> Domain:
    server, root = served
    return Domain(server.address, root)


@pytest.mark.parametrize("save", SAVES)
async def test_an_edit_is_in_every_cache(domain: Domain, save: Callable[[Path, str], None]) -> None:
    domain.make(alice=1, bob=2)
    async with domain.caches() as caches:
        for value in (10, 11, 12):
            await caches.hold("alice")
            save(domain.file("alice"), str(value))
            await caches.all_show("alice", value)
        assert await caches.show("bob") == [2] * 4
        assert caches.resets() == 0


@pytest.mark.parametrize("save", SAVES)
async def test_a_new_file_is_in_every_cache(domain: Domain, save: Callable[[Path, str], None]) -> None:
    domain.make(alice=1)
    async with domain.caches() as caches:
        await caches.hold("bob")
        save(domain.file("bob"), "2")
        await caches.all_show("bob", 2)
        assert sorted(caches.mirror) == sorted(caches.aio_mirror) == ["alice", "bob"]


async def test_what_is_written_and_not_closed_is_in_every_cache(domain: Domain) -> None:
    domain.make(alice=1)
    async with domain.caches() as caches:
        await caches.hold("alice")
        with held_open(domain.file("alice"), "2"):
            await caches.all_show("alice", 2)


async def test_a_file_that_is_removed_is_in_no_cache(domain: Domain) -> None:
    domain.make(alice=1, bob=2)
    async with domain.caches() as caches:
        await caches.hold("alice")
        domain.file("alice").unlink()
        await caches.all_show("alice", GONE)
        assert caches.mirror == caches.aio_mirror == {"bob": 2}


async def test_a_file_that_is_moved_away_and_back_is_again_what_it_was(domain: Domain) -> None:
    domain.make(alice=1, bob=2)
    async with domain.caches() as caches:
        await caches.hold("alice")
        away = domain.folder / "alice.away"
        domain.file("alice").rename(away)
        await caches.all_show("alice", GONE)
        away.rename(domain.file("alice"))
        await caches.all_show("alice", 1)
        # So quickly that nobody sees it gone, or one does and the other does not.
        for _ in range(20):
            domain.file("alice").rename(away)
            caches.mirror.refresh()
            away.rename(domain.file("alice"))
        await caches.all_show("alice", 1)


async def test_a_file_that_takes_another_name_is_another_key(domain: Domain) -> None:
    domain.make(alice=1)
    async with domain.caches() as caches:
        await caches.hold("alice")
        await caches.hold("bob")
        domain.file("alice").rename(domain.file("bob"))
        await caches.all_show("alice", GONE)
        await caches.all_show("bob", 1)


async def test_names_that_are_escaped_or_shortened_are_found(domain: Domain) -> None:
    domain.make()
    long = "k" * 300
    async with domain.caches() as caches:
        caches.mirror.update({"a/b": 1, long: 1})
        (domain.folder / "c@d.json").write_text("1")
        for key in ("a/b", long, "c@d"):
            await caches.all_show(key, 1)
        for file in domain.folder.iterdir():
            shortened = "_neardict_key" in file.read_text()
            save_by_rename(file, json.dumps({"_neardict_key": long, "_neardict_json": 2} if shortened else 2))
        for key in ("a/b", long, "c@d"):
            await caches.all_show(key, 2)
        for file in domain.folder.iterdir():
            file.unlink()
        for key in ("a/b", long, "c@d"):
            await caches.all_show(key, GONE)


async def test_a_folder_made_by_hand_is_followed(domain: Domain) -> None:
    async with domain.caches() as caches:
        await caches.hold("alice")
        domain.make(alice=1)
        await caches.all_show("alice", 1)
        save_in_place(domain.file("alice"), "2")
        await caches.all_show("alice", 2)


async def test_a_folder_that_is_moved_in_is_followed(domain: Domain, tmp_path: Path) -> None:
    domain.make(old=1)
    # Its files are older than the server as far as they can tell.
    prepared = domain.folder.parents[1].rename(domain.folder.parents[2] / "prepared")
    async with domain.caches() as caches:
        await caches.hold("old")
        prepared.rename(domain.folder.parents[1])
        await caches.all_show("old", 1)
        save_in_place(domain.file("old"), "2")
        await caches.all_show("old", 2)


@pytest.mark.parametrize("levels", [1, 2, 3])
async def test_a_folder_that_is_removed_wholesale_is_an_empty_domain(domain: Domain, levels: int) -> None:
    domain.make(**{f"key_{number}": number for number in range(20)})
    async with domain.caches() as caches:
        await caches.hold("key_1")
        shutil.rmtree(domain.folder.parents[levels - 2] if levels > 1 else domain.folder)
        await caches.all_show("key_1", GONE)
        assert len(caches.mirror) == 0
        caches.mirror["alice"] = 1
        await caches.all_show("alice", 1)
        assert caches.mirror.fresh


@pytest.mark.parametrize("levels", [1, 3])
async def test_a_folder_that_is_moved_away_and_back_is_followed(domain: Domain, levels: int) -> None:
    domain.make(alice=1)
    async with domain.caches() as caches:
        await caches.hold("alice")
        folder = domain.folder.parents[levels - 2] if levels > 1 else domain.folder
        away = folder.with_name(f"{folder.name}_away")
        folder.rename(away)
        await caches.all_show("alice", GONE)
        away.rename(folder)
        await caches.all_show("alice", 1)
        save_by_rename(domain.file("alice"), "2")
        await caches.all_show("alice", 2)


async def test_a_folder_replaced_by_a_link_is_an_empty_domain(domain: Domain) -> None:
    domain.make(alice=1)
    async with domain.caches() as caches:
        await caches.hold("alice")
        elsewhere = domain.folder.rename(domain.folder.with_name("elsewhere"))
        domain.folder.symlink_to(elsewhere)
        await caches.all_show("alice", GONE)
        domain.folder.unlink()
        elsewhere.rename(domain.folder)
        await caches.all_show("alice", 1)


async def test_a_broken_file_is_told_by_all_until_it_is_mended(domain: Domain) -> None:
    domain.make(alice=1, bob=2)
    async with domain.caches() as caches:
        await caches.hold("alice")
        save_in_place(domain.file("alice"), '{"points": ')
        # A mirror of asyncio cannot ask, and lacks it.
        for cache in (caches.mirror, caches.partial):
            await until(lambda cache=cache: _raises_data_loss(cache, "alice"))  # type: ignore[misc]
        await until(lambda: not dict.__contains__(caches.aio_mirror, "alice"))
        assert (await caches.show("alice"))[3] == BROKEN
        assert await caches.show("bob") == [2] * 4
        save_in_place(domain.file("alice"), '{"points": 3}')
        await caches.all_show("alice", {"points": 3})


def _raises_data_loss(cache: neardict.CachedDict, key: str) -> bool:
    try:
        cache[key]
    except neardict.DataLossError:
        return True
    return False


async def test_the_first_write_of_a_domain_leaves_the_object_in_place(domain: Domain) -> None:
    async with domain.caches() as caches:
        value = {"points": 1}
        caches.mirror["alice"] = value
        await caches.all_show("alice", {"points": 1})
        # Longer than it takes to notice the new folder.
        save_in_place(domain.file("bob"), "1")
        await caches.all_show("bob", 1)
        assert caches.mirror["alice"] is value
        assert caches.resets() == 0


async def test_our_own_writes_are_told_once(domain: Domain) -> None:
    async with domain.caches() as caches:
        for number in range(20):
            caches.mirror["alice"] = number
            if number % 3 == 0:
                del caches.mirror["alice"]
        caches.mirror["end"] = 1
        await caches.all_show("end", 1)
        save_in_place(domain.file("bob"), "1")
        await caches.all_show("bob", 1)
        # On a busy machine some wait to be sent, and then the last of a key comes alone.
        assert caches.aio_mirror.stats.changes <= 20 + 7 + 1 + 1


async def test_five_hundred_edits_at_once_are_in_every_cache(domain: Domain) -> None:
    domain.make(**{f"key_{number}": 0 for number in range(250)})
    async with domain.caches() as caches:
        expected = {f"key_{number}": 1 for number in range(500)}
        for key in expected:
            save_in_place(domain.file(key), "1")
        await until(lambda: dict(caches.mirror) == expected and dict.__eq__(caches.aio_mirror, expected))
        assert caches.partial.get_many(expected) == expected


async def test_edits_and_writes_of_other_keys_do_not_disturb_each_other(domain: Domain) -> None:
    domain.make(**{f"edited_{number}": 0 for number in range(10)})
    async with domain.caches() as caches:
        stop = threading.Event()
        written: dict[str, int] = {}

        def write() -> None:
            for number in itertools.count():
                caches.partial[f"written_{number % 20}"] = number
                written[f"written_{number % 20}"] = number
                if stop.is_set():
                    return

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for value in range(1, 11):
                for number in range(10):
                    SAVES[number % len(SAVES)](domain.file(f"edited_{number}"), str(value))
                await caches.all_show("edited_9", value)
        finally:
            stop.set()
            await asyncio.to_thread(writer.join)
        expected = written | {f"edited_{number}": 10 for number in range(10)}
        await until(lambda: dict(caches.mirror) == expected and dict.__eq__(caches.aio_mirror, expected))
        assert caches.resets() == 0


async def test_an_edit_is_there_within_a_second(domain: Domain, record_property: Callable[..., None]) -> None:
    domain.make(alice=0)
    lags = []
    async with domain.caches() as caches:
        for value in range(1, 41):
            await caches.hold("alice")
            (save_by_rename if value % 2 else save_in_place)(domain.file("alice"), str(value))
            began = time.monotonic()
            await caches.all_show("alice", value)
            lags.append(time.monotonic() - began)
    lags.sort()
    record_property("edit_lag_p50_ms", round(1000 * lags[len(lags) // 2], 1))
    record_property("edit_lag_max_ms", round(1000 * lags[-1], 1))
    # A machine that is busy with other tests may hold up one or another.
    assert lags[int(0.8 * len(lags))] < PROMISED_SECONDS


async def test_after_a_restart_caches_follow_again(tmp_path: Path) -> None:
    config = tmp_path / "neardict.toml"
    config.write_text('[backends.json]\nimplementation = "json"\n')
    with Served("--config", config, "--data", tmp_path) as server:
        domain = Domain(server.address, tmp_path / "json")
        domain.make(alice=1, bob=2)
        async with domain.caches() as caches:
            await caches.hold("alice")
            server.kill()
            save_in_place(domain.file("alice"), "2")
            domain.file("bob").unlink()
            with Served("--config", config, "--data", tmp_path, "--listen", server.address):
                await until(caches.are_fresh)
                await caches.all_show("alice", 2)
                await caches.all_show("bob", GONE)
                save_by_rename(domain.file("alice"), "3")
                await caches.all_show("alice", 3)
