"""What a person sees, and that nothing stored can command the terminal."""

from pathlib import Path

import neardict
from command_line import CommandLine

EVIL = "\x1b]0;owned\x07\x9b31m\u202e"


def test_get_lays_the_value_out_and_tells_the_revision(
    command: CommandLine, store: neardict.Store, domain: str
) -> None:
    revision = store.set_value(domain, "k", {"a": [], "b": [1.5, {"é": "😀"}]})
    done = command.on_terminal("get", domain, "k")
    assert done.code == 0
    assert done.text.startswith('{\n  "a": [],\n  "b": [\n    1.5,\n    {\n      "é": "😀"\n    }\n  ]\n}\n')
    assert f"revision {revision}" in done.text


def test_nothing_that_is_stored_reaches_the_terminal_as_a_command(
    command: CommandLine, store: neardict.Store, domain: str
) -> None:
    store.set_value(domain, EVIL, [EVIL])
    store.set_value(domain, "text", EVIL)
    shown = b"".join(
        command.on_terminal(*arguments).out
        for arguments in [
            ("keys", domain),
            ("keys", domain, "--values"),
            ("get", domain, EVIL, "--value"),
            ("get", domain, "text", "--text"),
            ("get", domain, f"absent {EVIL}"),
            (f"no command {EVIL}",),
        ]
    )
    assert b"owned" in shown
    assert not {c for c in shown.decode() if not c.isprintable()} - {"\r", "\n"}


def test_keys_are_told_apart_from_what_they_resemble(
    command: CommandLine, store: neardict.Store, domain: str
) -> None:
    store.set_many(domain, dict.fromkeys(["plain", "two words", " edge", '"quoted"', "new\nline"], 1))
    lines = command.on_terminal("keys", domain).text.splitlines()
    assert sorted(lines) == sorted(["plain", "two words", '" edge"', '"\\"quoted\\""', '"new\\nline"'])


def test_values_in_a_listing_are_cut_to_the_width(
    command: CommandLine, store: neardict.Store, domain: str
) -> None:
    store.set_many(domain, {"long": "x" * 10_000, "raw": b"123", "short": {"a": 1}})
    lines = sorted(command.on_terminal("keys", domain, "--values", columns=40).text.splitlines())
    assert lines == ['long  "' + "x" * 32 + "…", "raw  (3 raw bytes)", 'short  {"a": 1}']


def test_raw_bytes_are_announced_not_printed(
    command: CommandLine, store: neardict.Store, domain: str
) -> None:
    store.set_value(domain, "k", b"\x1b[31m")
    done = command.on_terminal("get", domain, "k")
    assert done.text.startswith("5 raw bytes, which `neardict get --raw` writes as they are\n")


def test_writes_and_deletions_are_told_in_a_line(command: CommandLine, domain: str) -> None:
    assert command.on_terminal("set", domain, "k", "1").text.startswith("revision ")
    assert command.on_terminal("delete", domain, "k").text.startswith("deleted at revision ")
    again = command.on_terminal("delete", domain, "k")
    assert (again.code, again.text) == (1, f"neardict: no entry k in {domain}\n")


def test_long_commands_show_a_bar_and_a_summary(
    command: CommandLine, store: neardict.Store, domain: str, tmp_path: Path
) -> None:
    store.set_many(domain, {str(n): n for n in range(50)})
    exported = command.on_terminal("export", domain, "--output", tmp_path / "file")
    assert "50/50" in exported.text
    assert exported.text.endswith(f"exported 50 entries of {domain}\n")
    imported = command.on_terminal("import", tmp_path / "file", "--domain", f"{domain}.copy")
    assert "[####" in imported.text
    assert imported.text.endswith("\n50 imported\n")


def test_ping_tells_who_answers_and_how_fast(command: CommandLine) -> None:
    text = command.on_terminal("ping", "--count", "3").text
    assert f"at {command.target}\n" in text
    assert "(median of 3, " in text
    assert "backend sqlite (sqlite): durable" in text
    assert "route json.* -> json" in text
