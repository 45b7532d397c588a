"""What every test may use."""

import signal
from collections.abc import Iterator

import hypothesis
import pytest

import left_over
from redis_server import RedisServer

# A program that a script starts in the background ignores Ctrl-C, and so does all that it starts in turn.
# Tests interrupt themselves and others.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A run finds what the one before has found. `make test ARGS=--hypothesis-profile=default` looks for more.
hypothesis.settings.register_profile("repeatable", derandomize=True)
hypothesis.settings.load_profile("repeatable")


def pytest_configure(config: pytest.Config) -> None:
    left_over.watch(config)


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    """A real Redis of this test process; tests use domains of their own in it."""
    with RedisServer() as server:
        yield server
