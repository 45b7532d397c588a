"""Whatever stands in a configuration, it is accepted or refused with our own errors, and nothing else."""

import json
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from neardict_server.app import serving
from neardict_server.config import BackendConfig, Config, ConfigError, load
from neardict_server.startup import StartError

WORDS = """
listen data_dir default shutdown_grace_seconds limits max_value_bytes max_json_depth routes domain backend
backends implementation settings a sqlite null name load clear root_dir path host port db url password ssl
"""
NAMES = st.sampled_from(["", *WORDS.split()])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | NAMES
    | st.just("127.0.0.1:0")
    | st.binary(max_size=3)
)
KEYS = NAMES | st.text(max_size=3)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)
TABLES = st.dictionaries(NAMES, TREES, max_size=6)
VARIABLES = st.text(string.ascii_uppercase + "_0", max_size=20).map("NEARDICT_".__add__)
FEW = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def mistake(path: Path | None = None, **more: Any) -> str:
    """Returns what `load` says, empty if it accepts; any other exception than its own is a failure."""
    try:
        load(path, **more)
    except ConfigError as error:
        return str(error)
    return ""


@FEW
@given(TABLES)
@example({"backends": "a"})
@example({"backends": {"a": {"implementation": "memory"}}, "routes": "a"})
@example({"routes": {"0": 1}})
def test_any_settings_are_accepted_or_refused_as_a_mistake(tables: dict[str, Any]) -> None:
    assert len(mistake(overrides=tables).splitlines()) != 1


@FEW
@given(st.dictionaries(VARIABLES, st.text()))
@example({"NEARDICT_LIMITS": "x", "NEARDICT_LIMITS__MAX_VALUE_BYTES": "1"})
def test_any_variables_are_accepted_or_refused_as_a_mistake(environ: dict[str, str]) -> None:
    mistake(environ={name: text for name, text in environ.items() if name != "NEARDICT_CONFIG"})


@FEW
@given(TREES | st.lists(TABLES, max_size=3))
def test_any_json_file_is_accepted_or_refused_as_a_mistake(tmp_path: Path, tree: Any) -> None:
    path = tmp_path / "db.json"
    path.write_text(json.dumps(tree, default=repr))
    said = mistake(path)
    assert not said or str(path) in said


@FEW
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_as_a_file_are_accepted_or_refused_as_a_mistake(tmp_path: Path, content: bytes) -> None:
    for name in ("neardict.toml", "db.json"):
        path = tmp_path / name
        path.write_bytes(content)
        said = mistake(path)
        assert not said or str(path) in said


@pytest.mark.parametrize("implementation", ["json", "memory", "null", "redis", "sqlite"])
@settings(max_examples=60, deadline=None, derandomize=True)
@given(TABLES)
async def test_any_settings_of_a_backend_are_accepted_or_refused_at_the_start(
    implementation: str, tables: dict[str, Any]
) -> None:
    backends = {
        "fuzzed": BackendConfig(implementation=implementation, settings=tables),
        # So that nothing is opened, whatever path the settings name.
        "stop": BackendConfig(implementation="there is none"),
    }
    with pytest.raises(StartError, match=r"backends\.stop\.implementation"):
        async with serving(Config(listen="127.0.0.1:0", backends=backends, default="stop")):
            pass
