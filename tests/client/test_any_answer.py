"""Whatever a service answers, a call ends in time with a result of its type or an error of ours."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.descriptor import FieldDescriptor as Field
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import neardict
from neardict.v1 import storage_pb2 as pb

from .either_client import EITHER
from .scripted_service import REVISION, ScriptedService, entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECONDS = 20.0
_FRAME = b"\x28\xb5\x2f\xfd\x20\x05\x29\x00\x00hello"
_NUMBERS = [0, 1, 2, 3, 10, 12, 14, REVISION, REVISION + 9, 2**31 - 1, 2**31, 2**53, 2**63, 2**64 - 1]
_TEXTS = [
    "",
    "d",
    "k",
    "l",
    "k\0",
    "1",
    '"text"',
    "[1",
    '"\\ud800"',
    "[" * 3_000,
    "NaN",
    "9" * 5_000,
    "1e999",
]
_BYTES = [b"", b"1", b"\xff", b"x" * 100, _FRAME, _FRAME[:-3], _FRAME * 2]

# Later than all of them that can be revisions.
LAST = 2**52

fuzz = settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def messages(kind: Any, depth: int = 5) -> st.SearchStrategy[Any]:
    """Returns a strategy for messages of the type in which everything may be odd."""
    fields = [field for field in kind.DESCRIPTOR.fields if depth or field.type != Field.TYPE_MESSAGE]
    return st.fixed_dictionaries({}, optional={field.name: _field(field, depth) for field in fields}).map(
        lambda given: _made(kind, given)
    )


def _made(kind: Any, given: dict[str, Any]) -> Any:
    return kind(**given)


def _field(field: Any, depth: int) -> st.SearchStrategy[Any]:
    if field.type == Field.TYPE_MESSAGE and field.message_type.GetOptions().map_entry:
        return st.dictionaries(
            st.sampled_from(["current_revision", "size"]), st.sampled_from(_TEXTS), max_size=2
        )
    one = _one(field, depth)
    return st.lists(one, max_size=3) if field.is_repeated else one


def _one(field: Any, depth: int) -> st.SearchStrategy[Any]:
    if field.type == Field.TYPE_MESSAGE:
        return messages(field.message_type._concrete_class, depth - 1)
    if field.type == Field.TYPE_STRING:
        return st.sampled_from(_TEXTS)
    if field.type == Field.TYPE_BYTES:
        return st.sampled_from(_BYTES)
    if field.type == Field.TYPE_BOOL:
        return st.booleans()
    if field.type == Field.TYPE_ENUM:
        return st.sampled_from([0, 1, 2, 77])
    if field.type == Field.TYPE_UINT32:
        return st.sampled_from([number for number in _NUMBERS if number < 2**32])
    if field.type == Field.TYPE_UINT64:
        return st.sampled_from(_NUMBERS)
    signed = [-(10**15), -1, 0, 1, 10**9, 10**15]
    if field.type == Field.TYPE_INT32:
        return st.sampled_from([number for number in signed if abs(number) < 2**31])
    return st.sampled_from(signed)


def good_or(kind: Any, *good: Any) -> st.SearchStrategy[Any]:
    """Returns a strategy for such messages, good ones among them, and good ones with a part that is odd."""
    return (
        messages(kind) | st.sampled_from(good) | st.tuples(st.sampled_from(good), messages(kind)).map(_merged)
    )


def _merged(both: tuple[Any, Any]) -> Any:
    message = type(both[0])()
    message.CopyFrom(both[0])
    message.MergeFrom(both[1])
    return message


FOUND = pb.GetValueResponse(found=True, entry=entry("k"), domain_revision=REVISION)
EMPTY = pb.GetValueResponse(found=True, entry=entry("k", value=pb.Value(json="")), domain_revision=REVISION)
RESULTS = st.lists(good_or(pb.OperationResult, pb.OperationResult(get_value=FOUND)), min_size=1, max_size=2)
PAGES = st.lists(
    good_or(pb.AllKeysResponse, pb.AllKeysResponse(domain_revision=REVISION, entries=[entry("k")])),
    max_size=3,
)
PARTS = st.lists(
    good_or(
        pb.ReadValueResponse,
        pb.ReadValueResponse(head=pb.ReadValueHead(answer=EMPTY, size=1)),
        pb.ReadValueResponse(chunk=b"1"),
    ),
    max_size=3,
)
TOLD = st.lists(
    good_or(
        pb.WatchResponse,
        pb.WatchResponse(
            changes=pb.Changes(
                domain="d",
                changes=[
                    pb.Change(
                        key="k", revision=REVISION + 9, kind=pb.Change.KIND_SET, value=pb.Value(json="2")
                    )
                ],
                revision=REVISION + 9,
            )
        ),
        pb.WatchResponse(subscribed=pb.Subscribed(domain="d", revision=REVISION, complete=True)),
    ),
    max_size=3,
)


@pytest.fixture(scope="module", params=[True, False], ids=["stream", "calls"])
def service(request: pytest.FixtureRequest) -> Iterator[ScriptedService]:
    with ScriptedService(stream=request.param) as service:
        yield service


def _giving(answer: Any) -> Callable[[Any], Any]:
    return lambda request: answer


def check(here: Any, name: str, *args: Any, types: Any) -> None:
    """Asserts that the call ends in time, with a result of these types or an error of ours."""
    started = time.monotonic()
    with contextlib.suppress(neardict.NeardictError):
        assert isinstance(here.do(name, *args), types)
    assert time.monotonic() - started < SECONDS


@pytest.mark.parametrize("client", EITHER)
@pytest.mark.parametrize("compression", [None, "zstd"])
@fuzz
@given(
    answers=st.fixed_dictionaries(
        {
            "GetValue": good_or(pb.GetValueResponse, FOUND),
            "SetValue": good_or(pb.SetValueResponse, pb.SetValueResponse(revision=REVISION)),
            "DeleteKey": good_or(pb.DeleteKeyResponse, pb.DeleteKeyResponse(existed=True)),
            "GetServerInfo": messages(pb.GetServerInfoResponse),
            "AllKeys": PAGES,
            "ReadValue": PARTS,
        }
    ),
    results=RESULTS,
)
def test_a_call_ends_with_a_result_of_its_type_or_an_error_of_ours(
    service: ScriptedService, client: Any, compression: Any, answers: dict[str, Any], results: list[Any]
) -> None:
    def execute(operation: pb.Operation) -> pb.ExecuteResponse:
        for result in results:
            if not result.number:
                result.number = operation.number
        # In the end one that is good, as otherwise nothing is said of the operation at all.
        kind = operation.WhichOneof("operation")
        last = pb.OperationResult(number=operation.number)
        getattr(last, kind or "get_value").SetInParent()
        return pb.ExecuteResponse(results=[*results, last])

    with client(service.address, watch=False, timeout=3, compression=compression) as here:
        service.answers = {name: _giving(answer) for name, answer in answers.items()}
        service.answers["Execute"] = execute
        check(here, "get_value", "d", "k", types=object)
        check(here, "get_entry", "d", "k", types=neardict.Entry | None)
        check(here, "get_many", "d", ["k", "l"], types=dict)
        check(here, "set_value", "d", "k", 1, types=int)
        check(here, "delete_key", "d", "k", types=bool)
        check(here, "all_keys", "d", types=list)
        check(here, "all_entries", "d", types=list)
        check(here, "dict", "d", types=dict)
        check(here, "server_info", types=object)
        service.answers = {}
        assert here.do("get_value", "d", "k") == 1
        assert here.do("dict", "d") == {"k": 1}


@pytest.mark.parametrize("client", EITHER)
@fuzz
@given(told=TOLD)
def test_a_dict_comes_to_what_is_stored_whatever_its_stream_brings(
    service: ScriptedService, client: Any, told: list[pb.WatchResponse]
) -> None:
    last = entry("k", revision=LAST, value=pb.Value(json="3"))
    change = pb.Change(key="k", revision=LAST, kind=pb.Change.KIND_SET, value=last.value)

    def watch(number: int) -> Iterator[pb.WatchResponse]:
        if number == first:
            yield from told
        service.answers["GetValue"] = lambda request: pb.GetValueResponse(
            found=True, entry=last, domain_revision=LAST
        )
        service.answers["AllKeys"] = lambda request: [
            pb.AllKeysResponse(domain_revision=LAST, entries=[last])
        ]
        yield pb.WatchResponse(changes=pb.Changes(domain="d", changes=[change], revision=LAST))

    first = service.streams + 1
    service.answers = {"Watch": watch}
    with client(service.address, timeout=3) as here:
        mirror = here.do("dict", "d")
        deadline = time.monotonic() + SECONDS
        value = None
        while value != 3:
            assert time.monotonic() < deadline
            here.run(0.01)
            with contextlib.suppress(neardict.NeardictError):  # of a stream that could not be understood
                value = here.on(mirror, "fetch", "k")
        # What there is now is newer than all that was told.
        assert here.on(mirror, "fetch", "k") == 3
