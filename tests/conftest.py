"""What every test may use."""

from collections.abc import Iterator

import pytest

from redis_server import RedisServer


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    """A real Redis of this test process; tests use domains of their own in it."""
    with RedisServer() as server:
        yield server
