"""Ctrl-C at any line of ours: whatever it interrupts, the dicts show what is stored, and nothing hangs."""

import itertools
import linecache
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import neardict
from shown import shown

PACKAGE = str(Path(neardict.__file__).parent)


def interrupted(number: int, act: Callable[[], Any]) -> bool:
    """Runs the function with an interrupt at its n-th line in our package; False if it has fewer."""
    lines = itertools.count()

    def trace(frame: types.FrameType, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        # At a bare `try:` no signal is ever noticed, and what is raised there goes past its handlers.
        there = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        if event == "line" and there != "try:" and next(lines) == number:
            sys.settrace(None)
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        act()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


ACTS: dict[str, Callable[[neardict.CachedDict, neardict.Store], Any]] = {
    "look up": lambda d, store: d["b"],
    "look up what is absent": lambda d, store: d.get("none"),
    "assign": lambda d, store: d.__setitem__("a", "new"),
    "delete": lambda d, store: d.__delitem__("a"),
    "pop": lambda d, store: d.pop("a"),
    "update": lambda d, store: d.update(a="new", c="new"),
    "delete many": lambda d, store: d.delete_many(["a", "b", "none"]),
    "get many": lambda d, store: d.get_many(["a", "b", "none"]),
    "refresh": lambda d, store: d.refresh(),
    "snapshot": lambda d, store: d.snapshot(),
    "edit": lambda d, store: d.edit("a", lambda value: "new"),
    "write by the store": lambda d, store: store.set_value(d.domain, "a", "new"),
    "delete by the store": lambda d, store: store.delete_key(d.domain, "a"),
}


@pytest.mark.parametrize("name", list(ACTS))
def test_an_interrupt_wherever_it_comes_leaves_dicts_that_show_what_is_stored(
    store: neardict.Store, elsewhere: neardict.Store, domain: str, name: str
) -> None:
    cache, mirror = store.dict(domain, load=False), store.dict(domain)
    # Not every line, which would take long; of some, which have much in common, fewer.
    step = 5 if name in ("look up", "assign", "update") else 11
    for number in itertools.count(step=step):
        elsewhere.set_many(domain, {"a": f"old {number}", "b": "old"})
        if name == "update":
            elsewhere.delete_key(domain, "c")
        cache.refresh()
        mirror.refresh()
        cache._drop("b")
        if not interrupted(number, lambda: ACTS[name](cache, store)):
            break
        # A call that was given up may be on its way still; this one comes after it.
        store.delete_key(domain, "fence")
        stored = {entry.key: entry.value for entry in elsewhere.all_entries(domain)}
        for one in (cache, mirror):
            assert one.get_many(["a", "b", "c"]) == stored, number
            assert one.copy() == stored, number
            # Nothing that is held is gone, and nothing has a revision without being held.
            assert one._versions.held.keys() <= shown(one).keys(), number
            assert not one._flights, number
    assert number > 10
