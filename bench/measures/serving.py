"""Unary GetValue, as any client of any language calls it, beside a bare echo."""

import asyncio

import grpc

from neardict.v1 import storage_pb2 as pb
from neardict.v1 import storage_pb2_grpc

from .. import echo, load
from ..backends import one
from ..clients import opened
from ..filling import fill
from ..floors import Floor, Row, median_rate
from ..operations import DOMAIN, PAYLOAD, AsyncEcho, Stubs, key
from ..peers import h2load
from ..turns import Take, take_turns
from .size import Size

TASKS = 64
METHOD = "/neardict.v1.StorageService/GetValue"


def by_h2load(size: Size) -> list[Row]:
    """Rates of the two servers while nothing else of Python runs."""
    h2load.program()  # before anything is started for it
    request = pb.GetValueRequest(domain=DOMAIN, key=key(0))
    with one("memory") as served, echo.running() as address:
        fill(served.address)
        with grpc.insecure_channel(served.address) as channel:
            answer: pb.GetValueResponse = storage_pb2_grpc.StorageServiceStub(channel).GetValue(request)
        if not answer.found:
            raise AssertionError("the key to get is not there")
        message, length = request.SerializeToString(), answer.ByteSize()
        turns = take_turns(
            lambda: h2load.rate(served.address, METHOD, message, length, size.h2load_calls),
            lambda: h2load.rate(address, echo.METHOD, PAYLOAD, len(PAYLOAD), size.h2load_calls),
            size.rounds,
        )
    return [
        Row(
            "unary_served",
            "unary `GetValue` on memory, driven by h2load",
            median_rate(turns.ours),
            f"bare echo: {median_rate(turns.peer)}",
            turns.ratios,
            Floor(0.85),
        )
    ]


def by_stubs(size: Size) -> list[Row]:
    """The same by the generated stubs and grpc.aio, for machines that have no h2load."""
    with (
        one("memory") as served,
        echo.running() as address,
        asyncio.Runner() as runner,
        opened(runner, lambda: Stubs(served.address)) as stubs,
        opened(runner, lambda: AsyncEcho(address)) as peer,
    ):
        fill(served.address)

        def rate(call: load.AsyncCall) -> Take:
            return lambda: runner.run(load.run_async(call, load.lasting(size.seconds), callers=TASKS)).rate

        turns = take_turns(rate(stubs.calls["GetValue"]), rate(peer.call), size.rounds)
    return [
        Row(
            "unary_stubs",
            f"unary `GetValue` on memory, by stubs and grpc.aio, {TASKS} tasks",
            median_rate(turns.ours),
            f"bare grpcio echo: {median_rate(turns.peer)}",
            turns.ratios,
        )
    ]
