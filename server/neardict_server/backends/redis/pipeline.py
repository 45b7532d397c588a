"""Commands that go down one connection together."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from redis.exceptions import ResponseError


class Command(NamedTuple):
    """What to send to the node that has the key."""

    key: bytes
    words: tuple[Any, ...]


async def replies_of(client: Any, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Returns a redis.asyncio.Redis's replies to the commands; one that was refused has its error.

    Raises what redis-py raises if there are no replies.
    """
    if len(commands) == 1:
        # A pipeline of one takes redis-py longer.
        try:
            return [await client.execute_command(*commands[0])]
        except ResponseError as error:
            return [error]
    async with client.pipeline(transaction=False) as pipeline:
        for command in commands:
            pipeline.execute_command(*command)
        replies: list[Any] = await pipeline.execute(raise_on_error=False)
        return replies
