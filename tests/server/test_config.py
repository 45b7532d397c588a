"""Reading a configuration: what wins over what, and every mistake with its key path."""

import json
from pathlib import Path
from typing import Any

import pytest

from neardict_server.config import Config, ConfigError, load


def from_toml(folder: Path, text: str, **environ: str) -> Config:
    path = folder / "neardict.toml"
    path.write_text(text)
    return load(path, environ=environ)


def mistakes(folder: Path, text: str, **environ: str) -> list[str]:
    """Returns the lines about the mistakes; the first line, which names the source, is left out."""
    with pytest.raises(ConfigError) as caught:
        from_toml(folder, text, **environ)
    first, *lines = str(caught.value).splitlines()
    assert first == f"{folder / 'neardict.toml'} has mistakes:"
    assert all(line.startswith("  ") for line in lines)
    return [line.strip() for line in lines]


def paths(folder: Path, text: str, **environ: str) -> list[str]:
    return [line.partition(": ")[0] for line in mistakes(folder, text, **environ)]


def test_without_anything_sqlite_serves_every_domain_on_loopback() -> None:
    config = load()
    assert (config.listen, config.data_dir, config.default) == (
        "127.0.0.1:50051",
        Path("neardict-data"),
        "sqlite",
    )
    assert {name: entry.implementation for name, entry in config.backends.items()} == {"sqlite": "sqlite"}


def test_the_environment_wins_over_the_file_and_the_command_line_over_both(tmp_path: Path) -> None:
    path = tmp_path / "neardict.toml"
    path.write_text('listen = "127.0.0.1:1"\ndata_dir = "of-the-file"\nshutdown_grace_seconds = 3\n')
    environ = {"NEARDICT_LISTEN": "127.0.0.1:2", "NEARDICT_DATA_DIR": "of-the-environment", "HOME": "/"}
    config = load(path, environ=environ, overrides={"listen": "127.0.0.1:3", "data_dir": None})
    assert config.listen == "127.0.0.1:3"
    assert config.data_dir == Path("of-the-environment")
    assert config.shutdown_grace_seconds == 3


def test_two_underscores_reach_into_tables(tmp_path: Path) -> None:
    config = from_toml(
        tmp_path,
        """
        limits.max_json_depth = 9
        backends.main = { implementation = "redis", settings = { host = "kept" } }
        """,
        NEARDICT_LIMITS__MAX_VALUE_BYTES="12345",
        NEARDICT_BACKENDS__MAIN__SETTINGS__PASSWORD="12345",
        NEARDICT_BACKENDS__OTHER__IMPLEMENTATION="memory",
        NEARDICT_DEFAULT="other",
    )
    assert (config.limits.max_value_bytes, config.limits.max_json_depth) == (12345, 9)
    assert config.backends["main"].settings == {"host": "kept", "password": "12345"}
    assert config.backends["other"].implementation == "memory"
    assert config.default == "other"


def test_a_mistake_tells_where_it_comes_from_if_not_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "neardict.toml"
    path.write_text("shutdown_grace_seconds = -1")
    environ = {"NEARDICT_LIMITS__MAX_VALUE_BYTE": "1", "NEARDICT_LISTEN": "nowhere", "NEARDICT_WORKER": "2"}
    with pytest.raises(ConfigError) as caught:
        load(path, environ=environ, overrides={"workers": 0})
    first, *lines = str(caught.value).splitlines()
    assert first == f"{path} has mistakes:"
    assert {line.strip().partition(":")[0]: line.partition(" (from ")[2] for line in lines} == {
        "listen": "NEARDICT_LISTEN)",
        "workers": "the command line)",
        "worker": "NEARDICT_WORKER)",
        "limits.max_value_byte": "NEARDICT_LIMITS__MAX_VALUE_BYTE)",
        "shutdown_grace_seconds": "",
    }
    with pytest.raises(ConfigError, match=r"^the configuration has mistakes:\n  listen: must be HOST:PORT"):
        load(environ={"NEARDICT_LISTEN": "nowhere"})


def test_a_table_in_place_of_a_list_is_told_how_to_write_it(tmp_path: Path) -> None:
    (line,) = mistakes(tmp_path, '[routes]\ndomain = "x"\nbackend = "sqlite"')
    assert line == "routes: must be a list of tables: begin each with [[routes]], in two pairs of brackets"
    (line,) = mistakes(tmp_path, 'routes = ["x"]')
    assert line == "routes.0: must be a table"


