"""The dict of a Moobius service gives entries a time to live where its database has one."""

import pytest

import neardict
from neardict.moobius import CachedDict, RemoteDatabase
from neardict.moobius.null import NullDatabase
from served import Served


@pytest.mark.parametrize("load", [True, False])
@pytest.mark.parametrize("engine", ["memory", "sqlite", "redis"])
def test_over_a_service_entries_keep_their_time_to_live(
    server: Served, elsewhere: neardict.Store, channel: str, engine: str, load: bool
) -> None:
    d = CachedDict(RemoteDatabase(f"service_1.channel_{channel}.{engine}", server.address))
    if load:
        d.load()
    d.set("s", {"n": 1}, ttl=3600)
    entry = elsewhere.get_entry(d.domain, "s")
    assert entry is not None
    assert entry.expire_time is not None
    d.edit("s", lambda v: v.update(n=2))
    d["s"]["n"] = 3
    d.save("s")
    again = elsewhere.get_entry(d.domain, "s")
    assert again is not None
    assert (again.value, again.expire_time) == ({"n": 3}, entry.expire_time)
    d.touch("s", None)
    permanent = elsewhere.get_entry(d.domain, "s")
    assert permanent is not None
    assert permanent.expire_time is None
    assert (d.fetch("s"), d.has("s"), d.fetch("t", 0)) == ({"n": 3}, True, 0)
    d.delete("s")
    assert not d.has("s")


def test_a_database_of_ones_own_has_no_time_to_live_and_loses_none() -> None:
    d = CachedDict(NullDatabase())
    d.set("k", [1])
    for act in (
        lambda: d.set("k", [2], ttl=60),
        lambda: d.touch("k", 60),
        lambda: d.edit("k", lambda v: [2], ttl=60),
    ):
        with pytest.raises(neardict.CapabilityMissingError) as caught:
            act()
        assert caught.value.capability == "CAPABILITY_TTL"
    d.edit("k", lambda v: v.append(2))
    d["k"].append(3)
    d.save("k")
    d.touch("k", None)
    d.set("k", [*d["k"], 4], ttl=None)
    assert d.fetch("k") == [1, 2, 3, 4]
    with pytest.raises(KeyError):
        d.touch("absent", None)
    with pytest.raises(TypeError):
        d.edit("k", lambda v: v.pop())
    with pytest.raises(TypeError, match="key must be a str"):
        d.set(1, 1)  # type: ignore[arg-type]
    assert d.fetch("k") == [1, 2, 3, 4]
