"""The real server for each backend: the served binary, with a configuration file, a process for each."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

# How the tests start real servers is how they are started here.
sys.path.append(str(Path(__file__).parent.parent / "tests"))

from coherence.proxy import Proxy as Proxy
from redis_server import RedisServer as RedisServer
from redis_server import binaries as binaries
from redis_server import free_port as free_port
from served import Served as Served

NAMES = ("sqlite", "json", "memory", "null", "redis")


@contextmanager
def served(names: Iterable[str]) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """Gives the addresses by backend, and the reasons by backend for those that did not start.

    Their data is in the folder for temporary files ($TMPDIR), which decides what durability costs.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="neardict-bench-")))
        addresses: dict[str, str] = {}
        failures: dict[str, str] = {}
        for name in names:
            try:
                addresses[name] = _start(name, folder / name, stack).address
            except (OSError, RuntimeError, ImportError) as error:
                failures[name] = str(error).strip()
        yield addresses, failures


@contextmanager
def one(name: str, redis: RedisServer | None = None) -> Iterator[Served]:
    """Gives the server of this backend, on this Redis if it has one. Raises what starting it raises."""
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="neardict-bench-"))
        yield _start(name, Path(folder, name), stack, redis)


def _start(name: str, folder: Path, stack: ExitStack, redis: RedisServer | None = None) -> Served:
    folder.mkdir()
    lines = [f"[backends.{name}]", f'implementation = "{name}"']
    if name == "redis":
        # As Redis comes: in memory, without an append-only file.
        redis = redis or stack.enter_context(RedisServer())
        lines.append(f'settings = {{ url = "{redis.url}" }}')
    config = folder / "neardict.toml"
    config.write_text("\n".join(lines), encoding="utf-8")
    return stack.enter_context(Served("--config", config, "--data", folder / "data"))
