"""The interface of a backend, and the words it is stated in.

A backend keeps entries under (domain, key). It is made by `open`, used by tasks of one
event loop, and ended by `close`. The service has checked domains, keys and values
against the limits before it calls, and backends need not.
"""

import enum
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict

# JSON text (str) or raw bytes.
Value = str | bytes


class Keep(enum.Enum):
    """In place of a time to live: the entry keeps when it expires."""

    KEEP = "keep"


KEEP: Literal[Keep.KEEP] = Keep.KEEP
# When a written entry expires: in so many microseconds, when the one before it would have, or never. KEEP is
# no number, so that a backend that does not know it fails, rather than write an entry that has expired.
Ttl = int | Literal[Keep.KEEP] | None

# The condition of a write: the revision that the present entry must have, or ABSENT; None is no condition.
Condition = int | None
ABSENT = 0

# Returns the wall clock's microseconds since the Unix epoch. Injected, so that tests can turn it.
Clock = Callable[[], int]

# A page of a listing closes when it holds this much, in bytes and in keys, or in entries: far below gRPC's
# default message limit of 4 MiB, even with one more entry of the largest default size. Reading and wording
# one takes about a millisecond, for which all other calls wait.
PAGE_BYTES = 256 * 1024
PAGE_KEYS = 4096
PAGE_ENTRIES = 512
# Values up to this size come with their change; larger ones are read by those who want them.
TOLD_BYTES = 4096


def wall_clock() -> int:
    """Returns microseconds since the Unix epoch."""
    return time.time_ns() // 1000


def next_revision(previous: int, now: int) -> int:
    """Returns the revision of a write after `previous` at time `now`, in microseconds.

    Taking the clock keeps revisions increasing when the data is restored from an older copy;
    taking the successor keeps them increasing when the clock goes back.
    """
    return max(previous + 1, now)


class Entry(NamedTuple):
    """What is stored under a key. `expires` is in microseconds since the epoch, None for never."""

    key: str
    value: Value
    revision: int
    expires: int | None = None


class Lookup(NamedTuple):
    """The answer to a read: every write of the domain up to `domain_revision` is reflected."""

    entry: Entry | None
    domain_revision: int


class Written(NamedTuple):
    revision: int
    expires: int | None = None


class Deleted(NamedTuple):
    """`revision` is the deletion's, or the domain's current one if there was nothing to delete."""

    existed: bool
    revision: int


class Page(NamedTuple):
    """One bounded batch of a listing: `entries` if they were asked for, else `keys`.

    `unreadable` are keys whose entries were asked for but are corrupt. `total` is about how many keys the
    whole listing has, in its first page, where a backend can tell that at little cost; else 0.
    """

    domain_revision: int
    keys: Sequence[str] = ()
    entries: Sequence[Entry] = ()
    unreadable: Sequence[str] = ()
    total: int = 0


class Change(NamedTuple):
    """A write or deletion of a key that took effect; `value` is None for a deletion or an expiry.

    `told` is false for a write whose value is not at hand, such as a large one: `value` means nothing then.
    """

    key: str
    revision: int
    value: Value | None
    expires: int | None = None
    told: bool = True


class Publish(Protocol):
    """Takes notice of a change, once it can be read, in the order of the domain's revisions.

    To be called on the event loop. `previous` is the domain's revision before the change.
    """

    def __call__(self, domain: str, previous: int, change: Change) -> None: ...


def unheard(domain: str, previous: int, change: Change) -> None:
    """Publishes to nobody."""


def not_missed(domain: str) -> None:
    """Tells nobody that changes were lost."""


def no_domains() -> Collection[str]:
    """Returns the domains that somebody watches: none."""
    return ()


class Capability(enum.Enum):
    """What some backends can do beyond the interface; the names are the contract's."""

    DURABLE = "DURABLE"
    TTL = "TTL"
    DURABLE_REQUEST_ID = "DURABLE_REQUEST_ID"
    SHARED = "SHARED"
    # What it writes, it writes for this server alone, and publishes before the write returns, or raises,
    # also if that is CancelledError: see `changes.leases`.
    LEASES = "LEASES"
    # It satisfies `Feed`, and calls `Surroundings.publish`.
    WATCH = "WATCH"


