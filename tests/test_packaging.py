"""What is installed, and what may import what."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
STUBS = ROOT / "client/python/neardict/v1"


def floor(name: str) -> str:
    (found,) = (d for d in PROJECT["dependencies"] if d.startswith(f"{name}>="))
    return str(found).removeprefix(f"{name}>=")


def imports(folder: Path) -> set[str]:
    """Returns the absolute names of the modules that the files of the folder import, anywhere in them."""
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_the_declared_floors_are_those_of_the_stubs() -> None:
    grpc_stub = (STUBS / "storage_pb2_grpc.py").read_text()
    generated = re.search(r"GRPC_GENERATED_VERSION = '([^']+)'", grpc_stub)
    assert generated is not None
    assert floor("grpcio") == generated[1]
    message_stub = (STUBS / "storage_pb2.py").read_text()
    runtime = re.search(r"ValidateProtobufRuntimeVersion\(\s*\S+\s*(\d+),\s*(\d+),\s*(\d+),", message_stub)
    assert runtime is not None
    assert floor("protobuf") == ".".join(runtime.groups())


def test_the_server_imports_the_contract_and_nothing_else_of_the_client() -> None:
    of_client = {name for name in imports(ROOT / "server") if name.split(".")[0] == "neardict"}
    assert {".".join(name.split(".")[:2]) for name in of_client} == {"neardict.v1"}


def test_the_client_imports_nothing_of_the_server() -> None:
    assert not {name for name in imports(ROOT / "client/python") if name.startswith("neardict_server")}


def test_the_client_needs_only_the_base_install() -> None:
    program = "import neardict, neardict.aio, neardict.moobius, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & {"neardict_server", "click", "orjson", "pydantic", "redis", "moobius"}


def test_the_wheel_holds_both_packages_typed(tmp_path: Path) -> None:
    builder = pytest.importorskip("hatchling.builders.wheel", reason="the build backend is not installed")
    (wheel,) = builder.WheelBuilder(str(ROOT)).build(directory=str(tmp_path))
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "neardict/__init__.py",
        "neardict/py.typed",
        "neardict/v1/storage_pb2.py",
        "neardict_server/app.py",
        "neardict_server/py.typed",
    } <= names
    assert {name.split("/")[0] for name in names} == {
        "neardict",
        "neardict_server",
        Path(wheel).name[:14] + ".dist-info",
    }


def test_the_license_is_apache() -> None:
    assert PROJECT["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()
