"""What every backend that keeps entries must do, whatever stands between it and its caller."""

import asyncio
import json
import uuid
from collections import Counter
from contextlib import aclosing
from typing import Any

import pytest

from ..backends import base
from ..backends.base import ABSENT, KEEP, Backend, Capability
from ..errors import ConditionFailedError, InvalidRequestError
from .asking import (
    gather_bounded,
    list_entries,
    list_keys,
    list_pages,
    require,
    until_absent,
    value_of,
)
from .batch_contract import BatchContract

JSON_TEXTS = [
    "null",
    "true",
    "0",
    "-0.0",
    "9007199254740993",
    "123456789012345678901234567890",
    "0.1234567890123456789012",
    "-1.5E+300",
    '""',
    '"\\u0000 \\" \\\\ \\/ \\ud83d\\ude00 \u2028 \U0001f600"',
    "[]",
    "{}",
    '[1, [2, [3, {"a": {}}]]]',
    '{"name": "Ärger", "": null, "a.b": [true, false], "hp": 5}',
    '{"_moobius_type": "game.Player", "_moobius_val": {"hp": 1}}',
    '{"_neardict_raw": "AA=="}',
    '{"key": 1, "_type": "dict"}',
]
RAW_VALUES = [b"", b"\0", b"null", bytes(range(256)), b"\xff" * 1000]
ODD_KEYS = [
    "key",
    "KEY",
    "Key",
    ".",
    "..",
    "../../etc/passwd",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "a.b",
    ".hidden",
    "trailing.",
    " ",
    " padded ",
    "CON",
    "nul.txt",
    "%",
    "%2F",
    "100%",
    "*",
    "?[a]",
    "{tag}",
    "}",
    "a:b",
    "new\nline",
    "tab\t",
    "\x01\x7f",
    "quote'\"`",
    "-option",
    "é",
    "e\u0301",
    "键",
    "\U0001f600",
    "\ufeff",
    "\u2028",
    "_neardict",
    "key.json",
    "k" * 1024,
    "K" * 1024,
    "%" * 1024,
    "键" * 341,
]


def meaning(text: base.Value) -> Any:
    """Returns a value in a form that is equal if and only if nothing but white space differs."""
    if isinstance(text, bytes):
        return text
    return json.loads(text, parse_float=str, parse_int=str, object_pairs_hook=tuple)


