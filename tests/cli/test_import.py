"""import: data of every form comes in as it is meant, and whatever cannot is reported."""

import json
from pathlib import Path
from typing import Any

import pytest

import neardict
from command_line import CommandLine, Done

FILES = {
    "plain": '{\n  "hp": 1.10,\n  "big": 9007199254740993\n}',
    "marked": '{"_moobius_type": "models.Hero", "_moobius_val": {"hp": 3}}',
    "old": '{"old": {"hp": 1.50}, "_type": "Hero"}',
    "older": '{"_type": "models.Hero", "older": [1]}',
    "bare": '{"bare": "text", "_type": "str"}',
    "none": '{"none": null, "_type": "builtins.NoneType"}',
    "a@b": "1",
    "per%20cent": "2",
    "slash%2Fdot%2E": "3",
    "not_old": '{"not_old": 1, "_type": "no class"}',
    "kind": '{"other": 1, "_type": "str"}',
    "bytes": '{"_neardict_raw": "AP8="}',
    "wrapped": '{"_neardict_json": {"wrapped": 1, "_type": "int"}}',
    "bom": "\ufeff[]",
}
STORED = {
    "plain": {"hp": 1.1, "big": 9007199254740993},
    "marked": {"_moobius_type": "models.Hero", "_moobius_val": {"hp": 3}},
    "old": {"_moobius_type": "Hero", "_moobius_val": {"hp": 1.5}},
    "older": {"_moobius_type": "models.Hero", "_moobius_val": [1]},
    "bare": "text",
    "none": None,
    "a@b": 1,
    "per%20cent": 2,
    "slash/dot.": 3,
    "not_old": {"not_old": 1, "_type": "no class"},
    "kind": {"other": 1, "_type": "str"},
    "bytes": b"\x00\xff",
    "wrapped": {"wrapped": 1, "_type": "int"},
    "bom": [],
}


@pytest.fixture
def root(tmp_path: Path, domain: str) -> Path:
    """A folder that holds the domain."""
    folder = tmp_path.joinpath("root", *domain.split("."))
    folder.mkdir(parents=True)
    for name, text in FILES.items():
        (folder / f"{name}.json").write_text(text)
    return tmp_path / "root"


def folder_of(root: Path, domain: str) -> Path:
    return root.joinpath(*domain.split("."))


def counts(done: Done) -> dict[str, Any]:
    return {name: number for name, number in done.line.items() if number}


def test_all_generations_of_files_are_taken(
    command: CommandLine, store: neardict.Store, domain: str, root: Path, tmp_path: Path
) -> None:
    done = command("import", root, "--report", tmp_path / "report")
    assert (done.code, done.err) == (0, "")
    assert counts(done) == {"imported": len(FILES), "converted": 4}
    assert dict(store.dict(domain)) == STORED
    assert store.lookup(domain, "plain").entry.value.json == '{"hp":1.10,"big":9007199254740993}'
    report = [json.loads(line) for line in (tmp_path / "report").read_text().splitlines()]
    assert {line["key"]: line["conversion"] for line in report} == {
        "old": "older form of a Hero",
        "older": "older form of a models.Hero",
        "bare": "older form of a str",
        "none": "older form of a builtins.NoneType",
    }


