"""How the command line starts: options, commands of other packages, and what is not installed."""

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from command_line import CommandLine
from neardict import errors
from neardict.cli.exit_codes import MEANING, ExitCode, code_of
from neardict.cli.options import DURATION

ROOT = Path(__file__).parents[2]
NOWHERE = CommandLine("127.0.0.1:1")


def python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


@pytest.fixture
def added(tmp_path: Path) -> str:
    """A package that adds one command that works and two that do not."""
    info = tmp_path / "added-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: added\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[neardict.commands]\n"
        "works = added_works:hello\n"
        "broken = added_broken:hello\n"
        "odd = added_works:NUMBER\n"
    )
    (tmp_path / "added_works.py").write_text(
        "import click\nNUMBER = 1\n@click.command()\n@click.option('--name')\ndef hello(name):\n"
        "    click.echo(f'hello {name}')\n    raise ValueError('a secret')\n"
    )
    (tmp_path / "added_broken.py").write_text("import no_such_module\n")
    return str(tmp_path)


def test_help_lists_all_commands_and_imports_none_of_other_packages(added: str) -> None:
    done = NOWHERE("--help", PYTHONPATH=added)
    assert done.code == 0
    commands = re.findall(r"^  (\w+)  ", done.text.partition("Commands:")[2], re.MULTILINE)
    assert commands == sorted(
        [
            "broken",
            "delete",
            "export",
            "get",
            "import",
            "keys",
            "odd",
            "ping",
            "serve",
            "set",
            "watch",
            "works",
        ]
    )
    program = "from neardict.cli.run import run; import sys; run(['--help']); print(*sys.modules)"
    assert "neardict_server.serve" not in python(program).stdout.split()


def test_a_command_that_cannot_be_loaded_fails_alone(added: str) -> None:
    done = NOWHERE("broken", PYTHONPATH=added)
    assert (done.code, done.err.count("\n")) == (70, 1)
    assert "no_such_module" in done.err
    assert NOWHERE("odd", PYTHONPATH=added).code == 70
    assert NOWHERE("serve", "--help", PYTHONPATH=added).code == 0


def test_a_mistake_in_a_command_tells_its_place_and_no_value(added: str) -> None:
    done = NOWHERE("works", "--name", "you", PYTHONPATH=added)
    assert (done.code, done.out) == (70, b"hello you\n")
    assert done.err == (
        "neardict: unexpected ValueError at added_works.py:7: this is a mistake of neardict, report it\n"
    )


def test_without_a_command_it_shows_the_help() -> None:
    done = NOWHERE()
    assert (done.code, done.out) == (2, b"")
    assert done.err.startswith("Usage: neardict ")


def test_without_click_it_tells_what_to_install() -> None:
    done = python("import sys; sys.modules['click'] = None; from neardict.cli import main; main()")
    assert (done.returncode, done.stdout) == (70, "")
    assert "pip install 'neardict[server]'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_module_runs_as_the_command_does() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "neardict.cli", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("neardict, version ")


def test_the_target_may_stand_on_either_side_of_the_command(command: CommandLine) -> None:
    assert NOWHERE("--target", command.target, "ping").line["target"] == command.target
    assert NOWHERE("--target", "127.0.0.1:2", "ping", "--target", command.target).code == 0
    refused = NOWHERE("--target", "http://localhost", "ping")
    assert (refused.code, refused.err.count("\n")) == (4, 1)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30", 30), ("250ms", 0.25), ("5m", 300), ("1.5h", 5400), ("7d", 604800)]
)
def test_a_duration_has_a_unit_or_is_in_seconds(text: str, seconds: float) -> None:
    @click.command()
    @click.option("--for", "span", type=DURATION)
    def show(span: float) -> None:
        click.echo(span)

    assert float(CliRunner().invoke(show, ["--for", text]).output) == seconds
    assert CliRunner().invoke(show, ["--for", f"{text}x"]).exit_code == 2
    assert CliRunner().invoke(show, ["--for", "0"]).exit_code == 2


def test_errors_of_the_client_have_exit_codes_that_scripts_can_tell_apart() -> None:
    assert code_of(errors.ConflictError("")) is ExitCode.CONFLICT
    assert code_of(errors.DeadlineExceededError("")) is ExitCode.UNAVAILABLE
    assert code_of(errors.PermissionDeniedError("")) is ExitCode.DENIED
    assert code_of(errors.ServiceError("")) is ExitCode.INTERNAL
    assert MEANING.keys() == set(ExitCode)


def test_the_page_has_the_table_of_exit_codes() -> None:
    page = (ROOT / "docs/cli.md").read_text()
    rows = dict(re.findall(r"^\| (\d+) \| (.*) \|$", page, re.MULTILINE))
    assert rows == {str(int(code)): meaning for code, meaning in MEANING.items()}


def test_every_mistake_of_a_configuration_has_a_line_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "neardict.toml").write_text("one = 1\ntwo = 2\n[backends.disk]\nimplementation = 'sqlite'\n")
    first, *mistakes = NOWHERE("serve", "--config", str(tmp_path / "neardict.toml")).err.splitlines()
    assert first.startswith("neardict: ")
    assert [line.partition(":")[0] for line in mistakes] == ["  one", "  two"]
