"""A service for the command line, with a backend of each kind that matters to it."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import neardict
from command_line import CommandLine, Done
from neardict.cli.run import run
from served import Served

CONFIG = """
[backends.sqlite]
implementation = "sqlite"
[backends.json]
implementation = "json"
settings = { root_dir = "json_db" }
[[routes]]
domain = "json.*"
backend = "json"
[[routes]]
domain = "*"
backend = "sqlite"
"""


@pytest.fixture(scope="session")
def service_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("service")


@pytest.fixture(scope="session")
def served(service_folder: Path) -> Iterator[Served]:
    (service_folder / "neardict.toml").write_text(CONFIG)
    with Served("--config", "neardict.toml", "--data", service_folder / "data", cwd=service_folder) as server:
        yield server


@pytest.fixture
def command(served: Served) -> CommandLine:
    return CommandLine(served.address)


@pytest.fixture(scope="session")
def store(served: Served) -> Iterator[neardict.Store]:
    with neardict.connect(served.address) as store:
        yield store


@pytest.fixture
def domain() -> str:
    """A domain of the test's own."""
    return f"cli.{uuid.uuid4().hex}"


@pytest.fixture
def json_domain() -> str:
    """The same, in the json backend."""
    return f"json.{uuid.uuid4().hex}"


@pytest.fixture
def json_folder(service_folder: Path, json_domain: str) -> Path:
    """Where the json backend keeps that domain."""
    return service_folder.joinpath("json_db", *json_domain.split("."))


@pytest.fixture
def here(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Runs a command that fails before it reaches a service in this process, which is quicker."""
    monkeypatch.setenv("NEARDICT_TARGET", "127.0.0.1:1")

    def command(*args: str) -> Done:
        code = run(args)
        out, err = capfd.readouterr()
        return Done(code, out.encode(), err)

    return command
