"""What deploy/Dockerfile promises, as far as it can be seen without a container engine."""

import json
import shlex
import subprocess
import sysconfig
import tomllib
from collections.abc import Iterator
from pathlib import Path

from neardict_server.config import load
from served import Served

ROOT = Path(__file__).resolve().parents[2]


def stages() -> Iterator[list[tuple[str, str]]]:
    """Yields the instructions of each stage, as (NAME, rest)."""
    lines = (ROOT / "deploy/Dockerfile").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#")).replace("\\\n", " ")
    stage: list[tuple[str, str]] = []
    for line in text.splitlines():
        name, _, rest = line.partition(" ")
        if name == "FROM":
            yield stage
            stage = []
        if name:
            stage.append((name, rest.strip()))
    yield stage


_, BUILD, IMAGE = stages()


def of(name: str) -> str:
    """Returns what follows the one instruction of this name in the image's own stage."""
    [rest] = [rest for found, rest in IMAGE if found == name]
    return rest


def environment() -> dict[str, str]:
    return dict(setting.split("=", 1) for setting in shlex.split(of("ENV")))


def test_the_image_runs_as_a_numbered_user_who_is_not_root() -> None:
    user, group = of("USER").split(":")
    assert int(user) > 0
    assert int(group) > 0
    [data] = [rest for name, rest in IMAGE if name == "RUN" and rest.startswith("install -d")]
    assert f"-o {user} -g {group} " in data
    assert data.split()[-1] == of("VOLUME")


def test_signals_reach_the_server_because_no_shell_stands_between() -> None:
    entry = json.loads(of("ENTRYPOINT"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert [*entry, *json.loads(of("CMD"))] == ["neardict", "serve"]
    assert set(entry) <= set(project["scripts"])
    assert of("STOPSIGNAL") == "SIGTERM"


def test_the_image_serves_its_port_to_others_from_its_volume() -> None:
    config = load(environ=environment())
    assert config.listen == f"0.0.0.0:{of('EXPOSE')}"
    assert str(config.data_dir) == of("VOLUME")


def test_the_health_check_tells_a_server_that_is_up_from_one_that_is_down(tmp_path: Path) -> None:
    tool, *words = json.loads(of("HEALTHCHECK").partition("CMD")[2])
    with Served("--data", tmp_path) as server:
        here = [word.replace(f"127.0.0.1:{of('EXPOSE')}", server.address) for word in words]
        assert server.address in here
        command = [Path(sysconfig.get_path("scripts"), tool), *here]
        up = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert up.returncode == 0, up.stdout + up.stderr
        server.stop()
        down = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert down.returncode != 0, down.stdout + down.stderr


def test_the_build_is_given_what_it_copies_and_nothing_else() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert rules[0] == "*"
    given = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    assert [path for path in given if not (ROOT / path).exists()] == []
    copied = {word for name, rest in BUILD if name == "COPY" for word in rest.split()[:-1]}
    assert {path for path in given if not any(Path(path).is_relative_to(each) for each in copied)} == set()
    assert {each for each in copied if not any(Path(path).is_relative_to(each) for path in given)} == set()


def test_the_build_is_given_what_the_wheel_is_made_of() -> None:
    given = (ROOT / ".dockerignore").read_text().splitlines()
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project, wheel = settings["project"], settings["tool"]["hatch"]["build"]["targets"]["wheel"]
    for path in (*wheel["packages"], *project["license-files"], project["readme"], "pyproject.toml"):
        assert f"!{path}" in given
