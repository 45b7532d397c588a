"""Options and arguments that several commands share."""

import functools
import re
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import click

from .._channel import DEFAULT_TIMEOUT
from ..server_info import ServerInfo
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


class PromptStore(Store):
    """Tells a person at a shell at once that nobody answers, and not when the time of a call is over.

    Before its first call it looks for the service once, or for `wait` seconds. From then on it is patient, as
    other stores are.
    """

    def __init__(self, target: str | None, *, timeout: float, wait: float | None) -> None:
        super().__init__(target, timeout=timeout)
        self._wait = wait
        self._reached = False

    def reach(self, wait: float | None = None) -> ServerInfo:
        self._reached = True
        return super().reach(self._wait if wait is None else wait)

    def _seconds(self, timeout: float | None) -> float:
        # Every call asks first how long it may take.
        if not self._reached:
            self.reach()
        return super()._seconds(timeout)


def with_store(command: Callable[Concatenate[Store, _Rest], None]) -> Callable[_Rest, None]:
    """Gives the command a store as its first argument, made from --target, --timeout and --wait.

    Each may stand before the command's name or behind it; behind wins.
    """

    @connection_options
    @functools.wraps(command)
    def connected(
        *args: Any, target: str | None, timeout: float | None, wait: float | None, **kwargs: Any
    ) -> None:
        before = click.get_current_context().find_root().params
        with PromptStore(
            target or before["target"],
            timeout=timeout or before["timeout"] or DEFAULT_TIMEOUT,
            wait=wait or before["wait"],
        ) as store:
            command(store, *args, **kwargs)

    return cast("Callable[_Rest, None]", connected)  # less what click passes for the options


def listing_timeout() -> float | None:
    """Returns --timeout for a call that is long by nature: None, for no limit, if it was not given."""
    context = click.get_current_context()
    given: float | None = context.params["timeout"] or context.find_root().params["timeout"]
    return given


domain_argument = click.argument("domain")
key_argument = click.argument("key")
