"""Leases at the server: which writes wait, for whom, and until when. With a clock that the test turns."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from leased_service import DOMAIN, SECONDS, Clock, Service, confirm, kinds, sent, settle
from neardict.v1 import storage_pb2 as pb
from neardict_server.backends import base
from neardict_server.backends.sqlite import SqliteBackend
from neardict_server.changes.leases import DRIFT, FORGOTTEN_SECONDS, LONGEST_SECONDS, Pauses, Term
from neardict_server.changes.turns import Turns
from neardict_server.changes.watcher import MAX_WAITING_MESSAGES, Watcher
from neardict_server.errors import BackendUnavailableError, CapabilityMissingError, TooManyLeasesError
from waiting import DEADLINE_SECONDS


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def service(tmp_path: Path, clock: Clock) -> AsyncIterator[Service]:
    service = Service(tmp_path, clock)
    yield service
    await service.backend.close()


async def test_a_write_waits_until_every_holder_has_confirmed(service: Service) -> None:
    holders = [await service.join() for _ in range(3)]
    other = await service.join(lease=False)
    for watcher in (*holders, other):
        await sent(watcher)
    write = service.write()
    await settle()
    for holder in holders:
        assert not write.done()
        assert (await service.backend.get_value(DOMAIN, "k")).entry is None
        messages = await sent(holder)
        assert kinds(messages) == ["revoke"]
        assert (messages[0].revoke.domain, messages[0].revoke.key) == (DOMAIN, "k")
        confirm(holder, messages)
        await settle()
    assert (await write).revision
    for holder in holders:
        assert kinds(await sent(holder)) == ["changes", "release"]
        assert holder.revokes == {}
    assert kinds(await sent(other)) == ["changes"]


async def test_without_holders_nothing_waits_and_nothing_is_kept(service: Service) -> None:
    await service.backend.set_value(DOMAIN, "k", "1")
    await service.backend.delete_key(DOMAIN, "k")
    assert not service.kept.exists()
    assert not service.leases._writes


@pytest.mark.parametrize("pings", [False, True])
async def test_who_does_not_confirm_is_waited_for_until_his_lease_is_over(
    service: Service, clock: Clock, pings: bool
) -> None:
    holder = await service.join()
    write = service.write()
    await settle()
    service.turn(SECONDS * DRIFT / 2)
    if pings:
        # The answer comes to him behind the revoke, so what he serves by it he serves without the key.
        holder.lease_until = service.leases.term.end()
    await settle()
    assert not write.done()
    service.turn(SECONDS * DRIFT / 2 + 0.001)
    await settle()
    assert write.done()


async def test_a_lease_is_counted_from_the_last_ping(service: Service, clock: Clock) -> None:
    holder = await service.join()
    clock.now += 2
    holder.lease_until = service.leases.term.end()
    write = service.write()
    await settle()
    service.turn(2)
    await settle()
    assert not write.done()
    service.turn(SECONDS * DRIFT - 2)
    await settle()
    assert write.done()


async def test_who_joins_while_a_write_waits_is_told_before_he_holds_anything(service: Service) -> None:
    slow = await service.join()
    write = service.write()
    await settle()
    late = await service.join()
    assert kinds(await sent(late)) == ["revoke", "subscribed"]
    messages = await sent(slow)
    confirm(slow, messages)
    # Nobody waits for the late one, who held nothing.
    await write
    assert kinds(await sent(late)) == ["changes", "release"]


async def test_a_write_that_began_without_holders_is_told_to_who_joins_meanwhile(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = asyncio.Event()
    original = service.memory.set_value

    async def slow(*args: Any, **options: Any) -> base.Written:
        await gate.wait()
        return await original(*args, **options)

    monkeypatch.setattr(service.memory, "set_value", slow)
    write = service.write()
    await settle()
    holder = await service.join()
    assert kinds(await sent(holder)) == ["revoke", "subscribed"]
    gate.set()
    await write
    assert kinds(await sent(holder)) == ["changes", "release"]


async def test_changes_that_came_while_a_subscription_began_come_before_it(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = asyncio.Event()
    original = service.memory.position

    async def slow(domain: str, from_revision: int) -> base.Position:
        position = await original(domain, from_revision)
        await gate.wait()
        return position

    monkeypatch.setattr(service.memory, "position", slow)
    watcher = Watcher(Turns())
    joining = asyncio.create_task(service.hub.subscribe(watcher, DOMAIN, 0, lease=True))
    while not service.leases._holders:
        await asyncio.sleep(0)
    write = service.write()
    await settle()
    confirm(watcher, await sent(watcher))
    revision = (await write).revision
    # The release has gone out: were the change to come after `subscribed`, an older value would be served.
    gate.set()
    await joining
    messages = await sent(watcher)
    assert kinds(messages) == ["release", "changes", "subscribed"]
    assert messages[2].subscribed.revision == revision


async def test_who_has_left_without_a_word_is_waited_for(service: Service) -> None:
    holder = await service.join()
    service.hub.unsubscribe(holder, DOMAIN, served=True)
    write = service.write()
    await settle()
    assert not write.done()
    service.turn(SECONDS * DRIFT + 0.001)
    await settle()
    assert write.done()
    await asyncio.wait_for(service.write(), 5)


async def test_who_gives_his_lease_back_is_not_waited_for(service: Service) -> None:
    holder = await service.join()
    write = service.write()
    await settle()
    service.hub.unsubscribe(holder, DOMAIN)
    await settle()
    assert write.done()
    await service.write()


async def test_a_holder_who_reads_nothing_is_reset_in_the_end(service: Service) -> None:
    holder = await service.join()
    await sent(holder)
    for _ in range(MAX_WAITING_MESSAGES + 1):
        holder.put(pb.WatchResponse(heartbeat=pb.Heartbeat()))
    write = service.write()
    await settle()
    assert DOMAIN not in holder.hubs
    assert not write.done(), "he may serve what he holds for a while"
    service.turn(SECONDS * DRIFT + 0.001)
    await settle()
    assert write.done()


async def test_a_reset_overtakes_the_release_of_a_change_that_is_not_sent(service: Service) -> None:
    holder = await service.join()
    await sent(holder)
    write = service.write()
    await settle()
    confirm(holder, await sent(holder))
    await write
    # He serves under his lease until he knows.
    service.hub.slow(holder, DOMAIN)
    assert kinds(await sent(holder)) == ["reset", "release"]


async def test_a_reset_takes_back_the_lease_that_was_not_sent(service: Service) -> None:
    holder = await service.join()
    service.hub.slow(holder, DOMAIN)
    assert kinds(await sent(holder)) == ["reset"]


async def test_who_subscribes_again_is_asked_all_the_same(service: Service) -> None:
    holder = await service.join()
    await sent(holder)
    first = service.write("a")
    await settle()
    confirm(holder, await sent(holder))
    await first
    write = service.write("k")
    await settle()
    # A request that crossed with the answer to an earlier one, by which he serves.
    await service.hub.subscribe(holder, DOMAIN, 0, lease=True)
    await settle()
    assert not write.done()
    messages = await sent(holder)
    # Nor is the release shown before the change.
    assert kinds(messages) == ["changes", "release", "revoke", "revoke", "subscribed"]
    confirm(holder, messages)
    service.turn(SECONDS * DRIFT + 0.001)
    await settle()
    assert write.done()


async def test_what_was_missed_may_be_too_much(service: Service) -> None:
    written = [(await service.backend.set_value(DOMAIN, f"k{number}", "1")).revision for number in range(9)]
    watcher = Watcher(Turns(), max_changes=2)
    await service.hub.subscribe(watcher, DOMAIN, written[0], lease=True)
    assert kinds(await sent(watcher)) == ["reset"]
    assert not watcher.hubs
    assert not service.leases._holders


async def test_those_who_come_and_go_do_not_hold_up_a_write_without_end(
    service: Service, clock: Clock
) -> None:
    service.hub.unsubscribe(await service.join(), DOMAIN, served=True)
    write = service.write()
    await settle()
    for _ in range(4):
        # Killed after a second, each time. He was told of the write before he held anything.
        watcher = await service.join()
        service.turn(1)
        await settle()
        service.hub.unsubscribe(watcher, DOMAIN, served=True)
    assert write.done()


async def test_a_write_that_is_cancelled_releases_its_key(service: Service) -> None:
    holder = await service.join()
    await sent(holder)
    write = service.write()
    await settle()
    write.cancel()
    await asyncio.gather(write, return_exceptions=True)
    assert kinds(await sent(holder)) == ["revoke", "release"]
    assert not service.leases._writes
    assert (await service.memory.get_value(DOMAIN, "k")).entry is None


async def test_writes_of_one_key_have_numbers_of_their_own(service: Service) -> None:
    holder = await service.join()
    writes = [service.write(value=str(number)) for number in range(3)]
    await settle()
    messages = [message for message in await sent(holder) if message.HasField("revoke")]
    assert len({message.revoke.number for message in messages}) == 3
    confirm(holder, messages)
    await asyncio.gather(*writes)
    assert kinds(await sent(holder)).count("release") == 3


async def test_a_new_process_waits_for_the_leases_of_the_one_before(tmp_path: Path, clock: Clock) -> None:
    before = Service(tmp_path, clock)
    await before.join()
    after = Service(tmp_path, clock)
    write = after.write()
    # That memory has forgotten everything is a change too, which nobody may see yet.
    read = asyncio.create_task(after.backend.get_value(DOMAIN, "k"))
    await settle()
    assert not write.done()
    assert not read.done()
    read.cancel()
    after.turn(SECONDS * DRIFT + 0.001)
    await settle()
    assert write.done()
    assert (await after.backend.get_value(DOMAIN, "k")).entry is not None


async def test_a_shorter_term_does_not_hide_the_longer_one_before_it(tmp_path: Path, clock: Clock) -> None:
    long = Service(tmp_path, clock, seconds=60)
    await long.join()
    await Service(tmp_path, clock).join()
    clock.now += 1
    assert Service(tmp_path, clock).leases.lapsed_at(DOMAIN) > clock.now + 58


async def test_where_it_is_not_known_how_long_it_waits_longest(tmp_path: Path, clock: Clock) -> None:
    kept = Service(tmp_path, clock).kept
    kept.parent.mkdir()
    kept.write_text("?")
    after = Service(tmp_path, clock)
    assert after.leases.lapsed_at(DOMAIN) == clock.now + LONGEST_SECONDS * DRIFT


async def test_no_lease_is_given_that_cannot_be_noted(service: Service, tmp_path: Path) -> None:
    (tmp_path / "leases").write_text("in the way")
    with pytest.raises(BackendUnavailableError, match="data_dir"):
        await service.join()
    assert not service.leases._holders


async def test_a_backend_that_gives_none_says_so(service: Service) -> None:
    service.hub.leases = None
    with pytest.raises(CapabilityMissingError) as refused:
        await service.join()
    assert refused.value.metadata == {"capability": "CAPABILITY_LEASES"}


async def test_a_cancelled_write_of_sqlite_ends_when_its_fate_is_known(tmp_path: Path) -> None:
    published: set[str] = set()
    surroundings = base.Surroundings(
        tmp_path, publish=lambda domain, previous, change: published.add(change.key)
    )
    backend = await SqliteBackend.open(SqliteBackend.Settings(), surroundings)
    fates = set()
    for number in range(60):
        write = asyncio.create_task(backend.set_value(DOMAIN, f"k{number}", "1"))
        for _ in range(number % 3):
            await asyncio.sleep(0)
        write.cancel()
        assert isinstance((await asyncio.gather(write, return_exceptions=True))[0], asyncio.CancelledError)
        # By now it is decided, and published: a write that follows it finds nothing else.
        known = f"k{number}" in published
        await backend.set_value(DOMAIN, "other", "1")
        assert ((await backend.get_value(DOMAIN, f"k{number}")).entry is not None) == known
        fates.add(known)
    assert fates == {True, False}
    await backend.close()


async def test_leases_that_are_over_are_forgotten_where_nobody_writes(service: Service, clock: Clock) -> None:
    for number in range(3):
        watcher = Watcher(Turns())
        await service.hub.subscribe(watcher, f"d{number}", 0, lease=True)
        service.hub.unsubscribe(watcher, f"d{number}", served=True)
        clock.now += 2 * SECONDS
    assert list(service.leases._lapsing) == ["d2"]


async def test_who_lets_a_revoke_lapse_loses_all_his_leases_and_waits_for_others(
    service: Service, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    holder = await service.join(connection="ipv4:10.1.1.1:5")
    await service.hub.subscribe(holder, "other", 0, lease=True)
    assert kinds(await sent(holder)) == ["subscribed", "subscribed"]
    write = service.write()
    await settle()
    messages = await sent(holder)
    service.turn(SECONDS * DRIFT + 0.001)
    await write
    assert kinds(await sent(holder)) == ["reset", "reset", "release"]
    assert not service.leases._holders
    assert caplog.text.count("ipv4:10.1.1.1:5 has not confirmed in time") == 1
    # He may have pinged until then, so that the next writes wait once more; then nobody does.
    assert service.leases.lapsed_at("other") <= clock.now + SECONDS * DRIFT
    clock.now += SECONDS * DRIFT + 0.001
    await service.backend.set_value("other", "k", "1")
    # Neither he nor anybody from there is given another before he has confirmed, and its pause is over.
    again = asyncio.create_task(service.hub.subscribe(holder, DOMAIN, 0, lease=True))
    await settle()
    assert not service.leases._holders
    confirm(holder, messages)
    async with asyncio.timeout(DEADLINE_SECONDS):
        await again
    assert holder in service.leases._holders[DOMAIN]


async def test_others_from_there_wait_and_those_from_elsewhere_do_not(service: Service, clock: Clock) -> None:
    await service.join(connection="ipv4:10.1.1.1:5")
    write = service.write()
    await settle()
    service.turn(SECONDS * DRIFT + 0.001)
    await write
    same = asyncio.create_task(service.join(connection="ipv4:10.1.1.1:6"))
    await service.join(connection="ipv4:10.1.1.2:5")
    await settle()
    assert not same.done()
    same.cancel()


async def test_who_leaves_without_a_word_while_somebody_writes_is_blamed_once(
    service: Service, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    service.hub.unsubscribe(await service.join(), DOMAIN, served=True)
    writes = [service.write(), service.write("other")]
    await settle()
    service.turn(SECONDS * DRIFT + 0.001)
    await asyncio.gather(*writes)
    assert caplog.text.count("has gone without a word") == 1


def test_a_pause_grows_and_is_forgotten_after_a_while(clock: Clock) -> None:
    pauses = Pauses(Term(SECONDS, clock))
    lengths = []
    for _ in range(12):
        pauses.longer("ipv4:10.1.1.1:5", DOMAIN)
        lengths.append(round(pauses.left("ipv4:10.1.1.1:6", DOMAIN)))
        clock.now += lengths[-1] + 1
    assert lengths == [3, 6, 12, 24, 48, 96, 192, 300, 300, 300, 300, 300]
    assert pauses.left("ipv4:10.1.1.1:5", "other") == 0
    clock.now += FORGOTTEN_SECONDS
    pauses.longer("ipv4:10.1.1.1:5", DOMAIN)
    assert round(pauses.left("ipv4:10.1.1.1:5", DOMAIN)) == 3


async def test_a_connection_has_leases_of_so_many_domains(tmp_path: Path, clock: Clock) -> None:
    service = Service(tmp_path, clock, most_domains=2)
    first = await service.join(connection="ipv4:10.1.1.1:5")
    second = await service.join(connection="ipv4:10.1.1.1:5")
    with pytest.raises(TooManyLeasesError):
        await service.join(connection="ipv4:10.1.1.1:5")
    # Again is not one more, and who gives one back may have another.
    await service.hub.subscribe(first, DOMAIN, 0, lease=True)
    service.hub.unsubscribe(second, DOMAIN)
    await service.join(connection="ipv4:10.1.1.1:5")
    await service.join(connection="ipv4:10.1.1.1:6")


@pytest.mark.parametrize("text", ["inf", "nan", "-1", "1e9", "", "0x10", "3 3", "9" * 1000, "३"])
def test_a_file_that_says_nothing_we_wrote_stands_for_the_longest_time(
    tmp_path: Path, clock: Clock, text: str
) -> None:
    kept = tmp_path / "leases" / "memory"
    kept.parent.mkdir()
    kept.write_text(text)
    assert Service(tmp_path, clock).leases.lapsed_at(DOMAIN) == clock.now + LONGEST_SECONDS * DRIFT


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_what_is_no_regular_file_is_not_read(tmp_path: Path, clock: Clock, kind: str) -> None:
    kept = tmp_path / "leases" / "memory"
    kept.parent.mkdir()
    if kind == "link":
        (tmp_path / "elsewhere").write_text("3.0\n")
        kept.symlink_to(tmp_path / "elsewhere")
    elif kind == "fifo":
        os.mkfifo(kept)
    else:
        kept.mkdir()
    with pytest.raises(OSError, match="memory"):
        Service(tmp_path, clock)
