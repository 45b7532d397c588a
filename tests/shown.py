"""What is in a near dict itself, where hits are served: a look at it asks nobody."""

from typing import Any

from neardict._contents import GUARD


def shown(d: Any) -> dict[str, Any]:
    """Returns the entries in the storage."""
    # A list first, which is one step of C, as another thread may apply a change meanwhile. Not dict.copy,
    # which asks the keys of a subclass.
    return {key: value for key, value in list(dict.items(d)) if key is not GUARD}


def is_guarded(d: Any) -> bool:
    """Returns whether code that reads the storage is kept from taking it for the whole domain."""
    return dict.__contains__(d, GUARD)
