"""The programs in other languages, built once for all tests."""

from pathlib import Path

import pytest

from .mirrors import build_go, prepare_node


@pytest.fixture(scope="session")
def go(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the Go programs, built."""
    return build_go(tmp_path_factory.mktemp("languages"))


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the Node programs, with what they need."""
    return prepare_node(tmp_path_factory.mktemp("languages"))
