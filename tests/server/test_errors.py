"""Every error below has one status and a reason, and the contract and the page of errors list them all."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import grpc

import neardict_server.backends
from neardict_server import edge, errors

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| (?P<status>[A-Z_]+) \| (?P<reason>[A-Z_]+) \|", re.MULTILINE)


def kinds(below: type[errors.StorageError] = errors.StorageError) -> Iterator[type[errors.StorageError]]:
    """Yields every subclass, those of backends too."""
    for module in pkgutil.iter_modules(neardict_server.backends.__path__):
        importlib.import_module(f"neardict_server.backends.{module.name}")
    for kind in below.__subclasses__():
        if kind.__module__.startswith("neardict_server."):  # tests make up their own
            yield kind
            yield from kinds(kind)


def reasons_in_the_code() -> dict[str, str]:
    """Returns the status of each reason that the server gives."""
    found = {kind.reason: edge.STATUS_OF[base(kind)].name for kind in kinds()}
    for path in (ROOT / "server").rglob("*.py"):
        for reason in re.findall(r'reason="([A-Z_]+)"', path.read_text()):
            found[reason] = edge.STATUS_OF[errors.InvalidRequestError].name
    # The edge's own: for bytes that are no message, and for mistakes of ours.
    return found | {"INVALID_REQUEST": "INVALID_ARGUMENT", "INTERNAL": "INTERNAL"}


def base(kind: type[errors.StorageError]) -> type[errors.StorageError]:
    return next(k for k in kind.__mro__ if k in edge.STATUS_OF)


def test_every_error_has_a_status_of_its_own_or_its_parents() -> None:
    for kind in kinds():
        if kind.__module__ == errors.__name__:
            assert kind in edge.STATUS_OF, f"{kind.__name__} is not in edge.STATUS_OF"
        else:
            assert base(kind) is not errors.StorageError, f"{kind.__name__} would be INTERNAL"


def test_no_error_is_ok_or_unknown() -> None:
    assert not {grpc.StatusCode.OK, grpc.StatusCode.UNKNOWN} & set(edge.STATUS_OF.values())


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = set(re.findall(r"[├└]── (\w+)", errors.__doc__ or ""))
    assert drawn == {kind.__name__ for kind in kinds() if kind.__module__ == errors.__name__}


def test_the_contract_lists_every_reason() -> None:
    contract = (ROOT / "protos/neardict/v1/storage.proto").read_text().split("syntax =")[0]
    listed = re.search(r"Reasons: ([A-Z_,\s]+)\.", contract.replace("\n//", ""))
    assert listed is not None
    assert set(re.split(r",\s*", listed[1])) == set(reasons_in_the_code())


def test_the_page_lists_every_reason_with_its_status() -> None:
    page = (ROOT / "docs/errors.md").read_text()
    rows = {row["reason"]: row["status"] for row in ROW.finditer(page)}
    assert rows == reasons_in_the_code()
