"""A json backend at the kernel's limits: what cannot be watched is asked for, and nothing fails.

The limits are real ones, of a user namespace of the server's own.
"""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

import neardict
from coherence.traps import eventually
from served import Served

if TYPE_CHECKING:
    from pathlib import Path

WARNING = "cannot be watched for edits"


def limited(name: str, count: int) -> list[str]:
    """Returns a command that runs another where so many of the named are allowed; skips where it cannot."""
    command = ["unshare", "--user", "--map-root-user"]
    command += ["sh", "-c", f'echo {count} > /proc/sys/user/{name} && exec "$@"', "sh"]
    try:
        possible = subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        possible = False
    if not possible:
        pytest.skip("needs user namespaces, and unshare of util-linux, to lower the limits of inotify")
    return command


def allow(server: Served, name: str, count: int) -> None:
    """Raises the limit of a server that runs."""
    enter = ["nsenter", "--target", str(server.process.pid), "--user", "--preserve-credentials"]
    subprocess.run([*enter, "sh", "-c", f"echo {count} > /proc/sys/user/{name}"], check=True)


def serve(folder: Path, under: list[str]) -> Served:
    config = folder / "neardict.toml"
    config.write_text('[backends.json]\nimplementation = "json"\n')
    return Served("--config", config, "--data", folder, under=under)


def edit(folder: Path, domain: str, value: object) -> None:
    (folder / "json" / domain).mkdir(parents=True, exist_ok=True)
    (folder / "json" / domain / "key.json").write_text(json.dumps(value))


def test_without_inotify_every_read_asks_until_there_is_some(tmp_path: Path) -> None:
    with (
        serve(tmp_path, limited("max_inotify_instances", 0)) as server,
        neardict.connect(server.address) as store,
    ):
        store.set_value("a", "key", 1)
        dicts = [store.dict("a"), store.dict("a", load=False)]
        for value in range(20):
            edit(tmp_path, "a", value)
            assert [d["key"] for d in dicts] == [value, value]
            assert not any(d.fresh for d in dicts)
        allow(server, "max_inotify_instances", 10)
        eventually(lambda: all(d.fresh for d in dicts))
        edit(tmp_path, "a", "seen")
        eventually(lambda: [d["key"] for d in dicts] == ["seen", "seen"])
        store.close()
        assert server.stop() == 0
        assert server.output.count(WARNING) == 1
        assert "fs.inotify.max_user_instances" in server.output


def test_domains_beyond_the_watches_are_asked_for_and_the_others_are_not(tmp_path: Path) -> None:
    # One for the root, and one for each domain.
    names = [f"domain{number}" for number in range(20)]
    with (
        serve(tmp_path, limited("max_inotify_watches", 11)) as server,
        neardict.connect(server.address) as store,
    ):
        for name in names:
            edit(tmp_path, name, 0)
        dicts = {name: store.dict(name) for name in names}
        eventually(lambda: sum(d.fresh for d in dicts.values()) == 10)
        for name, d in dicts.items():
            edit(tmp_path, name, 1)
            eventually(lambda d=d: d["key"] == 1)  # type: ignore[misc]  # mypy#15459
        assert sum(d.fresh for d in dicts.values()) == 10
        allow(server, "max_inotify_watches", 1000)
        eventually(lambda: all(d.fresh for d in dicts.values()))
        for name, d in dicts.items():
            edit(tmp_path, name, 2)
            eventually(lambda d=d: dict.get(d, "key") == 2)  # type: ignore[misc]  # mypy#15459
        store.close()
        assert server.stop() == 0
        assert server.output.count(WARNING) == 1
        assert "fs.inotify.max_user_watches" in server.output


def test_five_hundred_domains_are_followed(tmp_path: Path) -> None:
    names = [f"services.number{number}" for number in range(500)]
    with serve(tmp_path, []) as server, neardict.connect(server.address) as store:
        folders = {name: name.replace(".", "/") for name in names}
        # Half of them are there, the others come to be.
        for name in names[::2]:
            edit(tmp_path, folders[name], 0)
        dicts = {name: store.dict(name) for name in names}
        eventually(lambda: all(d.fresh for d in dicts.values()))
        for name in names:
            edit(tmp_path, folders[name], 1)
        eventually(lambda: all(dict.get(d, "key") == 1 for d in dicts.values()))
        assert all(d.fresh for d in dicts.values())
