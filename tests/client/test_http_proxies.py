"""Both clients behind nginx and HAProxy, with the very configurations of docs/proxies.md."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import neardict
from redis_server import free_port
from served import Served

from .either import KINDS, Either
from .gate import DEADLINE
from .threads import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE = Path(__file__).parents[2] / "docs" / "proxies.md"
# What nginx needs around the page's block, and folders that are the test's own.
NGINX = """
daemon off;
master_process off;
pid {folder}/pid;
error_log stderr error;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {block}
}}
"""
PROXIES = ["nginx", "haproxy"]
LARGE = "x" * 3_000_000


def program(proxy: str) -> str:
    # Debian has both where PATH does not always lead.
    found = shutil.which(proxy) or shutil.which(proxy, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip(f"{proxy} is not installed")
    return found


@contextmanager
def proxied(
    proxy: str, target: str, folder: Path, change: Callable[[str], str] = lambda block: block
) -> Iterator[str]:
    """Runs the proxy as the page configures it, in front of the target; gives its address."""
    address = f"127.0.0.1:{free_port()}"
    found = re.search(rf"^```{proxy}\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    assert found is not None
    block = change(found[1]).replace("127.0.0.1:50051", address).replace("127.0.0.1:50052", target)
    config = folder / f"{proxy}.conf"
    config.write_text(NGINX.format(folder=folder, block=block) if proxy == "nginx" else block)
    options = ["-p", str(folder), "-c", str(config)] if proxy == "nginx" else ["-db", "-f", str(config)]
    with subprocess.Popen(
        [program(proxy), *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as run:
        try:
            until_listens(address, run)
            yield address
        finally:
            run.terminate()
            run.communicate(timeout=DEADLINE)


def until_listens(address: str, process: subprocess.Popen[bytes]) -> None:
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + DEADLINE
    while True:
        try:
            socket.create_connection((host, int(port))).close()
        except OSError:
            assert process.poll() is None, process.stdout and process.stdout.read().decode()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        else:
            return


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("proxy", PROXIES)
def test_a_dict_works_behind_a_proxy(kind: str, proxy: str, tmp_path: Path) -> None:
    with (
        Served("--data", tmp_path / "data", env={"NEARDICT_LIMITS__MAX_VALUE_BYTES": "8000000"}) as server,
        proxied(proxy, server.address, tmp_path) as address,
        Either(kind, address, timeout=DEADLINE) as client,
        Either(kind, server.address, timeout=DEADLINE, watch=False) as another,
    ):
        cache = client(lambda store: store.dict("d"))
        # Together they are more than what nginx takes by itself.
        for number in range(300):
            client.set(cache, str(number), "x" * 8_000)
        client.set(cache, "large", LARGE)
        another(lambda store: store.set_value("d", "theirs", 1))
        until(lambda: client(lambda _: cache.fresh and dict.get(cache, "theirs") == 1))
        assert client(lambda store: store.get_value("d", "large")) == LARGE
        assert client(lambda _: len(cache)) == 302


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("proxy", PROXIES)
def test_a_proxy_that_cannot_reach_the_service_is_named(kind: str, proxy: str, tmp_path: Path) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    with (
        proxied(proxy, nobody, tmp_path) as address,
        Either(kind, address, timeout=5, watch=False) as client,
        pytest.raises(neardict.UnavailableError, match=r"HTTP proxy at .* answered 50[23] \("),
    ):
        client(lambda store: store.server_info())


@pytest.mark.parametrize("kind", KINDS)
def test_a_proxy_that_takes_too_little_is_named(kind: str, tmp_path: Path) -> None:
    with (
        Served("--data", tmp_path / "data") as server,
        proxied(
            "nginx", server.address, tmp_path, lambda block: block.replace("client_max_body_size 0;", "")
        ) as address,
        Either(kind, address, timeout=5, watch=False) as client,
        pytest.raises(neardict.LimitExceededError, match=r"answered 413 .*client_max_body_size 0"),
    ):
        client(lambda store: store.set_value("d", "k", LARGE))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("answer", ["return 404;", "return 200 '<html>';"])
def test_a_web_server_is_told_from_neardict(kind: str, answer: str, tmp_path: Path) -> None:
    with (
        proxied(
            "nginx", "127.0.0.1:1", tmp_path, lambda block: re.sub(r"grpc_pass [^;]*;", answer, block)
        ) as address,
        Either(kind, address, timeout=5, watch=False) as client,
        pytest.raises(neardict.ServiceError, match="does not forward"),
    ):
        client(lambda store: store.server_info())
