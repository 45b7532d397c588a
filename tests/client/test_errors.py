"""What goes wrong, what is raised for it, and what is tried before."""

import builtins
import copy
import dataclasses
import datetime
import decimal
import fractions
import math
import pickle
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

import neardict
from neardict import errors
from neardict.v1 import storage_pb2 as pb
from neardict.v1 import storage_pb2_grpc
from served import Served

from .gate import DEADLINE, Fault, Gate
from .tcp_gate import TcpGate
from .threads import InThread, until

Status = grpc.StatusCode


class Failing(storage_pb2_grpc.StorageServiceServicer):
    """Answers every call with the status, reason and facts that it was told."""

    status = Status.INTERNAL
    reason = ""
    facts: dict[str, str] = {}  # noqa: RUF012  # set by each test

    def fail(self, request: Any, context: grpc.ServicerContext) -> Any:
        if self.reason:
            info = error_details_pb2.ErrorInfo(reason=self.reason, domain="neardict", metadata=self.facts)
            details = any_pb2.Any()
            details.Pack(info)
            status = status_pb2.Status(code=self.status.value[0], message="the message", details=[details])
            context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(self.status, "the message")

    GetValue = SetValue = DeleteKey = GetServerInfo = fail

    def AllKeys(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:  # noqa: N802
        yield self.fail(request, context)

    def Execute(self, request_iterator: Any, context: grpc.ServicerContext) -> Iterator[Any]:  # noqa: N802
        """Fails each operation alone."""
        for request in request_iterator:
            for operation in request.operations:
                error = pb.OperationError(
                    code=self.status.value[0], reason=self.reason, message="the message", metadata=self.facts
                )
                yield pb.ExecuteResponse(results=[pb.OperationResult(number=operation.number, error=error)])

    def WriteValue(self, request_iterator: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return self.fail(request_iterator, context)

    def ReadValue(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:  # noqa: N802
        yield self.fail(request, context)

    def Watch(self, request_iterator: Any, context: grpc.ServicerContext) -> Iterator[Any]:  # noqa: N802
        yield self.fail(request_iterator, context)


@pytest.fixture(scope="module")
def failing_server() -> Iterator[tuple[Failing, str]]:
    servicer = Failing()
    server = grpc.server(ThreadPoolExecutor(8))
    storage_pb2_grpc.add_StorageServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, f"127.0.0.1:{port}"
    server.stop(None).wait(DEADLINE)


KINDS: list[tuple[Status, str, dict[str, str], type[neardict.NeardictError], type[Exception]]] = [
    (Status.INVALID_ARGUMENT, "INVALID_KEY", {}, neardict.InvalidArgumentError, ValueError),
    (Status.FAILED_PRECONDITION, "NO_ROUTE", {}, neardict.InvalidArgumentError, ValueError),
    (Status.OUT_OF_RANGE, "", {}, neardict.InvalidArgumentError, ValueError),
    (Status.ABORTED, "CONDITION_FAILED", {"current_revision": "7"}, neardict.ConflictError, Exception),
    (Status.ABORTED, "", {}, neardict.ConflictError, Exception),
    (Status.RESOURCE_EXHAUSTED, "VALUE_TOO_LARGE", {}, neardict.LimitExceededError, Exception),
    (Status.RESOURCE_EXHAUSTED, "STORAGE_FULL", {}, neardict.LimitExceededError, Exception),
    (Status.DATA_LOSS, "CORRUPT_ENTRY", {}, neardict.DataLossError, Exception),
    (Status.DEADLINE_EXCEEDED, "", {}, neardict.DeadlineExceededError, TimeoutError),
    (Status.UNAUTHENTICATED, "", {}, neardict.PermissionDeniedError, PermissionError),
    (Status.PERMISSION_DENIED, "", {}, neardict.PermissionDeniedError, PermissionError),
    (
        Status.UNIMPLEMENTED,
        "CAPABILITY_MISSING",
        {"capability": "CAPABILITY_TTL"},
        neardict.CapabilityMissingError,
        Exception,
    ),
    (Status.UNIMPLEMENTED, "", {}, neardict.ServiceError, Exception),
    (Status.INTERNAL, "INTERNAL", {}, neardict.ServiceError, Exception),
    (Status.UNKNOWN, "", {}, neardict.ServiceError, Exception),
]


@pytest.mark.parametrize(
    ("status", "reason", "facts", "kind", "builtin"), KINDS, ids=[f"{s.name} {r}" for s, r, *_ in KINDS]
)
def test_each_status_has_its_error(
    failing_server: tuple[Failing, str],
    status: Status,
    reason: str,
    facts: dict[str, str],
    kind: type[neardict.NeardictError],
    builtin: type[Exception],
) -> None:
    servicer, address = failing_server
    servicer.status, servicer.reason, servicer.facts = status, reason, facts
    with neardict.connect(address) as store:
        calls: list[Callable[[], Any]] = [
            lambda: store.get_value("d", "k"),
            lambda: store.set_value("d", "k", 1),
            lambda: store.delete_key("d", "k"),
            lambda: list(store.all_keys("d")),
            lambda: list(store.all_entries("d")),
            lambda: store.server_info(),
            lambda: store.dict("d"),
            lambda: store.dict("d", load=False)["k"],
        ]
        for call in calls:
            with pytest.raises(kind) as caught:
                call()
            assert type(caught.value) is kind
            assert isinstance(caught.value, builtin)
            assert isinstance(caught.value, neardict.NeardictError)
            assert caught.value.reason == (reason if status is not Status.DEADLINE_EXCEEDED else "")
            assert caught.value.__suppress_context__  # no gRPC in the user's traceback
            if isinstance(caught.value, neardict.ConflictError):
                assert caught.value.current_revision == int(facts.get("current_revision", "0"))
            if isinstance(caught.value, neardict.CapabilityMissingError):
                assert caught.value.capability == "CAPABILITY_TTL"
        for bulk in (lambda: store.get_many("d", ["k", "l"]), lambda: store.delete_many("d", ["k", "l"])):
            with pytest.raises(neardict.BulkError, match=r"2 of 2 keys failed, the first being 'k'") as many:
                bulk()
            assert {type(error) for error in many.value.failures.values()} == {kind}


def test_a_backend_that_is_down_is_told_apart_from_a_service_that_cannot_be_reached(
    failing_server: tuple[Failing, str],
) -> None:
    servicer, address = failing_server
    servicer.status, servicer.reason, servicer.facts = Status.UNAVAILABLE, "BACKEND_UNAVAILABLE", {}
    with neardict.connect(address) as store, pytest.raises(neardict.UnavailableError) as caught:
        store.get_value("d", "k", timeout=0.5)
    assert (str(caught.value), caught.value.reason) == ("the message", "BACKEND_UNAVAILABLE")


def test_every_class_in_the_tree_is_drawn_and_every_drawn_one_exists() -> None:
    drawn = {line.split()[1] for line in str(errors.__doc__).splitlines() if line[:1] in "├└" and line}
    classes = {
        name: cls
        for name, cls in vars(errors).items()
        if isinstance(cls, type) and issubclass(cls, neardict.NeardictError)
    }
    assert drawn == classes.keys() - {"NeardictError"}
    for line in str(errors.__doc__).splitlines():
        if "(" in line and line[:1] in "├└":
            builtin = getattr(builtins, line[line.index("(") + 1 : line.index(")")])
            assert issubclass(classes[line.split()[1]], builtin)


def test_errors_can_be_sent_between_processes() -> None:
    one = neardict.ConflictError("message", reason="R", current_revision=7)
    many: list[neardict.NeardictError] = [
        neardict.AbsentKeyError("k\n"),
        one,
        neardict.CapabilityMissingError("message", reason="R", capability="C"),
        neardict.UnavailableError("message", reason="R"),
        neardict.DeadlineExceededError("message"),
        neardict.PermissionDeniedError("message"),
        neardict.ClosedError("message"),
        neardict.BulkError({"a": one, "b": neardict.AbsentKeyError("b")}, 5),
    ]
    for error in many:
        for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert type(again) is type(error)
            assert str(again) == str(error)
            assert {k: str(v) for k, v in vars(again).items()} == {k: str(v) for k, v in vars(error).items()}


def test_an_absent_key_is_a_key_error_that_knows_the_key(store: neardict.Store, domain: str) -> None:
    d = store.dict(domain)
    absent: list[Callable[[], Any]] = [
        lambda: d["no such key"],
        lambda: d.__delitem__("no such key"),
        lambda: d.pop("no such key"),
        lambda: d.edit("no such key", len),
        lambda: d.edit("no such key").__enter__(),
        lambda: d.save("no such key"),
        lambda: store.get_value(domain, "no such key"),
    ]
    for act in absent:
        with pytest.raises(KeyError) as caught:
            act()
        assert isinstance(caught.value, neardict.AbsentKeyError)
        assert caught.value.key == "no such key"
        assert str(caught.value) == "'no such key'"


@pytest.mark.parametrize(
    "act",
    [
        lambda store, d: d.__setitem__("", 1),
        lambda store, d: d.__setitem__("x" * 1025, 1),
        lambda store, d: d.__setitem__("\0", 1),
        lambda store, d: d.__setitem__("\ud800", 1),
        lambda store, d: d.__setitem__(5, 1),
        lambda store, d: d.__setitem__(None, 1),
        lambda store, d: d.setdefault("", 1),
        lambda store, d: d.update({5: 1}),
        lambda store, d: store.get_value("", "k"),
        lambda store, d: store.get_value("d", ""),
        lambda store, d: store.get_value("\ud800", "k"),
        lambda store, d: store.get_value(5, "k"),
        lambda store, d: store.dict("x" * 256),
        lambda store, d: store.dict("\0"),
        lambda store, d: store.dict(None),
        lambda store, d: store.set_value("d", "k", 1, ttl=0),
        lambda store, d: store.set_value("d", "k", 1, ttl=-1),
        lambda store, d: store.set_value("d", "k", 1, ttl=float("nan")),
        lambda store, d: store.set_value("d", "k", 1, ttl=10**12),
        lambda store, d: store.delete_many("d", "abc"),
        lambda store, d: store.get_many("d", b"abc"),
        lambda store, d: d.delete_many("abc"),
        lambda store, d: d.get_many("abc"),
        lambda store, d: store.set_value("d", "k", 1, ttl=10**400),
        lambda store, d: store.set_value("d", "k", 1, ttl="5"),
        lambda store, d: store.set_value("d", "k", 1, ttl=[1]),
        lambda store, d: store.set_value("d", "k", 1, ttl=True),
        lambda store, d: store.set_value("d", "k", 1, timeout="5"),
        lambda store, d: store.set_value("d", "k", "x" * 8_000_000, timeout="5"),
        lambda store, d: store.set_value("d", "k", 1, timeout=float("nan")),
        lambda store, d: store.set_many("d", {"k": 1}, timeout=datetime.timedelta(seconds=5)),
        lambda store, d: store.server_info(timeout=[1]),
        lambda store, d: list(store.all_keys("d", timeout="5")),
        lambda store, d: d.edit("k", lambda value: value, default=1, timeout="5"),
        lambda store, d: store.set_value("d", "k", 1, if_revision=0),
        lambda store, d: store.set_value("d", "k", 1, if_revision=True),
        lambda store, d: store.set_value("d", "k", 1, if_revision=-1),
        lambda store, d: store.set_value("d", "k", 1, if_revision=2**64),
        lambda store, d: store.set_value("d", "k", 1, if_revision=5, if_absent=True),
        lambda store, d: store.delete_key("d", "k", if_revision="5"),
        lambda store, d: list(store.all_keys("d", prefix="\ud800")),
    ],
)
def test_arguments_at_fault_are_refused_in_words_of_ours(
    store: neardict.Store, domain: str, act: Callable[[neardict.Store, neardict.CachedDict], Any]
) -> None:
    d = store.dict(domain)
    with pytest.raises(neardict.InvalidArgumentError) as caught:
        act(store, d)
    assert isinstance(caught.value, ValueError)
    assert any(word in str(caught.value) for word in ("must be", "use 1 to", "not both", "surrogate"))
    assert dict(d) == {}


@pytest.mark.parametrize(
    "wrong",
    [{"target": 5}, {"target": b"localhost:1"}, {"timeout": None}, {"timeout": "5"}, {"credentials": "x"}],
)
def test_a_connection_of_wrong_types_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(neardict.InvalidArgumentError, match="must be"):
        neardict.connect(**{"target": "localhost:1"} | wrong)


@pytest.mark.parametrize(
    "timeout", [math.inf, 1e300, 10**400, 5, fractions.Fraction(10), decimal.Decimal(10)]
)
def test_any_number_is_a_timeout_and_a_very_large_one_waits_for_as_long_as_it_takes(
    server: Served, domain: str, timeout: Any
) -> None:
    with neardict.connect(server.address, timeout=timeout) as store:
        for given in (None, timeout):
            store.set_value(domain, "k", 1, timeout=given)
            assert store.get_value(domain, "k", timeout=given) == 1
            assert list(store.all_keys(domain, timeout=given)) == ["k"]
            assert store.server_info(timeout=given).version


@pytest.mark.parametrize(
    "target",
    ["", "localhost", "localhost:", ":50051", "localhost:port", "127.0.0.1:99999", "127.0.0.1:0", "::1",
     "http://localhost:50051", "https:localhost", " localhost:50051", "local host:1", "a:1:2", "[::1]"],
)  # fmt: skip
def test_a_target_of_another_form_is_refused_with_an_example(target: str) -> None:
    with pytest.raises(neardict.InvalidArgumentError, match="must be HOST:PORT, as in localhost:50051"):
        neardict.connect(target)


@pytest.mark.parametrize(
    "target", ["localhost:1", "[::1]:65535", "[fe80::1%eth0]:1", "unix:/tmp/x", "dns:///host:1", "a.b-c_d:80"]
)
def test_a_target_of_the_right_form_is_taken_without_a_connection(target: str) -> None:
    with neardict.connect(target) as store:
        assert store.target == target


def test_the_target_comes_from_the_environment_if_it_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARDICT_TARGET", "somewhere:7")
    with neardict.connect() as store, neardict.connect("elsewhere:8") as other:
        assert (store.target, other.target) == ("somewhere:7", "elsewhere:8")
    monkeypatch.setenv("NEARDICT_TARGET", "")
    with neardict.connect() as store:
        assert store.target == "localhost:50051"
    monkeypatch.setenv("NEARDICT_TARGET", "http://somewhere")
    with pytest.raises(neardict.InvalidArgumentError):
        neardict.connect()


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_a_service_that_cannot_be_reached_is_named_with_what_to_try(in_thread: InThread) -> None:
    target = f"127.0.0.1:{unused_port()}"
    with neardict.connect(target, timeout=3) as store:
        # At once, since each is tried until its deadline.
        calls = [
            in_thread(store.get_value, "d", "k"),
            in_thread(store.set_value, "d", "k", 1),
            in_thread(store.dict, "d"),
            in_thread(store.get_many, "d", [f"{number}" for number in range(1000)]),
        ]
        for call in calls:
            error = call.error()
            if isinstance(error, neardict.BulkError):
                assert len(error.failures) == 1000
                error = next(iter(error.failures.values()))
            assert isinstance(error, neardict.UnavailableError)
            assert isinstance(error, ConnectionError)
            assert f"cannot reach neardict at {target}: connection refused. Start it with" in str(error)


def test_every_call_to_a_service_that_hangs_ends_in_time(tmp_path: Path, in_thread: InThread) -> None:
    # Its machine takes connections, and nobody answers.
    with Served("--data", tmp_path) as hanging, neardict.connect(hanging.address, timeout=1.5) as store:
        mirror = store.dict("d")
        mirror["key"] = "old"
        many = {f"{number}": number for number in range(2000)}
        hanging.process.send_signal(signal.SIGSTOP)
        try:
            begun = time.monotonic()
            calls = [
                in_thread(call)
                for call in (
                    lambda: store.get_value("d", "k"),
                    lambda: mirror.__setitem__("key", "new"),
                    lambda: mirror.__delitem__("key"),
                    lambda: list(store.all_keys("d")),
                    lambda: store.dict("d"),
                    lambda: mirror.update(many),
                    lambda: store.get_many("d", many),
                    lambda: mirror.clear(),
                    lambda: store.dict("d", load=False).__len__(),
                    lambda: list(store.all_keys("d", timeout=0.5)),
                    lambda: store.get_value("d", "k", timeout=0.5),
                )
            ]
            for call in calls:
                error = call.error()
                if isinstance(error, neardict.BulkError):
                    assert len(error.failures) == len(many)
                    error = next(iter(error.failures.values()))
                assert isinstance(error, neardict.DeadlineExceededError)
                assert isinstance(error, TimeoutError)
                assert f"neardict at {hanging.address} did not respond in time" in str(error)
            # The bulk calls too wait once, not once for each window of theirs.
            assert time.monotonic() - begun < 15
        finally:
            hanging.process.send_signal(signal.SIGCONT)
        # It answers again. What was written late, after its error, can be cleared away.

        def cleared() -> bool:
            mirror.clear()
            mirror.refresh()
            return not mirror

        until(cleared)


def test_a_restarted_service_is_found_again(tmp_path: Path, in_thread: InThread) -> None:
    with Served("--data", tmp_path) as server, neardict.connect(server.address, timeout=DEADLINE) as store:
        d = store.dict("d")
        d["key"] = 1
        assert server.stop() == 0
        server._args[server._args.index("--listen") + 1] = server.address
        starting = in_thread(server.start)
        d["key"] = 2
        starting.result()
        assert d["key"] == store.get_value("d", "key") == 2
        d.refresh()
        assert dict(d) == {"key": 2}


def test_calls_succeed_when_the_connection_is_lost_for_a_moment(
    server: Served, domain: str, in_thread: InThread
) -> None:
    with TcpGate(server.address) as gate, neardict.connect(gate.address) as store:
        d = store.dict(domain)
        d["key"] = 1
        acts: list[Callable[[], Any]] = [
            lambda: d.__setitem__("key", 2),
            lambda: store.get_value(domain, "key"),
            lambda: d.edit("key", lambda value: value + 1),
            lambda: d.update(a=1, b=2),
            lambda: d.refresh(),
            lambda: d.pop("a"),
        ]
        for act in acts:
            gate.attempts = 0
            gate.close()
            running = in_thread(act)
            until(lambda: gate.attempts)
            gate.open()
            running.result()
        assert dict(d) == {"key": 3, "b": 2}


@pytest.mark.parametrize("backend", ["sqlite", "memory", "files"])
def test_a_write_whose_reply_is_lost_is_retried_and_applied_once(
    server: Served, elsewhere: neardict.Store, domain: str, backend: str, in_thread: InThread
) -> None:
    domain = f"{backend}.{domain}"
    with TcpGate(server.address) as gate, neardict.connect(gate.address, watch=False) as store:
        d = store.dict(domain, load=False)
        d["key"] = [0]
        d["gone"] = 1

        def lose_reply(act: Callable[[], Any], applied: Callable[[], Any]) -> tuple[Any, Any]:
            gate.hold_replies()
            running = in_thread(act)
            seen = until(applied)
            gate.cut()
            gate.release_replies()
            return running.result(), seen

        def entry_with(value: Any) -> Any:
            entry = elsewhere.get_entry(domain, "key")
            return entry if entry is not None and entry.value == value else None

        _, seen = lose_reply(lambda: d.__setitem__("key", [0, 1]), lambda: entry_with([0, 1]))
        assert elsewhere.get_entry(domain, "key") == seen
        assert d._versions.held["key"] == seen.revision
        # A condition would not hold a second time.
        revision = seen.revision
        _, seen = lose_reply(
            lambda: d.compare_and_set("key", [0, 1, 2], revision), lambda: entry_with([0, 1, 2])
        )
        assert elsewhere.get_entry(domain, "key") == seen
        # A deletion tells that it was its own.
        value, _ = lose_reply(lambda: d.pop("gone"), lambda: elsewhere.get_entry(domain, "gone") is None)
        assert value == 1


def test_a_conditional_write_that_is_retried_by_nobody_knows_what_conflicts_with_it(
    store: neardict.Store, domain: str
) -> None:
    revision = store.set_value(domain, "key", 1, if_absent=True)
    with pytest.raises(neardict.ConflictError) as caught:
        store.set_value(domain, "key", 2, if_absent=True)
    assert (caught.value.current_revision, caught.value.reason) == (revision, "CONDITION_FAILED")
    with pytest.raises(neardict.ConflictError) as caught:
        store.delete_key(domain, "key", if_revision=revision - 1)
    assert caught.value.current_revision == revision
    assert store.delete_key(domain, "key", if_revision=revision)
    with pytest.raises(neardict.ConflictError) as caught:
        store.set_value(domain, "key", 2, if_revision=revision)
    assert caught.value.current_revision == 0


# What is no neardict.


def test_a_grpc_server_of_another_kind_is_told_apart() -> None:
    server = grpc.server(ThreadPoolExecutor(2))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with neardict.connect(f"127.0.0.1:{port}") as store:
            for call in (lambda: store.get_value("d", "k"), lambda: store.dict("d")):
                with pytest.raises(
                    neardict.ServiceError, match=rf"127.0.0.1:{port} does not serve neardict.v1"
                ):
                    call()
    finally:
        server.stop(None).wait(DEADLINE)


@pytest.mark.parametrize(
    "reply", [b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", b"220 mail\r\n", b""], ids=repr
)
def test_what_speaks_another_protocol_cannot_be_reached(reply: bytes) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(1000)
                connection.sendall(reply)

    thread = threading.Thread(target=answer)
    thread.start()
    target = f"127.0.0.1:{listener.getsockname()[1]}"
    try:
        expected = (neardict.UnavailableError, neardict.DeadlineExceededError)
        with neardict.connect(target, timeout=1) as store, pytest.raises(expected, match=target):
            store.get_value("d", "k")
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(DEADLINE)


def test_an_answer_out_of_contract_is_the_service_s_error() -> None:
    class Odd(grpc.GenericRpcHandler):
        def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
            return grpc.unary_unary_rpc_method_handler(lambda request, context: b"\xff\xff\xff")

    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((Odd(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with neardict.connect(f"127.0.0.1:{port}") as store, pytest.raises(neardict.ServiceError):
            store.get_value("d", "k")
    finally:
        server.stop(None).wait(DEADLINE)


def test_a_call_that_the_server_cancels_does_not_claim_that_the_store_is_closed(gate: Gate) -> None:
    with neardict.connect(gate.address) as store:
        # As one that just stops does, for which another attempt helps.
        gate.hold("GetServerInfo").fail(Status.CANCELLED)
        assert store.server_info().version
        gate.faults = lambda: Fault(status=Status.CANCELLED)
        with pytest.raises(neardict.UnavailableError, match="cancelled"):
            store.server_info(timeout=0.5)


def test_messages_never_hold_values(gate: Gate, gated: neardict.Store, domain: str) -> None:
    d = gated.dict(domain)
    secret = "s3cret"
    writes: list[Any] = [{1: secret}, {"a": (secret,)}, secret + "\ud800", [[secret] * 50_000]]
    for value in writes:
        with pytest.raises(neardict.NeardictError) as caught:
            d["key"] = value
        assert secret not in str(caught.value)
        assert secret not in repr(caught.value)
    gate.hold("SetValue", "key").fail(Status.INTERNAL)
    with pytest.raises(neardict.BulkError) as many:
        d.update(key=secret)
    assert secret not in str(many.value)


def test_the_service_says_what_it_is(store: neardict.Store) -> None:
    info = store.server_info()
    assert info.limits.max_value_bytes == 100_000
    assert info.limits.request_id_window == datetime.timedelta(minutes=1)
    assert "ttl" in info.backends[0].capabilities
    assert info.routes[-1].backend == info.backends[0].name
    assert info.compressions == ("zstd",)
    assert info.heartbeat_period == datetime.timedelta(seconds=1)
    assert all("pb2" not in kind.__module__ for kind in map(type, (info, info.limits, *info.backends)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        info.version = ""  # type: ignore[misc]
