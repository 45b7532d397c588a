"""The locks of keys and of domains. Taken in the order keys, domain."""

import contextlib
import threading
from collections.abc import Iterable, Iterator

# So many locks serve all keys, and so many all domains: those that share one merely wait for each other.
_KEYS = 4096
_DOMAINS = 64


class Locks:
    """May be used from any thread."""

    def __init__(self) -> None:
        self._keys = [threading.Lock() for _ in range(_KEYS)]
        self._domains = [threading.Lock() for _ in range(_DOMAINS)]

    def of_key(self, domain: str, key: str) -> threading.Lock:
        """Returns the lock of all writes of a key, and of telling who changed it."""
        return self._keys[hash((domain, key)) % _KEYS]

    @contextlib.contextmanager
    def of_keys(self, domain: str, keys: Iterable[str]) -> Iterator[None]:
        """Holds the locks of many keys."""
        # In one order, so that nobody waits for one who waits for him.
        stripes = sorted({hash((domain, key)) % _KEYS for key in keys})
        with contextlib.ExitStack() as held:
            for stripe in stripes:
                held.enter_context(self._keys[stripe])
            yield

    def of_domain(self, domain: str) -> threading.Lock:
        """Returns the lock of changes of a folder's names, and of listing them."""
        return self._domains[hash(domain) % _DOMAINS]
