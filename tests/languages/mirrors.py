"""Processes with a map that follows a domain: by neardict's dicts, or by stubs alone in other languages."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, Self

import pytest

from coherence.running import environment

from .toolchains import BUF, PROTOS, needed, run

HERE = Path(__file__).parent
OLDEST_NODE = 18

# Both take the same lines as the programs in go/ and node/.
PYTHON = {
    "python": """
        import json, sys
        import neardict

        target, domain = sys.argv[1:]
        with neardict.connect(target) as store:
            mirror = store.dict(domain)
            for line in sys.stdin:
                act, _, rest = line.strip().partition(" ")
                key, _, text = rest.partition(" ")
                if act == "set":
                    mirror[key] = json.loads(text)
                elif act == "delete":
                    del mirror[key]
                try:
                    entries = mirror.copy() if mirror.fresh else None
                except neardict.UnavailableError:
                    entries = None
                print(json.dumps({"fresh": entries is not None, "entries": entries}), flush=True)
        """,
    "asyncio": """
        import asyncio, json, sys
        import neardict
        from neardict import aio

        async def main(target, domain):
            loop = asyncio.get_running_loop()
            async with aio.connect(target) as store:
                mirror = await store.dict(domain)
                while line := await loop.run_in_executor(None, sys.stdin.readline):
                    act, _, rest = line.strip().partition(" ")
                    key, _, text = rest.partition(" ")
                    if act == "set":
                        await mirror.set(key, json.loads(text))
                    elif act == "delete":
                        await mirror.delete(key)
                    try:
                        entries = mirror.copy() if mirror.fresh else None
                    except neardict.NotHeldError:
                        entries = None
                    print(json.dumps({"fresh": entries is not None, "entries": entries}), flush=True)

        asyncio.run(main(*sys.argv[1:]))
        """,
}


class Mirror:
    """One such process, until the context ends."""

    def __init__(self, command: list[str | Path]) -> None:
        self._process = subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.kill()
        self._process.communicate()

    def shows(self) -> dict[str, Any]:
        """Returns whether it is fresh, and its entries."""
        return self._does("show")

    def set(self, key: str, value: Any) -> None:
        self._does(f"set {key} {json.dumps(value)}")

    def delete(self, key: str) -> None:
        self._does(f"delete {key}")

    def _does(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(line, file=self._process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


def python_mirror(style: str, target: str, domain: str) -> Mirror:
    return Mirror([sys.executable, "-c", textwrap.dedent(PYTHON[style]), target, domain])


def build_go(folder: Path) -> Path:
    """Builds the Go programs in a copy, and returns where."""
    needed("go")
    program = Path(shutil.copytree(HERE / "go", folder / "go"))
    known = subprocess.run(["go", "list", "-m"], cwd=program, capture_output=True, text=True, check=False)
    if known.returncode != 0:
        pytest.skip(f"this go is older than tests/languages/go/go.mod asks: {known.stderr.strip()}")
    run(BUF, "generate", PROTOS, cwd=program)
    run("go", "build", "-o", "check", ".", cwd=program)
    run("go", "build", "-o", "mirror/mirror", "./mirror", cwd=program)
    return program


def prepare_node(folder: Path) -> Path:
    """Installs what the Node programs need in a copy, and returns where."""
    needed("node", "npm")
    version = run("node", "--version", cwd=folder)
    if int(re.findall(r"\d+", version)[0]) < OLDEST_NODE:
        pytest.skip(f"needs node {OLDEST_NODE} or later, and this one is {version.strip()}")
    ignored = shutil.ignore_patterns("node_modules")
    program = Path(shutil.copytree(HERE / "node", folder / "node", ignore=ignored))
    run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", cwd=program)
    return program
