"""The attacks. Each is a function of the server's address that goes on until it is killed.

They speak by stubs, as any client can, since ours would not do these things.
"""

import itertools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from neardict.v1 import storage_pb2 as pb
from neardict.v1 import storage_pb2_grpc

MIB = 1024 * 1024
DOMAIN = "attack"
GET = "/neardict.v1.StorageService/GetValue"
LIST = "/neardict.v1.StorageService/AllKeys"


def _channel(address: str) -> grpc.Channel:
    return grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])


def _stub(address: str) -> Any:
    return storage_pb2_grpc.StorageServiceStub(_channel(address))


def _value(key: str, **value: Any) -> pb.SetValueRequest:
    return pb.SetValueRequest(domain=DOMAIN, key=key, value=pb.Value(**value))


def _for_ever() -> None:
    threading.Event().wait()


def pending_calls(address: str) -> None:
    """Thousands of small writes at once, and as soon as one is answered the next."""
    stub = _stub(address)
    request = _value("k", json="1")

    def again(_: object = None) -> None:
        stub.SetValue.future(request).add_done_callback(again)

    for _ in range(10_000):
        again()
    _for_ever()


def cancelled_calls(address: str) -> None:
    """Calls that are cancelled as soon as they are sent: streams of HTTP/2 that are reset rapidly."""
    stub = _stub(address)
    request = pb.GetValueRequest(domain=DOMAIN, key="k")
    while True:
        stub.GetValue.future(request).cancel()


def unread_answers(address: str) -> None:
    """A thousand look-ups of 1 MiB, whose answers are not read."""
    channel = _channel(address)
    storage_pb2_grpc.StorageServiceStub(channel).SetValue(_value("large", raw=os.urandom(MIB)))
    get: Any = channel.unary_stream(GET, pb.GetValueRequest.SerializeToString)
    calls = [get(pb.GetValueRequest(domain=DOMAIN, key="large")) for _ in range(1_000)]
    _for_ever()
    del calls


def unread_results(address: str) -> None:
    """Thirty streams of Execute that ask for 1 MiB again and again, and do not read it."""
    channel = _channel(address)
    stub: Any = storage_pb2_grpc.StorageServiceStub(channel)
    stub.SetValue(_value("large", raw=os.urandom(MIB)))
    get = pb.GetValueRequest(domain=DOMAIN, key="large")

    def requests() -> Iterator[pb.ExecuteRequest]:
        for start in itertools.count(1, 100):
            numbers = range(start, start + 100)
            yield pb.ExecuteRequest(
                operations=[pb.Operation(number=number, get_value=get) for number in numbers]
            )

    calls = [stub.Execute(requests()) for _ in range(30)]
    _for_ever()
    del calls


def unread_listings(address: str) -> None:
    """A hundred listings of many entries that are not read."""
    channel = _channel(address)
    stub: Any = storage_pb2_grpc.StorageServiceStub(channel)
    for number in range(200):
        stub.SetValue(_value(f"k{number}", raw=os.urandom(100_000)))
    listing = pb.AllKeysRequest(domain=DOMAIN, include_entries=True)
    calls = [stub.AllKeys(listing) for _ in range(100)]
    _for_ever()
    del calls


def dribbling_uploads(address: str) -> None:
    """Uploads that promise 1 MiB, and bring a byte a second; begun anew as they are ended."""
    stub = _stub(address)

    def dribble() -> Iterator[pb.WriteValueRequest]:
        head = pb.WriteValueHead(request=_value("upload", raw=b""), size=MIB)
        yield pb.WriteValueRequest(head=head)
        while True:
            time.sleep(1)
            yield pb.WriteValueRequest(chunk=b"x")

    def again(_: object = None) -> None:
        stub.WriteValue.future(dribble()).add_done_callback(again)

    for _ in range(90):
        again()
    _for_ever()


def costly_json(address: str) -> None:
    """Writes of 1 MiB of JSON that is nothing but brackets, one after the other."""
    stub = _stub(address)
    request = _value("k", json="[" + ",".join(["[]"] * 349_000) + "]")
    while True:
        stub.SetValue(request)


def silent_holder(address: str) -> None:
    """A lease of the probe's domain whose holder confirms nothing, and begins anew when he has lost it."""
    stub = _stub(address)
    while True:
        lost = threading.Event()

        def requests(lost: threading.Event = lost) -> Iterator[pb.WatchRequest]:
            yield pb.WatchRequest(subscribe=pb.Subscribe(domain="probe", lease=True))
            for number in itertools.count(1):
                if lost.wait(0.5):
                    return
                yield pb.WatchRequest(ping=pb.Ping(number=number))

        for response in stub.Watch(requests()):
            if response.HasField("reset"):
                lost.set()


def many_domains(address: str) -> None:
    """A hundred thousand subscriptions on one stream, again and again."""
    stub = _stub(address)
    while True:

        def requests() -> Iterator[pb.WatchRequest]:
            for number in range(100_000):
                yield pb.WatchRequest(subscribe=pb.Subscribe(domain=f"many.{number}"))

        for count, _ in enumerate(stub.Watch(requests())):
            if count > 100_000:
                break


def idle_sockets(address: str) -> None:
    """As many connections as may be, of which nothing comes."""
    host, _, port = address.rpartition(":")
    sockets = []
    while True:
        try:
            sockets.append(socket.create_connection((host, int(port)), timeout=1))
        except OSError:
            time.sleep(0.1)


ATTACKS: tuple[Callable[[str], None], ...] = (
    pending_calls,
    cancelled_calls,
    unread_answers,
    unread_results,
    unread_listings,
    dribbling_uploads,
    costly_json,
    silent_holder,
    many_domains,
    idle_sockets,
)
