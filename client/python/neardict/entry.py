"""What the service stores under a key, as a client sees it."""

import datetime
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Entry:
    """A value with its `revision`, for conditions, and its `expire_time` in UTC, None for never."""

    key: str
    value: Any
    revision: int
    expire_time: datetime.datetime | None = None