class Settings(BaseModel):
    """Base of a backend's settings: frozen, and strict about unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


@dataclass(frozen=True)
class Surroundings:
    """What the server gives every backend that it opens."""

    data_dir: Path
    clock: Clock = wall_clock
    # A backend that calls it for each change says so by a method `position`, see `Feed`.
    publish: Publish = unheard
    # Takes notice that not all changes of a domain have been published: its subscriptions end.
    lost: Callable[[str], None] = not_missed
    # Returns the domains that have subscriptions, from before `position` is asked.
    watched: Callable[[], Collection[str]] = no_domains
    # What the configuration calls the backend: its errors name it.
    name: str = ""


# Changes that one has missed, beyond which he reads the domain anew, which is then cheaper for both.
MOST_MISSED = 20_000


class Backend(Protocol):
    """Four operations and `close`. Operations may run concurrently; each is atomic.

    They raise the errors of `neardict_server.errors`: BackendUnavailableError when the engine cannot
    be reached or trusted, CorruptEntryError when the one entry at hand cannot be read, StorageFullError
    when there is no room. A write that was cancelled while it ran may or may not take effect, but never
    in part. What `capabilities` does not list is not asked for.
    """

    capabilities: frozenset[Capability]

    async def get_value(self, domain: str, key: str) -> Lookup:
        """Returns the entry, or none if the key is absent or its entry has expired."""
        ...

    async def set_value(
        self,
        domain: str,
        key: str,
        value: Value,
        *,
        ttl: Ttl = None,
        condition: Condition = None,
        request_id: str = "",
    ) -> Written:
        """Stores the value and returns once it is as durable as the backend promises.

        `ttl` is in microseconds; a number comes only with the capability TTL. With KEEP, which comes without
        it too, the entry expires when the present one would, and ConditionFailedError(ABSENT) is raised if
        there is none. Raises ConditionFailedError if the condition does not hold. A repeated `request_id` has
        no effect and returns the first result; a backend without DURABLE_REQUEST_ID may ignore it, since the
        server then remembers for it.
        """
        ...

    async def delete_key(
        self, domain: str, key: str, *, condition: Condition = None, request_id: str = ""
    ) -> Deleted:
        """Removes the entry, if there is one. Condition and request_id as for `set_value`."""
        ...

    def all_keys(self, domain: str, *, prefix: str = "", entries: bool = False) -> AsyncIterator[Page]:
        """Yields the keys of a domain in bounded pages, in any order; at least one page, even if empty.

        A key that exists throughout is yielded exactly once. All pages carry the domain's revision as
        it was when the listing began. The caller closes the iterator.
        """
        ...

    async def close(self) -> None:
        """Waits for writes under way and releases everything. May be called twice."""
        ...


class Get(NamedTuple):
    """An operation: get_value."""

    key: str


class Set(NamedTuple):
    """An operation: set_value."""

    key: str
    value: Value
    ttl: Ttl = None
    condition: Condition = None
    request_id: str = ""


class Delete(NamedTuple):
    """An operation: delete_key."""

    key: str
    condition: Condition = None
    request_id: str = ""


Operation = Get | Set | Delete
Success = Lookup | Written | Deleted
Outcome = Success | Exception


@runtime_checkable
class Batches(Protocol):
    """What a backend may also satisfy: it carries out many operations for the price of a few."""

    async def execute(self, domain: str, operations: Sequence[Operation]) -> Sequence[Outcome]:
        """Carries out the operations as if each was called when the one before has returned.

        Returns for each what its call would have returned, or raised; one that fails, fails alone. Others
        may run in between. If it is cancelled, those writes that have not taken effect may, or not. With
        LEASES, what has taken effect has been published when it returns or raises.
        """
        ...


class Position(NamedTuple):
    """Where a subscription begins: every change after `revision` will be published.

    `missed` are the changes after the revision that was asked for, each key's last at least, in the
    order of revisions; None if not all of them are known.
    """

    revision: int
    missed: Sequence[Change] | None = None


@runtime_checkable
class Feed(Protocol):
    """What a backend may also satisfy: it publishes every change, however it was made."""

    async def position(self, domain: str, from_revision: int) -> Position:
        """Returns where a subscription that begins now begins. `from_revision` 0 asks for nothing missed.

        It does not keep the event loop for long, and tells no more than MOST_MISSED changes.
        """
        ...

    def certain(self, domain: str) -> bool:
        """Returns whether everything that happened in the domain until now has been published."""
        ...


class BackendType(Protocol):
    """What an entry point of the group `neardict.backends` names: usually the backend's class."""

    # The pydantic model of `[backends.NAME.settings]`.
    Settings: Any

    async def open(self, settings: Any, surroundings: Surroundings) -> Backend:
        """Returns a backend ready for use. Raises OSError or ValueError, with a message for the operator."""
        ...
