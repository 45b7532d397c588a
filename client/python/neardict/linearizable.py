"""A dict whose hits are linearizable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._lease import LeasedDict, leave_at_exit
from ._value_type import V
from .cached_dict import CachedDict

if TYPE_CHECKING:
    from .store import Store


class LinearizableDict(LeasedDict[V], CachedDict[V]):
    """A CachedDict whose reads of single keys are linearizable, hits too. Made by `Store.dict`.

    Whatever has been acknowledged anywhere before a read begins, or was seen by anybody, the read sees. For
    that the dict holds a lease of its domain, which it renews each second, and the service lets a write take
    effect only when every holder has confirmed that it does not show the key, or its lease is over.

    What that costs: a hit looks at the clock; a write waits for the answers of all holders, a round trip to
    each, or for the rest of the lease of one that does not answer (3 seconds by default). While the lease is
    not renewed every read asks the service.

    Expiry is not a write: an entry disappears a moment after it has expired. Iteration and whole
    copies are no snapshot of one moment over several keys. Raises CapabilityMissingError for a domain whose
    backend gives no leases, since others than its service may write to it: redis, json.
    """

    __slots__ = ("_revoked",)

    if TYPE_CHECKING:

        def __getitem__(self, key: str) -> V: ...

    def __init__(self, store: Store, domain: str, value_type: type[V] | None = None, **options: Any) -> None:
        leave_at_exit(store)
        super().__init__(store, domain, value_type=value_type, **options)
