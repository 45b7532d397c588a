"""What a supervisor and its workers tell each other."""

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from ..config import Config

# The report of a worker that serves. Any other text is why it cannot start.
READY = b"ready\n"


@dataclass(frozen=True)
class Order:
    """What a worker is to do: to serve `config`, whose `listen` has the real port."""

    number: int
    config: Config
    log_level: str
    # For how many seconds callers are told that it drains.
    notice: float
    # Where it keeps its figures, if they are wanted.
    metrics_folder: Path | None = None

    def to_bytes(self) -> bytes:
        # JSON has no dates, which the settings of a backend may hold as TOML has them.
        return pickle.dumps(self)

    @classmethod
    def read(cls, stream: BinaryIO) -> Self:
        """Takes the order of our own supervisor: anybody else's could do anything."""
        order: Self = pickle.load(stream)  # noqa: S301  # see above
        return order