def test_a_variable_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "neardict.toml"
    path.write_text('data_dir = "here"')
    assert load(environ={"NEARDICT_CONFIG": str(path)}).data_dir == Path("here")
    other = tmp_path / "other.toml"
    other.write_text('data_dir = "there"')
    assert load(other, environ={"NEARDICT_CONFIG": str(path)}).data_dir == Path("there")


def test_the_target_of_clients_is_no_setting_of_the_server() -> None:
    assert load(environ={"NEARDICT_TARGET": "localhost:1", "NEARDICTIONARY": "no", "PATH": "/bin"}) == load()


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("lisen = 'x:1'", "lisen"),
        ("limits.max_value_byte = 1", "limits.max_value_byte"),
        ("backends.a.implementation = 'memory'\nbackends.a.setting.x = 1", "backends.a.setting"),
        (
            "backends.a.implementation = 'memory'\nroutes = [{domain = '*', backend = 'a', x = 1}]",
            "routes.0.x",
        ),
        ("listen = 5", "listen"),
        ("data_dir = 5", "data_dir"),
        ("default = 5", "default"),
        ("shutdown_grace_seconds = 'long'", "shutdown_grace_seconds"),
        ("shutdown_grace_seconds = -1", "shutdown_grace_seconds"),
        ("shutdown_grace_seconds = nan", "shutdown_grace_seconds"),
        ("shutdown_grace_seconds = inf", "shutdown_grace_seconds"),
        ("limits = 5", "limits"),
        ("limits.max_value_bytes = 0", "limits.max_value_bytes"),
        ("limits.max_value_bytes = 268435457", "limits.max_value_bytes"),
        ("limits.max_value_bytes = 1.5", "limits.max_value_bytes"),
        ("limits.max_json_depth = 501", "limits.max_json_depth"),
        ("backends = 5", "backends"),
        ("backends = []", "backends"),
        ("[backends]", "backends"),
        ("backends.a = 5", "backends.a"),
        ("backends.a.settings = {}", "backends.a.implementation"),
        ("backends.a = { implementation = 5 }", "backends.a.implementation"),
        ("backends.a = { implementation = 'sqlite', settings = 5 }", "backends.a.settings"),
        ("routes = 5", "routes"),
        ("routes = [5]", "routes.0"),
        ("routes = [{ domain = '*' }]", "routes.0.backend"),
        ("routes = [{ backend = 'sqlite' }]", "routes.0.domain"),
        ("routes = [{ domain = '', backend = 'sqlite' }]", "routes.0.domain"),
        ("routes = [{ domain = '*', backend = 'nope' }]", "routes.0.backend"),
        ("default = 'nope'", "default"),
        ("backends.a.implementation = 'memory'\nbackends.b.implementation = 'null'", "default"),
    ],
)
def test_a_mistake_names_its_key_path(text: str, path: str, tmp_path: Path) -> None:
    assert paths(tmp_path, text) == [path]


@pytest.mark.parametrize(
    "listen",
    [
        *("", ":", "50051", "127.0.0.1", "127.0.0.1:", ":50051", "127.0.0.1:65536", "127.0.0.1:99999", "a:b"),
        *(
            "a:-1",
            "a:1_0",
            "a:١",
            "::1:50051",
            "[::1]",
            "[]:1",
            "http://a:1",
            "a:1/x",
            "a b:1",
            "a:1 ",
            "a:1\n",
        ),
    ],
)
def test_what_is_no_address_is_refused(listen: str, tmp_path: Path) -> None:
    (line,) = mistakes(tmp_path, f"listen = {json.dumps(listen)}")
    assert line == (
        "listen: must be HOST:PORT with a port from 0 to 65535, as in 127.0.0.1:50051 or [::1]:50051"
    )


@pytest.mark.parametrize(
    "listen", ["127.0.0.1:0", "0.0.0.0:65535", "[::1]:1", "[fe80::1%eth0]:1", "a-b.c:80"]
)
def test_what_is_an_address_is_accepted(listen: str, tmp_path: Path) -> None:
    assert from_toml(tmp_path, f"listen = {json.dumps(listen)}").listen == listen


def test_several_mistakes_are_told_together(tmp_path: Path) -> None:
    text = """
        lisen = "x"
        shutdown_grace_seconds = "planted"
        limits.max_value_bytes = -5
        routes = [{ domain = 7, backend = "sqlite" }, { backend = "sqlite" }]
        [backends.a]
        settings = {}
    """
    assert paths(tmp_path, text, NEARDICT_LIMITS__MAX_JSON_DEPTH="planted") == [
        "shutdown_grace_seconds",
        "limits.max_value_bytes",
        "limits.max_json_depth",
        "backends.a.implementation",
        "routes.0.domain",
        "routes.1.domain",
        "lisen",
    ]
    with pytest.raises(ConfigError) as caught:
        from_toml(tmp_path, text, NEARDICT_LIMITS__MAX_JSON_DEPTH="planted")
    assert "planted" not in str(caught.value)