def test_what_cannot_be_imported_is_reported_and_the_rest_is_imported(
    command: CommandLine, store: neardict.Store, domain: str, root: Path, tmp_path: Path
) -> None:
    folder = folder_of(root, domain)
    contents = {
        "nan.json": b'{"secret": NaN}',
        "torn.json": b'{"secret": ',
        "empty.json": b"",
        "latin.json": b'"\xe9"',
        "surrogate.json": b'"\\ud800"',
        "large.json": b'"' + b"x" * 2**20 + b'"',
        "huge.json": b" " * (2**20 * 32) + b" 1",
        "deep.json": b"[" * 70 + b"]" * 70,
        "notes.txt": b"secret",
        "%00.json": b"1",
        f"{'x' * 100}%~{'0' * 64}.json": b"1",
        "k%C3%A9.json": b"1",
        "odd.json": b'{"_neardict_raw": "no base64"}',
        "a%40b.json": b"4",
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    (folder / "linked").symlink_to(root)
    (folder / "gone.json").symlink_to(root / "nowhere")
    (folder / ".DS_Store").write_bytes(b"")
    (folder / "v1.0").mkdir()
    (folder / ".git").mkdir()
    (root / "top.json").write_text("1")
    done = command("import", root, "--report", tmp_path / "report")
    assert done.code == 4
    report = [json.loads(line) for line in (tmp_path / "report").read_text().splitlines()]
    refused = {line["origin"]: line["reason"] for line in report if line["outcome"] == "refused"}
    place = "/".join(domain.split("."))
    # a@b.json gives way to a%40b.json, which is neardict's own name of that key; k%C3%A9 is a name in itself.
    names = {*contents, "linked", "gone.json", "v1.0", "a@b.json"} - {"a%40b.json", "k%C3%A9.json"}
    assert refused.keys() == {f"{place}/{name}" for name in names} | {"top.json"}
    ignored = {line["origin"] for line in report if line["outcome"] == "ignored"}
    assert ignored == {f"{place}/.DS_Store", f"{place}/.git"}
    assert "secret" not in done.err + str(refused)
    assert done.err.count("\n") == min(len(refused), 21)
    assert counts(done) == {"imported": len(FILES) + 1, "converted": 4, "refused": len(refused), "ignored": 2}
    assert dict(store.dict(domain)) == STORED | {"a@b": 4, "k%C3%A9": 1}


def test_a_second_import_finds_all_of_it_done(
    command: CommandLine, store: neardict.Store, domain: str, root: Path
) -> None:
    command("import", root)
    before = {entry.key: entry.revision for entry in store.all_entries(domain)}
    done = command("import", root)
    assert (done.code, counts(done)) == (0, {"present": len(FILES), "converted": 4})
    assert {entry.key: entry.revision for entry in store.all_entries(domain)} == before


def test_other_values_are_kept_unless_they_are_to_be_overwritten(
    command: CommandLine, store: neardict.Store, domain: str, root: Path
) -> None:
    store.set_value(domain, "plain", "newer")
    kept = command("import", root)
    assert kept.code == 3
    assert counts(kept) == {"imported": len(FILES) - 1, "kept": 1, "converted": 4}
    assert "plain.json has another value" in kept.err
    assert store.get_value(domain, "plain") == "newer"
    done = command("import", root, "--overwrite")
    assert (done.code, counts(done)) == (0, {"imported": 1, "present": len(FILES) - 1, "converted": 4})
    assert dict(store.dict(domain)) == STORED


def test_a_dry_run_tells_the_same_and_writes_nothing(
    command: CommandLine, store: neardict.Store, domain: str, root: Path
) -> None:
    store.set_value(domain, "plain", "newer")
    folder = folder_of(root, domain)
    (folder / "large.json").write_text(f'"{"x" * 2**20}"')
    (folder / "deep.json").write_text("[" * 70 + "]" * 70)
    told = command("import", root, "--dry-run")
    assert dict(store.dict(domain)) == {"plain": "newer"}
    done = command("import", root)
    assert told.line == done.line | {"dry_run": True}
    assert (told.code, told.err) == (done.code, done.err)


def test_the_domain_of_a_sub_folder_can_be_given(
    command: CommandLine, store: neardict.Store, domain: str, root: Path
) -> None:
    (folder_of(root, domain) / "inner" / "%").mkdir(parents=True)
    (folder_of(root, domain) / "inner" / "%" / "k.json").write_text("1")
    done = command("import", folder_of(root, domain), "--domain", f"{domain}.elsewhere")
    assert done.code == 0
    assert dict(store.dict(f"{domain}.elsewhere")) == STORED
    assert dict(store.dict(f"{domain}.elsewhere.inner.")) == {"k": 1}


def test_an_export_comes_back_as_it_was(
    command: CommandLine, store: neardict.Store, domain: str, tmp_path: Path
) -> None:
    text = '{"a":1.10,"b":[9007199254740993,"\\u00e9 é"]}'
    command("set", domain, "json", text)
    store.set_value(domain, "raw\n", b"\x00\xff")
    store.set_value(domain, "temporary", 1, ttl=3600)
    exported = command("export", domain, "--output", tmp_path / "file")
    assert exported.line == {"domain": domain, "entries": 3, "unreadable": 0}
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    copy = f"{domain}.copy"
    assert counts(command("import", tmp_path / "file", "--domain", copy)) == {"imported": 3}
    assert store.lookup(copy, "json").entry.value.json == text
    was, now = (store.get_entry(of, "temporary") for of in (domain, copy))
    assert was is not None
    assert now is not None
    assert was.expire_time is not None
    assert now.expire_time is not None
    assert abs((was.expire_time - now.expire_time).total_seconds()) < 5
    store.delete_key(domain, "json")
    piped = command("import", "-", stdin=(tmp_path / "file").read_bytes())
    assert counts(piped) == {"imported": 1, "present": 2}
    assert store.get_value(domain, "raw\n") == b"\x00\xff"


def test_an_export_that_is_cut_off_is_imported_as_far_as_it_goes(
    command: CommandLine, store: neardict.Store, domain: str
) -> None:
    store.set_many(domain, {"a": 1, "b": 2})
    lines = command("export", domain).out.splitlines(keepends=True)
    whole = command("import", "-", stdin=b"".join(lines) * 2)
    assert (whole.code, counts(whole)) == (0, {"present": 4})
    for cut in (lines[:-1], lines[:-1] + lines):
        done = command("import", "-", stdin=b"".join(cut))
        assert (done.code, done.line["refused"]) == (4, 1)
        assert "cut off" in done.err


def test_a_broken_line_of_an_export_is_refused_alone(
    command: CommandLine, store: neardict.Store, domain: str
) -> None:
    lines = [
        {"neardict_export": 1, "domain": domain},
        {"key": "good", "value": 1},
        {"key": "expired", "value": 1, "expire_time": "2001-01-01T00:00:00Z"},
        {"key": "no time", "value": 1, "expire_time": "soon"},
        {"key": "nothing"},
        {"key": 1, "value": 1},
        {"key": "", "value": 1},
        [],
        {"end": True},
    ]
    text = "\n".join(map(json.dumps, lines)) + '\n{"key": "nan", "value": NaN}\n"\xff"\n' + '{"end": true}'
    done = command("import", "-", stdin=text.encode("latin-1"))
    assert done.code == 4
    assert counts(done) == {"imported": 1, "ignored": 1, "refused": 7}
    assert dict(store.dict(domain)) == {"good": 1}


@pytest.mark.parametrize(
    "data", [b"", b"key,value\n", b"[]\n", b'{"neardict_export": 2, "domain": "d"}\n', b"\xff\xfe"]
)
def test_what_is_no_export_is_refused(command: CommandLine, data: bytes) -> None:
    done = command("import", "-", stdin=data)
    assert (done.code, done.out, done.err.count("\n")) == (4, b"", 1)
    assert "no export" in done.err


def test_a_backend_that_cannot_expire_refuses_what_does(
    command: CommandLine, store: neardict.Store, domain: str, json_domain: str
) -> None:
    store.set_value(domain, "k", 1, ttl=3600)
    done = command("import", "-", "--domain", json_domain, stdin=command("export", domain).out)
    assert done.code == 4
    assert "CAPABILITY_TTL" in done.err


def test_an_export_replaces_a_file_wholly_or_not_at_all(
    command: CommandLine, store: neardict.Store, domain: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("before")
    failed = CommandLine("127.0.0.1:1")("export", domain, "--output", tmp_path / "file", "--timeout", "500ms")
    assert failed.code == 5
    assert (tmp_path / "file").read_text() == "before"
    (tmp_path / "link").symlink_to("file")
    store.set_value(domain, "k", 1)
    assert command("export", domain, "--output", tmp_path / "link").code == 0
    assert json.loads((tmp_path / "file").read_text().splitlines()[1])["key"] == "k"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]
    nowhere = command("export", domain, "--output", tmp_path / "nowhere" / "file")
    assert (nowhere.code, nowhere.err.count("\n")) == (74, 1)
