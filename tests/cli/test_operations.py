"""get, set, delete and keys in a script: one line of JSON each, and an exit code."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import neardict
from command_line import NEARDICT, CommandLine, Done
from processes import ended

VALUE = '{"big":9007199254740993,"small":1e-7,"kept":1.10,"twice":1,"twice":2,"text":"\\u00e9 é 😀 \\n"}'


def test_get_prints_one_line_with_the_entry_as_it_was_written(command: CommandLine, domain: str) -> None:
    written = command("set", domain, "clé", VALUE)
    assert (written.code, written.err) == (0, "")
    read = command("get", domain, "clé")
    revision = written.line["revision"]
    assert read.out.decode() == (
        f'{{"domain":"{domain}","key":"clé","value":{VALUE},"revision":{revision},"expire_time":null}}\n'
    )
    assert read.code == 0


def test_a_value_can_be_had_alone_in_the_form_that_is_asked_for(command: CommandLine, domain: str) -> None:
    command("set", domain, "json", '{"a": [1, 2]}')
    command("set", domain, "text", "two\nlines, no JSON", "--text")
    command("set", domain, "raw", "-", "--raw", stdin=b"\x00\xff\n")
    assert command("get", domain, "json", "--value").out == b'{"a":[1,2]}\n'
    assert command("get", domain, "text", "--value").out == b'"two\\nlines, no JSON"\n'
    assert command("get", domain, "text", "--text").out == b"two\nlines, no JSON"
    assert command("get", domain, "raw", "--raw").out == b"\x00\xff\n"
    assert command("get", domain, "raw").line["raw_base64"] == "AP8K"
    not_json = command("get", domain, "raw", "--value")
    assert (not_json.code, not_json.out) == (4, b"")
    assert command("get", domain, "json", "--text").code == 4


def test_an_absent_key_exits_with_1(command: CommandLine, domain: str) -> None:
    read = command("get", domain, "nobody")
    assert (read.code, read.out, read.err) == (1, b"", f"neardict: no entry nobody in {domain}\n")
    deleted = command("delete", domain, "nobody")
    assert (deleted.code, deleted.line["existed"]) == (1, False)


def test_delete_removes_the_entry(command: CommandLine, store: neardict.Store, domain: str) -> None:
    store.set_value(domain, "k", 1)
    done = command("delete", domain, "k")
    assert (done.code, done.line["existed"]) == (0, True)
    assert list(store.all_keys(domain)) == []


def test_a_condition_that_does_not_hold_exits_with_3(
    command: CommandLine, store: neardict.Store, domain: str
) -> None:
    revision = store.set_value(domain, "k", 1)
    assert command("set", domain, "k", "2", "--if-absent").code == 3
    assert command("set", domain, "k", "2", "--if-revision", str(revision + 1)).code == 3
    assert command("delete", domain, "k", "--if-revision", str(revision + 1)).code == 3
    assert store.get_value(domain, "k") == 1
    assert command("set", domain, "k", "2", "--if-revision", str(revision)).code == 0
    assert store.get_value(domain, "k") == 2


@pytest.mark.parametrize("value", ["secret", "", "NaN", "[1e999]", '"\\ud800"', "[1,]", "01", "[" * 100_000])
def test_a_value_that_is_not_json_is_refused_and_not_repeated(here: Callable[..., Done], value: str) -> None:
    done = here("set", "d", "k", value)
    assert (done.code, done.out) == (4, b"")
    assert done.err.startswith("neardict: the value ")
    assert done.err.count("\n") == 1
    assert "secret" not in done.err


def test_what_the_service_refuses_exits_with_4(command: CommandLine, domain: str, json_domain: str) -> None:
    for arguments in [
        (domain, "", "1"),
        ("", "k", "1"),
        (json_domain, "k", "1", "--ttl", "5m"),
        (domain, b"not UTF-8 \xff", "1"),
    ]:
        done = command("set", *arguments)
        assert (done.code, done.err.count("\n")) == (4, 1)
    assert command("set", domain, "k", "-", "--raw", stdin=bytes(2**20 + 1)).code == 4


def test_a_value_comes_from_a_file_or_the_input_exactly(
    command: CommandLine, store: neardict.Store, domain: str, tmp_path: Path
) -> None:
    (tmp_path / "value").write_bytes(b' {"a":\n 1} \n')
    assert command("set", domain, "file", "--file", tmp_path / "value").code == 0
    assert command("set", domain, "bytes", "--file", tmp_path / "value", "--raw").code == 0
    assert command("set", domain, "text", "--file", "-", "--text", stdin="é\n".encode()).code == 0
    assert dict(store.dict(domain)) == {"file": {"a": 1}, "bytes": b' {"a":\n 1} \n', "text": "é\n"}
    missing = command("set", domain, "k", "--file", tmp_path / "nowhere")
    assert (missing.code, missing.err) == (74, f"neardict: {tmp_path}/nowhere: No such file or directory\n")


def test_a_negative_number_is_a_value(command: CommandLine, domain: str) -> None:
    assert command("set", domain, "k", "-5", "--ttl", "1h").code == 0
    read = command("get", domain, "k").line
    assert read["value"] == -5
    assert read["expire_time"].endswith("Z")


def test_a_write_may_keep_the_time_to_live(command: CommandLine, domain: str) -> None:
    absent = command("set", domain, "k", "1", "--keep-ttl")
    assert (absent.code, absent.err.count("\n")) == (3, 1)
    assert command("set", domain, "k", "1", "--ttl", "1h").code == 0
    before = command("get", domain, "k").line
    assert command("set", domain, "k", "2", "--keep-ttl").code == 0
    after = command("get", domain, "k").line
    assert (after["value"], after["expire_time"]) == (2, before["expire_time"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["set", "d", "k"],
        ["set", "d", "k", "1", "--keep-ttl", "--ttl", "1h"],
        ["set", "d", "k", "1", "--keep-ttl", "--if-absent"],
        ["set", "d", "k", "1", "--file", "f"],
        ["set", "d", "k", "1", "--if-absent", "--if-revision", "1"],
        ["set", "d", "k", "--tll"],
        ["set", "d", "k", "1", "--ttl", "soon"],
        ["get", "d"],
        ["nonsense"],
        ["--target"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_exits_with_2_and_one_line(
    here: Callable[..., Done], arguments: list[str]
) -> None:
    done = here(*arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, b"", 1)
    assert done.err.startswith("neardict: ")


def test_a_service_that_is_not_there_exits_with_5(domain: str) -> None:
    done = CommandLine("127.0.0.1:1")("get", domain, "k", "--timeout", "500ms")
    assert (done.code, done.out, done.err.count("\n")) == (5, b"", 1)
    assert "127.0.0.1:1" in done.err


def test_keys_prints_a_line_of_json_for_each(
    command: CommandLine, store: neardict.Store, domain: str
) -> None:
    store.set_many(domain, {"a\n1": 1, "a2": [2], "b": b"\x00"})
    assert sorted(line["key"] for line in command("keys", domain).lines) == ["a\n1", "a2", "b"]
    listed = command("keys", domain, "--prefix", "a", "--values").lines
    assert sorted((line["key"], line["value"]) for line in listed) == [("a\n1", 1), ("a2", [2])]
    assert command("keys", f"{domain}.empty") == (0, b"", "")


def test_a_damaged_entry_exits_with_6_and_hides_no_other(
    command: CommandLine, store: neardict.Store, json_domain: str, json_folder: Path, tmp_path: Path
) -> None:
    store.set_many(json_domain, {"good": 1, "bad": 2})
    (json_folder / "bad.json").write_text("{ cut o")
    assert command("get", json_domain, "bad").code == 6
    for listing in (command("keys", json_domain, "--values"), command("export", json_domain)):
        assert listing.code == 6
        assert [line["key"] for line in listing.lines if "key" in line] == ["good"]
        assert "bad" in listing.err
    assert command("export", json_domain, "--output", tmp_path / "file").code == 6
    assert '"good"' in (tmp_path / "file").read_text()


def test_a_reader_that_goes_away_ends_a_listing_without_a_word(
    command: CommandLine, store: neardict.Store, domain: str
) -> None:
    store.set_many(domain, {f"{n:0200}": n for n in range(2000)})
    with ended(command.start("keys", domain)) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b'{"key":"000')
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_an_output_that_is_full_exits_with_74(
    command: CommandLine, store: neardict.Store, domain: str
) -> None:
    store.set_value(domain, "k", 1)
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [NEARDICT, "get", domain, "k"],
            stdout=full,
            stderr=subprocess.PIPE,
            env=command.env({}),
            check=False,
        )
    assert (done.returncode, done.stderr) == (74, b"neardict: No space left on device\n")
