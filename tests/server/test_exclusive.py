"""The lock that keeps a second server from data that has one owner."""

import errno
import os
from pathlib import Path

import pytest

from neardict_server.exclusive import ExclusiveLock, InUseError


def test_the_second_is_refused_until_the_first_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "lock"
    with ExclusiveLock(path):
        assert path.read_text() == f"{os.getpid()}\n"
        with pytest.raises(InUseError, match="in use by another backend of this server"):
            ExclusiveLock(path)
    with ExclusiveLock(path):
        pass


@pytest.mark.parametrize("content", [b"", b"1\n", b"\xff\0", b"9" * 1000])
def test_what_a_dead_owner_left_in_the_file_means_nothing(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_bytes(content)
    with ExclusiveLock(path):
        assert path.read_text() == f"{os.getpid()}\n"


def test_another_owner_is_named(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with ExclusiveLock(path):
        for content, owner in ((b"4711\n", "4711"), (b"", "unknown")):
            path.write_bytes(content)
            with pytest.raises(InUseError, match=rf"{tmp_path} is in use .* \(process {owner}\)"):
                ExclusiveLock(path)


def test_closing_twice_is_closing(tmp_path: Path) -> None:
    lock = ExclusiveLock(tmp_path / "lock")
    lock.close()
    lock.close()
    with ExclusiveLock(tmp_path / "lock"):
        # Its number may be that of the other's file now.
        lock.close()
        with pytest.raises(InUseError):
            ExclusiveLock(tmp_path / "lock")


def test_a_disk_too_full_for_the_owners_name_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(file: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        lock = ExclusiveLock(tmp_path / "lock")
    with pytest.raises(InUseError, match="unknown"):
        ExclusiveLock(tmp_path / "lock")
    lock.close()
