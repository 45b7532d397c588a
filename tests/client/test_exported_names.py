"""The public face: which names there are, and what importing them brings along."""

import inspect
import json
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

import neardict
from neardict import aio

NAMES = [
    "ABSENT",
    "UNKNOWN",
    "AbsentKeyError",
    "BulkError",
    "CachedDict",
    "CapabilityMissingError",
    "ClosedError",
    "ConflictError",
    "ConnectionObserver",
    "DataLossError",
    "DeadlineExceededError",
    "Entry",
    "InvalidArgumentError",
    "InvalidTypeError",
    "LimitExceededError",
    "LinearizableDict",
    "NeardictError",
    "NotHeldError",
    "Observer",
    "PermissionDeniedError",
    "ServerInfo",
    "ServiceError",
    "Stats",
    "Store",
    "UnavailableError",
    "UndecodableValueError",
    "UnsupportedValueError",
    "connect",
    "errors",
    "register",
]
AIO_NAMES = ["CachedDict", "LinearizableDict", "Store", "connect"]

# How the stores work inside.
OF_ONE_CLIENT = {
    "call",
    "reach",
    "check_loop",
    "leave",
    "open_watch",
    "reload",
    "spawn",
    "wait_for_service",
    "watch",
}

# What a client with the base install has not. (grpc itself imports grpc_health where it is.)
FOREIGN = ["neardict_server", "click", "pydantic", "orjson", "redis", "yaml"]

READING = "copy domain fetch get get_many has items keys load refresh snapshot snapshot_keys values"
WRITING = (
    "clear compare_and_set delete delete_many edit pop popitem save set set_many setdefault touch update"
)
STORE = """all_entries all_keys close delete_key delete_many dict get_entry get_many get_value on_connection
    server_info set_many set_value"""
METHODS: list[tuple[type, str]] = [
    (neardict.Store, STORE),
    (aio.Store, STORE),
    (neardict.CachedDict, f"{READING} {WRITING}"),
    (aio.CachedDict, f"{READING} {WRITING}"),
]
# What a near dict may have as dict has it: a hit; what tells nothing of the contents; and that it has neither
# an order nor a hash.
HARMLESS = """__getitem__ __class__ __class_getitem__ __delattr__ __dir__ __doc__ __format__ __getattribute__
    __getstate__ __init_subclass__ __new__ __reduce_ex__ __setattr__ __sizeof__ __str__ __subclasshook__
    __ge__ __gt__ __le__ __lt__ __hash__"""


def test_the_names_of_the_package_are_these() -> None:
    assert neardict.__all__ == NAMES
    assert aio.__all__ == AIO_NAMES
    assert all(hasattr(neardict, name) for name in NAMES)
    assert all(hasattr(aio, name) for name in AIO_NAMES)


def test_every_error_is_exported() -> None:
    kinds = {name for name, kind in vars(neardict.errors).items() if inspect.isclass(kind)}
    assert {kind for kind in kinds if kind.endswith("Error")} <= set(NAMES)


@pytest.mark.parametrize(("cls", "names"), METHODS, ids=lambda part: getattr(part, "__module__", ""))
def test_each_method_is_there_and_says_what_it_does(cls: type, names: str) -> None:
    for name in names.split():
        method = inspect.getattr_static(cls, name)
        assert method is not vars(dict).get(name), f"{name} is dict's own"
        assert inspect.getdoc(method) or inspect.getdoc(getattr(dict, name))


@pytest.mark.parametrize("cls", [neardict.CachedDict, aio.CachedDict])
def test_nothing_of_dict_reads_or_writes_behind_the_back_of_the_service(cls: type) -> None:
    inherited = {name for name in dir(dict) if getattr(cls, name, None) == getattr(dict, name)}
    assert inherited - set(HARMLESS.split()) == set()


@pytest.mark.parametrize(
    ("cls", "awaited"),
    [
        (neardict.CachedDict, aio.CachedDict),
        (neardict.LinearizableDict, aio.LinearizableDict),
        (neardict.Store, aio.Store),
    ],
)
def test_the_two_clients_differ_by_await_alone(cls: type, awaited: type) -> None:
    for kind, other in ((cls, awaited), (awaited, cls)):
        own = {name for name in dir(kind) if name[0] != "_"}
        assert own - set(dir(other)) - OF_ONE_CLIENT == set()
    for name in sorted(set(dir(cls)) & set(dir(awaited))):
        if name[0] != "_" and name not in OF_ONE_CLIENT and callable(getattr(cls, name)):
            assert parameters(getattr(cls, name)) == parameters(getattr(awaited, name)), name


def parameters(method: Any) -> list[tuple[str, Any, Any]]:
    return [(one.name, one.kind, one.default) for one in inspect.signature(method).parameters.values()]


def run(program: str, python: str = sys.executable) -> str:
    return subprocess.run(
        [python, "-c", program], check=True, timeout=60, capture_output=True, text=True
    ).stdout


def test_importing_the_client_imports_nothing_of_the_server_or_of_other_extras() -> None:
    program = """
import sys, json
import neardict, neardict.aio
print(json.dumps(sorted(sys.modules)))
"""
    loaded = {name.partition(".")[0] for name in json.loads(run(program))}
    assert {"neardict", "grpc", "google"} <= loaded
    assert loaded.isdisjoint(FOREIGN)


def test_the_client_works_with_grpc_and_protobuf_alone(tmp_path: Path) -> None:
    venv.create(tmp_path, with_pip=False, symlinks=True)
    site = next((tmp_path / "lib").glob("python*")) / "site-packages"
    root = Path(neardict.__file__).parent
    (site / "neardict").symlink_to(root)
    import google.protobuf
    import google.rpc
    import grpc
    import typing_extensions

    (site / "grpc").symlink_to(Path(grpc.__file__).parent)
    (site / "typing_extensions.py").symlink_to(typing_extensions.__file__)  # what grpc needs
    google_path = site / "google"
    google_path.mkdir()
    (google_path / "protobuf").symlink_to(Path(google.protobuf.__file__).parent)
    (google_path / "rpc").symlink_to(next(iter(google.rpc.__path__)))
    upb = Path(google.protobuf.__file__).parents[1] / "_upb"
    if upb.exists():
        (google_path / "_upb").symlink_to(upb)
    program = """
import dataclasses, neardict, neardict.aio

@neardict.register(name="item")
@dataclasses.dataclass
class Item:
    name: str

with neardict.connect("127.0.0.1:1", timeout=0.05) as store:
    d = store.dict("d", load=False)
    try:
        d["key"] = Item("x")
    except (neardict.UnavailableError, neardict.DeadlineExceededError):
        print("as expected")
"""
    assert run(program, str(tmp_path / "bin" / "python")) == "as expected\n"


def test_the_numbers_of_a_program_that_has_seeded_the_module_random_are_its_own() -> None:
    program = """
import random
random.seed(7)
import neardict
with neardict.connect("127.0.0.1:1", timeout=0.3) as store:
    for act in (lambda: store.get_value("d", "k"), lambda: store.dict("d")):
        try:
            act()
        except (neardict.UnavailableError, neardict.DeadlineExceededError):
            pass
print(random.random() == random.Random(7).random())
"""
    assert run(program) == "True\n"
