"""What every test may use."""

from collections.abc import Iterator

import hypothesis
import pytest

from redis_server import RedisServer

# A run finds what the one before has found. `make test ARGS=--hypothesis-profile=default` looks for more.
hypothesis.settings.register_profile("repeatable", derandomize=True)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    """A real Redis of this test process; tests use domains of their own in it."""
    with RedisServer() as server:
        yield server
