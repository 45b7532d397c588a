"""Refuses a process whose threads are greenlets of which gRPC knows nothing: there every call would hang."""

from __future__ import annotations

import sys

from .errors import ClosedError

# What threads of neardict wait for each other with.
_MODULES = ("threading", "queue")


def check() -> None:
    """Raises ClosedError where gevent or eventlet has patched the standard library, and gRPC cannot work."""
    if (gevent := sys.modules.get("gevent.monkey")) is not None:
        patched = [name for name in _MODULES if gevent.is_module_patched(name)]
        # All or none of them, and gRPC too: a queue of gevent's cannot be used between real threads.
        known = getattr(sys.modules.get("grpc._cython.cygrpc"), "g_gevent_activated", False)
        if patched and not (known and len(patched) == len(_MODULES)):
            raise ClosedError(
                f"gevent has patched {', '.join(patched)}, and gRPC does not know, so that calls would hang: "
                "call gevent.monkey.patch_all() and then grpc.experimental.gevent.init_gevent(), before "
                "anything else uses gRPC, or leave threads and queues alone: "
                "patch_all(thread=False, queue=False)"
            )
    eventlet = sys.modules.get("eventlet.patcher")
    if eventlet is not None and eventlet.is_monkey_patched("thread"):
        raise ClosedError(
            "eventlet has patched threads, and gRPC does not work with its green ones, so that calls would "
            "hang: leave threads alone, eventlet.monkey_patch(thread=False), or use gevent with "
            "grpc.experimental.gevent.init_gevent()"
        )
