"""Which peers are on this machine, and what to install for the others."""

import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

from ..backends import binaries

PACKAGES = ("cachetools", "diskcache", "py-key-value-aio", "moobius")


# Programs that are no Python packages, and what Debian calls what they are in.
DEBIAN = {"etcd": "etcd-server", "h2load": "nghttp2-client"}


def wanted() -> list[str]:
    """Returns the Debian packages of what is not here."""
    missing = [package for name, package in DEBIAN.items() if shutil.which(name) is None]
    return missing if any(binaries()) else [*missing, "redis-server"]


def versions() -> str:
    """Returns a sentence with the packages and programs that are here."""
    found = [f"{name} {metadata.version(name)}" for name in PACKAGES]
    # The first serves; a later one may be there for what needs a newer Redis.
    found += [f"redis-server {version(program)}" for program in binaries()]
    found += [f"{name} {version(Path(path))}" for name in DEBIAN if (path := shutil.which(name))]
    return f"Peers: {', '.join(found)}."


def version(program: Path) -> str:
    """Returns the first version number in what `--version` says."""
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    number = re.search(r"\d+(?:\.\d+)+", done.stdout)
    return number[0] if number else "of an unknown version"
