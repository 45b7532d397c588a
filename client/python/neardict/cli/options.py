"""Options and arguments that several commands share."""

import functools
import re
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import click

from .. import connect
from .._channel import DEFAULT_TIMEOUT
from ..store import Store

_Rest = ParamSpec("_Rest")
_Command = TypeVar("_Command", bound=Callable[..., Any])

_SECONDS_OF = {"ms": 0.001, "": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|)", re.ASCII)


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic in late versions of click only
    """A span of time such as 30, 250ms, 5m, 1.5h or 7d; seconds without a unit."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        match = _DURATION.fullmatch(str(value))
        if match is None or not (seconds := float(match[1]) * _SECONDS_OF[match[2]]):
            self.fail(f"{value!r} is no duration: write seconds, or 250ms, 5m, 1.5h, 7d", param, ctx)
        return seconds


DURATION = Duration()


def connection_options(command: _Command) -> _Command:
    """Adds --target, --timeout and --wait."""
    command = click.option(
        "--wait",
        type=DURATION,
        metavar="DURATION",
        help="Wait so long for the service to come up; by default it is an error at once if nobody answers.",
    )(command)
    command = click.option(
        "--timeout",
        type=DURATION,
        metavar="DURATION",
        help=f"How long each call may take; {DEFAULT_TIMEOUT:g} seconds by default, listings what they need.",
    )(command)
    return click.option(
        "--target",
        metavar="HOST:PORT",
        help="The service; by default $NEARDICT_TARGET, then localhost:50051.",
    )(command)


def with_store(command: Callable[Concatenate[Store, _Rest], None]) -> Callable[_Rest, None]:
    """Gives the command a store as its first argument, made from --target, --timeout and --wait.

    Each may stand before the command's name or behind it; behind wins. The command begins when the service
    has answered: a person at a shell is told at once if nobody does, and not when a call's time is over.
    """

    @functools.wraps(command)
    def reached(store: Store, *args: Any, **kwargs: Any) -> None:
        store.reach(wait())
        command(store, *args, **kwargs)

    return with_unreached_store(reached)


def with_unreached_store(command: Callable[Concatenate[Store, _Rest], None]) -> Callable[_Rest, None]:
    """Does as `with_store`, for a command that calls `reach` itself."""

    @connection_options
    @functools.wraps(command)
    def connected(
        *args: Any, target: str | None, timeout: float | None, wait: float | None, **kwargs: Any
    ) -> None:
        before = click.get_current_context().find_root().params
        with connect(
            target or before["target"], timeout=timeout or before["timeout"] or DEFAULT_TIMEOUT
        ) as store:
            command(store, *args, **kwargs)

    return cast("Callable[_Rest, None]", connected)  # less what click passes for the options


def wait() -> float | None:
    """Returns --wait, None if it was not given."""
    context = click.get_current_context()
    given: float | None = context.params["wait"] or context.find_root().params["wait"]
    return given


def listing_timeout() -> float | None:
    """Returns --timeout for a call that is long by nature: None, for no limit, if it was not given."""
    context = click.get_current_context()
    given: float | None = context.params["timeout"] or context.find_root().params["timeout"]
    return given


domain_argument = click.argument("domain")
key_argument = click.argument("key")