class BackendContract(BatchContract):
    """Subclass it and give it a fixture `backend`; every test uses a domain of its own."""

    @pytest.fixture
    def domain(self) -> str:
        return f"contract.{uuid.uuid4().hex}"

    async def test_an_absent_key_has_no_entry(self, backend: Backend, domain: str) -> None:
        assert (await backend.get_value(domain, "key")).entry is None

    @pytest.mark.parametrize("text", JSON_TEXTS)
    async def test_json_comes_back_with_its_meaning(self, backend: Backend, domain: str, text: str) -> None:
        written = await backend.set_value(domain, "key", text)
        entry, domain_revision = await backend.get_value(domain, "key")
        assert entry is not None
        assert isinstance(entry.value, str)
        assert meaning(entry.value) == meaning(text)
        assert (entry.key, entry.revision, entry.expires) == ("key", written.revision, None)
        assert domain_revision >= written.revision

    @pytest.mark.parametrize("raw", RAW_VALUES, ids=repr)
    async def test_raw_bytes_come_back_exactly(self, backend: Backend, domain: str, raw: bytes) -> None:
        await backend.set_value(domain, "key", raw)
        entry = (await backend.get_value(domain, "key")).entry
        assert entry is not None
        assert entry.value == raw

    async def test_a_key_may_change_between_json_and_raw(self, backend: Backend, domain: str) -> None:
        for value in ('"text"', b"bytes", '"text"'):
            await backend.set_value(domain, "key", value)
            entry = (await backend.get_value(domain, "key")).entry
            assert entry is not None
            assert entry.value == value
        assert await list_keys(backend, domain) == ["key"]

    async def test_a_value_of_a_megabyte_comes_back(self, backend: Backend, domain: str) -> None:
        large = json.dumps("é" * (512 * 1024 - 1), ensure_ascii=False)
        for value in (large, b"\0" * 1024 * 1024):
            await backend.set_value(domain, "key", value)
            entry = (await backend.get_value(domain, "key")).entry
            assert entry is not None
            assert entry.value == value

    async def test_odd_keys_are_keys_like_any_other(self, backend: Backend, domain: str) -> None:
        for number, key in enumerate(ODD_KEYS):
            await backend.set_value(domain, key, str(number))
        for number, key in enumerate(ODD_KEYS):
            entry = (await backend.get_value(domain, key)).entry
            assert entry is not None, key
            assert (entry.key, entry.value) == (key, str(number))
        assert sorted(await list_keys(backend, domain)) == sorted(ODD_KEYS)
        listed = await list_entries(backend, domain)
        assert {entry.key: entry.value for entry in listed} == {k: str(n) for n, k in enumerate(ODD_KEYS)}
        for key in ODD_KEYS:
            assert (await backend.delete_key(domain, key)).existed
        assert await list_keys(backend, domain) == []

    async def test_domains_are_separate(self, backend: Backend, domain: str) -> None:
        places = [
            (domain, "b/c"),
            (f"{domain}.b", "c"),
            (f"{domain}.B", "c"),
            (f"{domain}..b", "c"),
            (f"{domain}.", "b.c"),
            (f"{domain}./b", "c"),
            (f"{domain}.%2F", "c"),
            (f"{domain}.{{x}}", "c"),
            (f"{domain}.é", "c"),
            (f"{domain}.c.json", "c"),
            (domain + ".x" * ((255 - len(domain)) // 2), "c"),
            (domain + "." + "/" * (254 - len(domain)), "c"),
        ]
        for number, (name, key) in enumerate(places):
            await backend.set_value(name, key, str(number))
        for number, (name, key) in enumerate(places):
            entry = (await backend.get_value(name, key)).entry
            assert entry is not None, name
            assert entry.value == str(number)
            assert await list_keys(backend, name) == [key]

    async def test_each_write_gets_a_greater_revision(self, backend: Backend, domain: str) -> None:
        revisions = []
        for number in range(20):
            revisions.append((await backend.set_value(domain, f"k{number % 3}", "1")).revision)
            revisions.append((await backend.delete_key(domain, f"k{number % 3}")).revision)
        assert revisions == sorted(set(revisions))
        assert revisions[-1] < 2**53

    async def test_concurrent_writes_get_unique_revisions(self, backend: Backend, domain: str) -> None:
        written = await asyncio.gather(
            *(backend.set_value(domain, f"k{number % 7}", str(number)) for number in range(200))
        )
        assert len({w.revision for w in written}) == 200
        for key in (f"k{number}" for number in range(7)):
            entry = (await backend.get_value(domain, key)).entry
            assert entry is not None
            assert isinstance(entry.value, str)
            # The entry's revision is the one that the write of this value was given, and the key's last.
            assert entry.revision == written[int(entry.value)].revision
            assert entry.revision == max(w.revision for n, w in enumerate(written) if f"k{n % 7}" == key)

    async def test_deleting_an_absent_key_says_so(self, backend: Backend, domain: str) -> None:
        assert not (await backend.delete_key(domain, "key")).existed
        written = await backend.set_value(domain, "key", "1")
        deleted = await backend.delete_key(domain, "key")
        assert deleted.existed
        assert deleted.revision > written.revision
        again = await backend.delete_key(domain, "key")
        assert not again.existed
        assert again.revision >= deleted.revision
        entry, domain_revision = await backend.get_value(domain, "key")
        assert entry is None
        assert domain_revision >= deleted.revision

    async def test_if_absent_writes_only_what_is_absent(self, backend: Backend, domain: str) -> None:
        written = await backend.set_value(domain, "key", "1", condition=ABSENT)
        with pytest.raises(ConditionFailedError) as caught:
            await backend.set_value(domain, "key", "2", condition=ABSENT)
        assert caught.value.current_revision == written.revision
        assert await value_of(backend, domain, "key") == "1"
        await backend.delete_key(domain, "key")
        await backend.set_value(domain, "key", "3", condition=ABSENT)
        assert await value_of(backend, domain, "key") == "3"

    async def test_if_revision_writes_only_over_that_revision(self, backend: Backend, domain: str) -> None:
        first = await backend.set_value(domain, "key", "1")
        second = await backend.set_value(domain, "key", "2", condition=first.revision)
        with pytest.raises(ConditionFailedError) as caught:
            await backend.set_value(domain, "key", "3", condition=first.revision)
        assert caught.value.current_revision == second.revision
        assert await value_of(backend, domain, "key") == "2"
        with pytest.raises(ConditionFailedError) as caught:
            await backend.set_value(domain, "other", "3", condition=first.revision)
        assert caught.value.current_revision == ABSENT
        assert await list_keys(backend, domain) == ["key"]

    async def test_a_conditional_delete_removes_only_that_revision(
        self, backend: Backend, domain: str
    ) -> None:
        first = await backend.set_value(domain, "key", "1")
        second = await backend.set_value(domain, "key", "2")
        with pytest.raises(ConditionFailedError) as caught:
            await backend.delete_key(domain, "key", condition=first.revision)
        assert caught.value.current_revision == second.revision
        assert (await backend.delete_key(domain, "key", condition=second.revision)).existed
        with pytest.raises(ConditionFailedError) as caught:
            await backend.delete_key(domain, "key", condition=second.revision)
        assert caught.value.current_revision == ABSENT

    async def test_one_of_many_creators_wins(self, backend: Backend, domain: str) -> None:
        results = await asyncio.gather(
            *(backend.set_value(domain, "key", str(n), condition=ABSENT) for n in range(20)),
            return_exceptions=True,
        )
        winners = [n for n, result in enumerate(results) if isinstance(result, base.Written)]
        assert len(winners) == 1
        assert all(isinstance(r, (base.Written, ConditionFailedError)) for r in results)
        assert await value_of(backend, domain, "key") == str(winners[0])

    async def test_compare_and_set_loses_no_increment(self, backend: Backend, domain: str) -> None:
        await backend.set_value(domain, "counter", "0")

        async def increment() -> None:
            while True:
                entry = (await backend.get_value(domain, "counter")).entry
                assert entry is not None
                try:
                    await backend.set_value(
                        domain, "counter", str(int(entry.value) + 1), condition=entry.revision
                    )
                except ConditionFailedError:
                    continue
                return

        await asyncio.gather(*(increment() for _ in range(10)))
        assert await value_of(backend, domain, "counter") == "10"

    async def test_a_repeated_request_has_no_effect(self, backend: Backend, domain: str) -> None:
        first = await backend.set_value(domain, "key", "1", request_id="r1")
        await backend.set_value(domain, "key", "2")
        assert await backend.set_value(domain, "key", "1", request_id="r1") == first
        assert await value_of(backend, domain, "key") == "2"
        deleted = await backend.delete_key(domain, "key", request_id="r2")
        await backend.set_value(domain, "key", "3", condition=ABSENT, request_id="r3")
        assert await backend.delete_key(domain, "key", request_id="r2") == deleted
        assert await value_of(backend, domain, "key") == "3"
        # The condition held for the first of them, and that is what counts.
        await backend.set_value(domain, "key", "3", condition=ABSENT, request_id="r3")

    async def test_repeats_at_the_same_time_write_once(self, backend: Backend, domain: str) -> None:
        results = await asyncio.gather(
            *(backend.set_value(domain, "key", "1", request_id="same") for _ in range(10))
        )
        assert len(set(results)) == 1

    async def test_a_request_id_belongs_to_one_write(self, backend: Backend, domain: str) -> None:
        await backend.set_value(domain, "key", "1", request_id="r1")
        with pytest.raises(InvalidRequestError) as caught:
            await backend.set_value(domain, "other", "1", request_id="r1")
        assert caught.value.reason == "REQUEST_ID_REUSED"
        with pytest.raises(InvalidRequestError):
            await backend.delete_key(domain, "key", request_id="r1")
        await backend.set_value(f"{domain}.other", "key", "1", request_id="r1")
        assert await list_keys(backend, domain) == ["key"]

    async def test_a_failed_condition_is_not_remembered(self, backend: Backend, domain: str) -> None:
        await backend.set_value(domain, "key", "1")
        with pytest.raises(ConditionFailedError):
            await backend.set_value(domain, "key", "2", condition=ABSENT, request_id="r1")
        await backend.delete_key(domain, "key")
        await backend.set_value(domain, "key", "2", condition=ABSENT, request_id="r1")
        assert await value_of(backend, domain, "key") == "2"

    async def test_an_expired_entry_is_absent_everywhere(self, backend: Backend, domain: str) -> None:
        require(backend, Capability.TTL)
        kept = await backend.set_value(domain, "kept", "0", ttl=3600 * 10**6)
        assert kept.expires is not None
        written = await backend.set_value(domain, "key", "1", ttl=50_000)
        assert written.expires is not None
        await until_absent(backend, domain, "key")
        assert await list_keys(backend, domain) == ["kept"]
        assert [entry.key for entry in await list_entries(backend, domain)] == ["kept"]
        assert not (await backend.delete_key(domain, "key")).existed
        with pytest.raises(ConditionFailedError) as caught:
            await backend.set_value(domain, "key", "2", condition=written.revision)
        assert caught.value.current_revision == ABSENT
        again = await backend.set_value(domain, "key", "2", condition=ABSENT)
        assert again.revision > written.revision
        entry = (await backend.get_value(domain, "kept")).entry
        assert entry is not None
        assert entry.expires == kept.expires

    async def test_a_write_without_ttl_never_expires(self, backend: Backend, domain: str) -> None:
        require(backend, Capability.TTL)
        await backend.set_value(domain, "key", "1", ttl=50_000)
        assert (await backend.set_value(domain, "key", "2")).expires is None
        await backend.set_value(domain, "clock", "1", ttl=60_000)
        await until_absent(backend, domain, "clock")
        await backend.set_value(domain, "another", "1")  # gives a sweep its chance
        assert await value_of(backend, domain, "key") == "2"

    async def test_a_write_that_keeps_the_ttl_expires_when_the_entry_would(
        self, backend: Backend, domain: str
    ) -> None:
        require(backend, Capability.TTL)
        written = await backend.set_value(domain, "key", "1", ttl=3600 * 10**6)
        kept = await backend.set_value(domain, "key", "2", ttl=KEEP)
        assert written.expires is not None
        assert kept.expires == written.expires
        entry = (await backend.get_value(domain, "key")).entry
        assert entry == base.Entry("key", "2", kept.revision, written.expires)
        assert await list_entries(backend, domain) == [entry]
        again = await backend.set_value(domain, "key", "3", ttl=KEEP, condition=kept.revision)
        assert again.expires == written.expires
        with pytest.raises(ConditionFailedError):
            await backend.set_value(domain, "key", "4", ttl=KEEP, condition=kept.revision)
        soon = await backend.set_value(domain, "key", "5", ttl=50_000)
        assert (await backend.set_value(domain, "key", "6", ttl=KEEP)).expires == soon.expires
        await until_absent(backend, domain, "key")
        assert await list_keys(backend, domain) == []

    async def test_a_write_that_keeps_the_ttl_needs_an_entry(self, backend: Backend, domain: str) -> None:
        await backend.set_value(domain, "deleted", "1")
        await backend.delete_key(domain, "deleted")
        for key in ("deleted", "never"):
            with pytest.raises(ConditionFailedError) as caught:
                await backend.set_value(domain, key, "2", ttl=KEEP)
            assert caught.value.current_revision == ABSENT
        assert await list_keys(backend, domain) == []
        first = await backend.set_value(domain, "key", "1")
        second = await backend.set_value(domain, "key", "2", ttl=KEEP)
        assert (first.expires, second.expires) == (None, None)
        await backend.set_value(domain, "key", "3", ttl=KEEP, condition=second.revision)
        with pytest.raises(ConditionFailedError):
            await backend.set_value(domain, "key", "4", ttl=KEEP, condition=second.revision)
        assert await value_of(backend, domain, "key") == "3"

    async def test_a_write_that_keeps_no_ttl_never_expires(self, backend: Backend, domain: str) -> None:
        require(backend, Capability.TTL)
        await backend.set_value(domain, "key", "1", ttl=50_000)
        await backend.set_value(domain, "key", "2")
        assert (await backend.set_value(domain, "key", "3", ttl=KEEP)).expires is None
        entry = (await backend.get_value(domain, "key")).entry
        assert entry is not None
        assert entry.expires is None

    async def test_where_there_is_no_entry_there_is_no_ttl_to_keep(
        self, backend: Backend, domain: str
    ) -> None:
        require(backend, Capability.TTL)
        await backend.set_value(domain, "expired", "1", ttl=50_000)
        await until_absent(backend, domain, "expired")
        for key in ("expired", "never"):
            with pytest.raises(ConditionFailedError) as caught:
                await backend.set_value(domain, key, "2", ttl=KEEP)
            assert caught.value.current_revision == ABSENT
        assert await list_keys(backend, domain) == []

    async def test_a_repeated_request_that_keeps_the_ttl_has_no_effect(
        self, backend: Backend, domain: str
    ) -> None:
        require(backend, Capability.TTL)
        await backend.set_value(domain, "key", "1", ttl=3600 * 10**6)
        first = await backend.set_value(domain, "key", "2", ttl=KEEP, request_id="r1")
        await backend.set_value(domain, "key", "3")
        assert await backend.set_value(domain, "key", "2", ttl=KEEP, request_id="r1") == first
        entry = (await backend.get_value(domain, "key")).entry
        assert entry is not None
        assert (entry.value, entry.expires) == ("3", None)

    async def test_an_empty_domain_lists_one_empty_page(self, backend: Backend, domain: str) -> None:
        for entries in (False, True):
            (page,) = await list_pages(backend, domain, entries=entries)
            assert not page.keys
            assert not page.entries

    async def test_a_listing_holds_every_key_once_in_bounded_pages(
        self, backend: Backend, domain: str
    ) -> None:
        value = json.dumps("x" * 8_000)
        names = [f"key-{number:04}" for number in range(300)]
        written = await gather_bounded([backend.set_value(domain, name, value) for name in names])
        found = await list_pages(backend, domain, entries=True)
        assert len(found) > 2
        assert all(sum(len(e.value) for e in page.entries) <= base.PAGE_BYTES + 10_000 for page in found)
        assert all(page.domain_revision >= max(w.revision for w in written) for page in found)
        listed = {entry.key: entry for page in found for entry in page.entries}
        assert sorted(listed) == names
        assert sum(len(page.entries) for page in found) == len(names)
        assert [listed[name].revision for name in names] == [w.revision for w in written]
        # Told by the first page, if at all.
        assert found[0].total in (0, len(names))
        assert not any(page.total for page in found[1:])
        assert sorted(await list_keys(backend, domain)) == names

    async def test_a_prefix_is_text_and_not_a_pattern(self, backend: Backend, domain: str) -> None:
        keys = ["a", "a*", "a*b", "ab", "a_c", "a%", "A", "aé", "a\U0010ffff", "a\U0010ffffb", "b", "[a]"]
        for key in keys:
            await backend.set_value(domain, key, "1")
        for prefix in ["", "a", "a*", "a_", "a%", "A", "aé", "a\U0010ffff", "[", "[a]", "c", "ab"]:
            expected = sorted(key for key in keys if key.startswith(prefix))
            assert sorted(await list_keys(backend, domain, prefix=prefix)) == expected

    async def test_a_listing_under_writes_holds_what_stays_exactly_once(
        self, backend: Backend, domain: str
    ) -> None:
        staying = [f"stay-{number:04}" for number in range(400)]
        await gather_bounded([backend.set_value(domain, key, "0") for key in staying])
        stop = asyncio.Event()

        async def churn() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                await backend.set_value(domain, f"come-and-go-{number}", json.dumps("x" * 50))
                await backend.set_value(domain, staying[number % len(staying)], str(number))
                await backend.delete_key(domain, f"come-and-go-{number - 5}")

        churning = asyncio.create_task(churn())
        try:
            for entries in (False, True):
                found = await list_pages(backend, domain, entries=entries)
                seen = Counter(
                    key for page in found for key in (*page.keys, *(entry.key for entry in page.entries))
                )
                assert set(seen.values()) == {1}
                assert set(staying) <= set(seen)
        finally:
            stop.set()
            await churning

    async def test_a_listing_may_be_left_early(self, backend: Backend, domain: str) -> None:
        await gather_bounded(
            [backend.set_value(domain, f"k{number}", json.dumps("x" * 30_000)) for number in range(30)]
        )
        listing: Any = backend.all_keys(domain, entries=True)
        async with aclosing(listing):
            await anext(listing)
        await backend.set_value(domain, "after", "1")
        assert await value_of(backend, domain, "after") == "1"

    async def test_closing_twice_is_closing(self, backend: Backend) -> None:
        await backend.close()
        await backend.close()
