"""Where gevent or eventlet has patched threads, and gRPC does not know, connect says so at once."""

import importlib.util
import subprocess
import sys
from types import SimpleNamespace

import pytest

import neardict
from neardict import _green_threads, aio
from served import Served

USE = """
import sys
import neardict
target, domain = sys.argv[1:]
try:
    store = neardict.connect(target, timeout=10)
except neardict.ClosedError as error:
    sys.exit(str(error))
with store:
    store.set_value(domain, "k", 1)
    cache = store.dict(domain, load=False)
    assert (store.dict(domain)["k"], len(cache), cache["k"]) == (1, 1, 1)
    assert store.server_info().version
"""
KNOWN = "import grpc.experimental.gevent; grpc.experimental.gevent.init_gevent()\n"
PATCHES = {
    "gevent": ("import gevent.monkey; gevent.monkey.patch_all()\n", "init_gevent"),
    "gevent, without threads": (
        "import gevent.monkey; gevent.monkey.patch_all(thread=False)\n",
        "queue=False",
    ),
    "gevent, without threads and queues": (
        "import gevent.monkey; gevent.monkey.patch_all(thread=False, queue=False)\n",
        "",
    ),
    "gevent, and gRPC knows": ("import gevent.monkey; gevent.monkey.patch_all()\n" + KNOWN, ""),
    "eventlet": ("import eventlet; eventlet.monkey_patch()\n", "thread=False"),
    "eventlet, without threads": ("import eventlet; eventlet.monkey_patch(thread=False)\n", ""),
}


@pytest.mark.parametrize("name", list(PATCHES))
def test_a_process_with_green_threads_works_or_is_told_what_to_do(
    server: Served, domain: str, name: str
) -> None:
    patch, told = PATCHES[name]
    if importlib.util.find_spec(name.partition(",")[0]) is None:
        pytest.skip("not installed")
    ended = subprocess.run(
        [sys.executable, "-c", patch + USE, server.address, domain],
        timeout=60,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == bool(told), ended.stderr
    assert told in ended.stderr


@pytest.mark.parametrize(
    ("gevent", "known", "works"),
    [
        (["threading", "queue", "socket"], False, False),
        (["threading", "queue", "socket"], True, True),
        (["queue", "socket"], False, False),
        (["queue", "socket"], True, False),
        (["socket"], False, True),
    ],
)
async def test_what_gevent_has_patched_decides(
    monkeypatch: pytest.MonkeyPatch, gevent: list[str], *, known: bool, works: bool
) -> None:
    patched = SimpleNamespace(is_module_patched=gevent.__contains__)
    monkeypatch.setitem(sys.modules, "gevent.monkey", patched)
    monkeypatch.setitem(sys.modules, "grpc._cython.cygrpc", SimpleNamespace(g_gevent_activated=known))
    if works:
        _green_threads.check()
        return
    for connect in (neardict.connect, aio.connect):
        with pytest.raises(neardict.ClosedError, match="init_gevent"):
            connect("localhost:1")


@pytest.mark.parametrize("works", [False, True])
def test_so_does_what_eventlet_has(server: Served, monkeypatch: pytest.MonkeyPatch, *, works: bool) -> None:
    patched = SimpleNamespace(is_monkey_patched=lambda name: name == "thread" and not works)
    monkeypatch.setitem(sys.modules, "eventlet.patcher", patched)
    if works:
        neardict.connect(server.address, watch=False).close()
    else:
        with pytest.raises(neardict.ClosedError, match=r"monkey_patch\(thread=False\)"):
            neardict.connect(server.address, watch=False)