def test_all_backends_that_do_not_exist_are_told_together(tmp_path: Path) -> None:
    text = """
        default = "c"
        backends.a.implementation = "memory"
        routes = [{ domain = "1", backend = "a" }, { domain = "2", backend = "b" }]
    """
    assert mistakes(tmp_path, text) == [
        "default: no backend is named 'c'; there are a",
        "routes.1.backend: no backend is named 'b'; there are a",
    ]


@pytest.mark.parametrize(
    ("variable", "path"),
    [
        ("NEARDICT_LISEN", "lisen"),
        ("NEARDICT_LIMITS", "limits"),
        ("NEARDICT_LIMITS__X", "limits.x"),
        ("NEARDICT_LIMITS__MAX_VALUE_BYTES", "limits.max_value_bytes"),
        ("NEARDICT_LIMITS__MAX_VALUE_BYTES__X", "limits.max_value_bytes"),
        ("NEARDICT_BACKENDS__A__SETTINGS__X", "backends.a.implementation"),
        ("NEARDICT_BACKENDS", "backends"),
        ("NEARDICT_ROUTES", "routes"),
    ],
)
def test_a_mistake_in_a_variable_names_the_key_path_too(variable: str, path: str, tmp_path: Path) -> None:
    assert paths(tmp_path, "", **{variable: "planted"}) == [path]


@pytest.mark.parametrize("variable", ["NEARDICT_LISTEN__X", "NEARDICT_ROUTES__0__DOMAIN"])
def test_a_variable_below_what_is_no_table_is_named(variable: str, tmp_path: Path) -> None:
    text = "listen = 'a:1'\nroutes = [{ domain = '*', backend = 'sqlite' }]"
    with pytest.raises(ConfigError, match=f"the variable {variable} names a part of `[a-z]+`, which is no"):
        from_toml(tmp_path, text, **{variable: "x"})


@pytest.mark.parametrize("variable", ["NEARDICT_", "NEARDICT___X", "NEARDICT_LIMITS__"])
def test_a_variable_with_a_hole_in_its_name_is_named(variable: str) -> None:
    with pytest.raises(ConfigError, match=f"the variable {variable} "):
        load(environ={variable: "x"})


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.toml", b"listen =", "is not TOML: Invalid value (at end of document)"),
        ("a.toml", b'listen = "a"\nlisten = "b"\n', "is not TOML: Cannot overwrite a value (at line 2"),
        ("a.toml", b"listen = '\xff'", "is not UTF-8 text"),
        ("a.toml", "listen = 'a:1'".encode("utf-16"), "is not UTF-8 text"),
        ("a.toml", b"a = " + b"[" * 100_000, "nests too deep"),
        ("a.toml", b"a = " + b"9" * 10_000, "a number of too many digits"),
        ("a.json", b"{", "is not JSON: Expecting property name"),
        ("a.json", b"", "is not JSON: Expecting value at line 1"),
        ("a.JSON", b"listen = 'a:1'", "is not JSON"),
        ("a.json", b"\xff", "is not UTF-8 text"),
        ("a.json", b"[" * 100_000, "nests too deep"),
        ("a.json", b"9" * 10_000, "a number of too many digits"),
        ("a.json", b"5", "db_config: must be"),
        ("a.json", b"[]", "db_config: must be"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.toml", tmp_path):
        with pytest.raises(ConfigError, match=f"cannot read the configuration {path}: "):
            load(path)
        with pytest.raises(ConfigError, match=f"cannot read the configuration {path}: "):
            load(environ={"NEARDICT_CONFIG": str(path)})


def test_a_moobius_file_routes_a_domain_by_its_last_segment(tmp_path: Path) -> None:
    path = tmp_path / "db.json"
    entries: list[dict[str, Any]] = [
        {"implementation": "json", "name": "health", "settings": {"root_dir": str(tmp_path)}},
        {"implementation": "Redis", "name": "rooms", "settings": {"port": 1}, "load": True, "clear": False},
    ]
    path.write_text(json.dumps(entries))
    config = load(path, environ={"NEARDICT_LISTEN": "127.0.0.1:7"})
    assert config.listen == "127.0.0.1:7"
    served = {route.domain: config.backends[route.backend].implementation for route in config.routes}
    assert served == {"health": "json", "*.health": "json", "rooms": "redis", "*.rooms": "redis"}
