"""Which revision a file has, decided in memory: a model of the cases, without a disk."""

import itertools

import pytest

from neardict_server.backends import base
from neardict_server.backends.json import revisions as json_revisions
from neardict_server.backends.json.files import Stored
from neardict_server.backends.json.revisions import Revisions

STARTED = 1_700_000_000_000_000
OPENED = 1_700_000_000_000_000_000


def revisions() -> Revisions:
    return Revisions(STARTED, OPENED, itertools.count(STARTED + 100, 100).__next__)


def stored(data: bytes, revision: int, *, odd: int = 0, changed: int = OPENED) -> Stored:
    return Stored(data, 1000 * revision + odd, changed)


def test_a_file_of_an_earlier_run_keeps_its_revision() -> None:
    assert revisions().settle("d", "k", stored(b"1", STARTED - 5)) == STARTED - 5
    assert revisions().visible("d") == STARTED


def test_a_file_with_an_old_time_that_came_after_the_start_gets_a_new_revision() -> None:
    assert revisions().settle("d", "k", stored(b"1", STARTED - 5, changed=OPENED + 1)) > STARTED


@pytest.mark.parametrize("file", [stored(b"1", 0), Stored(b"1", -5, 0), stored(b"1", STARTED + 10**15)])
def test_an_absurd_time_gets_a_new_revision(file: Stored) -> None:
    assert STARTED < revisions().settle("d", "k", file) < STARTED + 10**6


def test_the_same_contents_keep_their_revision_whatever_their_time() -> None:
    known = revisions()
    revision = known.settle("d", "k", stored(b"1", STARTED - 5))
    assert known.recall("d", "k", stored(b"1", STARTED + 50, odd=7, changed=OPENED + 50)) == revision


def test_other_contents_get_a_new_revision_whatever_their_time() -> None:
    known = revisions()
    known.settle("d", "k", stored(b"1", STARTED - 5))
    for data in (b"2", b"3"):
        before = known.current("d")
        assert known.recall("d", "k", stored(data, STARTED - 5)) is None
        assert known.settle("d", "k", stored(data, STARTED - 5)) > before


def test_a_key_that_was_gone_and_is_back_gets_a_new_revision() -> None:
    known = revisions()
    known.settle("d", "k", stored(b"1", STARTED - 5))
    assert known.settle("d", "k", None) == base.ABSENT
    gone = known.current("d")
    assert known.settle("d", "k", stored(b"1", STARTED - 5)) > gone > STARTED


def test_a_read_that_a_write_overtook_is_not_taken_for_an_edit() -> None:
    known = revisions()
    known.settle("d", "k", stored(b"old", STARTED - 5))
    revision = known.begin("d")
    known.written("d", "k", revision, stored(b"new", revision))
    assert known.recall("d", "k", stored(b"old", STARTED - 5)) is None
    known.end("d", revision)
    assert known.settle("d", "k", stored(b"new", revision)) == revision


def test_what_is_not_visible_yet_holds_back_the_revision_of_the_domain() -> None:
    known = revisions()
    first, second = known.begin("d"), known.begin("d")
    known.end("d", second)
    assert known.visible("d") == first - 1
    known.end("d", first)
    assert known.visible("d") == second == known.current("d") == known.latest()


def test_what_was_forgotten_has_the_same_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_revisions, "MAX_REMEMBERED", 3)
    known = revisions()
    files = {}
    for number in range(10):
        revision = known.begin("d")
        files[f"k{number}"] = stored(b"%d" % number, revision, changed=OPENED + 1)
        known.written("d", f"k{number}", revision, files[f"k{number}"])
        known.end("d", revision)
    for key, file in files.items():
        assert 1000 * known.settle("d", key, file) == file.modified


def test_what_a_file_cannot_tell_again_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_revisions, "MAX_REMEMBERED", 3)
    known = revisions()
    edited = stored(b"by hand", STARTED + 1, odd=7, changed=OPENED + 1)
    revision = known.settle("d", "edited", edited)
    for number in range(10):
        known.written("d", f"k{number}", known.begin("d"), stored(b"", STARTED))
    assert known.settle("d", "edited", edited) == revision


def test_a_file_system_that_rounds_times_does_not_make_revisions_go_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(json_revisions, "MAX_REMEMBERED", 3)
    known = revisions()
    revision = known.begin("d")
    rounded = Stored(b"1", revision * 1000 // 10**9 * 10**9, OPENED)
    known.written("d", "k", revision, rounded)
    for number in range(10):
        known.written("d", f"k{number}", known.begin("d"), None)
    assert known.settle("d", "k", rounded) == revision
