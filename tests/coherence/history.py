"""What the processes of a run did, and when: a file of JSON lines each, read together afterwards.

Times are of CLOCK_MONOTONIC, which all processes of a machine share. A line is written by one write to
the file, so that what a process did before kill -9 is known.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

Kind = Literal["set", "delete", "expire", "wipe", "restore", "forget", "ask", "read"]
WRITES = ("set", "delete")
# After these a write that was under way may be applied a second time: what remembers requests is gone.
LOSSES = ("wipe", "restore", "forget")
Outcome = Literal["ok", "unknown", "refused"]


@dataclass(frozen=True, slots=True)
class Op:
    """One operation. Values are unique texts, so that a read tells which write it saw; None is absent.

    A `wipe` is the loss of everything that a backend does not promise to keep; its revision is one that
    is greater than all before it and less than all after it. A `restore`, one for each key, is the return of
    the store to an older copy of itself, which held that value. At a `forget` no value is lost. An `expire`
    is the end of a value that had a time to live, as `expiry` reckons it; nobody records one. An `ask`
    reads from the service, a `read` from a dict. `client` is the store and `view` the dict; a write is made
    known to all views of its client.
    """

    kind: Kind
    client: str
    key: str
    value: str | None
    begin: float
    # When it was answered; infinite, if it was not or not clearly.
    end: float
    view: str = ""
    outcome: Outcome = "ok"
    # 0 if it is not known.
    revision: int = 0
    hit: bool = False
    # Of a read: whether the dict said so before and after.
    fresh: bool = False
    # Of a write: after so many seconds the service is to take the value away; 0 for never.
    ttl: float = 0.0


@dataclass(frozen=True, slots=True)
class Stop:
    """While a process was suspended, as the one who suspended it knows."""

    client: str
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class Final:
    """What a view, or the store itself (client ""), held when everything had come to rest.

    A view that is not `whole` holds some of the keys. It was looked at from `begin` to `end`.
    """

    client: str
    view: str
    entries: dict[str, str]
    whole: bool = True
    begin: float = math.inf
    end: float = math.inf


@dataclass(frozen=True, slots=True)
class Return:
    """After a fault that was over at `begin` a call of the client succeeded at `end`, or none had by then."""

    client: str
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class Fault:
    """Something was done to the system at `begin`, and undone at `end`."""

    kind: str
    target: str
    begin: float
    end: float


@dataclass
class History:
    """All of a run. `seen` tells when a client's dicts had a write of another: (client, value, time)."""

    ops: list[Op] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)
    finals: list[Final] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    returns: list[Return] = field(default_factory=list)
    seen: list[tuple[str, str, float]] = field(default_factory=list)


class Recorder:
    """Writes the history of one process. Thread-safe: each line is one append."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._numbers = itertools.count(1)

    def invoke(self, kind: Kind, client: str, key: str, value: str | None, ttl: float = 0.0) -> int:
        """Notes that a write begins, and returns its number; until its `answer` its outcome is unknown."""
        number = next(self._numbers)
        self._line("invoke", id=number, kind=kind, client=client, key=key, value=value, ttl=ttl, begin=now())
        return number

    def answer(self, number: int, outcome: Outcome, revision: int = 0, *, existed: bool = True) -> None:
        """Notes how the write ended. A deletion of what did not `exist` is a look that found nothing."""
        self._line("answer", id=number, outcome=outcome, revision=revision, existed=existed, end=now())

    def op(self, op: Op) -> None:
        """Notes an operation that is over."""
        self._line("op", **{name: getattr(op, name) for name in Op.__slots__})

    def seen(self, client: str, value: str) -> None:
        """Notes that a change has reached the client's dicts."""
        self._line("seen", client=client, value=value, time=now())

    def other(self, what: Stop | Final | Fault | Return) -> None:
        """Notes something that is no operation."""
        self._line(type(what).__name__, **{name: getattr(what, name) for name in type(what).__slots__})

    def _line(self, event: str, **fields: Any) -> None:
        os.write(self._file, json.dumps({"event": event, **fields}).encode() + b"\n")


def now() -> float:
    """Returns the clock that all records are in."""
    return time.monotonic()


def load(paths: Iterable[Path], until: float = math.inf) -> History:
    """Reads the files of all processes of a run, without reads that ended later.

    Of files that are still written to, `until` must be no later than now: what later reads saw may be in a
    file that was read before it was written there.
    """
    history = History()
    for path in paths:
        _load(path, history)
    history.ops = [op for op in history.ops if op.kind not in ("ask", "read") or op.end <= until]
    return history


def _load(path: Path, history: History) -> None:
    writes: dict[int, Op] = {}
    for line in path.read_bytes().splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break  # it was cut, or is on its way
        fields = json.loads(line)
        event = fields.pop("event")
        if event == "op":
            history.ops.append(Op(**fields))
        elif event == "invoke":
            number = fields.pop("id")
            writes[number] = Op(**fields, end=math.inf, outcome="unknown")
        elif event == "answer":
            writes[fields["id"]] = _answered(writes[fields["id"]], fields)
        elif event == "seen":
            history.seen.append((fields["client"], fields["value"], fields["time"]))
        elif event == "Stop":
            history.stops.append(Stop(**fields))
        elif event == "Final":
            history.finals.append(Final(**fields))
        elif event == "Return":
            history.returns.append(Return(**fields))
        else:
            history.faults.append(Fault(**fields))
    history.ops.extend(writes.values())


def _answered(op: Op, fields: dict[str, Any]) -> Op:
    if fields["outcome"] == "unknown":
        return op
    if not fields["existed"]:
        return replace(op, kind="ask", end=fields["end"], outcome="ok")
    return replace(op, end=fields["end"], outcome=fields["outcome"], revision=fields["revision"])
